//! What a query may be: one read-only statement of bounded length and nesting, over tables alone.
//!
//! Three nets, one behind the other: the kind of the statement, DataFusion's own `SQLOptions`, and a list of the plan nodes
//! that may occur. Whatever a later version of DataFusion adds is refused until it is put on the list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Error, Result, SqlError};

/// Longest text of a query.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;

/// `EXPLAIN` may be said so often.
const EXPLAINS_MAX: usize = 8;

/// Deepest nesting of parentheses. Planning recurses on it.
const NESTING_MAX: usize = 40;

/// Deepest nesting of what the parser reads in one way and, when that fails, in another: each level doubles its time, and an
/// error at the bottom of thirty would take it years. The same bounds subqueries, which planning looks at more than once.
const READ_TWICE_MAX: usize = 10;

/// Operators (`+`, `AND`, `UNION`, ...) in one query. A chain of them is a tree as deep as the chain is long, and planning
/// recurses on it: 2,000 overflow a stack of 2 MiB (DataFusion issue 22229).
const OPERATORS_MAX: usize = 1_000;

/// The parser's own limit; above what [`NESTING_MAX`] needs.
const PARSER_RECURSION_MAX: usize = 160;

const READ_ONLY: &str = "queries only read; write SELECT, WITH, EXPLAIN, SHOW TABLES or DESCRIBE";

/// Parses one read-only statement.
///
/// Errors: `Limit` for a text that is too long or too deep, else `Query`.
pub(super) fn parse(sql: &str) -> Result<Statement> {
    measure(sql)?;
    let dialect = GenericDialect {};
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(PARSER_RECURSION_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| Error::from(SqlError::of_parser(sql, &e.strip_backtrace())))?;
    if statements.len() > 1 {
        return Err(refused("several statements in one query", "send them one by one"));
    }
    let Some(statement) = statements.pop_front() else { return Err(refused("the query is empty", "write a SELECT")) };
    allow_statement(&statement)?;
    Ok(statement)
}

/// Refuses a text that is too long or too deep to be parsed.
pub(super) fn measure(sql: &str) -> Result<()> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(limit(format!("the query has {} bytes, more than {TEXT_BYTES_MAX}; shorten it", sql.len())));
    }
    let dialect = GenericDialect {};
    let tokens =
        Tokenizer::new(&dialect, sql).tokenize().map_err(|e| Error::from(SqlError::of_parser(sql, &e.to_string())))?;
    let (mut depth, mut deepest, mut operators) = (0usize, 0, 0);
    for token in &tokens {
        match token {
            Token::LParen => depth += 1,
            // Also an operator: `a[1][1][1]` is a chain.
            Token::LBracket | Token::LBrace => (depth, operators) = (depth + 1, operators + 1),
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word) => operators += usize::from(is_operator(word.keyword)),
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Placeholder(_)
            | Token::Comma
            | Token::Period
            | Token::SemiColon
            | Token::EOF => {}
            _ => operators += 1,
        }
        deepest = deepest.max(depth);
    }
    // The parser goes one level deeper for each, and ends the process when its stack is used up.
    let explains = tokens.iter().filter(|t| matches!(t, Token::Word(w) if w.keyword == Keyword::EXPLAIN)).count();
    if explains > EXPLAINS_MAX {
        return Err(limit(format!("the query says EXPLAIN {explains} times; say it once")));
    }
    if deepest > NESTING_MAX {
        return Err(limit(format!(
            "the query nests {deepest} parentheses, more than {NESTING_MAX}; use WITH to flatten it"
        )));
    }
    let twice = read_twice(&tokens);
    if twice > READ_TWICE_MAX {
        return Err(limit(format!(
            "the query nests CASE, CAST, subqueries and the like {twice} deep, more than {READ_TWICE_MAX}; use WITH to flatten it"
        )));
    }
    if operators > OPERATORS_MAX {
        return Err(limit(format!(
            "the query has {operators} operators, more than {OPERATORS_MAX}; use IN (...) or a table of values"
        )));
    }
    Ok(())
}

/// What matters of a token for [`read_twice`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Open,
    Close,
    Comma,
    Word(Keyword),
    Other,
}

impl Piece {
    fn of(token: &Token) -> Option<Self> {
        Some(match token {
            Token::Whitespace(_) => return None,
            Token::LParen | Token::LBracket => Self::Open,
            Token::RParen | Token::RBracket => Self::Close,
            Token::Comma => Self::Comma,
            Token::Word(word) => Self::Word(word.keyword),
            _ => Self::Other,
        })
    }

    /// Whether a subquery after it is a table: planning looks at those once.
    fn is_before_a_table(self) -> bool {
        use Keyword as K;
        matches!(self, Self::Open | Self::Comma | Self::Word(K::FROM | K::JOIN | K::AS | K::LATERAL))
    }
}

/// How deep a text nests what the parser may have to read twice.
fn read_twice(tokens: &[Token]) -> usize {
    let pieces: Vec<Piece> = tokens.iter().filter_map(Piece::of).collect();
    let (mut open, mut cases, mut intervals, mut deepest) = (Vec::new(), 0usize, 0usize, 0);
    let mut before = Piece::Other;
    for (at, piece) in pieces.iter().enumerate() {
        intervals = if *piece == Piece::Word(Keyword::INTERVAL) { intervals + 1 } else { 0 };
        match piece {
            Piece::Open => {
                let subquery = pieces.get(at + 1) == Some(&Piece::Word(Keyword::SELECT));
                let special = matches!(before, Piece::Word(word) if is_read_twice(word));
                open.push(special || (subquery && !before.is_before_a_table()));
            }
            Piece::Close => drop(open.pop()),
            Piece::Word(Keyword::CASE) => cases += 1,
            Piece::Word(Keyword::END) => cases = cases.saturating_sub(1),
            _ => {}
        }
        before = *piece;
        deepest = deepest.max(open.iter().filter(|twice| **twice).count() + cases + intervals);
    }
    deepest
}

/// Words before a parenthesis or bracket that have a grammar of their own, and are names as well.
fn is_read_twice(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(
        keyword,
        K::ARRAY
            | K::CAST
            | K::CEIL
            | K::CEILING
            | K::CONVERT
            | K::EXISTS
            | K::EXTRACT
            | K::FLOOR
            | K::GROUP
            | K::MAP
            | K::OVER
            | K::OVERLAY
            | K::POSITION
            | K::ROW
            | K::SAFE_CAST
            | K::STRUCT
            | K::SUBSTR
            | K::SUBSTRING
            | K::TRIM
            | K::TRY_CAST
            | K::TRY_CONVERT
    )
}

/// Words that chain or nest.
fn is_operator(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(
        keyword,
        K::AND
            | K::OR
            | K::NOT
            | K::CASE
            | K::WHEN
            | K::UNION
            | K::EXCEPT
            | K::INTERSECT
            | K::JOIN
            | K::LIKE
            | K::IS
            | K::BETWEEN
            | K::EXPLAIN
            | K::INTERVAL
    )
}

fn allow_statement(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Explain(explain) => allow_statement(&explain.statement),
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Query(_)
            | SqlStatement::ExplainTable { .. }
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. } => Ok(()),
            SqlStatement::Explain { statement, .. } => allow_statement(&Statement::Statement(statement.clone())),
            other => Err(refused(&format!("{} is not allowed", verb(&other.to_string())), READ_ONLY)),
        },
        Statement::CreateExternalTable(_) => Err(refused("CREATE EXTERNAL TABLE is not allowed", READ_ONLY)),
        Statement::CopyTo(_) => Err(refused("COPY is not allowed", READ_ONLY)),
        Statement::Reset(_) => Err(refused("RESET is not allowed", READ_ONLY)),
    }
}

/// Whether rows of the statement may be limited from outside.
pub(super) fn is_query(statement: &Statement) -> bool {
    matches!(statement, Statement::Statement(inner) if matches!(inner.as_ref(), SqlStatement::Query(_)))
}

/// `INSERT`, `CREATE VIEW`: the words in front that say what a statement does.
fn verb(text: &str) -> String {
    let mut words = text.split_whitespace().map(|w| w.trim_matches(|c: char| !c.is_ascii_alphanumeric()));
    let first = words.next().unwrap_or("this statement").to_ascii_uppercase();
    match (first.as_str(), words.next()) {
        ("CREATE" | "DROP" | "ALTER", Some(second)) => format!("{first} {}", second.to_ascii_uppercase()),
        _ => first,
    }
}

/// Refuses a plan with anything but reading in it, subqueries included.
pub(super) fn allow_plan(plan: &LogicalPlan) -> Result<()> {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(plan)
        .map_err(|e| refused(e.strip_backtrace().trim_start_matches("Error during planning: "), READ_ONLY))?;
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        if found.is_none() && !is_reading(node) {
            found = Some(node.display().to_string());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        Some(node) => Err(refused(&format!("{node} is not allowed"), READ_ONLY)),
        None => Ok(()),
    }
}

fn is_reading(node: &LogicalPlan) -> bool {
    use LogicalPlan as P;
    match node {
        P::Projection(_)
        | P::Filter(_)
        | P::Window(_)
        | P::Aggregate(_)
        | P::Sort(_)
        | P::Join(_)
        | P::Union(_)
        | P::TableScan(_)
        | P::EmptyRelation(_)
        | P::Subquery(_)
        | P::SubqueryAlias(_)
        | P::Limit(_)
        | P::Values(_)
        | P::Explain(_)
        | P::Analyze(_)
        | P::Distinct(_)
        | P::DescribeTable(_)
        | P::Unnest(_)
        | P::RecursiveQuery(_)
        | P::Repartition(_) => true,
        P::Statement(_) | P::Dml(_) | P::Ddl(_) | P::Copy(_) | P::Extension(_) => false,
    }
}

/// Refuses constants that would take the query's memory when they are put beside the rows of one batch. The text of a
/// query has none, but folding makes them: `repeat('x', 100000)`.
pub(super) fn allow_constants(plan: &LogicalPlan, bytes_max: usize) -> Result<()> {
    let bytes_max = bytes_max.max(2 * TEXT_BYTES_MAX);
    let mut largest = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Literal(value, _) = part {
                    largest = largest.max(value.size());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if largest > bytes_max {
        return Err(limit(format!(
            "the query has a constant of {largest} bytes, more than {bytes_max}; for many rows write generate_series(...) \
             in FROM, for text ask for less"
        )));
    }
    Ok(())
}

/// Makes joins and unnests give way to other tasks, so that a query can be cancelled: DataFusion yields at the leaves
/// only, and a join makes many batches of one from a leaf (DataFusion issue 19358).
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let yielding = plan.transform_up(|node| {
        let grows = node.name().contains("Join") || node.name().contains("Unnest") || node.name().contains("Recursive");
        Ok(if grows { Transformed::yes(Arc::new(CooperativeExec::new(node)) as _) } else { Transformed::no(node) })
    })?;
    Ok(yielding.data)
}

/// Makes join filters look whether the query was cancelled. A join whose filter keeps nothing makes no batch, so it never
/// comes to a place where it could yield: without this a cancelled `CROSS JOIN ... WHERE` keeps its threads to its end.
pub(super) fn interruptible(plan: LogicalPlan, cancelled: &Arc<AtomicBool>) -> Result<LogicalPlan> {
    let running = Arc::new(ScalarUDF::from(Running::new(Arc::clone(cancelled))));
    let plan = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(mut join) = node else { return Ok(Transformed::no(node)) };
        let Some(filter) = join.filter.take() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
        // On the left, because AND does not look at its right when its left is false everywhere.
        join.filter = Some(running.call(Vec::new()).and(filter));
        Ok(Transformed::yes(LogicalPlan::Join(join)))
    })?;
    Ok(plan.data)
}

/// True, or an error when the query was cancelled.
#[derive(Debug)]
struct Running {
    cancelled: Arc<AtomicBool>,
    signature: Signature,
}

impl Running {
    fn new(cancelled: Arc<AtomicBool>) -> Self {
        Self { cancelled, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cancelled, &other.cancelled)
    }
}

impl Eq for Running {}

impl std::hash::Hash for Running {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.cancelled).hash(state);
    }
}

impl ScalarUDFImpl for Running {
    fn name(&self) -> &'static str {
        "millstream_running"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> datafusion::error::Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> datafusion::error::Result<ColumnarValue> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(DataFusionError::Execution("the query was cancelled".into()));
        }
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    }
}

/// A limit of the text: trying again will not help, so the delay is none.
fn limit(message: String) -> Error {
    Error::Limit { message, retry_after_ms: 0 }
}

fn refused(message: &str, fix: &str) -> Error {
    SqlError { message: message.to_string(), fix: Some(fix.to_string()), ..SqlError::default() }.into()
}

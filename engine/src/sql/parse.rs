//! Text to statements. The only module that knows the parser.
//!
//! DDL is ours (sqlparser has no `WATERMARK FOR` or `METADATA FROM`): `CREATE TABLE`, `CREATE FUNCTION` and `SET` are read
//! here, with sqlparser's pieces for names, types and expressions; everything else is sqlparser's.

mod create_function;
mod create_table;
mod dialect;
mod elsewhere;

use datafusion::sql::sqlparser::ast::{self, Expr, Ident, Query, Spanned};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::duration;
use super::window_table::is_word;
use crate::connectors::options::{OptionValue, Options};
use crate::error::{Error, Result, SqlError};
use dialect::PipelineDialect;

/// Expressions nested deeper than this are refused: the parser and the planner recurse.
const DEPTH_MAX: usize = 100;

/// Line and column, from 1.
pub type Place = (u64, u64);

/// SQL text and where it is from, to say so in errors.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The text.
    pub text: &'a str,
    /// The file's name, or `<sql>`.
    pub file: &'a str,
}

impl Source<'_> {
    /// An error at a place.
    pub fn error(&self, place: Option<Place>, message: impl Into<String>, fix: Option<String>) -> Error {
        let line_text = place
            .and_then(|(line, _)| self.text.lines().nth(line.saturating_sub(1) as usize))
            .map(|l| l.chars().take(200).collect());
        let file = Some(self.file.to_string());
        Error::Query(SqlError { message: message.into(), fix, file, place, line_text })
    }

    /// Adds the file, and a place if the error has none, to an error from below.
    pub fn locate(&self, e: Error, place: Option<Place>) -> Error {
        match e {
            Error::Query(e) if e.file.is_none() => self.error(e.place.or(place), e.message, e.fix),
            other => other,
        }
    }

    fn parser_error(&self, e: ParserError) -> Error {
        let (ParserError::TokenizerError(text) | ParserError::ParserError(text)) = e else {
            let fix = format!("nest at most {DEPTH_MAX} levels deep");
            return self.error(None, "the statement is nested too deeply", Some(fix));
        };
        // sqlparser writes the place into the text: "... at Line: 3, Column: 14".
        let (message, place) = match text.rsplit_once(" at Line: ") {
            Some((message, rest)) => {
                let mut numbers = rest.split(", Column: ").filter_map(|n| n.trim().parse().ok());
                (message.to_string(), numbers.next().zip(numbers.next()))
            }
            None => (text, None),
        };
        self.error(place, lower_first(&message), None)
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect())
}

/// A statement and where it begins.
#[derive(Debug)]
pub struct Placed {
    /// The statement.
    pub statement: Statement,
    /// Its first token.
    pub place: Place,
}

/// What a file of SQL can hold.
#[derive(Debug)]
pub enum Statement {
    /// `CREATE TABLE ... WITH (...)`
    CreateTable(CreateTable),
    /// `CREATE VIEW name AS query`, and `CREATE TABLE name AS query` without options.
    CreateView {
        /// Its name.
        name: String,
        /// What it stands for.
        query: Box<Query>,
        /// `MATERIALIZED`: its rows are kept as a table, too.
        materialized: bool,
    },
    /// `INSERT INTO table [(columns)] query`
    Insert {
        /// The sink.
        table: String,
        /// The columns named, if any.
        columns: Vec<String>,
        /// The rows.
        query: Box<Query>,
        /// `EMIT EVERY`, in nanoseconds.
        emit_every: Option<i64>,
    },
    /// `CREATE FUNCTION ... RETURN expression`
    CreateFunction(CreateFunction),
    /// `SET name = value`: holds for the statements after it.
    Set {
        /// The option.
        name: String,
        /// Its value.
        value: OptionValue,
    },
    /// A bare query: its rows go to standard output.
    Query {
        /// The rows.
        query: Box<Query>,
        /// `EMIT EVERY`, in nanoseconds.
        emit_every: Option<i64>,
    },
}

/// A function as written.
#[derive(Debug)]
pub struct CreateFunction {
    /// Its name.
    pub name: Ident,
    /// Names and SQL types of its arguments.
    pub arguments: Vec<(Ident, ast::DataType)>,
    /// The SQL type of its value.
    pub returns: ast::DataType,
    /// `RETURN expression`, over the arguments.
    pub body: Expr,
}

/// A table as written.
#[derive(Debug)]
pub struct CreateTable {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// `WATERMARK FOR column [AS expression]`
    pub watermark: Option<(Ident, Option<Expr>)>,
    /// `WITH (...)`
    pub options: Options,
    /// `PARTITIONED BY (...)`
    pub partitioned_by: Vec<Expr>,
    /// `AS query`
    pub query: Option<Box<Query>>,
}

/// A column as written.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: Ident,
    /// Its SQL type.
    pub data_type: ast::DataType,
    /// Whether it may be null.
    pub nullable: bool,
    /// `GENERATED ALWAYS AS (expression)`
    pub generated: Option<Expr>,
    /// `PRIMARY KEY`
    pub primary_key: bool,
    /// `METADATA FROM 'key'`
    pub metadata: Option<String>,
}

impl Column {
    /// Whether it is in the data, not computed or added by the connector.
    pub fn arrives(&self) -> bool {
        self.generated.is_none() && self.metadata.is_none()
    }
}

/// Reads all statements of a text; after one that cannot be read it goes on behind the next semicolon.
pub fn parse(source: Source<'_>) -> Vec<Result<Placed>> {
    let dialect = PipelineDialect;
    let mut tokens = match Tokenizer::new(&dialect, source.text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(e) => {
            let place = (e.location.line, e.location.column);
            return vec![Err(source.error(Some(place), lower_first(&e.message), None))];
        }
    };
    // This dialect reads `?` as a parameter; a pipeline has none, so it is the JSON operator.
    for token in tokens.iter_mut().filter(|t| t.token == Token::Placeholder("?".into())) {
        token.token = Token::Question;
    }
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(DEPTH_MAX)
        .with_tokens_with_locations(super::window_table::rewrite(tokens));
    let mut statements = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        let first = parser.peek_token();
        if first.token == Token::EOF {
            return statements;
        }
        let place = place(&first);
        let read = one(source, &mut parser, place).map_err(|e| elsewhere::advise(source, place, e));
        statements.push(read.map(|statement| Placed { statement, place }));
        while !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            parser.advance_token();
        }
    }
}

/// A statement and nothing after it.
fn one(source: Source<'_>, parser: &mut Parser<'_>, place: Place) -> Result<Statement> {
    let statement = statement(source, parser, place)?;
    let next = parser.peek_token();
    if matches!(next.token, Token::SemiColon | Token::EOF) {
        return Ok(statement);
    }
    let message = format!("expected the end of the statement, found {}", next.token);
    Err(source.error(Some(self::place(&next)), message, None))
}

fn place(token: &TokenWithSpan) -> Place {
    (token.span.start.line, token.span.start.column)
}

/// Where an expression or a query begins, if its tokens know.
pub fn place_of(node: &impl Spanned) -> Option<Place> {
    let start = node.span().start;
    (start.line > 0).then_some((start.line, start.column))
}

/// Where a name is.
pub fn place_of_name(name: &Ident) -> Option<Place> {
    let start = name.span.start;
    (start.line > 0).then_some((start.line, start.column))
}

fn statement(source: Source<'_>, parser: &mut Parser<'_>, place: Place) -> Result<Statement> {
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::TABLE]) {
        return create_table::parse(source, parser);
    }
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::FUNCTION]) {
        return create_function::parse(source, parser);
    }
    if parser.parse_keyword(Keyword::SET) {
        return set(source, parser);
    }
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::TEMPORARY, Keyword::TABLE]) {
        let mut statement = create_table::parse(source, parser)?;
        if let Statement::CreateTable(table) = &mut statement {
            table.options.insert("type".into(), OptionValue::Text("lookup".into()), place);
        }
        return Ok(statement);
    }
    let materialized = parser.parse_keywords(&[Keyword::CREATE, Keyword::MATERIALIZED, Keyword::VIEW]);
    if materialized
        || parser.parse_keywords(&[Keyword::CREATE, Keyword::VIEW])
        || parser.parse_keywords(&[Keyword::CREATE, Keyword::TEMPORARY, Keyword::VIEW])
    {
        let view = (|| {
            let _optional = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
            let name = name_of(&parser.parse_object_name(false)?);
            parser.expect_keyword(Keyword::AS)?;
            Ok(Statement::CreateView { name, query: parser.parse_query()?, materialized })
        })();
        let view = view.map_err(|e| source.parser_error(e))?;
        let next = parser.peek_token();
        return match emit(source, parser)? {
            None => Ok(view),
            Some(_) => {
                let fix = "write it in the INSERT INTO ... SELECT that reads the view".to_string();
                Err(source.error(Some(self::place(&next)), "EMIT EVERY in a view", Some(fix)))
            }
        };
    }
    if parser.peek_keyword(Keyword::INSERT) {
        let ast::Statement::Insert(insert) = parser.parse_statement().map_err(|e| source.parser_error(e))? else {
            return Err(source.error(Some(place), "expected INSERT INTO table SELECT ...", None));
        };
        if insert.overwrite {
            let fix = "write INSERT INTO: a pipeline adds to its table".to_string();
            return Err(source.error(Some(place), "INSERT OVERWRITE is not supported in a pipeline", Some(fix)));
        }
        let (ast::TableObject::TableName(table), Some(query)) = (insert.table, insert.source) else {
            return Err(source.error(Some(place), "expected INSERT INTO table SELECT ...", None));
        };
        let columns = insert.columns.iter().map(|c| c.to_string()).collect();
        let emit_every = emit(source, parser)?;
        return Ok(Statement::Insert { table: name_of(&table), columns, query, emit_every });
    }
    let starts_query = [Keyword::SELECT, Keyword::WITH, Keyword::VALUES].iter().any(|k| parser.peek_keyword(*k));
    if starts_query || parser.peek_token().token == Token::LParen {
        let query = parser.parse_query().map_err(|e| source.parser_error(e))?;
        return Ok(Statement::Query { query, emit_every: emit(source, parser)? });
    }
    let (found, fix) = elsewhere::statement(parser);
    Err(source.error(Some(place), format!("{found} is not supported in a pipeline"), Some(fix.into())))
}

/// `EMIT ON WINDOW CLOSE`, which is what happens without it, or `EMIT EVERY INTERVAL '...'`.
fn emit(source: Source<'_>, parser: &mut Parser<'_>) -> Result<Option<i64>> {
    let next = parser.peek_token();
    if !is_word(&next.token, "emit") {
        return Ok(None);
    }
    parser.next_token();
    let words: Vec<Token> = (0..3).map(|i| parser.peek_nth_token(i).token).collect();
    if ["on", "window", "close"].iter().zip(&words).all(|(word, token)| is_word(token, word)) {
        (0..3).for_each(|_| drop(parser.next_token()));
        return Ok(None);
    }
    if words.first().is_some_and(|token| is_word(token, "every")) {
        parser.next_token();
        let interval = parser.parse_expr().map_err(|e| source.parser_error(e))?;
        if let Some(every) = duration::of_expression(&interval).filter(|every| *every > 0) {
            return Ok(Some(every));
        }
    }
    let fix = match words.first() {
        Some(word) if is_word(word, "changes") => {
            "leave EMIT CHANGES out: a query without a window gives its changes".into()
        }
        Some(word) if is_word(word, "final") => {
            "write EMIT ON WINDOW CLOSE, or leave it out: a window comes when it closes".into()
        }
        _ => "write EMIT ON WINDOW CLOSE, or EMIT EVERY INTERVAL '10 seconds'".to_string(),
    };
    Err(source.error(Some(place(&next)), "EMIT says neither when a window closes nor a positive interval", Some(fix)))
}

/// `SET name = value`, also with `TO`.
fn set(source: Source<'_>, parser: &mut Parser<'_>) -> Result<Statement> {
    let at = |e| source.parser_error(e);
    let name = name_of(&parser.parse_object_name(false).map_err(at)?);
    if !parser.parse_keyword(Keyword::TO) {
        parser.expect_token(&Token::Eq).map_err(at)?;
    }
    Ok(Statement::Set { name, value: create_table::option_value(source, parser)? })
}

/// The last part of a possibly quoted name, folded as DataFusion folds identifiers: unquoted names to lower case.
fn name_of(name: &ast::ObjectName) -> String {
    let part = |p: &ast::ObjectNamePart| p.as_ident().map(fold).unwrap_or_else(|| p.to_string());
    name.0.iter().map(part).collect::<Vec<_>>().join(".")
}

/// An identifier as DataFusion sees it.
pub fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

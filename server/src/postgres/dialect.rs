//! PostgreSQL's way of writing SQL, as the engine's.
//!
//! What clients ask of the system catalogues goes through the rules of the catalogue's crate, which also leave out what
//! DataFusion cannot answer (a subquery that looks outside becomes NULL). Statements that read a table of people never
//! do: there a wrong answer is worse than an error.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::OnceLock;

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, SelectItem, SetExpr,
    TableFactor, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut, visit_expressions, visit_relations,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, CurrentUserVariableToSessionUserFunctionCall, FixArrayLiteral,
    PrependUnqualifiedPgTableName, RewriteArrayAnyAllOperation, RewritePgCatalogOperator, RewriteRegCastToSubquery,
    SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};
use millstream::{Result, SqlError};

use super::command::{self, Command};
use super::copy;

/// One statement of a client's text, in the engine's SQL.
#[derive(Debug)]
pub struct Statement {
    /// The text, for the engine.
    pub text: String,
    /// What it is, if it is not to be planned.
    pub command: Option<Command>,
}

/// Understands PostgreSQL's way of writing SQL.
#[derive(Default)]
pub struct Dialect(OnceLock<Rules>);

struct Rules {
    system: PostgresCompatibilityParser,
    own: Vec<Box<dyn SqlStatementRewriteRule>>,
}

impl Rules {
    fn new() -> Self {
        let own: Vec<Box<dyn SqlStatementRewriteRule>> = vec![
            Box::new(AliasDuplicatedProjectionRewrite),
            Box::new(RewriteArrayAnyAllOperation),
            Box::new(PrependUnqualifiedPgTableName),
            Box::new(StripCallableQualifier),
            Box::new(FixArrayLiteral),
            Box::new(CurrentUserVariableToSessionUserFunctionCall),
            Box::new(StripCollate),
            Box::new(RewritePgCatalogOperator),
            Box::new(RewriteRegCastToSubquery::new()),
        ];
        Self { system: PostgresCompatibilityParser::new(), own }
    }
}

impl Dialect {
    /// The statements of a text.
    ///
    /// *Errors*: `Query` with the place where the text is wrong.
    pub fn statements(&self, sql: &str) -> Result<Vec<Statement>> {
        self.parse(sql)?.into_iter().map(|parsed| self.statement(&parsed)).collect()
    }

    fn parse(&self, sql: &str) -> Result<Vec<ast::Statement>> {
        let rules = self.0.get_or_init(Rules::new);
        let wrong = |e: datafusion::sql::sqlparser::parser::ParserError| SqlError::of_parser(sql, &e.to_string());
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(wrong)?;
        let mut statements = if parsed.iter().all(of_system) {
            // Again from the text: some of its rules know the words of a client.
            let mut statements = rules.system.parse(&functions_by_name(sql)).map_err(wrong)?;
            for statement in &mut statements {
                if let Some(nothing) = of_keys(statement) {
                    *statement = nothing;
                }
                let _ = VisitMut::visit(statement, &mut NotHere);
            }
            statements
        } else {
            let apply = |statement| rules.own.iter().fold(statement, |statement, rule| rule.rewrite(statement));
            parsed.into_iter().map(apply).collect()
        };
        for statement in &mut statements {
            // The visitor has no error.
            let _ = VisitMut::visit(statement, &mut Missing);
        }
        Ok(statements)
    }

    fn statement(&self, parsed: &ast::Statement) -> Result<Statement> {
        let text = parsed.to_string();
        let command = match copy::of(parsed)? {
            None => command::of(&text),
            Some(mut copy) => {
                copy.query = self.parse(&copy.query)?.iter().map(ToString::to_string).collect();
                Some(Command::Copy(copy))
            }
        };
        Ok(Statement { text, command })
    }
}

/// The catalogue tells functions by name, where clients make numbers of the names.
fn functions_by_name(sql: &str) -> Cow<'_, str> {
    if !sql.contains("regproc") {
        return Cow::Borrowed(sql);
    }
    let named = sql.replace("::pg_catalog.regproc", "::text").replace("::regproc", "::text");
    Cow::Owned(named.replace("'pg_catalog.array_in'", "'array_in'"))
}

/// JDBC asks for primary keys and indexes with a function that makes rows of their columns. There are none: an answer with the
/// columns that it asks for, and no row.
fn of_keys(statement: &ast::Statement) -> Option<ast::Statement> {
    let ast::Statement::Query(query) = statement else { return None };
    if !statement.to_string().contains("_pg_expandarray") {
        return None;
    }
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let columns = select.projection.iter().enumerate().map(|(number, item)| {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                parts.last().map_or(String::new(), |p| p.value.clone())
            }
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.value.clone(),
            _ => format!("column{}", number + 1),
        };
        format!("CAST(NULL AS TEXT) AS \"{}\"", name.replace('"', "\"\""))
    });
    let nothing = format!("SELECT {} WHERE false", columns.collect::<Vec<_>>().join(", "));
    Parser::parse_sql(&PostgreSqlDialect {}, &nothing).ok()?.pop()
}

/// Whether a statement reads system catalogues and nothing else.
fn of_system(statement: &ast::Statement) -> bool {
    let mut own = Ctes::default();
    let _ = Visit::visit(statement, &mut own);
    let mut relations = 0;
    let flow = visit_relations(statement, |relation| {
        // A function that makes rows reads nothing.
        if last(relation).eq_ignore_ascii_case("generate_series") {
            return ControlFlow::Continue(());
        }
        relations += 1;
        if is_system(relation) || own.0.contains(&last(relation)) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    flow.is_continue() && relations > 0
}

fn is_system(relation: &ObjectName) -> bool {
    let parts: Vec<String> =
        relation.0.iter().filter_map(|part| Some(part.as_ident()?.value.to_ascii_lowercase())).collect();
    match parts.as_slice() {
        [table] => PG_CATALOG_TABLES.contains(&table.as_str()),
        [.., schema, _] => schema == "pg_catalog" || schema == "information_schema",
        [] => false,
    }
}

fn last(relation: &ObjectName) -> String {
    relation.0.last().and_then(|part| Some(part.as_ident()?.value.clone())).unwrap_or_default()
}

/// The names that a statement's own `WITH` gives.
#[derive(Default)]
struct Ctes(BTreeSet<String>);

impl Visitor for Ctes {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(tables.map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }
}

/// In what is asked of the system catalogues: subqueries that look outside become NULL. They ask for sequences, collations,
/// defaults and composite types, which there are none of; so do columns for options and privileges of tables.
struct NotHere;

impl VisitorMut for NotHere {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            for item in &mut select.projection {
                // What becomes NULL keeps its name.
                if let SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(_)) = item
                    && let Some(name) = absent_column(expr)
                {
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: name };
                }
                let _ = VisitMut::visit(item, &mut Correlated);
            }
            if let Some(condition) = &mut select.selection {
                let _ = VisitMut::visit(condition, &mut Correlated);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Columns with lists of privileges and options, of which there are none.
const NO_COLUMNS: [&str; 9] =
    ["reloptions", "relacl", "nspacl", "datacl", "defaclacl", "attacl", "typacl", "proacl", "setconfig"];

fn absent_column(expr: &Expr) -> Option<Ident> {
    let Expr::CompoundIdentifier(parts) = expr else { return None };
    parts.last().filter(|name| NO_COLUMNS.contains(&name.value.as_str())).cloned()
}

struct Correlated;

impl VisitorMut for Correlated {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let absent = match expr {
            Expr::Subquery(query) => looks_outside(query),
            Expr::CompoundIdentifier(_) => absent_column(expr).is_some(),
            // As one text, where psql makes one of the list: of privileges, options, constraints of domains.
            Expr::Function(function) => last(&function.name) == "array_to_string",
            _ => false,
        };
        // A list of what refers to the row, such as the roles of a role: nothing does.
        let list = matches!(expr, Expr::Function(function) if last(&function.name).eq_ignore_ascii_case("array")
            && matches!(&function.args, FunctionArguments::Subquery(query) if looks_outside(query)));
        if absent {
            *expr = Expr::Value(Value::Null.with_empty_span());
        } else if list {
            *expr = Expr::Value(Value::SingleQuotedString("{}".into()).with_empty_span());
        }
        ControlFlow::Continue(())
    }
}

/// Whether a query names a column of a table that is not its own.
fn looks_outside(query: &Query) -> bool {
    let mut tables = Tables::default();
    let _ = Visit::visit(query, &mut tables);
    let flow = visit_expressions(query, |expr| match expr {
        Expr::CompoundIdentifier(parts) => match parts.len().checked_sub(2).and_then(|at| parts.get(at)) {
            Some(table) if !tables.0.contains(&table.value) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

/// Names and aliases of the tables of a query.
#[derive(Default)]
struct Tables(BTreeSet<String>);

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, alias: None, .. } => drop(self.0.insert(last(name))),
            TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
                self.0.insert(alias.name.value.clone());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Forms that the engine has under other names.
struct Missing;

impl VisitorMut for Missing {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            name_nulls(&mut select.projection);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let replaced = match expr {
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(escape) = escape_of(escape_char)
                    && escape != "\\"
                    && let Some(with_backslash) = with_backslash(pattern, &escape)
                {
                    **pattern = with_backslash;
                    *escape_char = None;
                }
                None
            }
            Expr::Function(function) if last(&function.name) == "generate_subscripts" => match &function.args {
                FunctionArguments::List(list) => match list.args.first() {
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(array))) => {
                        read(&format!("unnest(generate_series(1, array_length({array})))"))
                    }
                    _ => None,
                },
                _ => None,
            },
            Expr::Function(function) if last(&function.name).eq_ignore_ascii_case("array") => match &function.args {
                FunctionArguments::Subquery(query) => {
                    read(&format!("(SELECT array_agg(element) FROM ({query}) AS elements(element))"))
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(replaced) = replaced {
            *expr = replaced;
        }
        ControlFlow::Continue(())
    }
}

/// The engine wants another name for each column, PostgreSQL calls all of these `?column?`.
fn name_nulls(projection: &mut [SelectItem]) {
    let mut number = 0;
    for item in projection {
        if let SelectItem::UnnamedExpr(Expr::Value(value)) = item
            && value.value == Value::Null
        {
            number += 1;
            let name = if number == 1 { "?column?".to_string() } else { format!("?column?_{number}") };
            let (expr, alias) = (Expr::Value(value.clone()), Ident::with_quote('"', name));
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
}

fn escape_of(escape: &Option<ValueWithSpan>) -> Option<String> {
    match &escape.as_ref()?.value {
        Value::SingleQuotedString(escape) => Some(escape.clone()),
        _ => None,
    }
}

/// A pattern whose escape character is another one: DataFusion knows the backslash only.
fn with_backslash(pattern: &Expr, escape: &str) -> Option<Expr> {
    let quoted = escape.replace('\'', "''");
    // What is escaped by itself waits under a private character while the others are replaced.
    read(&format!(
        r"replace(replace(replace(replace({pattern}, '\', '\\'), '{quoted}{quoted}', '{SELF}'), '{quoted}', '\'), '{SELF}', '{quoted}')"
    ))
}

const SELF: char = '\u{e000}';

fn read(text: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_expr().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sql: &str) -> String {
        let statements = Dialect::default().statements(sql).unwrap();
        statements.into_iter().map(|s| s.text).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_subquery_over_tables_stays_what_it_is() {
        let sql = "SELECT a.x, (SELECT count(*) FROM b WHERE b.y = a.x) FROM a";
        assert_eq!(text(sql), sql);
        assert_eq!(text("SELECT (SELECT max(x) FROM a)"), "SELECT (SELECT max(x) FROM a)", "no LIMIT that hides rows");
        let system =
            "SELECT c.oid, (SELECT d.description FROM pg_description d WHERE d.objoid = c.oid) FROM pg_class c";
        assert_eq!(text(system), "SELECT c.oid, NULL AS \"?column?\" FROM pg_catalog.pg_class c");
        let own = "SELECT (SELECT count(*) FROM b WHERE b.y = a.x) FROM pg_own_table a";
        assert!(text(own).contains("SELECT count(*) FROM b"), "{}", text(own));
        let mixed = "SELECT (SELECT count(*) FROM b WHERE b.y = c.oid) FROM pg_class c, a";
        assert!(text(mixed).contains("SELECT count(*) FROM b"), "{}", text(mixed));
    }

    #[test]
    fn forms_of_postgres_that_the_engine_has_under_other_names() {
        assert_eq!(text("SELECT pg_catalog.abs(1)"), "SELECT abs(1)");
        assert_eq!(
            text("SELECT array(SELECT x FROM a)"),
            "SELECT (SELECT array_agg(element) FROM (SELECT x FROM a) AS elements (element))"
        );
        assert_eq!(
            text("SELECT generate_subscripts(a.b, 1) FROM a"),
            "SELECT unnest(generate_series(1, array_length(a.b))) FROM a"
        );
        assert!(text("SELECT x LIKE 'a/_%' ESCAPE '/' FROM a").starts_with("SELECT x LIKE replace("));
    }

    #[test]
    fn what_there_is_none_of_is_an_empty_answer() {
        let keys = "SELECT r.TABLE_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, a.attname \
                    FROM pg_catalog.pg_class r, pg_catalog.pg_index i, pg_catalog.pg_attribute a";
        let expected = "SELECT CAST(NULL AS TEXT) AS \"TABLE_NAME\", CAST(NULL AS TEXT) AS \"KEY_SEQ\", CAST(NULL AS TEXT) AS \"attname\" WHERE false";
        assert_eq!(text(keys), expected);
        let roles = "SELECT r.rolname, ARRAY(SELECT m.roleid FROM pg_auth_members m WHERE m.member = r.oid) AS memberof, NULL, NULL FROM pg_roles r";
        let expected = "SELECT r.rolname, '{}' AS memberof, NULL AS \"?column?\", NULL AS \"?column?_2\" FROM pg_catalog.pg_roles r";
        assert_eq!(text(roles), expected);
    }

    #[test]
    fn a_wrong_text_tells_its_place() {
        let error = Dialect::default().statements("SELECT 1;\nselct 2").unwrap_err().to_string();
        assert!(error.starts_with("Expected: an SQL statement, found: selct"), "{error}");
        assert!(error.ends_with("\n  selct 2\n  ^"), "{error}");
    }
}

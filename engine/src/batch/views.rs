//! Views: named SELECTs that queries and rollups use like tables.
//!
//! A view that a statement names becomes a `WITH` of it, so it is planned with the query, sees the same tables, and may use
//! the query's parameters. A table of the same name is hidden by the view.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};

use super::error::query_error;
use super::guard;
use crate::error::{Error, Result, SqlError};

/// Views within views at most; a circle has no end.
const NESTING_MAX: usize = 16;

/// The views of a lake, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Views(Arc<RwLock<BTreeMap<String, String>>>);

impl Views {
    /// Replaces all views.
    pub(super) fn set(&self, views: BTreeMap<String, String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = views;
    }

    /// The statement with a `WITH` for every view that it names, directly or through another.
    pub(super) fn expand(&self, statement: Statement) -> Result<Statement> {
        let views = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if views.is_empty() {
            return Ok(statement);
        }
        let mut order = Vec::new();
        used(&statement, &views, &mut order, 0)?;
        let mut statement = statement;
        if let Some(query) = query_of(&mut statement)
            && let Some(first) = order.first()
        {
            // One text, so that the parser makes the WITH; what a view uses stands before it.
            let text = |name: &String| format!("{name} AS (\n{}\n)", views.get(name).map_or("", String::as_str));
            let list = order.iter().map(text).collect::<Vec<_>>().join(", ");
            let mut made = parse(&format!("WITH {list} SELECT 1"), first)?;
            if let Some(mut with) = query_of(&mut made).and_then(|query| query.with.take()) {
                with.cte_tables.extend(query.with.take().into_iter().flat_map(|own| own.cte_tables));
                query.with = Some(with);
            }
        }
        Ok(statement)
    }
}

/// Adds the names of the views that the statement uses, each after those that it uses itself.
fn used(statement: &Statement, views: &BTreeMap<String, String>, order: &mut Vec<String>, depth: usize) -> Result<()> {
    if depth > NESTING_MAX {
        let message = "views use each other in a circle, or are nested too deep".to_string();
        return Err(SqlError { message, fix: Some("break the circle".into()), ..SqlError::default() }.into());
    }
    let (references, _) = datafusion::sql::resolve::resolve_table_references(statement, true).map_err(query_error)?;
    for reference in references {
        let name = reference.table();
        let Some(sql) = views.get(name).filter(|_| reference.schema().is_none()) else { continue };
        if order.iter().any(|known| known == name) {
            continue;
        }
        used(&parse(sql, name)?, views, order, depth + 1)?;
        order.push(name.to_string());
    }
    Ok(())
}

fn parse(sql: &str, view: &str) -> Result<Statement> {
    guard::parse(sql).map_err(|e| match e {
        Error::Query(mut sql) => {
            sql.message = format!("view {view}: {}", sql.message);
            Error::Query(sql)
        }
        other => other,
    })
}

fn query_of(statement: &mut Statement) -> Option<&mut Query> {
    match statement {
        Statement::Explain(explain) => query_of(&mut explain.statement),
        Statement::Statement(inner) => match inner.as_mut() {
            SqlStatement::Query(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}

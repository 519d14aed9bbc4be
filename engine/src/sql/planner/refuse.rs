//! What a pipeline cannot hold, by name.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::windows::is_window_function;
use crate::error::{Error, Result, SqlError};

/// Refuses what an expression cannot hold where it stands.
pub(super) fn refuse_unsupported(e: &Expr) -> Result<()> {
    let mut found = None;
    e.apply(|e| {
        if let Expr::ScalarFunction(f) = e
            && is_window_function(f.name())
        {
            found = Some((
                format!("{} is only allowed in GROUP BY", f.name()),
                "add it to the GROUP BY, then select it by the same expression or by its alias",
            ));
            return Ok(TreeNodeRecursion::Stop);
        }
        if matches!(e, Expr::ScalarSubquery(_)) {
            found = Some((
                "a scalar subquery about its row must be an aggregate that is bound to it by equalities".to_string(),
                "write (SELECT max(b.v) FROM b WHERE b.k = a.k); for the latest row, JOIN b FOR SYSTEM_TIME AS OF a.ts ON b.k = a.k",
            ));
            return Ok(TreeNodeRecursion::Stop);
        }
        if matches!(e, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)) {
            found = Some((
                "a subquery is not supported in OVER or in the ON of a join".to_string(),
                "compute it in the SELECT list of a query in FROM, then use that column",
            ));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        None => Ok(()),
        Some((message, fix)) => Err(Error::Query(SqlError { message, fix: Some(fix.into()), ..Default::default() })),
    }
}

/// An error for a part of a query that no operator does.
pub(super) fn refused(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::Values(_) => not_yet(
            "VALUES in a query",
            "put the rows into a file, CREATE TEMPORARY TABLE v (...) WITH (connector = 'single_file', ...), and join that",
        ),
        LogicalPlan::EmptyRelation(_) => not_yet("a query without a table", "select FROM a table"),
        LogicalPlan::RecursiveQuery(_) => not_yet("a recursive query", "unroll it into the steps you need"),
        LogicalPlan::Subquery(_) => not_yet(
            "this form of LATERAL",
            "bind it to its row by equalities in its WHERE, such as b.k = a.k, without LIMIT",
        ),
        _ => not_yet("this form", "see the README for what a pipeline can hold"),
    }
}

/// `what` is not supported in a pipeline; `fix` says what to write instead.
pub(super) fn not_yet(what: &str, fix: &str) -> Error {
    Error::Query(SqlError {
        message: format!("{what} is not supported in a pipeline yet"),
        fix: Some(fix.into()),
        ..SqlError::default()
    })
}

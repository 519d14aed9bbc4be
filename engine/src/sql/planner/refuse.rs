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
        if matches!(e, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)) {
            found = Some((
                "this form of subquery is not supported in a pipeline".to_string(),
                "join the other table on a key, or write IN or EXISTS",
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
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
            not_yet("a query without a table", "select FROM a table")
        }
        LogicalPlan::RecursiveQuery(_) => not_yet("a recursive query", "unroll it into the steps you need"),
        LogicalPlan::Subquery(_) => {
            not_yet("LATERAL or a list in FROM", "unnest in the SELECT list: SELECT k, unnest(list) FROM t")
        }
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

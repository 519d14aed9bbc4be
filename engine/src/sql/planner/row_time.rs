//! `row_time()`: the event time of the row, as the column that holds it.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::scalar::ScalarValue;

use super::time_column::{TimeColumn, time_column};
use crate::sql::catalog::Catalog;

/// The name of the function.
pub const ROW_TIME: &str = "row_time";

/// Puts the column of the event time in the place of `row_time()`; of a window's result that is its last nanosecond.
pub(super) fn resolve(catalog: &Catalog, plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let resolved = plan.transform_up_with_subqueries(|node| {
        let mut asked = false;
        node.apply_expressions(|e| {
            asked |= asks(e)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !asked {
            return Ok(Transformed::no(node));
        }
        let Some(time) = node.inputs().first().and_then(|input| event_time(catalog, input)) else {
            return plan_err!(
                "row_time() stands where no column holds the event time; select the event time column (or the window) in the query \
                 below, and give the table a WATERMARK FOR"
            );
        };
        let names = NamePreserver::new(&node);
        let changed = node.map_expressions(|e| {
            let name = names.save(&e);
            let changed = e.transform_up(|e| match is_call(&e) {
                true => Ok(Transformed::yes(time.clone())),
                false => Ok(Transformed::no(e)),
            })?;
            Ok(changed.update_data(|e| name.restore(e)))
        })?;
        changed.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(resolved.data)
}

fn is_call(e: &Expr) -> bool {
    matches!(e, Expr::ScalarFunction(f) if f.name() == ROW_TIME)
}

fn asks(e: &Expr) -> DfResult<bool> {
    e.exists(|e| Ok(is_call(e)))
}

/// The event time of an input's rows, from its columns.
fn event_time(catalog: &Catalog, input: &LogicalPlan) -> Option<Expr> {
    let columns = || input.schema().columns().into_iter().map(Expr::Column);
    let find = |wanted: TimeColumn| columns().find(|c| time_column(catalog, input, c) == Some(wanted));
    if let Some(column) = find(TimeColumn::EventTime) {
        return Some(column);
    }
    let end = datafusion::functions::core::expr_fn::get_field(find(TimeColumn::Window)?, "end");
    Some(end - lit(ScalarValue::new_interval_mdn(0, 0, 1)))
}

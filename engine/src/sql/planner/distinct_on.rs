//! `DISTINCT ON (keys) ... ORDER BY`: the first row of each key, as a filter on `row_number()`.

use datafusion::common::Result as DfResult;
use datafusion::common::plan_err;
use datafusion::common::tree_node::Transformed;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFunctionDefinition, col, lit,
};

/// The place of a row in its partition.
const PLACE: &str = "__place";

/// Writes every `DISTINCT ON` of a plan as a filter. *Errors*: one without an ORDER BY.
pub(super) fn as_first_rows(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let replace = |plan| match plan {
        LogicalPlan::Distinct(Distinct::On(on)) => first_rows(on).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    };
    Ok(plan.transform_up_with_subqueries(replace)?.data)
}

fn first_rows(on: DistinctOn) -> DfResult<LogicalPlan> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = on;
    let Some(order) = sort_expr.filter(|o| o.len() > on_expr.len()) else {
        return plan_err!("DISTINCT ON without an order says not which row of a key it means");
    };
    let order = order.into_iter().skip(on_expr.len()).collect();
    let function = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number_udwf()), Vec::new());
    let place = Expr::from(function).partition_by(on_expr).order_by(order).build()?.alias(PLACE);
    let names = select_expr.into_iter().zip(schema.iter());
    let named = names.map(|(e, (table, field))| e.unalias().alias_qualified(table.cloned(), field.name()));
    LogicalPlanBuilder::from(input)
        .window([place])?
        .filter(col(PLACE).eq(lit(1_u64)))?
        .project(named.collect::<Vec<_>>())?
        .build()
}

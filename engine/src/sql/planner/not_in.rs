//! `NOT IN` over a list that may hold nulls.
//!
//! ```text
//! x NOT IN (SELECT y FROM s)  =  no y equals x, and s has no null, and (x is not null or s has no rows)
//! ```
//!
//! The first is an anti join. The rest reads one row about all of `s`: how many rows it has, and how many values.

use std::sync::Arc;

use datafusion::common::{Column, DataFusionError, JoinConstraint, JoinType, NullEquality, Result as DfResult};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{self, Expr, LogicalPlan, LogicalPlanBuilder, lit};

const ROWS: &str = "__rows";
const VALUES: &str = "__values";

/// The same rows as the null-aware anti join `j` of one equality gives, by joins that know nothing of nulls.
pub(super) fn over_nulls(j: &logical_expr::Join) -> DfResult<LogicalPlan> {
    let [(x, y)] = j.on.as_slice() else {
        return Err(DataFusionError::Internal("NOT IN compares one expression".into()));
    };
    let unequal = LogicalPlan::Join(logical_expr::Join { null_aware: false, ..j.clone() });
    let counted = LogicalPlanBuilder::from(j.right.clone())
        .aggregate(Vec::<Expr>::new(), [count(lit(1)), count(y.clone())])?
        .build()?;
    let names = counted.schema().columns();
    let named = names.into_iter().map(Expr::Column).zip([ROWS, VALUES]).map(|(e, name)| e.alias(name));
    let counted = LogicalPlanBuilder::from(counted).project(named)?.alias("__not_in")?.build()?;
    let columns: Vec<Expr> = j.schema.columns().into_iter().map(Expr::Column).collect();
    let joined = logical_expr::Join::try_new(
        Arc::new(unequal),
        Arc::new(counted),
        Vec::new(),
        None,
        JoinType::Left,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    // Before the first row there is no count.
    let number = |name: &str| {
        let column = Expr::Column(Column::new(Some("__not_in"), name));
        logical_expr::when(column.clone().is_null(), lit(0_i64)).otherwise(column)
    };
    let no_null = number(ROWS)?.eq(number(VALUES)?);
    let known = x.clone().is_not_null().or(number(ROWS)?.eq(lit(0_i64)));
    LogicalPlanBuilder::from(LogicalPlan::Join(joined)).filter(no_null.and(known))?.project(columns)?.build()
}

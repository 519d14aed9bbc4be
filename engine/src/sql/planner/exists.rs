//! `EXISTS` of a subquery that reads nothing of its row: all rows have the same answer, so it is one row that they are
//! joined with.

use std::sync::Arc;

use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, Result as DfResult};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{self, Expr, LogicalPlan, LogicalPlanBuilder, lit, not};

/// The one row, and its column.
const ONE: &str = "__exists";
const ANY: &str = "any";

/// The same rows as the semi, anti or mark join `j` without a condition gives, by a join with one row.
pub(super) fn of_one_row(j: &logical_expr::Join) -> DfResult<LogicalPlan> {
    let counted =
        LogicalPlanBuilder::from(j.right.clone()).aggregate(Vec::<Expr>::new(), [count(lit(1)).alias("rows")])?;
    // Not the number itself: the rows would all change with each one that comes.
    let any = Expr::Column(Column::new_unqualified("rows")).gt(lit(0_i64)).alias(ANY);
    let joined = logical_expr::Join::try_new(
        j.left.clone(),
        Arc::new(counted.project([any])?.alias(ONE)?.build()?),
        Vec::new(),
        None,
        JoinType::Left,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    // Before the first row there is no count.
    let any = Expr::Column(Column::new(Some(ONE), ANY)).is_true();
    let plan = LogicalPlanBuilder::from(LogicalPlan::Join(joined));
    let mut columns: Vec<Expr> = j.left.schema().columns().into_iter().map(Expr::Column).collect();
    match j.join_type {
        JoinType::LeftSemi => plan.filter(any)?.project(columns)?.build(),
        JoinType::LeftAnti => plan.filter(not(any))?.project(columns)?.build(),
        _ => {
            let mark = j.schema.columns().pop().unwrap_or_else(|| Column::new_unqualified("mark"));
            columns.push(any.alias_qualified(mark.relation, mark.name));
            plan.project(columns)?.build()
        }
    }
}

//! DataFusion's rules that hold for endless inputs.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerContext, OptimizerRule};

use super::distinct_on::as_first_rows;
use super::subquery;
use crate::sql::functions::Functions;

/// The rules that hold for endless inputs. Left out on purpose: everything about limits, constants in GROUP BY (a window
/// is one) and common subexpressions (they would merge windows).
pub(super) fn optimize(plan: LogicalPlan, functions: &Functions) -> DfResult<LogicalPlan> {
    let plan = as_first_rows(plan)?;
    let plan = functions.analyzer().execute_and_check(plan, &functions.options, |_, _| {})?;
    let mut options = ConfigOptions::default();
    // The answer of a subquery changes as rows come: it is joined, not read once.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    let context = OptimizerContext::new_with_config_options(Arc::new(options));
    let plan = subquery::joined(plan, &context)?;
    let optimizer = Optimizer::with_rules(vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(WithoutTrue),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ]);
    optimizer.optimize(plan, &context, |_, _| {})
}

/// Takes out conditions that always hold. DataFusion's rule makes a query of no table of a condition that never holds; here it
/// stays a query of its own, that gives no rows: a pipeline reads a table.
#[derive(Debug)]
struct WithoutTrue;

impl OptimizerRule for WithoutTrue {
    fn name(&self) -> &str {
        "without_true"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(Filter {
                predicate: Expr::Literal(ScalarValue::Boolean(Some(true)), _),
                input,
                ..
            }) => Ok(Transformed::yes(Arc::unwrap_or_clone(input))),
            other => Ok(Transformed::no(other)),
        }
    }
}

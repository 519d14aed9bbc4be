//! `GROUP BY`.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{self, Expr};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;

use super::time_column::{TimeColumn, time_column};
use super::windows::WindowCall;
use super::{Planner, arrow, physical};
use crate::error::{Error, Result, SqlError};
use crate::operators::accumulate::{Aggregate, Aggregation};
use crate::operators::window::{WindowKind, Windows};
use crate::operators::window_aggregate::{SessionAggregate, WindowAggregate};
use crate::sql::plan::Plan;
use crate::sql::planner::refuse::refuse_unsupported;

impl Planner<'_> {
    pub(super) fn aggregate(&self, a: &logical_expr::Aggregate) -> Result<Plan> {
        let a = &without_repeated_keys(a);
        // It comes back here with the window in its place, and EMIT EVERY still to be taken.
        if let Some(grouped) = self.grouped_window_table(a)? {
            return Ok(grouped);
        }
        let emit_every = self.emit_every.take();
        let input = self.convert(&a.input)?;
        let windows: Vec<(usize, WindowCall)> =
            a.group_expr.iter().enumerate().filter_map(|(i, e)| Some((i, WindowCall::of(e)?))).collect();
        match windows.as_slice() {
            [] => match emit_every {
                None => self.unwindowed(a, input),
                Some(every) => Ok(self.held(self.updating_aggregate(a, input)?, a, every, false)),
            },
            [(_, call)] if !self.is_over_event_time(a, call) => Err(Error::Query(SqlError {
                message: "a window in GROUP BY is over the event time, and this column is not it".into(),
                fix: Some(
                    "declare WATERMARK FOR the column, or write FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(column), INTERVAL '...'))".into(),
                ),
                ..SqlError::default()
            })),
            [(window_at, call)] => self.windowed(a, input, *window_at, call, emit_every),
            many => Err(Error::Query(SqlError {
                message: format!("{} windows in one GROUP BY; a query has one", many.len()),
                fix: Some("write one INSERT INTO for each window".into()),
                ..SqlError::default()
            })),
        }
    }

    /// Whether the column that a window names, if it does, is the event time.
    fn is_over_event_time(&self, a: &logical_expr::Aggregate, call: &WindowCall) -> bool {
        let is_it = |e| time_column(self.provider.catalog, &a.input, e) == Some(TimeColumn::EventTime);
        call.time.as_ref().is_none_or(is_it)
    }

    fn windowed(
        &self,
        a: &logical_expr::Aggregate,
        input: Plan,
        window_at: usize,
        call: &WindowCall,
        emit_every: Option<i64>,
    ) -> Result<Plan> {
        if input.properties().updating {
            return Err(Error::Query(SqlError {
                message: "a window over rows that are taken back again is not supported".into(),
                fix: Some("window the input first, then aggregate or join its results".into()),
                ..SqlError::default()
            }));
        }
        if let Some(every) = emit_every {
            return self.early(a, input, window_at, call, every);
        }
        let schema = arrow(&a.schema);
        let aggregation = Arc::new(aggregation(a, Some(window_at))?);
        Ok(match call.check()? {
            WindowKind::Session(gap) => input.over(SessionAggregate { aggregation, gap, window_at, schema }),
            WindowKind::Aligned(windows) => {
                input.over(WindowAggregate { aggregation, windows, window_at: Some(window_at), schema })
            }
        })
    }

    /// A GROUP BY without a window function: of results of windows by their window, or for ever.
    fn unwindowed(&self, a: &logical_expr::Aggregate, input: Plan) -> Result<Plan> {
        let properties = input.properties();
        let by_window = a.group_expr.iter().any(|e| {
            let column = time_column(self.provider.catalog, &a.input, e);
            column.is_some_and(|t| t.is_one_window(properties.window.as_ref()))
        });
        if properties.window.is_some() && by_window && !properties.updating {
            let schema = arrow(&a.schema);
            let aggregation = Arc::new(aggregation(a, None)?);
            // All results of a window have the same event time, and they come before the watermark passes it.
            let windows = Windows::new(1, 1);
            return Ok(input.over(WindowAggregate { aggregation, windows, window_at: None, schema }));
        }
        self.updating_aggregate(a, input)
    }
}

/// `GROUP BY k, k` as `GROUP BY k`: the result has one column for both, so positions agree again.
fn without_repeated_keys(a: &logical_expr::Aggregate) -> logical_expr::Aggregate {
    let mut a = a.clone();
    let mut kept: Vec<Expr> = Vec::with_capacity(a.group_expr.len());
    for e in std::mem::take(&mut a.group_expr) {
        if !kept.contains(&e) {
            kept.push(e);
        }
    }
    a.group_expr = kept;
    a
}

/// Keys (but for the window among them) and functions.
pub(super) fn aggregation(a: &logical_expr::Aggregate, window_at: Option<usize>) -> Result<Aggregation> {
    let input = a.input.schema();
    let (mut groups, mut group_fields) = (Vec::new(), Vec::new());
    for (i, e) in a.group_expr.iter().enumerate().filter(|(i, _)| Some(*i) != window_at) {
        refuse_unsupported(e)?;
        groups.push(physical(e, input)?);
        group_fields.push(a.schema.field(i).clone());
    }
    let aggregates = a.aggr_expr.iter().map(|e| aggregate_function(e, input)).collect::<Result<Vec<_>>>()?;
    Aggregation::new(groups, group_fields, aggregates)
}

/// Distinct values have no order of their own: `array_agg(DISTINCT x)` is in the order of `x`.
fn distinct_in_order(e: &Expr) -> Result<Expr> {
    let ordered = e.clone().transform(|e| {
        Ok(match e {
            Expr::AggregateFunction(mut f)
                if f.params.distinct
                    && f.params.order_by.is_empty()
                    && matches!(f.func.name(), "array_agg" | "string_agg") =>
            {
                f.params.order_by = f.params.args.iter().take(1).map(|a| a.clone().sort(true, false)).collect();
                Transformed::yes(Expr::AggregateFunction(f))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(ordered.data)
}

fn aggregate_function(e: &Expr, schema: &DFSchema) -> Result<Aggregate> {
    let e = &distinct_in_order(e)?;
    let (properties, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let lowered = LoweredAggregateBuilder::new(e, schema, schema.as_arrow(), &properties, &context).build()?;
    let (function, filter, order) = (lowered.aggregate, lowered.filter, lowered.order_bys);
    // Ordered-set aggregates (percentile_cont) collect their values and sort them themselves.
    let sorts_itself = function.fun().supports_within_group_clause();
    if !order.is_empty() && !sorts_itself && !function.is_distinct() && function.order_sensitivity().hard_requires() {
        return Err(Error::sql(format!(
            "ORDER BY inside {} is not supported in a pipeline; sort in the query that reads the table",
            function.name()
        )));
    }
    Ok(Aggregate { function, filter })
}

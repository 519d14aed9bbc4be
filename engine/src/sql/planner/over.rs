//! `OVER`.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    self, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr, create_physical_sort_exprs};
use datafusion::physical_planner::create_window_expr;
use datafusion::scalar::ScalarValue;

use super::time_column::time_column;
use super::{Planner, arrow, physical};
use crate::error::{Error, Result, SqlError};
use crate::operators::filter::Filter;
use crate::operators::kept_rows::Keeping;
use crate::operators::over::{Final, Over};
use crate::operators::over_functions::{Function, Kind};
use crate::operators::over_history::Reach;
use crate::operators::over_updating::OverUpdating;
use crate::operators::project::Project;
use crate::operators::spec::Properties;
use crate::operators::top_n::TopN;
use crate::sql::duration;
use crate::sql::plan::Plan;
use crate::sql::planner::refuse::refuse_unsupported;

/// Functions with one `PARTITION BY` and `ORDER BY`, by their places in the plan's list.
struct Group<'a> {
    functions: Vec<(usize, &'a WindowFunction)>,
    expressions: Vec<&'a Expr>,
}

/// A filter on `row_number()` above.
#[derive(Clone, Copy)]
struct First {
    rows: usize,
    /// Whether the number itself is read.
    ranked: bool,
}

impl Planner<'_> {
    pub(super) fn over(&self, w: &logical_expr::Window) -> Result<Plan> {
        self.windowed_over(w, None)
    }

    /// A filter over an `OVER`: top-N if it bounds `row_number()`. `ranked`: whether something above reads the number.
    pub(super) fn filtered_over(&self, f: &logical_expr::Filter, ranked: bool) -> Result<Option<Plan>> {
        let LogicalPlan::Window(w) = below_aliases(&f.input) else { return Ok(None) };
        let [e] = w.window_expr.as_slice() else { return Ok(None) };
        if kind_of(unaliased(e)?) != Kind::RowNumber {
            return Ok(None);
        }
        let number = w.schema.fields().len() - 1;
        let (mut rows, mut rest) = (None, Vec::new());
        for e in split_conjunction(&f.predicate) {
            match upper_bound(e, f.input.schema(), number) {
                Some(bound) => rows = Some(rows.map_or(bound, |r: u64| r.min(bound))),
                None => rest.push(e.clone()),
            }
        }
        let Some(rows) = rows else { return Ok(None) };
        let read = |e: &Expr| e.column_refs().iter().any(|c| f.input.schema().maybe_index_of_column(c) == Some(number));
        let ranked = ranked || rest.iter().any(read);
        let first = First { rows: usize::try_from(rows).unwrap_or(usize::MAX), ranked };
        let plan = self.windowed_over(w, Some(first))?;
        Ok(Some(match rest.into_iter().reduce(Expr::and) {
            None => plan,
            Some(rest) => {
                refuse_unsupported(&rest)?;
                let predicate = physical(&rest, f.input.schema())?;
                plan.over(Filter { predicate, schema: arrow(f.input.schema()) })
            }
        }))
    }

    fn windowed_over(&self, w: &logical_expr::Window, first: Option<First>) -> Result<Plan> {
        let mut plan = self.convert(&w.input)?;
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (i, e) in w.window_expr.iter().enumerate() {
            refuse_unsupported(e)?;
            let f = unaliased(e)?;
            let same = |g: &&mut Group<'_>| {
                g.functions.first().is_some_and(|(_, other)| {
                    other.params.partition_by == f.params.partition_by && other.params.order_by == f.params.order_by
                })
            };
            match groups.iter_mut().find(same) {
                Some(group) => {
                    group.functions.push((i, f));
                    group.expressions.push(e);
                }
                None => groups.push(Group { functions: vec![(i, f)], expressions: vec![e] }),
            }
        }
        let input_columns = w.input.schema().fields().len();
        let all = arrow(&w.schema);
        for group in &groups {
            plan = self.group(w, plan, group, first, &all)?;
        }
        if groups.len() == 1 {
            return Ok(plan);
        }
        // Groups have appended their columns in their own order.
        let order: Vec<usize> = groups.iter().flat_map(|g| g.functions.iter().map(|(i, _)| *i)).collect();
        let column = |(i, field): (usize, &FieldRef)| -> Arc<dyn PhysicalExpr> {
            let at = i
                .checked_sub(input_columns)
                .map_or(i, |n| input_columns + order.iter().position(|o| *o == n).unwrap_or(n));
            Arc::new(Column::new(field.name(), at))
        };
        let expressions = all.fields().iter().enumerate().map(column).collect();
        Ok(plan.over(Project { expressions, schema: all }))
    }

    fn group(
        &self,
        w: &logical_expr::Window,
        input: Plan,
        group: &Group<'_>,
        first: Option<First>,
        all: &SchemaRef,
    ) -> Result<Plan> {
        let Some((_, function)) = group.functions.first() else { return Ok(input) };
        let params = &function.params;
        let input_schema = w.input.schema();
        let own = input_schema.fields().len();
        let mut fields: Vec<FieldRef> = input.schema().fields().iter().cloned().collect();
        fields.extend(group.functions.iter().filter_map(|(i, _)| all.fields().get(own + i).cloned()));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let properties = input.properties();
        let fin = if properties.updating { None } else { self.fin(&w.input, &properties, group)? };
        let partition = params.partition_by.iter().map(|e| physical(e, input_schema)).collect::<Result<Vec<_>>>()?;
        let partition_fields =
            params.partition_by.iter().map(|e| field(e, input_schema)).collect::<Result<Vec<_>>>()?;
        let (properties_of, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let order: Vec<PhysicalSortExpr> =
            create_physical_sort_exprs(&params.order_by, input_schema, &properties_of, &context)?;
        let whole = !matches!(fin, Some(Final::Order { .. }));
        let functions = group
            .functions
            .iter()
            .zip(&group.expressions)
            .map(|((_, f), e)| self.function(f, e, input_schema, whole))
            .collect::<Result<Vec<_>>>()?;
        let limit = first.map(|f| f.rows);
        if let Some(fin) = fin {
            let input_columns = input.schema();
            return Ok(input.over(Over {
                functions,
                partition,
                partition_fields,
                order,
                fin,
                limit,
                input: input_columns,
                schema,
            }));
        }
        let keeping = Keeping {
            partition,
            partition_fields,
            order,
            limit: limit.unwrap_or(usize::MAX),
            retracts: properties.updating || first.is_none(),
            timed: !properties.updating,
            ttl: self.provider.catalog.updating_ttl.0,
            input: input.schema(),
        };
        Ok(match first {
            Some(first) => input.over(TopN { keeping, ranked: first.ranked, schema }),
            None => input.over(OverUpdating { keeping, functions, schema }),
        })
    }

    /// Why the rows of a group are final once the watermark has passed them, if they are.
    fn fin(&self, input: &LogicalPlan, properties: &Properties, group: &Group<'_>) -> Result<Option<Final>> {
        let Some((_, function)) = group.functions.first() else { return Ok(None) };
        let catalog = self.provider.catalog;
        let window = properties.window.as_ref();
        let of = |e: &Expr| time_column(catalog, input, e);
        if function.params.partition_by.iter().any(|e| of(e).is_some_and(|t| t.is_one_window(window))) {
            return Ok(Some(Final::Window));
        }
        let in_time = |s: &Sort| s.asc && of(&s.expr).is_some_and(|t| t.is_order_of_time(window));
        if !function.params.order_by.first().is_some_and(in_time) {
            return Ok(None);
        }
        let mut reach = Reach::default();
        for (_, f) in &group.functions {
            let Some(own) = reach_of(f) else { return Ok(None) };
            reach = Reach { rows: reach.rows.max(own.rows), range: reach.range.max(own.range) };
        }
        Ok(Some(Final::Order { reach, ttl: catalog.updating_ttl.0 }))
    }

    /// `whole`: partitions are complete when they are evaluated.
    fn function(&self, f: &WindowFunction, e: &Expr, schema: &DFSchema, whole: bool) -> Result<Function> {
        let expression = create_window_expr(e, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
        let kind = match kind_of(f) {
            Kind::Running { .. } if whole => Kind::Framed,
            Kind::Whole if !whole => Kind::Framed,
            kind => kind,
        };
        // Some aggregates cannot go back along a frame; DataFusion only says so when asked for their state.
        expression.create_window_fn().map_err(|e| {
            Error::Query(SqlError {
                message: format!("{} cannot have this frame: {}", f.fun.name(), e.strip_backtrace()),
                fix: Some("begin the frame at UNBOUNDED PRECEDING".into()),
                ..SqlError::default()
            })
        })?;
        let filter = f.params.filter.as_ref().map(|e| physical(e, schema)).transpose()?;
        Ok(Function { expression, filter, kind })
    }
}

/// The plan below any names given to it.
fn below_aliases(mut plan: &LogicalPlan) -> &LogicalPlan {
    while let LogicalPlan::SubqueryAlias(s) = plan {
        plan = &s.input;
    }
    plan
}

/// Whether a plan is a filter on an `OVER`, so that the `SELECT` above should say what it reads.
pub(super) fn filter_on_over(plan: &LogicalPlan) -> Option<&logical_expr::Filter> {
    match below_aliases(plan) {
        LogicalPlan::Filter(f) if matches!(below_aliases(&f.input), LogicalPlan::Window(_)) => Some(f),
        _ => None,
    }
}

/// Whether a `SELECT` list reads the last column of its input.
pub(super) fn reads_last(p: &logical_expr::Projection) -> bool {
    let last = p.input.schema().fields().len().checked_sub(1);
    p.expr.iter().any(|e| e.column_refs().iter().any(|c| p.input.schema().maybe_index_of_column(c) == last))
}

fn unaliased(e: &Expr) -> Result<&WindowFunction> {
    match e {
        Expr::Alias(a) => unaliased(&a.expr),
        Expr::WindowFunction(f) => Ok(f),
        other => Err(Error::Bug(format!("{other} in a list of OVER functions"))),
    }
}

fn field(e: &Expr, schema: &DFSchema) -> Result<FieldRef> {
    let (_, field) = e.to_field(schema)?;
    Ok(field)
}

/// `row_number() <= n`, written either way around; `n` as it is there, for `<=`.
fn upper_bound(e: &Expr, schema: &DFSchema, number: usize) -> Option<u64> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = e else { return None };
    let (column, literal, op) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(c), Expr::Literal(l, _)) => (c, l, *op),
        (Expr::Literal(l, _), Expr::Column(c)) => (c, l, op.swap()?),
        _ => return None,
    };
    if schema.maybe_index_of_column(column) != Some(number) {
        return None;
    }
    let ScalarValue::UInt64(Some(bound)) = literal.cast_to(&DataType::UInt64).ok()? else { return None };
    match op {
        Operator::LtEq => Some(bound),
        Operator::Lt => bound.checked_sub(1),
        Operator::Eq if bound == 1 => Some(1),
        _ => None,
    }
}

fn kind_of(f: &WindowFunction) -> Kind {
    let frame = &f.params.window_frame;
    let unbounded = |b: &WindowFrameBound, preceding: bool| match b {
        WindowFrameBound::Preceding(v) => preceding && v.is_null(),
        WindowFrameBound::Following(v) => !preceding && v.is_null(),
        WindowFrameBound::CurrentRow => false,
    };
    match &f.fun {
        WindowFunctionDefinition::WindowUDF(udf) => match udf.name() {
            "row_number" => Kind::RowNumber,
            "rank" => Kind::Rank,
            "dense_rank" => Kind::DenseRank,
            _ => Kind::Framed,
        },
        WindowFunctionDefinition::AggregateUDF(_) if unbounded(&frame.start_bound, true) => match &frame.end_bound {
            WindowFrameBound::CurrentRow => Kind::Running { peers: frame.units != WindowFrameUnits::Rows },
            end if unbounded(end, false) => Kind::Whole,
            _ => Kind::Framed,
        },
        WindowFunctionDefinition::AggregateUDF(_) => Kind::Framed,
    }
}

/// How far back a function looks in rows that are evaluated in the order of time; `None` if it looks ahead, or back to
/// the first row.
fn reach_of(f: &WindowFunction) -> Option<Reach> {
    let kind = kind_of(f);
    if kind.is_rank() || matches!(kind, Kind::Running { .. }) {
        return Some(Reach::default());
    }
    let frame = &f.params.window_frame;
    if let WindowFunctionDefinition::WindowUDF(udf) = &f.fun {
        match udf.name() {
            "lag" => {
                let offset = match f.params.args.get(1) {
                    None => 1,
                    Some(Expr::Literal(v, _)) => usize::try_from(as_i64(v)?).ok()?,
                    Some(_) => return None,
                };
                let all = f.params.null_treatment == Some(logical_expr::expr::NullTreatment::IgnoreNulls);
                return (!all).then_some(Reach { rows: offset, range: 0 });
            }
            "first_value" | "last_value" | "nth_value" => {}
            _ => return None,
        }
    }
    let looks_ahead = match &frame.end_bound {
        WindowFrameBound::Following(_) => true,
        WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_) => false,
    };
    match (&frame.start_bound, frame.units) {
        _ if looks_ahead => None,
        (WindowFrameBound::CurrentRow, _) => Some(Reach::default()),
        (WindowFrameBound::Preceding(v), _) if v.is_null() => None,
        (WindowFrameBound::Preceding(v), WindowFrameUnits::Rows) => {
            Some(Reach { rows: usize::try_from(as_i64(v)?).ok()?, range: 0 })
        }
        (WindowFrameBound::Preceding(v), WindowFrameUnits::Range) => {
            Some(Reach { rows: 0, range: duration::of_scalar(v)? })
        }
        _ => None,
    }
}

fn as_i64(v: &ScalarValue) -> Option<i64> {
    match v.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(n) => n,
        _ => None,
    }
}

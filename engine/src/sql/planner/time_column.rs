//! Which columns of a logical plan are times that the engine knows: the event time, and windows and their bounds.

use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use super::windows::WindowCall;
use crate::operators::window::WindowKind;
use crate::sql::catalog::Catalog;

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeColumn {
    /// The event time of its row.
    EventTime,
    /// The window of its row: a struct.
    Window,
    /// The window's start.
    Start,
    /// The window's end, or its last nanosecond.
    End,
}

impl TimeColumn {
    /// Whether rows with this value equal are of one window.
    pub(super) fn is_one_window(self, window: Option<&WindowKind>) -> bool {
        match (self, window) {
            (Self::EventTime, _) | (_, None) => false,
            (Self::Window | Self::End, Some(_)) => true,
            (Self::Start, Some(WindowKind::Aligned(w))) => !w.cumulating,
            (Self::Start, Some(WindowKind::Session(_))) => false,
        }
    }

    /// Whether it grows as the event time does.
    pub(super) fn is_order_of_time(self, window: Option<&WindowKind>) -> bool {
        match (self, window) {
            (Self::EventTime, None) | (Self::End, Some(_)) => true,
            (Self::Window, Some(WindowKind::Aligned(_))) => true,
            (Self::Start, Some(WindowKind::Aligned(w))) => !w.cumulating,
            _ => false,
        }
    }
}

/// What an expression over a plan's columns is.
pub(super) fn time_column(catalog: &Catalog, plan: &LogicalPlan, e: &Expr) -> Option<TimeColumn> {
    match e {
        Expr::Alias(a) => time_column(catalog, plan, &a.expr),
        Expr::Column(c) => of_output(catalog, plan, plan.schema().maybe_index_of_column(c)?),
        Expr::ScalarFunction(f) if f.name() == "get_field" => {
            let [of, Expr::Literal(ScalarValue::Utf8(Some(field)), _)] = f.args.as_slice() else { return None };
            match (time_column(catalog, plan, of)?, field.as_str()) {
                (TimeColumn::Window, "start") => Some(TimeColumn::Start),
                (TimeColumn::Window, "end") => Some(TimeColumn::End),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What a plan's output column is.
fn of_output(catalog: &Catalog, plan: &LogicalPlan, index: usize) -> Option<TimeColumn> {
    let same = |input: &LogicalPlan| of_output(catalog, input, index);
    match plan {
        LogicalPlan::TableScan(scan) => {
            let index = scan.projection.as_ref().map_or(Some(index), |p| p.get(index).copied())?;
            let table = catalog.tables.get(scan.table_name.table())?;
            (table.event_time == Some(index)).then_some(TimeColumn::EventTime)
        }
        LogicalPlan::Projection(p) => time_column(catalog, &p.input, p.expr.get(index)?),
        LogicalPlan::SubqueryAlias(s) => same(&s.input),
        LogicalPlan::Filter(f) => same(&f.input),
        LogicalPlan::Sort(s) => same(&s.input),
        LogicalPlan::Limit(l) => same(&l.input),
        LogicalPlan::Window(w) => (index < w.input.schema().fields().len()).then(|| same(&w.input)).flatten(),
        LogicalPlan::Unnest(u) => {
            let from = u.dependency_indices.get(index)?;
            let opened = u.list_type_columns.iter().any(|(i, _)| i == from) || u.struct_type_columns.contains(from);
            if opened { None } else { of_output(catalog, &u.input, *from) }
        }
        LogicalPlan::Union(u) => {
            let first = same(u.inputs.first()?)?;
            u.inputs.iter().all(|i| same(i) == Some(first)).then_some(first)
        }
        LogicalPlan::Aggregate(a) => {
            let group = a.group_expr.get(index)?;
            if WindowCall::of(group).is_some() {
                return Some(TimeColumn::Window);
            }
            // By another window, or for ever: then windows of the input are values like others.
            if a.group_expr.iter().any(|e| WindowCall::of(e).is_some()) {
                return None;
            }
            time_column(catalog, &a.input, group).filter(|t| *t != TimeColumn::EventTime)
        }
        LogicalPlan::Join(j) => {
            let left = j.left.schema().fields().len();
            let kept = match j.join_type {
                JoinType::Inner => true,
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => index < left,
                JoinType::Right => index >= left,
                _ => false,
            };
            let found = if index < left { same(&j.left) } else { of_output(catalog, &j.right, index - left) };
            found.filter(|t| kept && *t != TimeColumn::EventTime)
        }
        LogicalPlan::Extension(_) => super::window_table::of_output(plan, index),
        _ => None,
    }
}

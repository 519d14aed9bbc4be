//! `JOIN`, and the subqueries that have become joins.

use std::sync::Arc;

use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::{self, LogicalPlan, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::cast;

use super::interval::interval;
use super::{Planner, arrow, as_of, exists, physical, refused_emit};
use crate::error::{Error, Result, SqlError};
use crate::operators::join::condition::{Condition, Residual};
use crate::operators::join::output::Shape;
use crate::operators::join::streaming::{Keep, StreamingJoin};
use crate::operators::join::windowed::WindowedJoin;
use crate::operators::window::WindowKind;
use crate::sql::plan::Plan;
use crate::sql::planner::refuse::refuse_unsupported;

impl Planner<'_> {
    pub(super) fn join(&self, j: &logical_expr::Join) -> Result<Plan> {
        if self.emit_every.get().is_some() {
            return Err(refused_emit());
        }
        if let Some(mark) = as_of::marked(j) {
            return self.as_of(j, mark);
        }
        let (left, right) = (self.convert(&j.left)?, self.convert(&j.right)?);
        let shape = Shape { join_type: j.join_type, schema: arrow(&j.schema) };
        if let Some(table) = self.looked_up(&right) {
            return self.lookup(j, table, left, right, shape);
        }
        let condition = condition(j, &left, &right)?;
        let inputs = [left.schema(), right.schema()];
        if windowed(&left, &right)? {
            return Ok(Plan::of(WindowedJoin::new(condition, shape, inputs)?, vec![left, right]));
        }
        let unconditional = j.filter.as_ref().is_none_or(|f| *f == lit(true));
        let is_subquery = matches!(j.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
        if is_subquery && j.on.is_empty() && unconditional && j.right.max_rows() != Some(1) {
            return self.convert(&exists::of_one_row(j)?);
        }
        let one_row = j.left.max_rows() == Some(1) || j.right.max_rows() == Some(1);
        if j.on.is_empty() && !one_row && is_subquery {
            return Err(refusal(
                "a subquery is bound to its row by no equality",
                "add one to its WHERE, such as b.id = a.id; to compare with all rows, use (SELECT max(...) FROM b)",
            ));
        }
        if j.on.is_empty() && !one_row {
            return Err(refusal(
                "updating joins must include an equality between the two sides",
                "add one to ON, such as ON a.id = b.id, or join the results of equal windows",
            ));
        }
        let updating = [left.properties().updating, right.properties().updating];
        let keep = match self.interval(j).filter(|_| !updating.contains(&true)) {
            Some((lowest, highest)) => Keep::Interval { lowest, highest },
            None => match self.provider.catalog.updating_ttl.0 {
                // The one row of the other side may change all rows at any time, however long ago it came.
                _ if j.on.is_empty() => Keep::Always,
                ttl if ttl > 0 => Keep::Ttl(ttl),
                _ => Keep::Always,
            },
        };
        let join = StreamingJoin::new(condition, shape, inputs, updating, keep)?;
        Ok(Plan::of(join, vec![left, right]))
    }

    /// The bounds that a condition sets on the right event time less the left one, if it sets both.
    fn interval(&self, j: &logical_expr::Join) -> Option<(i64, i64)> {
        let times = [self.event_times(&j.left), self.event_times(&j.right)];
        interval(j, &times).filter(|(lowest, highest)| lowest <= highest)
    }

    /// The columns of a plan that are its rows' event time.
    pub(super) fn event_times(&self, plan: &LogicalPlan) -> Vec<usize> {
        match plan {
            LogicalPlan::SubqueryAlias(s) => self.event_times(&s.input),
            LogicalPlan::Filter(f) => self.event_times(&f.input),
            LogicalPlan::TableScan(scan) => {
                let table = self.provider.catalog.tables.get(scan.table_name.table());
                let Some(time) = table.and_then(|t| t.event_time) else { return Vec::new() };
                match &scan.projection {
                    Some(columns) => columns.iter().position(|c| *c == time).into_iter().collect(),
                    None => vec![time],
                }
            }
            LogicalPlan::Projection(p) => {
                let times = self.event_times(&p.input);
                let is_time = |e: &logical_expr::Expr| match e.clone().unalias() {
                    logical_expr::Expr::Column(c) => {
                        p.input.schema().maybe_index_of_column(&c).is_some_and(|i| times.contains(&i))
                    }
                    _ => false,
                };
                (0..p.expr.len()).filter(|i| p.expr.get(*i).is_some_and(is_time)).collect()
            }
            LogicalPlan::Join(j) if as_of::marked(j).is_some() => self.event_times(&j.left),
            _ => Vec::new(),
        }
    }
}

/// `ON` as the operators take it.
pub(super) fn condition(j: &logical_expr::Join, left: &Plan, right: &Plan) -> Result<Condition> {
    let (mut lefts, mut rights): (Vec<Arc<dyn PhysicalExpr>>, Vec<_>) = (Vec::new(), Vec::new());
    for (l, r) in &j.on {
        refuse_unsupported(l)?;
        refuse_unsupported(r)?;
        let (l, r) = (physical(l, j.left.schema())?, physical(r, j.right.schema())?);
        let wanted = l.data_type(&left.schema())?;
        rights.push(cast(r, &right.schema(), wanted)?);
        lefts.push(l);
    }
    let residual = match &j.filter {
        None => None,
        Some(filter) => {
            refuse_unsupported(filter)?;
            let both: DFSchema = j.left.schema().join(j.right.schema())?;
            Some(Residual::new(physical(filter, &both)?, &left.schema(), &right.schema())?)
        }
    };
    let nulls_equal = j.null_equality == NullEquality::NullEqualsNull;
    Ok(Condition { keys: [lefts, rights], nulls_equal, residual })
}

/// Whether both sides are results of the same windows; false if neither is windowed.
fn windowed(left: &Plan, right: &Plan) -> Result<bool> {
    let (l, r) = (left.properties(), right.properties());
    let name = |window: &Option<WindowKind>| if window.is_some() { "windowed" } else { "non-windowed" };
    match (&l.window, &r.window) {
        (None, None) => Ok(false),
        (Some(WindowKind::Session(_)), _) | (_, Some(WindowKind::Session(_))) => Err(refusal(
            "can't handle session windows in joins",
            "join before the GROUP BY session(...), or use tumble or hop on both sides",
        )),
        (Some(a), Some(b)) if a != b => Err(refusal(
            &format!("can't join different windows: left is {a}, right is {b}"),
            "group both sides by the same window",
        )),
        (Some(_), Some(_)) if l.updating || r.updating => Err(refusal(
            "a windowed join of rows that are taken back again is not supported",
            "join the windows first, then aggregate",
        )),
        (Some(_), Some(_)) => Ok(true),
        (l, r) => Err(refusal(
            &format!("can't handle mixed windowing between left ({}) and right ({})", name(l), name(r)),
            "group both sides by the same window, or neither",
        )),
    }
}

pub(super) fn refusal(message: &str, fix: &str) -> Error {
    Error::Query(SqlError { message: message.into(), fix: Some(fix.into()), ..SqlError::default() })
}

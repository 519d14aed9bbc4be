//! Joins with the version of the other side at a row's time: `JOIN t FOR SYSTEM_TIME AS OF a.ts ON ...` (Flink) and
//! `ASOF JOIN t MATCH_CONDITION (a.ts >= t.ts) ON ...` (Snowflake).
//!
//! DataFusion knows neither, so before it plans a query they become left joins with a mark in ON, a call of [`AS_OF`];
//! the mark names columns of both sides, so that no rule moves it out of the join.

use std::ops::ControlFlow;

use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{self, Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Join, JoinConstraint, JoinOperator, Query, SetExpr, TableFactor, TableVersion, VisitMut,
    VisitorMut,
};

use super::join::{condition, refusal};
use super::{Planner, arrow};
use crate::error::{Error, Result};
use crate::operators::join::as_of::AsOfJoin;
use crate::operators::join::output::Shape;
use crate::sql::functions::AS_OF;
use crate::sql::plan::Plan;

const FLINK: &str = "JOIN t FOR SYSTEM_TIME AS OF a.event_time ON a.key = t.key";
const SNOWFLAKE: &str = "ASOF JOIN t MATCH_CONDITION (a.event_time >= t.event_time) ON a.key = t.key";

/// Marks the as-of joins of a query.
pub(super) fn mark(query: &mut Query) -> Result<()> {
    match query.visit(&mut Marks) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Marks;

impl VisitorMut for Marks {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        match of_body(&mut query.body) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

fn of_body(body: &mut SetExpr) -> Result<()> {
    match body {
        SetExpr::SetOperation { left, right, .. } => of_body(left).and_then(|()| of_body(right)),
        SetExpr::Select(select) => {
            let mut joins = select.from.iter_mut().flat_map(|t| &mut t.joins);
            joins.try_for_each(of_join)
        }
        _ => Ok(()),
    }
}

fn of_join(join: &mut Join) -> Result<()> {
    let version = match &mut join.relation {
        TableFactor::Table { version, .. } => version.take(),
        _ => None,
    };
    let (time, other, inner, on) = match (version, &join.join_operator) {
        (None, JoinOperator::AsOf { match_condition, constraint }) => {
            let (time, other) = matched(match_condition)?;
            (time, Some(other), false, constraint.clone())
        }
        (None, _) => return Ok(()),
        (Some(TableVersion::ForSystemTimeAsOf(time)), operator) => match operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) => (time, None, true, on.clone()),
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (time, None, false, on.clone()),
            _ => {
                return Err(refusal(
                    "FOR SYSTEM_TIME AS OF is for inner and left joins",
                    &format!("write JOIN or LEFT JOIN: {FLINK}"),
                ));
            }
        },
        (Some(_), _) => {
            return Err(refusal("a version of a table is named by FOR SYSTEM_TIME AS OF", &format!("write {FLINK}")));
        }
    };
    let JoinConstraint::On(on) = on else {
        return Err(refusal("an as-of join needs ON with an equality", &format!("write {FLINK}, or {SNOWFLAKE}")));
    };
    let inner = ast::Expr::Value(ast::Value::Boolean(inner).into());
    let mark = call(AS_OF, vec![time, inner, other.unwrap_or_else(|| on.clone())]);
    let both = ast::Expr::BinaryOp {
        left: Box::new(ast::Expr::Nested(Box::new(on))),
        op: BinaryOperator::And,
        right: Box::new(mark),
    };
    join.join_operator = JoinOperator::LeftOuter(JoinConstraint::On(both));
    Ok(())
}

/// The times of `MATCH_CONDITION`, the left side's first.
fn matched(condition: &ast::Expr) -> Result<(ast::Expr, ast::Expr)> {
    match condition {
        ast::Expr::Nested(inner) => matched(inner),
        ast::Expr::BinaryOp { left, op: BinaryOperator::GtEq, right } => Ok((*left.clone(), *right.clone())),
        ast::Expr::BinaryOp { left, op: BinaryOperator::LtEq, right } => Ok((*right.clone(), *left.clone())),
        other => Err(refusal(
            &format!("MATCH_CONDITION ({other}) is none that a pipeline can hold"),
            &format!("compare the event times by >=: {SNOWFLAKE}"),
        )),
    }
}

fn call(name: &str, arguments: Vec<ast::Expr>) -> ast::Expr {
    let argument = |e| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e));
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// The mark of a join, if it has one: its arguments.
pub(super) fn marked(j: &logical_expr::Join) -> Option<&[Expr]> {
    split_conjunction(j.filter.as_ref()?).into_iter().find_map(mark_of)
}

fn mark_of(e: &Expr) -> Option<&[Expr]> {
    match e {
        Expr::ScalarFunction(f) if f.name() == AS_OF => Some(&f.args),
        _ => None,
    }
}

impl Planner<'_> {
    /// A marked join.
    pub(super) fn as_of(&self, j: &logical_expr::Join, mark: &[Expr]) -> Result<Plan> {
        let [time, inner, other] = mark else {
            return Err(Error::Bug("the mark of an as-of join has other arguments".into()));
        };
        let inner = matches!(inner, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
        self.is_event_time(time, &j.left, "left")?;
        if matches!(other, Expr::Column(_)) {
            self.is_event_time(other, &j.right, "right")?;
        }
        let rest = j.filter.as_ref().map(|f| split_conjunction(f)).unwrap_or_default();
        if let Some(more) = rest.into_iter().find(|e| mark_of(e).is_none()) {
            return Err(refusal(
                &format!("an as-of join takes equalities in ON, and this is none: {more}"),
                "put other conditions in WHERE: they hold of the rows that the join gives",
            ));
        }
        if j.on.is_empty() {
            return Err(refusal(
                "an as-of join must include an equality between the two sides",
                &format!("write {FLINK}"),
            ));
        }
        let (left, right) = (self.convert(&j.left)?, self.convert(&j.right)?);
        if self.looked_up(&right).is_some() {
            return Err(refusal(
                "a lookup table has no versions",
                "join it without FOR SYSTEM_TIME AS OF, or declare it without TEMPORARY and read it as a stream",
            ));
        }
        if left.properties().updating || right.properties().updating {
            return Err(refusal(
                "an as-of join of rows that are taken back again is not supported",
                "join the streams first, then aggregate; each row of the right side is a version of its key",
            ));
        }
        let equalities = logical_expr::Join { filter: None, ..j.clone() };
        let condition = condition(&equalities, &left, &right)?;
        let inputs = [left.schema(), right.schema()];
        let shape = Shape { join_type: j.join_type, schema: arrow(&j.schema) };
        Ok(Plan::of(AsOfJoin::new(condition, shape, inputs, inner)?, vec![left, right]))
    }

    fn is_event_time(&self, e: &Expr, plan: &LogicalPlan, side: &str) -> Result<()> {
        let mut e = e;
        while let Expr::Cast(logical_expr::Cast { expr, .. }) = e {
            e = expr;
        }
        let times = self.event_times(plan);
        let place = match e {
            Expr::Column(c) => plan.schema().maybe_index_of_column(c),
            _ => None,
        };
        match place.is_some_and(|i| times.contains(&i)) {
            true => Ok(()),
            false => Err(refusal(
                &format!("'{e}' is not the event time of the {side} side, by which an as-of join finds versions"),
                "use the column of its WATERMARK FOR",
            )),
        }
    }
}

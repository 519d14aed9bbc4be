//! Subqueries whose answer is a value: in `OR`, in `CASE`, in the list of a `SELECT` or of a `GROUP BY`, under `NOT IN`.
//!
//! Each becomes a mark join: a column that says whether the row has a partner. `IN` may also be unknown:
//!
//! ```text
//! x IN (SELECT y FROM s)  =  true     if some y equals x
//!                            unknown  else, if some y is null, or x is null and s has rows
//!                            false    else
//! ```
//!
//! What stands alone in `WHERE`, or beside others under `AND`, stays: DataFusion makes semi and anti joins of it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue, Spans, plan_err};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    self, Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, lit, not,
    when,
};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Makes joins of the subqueries of a plan whose answers are values. Types are coerced already.
pub(super) fn joined(plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(|plan| of_node(plan, config))?.data)
}

fn of_node(plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
    let has_subquery = plan.expressions().iter().any(is_within);
    match plan {
        LogicalPlan::Filter(f) if has_subquery => of_filter(f, config).map(Transformed::yes),
        LogicalPlan::Projection(p) if has_subquery => {
            let mut marks = Marks { input: p.input.as_ref().clone(), config };
            let expressions = p.expr.iter().map(|e| marks.named(e)).collect::<DfResult<Vec<_>>>()?;
            let plan = Projection::try_new_with_schema(expressions, Arc::new(marks.input), p.schema)?;
            Ok(Transformed::yes(LogicalPlan::Projection(plan)))
        }
        LogicalPlan::Aggregate(a) if has_subquery || a.aggr_expr.iter().chain(&a.group_expr).any(has_scalar) => {
            let mut marks = Marks { input: a.input.as_ref().clone(), config };
            let keys = a.group_expr.iter().map(|e| marks.named(e)).collect::<DfResult<Vec<_>>>()?;
            let functions = a.aggr_expr.iter().map(|e| marks.named(e)).collect::<DfResult<Vec<_>>>()?;
            let (keys, functions) = marks.scalars_below(keys, functions)?;
            let plan = Aggregate::try_new_with_schema(Arc::new(marks.input), keys, functions, a.schema)?;
            Ok(Transformed::yes(LogicalPlan::Aggregate(plan)))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn of_filter(f: logical_expr::Filter, config: &dyn OptimizerConfig) -> DfResult<LogicalPlan> {
    let columns = f.input.schema().columns();
    let mut marks = Marks { input: f.input.as_ref().clone(), config };
    let mut conditions = Vec::new();
    for e in split_conjunction_owned(f.predicate) {
        let e = in_place_of_any(e)?;
        let alone = stands_alone(&e, marks.input.schema())?;
        conditions.push(if alone || !is_within(&e) { e } else { marks.value(e, true)? });
    }
    let width = marks.input.schema().fields().len();
    let mut plan = LogicalPlanBuilder::from(marks.input);
    if let Some(predicate) = conjunction(conditions) {
        plan = plan.filter(predicate)?;
    }
    if width > columns.len() {
        plan = plan.project(columns.into_iter().map(Expr::Column))?;
    }
    plan.build()
}

/// Whether an expression holds a subquery that is no single value.
fn is_within(e: &Expr) -> bool {
    let is_subquery = |e: &Expr| matches!(e, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
    e.exists(|e| Ok(is_subquery(e))).unwrap_or(false)
}

fn has_scalar(e: &Expr) -> bool {
    e.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_)))).unwrap_or(false)
}

/// Whether a condition is a semi or an anti join as it is. `NOT IN` is one only where nothing can be null.
fn stands_alone(e: &Expr, input: &DFSchema) -> DfResult<bool> {
    match e {
        Expr::Not(e) => match e.as_ref() {
            Expr::InSubquery(i) => Ok(i.negated || !may_be_unknown(i, input)?),
            Expr::Exists(_) => Ok(true),
            _ => Ok(false),
        },
        Expr::InSubquery(i) => Ok(!i.negated || !may_be_unknown(i, input)?),
        Expr::Exists(_) => Ok(true),
        _ => Ok(false),
    }
}

fn may_be_unknown(i: &InSubquery, input: &DFSchema) -> DfResult<bool> {
    Ok(i.expr.nullable(input)? || answer_of(&i.subquery)?.1)
}

/// The column of a subquery, and whether it may be null.
fn answer_of(subquery: &Subquery) -> DfResult<(Expr, bool)> {
    let schema = subquery.subquery.schema();
    if schema.fields().len() != 1 {
        return plan_err!("a subquery whose answer is a value must have one column, not {}", schema.fields().len());
    }
    Ok((Expr::Column(Column::from(schema.qualified_field(0))), schema.field(0).is_nullable()))
}

/// The rows of a node, with the marks that its expressions read.
struct Marks<'a> {
    input: LogicalPlan,
    config: &'a dyn OptimizerConfig,
}

impl Marks<'_> {
    /// An expression of a `SELECT` or `GROUP BY`, under the name that it had.
    fn named(&mut self, e: &Expr) -> DfResult<Expr> {
        if !is_within(e) && !has_scalar(e) {
            return Ok(e.clone());
        }
        let name = e.schema_name().to_string();
        Ok(self.value(e.clone().unalias(), false)?.alias(name))
    }

    /// Computes the scalar subqueries of an aggregate's keys and functions below it: DataFusion joins those of a `SELECT` list.
    fn scalars_below(&mut self, keys: Vec<Expr>, functions: Vec<Expr>) -> DfResult<(Vec<Expr>, Vec<Expr>)> {
        let mut columns: Vec<Expr> = self.input.schema().columns().into_iter().map(Expr::Column).collect();
        let width = columns.len();
        let config = self.config;
        let mut below = |e: Expr| {
            let e = e.transform(|e| match e {
                Expr::ScalarSubquery(_) => {
                    let name = config.alias_generator().next("__scalar");
                    columns.push(e.alias(name.clone()));
                    Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
                }
                other => Ok(Transformed::no(other)),
            });
            e.map(|e| e.data)
        };
        let keys = keys.into_iter().map(&mut below).collect::<DfResult<Vec<_>>>()?;
        let functions = functions.into_iter().map(&mut below).collect::<DfResult<Vec<_>>>()?;
        if columns.len() > width {
            self.input = LogicalPlanBuilder::from(self.input.clone()).project(columns)?.build()?;
        }
        Ok((keys, functions))
    }

    /// The expression with marks in place of its subqueries. `where_true`: it makes no difference whether it is false or
    /// unknown.
    fn value(&mut self, e: Expr, where_true: bool) -> DfResult<Expr> {
        match in_place_of_any(e)? {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let (left, right) = (self.value(*left, where_true)?, self.value(*right, where_true)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }))
            }
            Expr::Not(e) => match *e {
                Expr::InSubquery(i) => self.is_in(InSubquery { negated: !i.negated, ..i }, where_true),
                other => Ok(not(self.value(other, false)?)),
            },
            Expr::Exists(e) => {
                let mark = self.mark(Expr::Exists(Exists { negated: false, ..e.clone() }))?;
                Ok(if e.negated { not(mark) } else { mark })
            }
            Expr::InSubquery(i) => self.is_in(i, where_true),
            other => Ok(other.map_children(|e| self.value(e, false).map(Transformed::yes))?.data),
        }
    }

    fn is_in(&mut self, i: InSubquery, where_true: bool) -> DfResult<Expr> {
        let i = InSubquery { subquery: qualified(i.subquery)?, ..i };
        let found = self.mark(Expr::InSubquery(InSubquery { negated: false, ..i.clone() }))?;
        let (y, y_may_be_null) = answer_of(&i.subquery)?;
        let x_may_be_null = i.expr.nullable(self.input.schema())?;
        if (where_true && !i.negated) || !(x_may_be_null || y_may_be_null) {
            return Ok(if i.negated { not(found) } else { found });
        }
        let mut unknown = lit(false);
        if y_may_be_null {
            let nulls = LogicalPlanBuilder::from(i.subquery.subquery.clone()).filter(y.is_null())?.build()?;
            unknown = self.mark(exists(&i.subquery, nulls))?;
        }
        if x_may_be_null {
            let any = self.mark(exists(&i.subquery, i.subquery.subquery.as_ref().clone()))?;
            unknown = unknown.or(i.expr.is_null().and(any));
        }
        if where_true {
            return Ok(not(found).and(not(unknown)));
        }
        let mut answer = when(found, lit(!i.negated)).when(unknown, lit(ScalarValue::Boolean(None)));
        answer.otherwise(lit(i.negated))
    }

    /// Joins the rows with a subquery; the column that says whether a row has a partner.
    fn mark(&mut self, subquery: Expr) -> DfResult<Expr> {
        // The rule makes a column of what is not the whole of a condition.
        let filter = logical_expr::Filter::try_new(subquery.is_true(), Arc::new(self.input.clone()))?;
        let plan = DecorrelatePredicateSubquery::new().rewrite(LogicalPlan::Filter(filter), self.config)?.data;
        let filter = match plan {
            LogicalPlan::Projection(p) => p.input.as_ref().clone(),
            other => other,
        };
        if let LogicalPlan::Filter(f) = filter
            && let Expr::IsTrue(mark) = f.predicate
            && matches!(*mark, Expr::Column(_))
        {
            self.input = f.input.as_ref().clone();
            return Ok(*mark);
        }
        plan_err!("this subquery cannot be made a join")
    }
}

/// The subquery with a qualified column: the rule would take an unqualified one, such as `max(v)`, twice.
fn qualified(subquery: Subquery) -> DfResult<Subquery> {
    let (y, _) = answer_of(&subquery)?;
    if matches!(&y, Expr::Column(c) if c.relation.is_some()) {
        return Ok(subquery);
    }
    let plan =
        LogicalPlanBuilder::from(subquery.subquery.clone()).project([y.alias_qualified(Some("__in"), "value")])?;
    Ok(Subquery { subquery: Arc::new(plan.build()?), ..subquery })
}

fn exists(of: &Subquery, plan: LogicalPlan) -> Expr {
    let subquery =
        Subquery { subquery: Arc::new(plan), outer_ref_columns: of.outer_ref_columns.clone(), spans: of.spans.clone() };
    Expr::Exists(Exists { subquery, negated: false })
}

/// `= ANY` is `IN`, `<> ALL` is `NOT IN`; the other comparisons are with the least or the greatest:
///
/// ```text
/// x > ANY (SELECT y FROM s)  =  x > min(y), else unknown if some y is null, else false if it is unknown for want of rows
/// x > ALL (SELECT y FROM s)  =  true if s has no rows; x > max(y), but unknown instead of true if some y is null
/// ```
fn in_place_of_any(e: Expr) -> DfResult<Expr> {
    let Expr::SetComparison(c) = e else { return Ok(e) };
    let SetComparison { expr, subquery, op, quantifier } = c;
    let any = quantifier == SetQuantifier::Any;
    let least = match (op, any) {
        (Operator::Eq, true) | (Operator::NotEq, false) => {
            return Ok(Expr::InSubquery(InSubquery { expr, subquery, negated: !any }));
        }
        (Operator::Gt | Operator::GtEq, _) => any,
        (Operator::Lt | Operator::LtEq, _) => !any,
        (op, _) => return plan_err!("{op} {} of a subquery has no meaning as a join", if any { "ANY" } else { "ALL" }),
    };
    let (y, _) = answer_of(&subquery)?;
    let one = |e: Expr| -> DfResult<Expr> {
        let plan = LogicalPlanBuilder::from(subquery.subquery.clone()).aggregate(Vec::<Expr>::new(), [e])?.build()?;
        Ok(Expr::ScalarSubquery(Subquery {
            subquery: Arc::new(plan),
            outer_ref_columns: subquery.outer_ref_columns.clone(),
            spans: Spans::new(),
        }))
    };
    let bound = one(if least { min(y.clone()) } else { max(y.clone()) })?;
    let holds = Expr::BinaryExpr(BinaryExpr { left: expr, op, right: Box::new(bound) });
    let rows = || one(count(lit(1)));
    let null = lit(ScalarValue::Boolean(None));
    let no_null = rows()?.eq(one(count(y))?);
    if any {
        when(holds.clone().is_true(), lit(true))
            .when(rows()?.eq(lit(0_i64)), lit(false))
            .when(no_null, holds)
            .otherwise(null)
    } else {
        when(rows()?.eq(lit(0_i64)), lit(true)).when(holds.clone().is_true().and(not(no_null)), null).otherwise(holds)
    }
}

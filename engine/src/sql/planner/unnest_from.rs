//! `FROM t CROSS JOIN UNNEST(t.list) AS u (item)`: a join with a query over nothing but the columns of the other side is that
//! query over the other side.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinType, Result as DfResult, TableReference};
use datafusion::functions_nested::expr_fn::{cardinality, make_array};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Unnest, lit, when};
use datafusion::scalar::ScalarValue;

/// Puts the other side of such joins in the place of nothing.
pub(super) fn over_its_rows(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let grafted = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(j) => match joined(&j)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(LogicalPlan::Join(j))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(grafted.data)
}

fn joined(j: &Join) -> DfResult<Option<LogicalPlan>> {
    let always = j.filter.as_ref().is_none_or(|f| *f == lit(true));
    let keeps = match j.join_type {
        JoinType::Inner => false,
        JoinType::Left if always => true,
        _ => return Ok(None),
    };
    let (subquery, alias) = match j.right.as_ref() {
        LogicalPlan::Subquery(s) => (s, None),
        LogicalPlan::SubqueryAlias(a) => match a.input.as_ref() {
            LogicalPlan::Subquery(s) => (s, Some(&a.alias)),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let left = Left { plan: &j.left, columns: j.left.schema().columns(), keeps };
    let Some(mut plan) = left.under(&subquery.subquery)? else { return Ok(None) };
    if let Some(alias) = alias {
        plan = left.named(plan, alias)?;
    }
    let conditions = j.on.iter().map(|(l, r)| l.clone().eq(r.clone())).chain(j.filter.clone().filter(|_| !always));
    match conditions.reduce(Expr::and) {
        Some(condition) => LogicalPlanBuilder::from(plan).filter(condition)?.build().map(Some),
        None => Ok(Some(plan)),
    }
}

/// The other side of such a join.
struct Left<'a> {
    plan: &'a LogicalPlan,
    columns: Vec<Column>,
    /// Whether a row with an empty list stays.
    keeps: bool,
}

impl Left<'_> {
    /// `plan` over these rows, whose columns come first; `None` if it reads something else.
    fn under(&self, plan: &LogicalPlan) -> DfResult<Option<LogicalPlan>> {
        match plan {
            LogicalPlan::EmptyRelation(e) if e.produce_one_row => Ok(Some(self.plan.clone())),
            LogicalPlan::Projection(p) => {
                let Some(input) = self.under(&p.input)? else { return Ok(None) };
                let names = NamePreserver::new(plan);
                let own = p.expr.iter().map(|e| {
                    let name = names.save(e);
                    Ok(name.restore(inner(e.clone())?))
                });
                let own = own.collect::<DfResult<Vec<_>>>()?;
                LogicalPlanBuilder::from(input).project(self.first().chain(own))?.build().map(Some)
            }
            LogicalPlan::Filter(f) => match self.under(&f.input)? {
                Some(input) => LogicalPlanBuilder::from(input).filter(inner(f.predicate.clone())?)?.build().map(Some),
                None => Ok(None),
            },
            LogicalPlan::SubqueryAlias(a) => match self.under(&a.input)? {
                Some(input) => self.named(input, &a.alias).map(Some),
                None => Ok(None),
            },
            LogicalPlan::Unnest(u) => {
                let Some(mut input) = self.under(&u.input)? else { return Ok(None) };
                if self.keeps {
                    input = with_an_item(input, &u.exec_columns)?;
                }
                let unnest = Unnest::try_new(Arc::new(input), u.exec_columns.clone(), u.options.clone())?;
                Ok(Some(LogicalPlan::Unnest(unnest)))
            }
            _ => Ok(None),
        }
    }

    fn first(&self) -> impl Iterator<Item = Expr> {
        self.columns.iter().cloned().map(Expr::Column)
    }

    /// The columns after these under the name of a table.
    fn named(&self, plan: LogicalPlan, alias: &TableReference) -> DfResult<LogicalPlan> {
        let own = plan.schema().columns().into_iter().skip(self.columns.len()).map(|c| {
            let name = c.name.clone();
            Expr::Column(c).alias_qualified(Some(alias.clone()), name)
        });
        let all: Vec<Expr> = self.first().chain(own).collect();
        LogicalPlanBuilder::from(plan).project(all)?.build()
    }
}

/// An expression whose outer row is now its own.
fn inner(e: Expr) -> DfResult<Expr> {
    let e = e.transform(|e| match e {
        Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(e.data)
}

/// Lists that are empty or null hold one null.
fn with_an_item(plan: LogicalPlan, lists: &[Column]) -> DfResult<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(|column| {
        let list = Expr::Column(column.clone());
        let (_, field) = plan.schema().qualified_field_from_column(&column)?;
        let (true, DataType::List(item)) = (lists.contains(&column), field.data_type()) else { return Ok(list) };
        let one = make_array(vec![lit(ScalarValue::try_from(item.data_type())?)]);
        let list = when(cardinality(list.clone()).gt(lit(0_u64)), list).otherwise(one)?;
        Ok(list.alias_qualified(column.relation, column.name))
    });
    let columns = columns.collect::<DfResult<Vec<_>>>()?;
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

//! Joins with lookup tables.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, Join};

use super::Planner;
use super::join::{condition, refusal};
use crate::error::Result;
use crate::operators::join::lookup::{Lookup, LookupJoin};
use crate::operators::join::output::Shape;
use crate::operators::spec::{Place, Spec};
use crate::sql::catalog::Table;
use crate::sql::plan::Plan;

impl Planner<'_> {
    /// The lookup table that a plan does no more than select from and filter.
    pub(super) fn looked_up(&self, plan: &Plan) -> Option<&Table> {
        match plan {
            Plan::Scan { table, .. } => self.provider.catalog.tables.get(table).filter(|t| t.lookup.is_some()),
            Plan::Operator { spec, inputs } => match inputs.as_slice() {
                [input] if spec.place() == Place::Worker && spec.first_half().is_none() => self.looked_up(input),
                _ => None,
            },
        }
    }

    /// A join whose right side is a lookup table.
    pub(super) fn lookup(&self, j: &Join, table: &Table, left: Plan, right: Plan, shape: Shape) -> Result<Plan> {
        let is_subquery = matches!(j.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
        if !is_subquery && !matches!(j.join_type, JoinType::Inner | JoinType::Left) {
            return Err(refusal(
                &format!("{} join is not supported for lookup tables", shape.join_type),
                "use an inner or a left join with the lookup table on the right",
            ));
        }
        if left.properties().updating && table.lookup.as_ref().is_some_and(|l| l.ttl.is_some()) {
            return Err(refusal(
                &format!(
                    "lookup table '{}' reloads (lookup.cache.ttl), so rows that change cannot be joined with it: what was given \
                     could not be taken back",
                    table.name
                ),
                "leave lookup.cache.ttl out, or join before the aggregate",
            ));
        }
        let primary: Vec<&str> =
            table.primary_key.iter().filter_map(|i| table.schema.fields().get(*i)).map(|f| f.name().as_str()).collect();
        let mut named = Vec::new();
        for (_, right) in &j.on {
            let column = without_casts(right);
            match primary.iter().find(|k| matches!(column, Expr::Column(c) if c.name == **k)) {
                Some(key) => named.push(*key),
                None => {
                    return Err(refusal(
                        &format!(
                            "the right-side of a look-up join condition must be a PRIMARY KEY column, but '{column}' is not"
                        ),
                        &format!(
                            "join on {}",
                            if primary.is_empty() { "a column declared PRIMARY KEY" } else { "the key" }
                        ),
                    ));
                }
            }
        }
        // Whether it has rows at all, or nulls, is asked without a key.
        if named.is_empty() && !is_subquery {
            return Err(refusal(
                "a look-up join must include an equality with the PRIMARY KEY of the lookup table",
                "add it to ON, such as ON e.id = d.id",
            ));
        }
        let condition = condition(j, &left, &right)?;
        let key_types = condition.key_types(&left.schema())?;
        let inputs = [left.schema(), right.schema()];
        let (columns, mut steps) = steps(&right);
        steps.reverse();
        let join = LookupJoin {
            lookup: Lookup::new(table.name.clone()),
            columns,
            steps,
            condition: Arc::new(condition),
            shape,
            inputs,
            unique: primary.iter().all(|k| named.contains(k)),
            key_types,
        };
        Ok(left.over(join))
    }

    /// Refuses lookup tables that no join has taken.
    pub(super) fn refuse_lookups(&self, plan: &Plan) -> Result<()> {
        let lookup = |name: &String| self.provider.catalog.tables.get(name).is_some_and(|t| t.lookup.is_some());
        match plan.sources().iter().find(|name| lookup(name)) {
            None => Ok(()),
            Some(name) => Err(refusal(
                &format!("lookup sources must be on the right side of an inner or left join, but '{name}' is not"),
                "write FROM stream JOIN lookup ON stream.x = lookup.key, or declare it without TEMPORARY",
            )),
        }
    }
}

fn without_casts(e: &Expr) -> &Expr {
    match e {
        Expr::Cast(c) => without_casts(&c.expr),
        other => other,
    }
}

/// The columns read, and what is done to them, last first.
fn steps(plan: &Plan) -> (Vec<usize>, Vec<Arc<dyn Spec>>) {
    match plan {
        Plan::Scan { columns, .. } => (columns.clone(), Vec::new()),
        Plan::Operator { spec, inputs } => {
            let (columns, below) = inputs.first().map(steps).unwrap_or_default();
            (columns, [vec![spec.clone()], below].concat())
        }
    }
}

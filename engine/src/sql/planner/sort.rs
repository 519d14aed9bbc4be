//! `ORDER BY` and `LIMIT`, on inputs that end.

use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{self, FetchType, LogicalPlan, SkipType};
use datafusion::physical_expr::create_physical_sort_exprs;

use super::Planner;
use crate::error::{Error, Result, SqlError};
use crate::operators::limit::Limit;
use crate::operators::sort::Sort;
use crate::sql::plan::Plan;
use crate::sql::planner::refuse::refuse_unsupported;

impl Planner<'_> {
    pub(super) fn sort(&self, s: &logical_expr::Sort) -> Result<Plan> {
        let input = self.convert(&s.input)?;
        self.sorted(s, input, 0, s.fetch.unwrap_or(usize::MAX))
    }

    pub(super) fn limit(&self, l: &logical_expr::Limit) -> Result<Plan> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (l.get_skip_type()?, l.get_fetch_type()?) else {
            return Err(Error::Query(SqlError {
                message: "LIMIT and OFFSET take whole numbers".into(),
                fix: Some("write the number, such as LIMIT 10".into()),
                ..SqlError::default()
            }));
        };
        let end = fetch.map_or(usize::MAX, |n| skip.saturating_add(n));
        if let LogicalPlan::Sort(s) = l.input.as_ref() {
            let input = self.convert(&s.input)?;
            return self.sorted(s, input, skip, end);
        }
        let input = self.convert(&l.input)?;
        self.refuse_endless(&input, "LIMIT", "row_number() OVER (PARTITION BY ... ORDER BY ...) <= n")?;
        let schema = input.schema();
        if input.properties().updating {
            return Ok(input.over(Sort { order: Vec::new(), places: skip..end, updating: true, schema }));
        }
        Ok(input.over(Limit { skip, fetch: end - skip, schema }))
    }

    fn sorted(&self, s: &logical_expr::Sort, input: Plan, skip: usize, end: usize) -> Result<Plan> {
        self.refuse_endless(&input, "ORDER BY", "row_number() OVER (PARTITION BY window ORDER BY ...)")?;
        for e in &s.expr {
            refuse_unsupported(&e.expr)?;
        }
        let (properties, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let order = create_physical_sort_exprs(&s.expr, s.input.schema(), &properties, &context)?;
        let (updating, schema) = (input.properties().updating, input.schema());
        Ok(input.over(Sort { order, places: skip..end, updating, schema }))
    }

    fn refuse_endless(&self, input: &Plan, what: &str, instead: &str) -> Result<()> {
        let tables = &self.provider.catalog.tables;
        let endless = input.sources().into_iter().find(|s| tables.get(s).is_none_or(|t| !t.connector.is_bounded()));
        let Some(source) = endless else { return Ok(()) };
        Err(Error::Query(SqlError {
            message: format!("{what} needs an input that ends, and '{source}' does not"),
            fix: Some(format!("write it in the query that reads the table, or rank rows as they come: {instead}")),
            ..SqlError::default()
        }))
    }
}

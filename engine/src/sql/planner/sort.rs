//! `ORDER BY` and `LIMIT`, on inputs that end.

use datafusion::logical_expr;

use super::Planner;
use super::refuse::not_yet;
use crate::error::Result;
use crate::sql::plan::Plan;

impl Planner<'_> {
    pub(super) fn sort(&self, _sort: &logical_expr::Sort) -> Result<Plan> {
        Err(not_yet("ORDER BY", "sort in the query that reads the table"))
    }

    pub(super) fn limit(&self, _limit: &logical_expr::Limit) -> Result<Plan> {
        Err(not_yet("LIMIT", "limit in the query that reads the table"))
    }
}

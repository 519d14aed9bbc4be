//! `unnest`.

use datafusion::logical_expr;

use super::Planner;
use super::refuse::not_yet;
use crate::error::Result;
use crate::sql::plan::Plan;

impl Planner<'_> {
    pub(super) fn unnest(&self, _unnest: &logical_expr::Unnest) -> Result<Plan> {
        Err(not_yet("unnest", "unnest in the query that reads the table"))
    }
}

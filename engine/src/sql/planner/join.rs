//! `JOIN`.

use datafusion::logical_expr;

use super::Planner;
use super::refuse::not_yet;
use crate::error::Result;
use crate::sql::plan::Plan;

impl Planner<'_> {
    pub(super) fn join(&self, _join: &logical_expr::Join) -> Result<Plan> {
        Err(not_yet("a join", "join in a rollup or in a query over the tables"))
    }
}

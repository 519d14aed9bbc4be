//! `OVER`.

use datafusion::logical_expr;

use super::Planner;
use super::refuse::not_yet;
use crate::error::Result;
use crate::sql::plan::Plan;

impl Planner<'_> {
    pub(super) fn over(&self, _over: &logical_expr::Window) -> Result<Plan> {
        Err(not_yet("an OVER function", "compute it in a query over the table"))
    }
}

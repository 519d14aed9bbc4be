//! `GROUP BY` without a window: results that change as rows come.

use datafusion::logical_expr;

use super::Planner;
use crate::error::{Error, Result, SqlError};
use crate::sql::plan::Plan;

impl Planner<'_> {
    pub(super) fn updating_aggregate(&self, _a: &logical_expr::Aggregate, _input: Plan) -> Result<Plan> {
        Err(Error::Query(SqlError {
            message: "GROUP BY without a window is not supported in a pipeline yet".into(),
            fix: Some(
                "add tumble(INTERVAL '1 minute'), hop(...) or session(...) to the GROUP BY, or write it as a rollup"
                    .into(),
            ),
            ..SqlError::default()
        }))
    }
}

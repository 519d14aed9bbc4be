//! `GROUP BY` without a window: results that change as rows come. `DISTINCT`.

use std::sync::Arc;

use datafusion::logical_expr::{self, Expr};

use super::aggregate::aggregation;
use super::refuse::not_yet;
use super::{Planner, arrow};
use crate::error::Result;
use crate::operators::distinct::Distinct;
use crate::operators::updating::UpdatingAggregate;
use crate::sql::plan::Plan;

impl Planner<'_> {
    pub(super) fn updating_aggregate(&self, a: &logical_expr::Aggregate, input: Plan) -> Result<Plan> {
        if a.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            let fix = "write one query for each grouping and put UNION ALL between them";
            return Err(not_yet("GROUPING SETS, CUBE or ROLLUP", fix));
        }
        let (schema, ttl) = (arrow(&a.schema), self.provider.catalog.updating_ttl.0);
        let aggregation = aggregation(a, None)?;
        let updating = input.properties().updating;
        if aggregation.aggregates.is_empty() && !updating {
            return Ok(input.over(Distinct { expressions: aggregation.groups, schema, ttl }));
        }
        let spec = UpdatingAggregate::new(Arc::new(aggregation), input.schema(), schema, ttl, updating)?;
        Ok(input.over(spec))
    }
}

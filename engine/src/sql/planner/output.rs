//! A query's columns to a sink's.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, cast, lit};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result, SqlError};
use crate::operators::project::Project;
use crate::sql::plan::Plan;

/// Rows cast to a sink's columns, by position.
pub fn cast_to(plan: Plan, sink: &str, wanted: &SchemaRef) -> Result<Plan> {
    let have = plan.schema();
    if have.fields().len() != wanted.fields().len() {
        let message =
            format!("the query has {} columns but table '{sink}' has {}", have.fields().len(), wanted.fields().len());
        let columns = wanted.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::Query(SqlError {
            message,
            fix: Some(format!("select exactly: {columns}")),
            ..SqlError::default()
        }));
    }
    if have.fields().iter().zip(wanted.fields()).all(|(h, w)| h.name() == w.name() && h.data_type() == w.data_type()) {
        return Ok(plan);
    }
    let mut expressions = Vec::with_capacity(wanted.fields().len());
    for (i, (h, w)) in have.fields().iter().zip(wanted.fields()).enumerate() {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(h.name(), i));
        let e = cast(column, &have, w.data_type().clone()).map_err(|_| {
            Error::sql(format!(
                "column {} of the query has type {}, which does not cast to {} of '{sink}.{}'",
                i + 1,
                h.data_type(),
                w.data_type(),
                w.name()
            ))
        })?;
        expressions.push(e);
    }
    Ok(plan.over(Project { expressions, schema: wanted.clone() }))
}

/// Names the columns of an `INSERT INTO t (a, b)`: the rest of the sink's columns are null.
pub fn reorder(plan: Plan, columns: &[String], wanted: &SchemaRef) -> Result<Plan> {
    let have = plan.schema();
    let mut expressions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for field in wanted.fields() {
        match columns.iter().position(|c| c == field.name()) {
            Some(i) => {
                let name = have.fields().get(i).map(|f| f.name().clone()).unwrap_or_default();
                let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&name, i));
                expressions.push(cast(column, &have, field.data_type().clone())?);
            }
            None => {
                let null = ScalarValue::try_from(field.data_type())?;
                expressions.push(lit(null));
            }
        }
    }
    Ok(plan.over(Project { expressions, schema: wanted.clone() }))
}

//! Memory tables: `CREATE TABLE m (columns);`, filled by one `INSERT INTO`, read by the statements after it. A name for a
//! stream: whoever reads it reads the query that was inserted, cast to its columns.

use arrow::datatypes::SchemaRef;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};

use super::parse::{CreateTable, Place, Source, place_of_name};
use crate::error::{Error, Result, SqlError};

/// Whether a statement declares one: columns, and nothing else.
pub fn is_one(table: &CreateTable) -> bool {
    table.options.is_empty() && table.query.is_none() && !table.columns.is_empty()
}

/// Refuses what a memory table cannot have.
pub fn check(source: Source<'_>, place: Place, table: &CreateTable) -> Result<()> {
    let fix = Some("compute it in the query that is inserted".to_string());
    if let Some(c) = table.columns.iter().find(|c| c.generated.is_some() || c.metadata.is_some()) {
        let message = format!("column '{}' of memory table '{}' cannot be generated", c.name.value, table.name);
        return Err(source.error(place_of_name(&c.name), message, fix));
    }
    if table.watermark.is_some() || !table.partitioned_by.is_empty() {
        let message = format!("memory table '{}' has the event times of the rows inserted", table.name);
        let fix = "drop WATERMARK FOR and PARTITIONED BY, or add WITH (connector = ...)".to_string();
        return Err(source.error(Some(place), message, Some(fix)));
    }
    Ok(())
}

/// The inserted rows in the columns of the table; `named`: the columns of `INSERT INTO m (a, b)`, if given.
pub fn fill(name: &str, wanted: &SchemaRef, named: &[String], rows: LogicalPlan) -> Result<LogicalPlan> {
    let given = rows.schema().fields().len();
    let expected = if named.is_empty() { wanted.fields().len() } else { named.len() };
    if let Some(unknown) = named.iter().find(|c| wanted.column_with_name(c).is_none()) {
        return Err(Error::sql(format!("table '{name}' has no column '{unknown}'")));
    }
    if given != expected {
        let columns: Vec<&str> = wanted.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(Error::Query(SqlError {
            message: format!("the query has {given} columns but table '{name}' takes {expected}"),
            fix: Some(format!("select exactly: {}", columns.join(", "))),
            ..SqlError::default()
        }));
    }
    let mut columns = Vec::new();
    for (at, field) in wanted.fields().iter().enumerate() {
        let at = if named.is_empty() { Some(at) } else { named.iter().position(|n| n == field.name()) };
        let e = match at {
            Some(at) => {
                let (of, found) = rows.schema().qualified_field(at);
                let column = Expr::Column(Column::new(of.cloned(), found.name()));
                if found.data_type() == field.data_type() { column } else { cast(column, field.data_type().clone()) }
            }
            None => cast(Expr::Literal(datafusion::scalar::ScalarValue::Null, None), field.data_type().clone()),
        };
        columns.push(e.alias(field.name()));
    }
    Ok(LogicalPlanBuilder::from(rows).project(columns)?.build()?)
}

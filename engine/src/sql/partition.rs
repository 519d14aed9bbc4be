//! `PARTITIONED BY (day(ts), region)`: tables of the lake are partitioned by the day of the event time, and by the columns named.

use arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::catalog::Table;
use super::column_type::sql_type;
use super::parse::{Place, Source, fold, place_of};
use crate::connectors::Connector;
use crate::error::{Error, Result, SqlError};
use crate::lake::can_split;

/// The columns of `PARTITIONED BY` and of the option `partitioning.fields`.
pub fn columns(
    source: Source<'_>,
    place: Place,
    connector: &Connector,
    by: &[Expr],
    fields: Option<Vec<String>>,
) -> Result<Vec<String>> {
    let mut columns = fields.unwrap_or_default();
    let written = !by.is_empty() || !columns.is_empty();
    if written && !matches!(connector, Connector::Lake) {
        let message = format!("a table with connector '{}' cannot be partitioned", connector.name());
        let fix = "leave PARTITIONED BY out, or write connector = 'lake'".to_string();
        return Err(source.error(by.first().and_then(place_of).or(Some(place)), message, Some(fix)));
    }
    for e in by {
        let at = place_of(e).or(Some(place));
        match e {
            Expr::Identifier(column) => columns.push(fold(column)),
            Expr::Function(f) => match (f.name.to_string().to_lowercase().as_str(), argument(f)) {
                ("day", _) => {}
                ("identity", Some(Expr::Identifier(column))) => columns.push(fold(column)),
                (transform, _) => {
                    let message = format!("a table of the lake cannot be partitioned by {e}");
                    return Err(source.error(at, message, Some(instead(transform).into())));
                }
            },
            other => {
                let message = format!("a table of the lake cannot be partitioned by {other}");
                return Err(source.error(at, message, Some("name columns: PARTITIONED BY (day(ts), region)".into())));
            }
        }
    }
    Ok(columns)
}

fn argument(f: &Function) -> Option<&Expr> {
    let FunctionArguments::List(list) = &f.args else { return None };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))] => Some(e),
        _ => None,
    }
}

fn instead(transform: &str) -> &'static str {
    match transform {
        "hour" => "select date_part('hour', ts) AS hour, and write PARTITIONED BY (hour): the day is there already",
        "month" | "year" => "leave it out: the table is partitioned by day, which is finer",
        "bucket" => "select id % 16 AS bucket, and write PARTITIONED BY (bucket)",
        "truncate" => "select left(name, 3) AS prefix, and write PARTITIONED BY (prefix)",
        "void" => "leave it out",
        _ => "name columns: PARTITIONED BY (day(ts), region)",
    }
}

/// That a table has the columns that it is partitioned by, and that they can be.
pub fn check(table: &Table, schema: &Schema) -> Result<()> {
    for name in &table.partition {
        let (message, fix) = match schema.field_with_name(name) {
            Ok(field) if can_split(field.data_type()) => continue,
            Ok(field) => (
                format!(
                    "table '{}' cannot be partitioned by '{name}', which is {}",
                    table.name,
                    sql_type(field.data_type())
                ),
                "partition by texts, integers, booleans or dates".to_string(),
            ),
            Err(_) => {
                let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let message = format!("table '{}' is partitioned by '{name}', which is no column of it", table.name);
                (message, format!("use one of: {}", known.join(", ")))
            }
        };
        return Err(Error::Query(SqlError { message, fix: Some(fix), ..SqlError::default() }));
    }
    Ok(())
}

//! Named parameters: `$from`, `$to`, `$day`. Their values are put into the syntax tree as typed literals, so they can stand
//! wherever a literal can, have a type while the query is planned, and can never be read as SQL.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::error::{Error, Result, SqlError};
use crate::time::SECOND;

/// Numbers of placeholders go so far: PostgreSQL's protocol counts them in 16 bits.
const NUMBER_MAX: usize = 65_535;

/// What a query will answer, before it runs.
#[derive(Debug)]
pub struct Described {
    /// The columns.
    pub schema: SchemaRef,
    /// The placeholders with their types, where the query tells them.
    pub parameters: BTreeMap<String, Option<DataType>>,
}

impl Described {
    /// The types of `$1`, `$2`, ... up to the greatest number that the query names.
    ///
    /// Errors: `Query` when that is above 65,535.
    pub fn numbered(&self) -> Result<Vec<Option<DataType>>> {
        let count = self.parameters.keys().filter_map(|name| name.strip_prefix('$')?.parse::<usize>().ok()).max();
        let count = count.unwrap_or(0);
        if count > NUMBER_MAX {
            return Err(SqlError {
                message: format!("the placeholder ${count} has too great a number"),
                fix: Some(format!("number placeholders from $1 on, up to ${NUMBER_MAX}")),
                ..SqlError::default()
            }
            .into());
        }
        Ok((1..=count).map(|n| self.parameters.get(&format!("${n}")).cloned().flatten()).collect())
    }
}

/// Replaces every placeholder of the statement by its value.
///
/// Errors: `Query` for a placeholder without a value and for a value of a type that has no literal.
pub(super) fn bind(statement: &mut Statement, parameters: &BTreeMap<String, ScalarValue>) -> Result<()> {
    match statement {
        Statement::Explain(explain) => bind(&mut explain.statement, parameters),
        Statement::Statement(inner) => {
            let flow = visit_expressions_mut(inner.as_mut(), |expr| match replacement(expr, parameters) {
                Ok(Some(value)) => {
                    *expr = value;
                    ControlFlow::Continue(())
                }
                Ok(None) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            });
            match flow {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(e) => Err(e),
            }
        }
        _ => Ok(()),
    }
}

fn replacement(expr: &Expr, parameters: &BTreeMap<String, ScalarValue>) -> Result<Option<Expr>> {
    let Expr::Value(value) = expr else { return Ok(None) };
    let Value::Placeholder(name) = &value.value else { return Ok(None) };
    let key = name.trim_start_matches('$');
    match parameters.get(key).or_else(|| parameters.get(name)) {
        Some(value) => literal(name, value).map(Some),
        None => {
            let known: Vec<String> = parameters.keys().map(|k| format!("${}", k.trim_start_matches('$'))).collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            Err(SqlError {
                message: format!("parameter {name} has no value"),
                fix: Some(format!("give it one; known parameters: {known}")),
                ..SqlError::default()
            }
            .into())
        }
    }
}

fn literal(name: &str, value: &ScalarValue) -> Result<Expr> {
    use ScalarValue as S;
    let quoted = |text: &str| Expr::Value(Value::SingleQuotedString(text.to_string()).with_empty_span());
    if value.is_null() {
        return Ok(Expr::Value(Value::Null.with_empty_span()));
    }
    let text = match value {
        S::Utf8(Some(t)) | S::LargeUtf8(Some(t)) | S::Utf8View(Some(t)) => return Ok(quoted(t)),
        S::Boolean(Some(b)) => return Ok(Expr::Value(Value::Boolean(*b).with_empty_span())),
        S::Int8(_) | S::Int16(_) | S::Int32(_) | S::Int64(_) | S::UInt8(_) | S::UInt16(_) | S::UInt32(_) => {
            format!("CAST('{value}' AS BIGINT)")
        }
        S::UInt64(_) => format!("CAST('{value}' AS BIGINT UNSIGNED)"),
        S::Float32(_) | S::Float64(_) => format!("CAST('{value}' AS DOUBLE)"),
        S::Decimal128(Some(_), precision, scale) => {
            let ScalarValue::Utf8(Some(shown)) = value.cast_to(&arrow::datatypes::DataType::Utf8)? else {
                return Err(Error::Bug(format!("parameter {name} has no text")));
            };
            format!("CAST('{shown}' AS DECIMAL({precision}, {scale}))")
        }
        S::Date32(_) => format!("CAST('{value}' AS DATE)"),
        S::TimestampSecond(Some(_), _)
        | S::TimestampMillisecond(Some(_), _)
        | S::TimestampMicrosecond(Some(_), _)
        | S::TimestampNanosecond(Some(_), _) => timestamp(name, value)?,
        S::DurationNanosecond(Some(ns)) => interval(*ns),
        other => {
            return Err(SqlError {
                message: format!("parameter {name} has type {}, which has no literal", other.data_type()),
                fix: Some("give text, a number, a boolean, a date, a timestamp or a duration".into()),
                ..SqlError::default()
            }
            .into());
        }
    };
    Parser::new(&GenericDialect {})
        .try_with_sql(&text)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|e| Error::Bug(format!("parameter {name} as {text}: {e}")))
}

/// Nanoseconds in UTC keep every value as it is, whatever its unit was.
fn timestamp(name: &str, value: &ScalarValue) -> Result<String> {
    use arrow::datatypes::{DataType, TimeUnit};
    match value.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, None))? {
        ScalarValue::TimestampNanosecond(Some(ns), _) => {
            let shown = chrono::DateTime::from_timestamp_nanos(ns).format("%Y-%m-%dT%H:%M:%S%.9f");
            Ok(format!("CAST('{shown}' AS TIMESTAMP)"))
        }
        _ => Err(Error::sql(format!("parameter {name} is out of the range of a timestamp"))),
    }
}

/// A length of time: SQL's INTERVAL without days or months, which are not always of one length.
fn interval(ns: i64) -> String {
    format!("INTERVAL '{} seconds {} nanoseconds'", ns / SECOND, ns % SECOND)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn types_stand_at_their_numbers_and_a_great_number_is_refused() {
        let of = |names: &[&str]| Described {
            schema: Arc::new(Schema::empty()),
            parameters: names.iter().map(|n| (n.to_string(), Some(DataType::Int64))).collect(),
        };
        let numbered = of(&["$3", "$1", "$from"]).numbered().unwrap();
        assert_eq!(numbered, [Some(DataType::Int64), None, Some(DataType::Int64)]);
        let error = of(&["$4000000000"]).numbered().unwrap_err().to_string();
        assert!(error.contains("the placeholder $4000000000 has too great a number"), "{error}");
        assert!(error.contains("fix: number placeholders from $1 on, up to $65535"), "{error}");
    }
}

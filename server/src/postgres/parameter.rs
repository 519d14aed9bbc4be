//! Values of `$1`, `$2`, ... from the wire. They are put into the statement as typed literals, so text where a time is
//! wanted (psycopg 3 sends every string so) is understood as PostgreSQL would.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;
use pgwire::api::portal::Portal;
use pgwire::error::PgWireResult;

use super::error::new;

/// All parameters of a portal by number.
pub fn all<S: Clone>(portal: &Portal<S>, inferred: &[Type]) -> PgWireResult<BTreeMap<String, ScalarValue>> {
    let mut values = BTreeMap::new();
    for index in 0..portal.parameter_len() {
        let sent = portal.statement.parameter_types.get(index).cloned().flatten();
        let sent = sent.filter(|t| *t != Type::UNKNOWN);
        let text = portal.parameter_format.is_text(index);
        // Text without a type stays text: its place in the statement tells what it is.
        let declared = match sent {
            Some(sent) => sent,
            None if text => Type::TEXT,
            None => inferred.get(index).cloned().unwrap_or(Type::TEXT),
        };
        let value = if text { from_text(portal, index, &declared)? } else { from_binary(portal, index, &declared)? };
        values.insert((index + 1).to_string(), value);
    }
    Ok(values)
}

fn from_text<S: Clone>(portal: &Portal<S>, index: usize, declared: &Type) -> PgWireResult<ScalarValue> {
    let Some(Some(bytes)) = portal.parameters.get(index) else { return Ok(ScalarValue::Null) };
    let text =
        std::str::from_utf8(bytes).map_err(|_| new("22021", format!("parameter ${} is not UTF-8", index + 1)))?;
    let target = match *declared {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => DataType::Float64,
        Type::BOOL => DataType::Boolean,
        Type::DATE => DataType::Date32,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Nanosecond, None),
        _ => return Ok(ScalarValue::Utf8(Some(text.to_string()))),
    };
    let text = match (text, declared) {
        ("t", &Type::BOOL) => "true",
        ("f", &Type::BOOL) => "false",
        (text, _) => text,
    };
    ScalarValue::try_from_string(text.to_string(), &target)
        .map_err(|_| new("22P02", format!("parameter ${} is '{text}', which is no {}", index + 1, declared.name())))
}

fn from_binary<S: Clone>(portal: &Portal<S>, index: usize, declared: &Type) -> PgWireResult<ScalarValue> {
    let nanoseconds = |time: NaiveDateTime| time.and_utc().timestamp_nanos_opt();
    Ok(match *declared {
        Type::BOOL => ScalarValue::Boolean(portal.parameter::<bool>(index, declared)?),
        Type::INT2 => ScalarValue::Int64(portal.parameter::<i16>(index, declared)?.map(i64::from)),
        Type::INT4 => ScalarValue::Int64(portal.parameter::<i32>(index, declared)?.map(i64::from)),
        Type::INT8 => ScalarValue::Int64(portal.parameter::<i64>(index, declared)?),
        Type::FLOAT4 => ScalarValue::Float64(portal.parameter::<f32>(index, declared)?.map(f64::from)),
        Type::FLOAT8 => ScalarValue::Float64(portal.parameter::<f64>(index, declared)?),
        Type::DATE => {
            let days = portal.parameter::<NaiveDate>(index, declared)?;
            ScalarValue::Date32(days.map(|day| (day - NaiveDate::default()).num_days() as i32))
        }
        Type::TIMESTAMP => {
            let time = portal.parameter::<NaiveDateTime>(index, declared)?;
            ScalarValue::TimestampNanosecond(time.and_then(nanoseconds), None)
        }
        Type::TIMESTAMPTZ => {
            let time = portal.parameter::<DateTime<FixedOffset>>(index, declared)?;
            ScalarValue::TimestampNanosecond(time.and_then(|t| t.timestamp_nanos_opt()), None)
        }
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
            ScalarValue::Utf8(portal.parameter::<String>(index, &Type::TEXT)?)
        }
        _ => {
            let message = format!("parameter ${} comes as binary {}; send it as text", index + 1, declared.name());
            return Err(new("0A000", message));
        }
    })
}

//! OTLP/JSON where it differs from other JSON: ids are hexadecimal, integers of 64 bits are text or numbers, null is "not set".

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::messages::{Any, AnyValue, List, Object};

/// Reads a message.
pub fn read<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, serde_json::Error> {
    let value: Value = serde_json::from_slice(bytes)?;
    serde_json::from_value(without_nulls(value))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Json(serde_json::Number),
}

impl Number {
    fn read<T: FromStr<Err: Display>, E: Error>(self) -> Result<T, E> {
        let text = match self {
            Self::Text(text) => text,
            Self::Json(number) => number.to_string(),
        };
        text.parse().map_err(|e| E::custom(format!("`{text}` is no such number: {e}")))
    }
}

/// A number as text or number. `NaN` and `Infinity` are text.
pub fn number<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<T, D::Error> {
    Number::deserialize(from)?.read()
}

/// A number that may be absent.
pub fn optional<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error> {
    number(from).map(Some)
}

/// Numbers.
pub fn numbers<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Vec<T>, D::Error> {
    Vec::<Number>::deserialize(from)?.into_iter().map(Number::read).collect()
}

/// An id.
pub fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    let digits = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| match pair {
            [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
            _ => None,
        })
        .collect();
    bytes.ok_or_else(|| D::Error::custom(format!("the id `{text}` is not hexadecimal")))
}

/// A value as JSON has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnyJson {
    string_value: Option<String>,
    bool_value: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    int_value: Option<i64>,
    #[serde(default, deserialize_with = "optional")]
    double_value: Option<f64>,
    array_value: Option<List>,
    kvlist_value: Option<Object>,
    bytes_value: Option<String>,
}

impl TryFrom<AnyJson> for AnyValue {
    type Error = String;

    fn try_from(json: AnyJson) -> Result<Self, String> {
        let bytes = json.bytes_value.map(|text| {
            STANDARD.decode(&text).map(Any::Bytes).map_err(|e| format!("bytesValue `{text}` is not base64: {e}"))
        });
        let value = (json.string_value.map(Any::Text))
            .or(json.bool_value.map(Any::Bool))
            .or(json.int_value.map(Any::Int))
            .or(json.double_value.map(Any::Double))
            .or(json.array_value.map(Any::List))
            .or(json.kvlist_value.map(Any::Object));
        Ok(Self { value: value.or(bytes.transpose()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::messages::{ExportLogs, ExportMetrics};

    #[test]
    fn ids_are_hexadecimal_and_long_integers_text() {
        let logs: ExportLogs = read(
            br#"{"resourceLogs":[{"resource":null,"scopeLogs":[{"logRecords":[{"timeUnixNano":"1795431600000000000","traceId":"0aFf",
                "observedTimeUnixNano":5,"new":1,"body":{"kvlistValue":{"values":[{"key":"a","value":{"intValue":"-7"}},
                {"key":"b","value":{"doubleValue":"NaN"}},{"key":"c","value":{"bytesValue":"AQI="}},{"key":"d","value":{}}]}}}]}]}]}"#,
        )
        .unwrap();
        let record = &logs.resources[0].scopes[0].items[0];
        assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (1_795_431_600_000_000_000, 5));
        assert_eq!(record.trace_id, [10, 255]);
        let Some(Any::Object(body)) = record.body.clone().unwrap().value else { panic!("an object") };
        let values: Vec<_> = body.values.into_iter().map(|kv| kv.value.unwrap().value).collect();
        assert_eq!(values[0], Some(Any::Int(-7)));
        assert!(matches!(values[1], Some(Any::Double(n)) if n.is_nan()));
        assert_eq!((&values[2], &values[3]), (&Some(Any::Bytes(vec![1, 2])), &None));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let wrong = |text: &str| read::<ExportMetrics>(text.as_bytes()).unwrap_err().to_string();
        let point = |point: &str| {
            format!(
                r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"sum":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
            )
        };
        assert!(wrong(&point(r#"{"asInt":"1.5"}"#)).contains("`1.5` is no such number"));
        let attribute = r#"{"attributes":[{"key":"k","value":{"bytesValue":"!"}}]}"#;
        assert!(wrong(&point(attribute)).contains("bytesValue `!` is not base64"));
        let logs = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"spanId":"xyz"}]}]}]}"#;
        let error = read::<ExportLogs>(logs.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("the id `xyz` is not hexadecimal"), "{error}");
    }
}

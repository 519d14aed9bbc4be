//! Rows on their way to a client: JSON by default, CSV or Arrow where the client asks.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use millstream::QueryResult;
use serde_json::{Map, Value};

use super::Problem;
use crate::format;

/// The media type of an Arrow IPC stream.
pub const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// What the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// One object: what is known of the answer, and its rows as objects.
    Json,
    /// RFC 4180.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Wanted {
    /// `?format=` decides, else `Accept`, else JSON.
    pub fn of(format: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
        match format {
            Some("json") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            Some("arrow") => Ok(Self::Arrow),
            Some(other) => {
                Err(Problem::bad_request(format!("the format `{other}` is unknown; write format=json, csv or arrow")))
            }
            None if accept.contains(ARROW_STREAM) => Ok(Self::Arrow),
            None if accept.contains("text/csv") => Ok(Self::Csv),
            None => Ok(Self::Json),
        }
    }
}

/// Writes `result`; `about` is what JSON tells beside the rows. Whether rows were cut off is told in every format.
pub fn write(result: &QueryResult, wanted: Wanted, about: Map<String, Value>) -> Result<Response, Problem> {
    let (media_type, body) = match wanted {
        Wanted::Json => ("application/json", json(result, about)?),
        Wanted::Csv => {
            ("text/csv; charset=utf-8; header=present", format::csv(&result.schema, &result.batches)?.into_bytes())
        }
        Wanted::Arrow => (ARROW_STREAM, format::arrow_stream(&result.schema, &result.batches)?),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert("x-row-count", HeaderValue::from(rows(result)));
    headers.insert("x-truncated", HeaderValue::from_static(if result.truncated { "true" } else { "false" }));
    Ok(response)
}

fn rows(result: &QueryResult) -> usize {
    result.batches.iter().map(|batch| batch.num_rows()).sum()
}

/// The rows as one JSON object, with what is known of them.
pub fn json(result: &QueryResult, about: Map<String, Value>) -> Result<Vec<u8>, Problem> {
    let columns: Vec<Value> = result
        .schema
        .fields()
        .iter()
        .map(|field| serde_json::json!({ "name": field.name(), "type": field.data_type().to_string() }))
        .collect();
    let mut head = about;
    head.insert("columns".into(), columns.into());
    head.insert("row_count".into(), rows(result).into());
    head.insert("truncated".into(), result.truncated.into());
    // The rows are JSON text already: they are put in as they are, before the closing brace.
    let mut body = Value::Object(head).to_string().into_bytes();
    body.pop();
    body.extend_from_slice(b",\"rows\":");
    body.extend_from_slice(&format::json(&result.batches)?);
    body.push(b'}');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_chosen_by_parameter_then_by_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(Wanted::of(None, &headers).unwrap(), Wanted::Json);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/csv, */*;q=0.1"));
        assert_eq!(Wanted::of(None, &headers).unwrap(), Wanted::Csv);
        assert_eq!(Wanted::of(Some("json"), &headers).unwrap(), Wanted::Json);
        assert!(Wanted::of(Some("xlsx"), &headers).is_err());
    }
}

//! `POST /api/v1/ingest/{table}`: rows as JSON, an array or one object a line. The receipt is the one of gRPC, as JSON.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use millstream_proto::envelope::EventBatch;
use millstream_proto::envelope::ingest_server::Ingest;
use millstream_proto::v1::{Ack, JsonRows};
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::gate::{authorize, body};
use super::{App, Problem};
use crate::ingest::{CODE_METADATA, RETRY_METADATA};
use crate::keys::Role;

/// Who sends, and where in its sequence: as in the gRPC batch.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sender {
    producer: String,
    epoch: u64,
    sequence: u64,
}

/// Takes rows; the answer comes when they are on disk.
pub async fn rows(
    State(app): State<Arc<App>>,
    Path(table): Path<String>,
    Query(sender): Query<Sender>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let key = authorize(&app, request.headers(), &[Role::Producer])?;
    let bytes = body(&app, request).await?;
    let rows = JsonRows { table, rows: split(&bytes).map_err(Problem::bad_request)? };
    let batch = EventBatch {
        producer: sender.producer,
        epoch: sender.epoch,
        sequence: sender.sequence,
        json: Some(rows.encode_to_vec().into()),
        ..EventBatch::default()
    };
    // The same service as gRPC: limits, rates and receipts cannot differ between the two.
    let mut call = tonic::Request::new(batch);
    call.extensions_mut().insert(key);
    let receipt = app.ingest.send(call).await.map_err(problem_of)?;
    Ok(Json(show(receipt.get_ref())))
}

/// The receipt, with the field names of `millstream.v1.Ack`.
fn show(ack: &Ack) -> Value {
    let rejected: Vec<Value> =
        ack.rejected.iter().map(|r| json!({ "index": r.index, "code": r.code, "message": r.message })).collect();
    let flagged: Vec<Value> =
        ack.flagged.iter().map(|r| json!({ "index": r.index, "code": r.code, "message": r.message })).collect();
    json!({
        "producer": ack.producer,
        "epoch": ack.epoch,
        "sequence": ack.sequence,
        "accepted": ack.accepted,
        "duplicates": ack.duplicates,
        "rejected": rejected,
        "rejected_rows": ack.rejected_rows,
        "flagged": flagged,
        "log_offset": ack.log_offset,
        "retry_after_ms": ack.retry_after_ms,
    })
}

/// A refusal of the ingest service.
pub fn problem_of(status: Status) -> Problem {
    let metadata = |name: &str| status.metadata().get(name).and_then(|value| value.to_str().ok());
    let (http, kind, title) = match status.code() {
        Code::NotFound => (StatusCode::NOT_FOUND, "event", "There is no such table"),
        Code::InvalidArgument | Code::OutOfRange => (StatusCode::BAD_REQUEST, "event", "The data is wrong"),
        Code::FailedPrecondition => (StatusCode::CONFLICT, "event", "The batch does not fit what came before"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "key", "A valid API key is needed"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "role", "The key's role does not allow this"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "limit", "A limit was reached"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "storage", "The server cannot take rows now"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "bug", "A bug in the server"),
    };
    let mut problem = Problem::new(http, kind, title, status.message());
    if let Some(code) = metadata(CODE_METADATA) {
        problem = problem.with("code", code);
    }
    if let Some(ms) = metadata(RETRY_METADATA).and_then(|text| text.parse().ok()) {
        problem = problem.retry_after_ms(ms);
    }
    problem
}

/// The rows of a JSON array, or the lines. A line that is not JSON is the row's own error, told in the receipt.
fn split(bytes: &Bytes) -> Result<Vec<Bytes>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("the body is not UTF-8 ({e})"))?;
    if text.trim_start().starts_with('[') {
        let rows: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|e| format!("the body is not a JSON array of objects: {e}; or send one object a line"))?;
        return Ok(rows.into_iter().map(|row| bytes.slice_ref(row.get().as_bytes())).collect());
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let rows: Vec<Bytes> = lines.map(|line| bytes.slice_ref(line.as_bytes())).collect();
    if rows.is_empty() {
        return Err("the body holds no row; send a JSON array of objects, or one object a line".to_string());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_lines_give_the_same_rows() {
        let rows = |text: &str| split(&Bytes::from(text.to_string()));
        let expected = vec![Bytes::from("{\"a\":1}"), Bytes::from("{\"a\":[2]}")];
        assert_eq!(rows("[{\"a\":1}, {\"a\":[2]}]"), Ok(expected.clone()));
        assert_eq!(rows("{\"a\":1}\r\n\n{\"a\":[2]}"), Ok(expected));
        assert_eq!(rows("[]"), Ok(vec![]));
        assert!(rows(" \n").unwrap_err().starts_with("the body holds no row"));
        assert!(rows("[{]").unwrap_err().starts_with("the body is not a JSON array"));
    }

    #[test]
    fn refusals_keep_their_code() {
        let error = millstream::Error::event("UNKNOWN_TABLE", "there is no table 'x'");
        let problem = problem_of(crate::ingest::status_of(&error));
        assert_eq!(problem.status(), StatusCode::NOT_FOUND);
    }
}

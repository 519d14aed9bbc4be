//! OpenTelemetry over HTTP: `POST /v1/logs`, `/v1/traces`, `/v1/metrics`, protobuf or JSON, packed or not, as every exporter
//! sends them with `OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf` or `http/json` and a header `authorization=Bearer <key>`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde_json::json;

use super::gate::authorize;
use super::ingest::problem_of;
use super::{App, Problem, sdk};
use crate::keys::Role;
use crate::otlp::messages::{ExportLogs, ExportMetrics, ExportResponse, ExportTraces};
use crate::otlp::{self, Export};

/// Log records and events.
pub async fn logs(State(app): State<Arc<App>>, request: Request) -> Response {
    export::<ExportLogs>(&app, request).await
}

/// Spans.
pub async fn traces(State(app): State<Arc<App>>, request: Request) -> Response {
    export::<ExportTraces>(&app, request).await
}

/// Points of metrics.
pub async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    export::<ExportMetrics>(&app, request).await
}

/// How the body is written, and so the answer.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Protobuf,
    Json,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        match media_type.split(';').next().unwrap_or("").trim() {
            "application/x-protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            _ => {
                let detail = format!(
                    "the body's type is `{media_type}`; set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf or http/json"
                );
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Wrong type of body", detail))
            }
        }
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(if self == Self::Json { "application/json" } else { "application/x-protobuf" })
    }
}

async fn export<M: Export>(app: &App, request: Request) -> Response {
    let form = Form::of(request.headers());
    let told = *form.as_ref().unwrap_or(&Form::Protobuf);
    let answer = async {
        let key = authorize(app, request.headers(), &[Role::Producer])?;
        let form = form?;
        let bytes = sdk::plain_body(app, request).await?;
        let message = read::<M>(form, bytes).map_err(Problem::bad_request)?;
        otlp::take(&app.ingest, &key, message).await.map_err(problem_of)
    };
    match answer.await {
        Ok(answer) => ([(header::CONTENT_TYPE, told.name())], written::<M>(told, &answer)).into_response(),
        Err(problem) => failed(told, problem),
    }
}

fn read<M: Export>(form: Form, bytes: Bytes) -> Result<M, String> {
    match form {
        Form::Protobuf => M::decode(bytes).map_err(|e| format!("the body is not valid OTLP: {e}")),
        Form::Json => otlp::json::read(&bytes).map_err(|e| format!("the body is not valid OTLP/JSON: {e}")),
    }
}

fn written<M: Export>(form: Form, answer: &ExportResponse) -> Vec<u8> {
    let partial = match (form, &answer.partial_success) {
        (Form::Protobuf, _) => return answer.encode_to_vec(),
        (Form::Json, None) => return b"{}".to_vec(),
        (Form::Json, Some(partial)) => partial,
    };
    let told = json!({ M::REJECTED: partial.rejected.to_string(), "errorMessage": partial.error_message });
    json!({ "partialSuccess": told }).to_string().into_bytes()
}

/// The protocol's own error, `google.rpc.Status`, in the form of the request. The HTTP status and Retry-After say whether to
/// send again.
fn failed(form: Form, problem: Problem) -> Response {
    let body = match form {
        Form::Json => json!({ "message": problem.detail() }).to_string().into_bytes(),
        Form::Protobuf => Failure { message: problem.detail().to_string() }.encode_to_vec(),
    };
    let (mut parts, _) = problem.into_response().into_parts();
    parts.headers.insert(header::CONTENT_TYPE, form.name());
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

/// `google.rpc.Status`, as far as OTLP uses it.
#[derive(Clone, PartialEq, Message)]
struct Failure {
    #[prost(string, tag = "2")]
    message: String,
}

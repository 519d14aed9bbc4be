//! OpenTelemetry over HTTP: `POST /v1/logs`, `/v1/traces`, `/v1/metrics` (protobuf, packed or not), as every exporter
//! sends them with `OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf` and a header `authorization=Bearer <key>`.
//!
//! What is an event of an agent or of an API becomes one (see [`super::otlp_rows`]); the rest stays as it is, in
//! `otel_logs`, `otel_spans` and `otel_metrics`. Records carry no id, so theirs is made of what they say: a batch that an
//! exporter sends again adds nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;

use super::gate::authorize;
use super::otlp_messages::{ExportLogs, ExportMetrics, ExportResponse, ExportTraces, PartialSuccess};
use super::otlp_rows::{self, Rows};
use super::{App, Problem, sdk};
use crate::keys::Role;

/// Log records and events.
pub async fn logs(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    export::<ExportLogs>(&app, request, otlp_rows::of_logs).await
}

/// Spans.
pub async fn traces(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    export::<ExportTraces>(&app, request, otlp_rows::of_traces).await
}

/// Points of metrics.
pub async fn metrics(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    export::<ExportMetrics>(&app, request, otlp_rows::of_metrics).await
}

async fn export<M: Message + Default>(
    app: &App,
    request: Request,
    rows: impl FnOnce(M) -> Rows,
) -> Result<Response, Problem> {
    let key = authorize(app, request.headers(), &[Role::Producer])?;
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if !media_type.starts_with("application/x-protobuf") {
        let detail = format!("the body's type is `{media_type}`; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Wrong type of body", detail));
    }
    let bytes = sdk::plain_body(app, request).await?;
    let message = M::decode(bytes).map_err(|e| Problem::bad_request(format!("the body is not valid OTLP: {e}")))?;
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    for (table, rows) in rows(message) {
        let ack = sdk::send(app, key.clone(), table, "otlp", rows).await?;
        for row in ack.rejected {
            *refused.entry(format!("{table}: {}", row.message)).or_default() += 1;
        }
    }
    // Not to be sent again, says the protocol: the refused rows are in <table>__rejected.
    let partial_success = (!refused.is_empty()).then(|| PartialSuccess {
        rejected: refused.values().sum::<u64>() as i64,
        error_message: refused.into_keys().next().unwrap_or_default(),
    });
    let body = ExportResponse { partial_success }.encode_to_vec();
    Ok(([(header::CONTENT_TYPE, "application/x-protobuf")], body).into_response())
}

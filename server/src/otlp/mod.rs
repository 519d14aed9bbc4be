//! OpenTelemetry: logs, traces and metrics as its exporters send them.
//!
//! ```text
//! gRPC (grpc.rs) | HTTP protobuf | HTTP JSON (json.rs) --> messages.rs --> rows.rs --> the ingest service
//! ```
//!
//! What is an event of an agent or of an API becomes one (see [`rows`]); the rest stays as it is, in `otel_logs`,
//! `otel_spans` and `otel_metrics`. Records carry no id, so theirs is made of what they say: a batch that an exporter sends
//! again adds nothing.

pub mod grpc;
pub mod json;
pub mod messages;
pub mod rows;

use millstream::Engine;
use millstream_proto::v1::Ack;
use prost::Message;
use serde::de::DeserializeOwned;
use tonic::Status;

use self::messages::{ExportLogs, ExportMetrics, ExportResponse, ExportTraces, PartialSuccess};
use self::rows::Rows;
use crate::ingest::Service;
use crate::keys::KeyId;

/// A request of an exporter.
pub trait Export: Message + Default + DeserializeOwned + 'static {
    /// The gRPC service that takes it.
    const SERVICE: &'static str;
    /// What JSON calls the number of refused records.
    const REJECTED: &'static str;

    /// Its records as rows.
    fn rows(self) -> Rows;
}

impl Export for ExportLogs {
    const SERVICE: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
    const REJECTED: &'static str = "rejectedLogRecords";

    fn rows(self) -> Rows {
        rows::of_logs(self)
    }
}

impl Export for ExportTraces {
    const SERVICE: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    const REJECTED: &'static str = "rejectedSpans";

    fn rows(self) -> Rows {
        rows::of_traces(self)
    }
}

impl Export for ExportMetrics {
    const SERVICE: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
    const REJECTED: &'static str = "rejectedDataPoints";

    fn rows(self) -> Rows {
        rows::of_metrics(self)
    }
}

/// Takes a request; when it returns the rows are on disk. Refused rows are in `<table>__rejected` and not to be sent again.
pub async fn take<M: Export>(ingest: &Service<Engine>, key: &KeyId, message: M) -> Result<ExportResponse, Status> {
    let (mut rejected, mut why) = (0, None);
    for (table, rows) in message.rows() {
        let ack: Ack = ingest.send_json(key.clone(), table, "otlp", rows).await?;
        rejected += ack.rejected_rows;
        why = why.or(ack.rejected.into_iter().next().map(|row| format!("{table}: {}", row.message)));
    }
    let partial_success = (rejected > 0).then(|| PartialSuccess {
        rejected: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: why.unwrap_or_default(),
    });
    Ok(ExportResponse { partial_success })
}

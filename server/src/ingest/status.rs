//! Errors as gRPC tells them.

use millstream::Error;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The metadata of a failed call that holds the stable word for programs.
pub const CODE_METADATA: &str = "millstream-code";

/// The metadata of a failed call that says after how many milliseconds to try again.
pub const RETRY_METADATA: &str = "retry-after-ms";

/// How long to wait when a disk or an object store failed, or the server is about to stop.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

/// `google.rpc.Status`, as far as it is needed here.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<RpcAny>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct RpcAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RpcDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct RpcDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The gRPC status of an error: the code tells who must act, the metadata the stable word and when to try again.
pub fn status_of(error: &Error) -> Status {
    let message = error.to_string();
    match error {
        Error::Event { code, .. } => {
            let grpc = match *code {
                "UNKNOWN_TABLE" => Code::NotFound,
                "OUT_OF_ORDER" | "UNKNOWN_PRODUCER" | "STALE_EPOCH" | "NOT_INGEST" => Code::FailedPrecondition,
                _ => Code::InvalidArgument,
            };
            status(grpc, code, message)
        }
        Error::Query(_) => status(Code::InvalidArgument, "QUERY", message),
        Error::Config(_) => status(Code::FailedPrecondition, "CONFIG", message),
        Error::Storage(_) => retry(Code::Unavailable, "STORAGE", message, UNAVAILABLE_RETRY_MS),
        Error::Corrupt(_) => status(Code::DataLoss, "CORRUPT", message),
        Error::Limit { retry_after_ms, .. } => retry(Code::ResourceExhausted, "LIMIT", message, *retry_after_ms),
        Error::Stopped(_) => retry(Code::Unavailable, "STOPPED", message, UNAVAILABLE_RETRY_MS),
        Error::Bug(_) => status(Code::Internal, "INTERNAL", message),
    }
}

/// A status that trying again does not help.
pub(crate) fn status(grpc: Code, code: &'static str, message: impl Into<String>) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE_METADATA, MetadataValue::from_static(code));
    Status::with_metadata(grpc, message, metadata)
}

/// A status that says when to try again, as metadata and as `google.rpc.RetryInfo`.
pub(crate) fn retry(grpc: Code, code: &'static str, message: impl Into<String>, retry_after_ms: u64) -> Status {
    let message = message.into();
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE_METADATA, MetadataValue::from_static(code));
    metadata.insert(RETRY_METADATA, MetadataValue::from(retry_after_ms));
    let delay = RpcDuration {
        seconds: i64::try_from(retry_after_ms / 1_000).unwrap_or(i64::MAX),
        nanos: (retry_after_ms % 1_000) as i32 * 1_000_000,
    };
    let info = RetryInfo { retry_delay: Some(delay) };
    let any = RpcAny { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info.encode_to_vec() };
    let details = RpcStatus { code: grpc as i32, message: message.clone(), details: vec![any] };
    Status::with_details_and_metadata(grpc, message, details.encode_to_vec().into(), metadata)
}

/// The delay that a status asks for, from either place.
pub(crate) fn retry_after_ms(status: &Status) -> Option<u64> {
    let metadata = status.metadata().get(RETRY_METADATA).and_then(|value| value.to_str().ok()?.parse().ok());
    metadata.or_else(|| {
        let details = RpcStatus::decode(status.details()).ok()?.details;
        let info = details.iter().find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
        let seconds = u64::try_from(delay.seconds).ok()?;
        Some(seconds.saturating_mul(1_000).saturating_add(u64::try_from(delay.nanos).ok()? / 1_000_000))
    })
}

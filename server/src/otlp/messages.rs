//! The messages of OTLP 1, as far as they are read: field numbers are the protocol's and never change.
//!
//! Unknown fields are skipped, so newer exporters are understood.

use prost::Message;
use serde::Deserialize;

use super::json;

macro_rules! nested {
    ($(#[$doc:meta])* $name:ident, $item:ty, $json:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Message, Deserialize)]
        #[serde(default)]
        pub struct $name {
            /// What came in.
            #[serde(rename = $json)]
            #[prost(message, repeated, tag = "1")]
            pub resources: Vec<$item>,
        }
    };
}

macro_rules! by_resource {
    ($name:ident, $scoped:ident, $item:ty, $scopes_json:literal, $items_json:literal) => {
        /// Of one resource.
        #[derive(Clone, PartialEq, Message, Deserialize)]
        #[serde(default)]
        pub struct $name {
            /// Who sends.
            #[prost(message, optional, tag = "1")]
            pub resource: Option<Resource>,
            /// By library.
            #[serde(rename = $scopes_json)]
            #[prost(message, repeated, tag = "2")]
            pub scopes: Vec<$scoped>,
        }

        /// Of one library.
        #[derive(Clone, PartialEq, Message, Deserialize)]
        #[serde(default)]
        pub struct $scoped {
            /// The records.
            #[serde(rename = $items_json)]
            #[prost(message, repeated, tag = "2")]
            pub items: Vec<$item>,
        }
    };
}

nested!(
    /// `ExportLogsServiceRequest`.
    ExportLogs,
    ResourceLogs,
    "resourceLogs"
);
nested!(
    /// `ExportTraceServiceRequest`.
    ExportTraces,
    ResourceSpans,
    "resourceSpans"
);
nested!(
    /// `ExportMetricsServiceRequest`.
    ExportMetrics,
    ResourceMetrics,
    "resourceMetrics"
);
by_resource!(ResourceLogs, ScopeLogs, LogRecord, "scopeLogs", "logRecords");
by_resource!(ResourceSpans, ScopeSpans, Span, "scopeSpans", "spans");
by_resource!(ResourceMetrics, ScopeMetrics, Metric, "scopeMetrics", "metrics");

/// The answer to each.
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    /// Set when something was refused.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What was refused.
#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    /// Records.
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    /// Why, of the first.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// Who sends.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resource {
    /// `service.name` and so on.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// One attribute.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value of any kind.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(try_from = "json::AnyJson")]
pub struct AnyValue {
    /// Which it is.
    #[prost(oneof = "Any", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub value: Option<Any>,
}

/// The kinds of values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Any {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// True or false.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// An integer.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// A list.
    #[prost(message, tag = "5")]
    List(List),
    /// An object.
    #[prost(message, tag = "6")]
    Object(Object),
    /// Bytes.
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
}

/// A list of values.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct List {
    /// Its values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

/// Values by name.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Object {
    /// Its values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KeyValue>,
}

/// A log record or an event.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogRecord {
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "1")]
    /// When it happened.
    pub time_unix_nano: u64,
    /// `INFO`, ...
    #[prost(string, tag = "3")]
    pub severity_text: String,
    /// The text.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// The rest.
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
    /// Its trace.
    #[serde(deserialize_with = "json::hex")]
    #[prost(bytes = "vec", tag = "9")]
    pub trace_id: Vec<u8>,
    /// Its span.
    #[serde(deserialize_with = "json::hex")]
    #[prost(bytes = "vec", tag = "10")]
    pub span_id: Vec<u8>,
    /// When it was seen.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "11")]
    pub observed_time_unix_nano: u64,
    /// The kind of event.
    #[prost(string, tag = "12")]
    pub event_name: String,
}

/// A span.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Span {
    /// Its trace.
    #[serde(deserialize_with = "json::hex")]
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// Itself.
    #[serde(deserialize_with = "json::hex")]
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// Who called.
    #[serde(deserialize_with = "json::hex")]
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What was done.
    #[prost(string, tag = "5")]
    pub name: String,
    /// 2 is a server's, 3 a client's.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Its beginning.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// Its end.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// The rest.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SpanStatus {
    /// Why.
    #[prost(string, tag = "2")]
    pub message: String,
    /// 2 is an error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// One metric with its points.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metric {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its unit.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// Points of a gauge.
    #[prost(message, optional, tag = "5")]
    pub gauge: Option<Numbers>,
    /// Points of a sum.
    #[prost(message, optional, tag = "7")]
    pub sum: Option<Numbers>,
    /// Points of a histogram.
    #[prost(message, optional, tag = "9")]
    pub histogram: Option<Histograms>,
    /// Points of a histogram whose bounds are powers of one number.
    #[prost(message, optional, tag = "10")]
    pub exponential_histogram: Option<Exponentials>,
    /// Points that are quantiles.
    #[prost(message, optional, tag = "11")]
    pub summary: Option<Summaries>,
}

/// Points that are numbers.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Numbers {
    /// The points.
    #[serde(rename = "dataPoints")]
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<NumberPoint>,
    /// 1: each point tells what came since the last; 2: since the start.
    #[serde(rename = "aggregationTemporality")]
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

/// One number at one time.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NumberPoint {
    /// The time.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// As a double.
    #[serde(deserialize_with = "json::optional")]
    #[prost(double, optional, tag = "4")]
    pub as_double: Option<f64>,
    /// As an integer.
    #[serde(deserialize_with = "json::optional")]
    #[prost(sfixed64, optional, tag = "6")]
    pub as_int: Option<i64>,
    /// Of what.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// Points that are distributions.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Histograms {
    /// The points.
    #[serde(rename = "dataPoints")]
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<HistogramPoint>,
    /// As of [`Numbers`].
    #[serde(rename = "aggregationTemporality")]
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

/// One distribution at one time.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HistogramPoint {
    /// The time.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many values.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[serde(deserialize_with = "json::optional")]
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// Of what.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Values by bucket.
    #[serde(deserialize_with = "json::numbers")]
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    /// Upper bounds of all buckets but the last.
    #[serde(deserialize_with = "json::numbers")]
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
}

/// Points that are distributions over powers of one number.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Exponentials {
    /// The points.
    #[serde(rename = "dataPoints")]
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<ExponentialPoint>,
    /// As of [`Numbers`].
    #[serde(rename = "aggregationTemporality")]
    #[prost(int32, tag = "2")]
    pub temporality: i32,
}

/// One such distribution at one time.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExponentialPoint {
    /// Of what.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    /// The time.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many values.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[serde(deserialize_with = "json::optional")]
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// The base is 2 to the power of 2 to the power of minus this.
    #[prost(sint32, tag = "6")]
    pub scale: i32,
    /// Values that are 0.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "7")]
    pub zero_count: u64,
    /// Values above 0.
    #[prost(message, optional, tag = "8")]
    pub positive: Option<Buckets>,
    /// Values below 0.
    #[prost(message, optional, tag = "9")]
    pub negative: Option<Buckets>,
}

/// Neighbouring buckets.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Buckets {
    /// The power of the first.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Values by bucket.
    #[serde(deserialize_with = "json::numbers")]
    #[prost(uint64, repeated, tag = "2")]
    pub bucket_counts: Vec<u64>,
}

/// Points that are quantiles.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Summaries {
    /// The points.
    #[serde(rename = "dataPoints")]
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<SummaryPoint>,
}

/// Quantiles at one time.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SummaryPoint {
    /// The time.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many values.
    #[serde(deserialize_with = "json::number")]
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[serde(deserialize_with = "json::number")]
    #[prost(double, tag = "5")]
    pub sum: f64,
    /// The quantiles.
    #[prost(message, repeated, tag = "6")]
    pub quantile_values: Vec<Quantile>,
    /// Of what.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// One quantile.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Quantile {
    /// From 0 to 1.
    #[serde(deserialize_with = "json::number")]
    #[prost(double, tag = "1")]
    pub quantile: f64,
    /// What lies there.
    #[serde(deserialize_with = "json::number")]
    #[prost(double, tag = "2")]
    pub value: f64,
}

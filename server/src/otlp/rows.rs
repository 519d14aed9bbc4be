//! OpenTelemetry records as rows.
//!
//! | record | table |
//! |---|---|
//! | log event whose name begins with `claude_code.` | `agent_events`, `name` without the prefix |
//! | span or log event with `gen_ai.operation.name` | `agent_events` |
//! | span of kind SERVER | `api_events` |
//! | any other | `otel_logs`, `otel_spans`, `otel_metrics` |
//!
//! Attribute names change from version to version of the conventions, so they stand in one table, [`RENAMED`], with all
//! names that a column ever had.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::keys;

use super::messages::{
    Any, AnyValue, Buckets, ExportLogs, ExportMetrics, ExportTraces, KeyValue, LogRecord, Metric, Resource, Span,
};

/// Rows by table.
pub type Rows = BTreeMap<&'static str, Vec<Value>>;

/// Column and attribute, newest name first. Version 1: GenAI conventions 1.28 to 1.37, HTTP conventions 1.23 and before,
/// Claude Code's events of 2025.
const RENAMED: &[(&str, &[&str])] = &[
    ("user_id", &["user.account_uuid", "enduser.id", "user.id"]),
    ("session_id", &["session.id", "gen_ai.conversation.id"]),
    ("account_id", &["organization.id"]),
    ("source_version", &["app.version", "service.version"]),
    ("agent", &["gen_ai.agent.name"]),
    ("model", &["gen_ai.response.model", "gen_ai.request.model", "model"]),
    ("tool", &["gen_ai.tool.name", "tool_name"]),
    ("tokens_input", &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "input_tokens"]),
    ("tokens_output", &["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "output_tokens"]),
    ("tokens_cache_read", &["gen_ai.usage.cache_read.input_tokens", "cache_read_tokens"]),
    ("tokens_cache_write", &["gen_ai.usage.cache_creation.input_tokens", "cache_creation_tokens"]),
    ("cost_usd", &["cost_usd"]),
    ("duration_ms", &["duration_ms"]),
    ("error_class", &["error.type", "status_code"]),
    ("route", &["http.route", "rpc.method"]),
    ("method", &["http.request.method", "http.method"]),
    ("status_code", &["http.response.status_code", "http.status_code"]),
    ("request_bytes", &["http.request.body.size", "http.request_content_length"]),
    ("response_bytes", &["http.response.body.size", "http.response_content_length"]),
    ("service", &["service.name"]),
];

const AGENT: &[&str] = &[
    "user_id",
    "session_id",
    "account_id",
    "source_version",
    "agent",
    "model",
    "tool",
    "tokens_input",
    "tokens_output",
    "tokens_cache_read",
    "tokens_cache_write",
    "cost_usd",
    "duration_ms",
    "error_class",
];
const API: &[&str] = &[
    "user_id",
    "session_id",
    "account_id",
    "source_version",
    "route",
    "method",
    "status_code",
    "request_bytes",
    "response_bytes",
    "service",
];
const GENERIC: &[&str] = &["user_id", "session_id", "service"];

/// Columns of integers and of numbers; Claude Code sends all of its attributes as text.
const INTEGERS: &[&str] = &[
    "tokens_input",
    "tokens_output",
    "tokens_cache_read",
    "tokens_cache_write",
    "status_code",
    "request_bytes",
    "response_bytes",
];
const NUMBERS: &[&str] = &["cost_usd", "duration_ms"];

/// The rows of log records.
pub fn of_logs(message: ExportLogs) -> Rows {
    let mut rows = Rows::new();
    for of in message.resources {
        let resource = attributes(of.resource.as_ref());
        for record in of.scopes.into_iter().flat_map(|scope| scope.items) {
            let (table, row) = log(record, &resource);
            rows.entry(table).or_default().push(row);
        }
    }
    rows
}

/// The rows of spans.
pub fn of_traces(message: ExportTraces) -> Rows {
    let mut rows = Rows::new();
    for of in message.resources {
        let resource = attributes(of.resource.as_ref());
        for record in of.scopes.into_iter().flat_map(|scope| scope.items) {
            let (table, row) = span(record, &resource);
            rows.entry(table).or_default().push(row);
        }
    }
    rows
}

/// The rows of metrics: one a point.
pub fn of_metrics(message: ExportMetrics) -> Rows {
    let mut rows = Vec::new();
    for of in message.resources {
        let resource = attributes(of.resource.as_ref());
        for metric in of.scopes.into_iter().flat_map(|scope| scope.items) {
            numbers(&metric, &resource, &mut rows);
            distributions(&metric, &resource, &mut rows);
        }
    }
    if rows.is_empty() { Rows::new() } else { Rows::from([("otel_metrics", rows)]) }
}

fn numbers(metric: &Metric, resource: &Map<String, Value>, rows: &mut Vec<Value>) {
    let kinds = [("gauge", &metric.gauge), ("sum", &metric.sum)];
    for (kind, numbers) in kinds.into_iter().filter_map(|(kind, numbers)| Some((kind, numbers.as_ref()?))) {
        for point in &numbers.points {
            let mut row = Row::new(point.attributes.clone(), resource, GENERIC);
            row.set("value", point.as_double.or(point.as_int.map(|n| n as f64)));
            rows.push(row.of_metric(metric, kind, numbers.temporality, point.time_unix_nano));
        }
    }
}

/// Sum and number of values are columns; buckets and quantiles are properties.
fn distributions(metric: &Metric, resource: &Map<String, Value>, rows: &mut Vec<Value>) {
    if let Some(of) = &metric.histogram {
        for point in &of.points {
            let mut row = Row::new(point.attributes.clone(), resource, GENERIC);
            row.set("value", point.sum);
            row.set("values_counted", i64::try_from(point.count).ok());
            if !point.bucket_counts.is_empty() {
                row.properties.insert("bucket_counts".into(), point.bucket_counts.clone().into());
                row.properties.insert("explicit_bounds".into(), point.explicit_bounds.clone().into());
            }
            rows.push(row.of_metric(metric, "histogram", of.temporality, point.time_unix_nano));
        }
    }
    if let Some(of) = &metric.exponential_histogram {
        for point in &of.points {
            let mut row = Row::new(point.attributes.clone(), resource, GENERIC);
            row.set("value", point.sum);
            row.set("values_counted", i64::try_from(point.count).ok());
            row.properties.insert("scale".into(), point.scale.into());
            row.properties.insert("zero_count".into(), point.zero_count.into());
            for (name, buckets) in [("positive", &point.positive), ("negative", &point.negative)] {
                row.properties.extend(buckets.as_ref().map(|buckets| (name.to_string(), shown_buckets(buckets))));
            }
            rows.push(row.of_metric(metric, "exponential_histogram", of.temporality, point.time_unix_nano));
        }
    }
    for point in metric.summary.iter().flat_map(|of| &of.points) {
        let mut row = Row::new(point.attributes.clone(), resource, GENERIC);
        row.set("value", Some(point.sum));
        row.set("values_counted", i64::try_from(point.count).ok());
        let quantiles = point.quantile_values.iter().map(|q| (q.quantile.to_string(), Value::from(q.value)));
        row.properties.insert("quantiles".into(), Value::Object(quantiles.collect()));
        rows.push(row.of_metric(metric, "summary", 0, point.time_unix_nano));
    }
}

fn shown_buckets(buckets: &Buckets) -> Value {
    json!({ "offset": buckets.offset, "bucket_counts": buckets.bucket_counts })
}

fn log(record: LogRecord, resource: &Map<String, Value>) -> (&'static str, Value) {
    let named = [record.event_name.as_str(), attribute(&record.attributes, "event.name")];
    let name = named.into_iter().find(|name| !name.is_empty()).unwrap_or("").to_string();
    let body = record.body.as_ref().map(value);
    // Claude Code before 2.1 names its events `user_prompt` and has the prefix in the body.
    let prefixed = [Some(name.as_str()), body.as_ref().and_then(Value::as_str)];
    let claude = prefixed.into_iter().flatten().find_map(|text| text.strip_prefix("claude_code.")).map(str::to_string);
    let time = if record.time_unix_nano == 0 { record.observed_time_unix_nano } else { record.time_unix_nano };
    let of_agent = claude.is_some() || !attribute(&record.attributes, "gen_ai.operation.name").is_empty();
    let mut row = Row::new(record.attributes, resource, if of_agent { AGENT } else { GENERIC });
    row.set("event_time", shown(time));
    if of_agent {
        if let Some(claude) = &claude {
            row.set_absent("agent", "claude_code".into());
            let status = match claude.as_str() {
                "api_error" => "error",
                "tool_result" if row.properties.get("success").is_some_and(|v| v == "false" || *v == false) => "error",
                _ => "ok",
            };
            row.set("status", Some(status));
        }
        row.set("name", Some(claude.unwrap_or(name)));
        return ("agent_events", row.finish());
    }
    row.set("name", Some(name).filter(|n| !n.is_empty()));
    row.set("severity", Some(record.severity_text).filter(|s| !s.is_empty()));
    row.set("body", body.map(|body| body.as_str().map_or_else(|| body.to_string(), str::to_string)));
    row.set("trace_id", hex(&record.trace_id));
    row.set("span_id", hex(&record.span_id));
    ("otel_logs", row.finish())
}

fn span(span: Span, resource: &Map<String, Value>) -> (&'static str, Value) {
    const SERVER: i32 = 2;
    let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
    let of_agent = !attribute(&span.attributes, "gen_ai.operation.name").is_empty();
    let operation = attribute(&span.attributes, "gen_ai.operation.name").to_string();
    let duration_ms = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) as f64 / 1e6;
    let columns = match (of_agent, span.kind) {
        (true, _) => AGENT,
        (false, SERVER) => API,
        _ => GENERIC,
    };
    let mut row = Row::new(span.attributes, resource, columns);
    let id = format!("{}/{}", hex(&span.trace_id).unwrap_or_default(), hex(&span.span_id).unwrap_or_default());
    row.set("event_id", Some(id).filter(|id| id.len() > 1));
    if of_agent {
        row.set("name", Some(operation));
        // An execution is told when it ends.
        row.set("event_time", shown(span.end_time_unix_nano));
        row.set("duration_ms", Some(duration_ms));
        row.set("status", Some(if failed { "error" } else { "ok" }));
        return ("agent_events", row.finish());
    }
    row.set("event_time", shown(span.start_time_unix_nano));
    row.set("trace_id", hex(&span.trace_id));
    row.set("span_id", hex(&span.span_id));
    row.set("parent_span_id", hex(&span.parent_span_id));
    row.set("name", Some(span.name));
    if span.kind == SERVER {
        row.set("latency_ms", Some(duration_ms));
        return ("api_events", row.finish());
    }
    row.set("duration_ms", Some(duration_ms));
    row.set("status", Some(if failed { "error" } else { "ok" }));
    row.set("error", span.status.map(|status| status.message).filter(|m| !m.is_empty()));
    ("otel_spans", row.finish())
}

/// One row in the making: renamed attributes in their columns, the others in `properties`.
struct Row {
    columns: Map<String, Value>,
    properties: Map<String, Value>,
}

impl Row {
    fn new(own: Vec<KeyValue>, resource: &Map<String, Value>, wanted: &[&str]) -> Self {
        let mut properties = resource.clone();
        properties.extend(own.into_iter().map(|kv| (kv.key, kv.value.as_ref().map_or(Value::Null, value))));
        let mut columns = Map::new();
        for (column, names) in RENAMED.iter().filter(|(column, _)| wanted.contains(column)) {
            let found = names.iter().find_map(|name| Some((*name, fitted(column, properties.get(*name)?)?)));
            if let Some((name, value)) = found {
                properties.remove(name);
                columns.insert((*column).to_string(), value);
            }
        }
        Self { columns, properties }
    }

    fn set(&mut self, column: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.columns.insert(column.to_string(), value.into());
        }
    }

    fn set_absent(&mut self, column: &str, value: Value) {
        self.columns.entry(column.to_string()).or_insert(value);
    }

    fn of_metric(mut self, metric: &Metric, kind: &str, temporality: i32, time: u64) -> Value {
        self.set("name", Some(metric.name.as_str()));
        self.set("unit", Some(metric.unit.as_str()).filter(|unit| !unit.is_empty()));
        self.set("kind", Some(kind));
        self.set(
            "temporality",
            ["delta", "cumulative"].get((temporality - 1).max(0) as usize).filter(|_| temporality > 0).copied(),
        );
        self.set("event_time", shown(time));
        self.finish()
    }

    fn finish(mut self) -> Value {
        if !self.properties.is_empty() {
            self.columns
                .insert("properties".into(), Value::Object(std::mem::take(&mut self.properties)).to_string().into());
        }
        if !self.columns.contains_key("event_id") {
            // The keys of a map are in order, so the same record gives the same text.
            let text = Value::Object(self.columns.clone()).to_string();
            let digest = Sha256::digest(text.as_bytes());
            self.set("event_id", hex(digest.get(..16).unwrap_or_default()));
        }
        Value::Object(self.columns)
    }
}

/// The value as its column takes it; none if it cannot be.
fn fitted(column: &str, found: &Value) -> Option<Value> {
    let text = match found {
        Value::String(text) => text.trim().to_string(),
        Value::Null => return None,
        other => other.to_string(),
    };
    if INTEGERS.contains(&column) {
        return text.parse::<i64>().ok().map(Value::from);
    }
    if NUMBERS.contains(&column) {
        return text.parse::<f64>().ok().map(Value::from);
    }
    (!text.is_empty()).then(|| Value::from(text))
}

fn attributes(resource: Option<&Resource>) -> Map<String, Value> {
    let attributes = resource.into_iter().flat_map(|r| &r.attributes);
    attributes.map(|kv| (kv.key.clone(), kv.value.as_ref().map_or(Value::Null, value))).collect()
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> &'a str {
    let found = attributes.iter().find(|kv| kv.key == name).and_then(|kv| kv.value.as_ref()?.value.as_ref());
    match found {
        Some(Any::Text(text)) => text,
        _ => "",
    }
}

fn value(any: &AnyValue) -> Value {
    match &any.value {
        None => Value::Null,
        Some(Any::Text(text)) => Value::from(text.as_str()),
        Some(Any::Bool(b)) => Value::from(*b),
        Some(Any::Int(n)) => Value::from(*n),
        Some(Any::Double(n)) => Value::from(*n),
        Some(Any::List(list)) => list.values.iter().map(value).collect(),
        Some(Any::Object(object)) => {
            object.values.iter().map(|kv| (kv.key.clone(), kv.value.as_ref().map_or(Value::Null, value))).collect()
        }
        Some(Any::Bytes(bytes)) => hex(bytes).map_or(Value::Null, Value::from),
    }
}

/// A time as text; none for 0, which is "not known".
fn shown(unix_nano: u64) -> Option<String> {
    let time = i64::try_from(unix_nano).ok().filter(|ns| *ns > 0)?;
    Some(DateTime::from_timestamp_nanos(time).to_rfc3339_opts(SecondsFormat::Nanos, true))
}

fn hex(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| keys::hex(bytes))
}

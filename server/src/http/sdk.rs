//! Events as the SDKs of other products send them, so that a program keeps its SDK and changes its address:
//! Segment's `POST /v1/batch`, PostHog's `POST /batch/`, and CloudEvents at `POST /api/v1/cloudevents/{table}`.
//!
//! Each event becomes one JSON row of an event table and takes the way of `POST /api/v1/ingest/{table}`: on disk before the
//! answer, once per id, kept with its reason in `<table>__rejected` when it cannot be read. The SDKs' own services answer
//! 200 also for events that they drop, and the SDKs count on it; so does this one, and the rejected table tells.

use std::io::Read;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use millstream::TableInfo;
use millstream_proto::v1::Ack;
use serde_json::{Map, Value, json};

use super::gate::{authorize, body};
use super::ingest::problem_of;
use super::{App, Problem};
use crate::ingest::find_table;
use crate::keys::{KeyId, Role};

/// The table of analytics SDKs: what people do in a product.
const PRODUCT_TABLE: &str = "ide_events";

/// A packed body may grow to so many times the bound of a plain one.
const UNPACKED_FACTOR: usize = 8;

/// PostHog's rule: an event that still lies so far ahead after its clock was set right is of now.
const FUTURE_MAX: TimeDelta = TimeDelta::hours(23);

/// Segment: `{"batch": [{type, event, userId, messageId, timestamp, properties, ...}], sentAt}`.
pub async fn segment(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Problem> {
    let headers = request.headers().clone();
    let message = message(&app, request).await?;
    let key = basic_user(&headers).or_else(|| text(&message, "writeKey"));
    let key = producer(&app, &headers, key)?;
    let clock = Clocks::new(&app, message.get("sentAt"));
    let events = batch(&message)?;
    let table = table(&app, PRODUCT_TABLE)?;
    let rows = events.iter().map(|event| segment_row(event, &table, &clock)).collect();
    send(&app, key, PRODUCT_TABLE, "segment", rows).await?;
    Ok(Json(json!({ "success": true })))
}

/// PostHog: `{"api_key", "batch": [{event, distinct_id, uuid, timestamp, properties}], sent_at}`.
pub async fn posthog(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Problem> {
    let headers = request.headers().clone();
    let message = message(&app, request).await?;
    let key = producer(&app, &headers, text(&message, "api_key"))?;
    let clock = Clocks::new(&app, message.get("sent_at"));
    let events = batch(&message)?;
    let table = table(&app, PRODUCT_TABLE)?;
    let rows = events.iter().map(|event| posthog_row(event, &table, &clock)).collect();
    send(&app, key, PRODUCT_TABLE, "posthog", rows).await?;
    Ok(Json(json!({ "status": 1 })))
}

/// CloudEvents 1.0 in structured mode: one event, or an array of them.
pub async fn cloudevents(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let key = authorize(&app, request.headers(), &[Role::Producer])?;
    let events = match message(&app, request).await? {
        Value::Array(events) => events,
        event => vec![event],
    };
    let clock = Clocks::new(&app, None);
    let table = table(&app, &name)?;
    let rows = events.iter().map(|event| cloudevent_row(event, &table, &clock)).collect();
    let ack = send(&app, key, &name, "cloudevents", rows).await?;
    let (accepted, duplicates) = (ack.accepted, ack.duplicates);
    Ok(Json(json!({ "accepted": accepted, "duplicates": duplicates, "rejected_rows": ack.rejected_rows })))
}

fn segment_row(event: &Value, table: &TableInfo, clock: &Clocks) -> Value {
    let Some(fields) = event.as_object() else { return event.clone() };
    let kind = text(event, "type").unwrap_or_default();
    let properties = fields.get("properties").or_else(|| fields.get("traits"));
    let mut row = Row::new(table, properties);
    let name = text(event, "event").or_else(|| text(event, "name")).unwrap_or(kind);
    row.set("name", Some(name.into()));
    row.set("event_id", Some(text(event, "messageId").map_or_else(new_id, Value::from)));
    row.set("event_time", Some(clock.of(fields.get("timestamp"), false)));
    row.set("user_id", text(event, "userId").map(Value::from));
    row.set("anonymous_id", text(event, "anonymousId").map(Value::from));
    let context = fields.get("context").unwrap_or(&Value::Null);
    row.set_absent("account_id", context.get("groupId").cloned());
    row.set_absent("os", context.pointer("/os/name").cloned());
    row.set_absent("source_version", context.pointer("/app/version").or(context.pointer("/library/version")).cloned());
    row.finish()
}

fn posthog_row(event: &Value, table: &TableInfo, clock: &Clocks) -> Value {
    let Some(fields) = event.as_object() else { return event.clone() };
    let none = Value::Null;
    let properties = fields.get("properties").unwrap_or(&none);
    let mut row = Row::new(table, Some(properties));
    row.set("name", fields.get("event").cloned());
    row.set("event_id", Some(text(event, "uuid").map_or_else(new_id, Value::from)));
    let ignored = properties.get("$ignore_sent_at").and_then(Value::as_bool).unwrap_or(false);
    row.set("event_time", Some(clock.of(fields.get("timestamp"), ignored)));
    let distinct = text(event, "distinct_id").or_else(|| text(properties, "distinct_id"));
    row.set("user_id", distinct.map(Value::from));
    row.set("anonymous_id", text(properties, "$anon_distinct_id").map(Value::from));
    row.set_absent("session_id", properties.get("$session_id").cloned());
    row.set_absent("os", properties.get("$os").cloned());
    row.set_absent("country", properties.get("$geoip_country_code").cloned());
    row.set_absent("source_version", properties.get("$lib_version").cloned());
    row.finish()
}

fn cloudevent_row(event: &Value, table: &TableInfo, clock: &Clocks) -> Value {
    let (Some(fields), Some(id), Some(source)) = (event.as_object(), text(event, "id"), text(event, "source")) else {
        return event.clone();
    };
    let mut properties = match fields.get("data") {
        Some(Value::Object(data)) => data.clone(),
        Some(data) => Map::from_iter([("data".to_string(), data.clone())]),
        None => Map::new(),
    };
    for (name, value) in fields {
        if !matches!(name.as_str(), "data" | "id" | "type" | "time" | "specversion" | "datacontenttype") {
            properties.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let mut row = Row::new(table, Some(&Value::Object(properties)));
    // An id is unique within its source only.
    row.set("event_id", Some(format!("{source}#{id}").into()));
    row.set("name", fields.get("type").cloned());
    row.set("event_time", Some(clock.of(fields.get("time"), true)));
    row.finish()
}

/// One row in the making: what the table has a column for goes there, the rest into `properties`.
struct Row<'a> {
    table: &'a TableInfo,
    columns: Map<String, Value>,
    properties: Map<String, Value>,
}

impl<'a> Row<'a> {
    fn new(table: &'a TableInfo, properties: Option<&Value>) -> Self {
        let mut row = Self { table, columns: Map::new(), properties: Map::new() };
        for (name, value) in properties.and_then(Value::as_object).into_iter().flatten() {
            let own = matches!(name.as_str(), "event_id" | "event_time" | "name" | "properties");
            if !own && row.fits(name, value) {
                row.columns.insert(name.clone(), value.clone());
            } else if name != "$ip" {
                row.properties.insert(name.clone(), value.clone());
            }
        }
        row
    }

    /// Whether the table has such a column and takes such a value.
    fn fits(&self, name: &str, value: &Value) -> bool {
        let Ok(field) = self.table.schema.field_with_name(name) else { return false };
        match value {
            Value::String(_) => matches!(field.data_type(), arrow::datatypes::DataType::Utf8),
            Value::Number(n) if field.data_type().is_integer() => n.is_i64(),
            Value::Number(_) => field.data_type().is_floating(),
            Value::Bool(_) => *field.data_type() == arrow::datatypes::DataType::Boolean,
            _ => false,
        }
    }

    fn set(&mut self, column: &str, value: Option<Value>) {
        if let Some(value) = value.filter(|v| !v.is_null()) {
            self.columns.insert(column.to_string(), value);
        }
    }

    fn set_absent(&mut self, column: &str, value: Option<Value>) {
        let value = value.filter(|value| self.fits(column, value));
        if !self.columns.contains_key(column) {
            self.set(column, value);
        }
    }

    fn finish(mut self) -> Value {
        if !self.properties.is_empty() && self.table.schema.field_with_name("properties").is_ok() {
            let properties = Value::Object(std::mem::take(&mut self.properties)).to_string();
            self.columns.insert("properties".into(), properties.into());
        }
        Value::Object(self.columns)
    }
}

/// The sender's clock against ours.
struct Clocks {
    now: DateTime<Utc>,
    /// What to add to the sender's times.
    behind: TimeDelta,
}

impl Clocks {
    fn new(app: &App, sent_at: Option<&Value>) -> Self {
        let now = DateTime::from_timestamp_nanos(app.clock.now());
        let sent_at = sent_at.and_then(Value::as_str).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        Self { now, behind: sent_at.map_or(TimeDelta::zero(), |sent| now - sent.to_utc()) }
    }

    /// When an event happened by our clock. A time that cannot be read stays as it is: the row is refused with it.
    fn of(&self, time: Option<&Value>, trusted: bool) -> Value {
        let shown = |time: DateTime<Utc>| Value::from(time.to_rfc3339_opts(SecondsFormat::Micros, true));
        let Some(time) = time.filter(|t| !t.is_null()) else { return shown(self.now) };
        let Some(read) = time.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()) else {
            return time.clone();
        };
        let read = read.to_utc();
        if trusted {
            return shown(read);
        }
        let set_right = read.checked_add_signed(self.behind).unwrap_or(self.now);
        shown(if set_right - self.now > FUTURE_MAX { self.now } else { set_right })
    }
}

fn new_id() -> Value {
    uuid::Uuid::now_v7().to_string().into()
}

fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn batch(message: &Value) -> Result<&Vec<Value>, Problem> {
    let missing = || Problem::bad_request("the body has no list `batch`; send {\"batch\": [...]}");
    message.get("batch").and_then(Value::as_array).ok_or_else(missing)
}

fn table(app: &App, name: &str) -> Result<TableInfo, Problem> {
    find_table(&*app.engine, name).map_err(|e| problem_of(crate::ingest::status_of(&e)))
}

/// The key of the header, else the one that the SDK puts elsewhere.
fn producer(app: &App, headers: &HeaderMap, elsewhere: Option<String>) -> Result<KeyId, Problem> {
    match elsewhere {
        Some(key) => app.keys.authenticate(Some(&format!("Bearer {key}")), &[Role::Producer]).map_err(Problem::from),
        None => authorize(app, headers, &[Role::Producer]),
    }
}

/// The user of `Authorization: Basic`: Segment's SDKs send their write key so.
fn basic_user(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(user, _)| user.to_string())
}

/// The body as JSON, unpacked if it is packed.
async fn message(app: &App, request: Request) -> Result<Value, Problem> {
    let bytes = plain_body(app, request).await?;
    serde_json::from_slice(&bytes).map_err(|e| Problem::bad_request(format!("the body is not JSON: {e}")))
}

/// The body, unpacked if it is packed.
pub async fn plain_body(app: &App, request: Request) -> Result<Bytes, Problem> {
    let packed = request.headers().get(header::CONTENT_ENCODING).is_some_and(|v| v == "gzip");
    let bytes = body(app, request).await?;
    if packed { unpacked(app, &bytes) } else { Ok(bytes) }
}

fn unpacked(app: &App, bytes: &Bytes) -> Result<Bytes, Problem> {
    let max = app.config.http.request_bytes_max.saturating_mul(UNPACKED_FACTOR);
    let mut plain = Vec::new();
    let reader = flate2::read::GzDecoder::new(bytes.as_ref());
    let read = reader.take(max as u64 + 1).read_to_end(&mut plain);
    read.map_err(|e| Problem::bad_request(format!("the body is not gzip as its header says: {e}")))?;
    if plain.len() > max {
        let detail = format!(
            "the unpacked body is over {max} bytes (8 times http.request_bytes_max); send fewer events at a time"
        );
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body", "The body is too large", detail));
    }
    Ok(plain.into())
}

/// Hands the rows to the service that gRPC speaks to; when it returns they are on disk.
async fn send(app: &App, key: KeyId, table: &str, producer: &str, rows: Vec<Value>) -> Result<Ack, Problem> {
    app.ingest.send_json(key, table, producer, rows).await.map_err(problem_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_key_in_a_basic_header() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Basic bWlsbHN0cmVhbV9hYmM6".parse().unwrap());
        assert_eq!(basic_user(&headers).as_deref(), Some("millstream_abc"));
        headers.insert(header::AUTHORIZATION, "Basic !".parse().unwrap());
        assert_eq!(basic_user(&headers), None);
    }

    #[test]
    fn a_wrong_clock_is_set_right_and_the_far_future_is_now() {
        let now = DateTime::parse_from_rfc3339("2026-11-23T12:00:00Z").unwrap().to_utc();
        let clocks = Clocks { now, behind: TimeDelta::hours(-2) };
        let of = |text: &str, trusted| clocks.of(Some(&text.into()), trusted);
        assert_eq!(of("2026-11-23T13:59:00Z", false), "2026-11-23T11:59:00.000000Z", "its clock is two hours ahead");
        assert_eq!(of("2026-11-23T13:59:00Z", true), "2026-11-23T13:59:00.000000Z");
        assert_eq!(of("2026-12-23T00:00:00Z", false), "2026-11-23T12:00:00.000000Z");
        assert_eq!(of("yesterday", false), "yesterday", "the row is refused with it");
        assert_eq!(clocks.of(None, false), "2026-11-23T12:00:00.000000Z");
    }
}

//! Typed events to columns: a decoder of protobuf's wire format that is driven by a message's descriptor.
//!
//! The descriptor is read once per table, into a list from field number to column. No event ever exists as a struct and no
//! field as a `String`: bytes go from the request into the column. A bad event is refused alone.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use millstream::{Error, Result};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use super::columns::{Columns, JSON_METADATA};
use super::{Decoded, Refusal, Rejected};

/// The typed events: the message, and the table that its events go to.
pub const MESSAGES: [(&str, &str); 12] = [
    ("IdeEvent", "ide_events"),
    ("WorkflowEvent", "workflow_events"),
    ("ApiEvent", "api_events"),
    ("AgentEvent", "agent_events"),
    ("MarketplaceEvent", "marketplace_events"),
    ("SubscriptionEvent", "subscription_events"),
    ("PaymentEvent", "payment_events"),
    ("PriceEvent", "price_events"),
    ("CostEvent", "cost_events"),
    ("StorageEvent", "storage_events"),
    ("IncidentEvent", "incident_events"),
    ("IdentityEvent", "identity_events"),
];

/// Field numbers above this are not ours: the protos keep theirs below 120.
const FIELD_NUMBER_MAX: usize = 1_023;

const SEEN_EVENT_ID: u8 = 1;
const SEEN_EVENT_TIME: u8 = 2;

fn pool() -> Result<&'static DescriptorPool> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(millstream_proto::FILE_DESCRIPTOR_SET).map_err(|e| e.to_string()))
        .as_ref()
        .map_err(|e| Error::Bug(format!("the compiled descriptors cannot be read: {e}")))
}

fn descriptor_of(message: &str) -> Result<MessageDescriptor> {
    pool()?.get_message_by_name(&format!("millstream.v1.{message}")).ok_or_else(|| {
        let known: Vec<&str> = MESSAGES.iter().map(|(name, _)| *name).collect();
        Error::Config(format!("unknown message '{message}'; the typed events are {}", known.join(", ")))
    })
}

/// The columns of a typed event, in the order of its fields; the metadata `description` of each is its comment in the proto.
///
/// *Errors*: `Config` for a name that is no message.
pub fn schema_of(message: &str) -> Result<SchemaRef> {
    let descriptor = descriptor_of(message)?;
    let mut fields = Vec::new();
    for field in descriptor.fields() {
        let mut metadata = HashMap::new();
        if let Some(comment) = comment_of(&field) {
            metadata.insert("description".to_string(), comment);
        }
        if field.is_map() {
            metadata.insert(JSON_METADATA.0.to_string(), JSON_METADATA.1.to_string());
        }
        let required = matches!(field.name(), "event_id" | "event_time");
        let data_type = match Decode::of(&field)? {
            Decode::Text | Decode::Names(_) | Decode::Map => DataType::Utf8,
            Decode::Varint | Decode::ZigZag | Decode::Fixed => DataType::Int64,
            Decode::Bool => DataType::Boolean,
            Decode::Double | Decode::Float => DataType::Float64,
            Decode::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
        };
        fields.push(Field::new(field.name(), data_type, !required).with_metadata(metadata));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn comment_of(field: &FieldDescriptor) -> Option<String> {
    let file = field.parent_message().parent_file();
    let path = field.path();
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let location = info.location.iter().find(|location| location.path == path)?;
    let text: Vec<&str> = location.leading_comments.as_deref()?.lines().map(str::trim).collect();
    Some(text.join(" ").trim().to_string())
}

/// How a field's bytes become a value.
#[derive(Debug)]
enum Decode {
    Text,
    /// An enum, by number: the names of its values without prefix, in lower case.
    Names(HashMap<i64, String>),
    /// `map<string, string>`: one JSON object.
    Map,
    Varint,
    ZigZag,
    Fixed,
    Bool,
    Double,
    Float,
    Time,
}

impl Decode {
    fn of(field: &FieldDescriptor) -> Result<Self> {
        let unsupported = || {
            Err(Error::Bug(format!(
                "field {} has a type that has no column; use scalars, enums, Timestamp or map",
                field.full_name()
            )))
        };
        if field.is_map() {
            return Ok(Self::Map);
        }
        if field.is_list() {
            return unsupported();
        }
        Ok(match field.kind() {
            Kind::String => Self::Text,
            Kind::Int32 | Kind::Int64 | Kind::Uint32 => Self::Varint,
            Kind::Sint32 | Kind::Sint64 => Self::ZigZag,
            Kind::Sfixed64 | Kind::Sfixed32 | Kind::Fixed32 => Self::Fixed,
            Kind::Bool => Self::Bool,
            Kind::Double => Self::Double,
            Kind::Float => Self::Float,
            Kind::Enum(values) => {
                let prefix = format!("{}_", upper_snake(values.name()));
                let name = |value: &str| value.strip_prefix(&prefix).unwrap_or(value).to_lowercase();
                Self::Names(values.values().map(|v| (i64::from(v.number()), name(v.name()))).collect())
            }
            Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => Self::Time,
            _ => return unsupported(),
        })
    }
}

fn upper_snake(name: &str) -> String {
    let mut text = String::new();
    for (i, c) in name.char_indices() {
        if c.is_uppercase() && i > 0 {
            text.push('_');
        }
        text.extend(c.to_uppercase());
    }
    text
}

#[derive(Debug)]
struct FieldPlan {
    name: String,
    decode: Decode,
    /// The table's column; `None` if the table leaves the field out.
    column: Option<usize>,
    /// `SEEN_EVENT_ID`, `SEEN_EVENT_TIME` or 0.
    seen: u8,
}

/// Decodes the events of one message into the columns of one table.
#[derive(Debug)]
pub struct Decoder {
    message: String,
    schema: SchemaRef,
    event_time: Option<String>,
    /// By field number.
    fields: Vec<Option<FieldPlan>>,
}

impl Decoder {
    /// A decoder of `message` for a table with the columns of `schema`, matched by name. A field that the table leaves out is
    /// skipped; a column that the message lacks is NULL.
    ///
    /// *Errors*: `Config` if the message is unknown or a column has another type than its field.
    pub fn new(message: &str, schema: &SchemaRef, event_time: Option<&str>) -> Result<Self> {
        let typed = schema_of(message)?;
        let mut fields = Vec::new();
        for field in descriptor_of(message)?.fields() {
            let number = field.number() as usize;
            if number > FIELD_NUMBER_MAX {
                return Err(Error::Bug(format!("{} has a number above {FIELD_NUMBER_MAX}", field.full_name())));
            }
            let column = schema.index_of(field.name()).ok();
            if let Some(column) = column {
                let is = schema.field(column).data_type();
                let must = typed.field_with_name(field.name())?.data_type();
                if is != must {
                    let name = field.name();
                    return Err(Error::Config(format!(
                        "column {name} is {is} but the field of {message} is {must}; declare it so"
                    )));
                }
            }
            let seen = match field.name() {
                "event_id" => SEEN_EVENT_ID,
                "event_time" => SEEN_EVENT_TIME,
                _ => 0,
            };
            if fields.len() <= number {
                fields.resize_with(number + 1, || None);
            }
            if let Some(slot) = fields.get_mut(number) {
                *slot = Some(FieldPlan { name: field.name().into(), decode: Decode::of(&field)?, column, seen });
            }
        }
        Ok(Self { message: message.into(), schema: schema.clone(), event_time: event_time.map(Into::into), fields })
    }

    /// The columns that it decodes to.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes `repeated <message> events = 1`.
    ///
    /// *Errors*: `MALFORMED` if the list itself cannot be told apart into events, `TOO_MANY_ROWS`. A bad event is no error:
    /// it is among the rejected.
    pub fn decode(&self, events: &Bytes, rows_max: usize) -> Result<Decoded> {
        let rows = self.split(events, rows_max)?;
        // Text is checked for UTF-8 once per column. Only if that fails, which is rare, every text is checked by itself to
        // find the rows to refuse.
        match self.decode_rows(events, &rows, false) {
            Err(Error::Event { code: "INVALID_UTF8", .. }) => self.decode_rows(events, &rows, true),
            other => other,
        }
    }

    /// The place of every event in `events`.
    fn split(&self, events: &[u8], rows_max: usize) -> Result<Vec<std::ops::Range<usize>>> {
        let mut rows = Vec::new();
        let mut rest = events;
        while !rest.is_empty() {
            let malformed = || {
                let at = events.len() - rest.len();
                Error::event(
                    "MALFORMED",
                    format!("the list of {} breaks off or is no protobuf at byte {at}", self.message),
                )
            };
            let mut data = rest;
            let (number, value) = read_field(&mut data).ok_or_else(malformed)?;
            match value {
                Wire::Bytes(row) if number == 1 => {
                    let end = events.len() - data.len();
                    rows.push(end - row.len()..end);
                }
                _ if number == 1 => return Err(malformed()),
                _ => {}
            }
            rest = data;
        }
        if rows.len() > rows_max {
            return Err(super::too_many_rows(rows.len(), rows_max));
        }
        Ok(rows)
    }

    fn decode_rows(&self, events: &Bytes, rows: &[std::ops::Range<usize>], check_utf8: bool) -> Result<Decoded> {
        let mut columns = Columns::new(&self.schema, self.event_time.as_deref(), rows.len());
        let mut rejected = Vec::new();
        for (index, range) in rows.iter().enumerate() {
            let raw = events.get(range.clone()).unwrap_or_default();
            let outcome = self.decode_row(raw, &mut columns, check_utf8);
            if let Err(refusal) = columns.end_row(outcome) {
                rejected.push(Rejected { index: index as u32, refusal, raw: events.slice(range.clone()) });
            }
        }
        Ok(Decoded { batch: columns.finish()?, rejected, rows: rows.len() })
    }

    fn decode_row(&self, mut data: &[u8], columns: &mut Columns, check_utf8: bool) -> Result<(), Refusal> {
        let row = columns.row();
        let mut seen = 0;
        while !data.is_empty() {
            let (number, value) = read_field(&mut data).ok_or_else(|| self.malformed("it breaks off"))?;
            let Some(Some(field)) = self.fields.get(number) else { continue };
            if check_utf8 {
                field.check_utf8(&value)?;
            }
            if field.seen != 0 && !matches!(value, Wire::Bytes([])) {
                seen |= field.seen;
            }
            let Some(column) = field.column.and_then(|i| columns.column(i)) else {
                continue;
            };
            match (&field.decode, value) {
                (Decode::Text, Wire::Bytes([])) => column.set_null(row),
                (Decode::Text, Wire::Bytes(text)) => column.set_text(row, text),
                (Decode::Names(_), Wire::Varint(0)) => column.set_null(row),
                (Decode::Names(names), Wire::Varint(number)) => match names.get(&(number as i64)) {
                    Some(name) => column.set_text(row, name.as_bytes()),
                    None => column.set_text(row, (number as i64).to_string().as_bytes()),
                },
                (Decode::Map, Wire::Bytes(entry)) => {
                    let (key, value) = map_entry(entry).ok_or_else(|| self.malformed("a map's entry breaks off"))?;
                    column.extend_text(row, |bytes, more| json_entry(bytes, more, key, value));
                }
                (Decode::Time, Wire::Bytes(time)) => {
                    let nanos = self.timestamp(&field.name, time)?;
                    column.set_int(row, nanos);
                }
                (Decode::Varint | Decode::Bool, Wire::Varint(value)) => {
                    column.set_int(row, value as i64);
                }
                (Decode::ZigZag, Wire::Varint(value)) => {
                    column.set_int(row, (value >> 1) as i64 ^ -((value & 1) as i64));
                }
                (Decode::Fixed, Wire::Fixed64(value)) => {
                    column.set_int(row, value as i64);
                }
                (Decode::Fixed, Wire::Fixed32(value)) => {
                    column.set_int(row, i64::from(value as i32));
                }
                (Decode::Double, Wire::Fixed64(value)) => {
                    column.set_float(row, f64::from_bits(value));
                }
                (Decode::Float, Wire::Fixed32(value)) => {
                    column.set_float(row, f64::from(f32::from_bits(value)));
                }
                _ => return Err(self.malformed(&format!("field {} has another wire type", field.name))),
            }
        }
        if seen & SEEN_EVENT_TIME == 0 {
            let message = "field event_time is missing; every event needs the time at which it happened".to_string();
            return Err(Refusal { code: "MISSING_EVENT_TIME", message });
        }
        if seen & SEEN_EVENT_ID == 0 {
            let message = "field event_id is missing; give every event an id of its own, such as a UUIDv7".to_string();
            return Err(Refusal { code: "MISSING_EVENT_ID", message });
        }
        Ok(())
    }

    fn malformed(&self, what: &str) -> Refusal {
        Refusal { code: "MALFORMED", message: format!("the event is not a valid {}: {what}", self.message) }
    }

    fn timestamp(&self, name: &str, mut data: &[u8]) -> Result<i64, Refusal> {
        let (mut seconds, mut nanos) = (0_i64, 0_i64);
        while !data.is_empty() {
            let field = read_field(&mut data).ok_or_else(|| self.malformed("a Timestamp breaks off"))?;
            match field {
                (1, Wire::Varint(value)) => seconds = value as i64,
                (2, Wire::Varint(value)) => nanos = value as i64,
                _ => {}
            }
        }
        let time = seconds.checked_mul(1_000_000_000).and_then(|time| time.checked_add(nanos));
        match time {
            Some(time) if (0..1_000_000_000).contains(&nanos) => Ok(time),
            _ => Err(out_of_range(name, &format!("{seconds} s and {nanos} ns"))),
        }
    }
}

/// The refusal of a time that nanoseconds cannot hold.
pub(crate) fn out_of_range(column: &str, value: &str) -> Refusal {
    let message = format!("column {column} is out of range: {value}; times go from 1677-09-21 to 2262-04-11");
    Refusal { code: "INVALID_EVENT_TIME", message }
}

impl FieldPlan {
    fn check_utf8(&self, value: &Wire<'_>) -> Result<(), Refusal> {
        let valid = match (&self.decode, value) {
            (Decode::Text, Wire::Bytes(text)) => std::str::from_utf8(text).is_ok(),
            (Decode::Map, Wire::Bytes(entry)) => map_entry(entry)
                .is_none_or(|(key, value)| std::str::from_utf8(key).is_ok() && std::str::from_utf8(value).is_ok()),
            _ => true,
        };
        let message = || format!("field {} is not valid UTF-8; text is UTF-8 in protobuf", self.name);
        if valid { Ok(()) } else { Err(Refusal { code: "INVALID_UTF8", message: message() }) }
    }
}

/// A field's value as it is on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// Takes one field: its number and value. `None` if the bytes break off or are no protobuf (groups count as that).
fn read_field<'a>(data: &mut &'a [u8]) -> Option<(usize, Wire<'a>)> {
    let key = read_varint(data)?;
    let number = usize::try_from(key >> 3).ok().filter(|number| *number > 0)?;
    let value = match key & 7 {
        0 => Wire::Varint(read_varint(data)?),
        1 => {
            let (bytes, rest) = data.split_first_chunk::<8>()?;
            *data = rest;
            Wire::Fixed64(u64::from_le_bytes(*bytes))
        }
        2 => {
            let len = usize::try_from(read_varint(data)?).ok()?;
            let (bytes, rest) = data.split_at_checked(len)?;
            *data = rest;
            Wire::Bytes(bytes)
        }
        5 => {
            let (bytes, rest) = data.split_first_chunk::<4>()?;
            *data = rest;
            Wire::Fixed32(u32::from_le_bytes(*bytes))
        }
        _ => return None,
    };
    Some((number, value))
}

fn read_varint(data: &mut &[u8]) -> Option<u64> {
    let (first, rest) = data.split_first()?;
    if *first < 0x80 {
        *data = rest;
        return Some(u64::from(*first));
    }
    let mut value = 0_u64;
    for (i, byte) in data.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            *data = data.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}

fn map_entry(mut data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    while !data.is_empty() {
        match read_field(&mut data)? {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, Wire::Bytes(bytes)) => value = bytes,
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    Some((key, value))
}

/// Writes `{"key":"value"}`, or puts `,"key":"value"` before the brace that ends `bytes`.
fn json_entry(bytes: &mut Vec<u8>, more: bool, key: &[u8], value: &[u8]) {
    if more {
        bytes.pop();
        bytes.push(b',');
    } else {
        bytes.push(b'{');
    }
    json_string(bytes, key);
    bytes.push(b':');
    json_string(bytes, value);
    bytes.push(b'}');
}

fn json_string(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20) {
        let (plain, special) = rest.split_at(at);
        bytes.extend_from_slice(plain);
        match special.first() {
            Some(b @ (b'"' | b'\\')) => bytes.extend_from_slice(&[b'\\', *b]),
            Some(b) => bytes.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
            None => {}
        }
        rest = special.get(1..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest);
    bytes.push(b'"');
}

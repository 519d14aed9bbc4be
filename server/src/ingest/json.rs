//! JSON rows to columns, in one pass from the text into the columns, with the place and the fix for every bad row.
//!
//! Strict where a table would silently hold something else: unknown keys are refused, text is no number, 1.5 is no integer.

use std::collections::HashMap;
use std::fmt;

use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::DataType;
use arrow::json::ReaderBuilder;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use millstream::{Result, TableInfo};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::columns::{Column, Columns, Values, sql_name};
use super::decode::out_of_range;
use super::{Decoded, Refusal, Rejected};

/// The greatest integer up to which every integer is a double of its own.
const EXACT_DOUBLE_MAX: f64 = 9_007_199_254_740_992.0;

/// How much of a wrong value is shown in its error, characters.
const SHOWN_CHARS_MAX: usize = 40;

/// Decodes `rows`, one JSON object each, into the columns of `table`.
///
/// A key that is missing is NULL; an empty string stays one. Times are RFC 3339 text (without a zone: UTC) or a number since 1970, whose unit its size
/// tells: seconds below 1e11, milliseconds below 1e14, microseconds below 1e17, nanoseconds from there on.
///
/// *Errors*: `TOO_MANY_ROWS`. A bad row is no error: it is among the rejected.
pub fn decode(table: &TableInfo, rows: &[Bytes], rows_max: usize) -> Result<Decoded> {
    if rows.len() > rows_max {
        return Err(super::too_many_rows(rows.len(), rows_max));
    }
    let names = Names::new(table);
    let mut columns = Columns::new(&table.schema, table.event_time.as_deref(), rows.len());
    let mut rejected = Vec::new();
    for (index, raw) in rows.iter().enumerate() {
        let outcome = decode_row(&names, &mut columns, raw);
        if let Err(refusal) = columns.end_row(outcome) {
            rejected.push(Rejected { index: index as u32, refusal, raw: raw.clone() });
        }
    }
    Ok(Decoded { batch: columns.finish()?, rejected, rows: rows.len() })
}

fn decode_row(names: &Names, columns: &mut Columns, raw: &[u8]) -> Result<(), Refusal> {
    let mut refusal = None;
    let mut parser = serde_json::Deserializer::from_slice(raw);
    let row = Row { names, columns, refusal: &mut refusal };
    let Err(e) = row.deserialize(&mut parser).and_then(|()| parser.end()) else { return Ok(()) };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let message = if e.is_data() {
        format!("the row is not a JSON object: {e}")
    } else {
        format!("the row is not valid JSON: {e}")
    };
    Err(Refusal { code: "MALFORMED_JSON", message })
}

/// The table's columns by name.
struct Names {
    table: String,
    ordered: Vec<String>,
    by_name: HashMap<String, usize>,
}

impl Names {
    fn new(table: &TableInfo) -> Self {
        let ordered: Vec<String> = table.schema.fields().iter().map(|field| field.name().clone()).collect();
        let by_name = ordered.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        Self { table: table.name.clone(), ordered, by_name }
    }

    /// The column of `key`; `guess` is the likely one, for rows usually have their keys in one order.
    fn find(&self, key: &str, guess: usize) -> Option<usize> {
        match self.ordered.get(guess) {
            Some(name) if name == key => Some(guess),
            _ => self.by_name.get(key).copied(),
        }
    }
}

struct Row<'a> {
    names: &'a Names,
    columns: &'a mut Columns,
    /// Where a refusal is put that serde's own error cannot carry.
    refusal: &'a mut Option<Refusal>,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the table's columns as keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let row = self.columns.row();
        let mut guess = 0;
        while let Some(index) = map.next_key_seed(Key { names: self.names, guess, refusal: self.refusal })? {
            guess = index + 1;
            let is_event_time = self.columns.is_event_time(index);
            let Some(column) = self.columns.column(index) else { continue };
            map.next_value_seed(Cell { column, row, is_event_time, refusal: self.refusal })?;
        }
        Ok(())
    }
}

struct Key<'a> {
    names: &'a Names,
    guess: usize,
    refusal: &'a mut Option<Refusal>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<usize, E> {
        if let Some(index) = self.names.find(key, self.guess) {
            return Ok(index);
        }
        *self.refusal = Some(unknown_column(&self.names.table, key, &self.names.ordered));
        Err(E::custom("unknown column"))
    }
}

/// The refusal of a column that the table does not have.
pub(crate) fn unknown_column(table: &str, column: &str, known: &[String]) -> Refusal {
    let column = shown(column);
    let message = format!("table {table} has no column {column}; its columns are {}", known.join(", "));
    Refusal { code: "UNKNOWN_COLUMN", message }
}

struct Cell<'a> {
    column: &'a mut Column,
    row: usize,
    is_event_time: bool,
    refusal: &'a mut Option<Refusal>,
}

impl Cell<'_> {
    fn refuse<E: serde::de::Error>(self, refusal: Refusal) -> Result<(), E> {
        *self.refusal = Some(refusal);
        Err(E::custom("refused"))
    }

    fn wrong<E: serde::de::Error>(self, got: &str) -> Result<(), E> {
        let field = &self.column.field;
        let message = format!(
            "column {} is {} but the row has {got}; send {}",
            field.name(),
            sql_name(field.data_type()),
            wanted(field.data_type())
        );
        self.refuse(Refusal { code: "WRONG_TYPE", message })
    }

    fn set_int<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.column.values {
            Values::Time(_) => match nanos_of(value) {
                Some(nanos) => self.set_time(nanos),
                None => self.wrong(&value.to_string()),
            },
            Values::Bool(_) | Values::Text { .. } => self.wrong(&format!("the number {value}")),
            Values::Int(_) | Values::Float(_) | Values::Other(_) => {
                if self.column.set_int(self.row, value) {
                    Ok(())
                } else {
                    self.wrong(&format!("the number {value}"))
                }
            }
        }
    }

    fn set_time<E: serde::de::Error>(self, nanos: i64) -> Result<(), E> {
        self.column.set_int(self.row, nanos);
        Ok(())
    }

    /// Any type that has no columns of its own here, by Arrow's JSON reader, one value at a time.
    fn set_other<E: serde::de::Error>(self, value: &serde_json::Value) -> Result<(), E> {
        let decoded =
            ReaderBuilder::new_with_field(self.column.field.clone()).build_decoder().and_then(|mut decoder| {
                decoder.serialize(&[value])?;
                decoder.flush()
            });
        match decoded {
            Ok(Some(batch)) if batch.num_rows() == 1 => {
                self.column.set_other(self.row, batch.column(0).clone());
                Ok(())
            }
            _ => self.wrong(&format!("the value {}", shown(&value.to_string()))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if matches!(self.column.values, Values::Other(_)) {
            let value = <serde_json::Value as serde::Deserialize>::deserialize(deserializer)?;
            if value.is_null() {
                self.column.set_null(self.row);
                return Ok(());
            }
            return self.set_other(&value);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", sql_name(self.column.field.data_type()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.column.set_null(self.row);
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        if matches!(self.column.values, Values::Bool(_)) {
            self.column.set_int(self.row, i64::from(value));
            return Ok(());
        }
        self.wrong(if value { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.set_int(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.set_int(value),
            Err(_) if matches!(self.column.values, Values::Float(_)) => self.visit_f64(value as f64),
            Err(_) => self.wrong(&format!("the number {value}")),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        let exact = value.fract() == 0.0 && value.abs() <= EXACT_DOUBLE_MAX;
        match self.column.values {
            Values::Float(_) => {
                self.column.set_float(self.row, value);
                Ok(())
            }
            Values::Time(_) => match nanos_of_double(value) {
                Some(nanos) => self.set_time(nanos),
                None => self.wrong(&format!("the number {value}")),
            },
            Values::Int(_) if exact => self.set_int(value as i64),
            _ => self.wrong(&format!("the number {value}")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match self.column.values {
            Values::Text { .. } => {
                self.column.set_text(self.row, text.as_bytes());
                Ok(())
            }
            Values::Time(_) => {
                let time: Option<DateTime<Utc>> = string_to_datetime(&Utc, text).ok();
                match time.map(|time| time.timestamp_nanos_opt()) {
                    Some(Some(nanos)) => self.set_time(nanos),
                    Some(None) if self.is_event_time => {
                        let refusal = out_of_range(self.column.field.name(), &shown(text));
                        self.refuse(refusal)
                    }
                    _ => self.wrong(&format!("the text {}", shown(text))),
                }
            }
            _ => self.wrong(&format!("the text {}", shown(text))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if !self.column.json {
            return self.wrong("an object");
        }
        let object = serde::de::value::MapAccessDeserializer::new(map);
        let value = <serde_json::Value as serde::Deserialize>::deserialize(object)?;
        let text = serde_json::to_string(&value).map_err(A::Error::custom)?;
        self.column.set_text(self.row, text.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.wrong("an array")
    }
}

fn wanted(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "a JSON string",
        DataType::Boolean => "true or false",
        DataType::Timestamp(_, _) => "RFC 3339 text such as \"2026-01-31T12:00:00Z\" or a number since 1970",
        data_type if data_type.is_integer() => "a JSON number without a fraction that fits",
        data_type if data_type.is_floating() => "a JSON number",
        _ => "a value of that type",
    }
}

fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    format!("'{cut}'")
}

/// Nanoseconds in the unit that the size of a number tells.
fn unit_nanos(magnitude: f64) -> i64 {
    match magnitude {
        m if m < 1e11 => 1_000_000_000,
        m if m < 1e14 => 1_000_000,
        m if m < 1e17 => 1_000,
        _ => 1,
    }
}

/// A number since 1970 in nanoseconds. `None` if nanoseconds cannot hold it.
fn nanos_of(value: i64) -> Option<i64> {
    value.checked_mul(unit_nanos(value.unsigned_abs() as f64))
}

/// As [`nanos_of`] for a number with a fraction, to the microsecond: a double holds no more.
fn nanos_of_double(value: f64) -> Option<i64> {
    let unit = unit_nanos(value.abs());
    if unit == 1 {
        return (value.abs() < i64::MAX as f64).then_some(value as i64);
    }
    let micros = (value * (unit / 1_000) as f64).round();
    if micros.abs() < (i64::MAX / 1_000) as f64 { (micros as i64).checked_mul(1_000) } else { None }
}

//! One column of a batch as CSV cells, formatted from the Arrow buffers without a `String` per cell.

use std::fmt::Write as _;

use arrow::array::types::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::array::{
    Array, ArrayRef, AsArray, LargeBinaryArray, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Datelike, Timelike, Utc};

use crate::{Error, Result};

/// The columns of one batch, dictionaries unpacked and the kinds of binary made one.
pub(super) struct Cells {
    fields: Vec<FieldRef>,
    arrays: Vec<ArrayRef>,
    json: EncoderOptions,
}

impl Cells {
    pub(super) fn of(batch: &RecordBatch) -> Result<Self> {
        let arrays = batch.columns().iter().map(plain).collect::<Result<Vec<_>>>()?;
        let json =
            EncoderOptions::default().with_explicit_nulls(true).with_timestamp_format("%Y-%m-%dT%H:%M:%S%.fZ".into());
        Ok(Self { fields: batch.schema().fields().iter().cloned().collect(), arrays, json })
    }

    pub(super) fn columns(&self, formula_guard: bool) -> Result<Vec<Column<'_>>> {
        let parts = self.fields.iter().zip(&self.arrays);
        parts.map(|(field, array)| self.column(field, array.as_ref(), formula_guard)).collect()
    }

    fn column<'a>(&'a self, field: &'a FieldRef, array: &'a dyn Array, guard: bool) -> Result<Column<'a>> {
        let column = match array.data_type() {
            DataType::Null => Column::Null,
            DataType::Utf8 => Column::Text(array.as_string(), guard),
            DataType::LargeUtf8 => Column::LargeText(array.as_string(), guard),
            DataType::Utf8View => Column::TextView(array.as_string_view(), guard),
            DataType::LargeBinary => Column::Binary(array.as_binary()),
            DataType::Timestamp(unit, _) => Column::Timestamp {
                name: field.name(),
                values: timestamp_values(array, *unit),
                unit: *unit,
                nulls: array.nulls().cloned(),
            },
            t if t.is_nested() && !matches!(t, DataType::Union(..) | DataType::RunEndEncoded(..)) => {
                Column::Json(make_encoder(field, array, &self.json)?, Vec::new())
            }
            t if t.is_numeric() || matches!(t, DataType::Boolean | DataType::Date32) => {
                Column::Plain(array, ArrayFormatter::try_new(array, &FORMAT)?)
            }
            _ => Column::Other(array, ArrayFormatter::try_new(array, &FORMAT)?, String::new()),
        };
        Ok(column)
    }
}

const FORMAT: FormatOptions<'static> = FormatOptions::new();

fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Dictionary(_, values) => plain(&cast(array, values)?)?,
        DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_) => cast(array, &DataType::LargeBinary)?,
        DataType::Date64 => cast(array, &DataType::Date32)?,
        _ => array.clone(),
    })
}

fn timestamp_values(array: &dyn Array, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values().clone(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values().clone(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values().clone(),
    }
}

/// A column ready to be written cell by cell; the `bool` of texts is the formula guard.
pub(super) enum Column<'a> {
    Null,
    Text(&'a StringArray, bool),
    LargeText(&'a LargeStringArray, bool),
    TextView(&'a StringViewArray, bool),
    Binary(&'a LargeBinaryArray),
    Timestamp {
        name: &'a str,
        values: ScalarBuffer<i64>,
        unit: TimeUnit,
        nulls: Option<NullBuffer>,
    },
    /// Numbers and dates, whose text never needs quotes.
    Plain(&'a dyn Array, ArrayFormatter<'a>),
    Json(NullableEncoder<'a>, Vec<u8>),
    /// The rare types, through a scratch text that may need quotes.
    Other(&'a dyn Array, ArrayFormatter<'a>, String),
}

impl Column<'_> {
    pub(super) fn write(&mut self, row: usize, out: &mut String) -> Result<()> {
        match self {
            Self::Null => {}
            Self::Text(array, guard) => {
                if array.is_valid(row) {
                    write_quoted(out, array.value(row), *guard);
                }
            }
            Self::LargeText(array, guard) => {
                if array.is_valid(row) {
                    write_quoted(out, array.value(row), *guard);
                }
            }
            Self::TextView(array, guard) => {
                if array.is_valid(row) {
                    write_quoted(out, array.value(row), *guard);
                }
            }
            Self::Binary(array) => {
                if array.is_valid(row) {
                    for byte in array.value(row) {
                        let _ = write!(out, "{byte:02x}");
                    }
                }
            }
            Self::Timestamp { name, values, unit, nulls } => {
                let null = nulls.as_ref().is_some_and(|n| n.is_null(row));
                if let Some(value) = values.get(row).copied().filter(|_| !null) {
                    let time = moment(value, *unit).ok_or_else(|| outside_calendar(name, row, value, *unit))?;
                    write_time(out, time);
                }
            }
            Self::Plain(array, formatter) => {
                if array.is_valid(row) {
                    formatter.value(row).write(out)?;
                }
            }
            Self::Json(encoder, scratch) => {
                if !encoder.is_null(row) {
                    scratch.clear();
                    encoder.encode(row, scratch);
                    write_quoted(out, &String::from_utf8_lossy(scratch), false);
                }
            }
            Self::Other(array, formatter, scratch) => {
                scratch.clear();
                if array.is_valid(row) {
                    formatter.value(row).write(scratch)?;
                }
                if !scratch.is_empty() {
                    write_quoted(out, scratch, false);
                }
            }
        }
        Ok(())
    }
}

/// A text cell: quoted when it must be, and when it is empty, since nothing at all means NULL.
pub(super) fn write_quoted(out: &mut String, text: &str, formula_guard: bool) {
    let guarded = formula_guard && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !text.is_empty() && !text.bytes().any(|b| matches!(b, b'"' | b',' | b'\r' | b'\n')) {
        if guarded {
            out.push('\'');
        }
        out.push_str(text);
        return;
    }
    out.push('"');
    if guarded {
        out.push('\'');
    }
    let mut parts = text.split('"');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str("\"\"");
        out.push_str(part);
    }
    out.push('"');
}

fn moment(value: i64, unit: TimeUnit) -> Option<DateTime<Utc>> {
    match unit {
        TimeUnit::Second => DateTime::from_timestamp(value, 0),
        TimeUnit::Millisecond => DateTime::from_timestamp_millis(value),
        TimeUnit::Microsecond => DateTime::from_timestamp_micros(value),
        TimeUnit::Nanosecond => Some(DateTime::from_timestamp_nanos(value)),
    }
}

fn outside_calendar(name: &str, row: usize, value: i64, unit: TimeUnit) -> Error {
    Error::Input(format!(
        "column {name:?} holds {value} ({unit:?}) in row {row} of a batch, a time outside the calendar; correct its unit"
    ))
}

/// ISO 8601 in UTC, with 3, 6 or 9 decimals where the fraction is not zero.
fn write_time(out: &mut String, time: DateTime<Utc>) {
    let (year, month, day) = (time.year(), time.month(), time.day());
    // ISO 8601 gives years beyond four digits a sign.
    let _ = match year {
        0..=9999 => write!(out, "{year:04}"),
        _ => write!(out, "{year:+05}"),
    };
    let _ = write!(out, "-{month:02}-{day:02}T{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
    let nanos = time.nanosecond();
    let _ = match nanos {
        0 => Ok(()),
        n if n % 1_000_000 == 0 => write!(out, ".{:03}", n / 1_000_000),
        n if n % 1_000 == 0 => write!(out, ".{:06}", n / 1_000),
        n => write!(out, ".{n:09}"),
    };
    out.push('Z');
}

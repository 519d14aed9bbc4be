//! Values as scripts write them, to Arrow and back: one spelling for each value, whatever table it comes from.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType,
};
use arrow::json::ReaderBuilder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};

use super::read::{Cell, DAY_ONE, Rows, cells, time_of};

const SECONDS_A_DAY: i64 = 86_400;

/// Rows as a batch of `schema`; columns that the script leaves out are null.
pub fn batch(script: &str, rows: &Rows, schema: &SchemaRef) -> Result<RecordBatch, String> {
    if let Some(unknown) = rows.header.iter().find(|h| schema.column_with_name(h).is_none()) {
        let at = rows.lines.start + 1;
        return Err(format!("{script}:{at}: the table has no column '{unknown}'"));
    }
    let mut objects = Vec::new();
    for (line, cells) in &rows.rows {
        let mut object = Map::new();
        for (name, cell) in rows.header.iter().zip(cells) {
            let Some((_, field)) = schema.column_with_name(name) else { continue };
            let value = json(cell, field.data_type()).map_err(|e| format!("{script}:{line}: {name}: {e}"))?;
            object.insert(name.clone(), value);
        }
        objects.push(Value::Object(object));
    }
    let at = rows.lines.start;
    let wrong = |e: arrow::error::ArrowError| format!("{script}:{at}: {e}");
    let mut decoder = ReaderBuilder::new(schema.clone()).with_strict_mode(true).build_decoder().map_err(wrong)?;
    decoder.serialize(&objects).map_err(wrong)?;
    Ok(decoder.flush().map_err(wrong)?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone())))
}

/// A value as JSON that Arrow decodes as `data_type`.
fn json(cell: &Cell, data_type: &DataType) -> Result<Value, String> {
    if cell.text == "null" && !cell.quoted {
        return Ok(Value::Null);
    }
    let parsed = || serde_json::from_str::<Value>(&cell.text).map_err(|e| format!("{}: {e}", cell.text));
    match data_type {
        DataType::Timestamp(..) => {
            let time = time_of(&cell.text).ok_or_else(|| format!("'{}' is not a time", cell.text))?;
            Ok(Value::String(full_time(time)))
        }
        DataType::Struct(_) | DataType::List(_) | DataType::Map(..) => with_full_times(parsed()?, data_type),
        DataType::Boolean => parsed(),
        t if t.is_integer() || t.is_floating() => parsed().or_else(|_| Ok(Value::String(cell.text.clone()))),
        _ => Ok(Value::String(cell.text.clone())),
    }
}

/// Times inside a struct or a list in full.
fn with_full_times(value: Value, data_type: &DataType) -> Result<Value, String> {
    match (value, data_type) {
        (Value::String(text), DataType::Timestamp(..)) => {
            time_of(&text).map(|t| Value::String(full_time(t))).ok_or_else(|| format!("'{text}' is not a time"))
        }
        (Value::Object(object), DataType::Struct(fields)) => {
            let inner = |(name, value): (String, Value)| match fields.find(&name) {
                Some((_, field)) => with_full_times(value, field.data_type()).map(|v| (name, v)),
                None => Ok((name, value)),
            };
            object.into_iter().map(inner).collect::<Result<_, _>>().map(Value::Object)
        }
        (Value::Array(values), DataType::List(of)) => {
            let inner = |value| with_full_times(value, of.data_type());
            values.into_iter().map(inner).collect::<Result<_, _>>().map(Value::Array)
        }
        (value, _) => Ok(value),
    }
}

/// Year, month, day of days since the epoch.
fn date_of(days: i64) -> (i64, i64, i64) {
    // Howard Hinnant's civil calendar: years from March, so that the leap day is the last one.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn clock(of_day: i64) -> String {
    let (seconds, nanoseconds) = (of_day.div_euclid(1_000_000_000), of_day.rem_euclid(1_000_000_000));
    let fraction = format!("{nanoseconds:09}");
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{:02}:{:02}:{:02}{dot}{fraction}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn full_time(time: i64) -> String {
    let day = SECONDS_A_DAY * 1_000_000_000;
    let (year, month, date) = date_of(time.div_euclid(day));
    format!("{year:04}-{month:02}-{date:02}T{}", clock(time.rem_euclid(day)))
}

/// A time as scripts write it.
fn time(time: i64) -> String {
    let of_day = time - DAY_ONE;
    if (0..SECONDS_A_DAY * 1_000_000_000).contains(&of_day) { clock(of_day) } else { full_time(time) }
}

/// Floats to twelve digits: sums may be added up in another order.
fn float(value: f64) -> String {
    let rounded = format!("{value:.11e}").parse::<f64>().unwrap_or(value);
    // A negative zero is a zero.
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// Text as a script has it: in quotes where it would be read as something else.
fn text(value: &str) -> String {
    let plain = Cell { text: value.to_string(), quoted: false };
    if value != "null" && cells(value).is_ok_and(|c| c == [plain]) {
        return value.to_string();
    }
    Value::String(value.to_string()).to_string()
}

/// A value in its one spelling; inside of structs and lists as JSON.
pub fn show(array: &ArrayRef, row: usize) -> Result<String, String> {
    spelling(array, row, false)
}

fn spelling(array: &ArrayRef, row: usize, inside: bool) -> Result<String, String> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Ok("null".to_string());
    }
    let as_type = |t: &DataType| cast(array, t).map_err(|e| e.to_string());
    let in_json = |plain: String| if inside { Value::String(plain).to_string() } else { plain };
    Ok(match array.data_type() {
        DataType::Timestamp(..) => {
            let times = as_type(&DataType::Timestamp(TimeUnit::Nanosecond, None))?;
            in_json(time(times.as_primitive::<TimestampNanosecondType>().value(row)))
        }
        DataType::Date32 => {
            let (year, month, day) = date_of(array.as_primitive::<Date32Type>().value(row).into());
            in_json(format!("{year:04}-{month:02}-{day:02}"))
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let times = as_type(&DataType::Time64(TimeUnit::Nanosecond))
                .and_then(|t| cast(&t, &DataType::Int64).map_err(|e| e.to_string()))?;
            in_json(clock(times.as_primitive::<Int64Type>().value(row)))
        }
        t if t.is_floating() => float(as_type(&DataType::Float64)?.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
            let value = as_type(&DataType::Utf8)?;
            let value = value.as_string::<i32>().value(row);
            if inside { Value::String(value.to_string()).to_string() } else { text(value) }
        }
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Struct(fields) => {
            let part = |(field, column): (&arrow::datatypes::FieldRef, &ArrayRef)| {
                Ok(format!("{}:{}", Value::String(field.name().clone()), spelling(column, row, true)?))
            };
            let parts = fields.iter().zip(array.as_struct().columns()).map(part).collect::<Result<Vec<_>, String>>()?;
            format!("{{{}}}", parts.join(","))
        }
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            let parts = (0..values.len()).map(|i| spelling(&values, i, true)).collect::<Result<Vec<_>, String>>()?;
            format!("[{}]", parts.join(","))
        }
        _ => {
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(array, &options).map_err(|e| e.to_string())?;
            let plain = formatter.value(row).to_string();
            if array.data_type().is_integer() || array.data_type() == &DataType::Boolean {
                plain
            } else if inside {
                in_json(plain)
            } else {
                text(&plain)
            }
        }
    })
}

/// A value that a script expects, in the spelling of [`show`] for its column's type.
pub fn expected(cell: &Cell, data_type: &DataType) -> Result<String, String> {
    if cell.text == "null" && !cell.quoted {
        return Ok("null".to_string());
    }
    match data_type {
        DataType::Null => Ok(text(&cell.text)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => Ok(text(&cell.text)),
        DataType::Timestamp(..)
        | DataType::Struct(_)
        | DataType::List(_)
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Time64(_) => {
            let field = arrow::datatypes::Field::new("value", data_type.clone(), true);
            let schema = std::sync::Arc::new(Schema::new(vec![field]));
            let row = Rows { header: vec!["value".into()], rows: vec![(0, vec![cell.clone()])], lines: 0..0 };
            show(batch("", &row, &schema)?.column(0), 0)
        }
        _ => Ok(if cell.quoted { text(&cell.text) } else { cell.text.clone() }),
    }
}

/// The column that a header names: `a`, or `a.b` for a field of a struct.
pub fn column(batch: &RecordBatch, name: &str) -> Option<ArrayRef> {
    if let Some(column) = batch.column_by_name(name) {
        return Some(column.clone());
    }
    let (outer, inner) = name.split_once('.')?;
    let outer = batch.column_by_name(outer)?;
    let DataType::Struct(fields) = outer.data_type() else { return None };
    let fields = Schema::new(fields.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>());
    let (columns, nulls) = (outer.as_struct().columns(), outer.nulls());
    // A field of a null struct is null.
    let columns = columns.iter().map(|c| masked(c, nulls)).collect::<Result<Vec<_>, _>>().ok()?;
    column(&RecordBatch::try_new(std::sync::Arc::new(fields), columns).ok()?, inner)
}

fn masked(column: &ArrayRef, nulls: Option<&arrow::buffer::NullBuffer>) -> Result<ArrayRef, arrow::error::ArrowError> {
    let both = arrow::buffer::NullBuffer::union(column.nulls(), nulls);
    Ok(arrow::array::make_array(column.to_data().into_builder().nulls(both).build()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        let spellings = [
            ("00:00:01.5", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ("2023-12-31T23:59:59", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ("1960-02-29T00:00:00", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ("\"a b\"", DataType::Utf8),
            ("\"null\"", DataType::Utf8),
            ("0.3", DataType::Float64),
            ("-1.50", DataType::Decimal128(10, 2)),
            ("[1,null]", DataType::List(arrow::datatypes::Field::new("item", DataType::Int64, true).into())),
        ];
        for (spelling, data_type) in spellings {
            let cell = cells(spelling).unwrap().remove(0);
            assert_eq!(expected(&cell, &data_type).unwrap(), spelling);
        }
    }
}

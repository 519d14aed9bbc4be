//! The statistics of a file in the Delta log: rows, and per column nulls, least and greatest value. Readers skip files by
//! them, so a bound may be too wide but never too narrow.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::kernels::aggregate::{max, max_string, min, min_string};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use serde_json::{Map, Value, json};

/// Columns with statistics; Delta's own default (`delta.dataSkippingNumIndexedCols`).
const COLUMNS_MAX: usize = 32;

/// Longest text kept as a bound, in characters; Delta's own default.
const TEXT_CHARACTERS_MAX: usize = 32;

/// Delta's `stats` JSON for a file that holds `batches` (all of one schema).
pub(crate) fn statistics(batches: &[RecordBatch]) -> String {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    let fields = batches.first().map(|b| b.schema().fields().clone()).unwrap_or_default();
    for (index, field) in fields.iter().enumerate().take(COLUMNS_MAX) {
        // The null count of a nested column is an object in Delta; leaving it out is allowed and means "unknown".
        if field.data_type().is_nested() {
            continue;
        }
        let columns: Vec<&ArrayRef> = batches.iter().map(|b| b.column(index)).collect();
        let null_count: usize = columns.iter().map(|c| c.null_count()).sum();
        nulls.insert(field.name().clone(), json!(null_count));
        if let Some((low, high)) = bounds(field.data_type(), &columns) {
            if let Some(low) = low {
                least.insert(field.name().clone(), low);
            }
            if let Some(high) = high {
                greatest.insert(field.name().clone(), high);
            }
        }
    }
    json!({ "numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": nulls }).to_string()
}

type Bounds = Option<(Option<Value>, Option<Value>)>;

/// `None` where every value is null or the type has no bounds here (booleans, bytes, decimals).
fn bounds(data_type: &DataType, columns: &[&ArrayRef]) -> Bounds {
    match data_type {
        DataType::Int8 => integers::<Int8Type>(columns),
        DataType::Int16 => integers::<Int16Type>(columns),
        DataType::Int32 => integers::<Int32Type>(columns),
        DataType::Int64 => integers::<Int64Type>(columns),
        DataType::Float32 => floats::<Float32Type>(columns),
        DataType::Float64 => floats::<Float64Type>(columns),
        DataType::Date32 => {
            let (low, high) = range::<Date32Type>(columns)?;
            Some((Some(json!(show_day(low)?)), Some(json!(show_day(high)?))))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let (low, high) = range::<TimestampMicrosecondType>(columns)?;
            // The protocol keeps milliseconds: round outwards.
            let high_ms = high.div_euclid(1_000) + i64::from(high.rem_euclid(1_000) > 0);
            Some((show_timestamp(low.div_euclid(1_000)), show_timestamp(high_ms)))
        }
        DataType::Utf8 => texts(columns),
        _ => None,
    }
}

fn range<T: ArrowPrimitiveType>(columns: &[&ArrayRef]) -> Option<(T::Native, T::Native)>
where
    T::Native: PartialOrd,
{
    let mut found: Option<(T::Native, T::Native)> = None;
    for column in columns {
        let column = column.as_primitive_opt::<T>()?;
        let (Some(low), Some(high)) = (min(column), max(column)) else { continue };
        found = Some(match found {
            None => (low, high),
            Some((l, h)) => (if low < l { low } else { l }, if high > h { high } else { h }),
        });
    }
    found
}

fn integers<T: ArrowPrimitiveType>(columns: &[&ArrayRef]) -> Bounds
where
    T::Native: PartialOrd + Into<i64>,
{
    let (low, high) = range::<T>(columns)?;
    Some((Some(json!(low.into())), Some(json!(high.into()))))
}

/// A NaN has no place in JSON and sorts differently in every reader: then there are no bounds.
fn floats<T: ArrowPrimitiveType>(columns: &[&ArrayRef]) -> Bounds
where
    T::Native: PartialOrd + Into<f64>,
{
    for column in columns {
        if column.as_primitive_opt::<T>()?.iter().flatten().any(|v| !v.into().is_finite()) {
            return None;
        }
    }
    let (low, high) = range::<T>(columns)?;
    Some((Some(json!(low.into())), Some(json!(high.into()))))
}

/// A prefix is a lower bound of the whole text but not an upper one: a long greatest value is left out.
fn texts(columns: &[&ArrayRef]) -> Bounds {
    let mut low: Option<&str> = None;
    let mut high: Option<&str> = None;
    for column in columns {
        let column = column.as_string_opt::<i32>()?;
        let (Some(l), Some(h)) = (min_string(column), max_string(column)) else { continue };
        low = Some(low.map_or(l, |old| old.min(l)));
        high = Some(high.map_or(h, |old| old.max(h)));
    }
    let (low, high) = (low?, high?);
    let prefix: String = low.chars().take(TEXT_CHARACTERS_MAX).collect();
    let short = high.chars().nth(TEXT_CHARACTERS_MAX).is_none();
    Some((Some(json!(prefix)), short.then(|| json!(high))))
}

/// `2026-11-23`; `None` outside the calendar's range.
pub(crate) fn show_day(day: i32) -> Option<String> {
    let date = chrono::DateTime::from_timestamp(i64::from(day) * 86_400, 0)?;
    Some(date.format("%Y-%m-%d").to_string())
}

/// The inverse of [`show_day`].
pub(crate) fn parse_day(text: &str) -> Option<i32> {
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()
}

fn show_timestamp(time_ms: i64) -> Option<Value> {
    let time = chrono::DateTime::from_timestamp_millis(time_ms)?;
    Some(json!(time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn of(columns: Vec<(&str, ArrayRef)>) -> Value {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        serde_json::from_str(&statistics(&[batch.slice(0, 1), batch.slice(1, 2)])).unwrap()
    }

    #[test]
    fn bounds_enclose_every_row() {
        let stats = of(vec![
            ("n", Arc::new(Int64Array::from(vec![Some(3), None, Some(-5)]))),
            ("f", Arc::new(Float64Array::from(vec![0.5, f64::NAN, 2.0]))),
            ("s", Arc::new(StringArray::from(vec!["b", "a", &"z".repeat(40)]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1, 1_000_001, 2_000]).with_timezone("UTC"))),
        ]);
        assert_eq!(
            stats,
            json!({
                "numRecords": 3,
                "minValues": { "n": -5, "s": "a", "at": "1970-01-01T00:00:00.000Z" },
                "maxValues": { "n": 3, "at": "1970-01-01T00:00:01.001Z" },
                "nullCount": { "n": 1, "f": 0, "s": 0, "at": 0 },
            })
        );
    }

    #[test]
    fn days_are_shown_and_read_back() {
        for day in [-1, 0, 1, 20_780] {
            assert_eq!(parse_day(&show_day(day).unwrap()), Some(day));
        }
        assert_eq!(show_day(20_780).unwrap(), "2026-11-23");
    }
}

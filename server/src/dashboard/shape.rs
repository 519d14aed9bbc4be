//! Rows as charts and tables need them: names of columns for people, sums, times on the clocks of a zone.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{SortOptions, cast, sort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use millstream::{Error, Result};

use super::ask::{numbers, texts};
use super::period::Period;
use super::table::heading;
use crate::label::capitalised;

/// Columns as a legend calls them: without the unit, and without the words that all begin with.
pub fn labels(columns: &[&str]) -> Vec<String> {
    let names: Vec<String> = columns.iter().map(|column| heading(column)).collect();
    let first = names.first().and_then(|name| name.split_once(' ')).map(|(word, _)| format!("{word} "));
    match first {
        Some(first) if names.len() > 1 && names.iter().all(|name| name.starts_with(&first)) => {
            names.iter().filter_map(|name| name.strip_prefix(&first).map(capitalised)).collect()
        }
        _ => names,
    }
}

/// The rows with other names for some columns.
pub fn renamed(rows: &RecordBatch, columns: &[&str], names: &[String]) -> Result<RecordBatch> {
    let name = |field: &Field| {
        let place = columns.iter().position(|column| column == field.name());
        place.and_then(|at| names.get(at)).cloned().unwrap_or_else(|| field.name().clone())
    };
    let fields: Vec<Field> = rows.schema().fields().iter().map(|f| f.as_ref().clone().with_name(name(f))).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), rows.columns().to_vec())?)
}

/// Rows of one time and name added up.
pub fn added_up(rows: &RecordBatch, time: &str, name: &str, value: &str) -> Result<RecordBatch> {
    let missing = |column: &str| Error::sql(format!("there is no column `{column}` to draw"));
    let times = rows.column_by_name(time).ok_or_else(|| missing(time))?;
    let names = texts(rows.column_by_name(name).ok_or_else(|| missing(name))?)?;
    let keys = texts(times)?;
    let mut places: HashMap<(Option<String>, Option<String>), usize> = HashMap::new();
    let (mut kept, mut sums) = (Vec::<u32>::new(), Vec::<f64>::new());
    for (row, ((key, name), number)) in (0u32..).zip(keys.into_iter().zip(&names).zip(numbers(rows, value))) {
        let place = *places.entry((key, name.clone())).or_insert_with(|| {
            kept.push(row);
            sums.push(0.0);
            sums.len() - 1
        });
        if let Some(sum) = sums.get_mut(place) {
            *sum += number.unwrap_or(0.0);
        }
    }
    let times = arrow::compute::take(times, &UInt32Array::from(kept.clone()), None)?;
    let names: StringArray = kept.iter().map(|row| names.get(*row as usize).cloned().flatten()).collect();
    let columns: [(&str, ArrayRef); 3] =
        [(time, times), (name, Arc::new(names)), (value, Arc::new(Float64Array::from(sums)))];
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?)
}

/// The rows with the greatest value first.
pub fn ranked(rows: &RecordBatch, value: &str) -> Result<RecordBatch> {
    let missing = || Error::sql(format!("there is no column `{value}` to draw"));
    let values = rows.column_by_name(value).ok_or_else(missing)?;
    let options = SortOptions { descending: true, nulls_first: false };
    Ok(take_record_batch(rows, &sort_to_indices(values, Some(options), None)?)?)
}

/// The rows as a table shows them: times on the clocks of the page, what they are broken down by in its own name, and no column that
/// says what the foot says, nor the time where all of it is one period.
pub fn for_people(rows: &RecordBatch, period: &Period, by: Option<&str>) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    let periods = rows.column_by_name("period").map(texts).transpose()?;
    let one_period = periods.is_some_and(|names| names.iter().all(|name| name.as_deref() == Some("all")));
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let name = field.name().as_str();
        if name == "complete" || one_period && name.starts_with("period") {
            continue;
        }
        if let (Some(by), "breakdown") = (by, name) {
            fields.push(field.as_ref().clone().with_name(by));
            columns.push(column.clone());
            continue;
        }
        if !matches!(field.data_type(), DataType::Timestamp(..)) || name.ends_with("_start") {
            fields.push(field.as_ref().clone());
            columns.push(column.clone());
            continue;
        }
        let nanos = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
        let nanos = cast(&nanos, &DataType::Int64)?;
        let text = |at: i64| period.local(at).format("%Y-%m-%d %H:%M").to_string();
        let shown: StringArray = nanos.as_primitive::<Int64Type>().iter().map(|at| at.map(text)).collect();
        fields.push(Field::new(name, DataType::Utf8, true));
        columns.push(Arc::new(shown));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

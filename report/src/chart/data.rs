//! From record batches to what is drawn: named series of numbers over a time, number or category axis.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{ChartSpec, scale};
use crate::{Error, Result};

/// The values of the x column, row by row; `None` where the column is null.
pub(super) enum Axis {
    TimeMs(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Category(Vec<Option<String>>),
}

/// One named series of rows; `y[i]` belongs to row `rows[i]` of the axis.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) rows: Vec<usize>,
    pub(super) y: Vec<Option<f64>>,
}

/// Everything a chart draws, read and checked.
pub(super) struct Data {
    pub(super) axis: Axis,
    pub(super) series: Vec<Series>,
}

impl Data {
    /// Reads the columns that the chart names. No batch at all is an empty chart, not an error.
    pub(super) fn read(spec: &ChartSpec) -> Result<Self> {
        let Some(first) = spec.data.first() else {
            return Ok(Self { axis: Axis::Category(Vec::new()), series: Vec::new() });
        };
        let batch = concat_batches(&first.schema(), &spec.data)?;
        let axis = read_axis(&batch, &spec.x)?;
        let names = spec.series.as_ref().map(|name| texts(column(&batch, name)?)).transpose()?;
        let mut series = Vec::new();
        for y_name in &spec.y {
            let sign = if spec.downwards.contains(y_name) { -1.0 } else { 1.0 };
            let y: Vec<Option<f64>> =
                numbers(&batch, y_name)?.into_iter().map(|y| y.map(|y| y * sign * spec.factor)).collect();
            match &names {
                None => series.push(Series { name: y_name.clone(), rows: (0..y.len()).collect(), y }),
                Some(names) => split(names, &y, (spec.y.len() > 1).then_some(y_name.as_str()), &mut series),
            }
        }
        Ok(Self { axis, series })
    }

    /// The place of a series among the colours: a few names have theirs everywhere, so that failures are never the colour of success.
    pub(super) fn colour(&self, index: usize) -> usize {
        let name = self.series.get(index).map_or(String::new(), |series| series.name.to_lowercase());
        match name.as_str() {
            "failures" | "errors" | "churn" => 1,
            "successes" | "expansion" => 2,
            "contraction" => 4,
            "reactivation" => 5,
            "cancelled" | "dormant" | "period before" => 7,
            _ => index,
        }
    }

    /// The greatest and the smallest number drawn.
    pub(super) fn y_range(&self) -> Option<(f64, f64)> {
        let values = self.series.iter().flat_map(|s| s.y.iter().flatten().copied());
        values.fold(None, |range, v| match range {
            None => Some((v, v)),
            Some((low, high)) => Some((v.min(low), v.max(high))),
        })
    }

    /// Keeps the series with the greatest sums of absolute values, in their order, and says how many were left out.
    pub(super) fn keep_largest(&mut self, max: usize) -> usize {
        let left_out = self.series.len().saturating_sub(max);
        if left_out > 0 {
            let weight = |s: &Series| s.y.iter().flatten().map(|v| v.abs()).sum::<f64>();
            let mut weights: Vec<f64> = self.series.iter().map(weight).collect();
            weights.sort_by(|a, b| b.total_cmp(a));
            let least = weights.get(max.saturating_sub(1)).copied().unwrap_or(0.0);
            self.series.retain(|s| weight(s) >= least);
            self.series.truncate(max);
        }
        left_out
    }
}

fn split(names: &[Option<String>], y: &[Option<f64>], y_name: Option<&str>, series: &mut Vec<Series>) {
    let mut place: HashMap<&str, usize> = HashMap::new();
    for (row, (name, value)) in names.iter().zip(y).enumerate() {
        let name = name.as_deref().unwrap_or("(none)");
        let index = *place.entry(name).or_insert_with(|| {
            let name = y_name.map_or_else(|| name.to_owned(), |y_name| format!("{name} · {y_name}"));
            series.push(Series { name, rows: Vec::new(), y: Vec::new() });
            series.len() - 1
        });
        if let Some(s) = series.get_mut(index) {
            s.rows.push(row);
            s.y.push(*value);
        }
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(|| {
        let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        Error::Input(format!("chart column {name:?} is not among the columns {names:?}; name one of them"))
    })
}

fn read_axis(batch: &RecordBatch, name: &str) -> Result<Axis> {
    let array = column(batch, name)?;
    Ok(match array.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Axis::TimeMs(times_ms(array)?),
        t if t.is_numeric() => Axis::Number(numbers(batch, name)?),
        _ => Axis::Category(texts(array)?),
    })
}

/// Times as milliseconds since the epoch; a time without a zone is taken as UTC.
fn times_ms(array: &dyn Array) -> Result<Vec<Option<i64>>> {
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    // Dates reach a zoned timestamp only through one without a zone.
    let array = match array.data_type() {
        DataType::Date32 | DataType::Date64 => cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None))?,
        _ => cast(array, &utc)?,
    };
    Ok(array.as_primitive::<TimestampMillisecondType>().iter().collect())
}

/// Numbers of any width as floats; what is not finite is a gap.
fn numbers(batch: &RecordBatch, name: &str) -> Result<Vec<Option<f64>>> {
    let array = column(batch, name)?;
    if !array.data_type().is_numeric() && !array.data_type().is_null() {
        return Err(Error::Input(format!(
            "chart column {name:?} is {}, and only numbers can be drawn; cast it in the SELECT",
            array.data_type()
        )));
    }
    let floats = cast(array, &DataType::Float64)?;
    Ok(floats.as_primitive::<Float64Type>().iter().map(|v| v.filter(|v| v.is_finite())).collect())
}

fn texts(array: &dyn Array) -> Result<Vec<Option<String>>> {
    if let DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 = array.data_type() {
        return times_ms(array).map(|times| labels_of_times(&times));
    }
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    (0..array.len())
        .map(|i| if array.is_null(i) { Ok(None) } else { Ok(Some(formatter.value(i).try_to_string()?)) })
        .collect()
}

/// Times written as categories, with only the parts that differ.
pub(super) fn labels_of_times(times_ms: &[Option<i64>]) -> Vec<Option<String>> {
    let known: Vec<i64> = times_ms.iter().flatten().copied().collect();
    let mut labels = scale::time_categories(&known).into_iter();
    times_ms.iter().map(|t| t.and_then(|_| labels.next())).collect()
}

//! Record batches as the texts of a printed table: numbers grouped and aligned, times in UTC, long texts cut.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::Timelike;

use crate::Result;
use crate::chart::utc;

/// A table ready to be set.
pub(super) struct Table {
    pub(super) names: Vec<String>,
    /// Whether the column is one of numbers, set flush right.
    pub(super) numeric: Vec<bool>,
    /// The share of the width that each column gets.
    pub(super) widths: Vec<f64>,
    /// The cells, row after row.
    pub(super) cells: Vec<String>,
    pub(super) rows_shown: usize,
    pub(super) rows_total: usize,
}

/// A cell longer than this is cut with an ellipsis: the whole text is in the CSV.
const CELL_CHARS_MAX: usize = 160;
/// A word longer than this may be broken anywhere, so that an id or a path stays inside its column.
const WORD_CHARS_MAX: usize = 18;

impl Table {
    /// The first `rows_max` rows of the batches.
    pub(super) fn of(batches: &[RecordBatch], rows_max: usize) -> Result<Option<Self>> {
        let Some(first) = batches.first() else { return Ok(None) };
        let schema = first.schema();
        let all = arrow::compute::concat_batches(&schema, &heads(batches, rows_max))?;
        let rows_total = batches.iter().map(RecordBatch::num_rows).sum();
        let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        let numeric = schema.fields().iter().map(|f| f.data_type().is_numeric()).collect();
        let columns = all.columns().iter().map(|c| texts(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let widths = names.iter().zip(&columns).map(|(name, cells)| width(name, cells)).collect();
        let rows_shown = all.num_rows();
        let mut cells = Vec::with_capacity(rows_shown * columns.len());
        for row in 0..rows_shown {
            cells.extend(columns.iter().map(|c| c.get(row).cloned().unwrap_or_default()));
        }
        Ok(Some(Self { names, numeric, widths, cells, rows_shown, rows_total }))
    }

    /// The size of the type in points: the more columns, the smaller.
    pub(super) fn font_points(&self) -> f64 {
        match self.names.len() {
            0..=7 => 8.0,
            8..=10 => 7.0,
            _ => 6.0,
        }
    }

    /// What is said under the table when rows are missing from it, or when there are none.
    pub(super) fn note(&self) -> String {
        match (self.rows_shown, self.rows_total) {
            (_, 0) => "No rows in this period.".into(),
            (shown, total) if shown < total => {
                format!("Showing {} of {} rows.", group_digits(&shown.to_string()), group_digits(&total.to_string()))
            }
            _ => String::new(),
        }
    }
}

fn heads(batches: &[RecordBatch], rows_max: usize) -> Vec<RecordBatch> {
    let mut left = rows_max;
    let mut heads = Vec::new();
    for batch in batches {
        let rows = left.min(batch.num_rows());
        heads.push(batch.slice(0, rows));
        left -= rows;
    }
    heads
}

/// Proportional to the longest cell, within limits, plus the padding of a cell.
fn width(name: &str, cells: &[String]) -> f64 {
    let longest = cells.iter().chain([&name.to_owned()]).map(|t| t.chars().count()).max().unwrap_or(0);
    longest.clamp(5, 36) as f64 + 2.0
}

fn texts(array: &dyn Array) -> Result<Vec<String>> {
    match array.data_type() {
        DataType::Timestamp(..) => times(array),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => floats(array),
        t => {
            let digits = t.is_numeric();
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(array, &options)?;
            let mut cells = Vec::with_capacity(array.len());
            for row in 0..array.len() {
                cells.push(match array.is_null(row) {
                    true => "–".into(),
                    false if digits => group_digits(&formatter.value(row).try_to_string()?),
                    false => breakable(&cut(&formatter.value(row).try_to_string()?)),
                });
            }
            Ok(cells)
        }
    }
}

/// One column has one number of decimals: as many as its values need, two at most, or more when all are small.
fn floats(array: &dyn Array) -> Result<Vec<String>> {
    let array = cast(array, &DataType::Float64)?;
    let values = array.as_primitive::<Float64Type>();
    let finite = || values.iter().flatten().filter(|v| v.is_finite());
    let greatest = finite().fold(0f64, |m, v| m.max(v.abs()));
    let decimals_max = match greatest {
        g if g >= 1.0 || g == 0.0 => 2,
        g => (2 - g.log10().floor() as i32).clamp(2, 9) as usize,
    };
    let needed = |v: f64| (0..decimals_max).find(|d| (v * 10f64.powi(*d as i32)).fract().abs() < 1e-9);
    let decimals = finite().map(|v| needed(v).unwrap_or(decimals_max)).max().unwrap_or(0);
    let text = |v: f64| match v.is_finite() {
        true => group_digits(&format!("{v:.decimals$}")),
        false => v.to_string(),
    };
    Ok(values.iter().map(|v| v.map_or("–".into(), text)).collect())
}

/// Times in UTC, with only the parts that some value of the column needs.
fn times(array: &dyn Array) -> Result<Vec<String>> {
    let array = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())))?;
    let values: Vec<_> = array.as_primitive::<TimestampMillisecondType>().iter().map(|t| t.and_then(utc)).collect();
    let known = || values.iter().flatten();
    let format = if known().all(|t| t.num_seconds_from_midnight() == 0 && t.nanosecond() == 0) {
        "%Y-%m-%d"
    } else if known().all(|t| t.second() == 0 && t.nanosecond() == 0) {
        "%Y-%m-%d %H:%M"
    } else if known().all(|t| t.nanosecond() == 0) {
        "%Y-%m-%d %H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S%.3f"
    };
    Ok(values.iter().map(|t| t.map_or("–".into(), |t| t.format(format).to_string())).collect())
}

/// `1234567.5` as `1,234,567.5`, with a true minus sign.
fn group_digits(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("−", digits));
    let (whole, rest) = digits.find('.').map_or((digits, ""), |point| digits.split_at(point));
    if !whole.bytes().all(|b| b.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut grouped = String::with_capacity(number.len() + number.len() / 3);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// Puts a zero-width space into every word too long for a column.
fn breakable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = 0;
    for c in text.chars() {
        run = if c.is_whitespace() { 0 } else { run + 1 };
        if run > WORD_CHARS_MAX {
            out.push('\u{200b}');
            run = 1;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn cells(array: impl Array + 'static) -> String {
        let batch = RecordBatch::try_from_iter([("c", Arc::new(array) as ArrayRef)]).unwrap();
        Table::of(&[batch], 100).unwrap().unwrap().cells.join(" | ")
    }

    #[test]
    fn numbers_are_grouped_and_columns_share_their_decimals() {
        assert_eq!(cells(Int64Array::from(vec![Some(1), Some(-1234567), None])), "1 | −1,234,567 | –");
        assert_eq!(cells(Float64Array::from(vec![1.5, 1000.0, 2.256])), "1.50 | 1,000.00 | 2.26");
        assert_eq!(cells(Float64Array::from(vec![1.0, 20000.0])), "1 | 20,000");
        assert_eq!(cells(Float64Array::from(vec![0.00123, 0.0004])), "0.00123 | 0.00040");
        assert_eq!(cells(Float64Array::from(vec![f64::NAN, 2.0])), "NaN | 2");
    }

    #[test]
    fn times_show_only_the_parts_they_need() {
        let minute = 60_000_000;
        assert_eq!(cells(TimestampMicrosecondArray::from(vec![0, 24 * 60 * minute])), "1970-01-01 | 1970-01-02");
        assert_eq!(cells(TimestampMicrosecondArray::from(vec![0, minute])), "1970-01-01 00:00 | 1970-01-01 00:01");
    }

    #[test]
    fn long_words_can_be_broken_and_long_texts_are_cut() {
        assert_eq!(cells(StringArray::from(vec!["abcdefghijklmnopqrstuvwxyz"])), "abcdefghijklmnopqr\u{200b}stuvwxyz");
        assert!(cells(StringArray::from(vec!["ä ".repeat(100)])).ends_with('…'));
    }

    #[test]
    fn a_bounded_table_says_how_many_rows_it_shows() {
        let batch = |n: i64| {
            RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..n)) as ArrayRef)]).unwrap()
        };
        let note = |batches: &[RecordBatch], max| Table::of(batches, max).unwrap().unwrap().note();
        assert_eq!(note(&[batch(900), batch(900)], 1000), "Showing 1,000 of 1,800 rows.");
        assert_eq!(note(&[batch(5)], 5), "");
        assert_eq!(note(&[batch(0)], 5), "No rows in this period.");
    }
}

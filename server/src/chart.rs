//! Which drawing suits an answer: chosen from the shape of its columns, so that a SQL file needs no settings.
//!
//! First column a time, or the label of a `period` whose start is a column too: a line, if there are two moments to join; one per
//! `breakdown` where there are several. First column text: lying bars. One row of numbers: headline figures. Else: a table alone.
//! A column `country` first: the map; `currency`: no drawing, since amounts of several currencies are never compared. Columns cohort,
//! n and rate_on: a grid.
//! The first number after the first column is drawn: put it there. Others may have other units and are in the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use millstream::Result;
use millstream_report::{ChartKind, ChartSpec, Theme};

use crate::adapt::report_error;
use crate::label;

/// How an answer is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drawing {
    /// Each column is a figure.
    Headline,
    /// Values over time.
    Line {
        /// The time.
        x: String,
        /// The value.
        y: String,
    },
    /// Values by name.
    Bars {
        /// The name.
        x: String,
        /// The value.
        y: String,
    },
    /// Values by country code.
    Map {
        /// The code.
        x: String,
        /// The value.
        y: String,
    },
    /// A grid of cohorts: age across, cohorts down.
    Cohorts {
        /// The share.
        y: String,
    },
    /// Nothing to draw.
    Table,
}

/// Chooses by the columns and the number of rows.
pub fn choose(schema: &Schema, rows: usize) -> Drawing {
    let Some(first) = schema.fields().first() else { return Drawing::Table };
    if rows == 1 && schema.fields().iter().all(|field| field.data_type().is_numeric()) {
        return Drawing::Headline;
    }
    let Some(value) = schema.fields().iter().skip(1).find(|field| field.data_type().is_numeric()) else {
        return Drawing::Table;
    };
    // A period's label is for reading; its start is a place on an axis.
    let start = schema.field_with_name("period_start").ok().filter(|_| first.name() == "period");
    let first = start.unwrap_or(first);
    let (x, y) = (first.name().clone(), value.name().clone());
    let named = |name: &str| schema.column_with_name(name).is_some();
    // Amounts of several currencies cannot be compared.
    if x == "currency" {
        return Drawing::Table;
    }
    if x == "country" {
        return Drawing::Map { x, y };
    }
    if named("cohort") && named("n") && named("rate_on") {
        return Drawing::Cohorts { y: "rate_on".into() };
    }
    match first.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 if rows < 2 => Drawing::Table,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Drawing::Line { x, y },
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => Drawing::Bars { x, y },
        _ => Drawing::Table,
    }
}

/// The chart of an answer, if its shape has one.
pub fn spec(title: &str, description: &str, schema: &Schema, batches: &[RecordBatch]) -> Option<ChartSpec> {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let (kind, x, y) = match choose(schema, rows) {
        Drawing::Line { x, y } => (ChartKind::Line, x, y),
        Drawing::Bars { x, y } => (ChartKind::HorizontalBars, x, y),
        Drawing::Map { x, y } => (ChartKind::Map, x, y),
        Drawing::Cohorts { y } => (ChartKind::Heat, "n".into(), y),
        Drawing::Headline | Drawing::Table => return None,
    };
    let (unit, factor, series) = match kind {
        ChartKind::Heat => ("%".to_string(), 100.0, Some("cohort".to_string())),
        _ => (label::titled(&y), 1.0, None),
    };
    let (batches, series, unit) = match series {
        None => by_currency(kind, schema, batches, unit)?,
        series => (batches.to_vec(), series, unit),
    };
    let series = series.or_else(|| {
        let names = names(&batches, "breakdown").filter(|names| kind == ChartKind::Line && names.len() > 1);
        names.map(|_| "breakdown".to_string())
    });
    // Bars of one name would hide each other.
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    if kind == ChartKind::HorizontalBars && names(&batches, &x)?.len() < rows {
        return None;
    }
    let chart = ChartSpec::new(kind, batches, x, y);
    let (title, description) = (title.to_string(), description.to_string());
    Some(ChartSpec { title, description, unit, factor, series, ..chart })
}

/// The different values of a column; `None` where there is no such column.
fn names(batches: &[RecordBatch], column: &str) -> Option<BTreeSet<Option<String>>> {
    let mut seen = BTreeSet::new();
    for batch in batches {
        let names = cast(batch.column_by_name(column)?, &DataType::Utf8).ok()?;
        seen.extend(names.as_string::<i32>().iter().map(|name| name.map(str::to_string)));
    }
    Some(seen)
}

/// Amounts of several currencies: lines are told apart, bars are those of the first row's currency, and the unit says which.
fn by_currency(
    kind: ChartKind,
    schema: &Schema,
    batches: &[RecordBatch],
    unit: String,
) -> Option<(Vec<RecordBatch>, Option<String>, String)> {
    let all = concat_batches(&Arc::new(schema.clone()), batches).ok()?;
    let Some(column) = all.column_by_name("currency").filter(|_| all.num_rows() > 0) else {
        return Some((batches.to_vec(), None, unit));
    };
    let names = cast(column, &DataType::Utf8).ok()?;
    let names = names.as_string::<i32>();
    let first = names.value(0).to_string();
    if names.iter().all(|name| name == Some(&first)) {
        return Some((vec![all], None, format!("{unit}, {first}")));
    }
    if kind == ChartKind::Line {
        return Some((vec![all], Some("currency".into()), unit));
    }
    let keep: BooleanArray = names.iter().map(|name| Some(name == Some(&first))).collect();
    Some((vec![filter_record_batch(&all, &keep).ok()?], None, format!("{unit}, {first}")))
}

/// The chart as SVG for a page, if the answer's shape has one.
pub fn svg(title: &str, description: &str, schema: &Schema, batches: &[RecordBatch]) -> Result<Option<String>> {
    let spec = spec(title, description, schema, batches);
    spec.map(|spec| spec.to_svg(Theme::Page)).transpose().map_err(report_error)
}

/// A column's name as people read it: `latency_p95_ms` is `latency p95 ms`.
pub fn words(column: &str) -> String {
    column.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::{Field, TimeUnit};

    fn schema(types: &[DataType]) -> Schema {
        let names = ["a", "b", "c"];
        Schema::new(types.iter().zip(names).map(|(t, n)| Field::new(n, t.clone(), true)).collect::<Vec<_>>())
    }

    #[test]
    fn the_shape_chooses_the_drawing() {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let (x, y) = ("a".to_string(), "b".to_string());
        assert_eq!(choose(&schema(&[time.clone(), DataType::Int64]), 1), Drawing::Table, "one moment is no line");
        assert_eq!(choose(&schema(&[time, DataType::Int64]), 3), Drawing::Line { x: x.clone(), y: y.clone() });
        let text = schema(&[DataType::Utf8View, DataType::Utf8, DataType::Float64]);
        assert_eq!(choose(&text, 1), Drawing::Bars { x, y: "c".into() }, "the first number is drawn");
        assert_eq!(choose(&schema(&[DataType::Int64, DataType::Float64]), 1), Drawing::Headline);
        assert_eq!(choose(&schema(&[DataType::Int64, DataType::Float64]), 2), Drawing::Table);
        assert_eq!(choose(&schema(&[DataType::Utf8]), 2), Drawing::Table);
        assert_eq!(choose(&schema(&[]), 1), Drawing::Table);
    }

    #[test]
    fn periods_are_a_line_from_start_to_start() {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        let schema = Schema::new(vec![
            field("period", DataType::Utf8),
            field("period_start", time),
            field("breakdown", DataType::Utf8),
            field("users", DataType::Int64),
        ]);
        assert_eq!(choose(&schema, 4), Drawing::Line { x: "period_start".into(), y: "users".into() });
        let rows = |names: [&str; 4]| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec!["a", "a", "b", "b"])),
                Arc::new(TimestampNanosecondArray::from(vec![0, 0, 1, 1])),
                Arc::new(StringArray::from(names.to_vec())),
                Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            ];
            RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap()
        };
        let series = |rows: RecordBatch| spec("", "", &schema, &[rows]).and_then(|spec| spec.series);
        assert_eq!(series(rows(["de", "fr", "de", "fr"])), Some("breakdown".into()));
        assert_eq!(series(rows(["all"; 4])), None);
    }

    fn rows(names: &[&str], values: &[f64], currencies: &[&str]) -> RecordBatch {
        let text = |texts: &[&str]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        let numbers = Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
        let columns = [("account", text(names)), ("net_usd", numbers), ("currency", text(currencies))];
        RecordBatch::try_from_iter(columns.into_iter().filter(|(_, column)| !column.is_empty())).unwrap()
    }

    fn drawn(rows: &RecordBatch) -> Option<(usize, String)> {
        let spec = spec("", "", &rows.schema(), std::slice::from_ref(rows))?;
        Some((spec.data.iter().map(RecordBatch::num_rows).sum(), spec.unit))
    }

    #[test]
    fn bars_are_of_one_currency_and_of_one_row_each() {
        let of = |unit: &str, bars: usize| Some((bars, unit.to_string()));
        assert_eq!(drawn(&rows(&["a", "b"], &[2.0, 1.0], &[])), of("Net, $", 2));
        assert_eq!(drawn(&rows(&["a", "a"], &[2.0, 1.0], &[])), None, "two rows of one name");
        assert_eq!(drawn(&rows(&["a", "b", "c"], &[2.0, 1.0, 3.0], &["EUR", "EUR", "USD"])), of("Net, $, EUR", 2));
        assert_eq!(drawn(&rows(&["a", "a"], &[2.0, 1.0], &["EUR", "USD"])), of("Net, $, EUR", 1));
    }
}

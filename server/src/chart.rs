//! Which drawing suits an answer: chosen from the shape of its columns, so that a SQL file needs no settings.
//!
//! First column a time: a line, if there are two moments to join. First column text: lying bars. One row of numbers: headline figures. Else: a table alone.
//! A column `country` first: the map. Columns cohort, n and rate_on: a grid.
//! The first number after the first column is drawn: put it there. Others may have other units and are in the table.

use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use millstream::Result;
use millstream_report::{ChartKind, ChartSpec, Theme};

use crate::adapt::report_error;

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
    let (x, y) = (first.name().clone(), value.name().clone());
    let named = |name: &str| schema.column_with_name(name).is_some();
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
        _ => (words(&y), 1.0, None),
    };
    let chart = ChartSpec::new(kind, batches.to_vec(), x, y);
    let (title, description) = (title.to_string(), description.to_string());
    Some(ChartSpec { title, description, unit, factor, series, ..chart })
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
}

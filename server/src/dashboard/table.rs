//! Rows as an HTML table: numbers to the right with their unit, shares in percent, names as people say them.

use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use maud::{Markup, html};
use millstream::Result;
use millstream_report::chart::{country_name, full};

use super::access::url_encoded;
use super::ask::{numbers, texts};
use crate::label::minor_units;

/// How a column's values are written, told by its name: the unit is its last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Digits in groups.
    Number,
    /// A share, in percent.
    Percent,
    /// Milliseconds, as a span that people read.
    Milliseconds,
    /// US dollars.
    Dollars,
    /// Hundredths of a currency.
    Minor,
    /// Bytes, in powers of 1024.
    Bytes,
}

impl Format {
    /// By the name of the column.
    pub fn of(column: &str) -> Self {
        let last = column.rsplit('_').next().unwrap_or(column);
        let has = |word: &str| column.split('_').any(|w| w == word);
        match last {
            // How many times too fast a budget is used up: a factor, no share.
            _ if column.starts_with("burn") => Self::Number,
            "ms" => Self::Milliseconds,
            "usd" => Self::Dollars,
            "minor" => Self::Minor,
            "bytes" => Self::Bytes,
            _ if column.contains("bytes_per") => Self::Bytes,
            "rate" | "share" | "adoption" | "ratio" | "retention" | "overall" => Self::Percent,
            _ if has("rate") => Self::Percent,
            _ => Self::Number,
        }
    }

    /// The factor and the unit of a chart's axis.
    pub fn axis(self) -> (f64, &'static str) {
        match self {
            Self::Number => (1.0, ""),
            Self::Percent => (100.0, "%"),
            Self::Milliseconds => (1.0, "ms"),
            Self::Dollars => (1.0, "$"),
            Self::Minor => (0.01, ""),
            Self::Bytes => (1.0 / 1_048_576.0, "MiB"),
        }
    }

    /// A value in full.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Number => full(value),
            Self::Percent => format!("{} %", full((value * 1_000.0).round() / 10.0)),
            Self::Milliseconds => duration(value),
            Self::Dollars => format!("${}", full(hundredths(value))),
            Self::Minor => full(hundredths(value / 100.0)),
            Self::Bytes => bytes(value),
        }
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn duration(ms: f64) -> String {
    match ms.abs() {
        m if m < 1_000.0 => format!("{} ms", full(if m < 10.0 { ms } else { ms.round() })),
        m if m < 60_000.0 => format!("{} s", full((ms / 100.0).round() / 10.0)),
        m if m < 3_600_000.0 => format!("{} min", full((ms / 6_000.0).round() / 10.0)),
        m if m < 172_800_000.0 => format!("{} h", full((ms / 360_000.0).round() / 10.0)),
        _ => format!("{} d", full((ms / 8_640_000.0).round() / 10.0)),
    }
}

/// Bytes in powers of 1024.
pub fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= 1_024.0 && unit + 1 < units.len() {
        value /= 1_024.0;
        unit += 1;
    }
    let value = if unit == 0 { value } else { (value * 10.0).round() / 10.0 };
    format!("{} {}", full(value), units.get(unit).copied().unwrap_or(""))
}

/// The table, its first `rows_max` rows, with a note of how many there are.
pub fn table(caption: &str, rows: &RecordBatch, rows_max: usize) -> Result<Markup> {
    linked(caption, rows, rows_max, ("", ""))
}

/// As [`table`]; the cells of the column `link.0` lead to `link.1` + their text.
pub fn linked(caption: &str, rows: &RecordBatch, rows_max: usize, link: (&str, &str)) -> Result<Markup> {
    let schema = rows.schema();
    let shown = rows.slice(0, rows.num_rows().min(rows_max));
    let columns = columns(&schema, &shown)?;
    Ok(html! {
        div.wide tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.unseen { (caption) }
                thead { tr { @for column in &columns { th.number[column.numeric] scope="col" { (column.head) } } } }
                tbody {
                    @for row in 0..shown.num_rows() {
                        tr { @for column in &columns { (cell(column, row, link)) } }
                    }
                }
            }
        }
        @if shown.num_rows() < rows.num_rows() {
            p.muted { (full(shown.num_rows() as f64)) " of " (full(rows.num_rows() as f64)) " rows; the CSV has all." }
        }
    })
}

fn cell(column: &Column, row: usize, (name, path): (&str, &str)) -> Markup {
    let text = column.cells.get(row).map_or("", String::as_str);
    html! {
        td.number[column.numeric] {
            @if column.name == name && text != "–" { a href={ (path) (url_encoded(text)) } { (text) } } @else { (text) }
        }
    }
}

struct Column {
    name: String,
    head: String,
    numeric: bool,
    cells: Vec<String>,
}

/// What readers do not need is left out: the instant beside the label of a period, and a breakdown that was not asked for.
fn columns(schema: &Schema, rows: &RecordBatch) -> Result<Vec<Column>> {
    let currencies = rows.column_by_name("currency").map_or(Ok(Vec::new()), texts)?;
    let currencies: Vec<String> = currencies.into_iter().map(Option::unwrap_or_default).collect();
    let mut columns = Vec::new();
    for (field, array) in schema.fields().iter().zip(rows.columns()) {
        let name = field.name().as_str();
        let labelled = schema.column_with_name("period").is_some() && name == "period_start";
        let labelled = labelled || (schema.column_with_name("cohort").is_some() && name == "cohort_start");
        let whole = name == "breakdown" && texts(array)?.iter().all(|t| t.as_deref() == Some("all"));
        if labelled || whole {
            continue;
        }
        let cells = match field.data_type() {
            t if t.is_numeric() => {
                let format = Format::of(name);
                let text = |(row, value): (usize, Option<f64>)| match (value, format) {
                    (None, _) => "–".to_string(),
                    (Some(v), Format::Minor) => {
                        full(hundredths(v / minor_units(currencies.get(row).map_or("", String::as_str))))
                    }
                    (Some(v), _) => format.text(v),
                };
                numbers(rows, name).into_iter().enumerate().map(text).collect()
            }
            DataType::Boolean => texts(array)?.into_iter().map(|t| yes_no(t.as_deref())).collect(),
            DataType::Timestamp(..) => {
                texts(array)?.into_iter().map(|t| t.map_or("–".into(), |t| moment(&t))).collect()
            }
            _ => texts(array)?.into_iter().map(|t| t.map_or("–".into(), |t| named(name, t))).collect(),
        };
        let numeric = field.data_type().is_numeric();
        columns.push(Column { name: name.to_string(), head: heading(name), numeric, cells });
    }
    Ok(columns)
}

fn yes_no(text: Option<&str>) -> String {
    match text {
        Some("true") => "yes",
        Some("false") => "no",
        _ => "–",
    }
    .to_string()
}

/// `2026-11-23T05:56:15.000000` as `2026-11-23 05:56:15`.
pub fn moment(text: &str) -> String {
    let text = text.trim_end_matches('Z').replacen('T', " ", 1);
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.chars().all(|c| c == '0') => whole.to_string(),
        _ => text,
    }
}

fn named(column: &str, text: String) -> String {
    match (column, country_name(&text)) {
        ("country", Some(name)) => format!("{name} ({text})"),
        _ => text,
    }
}

/// A column's name as a heading; the unit goes where the value is.
pub fn heading(column: &str) -> String {
    crate::label::label(column).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_column_tells_its_unit() {
        let shown = |column: &str, value| Format::of(column).text(value);
        assert_eq!(shown("users", 12_345.0), "12,345");
        assert_eq!(shown("success_rate", 0.98765), "98.8 %");
        assert_eq!(shown("rate_on", 0.5), "50 %");
        assert_eq!(shown("burn_rate", 14.4), "14.4");
        assert_eq!(shown("share", 1.0), "100 %");
        assert_eq!(shown("mrr_minor", 123_456.0), "1,235");
        assert_eq!(shown("cost_usd", 3.456), "$3.46");
        assert_eq!(shown("duration_p95_ms", 1_234.0), "1.2 s");
        assert_eq!(shown("latency_p50_ms", 12.4), "12 ms");
        assert_eq!(shown("live_bytes", 3.0 * 1_048_576.0), "3 MiB");
        assert_eq!(heading("latency_p95_ms"), "Latency p95");
    }

    #[test]
    fn times_lose_what_is_zero() {
        assert_eq!(moment("2026-11-23T05:56:15.000000"), "2026-11-23 05:56:15");
        assert_eq!(moment("2026-11-23T05:56:15.250"), "2026-11-23 05:56:15.250");
        assert_eq!(moment("2026-11-23T05:56:15Z"), "2026-11-23 05:56:15");
    }
}

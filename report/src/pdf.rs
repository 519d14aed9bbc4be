//! A report as PDF, set by Typst inside this process. In: the document model. Out: bytes, the same for the same input.
//! It asks no network and no clock. Texts reach the fixed template as values, never as markup, so none of them can be misread.
//! Fonts come with the binary; for what they lack (Chinese, Thai, ...) those of the machine are asked (`fonts.rs`).
//!
//! ```text
//! Report -> values (texts formatted, charts drawn) -> template.typ -> pages -> PDF
//! ```

mod fonts;
mod table;

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, Timelike, Utc};
use typst::diag::{FileError, FileResult, SourceDiagnostic};
use typst::foundations::{Array, Bytes, Datetime, Dict, Duration, IntoValue, Value, dict};
use typst::syntax::{FileId, Source};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, Timestamp};

use crate::chart::{Theme, change_size, compact, sparkline};
use crate::{Better, Error, Kpi, Report, Result, Section};
use fonts::Fonts;
use table::Table;

/// Parsed once for all reports.
static TEMPLATE: LazyLock<Source> = LazyLock::new(|| Source::detached(include_str!("pdf/template.typ")));

/// All that Typst can see while it sets one report: the template, the fonts and, in its library, the values.
struct ReportWorld {
    library: LazyHash<Library>,
    fonts: Fonts,
}

impl World for ReportWorld {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        &self.fonts.book
    }

    fn main(&self) -> FileId {
        TEMPLATE.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == TEMPLATE.id() { Ok(TEMPLATE.clone()) } else { Err(FileError::AccessDenied) }
    }

    fn file(&self, _: FileId) -> FileResult<Bytes> {
        Err(FileError::AccessDenied)
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.fonts.get(index).cloned()
    }

    fn today(&self, _: Option<Duration>) -> Option<Datetime> {
        None
    }
}

impl Report {
    /// Sets the report on A4 pages and gives the bytes of the PDF: fonts embedded, text selectable, charts as vectors,
    /// a bookmark per section, tagged for screen readers.
    ///
    /// # Errors
    /// A chart names a column that its rows do not have, or the batches of a table differ in schema.
    pub fn to_pdf(&self) -> Result<Vec<u8>> {
        let mut report = self.to_value()?;
        let fonts = Fonts::of_machine(&report);
        report.insert("fonts".into(), fonts.families.iter().map(|name| text(name)).collect::<Array>().into_value());
        report.insert("font-note".into(), text(&fonts.warning()));
        let mut inputs = Dict::new();
        inputs.insert("report".into(), report.into_value());
        let library = Library::builder().with_inputs(inputs).build();
        let world = ReportWorld { library: LazyHash::new(library), fonts };
        let document: PagedDocument = typst::compile(&world).output.map_err(|e| bug(&e))?;
        let options = PdfOptions {
            timestamp: datetime(self.generated_at).map(Timestamp::new_utc),
            creator: typst::foundations::Smart::Custom(Some("Millstream".into())),
            ..PdfOptions::default()
        };
        let pdf = typst_pdf::pdf(&document, &options).map_err(|e| bug(&e));
        // Typst remembers what it computed for later runs; a server that keeps it for ever grows without bound.
        typst::comemo::evict(0);
        pdf
    }

    fn to_value(&self) -> Result<Dict> {
        let kpis: Array = self.kpis.iter().map(kpi).collect();
        let sections = self.sections.iter().map(section).collect::<Result<Array>>()?;
        let changes = self.kpis.iter().any(|k| k.change.is_some());
        let facts: Array = self.facts().into_iter().map(|(label, value)| named(label, &value)).collect();
        Ok(dict! {
            "title" => text(&self.title),
            "organisation" => text(&self.organisation),
            "period" => text(&self.period),
            "date" => datetime(self.generated_at),
            "footer" => text(&self.footer()),
            "facts" => facts,
            "kpis" => kpis,
            "kpi-note" => text(if changes { "Changes are against the previous period." } else { "" }),
            "kpi-definition" => text(&self.kpi_definition),
            "sections" => sections,
        })
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut period = self.period.clone();
        if !self.time_zone.is_empty() {
            period = format!("{period} ({})", self.time_zone);
        }
        vec![
            ("Period", period),
            ("Data complete through", self.data_complete_through.map_or("not known".into(), minute)),
            ("Generated", minute(self.generated_at)),
        ]
    }

    fn footer(&self) -> String {
        let complete = match self.data_complete_through {
            Some(time) => format!("data complete through {}", minute(time)),
            None => "data may be incomplete".into(),
        };
        let parts = [self.organisation.as_str(), &complete];
        parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(" · ")
    }
}

fn kpi(kpi: &Kpi) -> Value {
    let before = kpi.unit_first();
    let rising = kpi.change.unwrap_or(0.0);
    let mood = match (kpi.better, rising) {
        (Better::Neither, _) => "neither",
        (_, r) if r.abs() < 0.0005 || !r.is_finite() => "neither",
        (Better::Higher, r) => ["worse", "better"][usize::from(r > 0.0)],
        (Better::Lower, r) => ["worse", "better"][usize::from(r < 0.0)],
    };
    let change = kpi.change.map_or_else(String::new, change_text);
    let trend = kpi.trend.iter().flatten().count() >= 2;
    let alt = format!("{} over the period", kpi.label);
    let spark = trend.then(|| svg(sparkline(&kpi.trend, 120, 36, &alt, Theme::Print)));
    dict! {
        "label" => text(&kpi.label),
        "value" => text(&kpi.value.map_or("–".into(), compact)),
        "prefix" => text(if before { &kpi.unit } else { "" }),
        "unit" => text(if before { "" } else { &kpi.unit }),
        "change" => text(&change),
        "mood" => text(mood),
        "spark" => spark.into_value(),
        "spark-alt" => text(&alt),
    }
    .into_value()
}

/// A direction by shape as well as by colour.
fn change_text(change: f64) -> String {
    match change {
        c if !c.is_finite() => "new".into(),
        c if c.abs() < 0.0005 => "= 0 %".into(),
        c => format!("{} {}", if c > 0.0 { "▲" } else { "▼" }, change_size(c)),
    }
}

fn section(section: &Section) -> Result<Value> {
    let mut chart_alt = section.title.clone();
    let chart = match &section.chart {
        None => Value::None,
        Some(spec) => {
            let mut spec = spec.clone();
            if spec.title.is_empty() {
                spec.title.clone_from(&section.title);
            }
            chart_alt = [spec.title.as_str(), &spec.description].join(" ").trim().to_owned();
            svg(spec.to_svg(Theme::Print)?)
        }
    };
    let table = match Table::of(&section.table, section.table_rows_max)? {
        None => Value::None,
        Some(table) => table_value(&table),
    };
    Ok(dict! {
        "title" => text(&section.title),
        "description" => text(&section.description),
        "chart" => chart,
        "chart-alt" => text(&chart_alt),
        "table" => table,
        "definition" => text(&section.definition),
    }
    .into_value())
}

fn table_value(table: &Table) -> Value {
    let texts = |list: &[String]| list.iter().map(|t| text(t)).collect::<Array>();
    dict! {
        "size" => table.font_points(),
        "names" => texts(&table.names),
        "widths" => table.widths.iter().map(|w| w.into_value()).collect::<Array>(),
        "aligns" => table.numeric.iter().map(|n| text(if *n { "right" } else { "left" })).collect::<Array>(),
        "cells" => texts(&table.cells),
        "note" => text(&table.note()),
    }
    .into_value()
}

fn named(label: &str, value: &str) -> Value {
    dict! { "label" => text(label), "value" => text(value) }.into_value()
}

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

fn svg(svg: String) -> Value {
    Value::Bytes(Bytes::from_string(svg))
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

fn datetime(time: DateTime<Utc>) -> Option<Datetime> {
    let small = |n: u32| u8::try_from(n).unwrap_or(0);
    Datetime::from_ymd_hms(
        time.year(),
        small(time.month()),
        small(time.day()),
        small(time.hour()),
        small(time.minute()),
        small(time.second()),
    )
}

/// The template is ours and fixed, so whatever Typst complains of is our fault.
fn bug(errors: &[SourceDiagnostic]) -> Error {
    let messages: Vec<_> = errors.iter().map(|e| e.message.as_str()).collect();
    Error::Bug(format!("cannot set the report: {}", messages.join("; ")))
}

#[cfg(test)]
mod tests;

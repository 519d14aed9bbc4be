//! The document model of a report: what it says, and nothing about how it looks. Every figure and time comes from
//! outside; there is no clock here, so the same report renders to the same bytes.

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};

use crate::ChartSpec;
use crate::chart::compact;

/// A report: a title block, headline figures, and sections of one chart and one table each.
#[derive(Debug, Clone)]
pub struct Report {
    /// The heading of the first page and the title of the PDF.
    pub title: String,
    /// Whose figures these are; may be empty.
    pub organisation: String,
    /// The period that the report is about, in words: `6–12 July 2026`.
    pub period: String,
    /// The zone of the period's days, such as `UTC` or `Europe/Berlin`. Times in charts and tables are those of its clocks:
    /// whoever makes the report puts them there.
    pub time_zone: String,
    /// When the report was made.
    pub generated_at: DateTime<Utc>,
    /// Up to which event time nothing more is expected; `None` says that this is not known.
    pub data_complete_through: Option<DateTime<Utc>>,
    /// The headline figures, shown four in a row.
    pub kpis: Vec<Kpi>,
    /// How the headline figures are defined; may be empty.
    pub kpi_definition: String,
    /// The sections, in reading order; each gets a bookmark.
    pub sections: Vec<Section>,
}

/// A headline figure.
#[derive(Debug, Clone, Default)]
pub struct Kpi {
    /// What it is.
    pub label: String,
    /// Its value in this period, shown in three digits; `None` is shown as a dash.
    pub value: Option<f64>,
    /// Its unit; `$`, `€`, `£` and `¥` go before the value, everything else after it.
    pub unit: String,
    /// The change against the previous period as a share: `0.12` is shown as +12 %. `None` when there is no previous one.
    pub change: Option<f64>,
    /// Which direction is good; colours the change.
    pub better: Better,
    /// Values over the period for a small line; nulls are gaps, fewer than two draw nothing.
    pub trend: Vec<Option<f64>>,
}

impl Kpi {
    /// The value with its unit, as a sentence says it; `None` where there is none.
    pub fn text(&self) -> Option<String> {
        let value = compact(self.value?);
        Some(match self.unit.as_str() {
            "" => value,
            unit if self.unit_first() => format!("{unit}{value}"),
            unit => format!("{value} {unit}"),
        })
    }

    pub(crate) fn unit_first(&self) -> bool {
        matches!(self.unit.as_str(), "$" | "€" | "£" | "¥")
    }
}

/// Which change of a figure is good news.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Better {
    /// Higher is better: users, revenue.
    Higher,
    /// Lower is better: latency, errors.
    Lower,
    /// Neither: shown without colour.
    #[default]
    Neither,
}

/// A section: heading, a sentence, a chart, a table, and how the figures are defined.
#[derive(Debug, Clone)]
pub struct Section {
    /// The heading and bookmark.
    pub title: String,
    /// What the section shows; may be empty.
    pub description: String,
    /// The chart, if any. An empty chart title becomes the section's, for screen readers.
    pub chart: Option<ChartSpec>,
    /// The rows of the table, all of one schema; no batch, no table.
    pub table: Vec<RecordBatch>,
    /// How many rows are printed at most; when there are more, the table says "showing n of N rows".
    pub table_rows_max: usize,
    /// The definition of the figures, or a footnote; may be empty.
    pub definition: String,
}

/// The rows a section prints unless it says otherwise: about five pages.
pub const TABLE_ROWS_MAX: usize = 200;

impl Default for Section {
    fn default() -> Self {
        Self {
            title: String::new(),
            description: String::new(),
            chart: None,
            table: Vec::new(),
            table_rows_max: TABLE_ROWS_MAX,
            definition: String::new(),
        }
    }
}

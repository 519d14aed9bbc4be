//! Charts as SVG, CSV and PDF, all from Arrow record batches. This crate knows no server and no engine, touches no file,
//! no network and no clock: the same input gives the same bytes.
//!
//! ```
//! use std::sync::Arc;
//! use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
//! use millstream_report::{ChartKind, ChartSpec, Kpi, Report, Section, Theme};
//!
//! # fn main() -> millstream_report::Result<()> {
//! let agent: ArrayRef = Arc::new(StringArray::from(vec!["planner", "coder", "reviewer"]));
//! let cost: ArrayRef = Arc::new(Float64Array::from(vec![12.5, 48.2, 9.75]));
//! let rows = RecordBatch::try_from_iter([("agent", agent), ("cost_usd", cost)])?;
//!
//! // A chart for a page ...
//! let chart = ChartSpec { unit: "$".into(), ..ChartSpec::new(ChartKind::HorizontalBars, vec![rows.clone()], "agent", "cost_usd") };
//! let svg = chart.to_svg(Theme::Page)?;
//! assert!(svg.starts_with("<svg"));
//!
//! // ... and the same chart in a report.
//! let report = Report {
//!     title: "Weekly agent costs".into(),
//!     organisation: "Acme Robotics".into(),
//!     period: "6–12 July 2026".into(),
//!     time_zone: "UTC".into(),
//!     generated_at: chrono::DateTime::UNIX_EPOCH,
//!     data_complete_through: None,
//!     kpi_definition: "The cost is of the calls of models only.".into(),
//!     kpis: vec![Kpi { label: "Cost".into(), value: Some(70.45), unit: "$".into(), ..Kpi::default() }],
//!     sections: vec![Section {
//!         title: "Cost per agent".into(),
//!         chart: Some(chart),
//!         table: vec![rows],
//!         ..Section::default()
//!     }],
//! };
//! assert!(report.to_pdf()?.starts_with(b"%PDF"));
//! # Ok(()) }
//! ```

pub mod chart;
mod csv;
mod error;
mod pdf;
mod report;

pub use chart::{ChartKind, ChartSpec, Theme};
pub use csv::{CsvOptions, CsvWriter};
pub use error::{Error, Result};
pub use report::{Better, Kpi, Report, Section, TABLE_ROWS_MAX};

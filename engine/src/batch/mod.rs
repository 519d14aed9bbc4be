//! Queries and rollups over the tables of the lake: plain DataFusion, no streaming.
//!
//! In comes SQL text with named parameters, out come record batches, or one replaced day of a rolled-up table. SQL from
//! users reads tables and nothing else: no file, no URL, no setting, no change. Every query has a bound on memory, time,
//! rows, text and nesting.

mod catalog;
mod error;
mod growth;
mod guard;
mod known;
mod memory;
mod parameters;
mod query;
mod rollup;
mod stream;
mod threads;
mod time_bucket;
mod views;

pub use error::query_error;
pub use memory::Work;
pub use parameters::Described;
pub use query::{Batch, Dress, Functions, QueryLimits, QueryResult};
pub use rollup::{ROLLUP_DAYS_AT_ONCE, ROLLUP_RUNS, Rollup, RollupRun};

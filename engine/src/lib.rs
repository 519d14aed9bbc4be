//! Millstream's engine: streaming SQL with exactly-once state and Delta Lake tables, embedded in a Rust program.

pub mod error;
#[doc(hidden)]
pub mod planted;
pub mod time;

pub mod message;

pub mod contained;
pub mod fs;

pub mod log;

pub mod lake;

pub mod operators;

pub mod connectors;

pub mod checkpoint;

pub mod sql;

pub mod runtime;

pub mod batch;

pub mod engine;

pub use {arrow, datafusion};

pub use engine::{
    Ack, Append, Engine, Functions, Options, PipelineStatus, ProducerSequence, QueryLimits, QueryResult, Rollup,
    RollupRun, RunOptions, RunSummary, Status, TableInfo, Work,
};
pub use error::{Error, Result, SqlError};

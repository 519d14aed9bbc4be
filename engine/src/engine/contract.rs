//! The types of the embedded engine's face.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::batch::Functions;
use crate::time::{Clock, SystemClock};

/// Bytes of state by default: most of a small server's memory.
pub const STATE_BYTES_MAX: usize = 4 << 30;

/// How to open an [`Engine`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Log, checkpoints and (unless `lake_url` says otherwise) tables live here.
    pub data_dir: PathBuf,
    /// Where the Delta tables are: a local directory (`None`: `data_dir/lake`) or `s3://bucket/prefix`.
    pub lake_url: Option<String>,
    /// Options of the object store, as `object_store` names them (`aws_endpoint`, `aws_access_key_id`, ...).
    pub lake_options: BTreeMap<String, String>,
    /// Worker threads of each pipeline.
    pub workers: usize,
    /// The time between checkpoints, which is also how fresh the tables are.
    pub checkpoint_interval: Duration,
    /// Bytes that the state of all pipelines may take together in memory. What cannot go to disk above it stops them with an
    /// error that names the large one; nothing is lost.
    pub state_bytes_max: usize,
    /// Bytes from which on state goes to disk where it can; by default half of those.
    pub state_spill_at: Option<usize>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Functions of the embedding program, for pipelines, rollups and queries; see [`crate::datafusion`] for their types.
    pub functions: Functions,
}

impl Options {
    /// The defaults for a data directory: two workers, a checkpoint every ten seconds.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            lake_url: None,
            lake_options: BTreeMap::new(),
            workers: 2,
            checkpoint_interval: Duration::from_secs(10),
            state_bytes_max: STATE_BYTES_MAX,
            state_spill_at: None,
            clock: Arc::new(SystemClock),
            functions: Functions::default(),
        }
    }
}

/// The place of a batch in its producer's sequence: contiguous from 1 within an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSequence {
    /// Raised by a producer that starts anew; an older epoch is refused.
    pub epoch: u64,
    /// 1, 2, 3, ...
    pub sequence: u64,
}

/// Rows to append to one table.
#[derive(Debug, Clone)]
pub struct Append {
    /// The table: one with `connector = 'ingest'`.
    pub table: String,
    /// Who sends: one partition of the table's watermark. Empty for an unnamed producer.
    pub producer: String,
    /// For retries that must not double; without it rows are de-duplicated by their `event_id` column, if there is one.
    pub sequence: Option<ProducerSequence>,
    /// The rows, in the schema that [`Engine::table`] gives.
    pub batch: RecordBatch,
    /// Rows that could not be decoded: `(index in the request, stable code, message, raw bytes)`. They go to `<table>__rejected`.
    pub rejected: Vec<(u32, String, String, Vec<u8>)>,
}

/// The receipt of an append: everything accepted is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The place in the log.
    pub offset: u64,
    /// Rows written to the log.
    pub accepted: u64,
    /// Rows that were there already.
    pub duplicates: u64,
    /// Indices (in the batch) of events too far in the future to move the watermark; they were accepted.
    pub future: Vec<u32>,
}

/// What is known of a table.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its connector: `ingest`, `lake`, ...
    pub connector: String,
    /// The column that holds the event time, if it is a source.
    pub event_time: Option<String>,
}

/// Counters and positions of the running engine.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// One per pipeline.
    pub pipelines: Vec<PipelineStatus>,
    /// The number of the newest checkpoint.
    pub checkpoint: u64,
    /// Entries in the log.
    pub log_end: u64,
    /// Entries that the newest checkpoint covers.
    pub log_checkpointed: u64,
    /// Entries that the pipelines have read.
    pub log_read: u64,
    /// Rows that could not be decoded or had no event time, since the engine was opened.
    pub rows_rejected: u64,
    /// Events too far ahead of their arrival to move a watermark, since the engine was opened.
    pub rows_future: u64,
    /// Why the pipelines stopped, if they did.
    pub failure: Option<String>,
}

/// Counters of one pipeline.
#[derive(Debug, Clone, Default)]
pub struct PipelineStatus {
    /// The pipeline's name, which is its sink's.
    pub name: String,
    /// Rows in, since the engine was opened.
    pub rows_in: u64,
    /// Rows out.
    pub rows_out: u64,
    /// Rows that were late for a window.
    pub rows_late: u64,
    /// Bytes of state at the newest checkpoint.
    pub state_bytes: u64,
    /// The watermark, in nanoseconds since the epoch; `i64::MIN` before the first event.
    pub watermark: i64,
}

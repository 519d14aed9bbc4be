//! What the threads of the log share: the queue, where everything stands, and the newest entries.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::time::Clock;

use super::append::{LogAck, LogMetrics, LogOptions};
use super::event_ids::EventIds;
use super::frame::{Head, Kind, Tail, TooLong, decode_schema, encode_schema};
use super::producers::{Producers, Sequence};
use super::reader::LogEntry;
use super::segment::Segment;

/// Where the answer to an append goes.
pub(super) type AckSender = oneshot::Sender<Result<LogAck>>;

/// One append on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub what: What,
    pub ack: AckSender,
}

/// What an append asks of the writer.
#[derive(Debug)]
pub(super) enum What {
    /// Write this.
    Entry(Box<Draft>),
    /// A batch sent again; it is answered when everything before it, so the first one too, is durable.
    Retry { table: Arc<str>, producer: Arc<str>, at: Sequence, rows: u64 },
    /// Rows that were all there already; answered as a retry is.
    Duplicates { rows: u64 },
}

/// Bytes that a queued answer without a frame is counted as.
const ANSWER_BYTES: usize = 256;

impl Pending {
    /// What it counts in the queue.
    pub(super) fn queue_bytes(&self) -> usize {
        match &self.what {
            What::Entry(draft) => draft.tail.frame_bytes(),
            What::Retry { .. } | What::Duplicates { .. } => ANSWER_BYTES,
        }
    }
}

/// An entry that has everything but its number. `entry.offset` is filled in by the writer.
#[derive(Debug)]
pub(super) struct Draft {
    pub head: Head,
    pub tail: Tail,
    pub entry: LogEntry,
    pub schema: Option<Arc<TableSchema>>,
    pub sequence: Option<Sequence>,
    pub ids: Vec<u128>,
    pub duplicates: u64,
}

/// A table's columns under a number.
#[derive(Debug)]
pub(super) struct TableSchema {
    pub number: u32,
    pub table: Arc<str>,
    /// As the appender gave it.
    pub schema: SchemaRef,
    /// As it is read back, with the numbers of its dictionaries: for decoding.
    pub stored: SchemaRef,
    /// The names and body of its frame.
    pub tail: Tail,
}

/// Every schema that a retained segment or a queued batch uses.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    by_table: HashMap<Arc<str>, Vec<Arc<TableSchema>>>,
    by_number: HashMap<u32, Arc<TableSchema>>,
    number_next: u32,
}

impl Schemas {
    /// The number of a table's schema; a new one when it is new.
    pub(super) fn of(&mut self, table: &str, schema: &SchemaRef) -> Result<Arc<TableSchema>> {
        let known = self.by_table.get(table).into_iter().flatten();
        for candidate in known {
            if Arc::ptr_eq(&candidate.schema, schema) || &candidate.schema == schema {
                return Ok(candidate.clone());
            }
        }
        let number = self.number_next;
        self.add(number, table, schema)
    }

    pub(super) fn add(&mut self, number: u32, table: &str, schema: &SchemaRef) -> Result<Arc<TableSchema>> {
        let message = encode_schema(schema)?;
        let stored = decode_schema(&message)?;
        let tail = Tail::encode("", table, |out| {
            out.extend_from_slice(&message);
            Ok::<_, Error>(())
        })?;
        let added = Arc::new(TableSchema { number, table: Arc::from(table), schema: schema.clone(), stored, tail });
        self.by_table.entry(added.table.clone()).or_default().push(added.clone());
        self.by_number.insert(number, added.clone());
        self.number_next = self.number_next.max(number.saturating_add(1));
        Ok(added)
    }

    pub(super) fn get(&self, number: u32) -> Option<Arc<TableSchema>> {
        self.by_number.get(&number).cloned()
    }
}

impl From<TooLong> for Error {
    fn from(e: TooLong) -> Self {
        match e {
            TooLong::Name => Error::event("NAME_TOO_LONG", "a producer or table name is longer than 65535 bytes"),
            TooLong::Body(bytes) => Error::event(
                "BATCH_TOO_LARGE",
                format!("the batch takes {bytes} bytes in the log, at most 256 MiB is possible; send smaller batches"),
            ),
        }
    }
}

/// The newest durable entries, without a gap.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<(LogEntry, usize)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn push(&mut self, entry: LogEntry, bytes: usize, bytes_max: usize) {
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        while self.bytes > bytes_max {
            let Some((_, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    pub(super) fn get(&self, offset: u64) -> Option<&LogEntry> {
        let first = self.entries.front()?.0.offset;
        let index = usize::try_from(offset.checked_sub(first)?).ok()?;
        self.entries.get(index).map(|(entry, _)| entry)
    }
}

/// What the log's lock guards.
#[derive(Debug)]
pub(super) struct State {
    /// Appends that wait for the writer.
    pub queue: VecDeque<Pending>,
    /// Bytes queued or being written.
    pub bytes_in_flight: usize,
    pub producers: Producers,
    pub event_ids: EventIds,
    /// When the newest entry was received; receipt times never go back.
    pub received_at_last: i64,
    /// The segments with durable entries, oldest first.
    pub segments: VecDeque<Segment>,
    /// The files of event ids of removed segments, oldest first: their number, and when their newest entry was received.
    pub ids_files: VecDeque<(u64, i64)>,
    /// The oldest retained entry.
    pub start: u64,
    /// Durable entries: the number of the next one.
    pub end: u64,
    pub recent: Recent,
    pub metrics: LogMetrics,
    /// Why the log takes nothing more.
    pub stopped: Option<String>,
}

impl State {
    pub(super) fn check_open(&self) -> Result<()> {
        match &self.stopped {
            Some(why) => Err(Error::Stopped(why.clone())),
            None => Ok(()),
        }
    }

    /// The segment that holds an entry.
    pub(super) fn segment_of(&self, offset: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        self.segments.get(after.checked_sub(1)?)
    }
}

/// What the threads of the log share.
#[derive(Debug)]
pub(super) struct Shared {
    pub fs: Arc<dyn Fs>,
    pub dir: PathBuf,
    pub options: LogOptions,
    pub clock: Arc<dyn Clock>,
    pub schemas: Mutex<Schemas>,
    state: Mutex<State>,
    /// Signalled when there is work for the writer.
    pub work: Condvar,
    /// Signalled when there are new durable entries.
    pub news: Condvar,
}

impl Shared {
    pub(super) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        options: LogOptions,
        clock: Arc<dyn Clock>,
        schemas: Schemas,
        state: State,
    ) -> Self {
        let (work, news) = (Condvar::new(), Condvar::new());
        Self { fs, dir, options, clock, schemas: Mutex::new(schemas), state: Mutex::new(state), work, news }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked holding the lock was between two consistent states at worst in its counters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn schemas(&self) -> MutexGuard<'_, Schemas> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of frame an entry is.
pub(super) fn head_of(kind: Kind, received_at: i64) -> Head {
    Head { received_at, ..Head::new(kind) }
}

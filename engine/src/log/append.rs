//! The log as its users see it: open, append, retain, close.

use std::io::ErrorKind;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::fs::{DirLock, Fs, lock_dir, write_atomic};
use crate::planted::{self, Bug};
use crate::time::Clock;

use super::event_ids::hash_ids;
use super::frame::{Kind, Tail, encode_batch};
use super::producers::{Admission, Sequence};
use super::reader::{LogBody, LogEntry, LogReader};
use super::recovery::recover;
use super::segment::{ids_path, path};
use super::state::{Draft, Pending, Shared, State, TableSchema, What, head_of};
use super::writer::{FatalHook, Writer};
use super::{LogOffset, Mark};

/// The longest name of a producer, in bytes: the names of all of them are written at the head of each segment.
const PRODUCER_BYTES_MAX: usize = 256;

/// Bounds of a log, and what happens at them.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A new segment is begun rather than letting one grow past this. Segments are what retention removes.
    pub segment_bytes_max: u64,
    /// At most this much goes into one write and one fdatasync (one larger batch still goes alone).
    pub group_bytes_max: usize,
    /// Bytes that wait or are being written; above it, appends are refused with [`Error::Limit`].
    pub queue_bytes_max: usize,
    /// The newest entries are kept in memory for readers up to this; older ones are read from the files.
    pub recent_bytes_max: usize,
    /// Producers with sequences; one more is refused with [`Error::Limit`], since none may ever be forgotten.
    pub producers_max: usize,
    /// How long an event id is remembered after its entry was received.
    pub event_id_horizon_ms: i64,
    /// Event ids remembered; above it the oldest are forgotten before the horizon, and counted in [`LogMetrics`]. One
    /// takes about 40 bytes of memory.
    pub event_ids_max: usize,
    /// What to do when a write or a sync fails: by default the process aborts.
    pub on_fatal: FatalHook,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 << 20,
            group_bytes_max: 8 << 20,
            queue_bytes_max: 64 << 20,
            recent_bytes_max: 64 << 20,
            producers_max: 100_000,
            event_id_horizon_ms: 24 * 3_600_000,
            event_ids_max: 4_000_000,
            on_fatal: FatalHook::default(),
        }
    }
}

/// Rows to append.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// The table that they belong to.
    pub table: String,
    /// Who sends them; at most 256 bytes.
    pub producer: String,
    /// The place in the producer's sequence, for retries that must not double.
    pub sequence: Option<Sequence>,
    /// The index of the column of event ids: used for de-duplication when there is no sequence. Null ids are never
    /// duplicates.
    pub event_id: Option<usize>,
    /// The rows.
    pub batch: RecordBatch,
}

/// The receipt of an append: everything up to and with `offset` is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogAck {
    /// The entry. For a retry, the first one's (exactly for the producer's last 16 batches, else a later entry of the same
    /// producer); when every row was a duplicate by its event id, an entry at or after the rows'.
    pub offset: LogOffset,
    /// Rows written.
    pub accepted: u64,
    /// Rows that were there already.
    pub duplicates: u64,
}

/// Counters since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogMetrics {
    /// Entries written.
    pub entries: u64,
    /// Rows written.
    pub rows: u64,
    /// Bytes written, with all overhead.
    pub bytes: u64,
    /// Groups written: one write and one fdatasync each.
    pub groups: u64,
    /// Rows that were there already.
    pub duplicates: u64,
    /// Appends refused because the disk was full.
    pub refused: u64,
    /// Bytes that wait or are being written now.
    pub bytes_in_flight: u64,
    /// Sequenced producers known now.
    pub producers: u64,
    /// Event ids remembered now.
    pub event_ids: u64,
    /// Event ids forgotten before the horizon because there were too many.
    pub event_ids_forgotten: u64,
}

/// An append on its way: a future, and [`PendingAck::wait`] for threads. Dropping it does not undo the append.
#[derive(Debug)]
pub struct PendingAck(oneshot::Receiver<Result<LogAck>>);

impl PendingAck {
    /// Blocks until the append is durable. Not for async code: await the future there.
    pub fn wait(self) -> Result<LogAck> {
        futures::executor::block_on(self)
    }
}

impl Future for PendingAck {
    type Output = Result<LogAck>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| Err(Error::Stopped("the log stopped before this was durable".into())))
        })
    }
}

/// The durable ingest log of one directory.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    retention: Mutex<()>,
    _lock: Box<dyn DirLock>,
}

impl Log {
    /// Opens or creates the log in `dir`: checks every frame, cuts off a torn tail, rebuilds the de-duplication.
    ///
    /// Errors: [`Error::Config`] when another process has it open; [`Error::Corrupt`] when acknowledged entries are
    /// damaged or missing, naming the file, the byte, the entry and the way out.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, options: LogOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let (log, mut writer) = Self::open_parts(fs, dir, options, clock)?;
        let thread = std::thread::Builder::new()
            .name("millstream-log".into())
            .spawn(move || writer.run())
            .map_err(|e| Error::Storage(format!("cannot start the log's writer thread: {e}")))?;
        *log.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(log)
    }

    /// The log and its writer, which the caller steps by hand: tests and simulations.
    pub(crate) fn open_parts(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: LogOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, Writer)> {
        let lock = lock_dir(&*fs, dir)?;
        let recovered = recover(&*fs, dir, &options, clock.now())?;
        let end = recovered.state.end;
        let shared = Arc::new(Shared::new(fs, dir.to_path_buf(), options, clock, recovered.schemas, recovered.state));
        let writer = Writer::new(shared.clone(), recovered.current, end);
        let log = Self { shared, writer: Mutex::new(None), retention: Mutex::new(()), _lock: lock };
        Ok((Arc::new(log), writer))
    }

    /// Takes rows; the answer comes when they are durable. Encodes on this thread; never blocks on the disk.
    ///
    /// Errors: [`Error::Event`] with `OUT_OF_ORDER`, `UNKNOWN_PRODUCER`, `STALE_EPOCH`, `INVALID_SEQUENCE` or
    /// `BATCH_TOO_LARGE` for the producer to act on; [`Error::Limit`] at the queue's bound. The ack may be `SEQUENCE_REUSED`
    /// when another table's batch had the sequence, or [`Error::Storage`] when the disk is full: nothing was taken, and the
    /// same batch can be sent again.
    pub fn append(&self, entry: NewEntry) -> Result<PendingAck> {
        check_producer(&entry.producer)?;
        self.shared.state().check_open()?;
        let schema = self.shared.schemas().of(&entry.table, entry.batch.schema_ref())?;
        let ids = match (entry.sequence, entry.event_id) {
            (None, Some(index)) => {
                let column = entry.batch.columns().get(index).ok_or_else(|| {
                    Error::Bug(format!("table {} has no column {index} for its event id", entry.table))
                })?;
                Some(hash_ids(&entry.table, column)?)
            }
            _ => None,
        };
        let draft = draft_of(&entry, &schema, &entry.batch)?;
        let mut state = self.shared.state();
        state.check_open()?;
        self.check_room(&state, draft.tail.frame_bytes())?;
        match (entry.sequence, ids) {
            (Some(at), _) => self.append_sequenced(&mut state, draft, at),
            (None, Some(ids)) => self.append_new_ids(&mut state, draft, &entry, &schema, &ids),
            (None, None) => Ok(self.enqueue(&mut state, What::Entry(Box::new(draft)))),
        }
    }

    fn append_sequenced(&self, state: &mut State, mut draft: Draft, at: Sequence) -> Result<PendingAck> {
        let producer = draft.entry.producer.clone();
        let what = match state.producers.admit(&producer, at)? {
            Admission::New => {
                draft.sequence = Some(at);
                What::Entry(Box::new(draft))
            }
            Admission::Retry if planted::is(Bug::RetryWrittenAgain) => What::Entry(Box::new(draft)),
            Admission::Retry if planted::is(Bug::RetryAcknowledgedAtOnce) => {
                let (ack, answer) = oneshot::channel();
                let rows = u64::from(draft.head.rows);
                let _ = ack.send(Ok(LogAck { offset: state.end, accepted: 0, duplicates: rows }));
                return Ok(PendingAck(answer));
            }
            Admission::Retry => {
                let rows = u64::from(draft.head.rows);
                What::Retry { table: draft.entry.table.clone(), producer, at, rows }
            }
        };
        Ok(self.enqueue(state, what))
    }

    /// Under the lock from the look at the ids to the queue: a second batch with the same id must queue behind the first.
    fn append_new_ids(
        &self,
        state: &mut State,
        mut draft: Draft,
        entry: &NewEntry,
        schema: &Arc<TableSchema>,
        ids: &[Option<u128>],
    ) -> Result<PendingAck> {
        let now = self.shared.clock.now();
        let new = state.event_ids.admit(ids, now);
        let taken: Vec<u128> =
            ids.iter().zip(new.iter()).filter_map(|(id, new)| id.filter(|_| new == Some(true))).collect();
        let duplicates = ids.len() - new.true_count();
        if duplicates == ids.len() {
            return Ok(self.enqueue(state, What::Duplicates { rows: duplicates as u64 }));
        }
        if duplicates > 0 {
            draft = redraft(entry, schema, &new).inspect_err(|_| state.event_ids.roll_back(&taken))?;
        }
        draft.duplicates = duplicates as u64;
        draft.ids = taken;
        draft.head.event_id = entry.event_id.and_then(|index| u16::try_from(index).ok());
        Ok(self.enqueue(state, What::Entry(Box::new(draft))))
    }

    /// Puts a mark on a producer of a table into the log: it changes the watermark at a place all readers agree on.
    pub fn append_mark(&self, table: &str, producer: &str, mark: Mark) -> Result<PendingAck> {
        check_producer(producer)?;
        let (kind, body) = match mark {
            Mark::Idle => (Kind::Idle, LogBody::Idle),
            Mark::Watermark(time) => (Kind::Watermark, LogBody::Watermark(time)),
        };
        let promise = match mark {
            Mark::Watermark(time) => time.to_le_bytes().to_vec(),
            Mark::Idle => Vec::new(),
        };
        let draft = Draft {
            head: head_of(kind, 0),
            tail: Tail::encode(producer, table, |body| {
                body.extend_from_slice(&promise);
                Ok::<_, Error>(())
            })?,
            entry: LogEntry { offset: 0, received_at: 0, table: table.into(), producer: producer.into(), body },
            schema: None,
            sequence: None,
            ids: Vec::new(),
            duplicates: 0,
        };
        let mut state = self.shared.state();
        state.check_open()?;
        self.check_room(&state, draft.tail.frame_bytes())?;
        Ok(self.enqueue(&mut state, What::Entry(Box::new(draft))))
    }

    fn check_room(&self, state: &State, bytes: usize) -> Result<()> {
        let bytes_max = self.shared.options.queue_bytes_max;
        // A batch larger than the whole queue may pass when it is alone.
        if state.bytes_in_flight > 0 && state.bytes_in_flight + bytes > bytes_max {
            return Err(Error::Limit {
                message: format!("{bytes_max} bytes wait for the disk already (queue_bytes_max)"),
                retry_after_ms: 100,
            });
        }
        Ok(())
    }

    fn enqueue(&self, state: &mut State, mut what: What) -> PendingAck {
        if let What::Entry(draft) = &mut what {
            state.received_at_last = state.received_at_last.max(self.shared.clock.now());
            draft.head.received_at = state.received_at_last;
            draft.entry.received_at = state.received_at_last;
        }
        let (ack, answer) = oneshot::channel();
        let pending = Pending { what, ack };
        state.bytes_in_flight += pending.queue_bytes();
        state.queue.push_back(pending);
        self.shared.work.notify_one();
        PendingAck(answer)
    }

    /// The number of the next entry: all before it are durable.
    pub fn end(&self) -> LogOffset {
        self.shared.state().end
    }

    /// The oldest retained entry; equal to [`Log::end`] when there is none.
    pub fn start(&self) -> LogOffset {
        self.shared.state().start
    }

    /// Counters since the log was opened.
    pub fn metrics(&self) -> LogMetrics {
        let state = self.shared.state();
        LogMetrics {
            bytes_in_flight: state.bytes_in_flight as u64,
            producers: state.producers.len() as u64,
            event_ids: state.event_ids.len() as u64,
            event_ids_forgotten: state.event_ids.forgotten,
            ..state.metrics
        }
    }

    /// A reader that gives the entries from `from` on and then follows the log. It keeps the log open.
    ///
    /// Errors: [`Error::Storage`] when `from` was removed, or is after the end.
    pub fn reader(self: &Arc<Self>, from: LogOffset) -> Result<LogReader> {
        let (start, end) = (self.start(), self.end());
        if from < start || from > end {
            return Err(Error::Storage(format!(
                "the log in {} holds the entries {start} to {end}, and {from} is wanted; restore the log and the \
                 checkpoints from the same backup",
                self.shared.dir.display()
            )));
        }
        Ok(LogReader::new(self.clone(), from))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Removes the segments that hold nothing at or after `offset`; the newest always stays. What is known of producers
    /// and of event ids within the horizon is kept.
    pub fn retain_from(&self, offset: LogOffset) -> Result<()> {
        let _one_at_a_time = self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        let (fs, dir) = (&*self.shared.fs, &*self.shared.dir);
        loop {
            // Oldest first, each durably, so that a crash or an error never leaves a hole.
            let (base, ids) = {
                let mut state = self.shared.state();
                let (Some(oldest), Some(next)) = (state.segments.front(), state.segments.get(1)) else { break };
                let (base, next) = (oldest.base, next.base);
                if next > offset {
                    break;
                }
                state.start = next;
                (base, state.event_ids.encode(base, next))
            };
            if let Some((ids, newest)) = ids {
                let path = ids_path(dir, base);
                write_atomic(fs, &path, &ids).map_err(|e| Error::file(&path, "write", e))?;
                self.shared.state().ids_files.push_back((base, newest));
            }
            let path = path(dir, base);
            match fs.remove(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::file(&path, "remove", e)),
                _ => fs.sync_dir(dir).map_err(|e| Error::file(dir, "sync", e))?,
            }
            self.shared.state().segments.pop_front();
        }
        self.remove_expired_ids()
    }

    fn remove_expired_ids(&self) -> Result<()> {
        loop {
            let base = {
                let mut state = self.shared.state();
                let now = self.shared.clock.now();
                let Some((base, newest)) = state.ids_files.front().copied() else { return Ok(()) };
                if !state.event_ids.is_expired(newest, now) {
                    return Ok(());
                }
                state.ids_files.pop_front();
                base
            };
            let path = ids_path(&self.shared.dir, base);
            match self.shared.fs.remove(&path) {
                // Removed before: its segment's removal was tried twice.
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::file(&path, "remove", e)),
                _ => {}
            }
        }
    }

    /// Writes out what is queued and stops; later appends and readers get [`Error::Stopped`]. Called by `drop` too.
    pub fn close(&self) {
        {
            let mut state = self.shared.state();
            state.stopped.get_or_insert_with(|| "the log was closed".into());
            self.shared.work.notify_all();
            self.shared.news.notify_all();
        }
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!(dir = %self.shared.dir.display(), "the log's writer thread panicked");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

fn check_producer(producer: &str) -> Result<()> {
    if producer.len() > PRODUCER_BYTES_MAX {
        return Err(Error::event(
            "NAME_TOO_LONG",
            format!("the producer's name has {} bytes; use at most {PRODUCER_BYTES_MAX}", producer.len()),
        ));
    }
    Ok(())
}

fn draft_of(entry: &NewEntry, schema: &Arc<TableSchema>, batch: &RecordBatch) -> Result<Draft> {
    let mut head = head_of(Kind::Rows, 0);
    head.schema = schema.number;
    head.rows = u32::try_from(batch.num_rows())
        .map_err(|_| Error::event("BATCH_TOO_LARGE", "a batch has more than 4294967295 rows; send smaller batches"))?;
    if let Some(at) = entry.sequence {
        (head.sequenced, head.epoch, head.sequence) = (true, at.epoch, at.sequence);
    }
    // The table's name is in the schema's frame.
    let tail = Tail::encode(&entry.producer, "", |out| Ok::<_, Error>(encode_batch(batch, out)?))?;
    let entry = LogEntry {
        offset: 0,
        received_at: 0,
        table: schema.table.clone(),
        producer: entry.producer.as_str().into(),
        body: LogBody::Rows(batch.clone()),
    };
    Ok(Draft { head, tail, entry, schema: Some(schema.clone()), sequence: None, ids: Vec::new(), duplicates: 0 })
}

fn redraft(entry: &NewEntry, schema: &Arc<TableSchema>, keep: &BooleanArray) -> Result<Draft> {
    draft_of(entry, schema, &filter_record_batch(&entry.batch, keep)?)
}

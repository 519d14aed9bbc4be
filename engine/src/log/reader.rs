//! Reading the log: the durable entries in order, from memory when they are new, from the files when not.

use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;

use crate::error::{Error, Result};

use super::LogOffset;
use super::append::Log;
use super::frame::{self, Bad, Frame, Kind, decode_batch};
use super::segment::{corrupt, path};

/// Read from a file at a time.
const READ_BYTES: usize = 1 << 20;

/// One entry of the log. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its number.
    pub offset: LogOffset,
    /// When it was received, by the clock: nanoseconds since the epoch, UTC; never less than the entry's before.
    pub received_at: i64,
    /// Its table.
    pub table: Arc<str>,
    /// Who sent it.
    pub producer: Arc<str>,
    /// What it says.
    pub body: LogBody,
}

/// What an entry says.
#[derive(Debug, Clone)]
pub enum LogBody {
    /// Rows of the table. May have none: a sequenced batch whose rows were all rejected.
    Rows(RecordBatch),
    /// The producer is silent: the table's watermark goes on without it.
    Idle,
    /// The producer promises no event before this time, in nanoseconds since the epoch.
    Watermark(i64),
}

/// Gives the entries in order, without a gap, each once durable.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<Log>,
    next: LogOffset,
    piece: Option<Piece>,
}

/// A piece of a segment file in memory.
#[derive(Debug)]
struct Piece {
    base: u64,
    /// Where the piece begins in the file.
    position: u64,
    buffer: Buffer,
    /// Where the next frame begins in the piece.
    at: usize,
}

/// Where the reader must look next.
enum Place {
    Memory(LogEntry),
    File { base: u64, position: u64, durable_bytes: u64 },
}

impl LogReader {
    pub(super) fn new(log: Arc<Log>, next: LogOffset) -> Self {
        Self { log, next, piece: None }
    }

    /// The number of the entry that [`LogReader::next`] gives next.
    pub fn position(&self) -> LogOffset {
        self.next
    }

    /// The next entry; waits up to `wait` for one to become durable, and gives `None` when none did. Blocks the thread.
    ///
    /// Errors: [`Error::Corrupt`] when the file is damaged; [`Error::Storage`] when it cannot be read or was removed by
    /// retention; [`Error::Stopped`] when the log is closed and every entry was given.
    pub fn next(&mut self, wait: Duration) -> Result<Option<LogEntry>> {
        let entry = match self.place(wait)? {
            None => return Ok(None),
            Some(Place::Memory(entry)) => {
                self.piece = None;
                entry
            }
            Some(Place::File { base, position, durable_bytes }) => self.read(base, position, durable_bytes)?,
        };
        self.next += 1;
        Ok(Some(entry))
    }

    fn place(&self, wait: Duration) -> Result<Option<Place>> {
        let shared = self.log.shared();
        let nothing_new = |s: &mut super::state::State| s.end <= self.next && s.stopped.is_none();
        let (state, _) =
            shared.news.wait_timeout_while(shared.state(), wait, nothing_new).unwrap_or_else(PoisonError::into_inner);
        if self.next >= state.end {
            return state.check_open().map(|()| None);
        }
        if let Some(entry) = state.recent.get(self.next) {
            return Ok(Some(Place::Memory(entry.clone())));
        }
        if self.next < state.start {
            return Err(self.removed(state.start));
        }
        let segment = state
            .segment_of(self.next)
            .ok_or_else(|| Error::Bug(format!("entry {} of the log is in no segment", self.next)))?;
        let position = match &self.piece {
            Some(piece) if piece.base == segment.base => piece.position + piece.at as u64,
            _ => segment.position_before(self.next),
        };
        Ok(Some(Place::File { base: segment.base, position, durable_bytes: segment.durable_bytes }))
    }

    fn removed(&self, start: LogOffset) -> Error {
        Error::Storage(format!(
            "entry {} of the log was removed, the oldest is {start}; start again from a checkpoint at or after {start}",
            self.next
        ))
    }

    /// Reads frames from the file until the wanted entry.
    fn read(&mut self, base: u64, mut position: u64, durable_bytes: u64) -> Result<LogEntry> {
        let dir = self.log.shared().dir.clone();
        loop {
            let frame = match &self.piece {
                Some(piece) if piece.base == base => frame::read(&piece.buffer, piece.at),
                _ => Err(Bad::Short(0)),
            };
            match frame {
                Ok(frame) => {
                    position += frame.frame_bytes as u64;
                    if let Some(piece) = &mut self.piece {
                        piece.at += frame.frame_bytes;
                    }
                    if frame.head.kind.is_entry() && frame.head.offset >= self.next {
                        return self.entry(base, position, &frame);
                    }
                }
                Err(Bad::Damaged(what)) => return Err(corrupt(&dir, base, position, self.next, what)),
                Err(Bad::Short(bytes)) => {
                    let left = durable_bytes.saturating_sub(position);
                    if left == 0 || left < bytes as u64 {
                        return Err(corrupt(&dir, base, position, self.next, "the file ends before the entry"));
                    }
                    let wanted = left.min(bytes.max(READ_BYTES) as u64) as usize;
                    self.fill(base, position, wanted)?;
                }
            }
        }
    }

    fn fill(&mut self, base: u64, position: u64, bytes: usize) -> Result<()> {
        let shared = self.log.shared();
        let path = path(&shared.dir, base);
        let read = shared.fs.read_range(&path, position, bytes).map_err(|e| match e.kind() {
            ErrorKind::NotFound => self.removed(self.log.start()),
            _ => Error::file(&path, "read", e),
        })?;
        self.piece = Some(Piece { base, position, buffer: Buffer::from_vec(read), at: 0 });
        Ok(())
    }

    fn entry(&self, base: u64, position: u64, frame: &Frame) -> Result<LogEntry> {
        let head = &frame.head;
        let shared = self.log.shared();
        let damaged = |what: String| corrupt(&shared.dir, base, position, head.offset, what);
        if head.offset != self.next {
            return Err(damaged(format!("entry {} is missing", self.next)));
        }
        let (table, body) = match head.kind {
            Kind::Idle => (Arc::from(frame.table.as_str()), LogBody::Idle),
            Kind::Watermark => {
                let time = frame
                    .body
                    .as_slice()
                    .first_chunk::<8>()
                    .ok_or_else(|| damaged("a promise without a time".into()))?;
                (Arc::from(frame.table.as_str()), LogBody::Watermark(i64::from_le_bytes(*time)))
            }
            _ => {
                let schema = shared.schemas().get(head.schema);
                let schema = schema.ok_or_else(|| damaged(format!("schema {} is missing", head.schema)))?;
                let batch = decode_batch(&frame.body, &schema.stored)
                    .and_then(|batch| batch.with_schema(schema.schema.clone()))
                    .map_err(|e| damaged(e.to_string()))?;
                (schema.table.clone(), LogBody::Rows(batch))
            }
        };
        let producer = Arc::from(frame.producer.as_str());
        Ok(LogEntry { offset: head.offset, received_at: head.received_at, table, producer, body })
    }
}

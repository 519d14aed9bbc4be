//! The one thread that writes: everything queued goes out in one write and one fdatasync, then all of it is acknowledged.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::error::{Error, is_full};
use crate::fs::FsFile;
use crate::planted::{self, Bug};

use super::append::LogAck;
use super::event_ids::EntryIds;
use super::frame::{Head, Kind, Tail, TooLong};
use super::reader::LogEntry;
use super::segment::{Segment, header, path};
use super::state::{AckSender, Draft, Pending, Shared, State, What};

/// The end of the log is marked when nothing came for so long.
const MARK_AFTER: Duration = Duration::from_secs(1);

/// What to do when the disk fails in a way that must not be tried again. By default: log it and abort the process, so that
/// the next start reads what is really on disk.
#[derive(Clone)]
pub struct FatalHook(Arc<dyn Fn(&str) + Send + Sync>);

impl FatalHook {
    /// Calls `hook` with the message instead; when it returns, the log is stopped for good.
    pub fn new(hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }
}

impl Default for FatalHook {
    fn default() -> Self {
        Self::new(|message| {
            tracing::error!("{message}");
            // The process may have no subscriber for traces, and this is its last word.
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("millstream: {message}\n"));
            std::process::abort();
        })
    }
}

impl fmt::Debug for FatalHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FatalHook")
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Current {
    pub segment: Segment,
    pub file: Box<dyn FsFile>,
    /// The schemas that the segment has.
    pub schemas: HashSet<u32>,
}

/// Why a group was not written.
enum Failure {
    /// No room: the group is refused, the log goes on.
    Full(Error),
    /// Nothing is known of what is on disk.
    Fatal(String),
}

/// Writes groups.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    current: Option<Current>,
    /// The number of the next entry.
    end: u64,
    buffer: Vec<u8>,
    dead: bool,
    /// Whether nothing follows a frame that counts everything as durable.
    marked: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, current: Option<Current>, end: u64) -> Self {
        Self { shared, current, end, buffer: Vec::new(), dead: false, marked: false }
    }

    /// Writes groups until the log is closed and nothing is queued.
    pub(super) fn run(&mut self) {
        while !self.dead {
            let (group, idle) = {
                let state = self.shared.state();
                let nothing = |s: &mut State| s.queue.is_empty() && s.stopped.is_none();
                // Once the end is marked there is nothing to do but to wait.
                let wait = if self.marked { Duration::MAX } else { MARK_AFTER };
                let waited = self.shared.work.wait_timeout_while(state, wait, nothing);
                let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                (self.take_group(&mut state), waited.timed_out())
            };
            match (group.is_empty(), idle) {
                (true, true) => self.write_closed(),
                (true, false) => break,
                (false, _) => {
                    self.commit(group);
                    self.marked = false;
                }
            }
        }
        if !self.marked {
            self.write_closed();
        }
    }

    /// Writes one group of what is queued, if anything is.
    pub(crate) fn step(&mut self) {
        let group = self.take_group(&mut self.shared.state());
        if !group.is_empty() && !self.dead {
            self.commit(group);
        }
    }

    fn take_group(&self, state: &mut State) -> Vec<Pending> {
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(next) = state.queue.front() {
            bytes += next.queue_bytes();
            if !group.is_empty() && bytes > self.shared.options.group_bytes_max {
                break;
            }
            group.extend(state.queue.pop_front());
        }
        group
    }

    fn commit(&mut self, mut group: Vec<Pending>) {
        match self.write(&mut group) {
            Ok(()) => self.acknowledge(group),
            Err(Failure::Fatal(_)) if planted::is(Bug::LogIgnoresFailedSync) => self.acknowledge(group),
            Err(Failure::Full(e)) => self.refuse(group, &e),
            Err(Failure::Fatal(message)) => self.die(&message, group),
        }
    }

    /// Writes the group durably, in a new segment when it does not fit into the current one.
    fn write(&mut self, group: &mut [Pending]) -> Result<(), Failure> {
        let entries = || group.iter().filter_map(|p| if let What::Entry(d) = &p.what { Some(d) } else { None });
        let bytes: usize = entries().map(|d| d.tail.frame_bytes()).sum();
        if entries().next().is_none() {
            return Ok(());
        }
        let fits = self
            .current
            .as_ref()
            .is_some_and(|c| c.segment.durable_bytes + bytes as u64 <= self.shared.options.segment_bytes_max);
        if fits { self.write_on(group) } else { self.write_new_segment(group) }
    }

    fn write_on(&mut self, group: &mut [Pending]) -> Result<(), Failure> {
        let Some(current) = self.current.as_mut() else {
            return Err(Failure::Fatal("the log has no segment to write to".into()));
        };
        self.buffer.clear();
        let good_bytes = current.segment.durable_bytes;
        let mut segment = current.segment.clone();
        let mut schemas = current.schemas.clone();
        fill(&mut self.buffer, self.end, group, &mut segment, &mut schemas);
        let path = path(&self.shared.dir, segment.base);
        if planted::is(Bug::LogSyncsLate) {
            let _ = current.file.sync_file();
        }
        match current.file.write_all(&self.buffer) {
            Ok(()) if planted::is(Bug::LogWithoutSync) || planted::is(Bug::LogSyncsLate) => {
                segment.durable_bytes += self.buffer.len() as u64;
                (current.segment, current.schemas) = (segment, schemas);
                Ok(())
            }
            Ok(()) => match current.file.sync_file() {
                Ok(()) => {
                    segment.durable_bytes += self.buffer.len() as u64;
                    (current.segment, current.schemas) = (segment, schemas);
                    Ok(())
                }
                Err(e) => Err(Failure::Fatal(format!("cannot sync {}: {e}", path.display()))),
            },
            Err(e) if is_full(&e) && planted::is(Bug::LogKeepsTailOfFullDisk) => {
                Err(Failure::Full(Error::file(&path, "write", e)))
            }
            Err(e) if is_full(&e) => match current.file.truncate(good_bytes) {
                Ok(()) => Err(Failure::Full(Error::file(&path, "write", e))),
                Err(e) => Err(Failure::Fatal(format!("cannot truncate {} on a full disk: {e}", path.display()))),
            },
            Err(e) => Err(Failure::Fatal(format!("cannot write {}: {e}", path.display()))),
        }
    }

    fn write_new_segment(&mut self, group: &mut [Pending]) -> Result<(), Failure> {
        let mut segment = Segment::new(self.end);
        let mut schemas = HashSet::new();
        self.buffer.clear();
        self.buffer.extend_from_slice(&header(segment.base));
        self.put_producers()?;
        fill(&mut self.buffer, self.end, group, &mut segment, &mut schemas);
        let (fs, path) = (&self.shared.fs, path(&self.shared.dir, segment.base));
        let fatal = |doing: &str, e: io::Error| Failure::Fatal(format!("cannot {doing} {}: {e}", path.display()));
        let mut file = match fs.create(&path) {
            Ok(file) => file,
            Err(e) if is_full(&e) => return Err(Failure::Full(Error::file(&path, "create", e))),
            Err(e) => return Err(fatal("create", e)),
        };
        match file.write_all(&self.buffer) {
            Ok(()) => {}
            Err(e) if is_full(&e) => {
                // Durably: entries may now go on in the segment before, and this name would then be a hole.
                fs.remove(&path).map_err(|e| fatal("remove", e))?;
                fs.sync_dir(&self.shared.dir).map_err(|e| fatal("sync the directory of", e))?;
                return Err(Failure::Full(Error::file(&path, "write", e)));
            }
            Err(e) => return Err(fatal("write", e)),
        }
        file.sync_file().map_err(|e| fatal("sync", e))?;
        if !planted::is(Bug::LogWithoutDirectorySync) {
            fs.sync_dir(&self.shared.dir).map_err(|e| fatal("sync the directory of", e))?;
        }
        segment.durable_bytes = self.buffer.len() as u64;
        self.current = Some(Current { segment, file, schemas });
        Ok(())
    }

    fn put_producers(&mut self) -> Result<(), Failure> {
        let state = self.shared.state();
        let tail = Tail::encode("", "", |out| {
            if !planted::is(Bug::ProducersForgotten) {
                state.producers.encode(out);
            }
            Ok::<_, TooLong>(())
        });
        let tail =
            tail.map_err(|e| Failure::Fatal(format!("the state of the producers is too long to write: {e:?}")))?;
        let received_at = state.received_at_last;
        let head = Head { offset: self.end, durable: self.end, received_at, ..Head::new(Kind::Producers) };
        tail.write(&head, &mut self.buffer);
        Ok(())
    }

    /// Everything in the group is durable: says so to the state, the readers and the callers.
    fn acknowledge(&mut self, group: Vec<Pending>) {
        let mut answers = Vec::with_capacity(group.len());
        let shared = self.shared.clone();
        let mut state = shared.state();
        let written = group.iter().any(|p| matches!(p.what, What::Entry(_)));
        if let (true, Some(current)) = (written, &self.current) {
            state.metrics.groups += 1;
            state.metrics.bytes += self.buffer.len() as u64;
            match state.segments.back_mut() {
                Some(last) if last.base == current.segment.base => *last = current.segment.clone(),
                _ => state.segments.push_back(current.segment.clone()),
            }
        }
        for pending in group {
            state.bytes_in_flight = state.bytes_in_flight.saturating_sub(pending.queue_bytes());
            let answer = match pending.what {
                What::Entry(draft) => Ok(self.entry_durable(&mut state, *draft)),
                What::Retry { table, producer, at, rows } => {
                    state.metrics.duplicates += rows;
                    let offset = state.producers.offset_of(&producer, at, &table);
                    offset.map(|offset| LogAck { offset, accepted: 0, duplicates: rows })
                }
                What::Duplicates { rows } => {
                    state.metrics.duplicates += rows;
                    Ok(LogAck { offset: self.end.saturating_sub(1), accepted: 0, duplicates: rows })
                }
            };
            answers.push((pending.ack, answer));
        }
        state.end = self.end;
        drop(state);
        if written {
            shared.news.notify_all();
        }
        send(answers);
    }

    fn entry_durable(&mut self, state: &mut State, draft: Draft) -> LogAck {
        let bytes = draft.tail.frame_bytes();
        let offset = self.end;
        self.end += 1;
        let entry = LogEntry { offset, ..draft.entry };
        if let Some(at) = draft.sequence {
            state.producers.durable(&entry.producer, at, offset, &entry.table);
        }
        state.event_ids.durable(EntryIds { offset, received_at: entry.received_at, ids: draft.ids });
        state.recent.push(entry, bytes, self.shared.options.recent_bytes_max);
        let accepted = u64::from(draft.head.rows);
        state.metrics.entries += 1;
        state.metrics.rows += accepted;
        state.metrics.duplicates += draft.duplicates;
        LogAck { offset, accepted, duplicates: draft.duplicates }
    }

    /// The disk is full: nothing of the group is in the log, and what is queued behind it may build on it, so that is
    /// refused too.
    fn refuse(&mut self, group: Vec<Pending>, error: &Error) {
        let mut state = self.shared.state();
        let behind: Vec<Pending> = state.queue.drain(..).collect();
        let mut answers = Vec::new();
        for pending in group.into_iter().chain(behind) {
            state.bytes_in_flight = state.bytes_in_flight.saturating_sub(pending.queue_bytes());
            if let What::Entry(draft) = &pending.what {
                state.event_ids.roll_back(&draft.ids);
                if draft.sequence.is_some() {
                    state.producers.roll_back(&draft.entry.producer);
                }
            }
            state.metrics.refused += 1;
            let message = match error {
                Error::Storage(message) => message.clone(),
                other => other.to_string(),
            };
            let message = format!("{message}; nothing was taken: free some space and send again");
            answers.push((pending.ack, Err(Error::Storage(message))));
        }
        drop(state);
        send(answers);
    }

    fn die(&mut self, message: &str, group: Vec<Pending>) {
        self.dead = true;
        let message = format!("{message}; what is on disk is unknown until the log is opened again");
        self.shared.options.on_fatal.0(&message);
        let mut state = self.shared.state();
        state.stopped = Some(message.clone());
        let answers = group.into_iter().chain(state.queue.drain(..));
        let answers = answers.map(|p| (p.ack, Err(Error::Stopped(message.clone())))).collect();
        drop(state);
        self.shared.news.notify_all();
        send(answers);
    }

    /// A last frame that counts everything before it as durable: after it, damage cannot pass for a torn tail. Written
    /// when nothing comes for a while, and at the end.
    pub(crate) fn write_closed(&mut self) {
        self.marked = true;
        let Some(current) = self.current.as_mut().filter(|_| !self.dead) else { return };
        let Ok(tail) = Tail::encode("", "", |_| Ok::<_, TooLong>(())) else { return };
        self.buffer.clear();
        let head = Head { offset: self.end, durable: self.end, ..Head::new(Kind::Closed) };
        tail.write(&head, &mut self.buffer);
        let good_bytes = current.segment.durable_bytes;
        // Without the frame the log is as good as after a crash: nothing acknowledged depends on it.
        let written = current.file.write_all(&self.buffer).or_else(|e| {
            tracing::warn!(dir = %self.shared.dir.display(), "cannot mark the end of the log: {e}");
            self.buffer.clear();
            current.file.truncate(good_bytes)
        });
        match written.and_then(|()| current.file.sync_file()) {
            Ok(()) => {
                current.segment.durable_bytes += self.buffer.len() as u64;
                if let Some(last) = self.shared.state().segments.back_mut() {
                    last.durable_bytes = current.segment.durable_bytes;
                }
            }
            Err(e) => {
                let path = path(&self.shared.dir, current.segment.base);
                self.die(&format!("cannot mark the end of {}: {e}", path.display()), Vec::new());
            }
        }
    }
}

/// Appends the frames of the group, and of the schemas that the segment lacks, to the buffer.
fn fill(buffer: &mut Vec<u8>, end: u64, group: &mut [Pending], segment: &mut Segment, schemas: &mut HashSet<u32>) {
    let mut offset = end;
    let file_position = segment.durable_bytes;
    for pending in group {
        let What::Entry(draft) = &mut pending.what else { continue };
        (draft.head.offset, draft.head.durable) = (offset, end);
        if let Some(schema) = &draft.schema
            && schemas.insert(schema.number)
        {
            let received_at = draft.head.received_at;
            let head = Head { offset, durable: end, received_at, schema: schema.number, ..Head::new(Kind::Schema) };
            schema.tail.write(&head, buffer);
        }
        segment.remember(offset, file_position + buffer.len() as u64);
        draft.tail.write(&draft.head, buffer);
        offset += 1;
    }
}

fn send(answers: Vec<(AckSender, Result<LogAck, Error>)>) {
    for (ack, answer) in answers {
        // The caller may have stopped waiting; the entry is in the log all the same.
        let _ = ack.send(answer);
    }
}

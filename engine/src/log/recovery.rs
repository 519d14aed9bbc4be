//! Opening a log: check every frame, cut off what a crash left half-written, take up where everything stands.
//!
//! A bad frame is the end of a cut write, and is cut off, only if it is in the newest segment and no intact frame after it
//! counts it as durable. Everything else is damage, and is refused by name.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use arrow::buffer::Buffer;

use crate::error::{Error, Result};
use crate::fs::{Fs, TEMPORARY_SUFFIX};
use crate::planted::{self, Bug};

use super::append::{LogMetrics, LogOptions};
use super::event_ids::{EntryIds, EventIds, hash_ids};
use super::frame::{self, ALIGNMENT, Bad, Frame, Kind, decode_batch, decode_schema};
use super::producers::{Producers, Sequence};
use super::segment::{
    BadHeader, HEADER_BYTES, Segment, base_of, check_header, corrupt, ids_path, path, unknown_version,
};
use super::state::{Recent, Schemas, State};
use super::writer::Current;

/// A log as it stands on disk.
pub(super) struct Recovered {
    pub state: State,
    pub schemas: Schemas,
    pub current: Option<Current>,
}

/// Reads the log in `dir` and repairs its tail.
pub(super) fn recover(fs: &dyn Fs, dir: &Path, options: &LogOptions, now: i64) -> Result<Recovered> {
    let names = fs.list(dir).map_err(|e| Error::file(dir, "list", e))?;
    for name in names.iter().filter(|n| n.ends_with(TEMPORARY_SUFFIX)) {
        let path = dir.join(name);
        fs.remove(&path).map_err(|e| Error::file(&path, "remove", e))?;
    }
    let bases: Vec<u64> = names.iter().filter_map(|name| base_of(name, ".log")).collect();
    let start = bases.first().copied().unwrap_or(0);
    let mut recovery = Recovery {
        fs,
        dir,
        now,
        end: start,
        received_at_last: i64::MIN,
        producers: Producers::new(options.producers_max),
        event_ids: EventIds::new(options.event_id_horizon_ms, options.event_ids_max),
        schemas: Schemas::default(),
        segments: VecDeque::new(),
        ids_files: VecDeque::new(),
        last_schemas: HashSet::new(),
    };
    recovery.read_removed_ids(&names, &bases)?;
    for (i, base) in bases.iter().enumerate() {
        recovery.read_segment(*base, i + 1 == bases.len())?;
    }
    recovery.finish(start)
}

struct Recovery<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    now: i64,
    end: u64,
    received_at_last: i64,
    producers: Producers,
    event_ids: EventIds,
    schemas: Schemas,
    segments: VecDeque<Segment>,
    ids_files: VecDeque<(u64, i64)>,
    /// The schemas of the newest segment.
    last_schemas: HashSet<u32>,
}

/// How a segment's frames end.
enum Ending {
    Clean,
    Torn { at: usize, why: &'static str },
}

impl Recovery<'_> {
    /// The event ids of segments that are gone.
    fn read_removed_ids(&mut self, names: &[String], bases: &[u64]) -> Result<()> {
        for base in names.iter().filter_map(|name| base_of(name, ".ids")) {
            if bases.contains(&base) {
                // The crash came before the segment's removal: its rows say the same.
                continue;
            }
            let path = ids_path(self.dir, base);
            let bytes = self.fs.read(&path).map_err(|e| Error::file(&path, "read", e))?;
            let entries = EventIds::decode(&bytes).ok_or_else(|| {
                Error::Corrupt(format!(
                    "{} is damaged; restore it from a backup, or remove it: events of its entries that are sent again \
                     will then not be known as duplicates",
                    path.display()
                ))
            })?;
            let newest = entries.last().map_or(i64::MIN, |e| e.received_at);
            self.ids_files.push_back((base, newest));
            for entry in entries {
                self.event_ids.restore(entry, self.now);
            }
        }
        Ok(())
    }

    fn read_segment(&mut self, base: u64, is_last: bool) -> Result<()> {
        let path = path(self.dir, base);
        if base != self.end {
            return Err(Error::Corrupt(format!(
                "the log in {} has no segment for the entries {} to {}; restore the missing file from a backup",
                self.dir.display(),
                self.end,
                base.saturating_sub(1)
            )));
        }
        let bytes = self.fs.read(&path).map_err(|e| Error::file(&path, "read", e))?;
        let buffer = Buffer::from_vec(bytes);
        let mut segment = Segment::new(base);
        let mut schemas = HashSet::new();
        let ending = match check_header(buffer.as_slice(), base) {
            Ok(()) => self.read_frames(&buffer, &mut segment, &mut schemas)?,
            Err(BadHeader::Version(version)) => return Err(unknown_version(self.dir, base, version)),
            Err(BadHeader::Damaged) => Ending::Torn { at: 0, why: "the header is damaged" },
        };
        let has_entries = self.end > base;
        let durable_bytes = match ending {
            Ending::Clean => buffer.len(),
            Ending::Torn { at, why } if !is_last || !torn_at(&buffer, at, self.end) => {
                return Err(corrupt(self.dir, base, at as u64, self.end, why));
            }
            Ending::Torn { at, .. } => {
                tracing::warn!(
                    file = %path.display(), byte = at, entry = self.end, bytes = buffer.len() - at,
                    "cutting off what a crash left half-written; none of it was acknowledged"
                );
                at
            }
        };
        if has_entries {
            segment.durable_bytes = durable_bytes as u64;
            self.segments.push_back(segment);
            self.last_schemas = schemas;
            return Ok(());
        }
        // Entries are acknowledged with their segment's first sync, so this one never held any; but a log does not begin
        // in the middle.
        if !is_last || (base > 0 && self.segments.is_empty()) {
            return Err(corrupt(self.dir, base, durable_bytes as u64, base, "the segment has no entries"));
        }
        self.fs.remove(&path).map_err(|e| Error::file(&path, "remove", e))
    }

    fn read_frames(&mut self, buffer: &Buffer, segment: &mut Segment, schemas: &mut HashSet<u32>) -> Result<Ending> {
        let mut at = HEADER_BYTES;
        while at < buffer.len() {
            let frame = match frame::read(buffer, at) {
                Ok(frame) => frame,
                Err(Bad::Short(_)) => return Ok(Ending::Torn { at, why: "the file ends inside a frame" }),
                Err(Bad::Damaged(why)) => return Ok(Ending::Torn { at, why }),
            };
            if frame.head.offset != self.end {
                let what = format!("it holds entry {} there", frame.head.offset);
                return Err(corrupt(self.dir, segment.base, at as u64, self.end, what));
            }
            self.apply(&frame, segment, at as u64, schemas)?;
            at += frame.frame_bytes;
        }
        Ok(Ending::Clean)
    }

    fn apply(&mut self, frame: &Frame, segment: &mut Segment, position: u64, schemas: &mut HashSet<u32>) -> Result<()> {
        let head = &frame.head;
        let damaged = |what: String| corrupt(self.dir, segment.base, position, head.offset, what);
        match head.kind {
            Kind::Schema => {
                let schema = decode_schema(&frame.body).map_err(|e| damaged(e.to_string()))?;
                schemas.insert(head.schema);
                if self.schemas.get(head.schema).is_none() {
                    self.schemas.add(head.schema, &frame.table, &schema)?;
                }
            }
            // Later heads repeat what the frames before them say.
            Kind::Producers if self.segments.is_empty() => {
                self.producers.decode(&frame.body).ok_or_else(|| damaged("the producers are not readable".into()))?;
            }
            Kind::Producers | Kind::Closed => {}
            Kind::Idle | Kind::Watermark => {}
            Kind::Rows => {
                if !schemas.contains(&head.schema) {
                    return Err(damaged(format!("schema {} is missing", head.schema)));
                }
                self.apply_rows(frame).map_err(|e| damaged(e.to_string()))?;
            }
        }
        self.received_at_last = self.received_at_last.max(head.received_at);
        if head.kind.is_entry() {
            segment.remember(head.offset, position);
            self.end += 1;
        }
        Ok(())
    }

    fn apply_rows(&mut self, frame: &Frame) -> Result<()> {
        let head = &frame.head;
        let Some(schema) = self.schemas.get(head.schema) else { return Ok(()) };
        if head.sequenced {
            let at = Sequence { epoch: head.epoch, sequence: head.sequence };
            self.producers.durable(&Arc::from(frame.producer.as_str()), at, head.offset, &schema.table);
        }
        let Some(column) = head.event_id else { return Ok(()) };
        if self.event_ids.is_expired(head.received_at, self.now) {
            return Ok(());
        }
        let batch = decode_batch(&frame.body, &schema.stored)?;
        if let Some(column) = batch.columns().get(usize::from(column)) {
            let ids = hash_ids(&schema.table, column)?.into_iter().flatten().collect();
            let entry = EntryIds { offset: head.offset, received_at: head.received_at, ids };
            self.event_ids.restore(entry, self.now);
        }
        Ok(())
    }

    fn finish(mut self, start: u64) -> Result<Recovered> {
        let current = match self.segments.back() {
            None => None,
            Some(segment) => {
                let path = path(self.dir, segment.base);
                let mut file = self.fs.open_append(&path).map_err(|e| Error::file(&path, "open", e))?;
                let keep = planted::is(Bug::LogKeepsTornTail);
                if !keep && self.fs.len(&path).map_err(|e| Error::file(&path, "measure", e))? != segment.durable_bytes {
                    file.truncate(segment.durable_bytes).map_err(|e| Error::file(&path, "truncate", e))?;
                }
                // What was read may be in the page cache only: the process that wrote it may have died before its sync.
                if !planted::is(Bug::LogWithoutSyncOnOpen) {
                    file.sync_file().map_err(|e| Error::file(&path, "sync", e))?;
                }
                let schemas = std::mem::take(&mut self.last_schemas);
                Some(Current { segment: segment.clone(), file, schemas })
            }
        };
        self.fs.sync_dir(self.dir).map_err(|e| Error::file(self.dir, "sync", e))?;
        let state = State {
            queue: VecDeque::new(),
            bytes_in_flight: 0,
            producers: self.producers,
            event_ids: self.event_ids,
            received_at_last: self.received_at_last,
            segments: self.segments,
            ids_files: self.ids_files,
            start,
            end: self.end,
            recent: Recent::default(),
            metrics: LogMetrics::default(),
            stopped: None,
        };
        Ok(Recovered { state, schemas: self.schemas, current })
    }
}

/// Whether a bad frame at `at` can be the end of a cut write: no intact frame after it counts `entry` as durable.
pub(super) fn torn_at(buffer: &Buffer, at: usize, entry: u64) -> bool {
    let bytes = buffer.as_slice();
    let places = (at.next_multiple_of(ALIGNMENT)..bytes.len()).step_by(ALIGNMENT);
    !places
        .filter_map(|place| bytes.get(place..))
        .any(|rest| frame::looks_later(rest, entry) && frame::check(rest).is_ok_and(|(head, ..)| head.durable > entry))
}

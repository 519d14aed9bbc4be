//! A damaged log: what is wrong with it, whose batches are lost, and saving all the rest.
//!
//! Frames have checksums and begin at multiples of eight bytes, so whole ones are found behind damaged ones. Entries have
//! numbers without a gap and batches have sequences without a gap, so what is missing has a name. Nothing here runs when a
//! server starts: a log with damage is refused there.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::buffer::Buffer;

use super::LogOffset;
use super::event_ids::EventIds;
use super::frame::{self, ALIGNMENT, Frame, HEAD_BYTES, Head, Kind, Tail, TooLong};
use super::producers::{Producers, Sequence};
use super::recovery::torn_at;
use super::segment::{BadHeader, HEADER_BYTES, base_of, check_header, header, ids_path, path, unknown_version};
use crate::error::{Error, Result};
use crate::fs::{Fs, write_atomic};

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDamage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub byte: u64,
    /// The entries that are lost with it; may be none.
    pub entries: Range<LogOffset>,
    /// What is wrong.
    pub what: String,
}

/// Batches of a producer that were acknowledged and are in no whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBatches {
    /// Who sent them.
    pub producer: String,
    /// Its epoch.
    pub epoch: u64,
    /// From this one.
    pub first: u64,
    /// To this one.
    pub last: u64,
}

/// What is known of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Segments read.
    pub segments: usize,
    /// The oldest entry, and the one after the newest.
    pub entries: Range<LogOffset>,
    /// What is damaged.
    pub damage: Vec<LogDamage>,
    /// Whose batches are missing. Producers that sent nothing after the damage may miss their last ones too: they learn it
    /// from their next batch, which is refused as out of order.
    pub lost: Vec<LostBatches>,
}

/// Reads the whole log; with `aside`, keeps a copy of each damaged file there and writes it anew without the damage. Lost
/// entries keep their numbers and hold nothing.
///
/// Errors: `Storage`; `Config` when another version of the program wrote the log.
pub(crate) fn repair(fs: &dyn Fs, dir: &Path, aside: Option<&Path>) -> Result<LogReport> {
    let names = fs.list(dir).map_err(|e| Error::file(dir, "list", e))?;
    let bases: Vec<u64> = names.iter().filter_map(|name| base_of(name, ".log")).collect();
    let start = bases.first().copied().unwrap_or(0);
    let (known, newest, report) = (HashMap::new(), BTreeMap::new(), LogReport::default());
    let mut scan = Scan { dir, end: start, known, newest, began: start == 0, report };
    scan.report.segments = bases.len();
    for base in &bases {
        scan.remember_schemas(&read(fs, &path(dir, *base))?);
    }
    let mut anew = Vec::new();
    for (i, base) in bases.iter().enumerate() {
        if *base > scan.end {
            let missing = path(dir, scan.end);
            let mut segment = header(scan.end);
            scan.fill(&missing, 0, *base, "the file is missing", &mut segment)?;
            anew.push((missing, segment));
        }
        anew.extend(scan.segment(fs, *base, bases.get(i + 1).copied())?);
    }
    scan.report.entries = start..scan.end;
    let mut damaged_ids = Vec::new();
    for base in names.iter().filter_map(|name| base_of(name, ".ids")).filter(|base| !bases.contains(base)) {
        let file = ids_path(dir, base);
        if EventIds::decode(&read(fs, &file)?).is_none() {
            let what = "the event ids of removed entries: such events are not known as duplicates any more".to_string();
            scan.report.damage.push(LogDamage { file: file.clone(), byte: 0, entries: 0..0, what });
            damaged_ids.push(file);
        }
    }
    if let Some(aside) = aside {
        for (file, bytes) in &anew {
            keep_copy(fs, file, aside)?;
            write_atomic(fs, file, bytes).map_err(|e| Error::file(file, "write", e))?;
        }
        for file in &damaged_ids {
            keep_copy(fs, file, aside)?;
            fs.remove(file).map_err(|e| Error::file(file, "remove", e))?;
        }
    }
    Ok(scan.report)
}

/// Copies a damaged file to a folder, unless it is there from an earlier try.
pub(crate) fn keep_copy(fs: &dyn Fs, file: &Path, aside: &Path) -> Result<()> {
    let copy = aside.join(file.file_name().unwrap_or_default());
    fs.create_dir_all(aside).map_err(|e| Error::file(aside, "create", e))?;
    if fs.len(&copy).is_ok() || fs.len(file).is_err() {
        return Ok(());
    }
    write_atomic(fs, &copy, &read(fs, file)?).map_err(|e| Error::file(&copy, "write", e))
}

fn read(fs: &dyn Fs, file: &Path) -> Result<Vec<u8>> {
    fs.read(file).map_err(|e| Error::file(file, "read", e))
}

struct Scan<'a> {
    dir: &'a Path,
    /// The next entry.
    end: u64,
    /// Schemas by number: table and body.
    known: HashMap<u32, (String, Buffer)>,
    /// The newest batch seen of each producer.
    newest: BTreeMap<String, Sequence>,
    /// Whether it is known where every producer stood when the log began.
    began: bool,
    report: LogReport,
}

impl Scan<'_> {
    /// The whole frames of a file, wherever they are.
    fn remember_schemas(&mut self, bytes: &[u8]) {
        let buffer = Buffer::from(bytes);
        let mut at = HEADER_BYTES;
        while at < buffer.len() {
            match frame::read(&buffer, at) {
                Ok(frame) => {
                    at += frame.frame_bytes;
                    if frame.head.kind == Kind::Schema {
                        self.known.insert(frame.head.schema, (frame.table, frame.body));
                    }
                }
                Err(_) => at += ALIGNMENT,
            }
        }
    }

    /// Reads one segment; gives its file anew if it is damaged.
    fn segment(&mut self, fs: &dyn Fs, base: u64, next: Option<u64>) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let file = path(self.dir, base);
        let buffer = Buffer::from_vec(read(fs, &file)?);
        let mut anew = header(base);
        let mut damaged = false;
        match check_header(buffer.as_slice(), base) {
            Ok(()) => {}
            Err(BadHeader::Version(version)) => return Err(unknown_version(self.dir, base, version)),
            // An empty newest segment is a write that a crash cut short.
            Err(BadHeader::Damaged) if next.is_none() && torn_at(&buffer, 0, self.end) => return Ok(None),
            Err(BadHeader::Damaged) => {
                damaged = true;
                self.damage(&file, 0, self.end..self.end, "the header");
            }
        }
        let (mut at, mut hole, mut schemas) = (HEADER_BYTES, None, Vec::new());
        while at < buffer.len() {
            let Some(frame) = self.frame_at(&buffer, at) else {
                hole = hole.or(Some(at));
                at += ALIGNMENT;
                continue;
            };
            if let Some(from) = hole.take() {
                if next.is_none() && torn_at(&buffer, from, self.end) {
                    hole = Some(from);
                    break;
                }
                damaged = true;
                self.fill(&file, from, frame.head.offset, "frames", &mut anew)?;
            }
            damaged |= !self.take(&file, &frame, at, &mut schemas, &mut anew)?;
            at += frame.frame_bytes;
        }
        match (hole, next) {
            // At the end of the log, with nothing behind it: a write that a crash cut short, which the start cuts off.
            (_, None) => {}
            (hole, Some(next)) if self.end < next => {
                damaged = true;
                self.fill(&file, hole.unwrap_or(buffer.len()), next, "frames at the end", &mut anew)?;
            }
            (Some(from), Some(_)) => {
                damaged = true;
                self.damage(&file, from, self.end..self.end, "bytes at the end that are no entries");
            }
            (None, Some(_)) => {}
        }
        Ok(damaged.then_some((file, anew)))
    }

    /// The frame that begins here, if it is whole and can be here.
    fn frame_at(&self, buffer: &Buffer, at: usize) -> Option<Frame> {
        let frame = frame::read(buffer, at).ok()?;
        let possible = (buffer.len() / HEAD_BYTES) as u64;
        (frame.head.offset >= self.end && frame.head.offset - self.end <= possible).then_some(frame)
    }

    /// Takes a whole frame over; false if it is of no use.
    fn take(
        &mut self,
        file: &Path,
        frame: &Frame,
        at: usize,
        schemas: &mut Vec<u32>,
        anew: &mut Vec<u8>,
    ) -> Result<bool> {
        let head = &frame.head;
        if head.offset > self.end {
            self.fill(file, at, head.offset, "entries that nothing is left of", anew)?;
        }
        match head.kind {
            Kind::Schema => schemas.push(head.schema),
            Kind::Producers => {
                self.began |= self.report.damage.is_empty();
                let mut producers = Producers::new(usize::MAX);
                if producers.decode(&frame.body).is_some() {
                    producers.newest().for_each(|(name, at)| self.heard(name, at, true));
                }
            }
            Kind::Rows if !schemas.contains(&head.schema) => {
                let Some((table, body)) = self.known.get(&head.schema).cloned() else {
                    self.fill(file, at, head.offset + 1, "the columns of an entry", anew)?;
                    return Ok(false);
                };
                schemas.push(head.schema);
                let again =
                    Head { offset: head.offset, durable: head.durable, schema: head.schema, ..Head::new(Kind::Schema) };
                write(&again, "", &table, &body, anew)?;
            }
            _ => {}
        }
        if head.kind == Kind::Rows && head.sequenced {
            self.heard(&frame.producer, Sequence { epoch: head.epoch, sequence: head.sequence }, false);
        }
        write(head, &frame.producer, &frame.table, &frame.body, anew)?;
        self.end += u64::from(head.kind.is_entry());
        Ok(true)
    }

    /// A batch of a producer, or (`up_to`) what it had sent before this place.
    fn heard(&mut self, producer: &str, at: Sequence, up_to: bool) {
        let before = self.newest.insert(producer.to_string(), at);
        let expected = match before {
            Some(before) if before.epoch == at.epoch => before.sequence + 1,
            Some(_) => 1,
            // The head of the log says where everybody stands.
            None if self.report.damage.is_empty() || !self.began => return,
            None => 1,
        };
        let last = if up_to { at.sequence } else { at.sequence.saturating_sub(1) };
        if expected <= last {
            let (producer, epoch) = (producer.to_string(), at.epoch);
            self.report.lost.push(LostBatches { producer, epoch, first: expected, last });
        }
    }

    fn damage(&mut self, file: &Path, byte: usize, entries: Range<u64>, what: &str) {
        let (file, byte, what) = (file.to_path_buf(), byte as u64, what.to_string());
        self.report.damage.push(LogDamage { file, byte, entries, what });
    }

    /// Notes damage up to entry `to`, and writes an empty entry for each that is lost.
    fn fill(&mut self, file: &Path, byte: usize, to: u64, what: &str, anew: &mut Vec<u8>) -> Result<()> {
        self.damage(file, byte, self.end..to, what);
        while self.end < to {
            // A mark of no producer in no table: it says nothing.
            let head = Head { offset: self.end, durable: self.end, ..Head::new(Kind::Idle) };
            write(&head, "", "", &Buffer::from_vec(Vec::<u8>::new()), anew)?;
            self.end += 1;
        }
        Ok(())
    }
}

/// Appends a frame. Its body keeps the padding that it was read with.
fn write(head: &Head, producer: &str, table: &str, body: &Buffer, out: &mut Vec<u8>) -> Result<()> {
    let tail = Tail::encode::<TooLong>(producer, table, |bytes| {
        bytes.extend_from_slice(body.as_slice());
        Ok(())
    });
    tail.map_err(|e| Error::Bug(format!("a frame that was read is too long to write: {e:?}")))?.write(head, out);
    Ok(())
}

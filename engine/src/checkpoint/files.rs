//! Files of state: written as a stream under a name that nobody sees before they are whole, with a checksum of all bytes, and
//! read whole, or part by part with a checksum of each part.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use super::{Checkpoints, StateFile};
use crate::error::{Error, Result};
use crate::fs::{Fs, FsFile, create_temporary, publish_temporary};
use crate::operators::spill::{PARTS, Spilled};
use crate::planted::{self, Bug};

/// Bytes that go to the disk, or come from it, at a time.
const PIECE: usize = 1 << 20;

/// A file's length and the CRC-32 of its bytes.
type Sum = (u64, u32);

impl Checkpoints {
    /// Writes a state file.
    pub fn write_state(&self, name: String, batches: &[RecordBatch], needed_until: i64) -> Result<Option<StateFile>> {
        if batches.is_empty() {
            return Ok(None);
        }
        let mut batch =
            |n: usize| batches.get(n).cloned().ok_or_else(|| Error::Bug("a state file's batch is gone".into()));
        let (bytes, crc32) = self.write_batches(&name, batches.len(), &mut batch)?;
        Ok(Some(StateFile { name, bytes, crc32, needed_until, spilled: false }))
    }

    /// Writes a file of spilled state. No checkpoint has it before one names it.
    pub fn write_spilled(&self, name: String, part: &mut dyn FnMut(usize) -> Result<RecordBatch>) -> Result<StateFile> {
        let (bytes, crc32) = self.write_batches(&name, PARTS, part)?;
        Ok(StateFile { name, bytes, crc32, needed_until: i64::MAX, spilled: true })
    }

    fn write_batches(
        &self,
        name: &str,
        count: usize,
        batch: &mut dyn FnMut(usize) -> Result<RecordBatch>,
    ) -> Result<Sum> {
        let path = self.state.join(name);
        let (mut sum, mut failed) = ((0, 0), None);
        self.while_full(&path, || {
            match self.write_once(&path, count, batch)? {
                Ok(written) => sum = written,
                Err(e) => failed = Some(e),
            }
            Ok(())
        })
        .map_err(|e| Error::file(&path, "write", e))?;
        failed.map_or(Ok(sum), Err)
    }

    fn write_once(
        &self,
        path: &Path,
        count: usize,
        batch: &mut dyn FnMut(usize) -> Result<RecordBatch>,
    ) -> io::Result<Result<Sum>> {
        let fs = self.fs.as_ref();
        let careless = planted::is(Bug::StateNotAtomic);
        let (temporary, file) = if careless {
            let _ = fs.remove(path);
            (path.to_path_buf(), fs.create(path)?)
        } else {
            create_temporary(fs, path)?
        };
        let mut growing = Growing::new(file);
        if let Err(e) = growing.write_all_of(count, batch) {
            return growing.failed.map_or(Ok(Err(e)), Err);
        }
        growing.put()?;
        if !careless {
            growing.file.sync_file()?;
            publish_temporary(fs, &temporary, path)?;
        }
        Ok(Ok((growing.bytes, growing.crc.finalize())))
    }

    /// Reads a state file's bytes to see whether they are what was written.
    pub(super) fn verify(&self, file: &StateFile) -> Result<()> {
        let path = self.state.join(&file.name);
        let wrong = |e| Error::file(&path, "read", e);
        let length = self.fs.len(&path).map_err(wrong)?;
        let (mut crc, mut at) = (crc32fast::Hasher::new(), 0);
        while at < length {
            let piece = (length - at).min(PIECE as u64);
            crc.update(&self.fs.read_range(&path, at, piece as usize).map_err(wrong)?);
            at += piece;
        }
        if (length, crc.finalize()) != (file.bytes, file.crc32) && !planted::is(Bug::StateWithoutChecksum) {
            return Err(Error::Corrupt(format!("{}: the checksum does not match its manifest", path.display())));
        }
        Ok(())
    }

    /// Reads a state file back, batch by batch as written.
    pub fn read_state(&self, file: &StateFile) -> Result<Vec<RecordBatch>> {
        self.verify(file)?;
        let path = self.state.join(&file.name);
        let bytes = self.fs.read(&path).map_err(|e| Error::file(&path, "read", e))?;
        let reader = FileReader::try_new(io::Cursor::new(bytes), None)?;
        Ok(reader.collect::<std::result::Result<Vec<_>, _>>()?)
    }

    /// Opens a file of spilled state. With `fleeting` it is removed when it is dropped: no checkpoint will have it.
    pub fn open_spilled(&self, file: &StateFile, fleeting: bool) -> Result<Arc<dyn Spilled>> {
        self.verify(file)?;
        let path = self.state.join(&file.name);
        let ranges = Ranges { fs: self.fs.clone(), path: path.clone(), len: file.bytes, at: 0, sums: BTreeMap::new() };
        let reader = FileReader::try_new(ranges, None).map_err(|e| unreadable(&path, e))?;
        if reader.num_batches() != PARTS {
            return Err(Error::Corrupt(format!(
                "{}: it has {} parts, but this program knows {PARTS}; use the program that wrote it, or compute the table \
                 from the raw table with `millstream rebuild`",
                path.display(),
                reader.num_batches()
            )));
        }
        let opened =
            OnDisk { name: file.name.clone(), path, fs: self.fs.clone(), fleeting, reader: Mutex::new(reader) };
        // So that each part has its checksum from now on.
        (0..PARTS).try_for_each(|part| opened.read(part).map(drop))?;
        Ok(Arc::new(opened))
    }
}

/// A file that is being written.
struct Growing {
    file: Box<dyn FsFile>,
    buffer: Vec<u8>,
    bytes: u64,
    crc: crc32fast::Hasher,
    /// What the disk said: Arrow hands on its words alone.
    failed: Option<io::Error>,
}

impl Growing {
    fn new(file: Box<dyn FsFile>) -> Self {
        Self { file, buffer: Vec::new(), bytes: 0, crc: crc32fast::Hasher::new(), failed: None }
    }

    fn write_all_of(&mut self, count: usize, batch: &mut dyn FnMut(usize) -> Result<RecordBatch>) -> Result<()> {
        let first = batch(0)?;
        let mut writer = FileWriter::try_new(&mut *self, &first.schema())?;
        writer.write(&first)?;
        for n in 1..count {
            writer.write(&batch(n)?)?;
        }
        Ok(writer.finish()?)
    }

    fn put(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.append(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gathers what is small; what is large is written from where it lies.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() < PIECE {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.put()?;
        bytes.chunks(PIECE).try_for_each(|piece| self.append(piece))
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(e) = self.take(bytes) {
            let kind = e.kind();
            self.failed = Some(e);
            return Err(kind.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Spilled state.
struct OnDisk {
    name: String,
    path: PathBuf,
    fs: Arc<dyn Fs>,
    fleeting: bool,
    reader: Mutex<FileReader<Ranges>>,
}

impl Spilled for OnDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, part: usize) -> Result<RecordBatch> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let read = reader.set_index(part).and_then(|()| reader.next().transpose());
        let batch = read.map_err(|e| unreadable(&self.path, e))?;
        batch.ok_or_else(|| Error::Corrupt(format!("{}: part {part} is missing", self.path.display())))
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        if self.fleeting {
            let _ = self.fs.remove(&self.path);
        }
    }
}

fn unreadable(path: &Path, e: ArrowError) -> Error {
    match e {
        ArrowError::IoError(_, e) if e.kind() != ErrorKind::InvalidData => Error::file(path, "read", e),
        e => Error::Corrupt(format!("{}: {e}", path.display())),
    }
}

/// A file as Arrow reads it: a block in one go. What was read before must be the same when it is read again.
struct Ranges {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    len: u64,
    at: u64,
    /// By place and length.
    sums: BTreeMap<(u64, usize), u32>,
}

impl Read for Ranges {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX));
        let bytes = self.fs.read_range(&self.path, self.at, wanted)?;
        let sum = crc32fast::hash(&bytes);
        if *self.sums.entry((self.at, wanted)).or_insert(sum) != sum {
            return Err(io::Error::new(ErrorKind::InvalidData, "the checksum does not match what was written"));
        }
        buffer.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for Ranges {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sim::SimFs;
    use crate::time::ManualClock;
    use arrow::array::{ArrayRef, Int64Array};

    fn open(fs: &SimFs) -> Checkpoints {
        Checkpoints::open(Arc::new(fs.clone()), Path::new("d"), Arc::new(ManualClock::at(0))).unwrap()
    }

    fn part(n: usize) -> Result<RecordBatch> {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..1_000).map(|i| i * n as i64)));
        Ok(RecordBatch::try_from_iter([("v", values)]).unwrap())
    }

    #[test]
    fn parts_are_read_alone_and_a_flipped_bit_in_one_is_seen() {
        let fs = SimFs::new();
        let file = open(&fs).write_spilled("1-p-0-s0.arrow".into(), &mut part).unwrap();
        let spilled = open(&fs).open_spilled(&file, true).unwrap();
        for n in [63, 0, 17, 17] {
            assert_eq!(spilled.read(n).unwrap(), part(n).unwrap());
        }
        let path = Path::new("d/state/1-p-0-s0.arrow");
        fs.flip_bit(path, file.bytes as usize / 2, 3);
        let wrong: Vec<String> = (0..PARTS).filter_map(|n| spilled.read(n).err()).map(|e| e.to_string()).collect();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains("1-p-0-s0.arrow") && wrong[0].contains("the checksum does not match"), "{wrong:?}");
        assert!(open(&fs).open_spilled(&file, false).is_err());
        drop(spilled);
        assert!(fs.read(path).is_err(), "it was fleeting");
    }

    #[test]
    fn a_file_that_cannot_be_made_leaves_nothing_under_its_name() {
        let fs = SimFs::new();
        let mut failing = |n: usize| if n < 40 { part(n) } else { Err(Error::Bug("no part 40".into())) };
        let e = open(&fs).write_spilled("1-p-0-s0.arrow".into(), &mut failing).unwrap_err();
        assert!(e.to_string().contains("no part 40"), "{e}");
        assert!(fs.read(Path::new("d/state/1-p-0-s0.arrow")).is_err());
    }
}

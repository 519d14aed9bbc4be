//! The files of the log: their names, their header, and where entries are in them.

use std::path::{Path, PathBuf};

use crate::error::Error;

use super::frame::Cursor;

/// The first bytes of every segment.
const MAGIC: [u8; 8] = *b"MSTRLOG\0";

/// Raised when the format changes; an unknown version is refused by name.
const VERSION: u32 = 1;

/// The header: magic, version u32, crc32 u32 of the rest, first entry u64, 8 bytes of zero.
pub(super) const HEADER_BYTES: usize = 32;

/// Positions are remembered about this far apart.
const INDEX_EVERY_BYTES: u64 = 1 << 20;

/// One segment file, as far as it is durable.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// The number of its first entry.
    pub base: u64,
    /// How much of the file is durable.
    pub durable_bytes: u64,
    /// Some entries and where their frames begin, in order; the first entry of the segment is the first.
    index: Vec<(u64, u64)>,
}

impl Segment {
    pub(super) fn new(base: u64) -> Self {
        Self { base, durable_bytes: 0, index: Vec::new() }
    }

    /// Remembers where an entry is, unless one nearby is remembered.
    pub(super) fn remember(&mut self, offset: u64, position: u64) {
        if self.index.last().is_none_or(|(_, last)| position >= last + INDEX_EVERY_BYTES) {
            self.index.push((offset, position));
        }
    }

    /// A position at or before the frame of the entry.
    pub(super) fn position_before(&self, offset: u64) -> u64 {
        let after = self.index.partition_point(|(o, _)| *o <= offset);
        self.index[..after].last().map_or(HEADER_BYTES as u64, |(_, position)| *position)
    }
}

/// The file of the segment that begins with this entry.
pub(super) fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// The file that keeps the event ids of a removed segment.
pub(super) fn ids_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.ids"))
}

/// The first entry by a file's name, if it is `<20 digits><suffix>`.
pub(super) fn base_of(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The same in every version of the format, so that another version is told from damage.
fn header_crc(version: u32, base: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&MAGIC);
    crc.update(&version.to_le_bytes());
    crc.update(&base.to_le_bytes());
    crc.finalize()
}

/// The header of a segment.
pub(super) fn header(base: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&header_crc(VERSION, base).to_le_bytes());
    out.extend_from_slice(&base.to_le_bytes());
    out.resize(HEADER_BYTES, 0);
    out
}

/// What is wrong with a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// It is cut or damaged.
    Damaged,
    /// It is intact, and of another version of the format.
    Version(u32),
}

/// Checks the header of the segment that begins with entry `base`.
pub(super) fn check_header(bytes: &[u8], base: u64) -> Result<(), BadHeader> {
    let mut cursor = Cursor(bytes.get(..HEADER_BYTES).ok_or(BadHeader::Damaged)?);
    let (Some(magic), Some(version)) = (cursor.array::<8>(), cursor.u32()) else { return Err(BadHeader::Damaged) };
    let (crc, found_base) = (cursor.u32(), cursor.u64());
    if magic != MAGIC || crc != Some(header_crc(version, base)) || found_base != Some(base) {
        return Err(BadHeader::Damaged);
    }
    if version == VERSION { Ok(()) } else { Err(BadHeader::Version(version)) }
}

/// The error for a segment that another version of the program wrote.
pub(super) fn unknown_version(dir: &Path, base: u64, version: u32) -> Error {
    Error::Config(format!(
        "{} is written in format {version}, and this program reads format {VERSION}; use the program that wrote it",
        path(dir, base).display()
    ))
}

/// The error for a damaged segment: the file, the byte, the entry, the fix.
pub(super) fn corrupt(dir: &Path, base: u64, position: u64, offset: u64, what: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!(
        "{} is damaged at byte {position}, entry {offset}: {what}; restore the file from a backup, or let \
         `millstream repair` show what is lost and `millstream repair --save` go on with all the rest",
        path(dir, base).display()
    ))
}

//! The event ids seen within the horizon: de-duplication for producers without sequences.
//!
//! An id is kept as 128 bits of its SHA-256 together with the table's name, so that no producer can make up an id that
//! hides another's event. Ids leave in the order of their entries, when they are older than the horizon or there are too
//! many.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

use super::LogOffset;
use super::frame::Cursor;

const MAGIC: [u8; 8] = *b"MSTRIDS\x01";

/// The ids are hashes already: take 64 of their bits.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct TakeBits(u64);

impl Hasher for TakeBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

/// The ids of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryIds {
    pub offset: LogOffset,
    pub received_at: i64,
    pub ids: Vec<u128>,
}

/// Ids seen: those in the log, and those on their way there.
#[derive(Debug)]
pub(super) struct EventIds {
    seen: HashSet<u128, BuildHasherDefault<TakeBits>>,
    durable: VecDeque<EntryIds>,
    horizon_ns: i64,
    ids_max: usize,
    /// Ids forgotten before their time because there were too many.
    pub forgotten: u64,
}

impl EventIds {
    pub(super) fn new(horizon_ms: i64, ids_max: usize) -> Self {
        let horizon_ns = horizon_ms.saturating_mul(1_000_000);
        Self { seen: HashSet::default(), durable: VecDeque::new(), horizon_ns, ids_max, forgotten: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether an entry received then is out of the horizon now.
    pub(super) fn is_expired(&self, received_at: i64, now: i64) -> bool {
        received_at < now.saturating_sub(self.horizon_ns)
    }

    /// Which of the ids are new (null ids always are), and takes those as seen.
    pub(super) fn admit(&mut self, ids: &[Option<u128>], now: i64) -> BooleanArray {
        self.expire(now);
        ids.iter().map(|id| Some(id.is_none_or(|id| self.seen.insert(id)))).collect()
    }

    /// The ids of rows that will not arrive.
    pub(super) fn roll_back(&mut self, ids: &[u128]) {
        for id in ids {
            self.seen.remove(id);
        }
    }

    /// The ids of an entry are durable. Entries come in the order of their offsets.
    pub(super) fn durable(&mut self, entry: EntryIds) {
        if !entry.ids.is_empty() {
            self.durable.push_back(entry);
        }
    }

    /// Takes up an entry read back from disk.
    pub(super) fn restore(&mut self, mut entry: EntryIds, now: i64) {
        if !self.is_expired(entry.received_at, now) {
            entry.ids.retain(|id| self.seen.insert(*id));
            self.durable(entry);
            self.expire(now);
        }
    }

    fn expire(&mut self, now: i64) {
        while let Some(oldest) = self.durable.front() {
            let expired = self.is_expired(oldest.received_at, now);
            if !expired && self.seen.len() <= self.ids_max {
                break;
            }
            if let Some(oldest) = self.durable.pop_front() {
                self.forgotten += if expired { 0 } else { oldest.ids.len() as u64 };
                self.roll_back(&oldest.ids);
            }
        }
    }

    /// The ids of the entries from `start` (included) to `end` (excluded), as bytes, and when the newest of them was
    /// received; `None` when there are none.
    pub(super) fn encode(&self, start: LogOffset, end: LogOffset) -> Option<(Vec<u8>, i64)> {
        let from = self.durable.partition_point(|e| e.offset < start);
        let to = self.durable.partition_point(|e| e.offset < end);
        if from >= to {
            return None;
        }
        let mut out = MAGIC.to_vec();
        let mut newest = i64::MIN;
        for entry in self.durable.range(from..to) {
            newest = entry.received_at;
            out.extend_from_slice(&entry.offset.to_le_bytes());
            out.extend_from_slice(&entry.received_at.to_le_bytes());
            out.extend_from_slice(&(entry.ids.len() as u64).to_le_bytes());
            for id in &entry.ids {
                out.extend_from_slice(&id.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Some((out, newest))
    }

    /// What [`EventIds::encode`] gave. `None` when the bytes are not that.
    pub(super) fn decode(bytes: &[u8]) -> Option<Vec<EntryIds>> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        (crc32fast::hash(covered) == u32::from_le_bytes(*crc)).then_some(())?;
        let mut cursor = Cursor(covered);
        (cursor.array::<8>()? == MAGIC).then_some(())?;
        let mut entries = Vec::new();
        while !cursor.0.is_empty() {
            let (offset, received_at, count) = (cursor.u64()?, cursor.i64()?, cursor.u64()?);
            let ids = (0..count).map(|_| cursor.u128()).collect::<Option<_>>()?;
            entries.push(EntryIds { offset, received_at, ids });
        }
        Some(entries)
    }
}

/// The ids of a column, hashed with the table's name; null stays null. Any type that casts to text will do.
pub(super) fn hash_ids(table: &str, column: &ArrayRef) -> Result<Vec<Option<u128>>> {
    let mut with_table = Sha256::new();
    with_table.update((table.len() as u64).to_le_bytes());
    with_table.update(table.as_bytes());
    let hash = |id: &[u8]| {
        let digest: [u8; 32] = with_table.clone().chain_update(id).finalize().into();
        let mut front = [0; 16];
        front.copy_from_slice(&digest[..16]);
        u128::from_le_bytes(front)
    };
    let text;
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(|id| id.map(|id| hash(id.as_bytes()))).collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().map(|id| id.map(|id| hash(id.as_bytes()))).collect(),
        DataType::Utf8View => column.as_string_view().iter().map(|id| id.map(|id| hash(id.as_bytes()))).collect(),
        DataType::Binary => column.as_binary::<i32>().iter().map(|id| id.map(hash)).collect(),
        other => {
            text = cast(column, &DataType::Utf8).map_err(|_| {
                Error::Config(format!(
                    "the event id of table {table} has type {other}, which has no text form; use a VARCHAR column"
                ))
            })?;
            text.as_string::<i32>().iter().map(|id| id.map(|id| hash(id.as_bytes()))).collect()
        }
    })
}

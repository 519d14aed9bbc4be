//! One frame of a segment: 64 bytes of head, the producer's and the table's name, a body, padding to 8 bytes.
//!
//! ```text
//!  0 length u32 of all after the first 8 bytes   8 offset u64          16 received_at i64     24 durable u64
//!  4 crc32 u32 of all after the first 8 bytes   32 kind u8, flags u8, event id column u16, schema u32
//! 40 epoch u64   48 sequence u64   56 rows u32, producer length u16, table length u16   64 names, pad, body, pad
//! ```
//!
//! All numbers are little-endian. `offset` is the entry's number; frames that are not entries carry the number of the next
//! entry. `durable` is how many entries were on disk when the frame was written: a damaged frame that a later frame counts
//! as durable is damage, one that no later frame counts is the end of a write that a crash cut short. The body of rows is
//! a piece of an Arrow IPC stream (dictionaries, then one record batch) without its schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, write_message};
use arrow::ipc::{MessageHeader, MetadataVersion, root_as_message};
use arrow::record_batch::RecordBatch;

use crate::contained::contained;
use crate::planted::{self, Bug};

/// The length and the CRC, which they themselves do not cover.
const PREFIX_BYTES: usize = 8;

/// Where the names begin.
pub(super) const HEAD_BYTES: usize = 64;

/// Frames begin at multiples of this, so that Arrow can use the buffers where they are.
pub(super) const ALIGNMENT: usize = 8;

/// A frame is never longer: more is damage, and a batch that needs more is refused.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 20;

const FLAG_SEQUENCED: u8 = 1;
const NO_COLUMN: u16 = u16::MAX;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An entry: rows of a table.
    Rows = 1,
    /// An entry: the producer is silent.
    Idle = 2,
    /// An entry: the producer promises no event before a time, which is the body: an i64, little-endian.
    Watermark = 3,
    /// A table's columns under a number, before the first rows that use it in a segment.
    Schema = 4,
    /// Where every producer's sequence stands, at the head of a segment.
    Producers = 5,
    /// The log was closed in order: everything before is durable.
    Closed = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Rows, Self::Idle, Self::Watermark, Self::Schema, Self::Producers, Self::Closed]
            .into_iter()
            .find(|k| *k as u8 == byte)
    }

    /// Whether the frame has a number of its own.
    pub(super) fn is_entry(self) -> bool {
        matches!(self, Self::Rows | Self::Idle | Self::Watermark)
    }
}

/// The fixed part of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub offset: u64,
    pub received_at: i64,
    pub durable: u64,
    pub kind: Kind,
    pub sequenced: bool,
    pub event_id: Option<u16>,
    pub schema: u32,
    pub epoch: u64,
    pub sequence: u64,
    pub rows: u32,
}

impl Head {
    /// A head of this kind with everything else zero.
    pub(super) fn new(kind: Kind) -> Self {
        let (offset, received_at, durable, epoch, sequence) = (0, 0, 0, 0, 0);
        Self {
            offset,
            received_at,
            durable,
            kind,
            sequenced: false,
            event_id: None,
            schema: 0,
            epoch,
            sequence,
            rows: 0,
        }
    }
}

/// The names and the body of a frame, encoded, with their checksum: all that does not depend on the place in the log.
#[derive(Debug)]
pub(super) struct Tail {
    producer_bytes: u16,
    table_bytes: u16,
    bytes: Vec<u8>,
    crc: crc32fast::Hasher,
}

/// Why something cannot be put in a frame.
#[derive(Debug)]
pub(super) enum TooLong {
    Name,
    Body(usize),
}

impl Tail {
    /// Encodes names and a body that `write` appends.
    pub(super) fn encode<E: From<TooLong>>(
        producer: &str,
        table: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (Ok(producer_bytes), Ok(table_bytes)) = (u16::try_from(producer.len()), u16::try_from(table.len())) else {
            return Err(TooLong::Name.into());
        };
        let mut bytes = Vec::with_capacity(producer.len() + table.len() + ALIGNMENT);
        bytes.extend_from_slice(producer.as_bytes());
        bytes.extend_from_slice(table.as_bytes());
        pad(&mut bytes);
        write(&mut bytes)?;
        pad(&mut bytes);
        if bytes.len() + HEAD_BYTES > FRAME_BYTES_MAX {
            return Err(TooLong::Body(bytes.len()).into());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        Ok(Self { producer_bytes, table_bytes, bytes, crc })
    }

    /// The length of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        HEAD_BYTES + self.bytes.len()
    }

    /// Appends the frame to `out`.
    pub(super) fn write(&self, head: &Head, out: &mut Vec<u8>) {
        let mut fixed = [0; HEAD_BYTES];
        let mut at = PREFIX_BYTES;
        let mut put = |bytes: &[u8]| {
            // The fields below fill the head exactly.
            if let Some(place) = fixed.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&head.offset.to_le_bytes());
        put(&head.received_at.to_le_bytes());
        put(&head.durable.to_le_bytes());
        put(&[head.kind as u8, if head.sequenced { FLAG_SEQUENCED } else { 0 }]);
        put(&head.event_id.unwrap_or(NO_COLUMN).to_le_bytes());
        put(&head.schema.to_le_bytes());
        put(&head.epoch.to_le_bytes());
        put(&head.sequence.to_le_bytes());
        put(&head.rows.to_le_bytes());
        put(&self.producer_bytes.to_le_bytes());
        put(&self.table_bytes.to_le_bytes());
        let (prefix, covered) = fixed.split_at_mut(PREFIX_BYTES);
        let mut crc = crc32fast::Hasher::new();
        crc.update(covered);
        crc.combine(&self.crc);
        // FRAME_BYTES_MAX fits a u32.
        let length = (self.frame_bytes() - PREFIX_BYTES) as u32;
        let (length_place, crc_place) = prefix.split_at_mut(4);
        length_place.copy_from_slice(&length.to_le_bytes());
        crc_place.copy_from_slice(&crc.finalize().to_le_bytes());
        out.extend_from_slice(&fixed);
        out.extend_from_slice(&self.bytes);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

/// A frame read back; `body` shares the buffer that it was read from.
#[derive(Debug)]
pub(super) struct Frame {
    pub head: Head,
    pub producer: String,
    pub table: String,
    pub body: Buffer,
    /// The length of the whole frame.
    pub frame_bytes: usize,
}

/// Why there is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// The bytes end before the frame does; it needs this many.
    Short(usize),
    /// This is not a frame.
    Damaged(&'static str),
}

/// The whole length of the frame that seems to begin at the first byte.
fn frame_bytes(bytes: &[u8]) -> Result<usize, Bad> {
    let mut cursor = Cursor(bytes);
    let length = cursor.u32().ok_or(Bad::Short(HEAD_BYTES))? as usize;
    let whole = length + PREFIX_BYTES;
    if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&whole) || !whole.is_multiple_of(ALIGNMENT) {
        return Err(Bad::Damaged("the length is impossible"));
    }
    Ok(whole)
}

/// The head of the frame that begins at the first byte, if the frame is whole and undamaged, and its length.
pub(super) fn check(bytes: &[u8]) -> Result<(Head, usize, u16, u16), Bad> {
    let whole = frame_bytes(bytes)?;
    let frame = bytes.get(..whole).ok_or(Bad::Short(whole))?;
    let mut cursor = Cursor(frame);
    let parsed = (|| {
        cursor.u32()?;
        let crc = cursor.u32()?;
        (crc32fast::hash(cursor.0) == crc || planted::is(Bug::LogWithoutChecksum)).then_some(())?;
        let (offset, received_at, durable) = (cursor.u64()?, cursor.i64()?, cursor.u64()?);
        let [kind, flags] = cursor.array()?;
        let kind = Kind::of(kind)?;
        let event_id = cursor.u16()?;
        let schema = cursor.u32()?;
        let (epoch, sequence, rows) = (cursor.u64()?, cursor.u64()?, cursor.u32()?);
        let (producer_bytes, table_bytes) = (cursor.u16()?, cursor.u16()?);
        let event_id = (event_id != NO_COLUMN).then_some(event_id);
        let sequenced = flags & FLAG_SEQUENCED != 0;
        let head = Head { offset, received_at, durable, kind, sequenced, event_id, schema, epoch, sequence, rows };
        Some((head, whole, producer_bytes, table_bytes))
    })();
    parsed.ok_or(Bad::Damaged("the checksum does not match"))
}

/// Whether the first bytes seem to be a frame that counts `entry` as durable: a cheap look before [`check`].
pub(super) fn looks_later(bytes: &[u8], entry: u64) -> bool {
    let mut cursor = Cursor(bytes);
    let fields = (|| {
        cursor.take(PREFIX_BYTES)?;
        let (offset, _received_at, durable) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let [kind] = cursor.array()?;
        Some((offset, durable, kind))
    })();
    fields.is_some_and(|(offset, durable, kind)| durable > entry && offset >= durable && Kind::of(kind).is_some())
}

/// The frame that begins at byte `at` of the buffer.
pub(super) fn read(buffer: &Buffer, at: usize) -> Result<Frame, Bad> {
    let bytes = buffer.as_slice().get(at..).ok_or(Bad::Short(HEAD_BYTES))?;
    let (head, whole, producer_bytes, table_bytes) = check(bytes)?;
    let names = Bad::Damaged("the names are not UTF-8 or too long");
    let producer_end = HEAD_BYTES + usize::from(producer_bytes);
    let table_end = producer_end + usize::from(table_bytes);
    let body_start = table_end.next_multiple_of(ALIGNMENT);
    let text = |from: usize, to: usize| bytes.get(from..to).and_then(|b| std::str::from_utf8(b).ok()).ok_or(names);
    if body_start > whole {
        return Err(names);
    }
    Ok(Frame {
        head,
        producer: text(HEAD_BYTES, producer_end)?.to_string(),
        table: text(producer_end, table_end)?.to_string(),
        body: buffer.slice_with_length(at + body_start, whole - body_start),
        frame_bytes: whole,
    })
}

fn write_options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)
}

/// A schema as an Arrow IPC message.
pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>, ArrowError> {
    let options = write_options()?;
    let mut tracker = DictionaryTracker::new(false);
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
    let mut out = Vec::new();
    write_message(&mut out, encoded, &options)?;
    Ok(out)
}

/// A schema from its Arrow IPC message.
pub(super) fn decode_schema(message: &[u8]) -> Result<SchemaRef, ArrowError> {
    let read = || Ok(Arc::new(arrow::ipc::convert::try_schema_from_ipc_buffer(message)?));
    contained("a frame of columns", read).map_err(|e| ArrowError::IpcError(e.to_string()))
}

/// Appends the batch to `out` as Arrow IPC messages.
pub(super) fn encode_batch(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = write_options()?;
    // The schema's dictionaries are numbered as when it was encoded; every batch carries its own.
    let mut tracker = DictionaryTracker::new(false);
    let generator = IpcDataGenerator::default();
    if batch.schema_ref().flattened_fields().iter().any(|f| matches!(f.data_type(), DataType::Dictionary(..))) {
        generator.schema_to_bytes_with_dictionary_tracker(batch.schema_ref(), &mut tracker, &options);
    }
    let (dictionaries, rows) = generator.encode(batch, &mut tracker, &options, &mut Default::default())?;
    for message in dictionaries.into_iter().chain([rows]) {
        write_message(&mut *out, message, &options)?;
    }
    Ok(())
}

/// The batch in a body of rows; its arrays share the body's buffer where alignment allows.
pub(super) fn decode_batch(body: &Buffer, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    contained("a frame of rows", || Ok(decode(body, schema)?)).map_err(|e| ArrowError::IpcError(e.to_string()))
}

fn decode(body: &Buffer, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let damaged = |what: &str| ArrowError::IpcError(format!("{what} in a frame of rows"));
    let mut dictionaries = HashMap::new();
    let mut at = 0;
    loop {
        let mut cursor = Cursor(body.as_slice().get(at..).unwrap_or_default());
        let (Some(_continuation), Some(metadata_bytes)) = (cursor.u32(), cursor.u32()) else {
            return Err(damaged("no record batch"));
        };
        let metadata = cursor.take(metadata_bytes as usize).ok_or_else(|| damaged("a cut message"))?;
        let message = root_as_message(metadata).map_err(|e| damaged(&e.to_string()))?;
        let body_bytes = usize::try_from(message.bodyLength()).map_err(|_| damaged("a negative length"))?;
        let start = at + 8 + metadata_bytes as usize;
        if cursor.0.len() < body_bytes {
            return Err(damaged("a cut message body"));
        }
        let data = body.slice_with_length(start, body_bytes);
        match message.header_type() {
            MessageHeader::DictionaryBatch => {
                let batch = message.header_as_dictionary_batch().ok_or_else(|| damaged("no dictionary"))?;
                read_dictionary(&data, batch, schema, &mut dictionaries, &message.version())?;
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().ok_or_else(|| damaged("no record batch"))?;
                return read_record_batch(&data, batch, schema.clone(), &dictionaries, None, &message.version());
            }
            _ => return Err(damaged("an unknown message")),
        }
        at = start + body_bytes;
    }
}

/// Reads little-endian numbers off the front of a slice.
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A name with its length before it.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        let length = self.u16()?;
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }
}

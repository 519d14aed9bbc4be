//! State that leaves memory: divided by a hash of its keys into parts, so that what is out of memory can be evaluated a part
//! at a time.
//!
//! Operators do no I/O. When memory is short the runtime calls [`Operator::spill`](super::Operator::spill) with a [`Spill`],
//! and the operator hands over what it can.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};

use crate::error::{Error, Result};
use crate::message::take_batch;

/// How many parts. Files that a later start reads have so many: another number is another layout.
pub const PARTS: usize = 64;

/// Rows of small batches that are put together before they are divided.
const TOGETHER: usize = 64 * 1024;

/// Takes state out of memory.
pub trait Spill {
    /// Writes the batch that `part` gives for each of [`PARTS`] parts; it may be asked for one again.
    fn write(&mut self, part: &mut dyn FnMut(usize) -> Result<RecordBatch>) -> Result<Arc<dyn Spilled>>;
}

/// State out of memory; the place is free when it is dropped and no checkpoint has it.
pub trait Spilled: Send + Sync {
    /// Names it among all state of its operator.
    fn name(&self) -> &str;

    /// The batch of a part.
    fn read(&self, part: usize) -> Result<RecordBatch>;
}

/// Rows in the order of their parts; those of one part keep their order.
pub struct Divided {
    schema: SchemaRef,
    pieces: Vec<Piece>,
}

struct Piece {
    batch: RecordBatch,
    /// Row numbers, part by part.
    rows: UInt32Array,
    /// Where each part begins in `rows`, and the last one ends.
    bounds: Vec<usize>,
}

impl Divided {
    /// Divides batches of one shape by the keys of their rows. Takes each batch as it needs it, so that there are not two
    /// copies of all of them.
    pub fn new(
        schema: SchemaRef,
        batches: impl IntoIterator<Item = RecordBatch>,
        keys: impl Fn(&RecordBatch) -> Result<Vec<ArrayRef>>,
    ) -> Result<Self> {
        let (mut pieces, mut small, mut rows) = (Vec::new(), Vec::new(), 0);
        for batch in batches {
            rows += batch.num_rows();
            small.push(batch);
            if rows >= TOGETHER {
                pieces.push(Piece::new(&schema, &std::mem::take(&mut small), &keys)?);
                rows = 0;
            }
        }
        if rows > 0 {
            pieces.push(Piece::new(&schema, &small, &keys)?);
        }
        Ok(Self { schema, pieces })
    }

    /// The rows of a part.
    pub fn part(&self, part: usize) -> Result<RecordBatch> {
        let own = self.pieces.iter().map(|p| p.part(part)).collect::<Result<Vec<_>>>()?;
        Ok(concat_batches(&self.schema, &own)?)
    }

    /// Bytes held, roughly.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|p| p.batch.get_array_memory_size() + p.rows.get_array_memory_size()).sum()
    }
}

impl Piece {
    fn new(
        schema: &SchemaRef,
        batches: &[RecordBatch],
        keys: impl Fn(&RecordBatch) -> Result<Vec<ArrayRef>>,
    ) -> Result<Self> {
        let batch = concat_batches(schema, batches)?;
        let parts = parts_of(&keys(&batch)?, batch.num_rows())?;
        // A counting sort: sizes, then places.
        let mut bounds = vec![0; PARTS + 1];
        for part in &parts {
            bounds.iter_mut().skip(usize::from(*part) + 1).take(1).for_each(|n| *n += 1);
        }
        let mut sum = 0;
        for bound in &mut bounds {
            sum += *bound;
            *bound = sum;
        }
        let (mut next, mut rows) = (bounds.clone(), vec![0; parts.len()]);
        for (row, part) in (0..).zip(&parts) {
            if let Some(place) = next.get_mut(usize::from(*part)) {
                rows.iter_mut().skip(*place).take(1).for_each(|r| *r = row);
                *place += 1;
            }
        }
        Ok(Self { batch, rows: rows.into(), bounds })
    }

    fn part(&self, part: usize) -> Result<RecordBatch> {
        let bound = |at: usize| self.bounds.get(at).copied().unwrap_or_default();
        take_batch(&self.batch, &self.rows.slice(bound(part), bound(part + 1) - bound(part)))
    }
}

/// The part of each row by its keys. Equal keys have one part, in every process: parts are in files.
fn parts_of(keys: &[ArrayRef], rows: usize) -> Result<Vec<u8>> {
    if keys.is_empty() || rows == 0 {
        return Ok(vec![0; rows]);
    }
    let fields = keys.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(keys)?;
    Ok(rows.iter().map(|row| (crc32fast::hash(row.as_ref()) % PARTS as u32) as u8).collect())
}

/// Refuses rows of a part whose keys belong to another: then they were divided by another program, in another way.
pub fn check_part(keys: &[ArrayRef], rows: usize, part: usize) -> Result<()> {
    if parts_of(keys, rows)?.iter().all(|p| usize::from(*p) == part) {
        return Ok(());
    }
    Err(Error::Corrupt(
        "state that was spilled to disk is divided in a way that this program does not know; use the program that wrote it, \
         or compute the table from the raw table with `millstream rebuild`"
            .into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    #[test]
    fn every_row_is_in_the_part_of_its_key_and_in_order() {
        let batch = |from: i64, n: i64| {
            let key: ArrayRef =
                Arc::new(StringArray::from_iter_values((from..from + n).map(|i| format!("k{}", i % 500))));
            let at: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + n));
            RecordBatch::try_from_iter([("k", key), ("at", at)]).unwrap()
        };
        let batches = [batch(0, 10), batch(10, 100_000), batch(100_010, 5)];
        let divided = Divided::new(batches[0].schema(), batches, |b| Ok(vec![b.column(0).clone()])).unwrap();
        let (mut seen, mut parts) = (Vec::new(), 0);
        for part in 0..PARTS {
            let own = divided.part(part).unwrap();
            let keys = [own.column(0).clone()];
            check_part(&keys, own.num_rows(), part).unwrap();
            assert!(own.num_rows() == 0 || check_part(&keys, own.num_rows(), part + 1).is_err());
            let at: Vec<i64> = own.column(1).as_primitive::<Int64Type>().values().to_vec();
            assert!(at.is_sorted());
            parts += usize::from(!at.is_empty());
            seen.extend(at);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100_015).collect::<Vec<_>>());
        assert!(parts > PARTS / 2, "500 keys are in {parts} parts");
    }

    /// Parts are in files: these must never change.
    #[test]
    fn keys_have_their_parts_for_ever() {
        let key: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("ß")]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), Some(7), None]));
        assert_eq!(parts_of(&[key, number], 3).unwrap(), [61, 12, 32]);
        assert_eq!(parts_of(&[], 3).unwrap(), [0, 0, 0]);
    }
}

//! What travels in the channels between threads and through the operators.
//!
//! ```text
//! source --Message--> worker graph --Message--> final graph --Message--> sink
//! ```
//!
//! Watermarks and barriers are messages, never shared state beside them: an operator sees them at their exact place
//! among the rows.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{concat_batches, filter, filter_record_batch, take};
use arrow::datatypes::{Int64Type, SchemaRef, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::time::Watermark;

/// Whether no time is before an earlier one. Also `false` where two neighbours are over 292 years apart.
///
/// Each row of the hot path comes through here, so there is no branch, and a sign instead of a comparison: plain x86-64
/// has no vector instruction that compares 64 bits.
pub(crate) fn ascends(times: &[i64]) -> bool {
    let steps = times.iter().zip(times.get(1..).unwrap_or_default());
    let signs = steps.fold(0, |signs, (a, b)| {
        let step = b.wrapping_sub(*a);
        let overflow = (b ^ a) & (b ^ step);
        signs | step | overflow
    });
    signs >= 0
}

/// The least and the greatest time. Of none the least is above the greatest.
pub(crate) fn bounds(times: &[i64]) -> (i64, i64) {
    match times.first().zip(times.last()) {
        Some((first, last)) if ascends(times) => (*first, *last),
        _ => times.iter().fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(*t), max.max(*t))),
    }
}

/// What the rows of a batch take in memory: of slices, their part.
pub(crate) fn bytes(batch: &RecordBatch) -> usize {
    let of =
        |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    batch.columns().iter().map(of).sum()
}

/// Rows with their event times, which are not columns: a projection cannot lose them.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The columns that SQL sees.
    pub batch: RecordBatch,
    /// The event time of each row, in nanoseconds since the epoch; never null.
    pub time: Int64Array,
    /// The watermark at each row's own place in the log. Absent when no row is behind the one at its place: then no row
    /// of it can be late for any window.
    pub row_watermark: Option<Int64Array>,
    /// True where a row takes back an equal row sent before. Absent when no row does. An update is two neighbouring
    /// rows: the old one taken back, then the new one.
    pub retracts: Option<BooleanArray>,
}

impl Rows {
    /// Rows that are new and cannot be late.
    pub fn new(batch: RecordBatch, time: Int64Array) -> Self {
        Self { batch, time, row_watermark: None, retracts: None }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows for which `mask` is true.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        Ok(Self {
            batch: filter_record_batch(&self.batch, mask)?,
            time: filter(&self.time, mask)?.as_primitive::<Int64Type>().clone(),
            row_watermark: match &self.row_watermark {
                Some(w) => Some(filter(w, mask)?.as_primitive::<Int64Type>().clone()),
                None => None,
            },
            retracts: match &self.retracts {
                Some(r) => Some(filter(r, mask)?.as_boolean().clone()),
                None => None,
            },
        })
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        Ok(Self {
            batch: take_batch(&self.batch, indices)?,
            time: take(&self.time, indices, None)?.as_primitive::<Int64Type>().clone(),
            row_watermark: match &self.row_watermark {
                Some(w) => Some(take(w, indices, None)?.as_primitive::<Int64Type>().clone()),
                None => None,
            },
            retracts: match &self.retracts {
                Some(r) => Some(take(r, indices, None)?.as_boolean().clone()),
                None => None,
            },
        })
    }

    /// Several in their order as one, that cannot be late.
    pub fn concat(schema: &SchemaRef, all: &[Self]) -> Result<Self> {
        if let [one] = all {
            return Ok(Self { row_watermark: None, ..one.clone() });
        }
        let batch = concat_batches(schema, all.iter().map(|r| &r.batch))?;
        let mut time: Vec<i64> = Vec::with_capacity(batch.num_rows());
        all.iter().for_each(|r| time.extend_from_slice(r.time.values()));
        let retracts = all.iter().any(|r| r.retracts.is_some());
        let retracts = retracts.then(|| all.iter().flat_map(Self::signs).map(Some).collect());
        Ok(Self { retracts, ..Self::new(batch, time.into()) })
    }

    /// Whether each row takes back another.
    pub fn signs(&self) -> impl Iterator<Item = bool> {
        (0..self.len()).map(|i| self.retracts.as_ref().is_some_and(|r| r.value(i)))
    }

    /// `length` rows from `offset`, without a copy.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            batch: self.batch.slice(offset, length),
            time: self.time.slice(offset, length),
            row_watermark: self.row_watermark.as_ref().map(|w| w.slice(offset, length)),
            retracts: self.retracts.as_ref().map(|r| r.slice(offset, length)),
        }
    }
}

/// The rows of a batch at `indices`; a batch without columns keeps its number of rows.
pub fn take_batch(batch: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|c| take(c, indices, None)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

/// The nanoseconds of a `Timestamp(Nanosecond, _)` column, without a copy; the column must not hold nulls.
pub fn nanoseconds(column: &ArrayRef) -> Result<Int64Array> {
    let times = column
        .as_primitive_opt::<TimestampNanosecondType>()
        .ok_or_else(|| Error::Bug(format!("event time of type {}", column.data_type())))?;
    Ok(Int64Array::new(times.values().clone(), times.nulls().cloned()))
}

/// Partial aggregates of one slice of event time: one row per group, group columns first, then accumulator states.
#[derive(Debug, Clone)]
pub struct SliceState {
    /// The start of the slice, nanoseconds since the epoch.
    pub start: i64,
    /// The end of the first window these rows count in: a row that was late for earlier windows has missed those.
    pub first_window_end: i64,
    /// The groups and their states.
    pub groups: RecordBatch,
}

/// Rows that were late for a window, with what they missed.
#[derive(Debug, Clone)]
pub struct LateRows {
    /// The rows as the window operator saw them.
    pub batch: RecordBatch,
    /// Their event times.
    pub time: Int64Array,
    /// Start of the window that each row missed.
    pub window_start: Int64Array,
    /// End of that window.
    pub window_end: Int64Array,
    /// The watermark at the row's place.
    pub watermark: Int64Array,
}

/// Rows for which an expression failed, with why.
#[derive(Debug, Clone)]
pub struct FailedRows {
    /// The rows as the operator saw them.
    pub batch: RecordBatch,
    /// Their event times.
    pub time: Int64Array,
    /// What failed.
    pub message: String,
}

/// One message.
#[derive(Debug, Clone)]
pub enum Message {
    /// Rows of a source or of an operator.
    Batch(Rows),
    /// Partial aggregates, from a worker's share of a window to its merge.
    Slice(Arc<SliceState>),
    /// Late rows, on their way to `<pipeline>__late`.
    Late(LateRows),
    /// Rows for which an expression failed, on their way to `<pipeline>__rejected`.
    Failed(FailedRows),
    /// No row before this time follows.
    Watermark(Watermark),
    /// Everything before belongs to checkpoint n.
    Barrier(u64),
    /// Nothing follows.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_ascend_are_told_and_bounds_are_right() {
        assert!(ascends(&[]) && ascends(&[7]) && ascends(&[-3, -3, 0, 9]));
        assert!(!ascends(&[1, 2, 1]) && !ascends(&[2, 1, 3]));
        assert!(!ascends(&[i64::MAX, i64::MIN]) && !ascends(&[5, i64::MIN]), "no overflow hides a step back");
        assert_eq!(bounds(&[]), (i64::MAX, i64::MIN));
        assert_eq!((bounds(&[1, 5, 5]), bounds(&[5, 1, 3])), ((1, 5), (1, 5)));
        assert_eq!(bounds(&[i64::MIN, i64::MAX]), (i64::MIN, i64::MAX));
    }
}

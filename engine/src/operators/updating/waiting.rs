//! What an updating aggregate holds back while more input is there already: several batches become one, so it sends one
//! change per key for all of them. Nothing waits for a batch to come.

use arrow::array::{Array, AsArray, Int64Array};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::message::{Rows, SliceState, bytes};
use crate::time::WATERMARK_MIN;

/// So much waits at most: it bounds the memory, and how long what waits takes to be worked off.
const ROWS_MAX: usize = 256 * 1024;
const BYTES_MAX: usize = 32 << 20;

/// Batches with fewer rows than this are put together.
const PIECE_ROWS_MIN: usize = 4096;

/// Input of one kind, in its order.
pub(super) enum Input {
    Rows(Vec<Rows>),
    Shares(Vec<RecordBatch>),
}

/// Input that waits.
#[derive(Default)]
pub(super) struct Waiting {
    inputs: Vec<Input>,
    rows: usize,
    bytes: usize,
}

impl Waiting {
    pub(super) fn rows(&mut self, rows: Rows) {
        self.count(&rows.batch);
        match self.inputs.last_mut() {
            Some(Input::Rows(all)) => all.push(rows),
            _ => self.inputs.push(Input::Rows(vec![rows])),
        }
    }

    pub(super) fn share(&mut self, share: &SliceState) {
        let groups = share.groups.clone();
        self.count(&groups);
        match self.inputs.last_mut() {
            Some(Input::Shares(all)) if all.last().is_some_and(|s| s.schema() == groups.schema()) => all.push(groups),
            _ => self.inputs.push(Input::Shares(vec![groups])),
        }
    }

    fn count(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows();
        self.bytes += bytes(batch);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Whether nothing more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// All that waits, in its order.
    pub(super) fn take(&mut self) -> Vec<Input> {
        std::mem::take(self).inputs
    }

    /// Bytes held, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Rows in pieces that are worth a pass each: only those of small batches are copied.
pub(super) fn pieces(batches: Vec<Rows>) -> Result<Vec<Rows>> {
    let (mut pieces, mut small, mut rows) = (Vec::with_capacity(batches.len()), Vec::new(), 0);
    for batch in batches {
        rows += batch.len();
        small.push(batch);
        if rows >= PIECE_ROWS_MIN {
            pieces.extend(joined(std::mem::take(&mut small))?);
            rows = 0;
        }
    }
    pieces.extend(joined(small)?);
    Ok(pieces)
}

/// Rows of several batches as one.
fn joined(batches: Vec<Rows>) -> Result<Option<Rows>> {
    let [first, _, ..] = batches.as_slice() else { return Ok(batches.into_iter().next()) };
    let rows = Rows::concat(&first.batch.schema(), &batches)?;
    if batches.iter().all(|b| b.row_watermark.is_none()) {
        return Ok(Some(rows));
    }
    // A row without a watermark of its own is at or after the one at its place: any that is no later says the same.
    let own = |b: &Rows| match &b.row_watermark {
        Some(watermarks) => watermarks.clone(),
        None => Int64Array::from(vec![WATERMARK_MIN; b.len()]),
    };
    let own: Vec<Int64Array> = batches.iter().map(own).collect();
    let own: Vec<&dyn Array> = own.iter().map(|w| w as &dyn Array).collect();
    Ok(Some(Rows { row_watermark: Some(concat(&own)?.as_primitive::<Int64Type>().clone()), ..rows }))
}

/// Shares as one, of the same columns.
pub(super) fn shares(all: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    match all {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => Ok(Some(concat_batches(&first.schema(), all)?)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;

    use super::*;

    fn rows(values: &[i64]) -> Rows {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        Rows::new(RecordBatch::try_from_iter([("v", column)]).unwrap(), values.to_vec().into())
    }

    #[test]
    fn rows_keep_their_order_and_the_watermark_at_their_place() {
        let mut waiting = Waiting::default();
        waiting.rows(rows(&[1, 2]));
        waiting.rows(Rows { row_watermark: Some(vec![5].into()), ..rows(&[3]) });
        let share = SliceState { start: 0, first_window_end: 0, groups: rows(&[7]).batch };
        waiting.share(&share);
        waiting.rows(rows(&[4]));
        assert!(waiting.bytes() >= 40);
        let inputs = waiting.take();
        assert!(waiting.is_empty() && waiting.bytes() == 0);
        let [Input::Rows(first), Input::Shares(shares), Input::Rows(last)] = inputs.as_slice() else {
            panic!("{} kinds in turn", inputs.len())
        };
        assert_eq!((shares.len(), last.len()), (1, 1));
        let all = pieces(first.clone()).unwrap();
        let [all] = all.as_slice() else { panic!("{} pieces", all.len()) };
        assert_eq!(all.time.values().to_vec(), [1, 2, 3]);
        let watermarks = all.row_watermark.as_ref().unwrap();
        assert_eq!(watermarks.values().to_vec(), [WATERMARK_MIN, WATERMARK_MIN, 5]);
    }

    #[test]
    fn only_small_batches_are_put_together() {
        let of = |count: i64| rows(&(0..count).collect::<Vec<_>>());
        let lengths = |batches: Vec<Rows>| pieces(batches).unwrap().iter().map(Rows::len).collect::<Vec<_>>();
        assert_eq!(lengths(vec![of(4096), of(9000), of(1), of(4094), of(1), of(3)]), [4096, 9000, 4096, 3]);
        let large = of(5000);
        let kept = pieces(vec![large.clone()]).unwrap();
        assert!(kept.iter().all(|k| k.time.values().inner().ptr_eq(large.time.values().inner())), "not copied");
        assert!(pieces(Vec::new()).unwrap().is_empty());
    }
}

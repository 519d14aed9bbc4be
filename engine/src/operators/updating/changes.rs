//! Old and new results to rows: the old one taken back, then the new one, where they differ.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, make_comparator};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, interleave, or};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::message::Rows;

/// The results of some groups before and after a batch.
pub(super) struct Changes<'a> {
    /// The key columns of the rows that came in, piece by piece.
    pub keys: &'a [&'a [ArrayRef]],
    /// For each group, the first of those rows with its key: which piece, and where in it.
    pub first: &'a [(usize, usize)],
    /// The newest event time of each group.
    pub newest: &'a [i64],
    /// The first so many groups had a result.
    pub had: usize,
    /// Those results.
    pub old: &'a [ArrayRef],
    /// How many rows each group has: it has a result if there are some. All have one, if absent.
    pub count: Option<&'a [i64]>,
    /// The results of all groups.
    pub new: &'a [ArrayRef],
}

impl Changes<'_> {
    /// The rows to send, if any.
    pub(super) fn rows(&self, schema: &SchemaRef) -> Result<Option<Rows>> {
        let changed = self.changed()?;
        let groups = self.newest.len();
        let (mut places, mut retracts) = (Vec::with_capacity(2 * groups), Vec::with_capacity(2 * groups));
        for group in 0..groups {
            let has = self.count.is_none_or(|count| count.get(group).is_some_and(|n| *n > 0));
            let had = group < self.had;
            let changes = !had || !has || changed.as_ref().is_some_and(|c| c.value(group));
            if had && changes {
                places.push((0, group));
                retracts.push(true);
            }
            if has && changes {
                places.push((1, group));
                retracts.push(false);
            }
        }
        if places.is_empty() {
            return Ok(None);
        }
        let time = places.iter().map(|(_, group)| self.newest.get(*group).copied().unwrap_or_default());
        let time = Int64Array::from(time.collect::<Vec<_>>());
        let first = places.iter().map(|(_, group)| self.first.get(*group).copied().unwrap_or_default());
        let first: Vec<(usize, usize)> = first.collect();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for column in 0..self.keys.first().map_or(0, |k| k.len()) {
            let pieces: Vec<&dyn Array> = self.keys.iter().filter_map(|k| k.get(column).map(|c| &**c)).collect();
            columns.push(interleave(&pieces, &first)?);
        }
        for (old, new) in self.old.iter().zip(self.new) {
            columns.push(interleave(&[old.as_ref(), new.as_ref()], &places)?);
        }
        let retracts = (self.had > 0).then(|| BooleanArray::from(retracts)).filter(|r| r.true_count() > 0);
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        Ok(Some(Rows { retracts, ..Rows::new(batch, time) }))
    }

    /// Which of the old results differ from the new ones; `None` if there are no results: a group that is its key does
    /// not change.
    fn changed(&self) -> Result<Option<BooleanArray>> {
        let mut changed: Option<BooleanArray> = None;
        for (old, new) in self.old.iter().zip(self.new) {
            let differs = differs(old, &new.slice(0, self.had))?;
            changed = Some(match changed {
                Some(c) => or(&c, &differs)?,
                None => differs,
            });
        }
        Ok(changed)
    }
}

/// Which values differ; null is equal to null.
fn differs(a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    if !a.data_type().is_nested() {
        return Ok(distinct(&a.as_ref(), &b.as_ref())?);
    }
    let compare = make_comparator(a.as_ref(), b.as_ref(), SortOptions::default())?;
    Ok((0..a.len()).map(|i| Some(!compare(i, i).is_eq())).collect())
}

/// Results that are taken back with nothing in their place.
pub(super) fn taken_back(
    schema: &SchemaRef,
    keys: Vec<ArrayRef>,
    results: Vec<ArrayRef>,
    newest: Int64Array,
) -> Result<Rows> {
    let retracts = Some(BooleanArray::from(vec![true; newest.len()]));
    let columns: Vec<ArrayRef> = keys.into_iter().chain(results).collect();
    let batch = RecordBatch::try_new(Arc::clone(schema), columns)?;
    Ok(Rows { retracts, ..Rows::new(batch, newest) })
}

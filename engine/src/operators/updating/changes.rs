//! Old and new results to rows: the old one taken back, then the new one, where they differ.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array, make_comparator};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, interleave, or, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::message::Rows;

/// The results of some groups before and after a batch.
pub(super) struct Changes<'a> {
    /// The columns of the groups' keys.
    pub keys: &'a [ArrayRef],
    /// The newest event time of each group.
    pub newest: &'a [i64],
    /// The first so many groups had a result.
    pub had: usize,
    /// Those results.
    pub old: &'a [ArrayRef],
    /// Which groups have a result now; all, if absent.
    pub have: Option<&'a [bool]>,
    /// The results of all groups.
    pub new: &'a [ArrayRef],
}

impl Changes<'_> {
    /// The rows to send, if any.
    pub(super) fn rows(&self, schema: &SchemaRef) -> Result<Option<Rows>> {
        let changed = self.changed()?;
        let (mut groups, mut places, mut retracts) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..self.newest.len() {
            let has = self.have.is_none_or(|have| have.get(group).copied().unwrap_or(false));
            let had = group < self.had;
            let changes = !had || !has || changed.as_ref().is_some_and(|c| c.value(group));
            if had && changes {
                groups.push(group as u32);
                places.push((0, group));
                retracts.push(true);
            }
            if has && changes {
                groups.push(group as u32);
                places.push((1, group));
                retracts.push(false);
            }
        }
        if groups.is_empty() {
            return Ok(None);
        }
        let time = groups.iter().filter_map(|g| self.newest.get(*g as usize).copied()).collect::<Vec<_>>();
        let groups = UInt32Array::from(groups);
        let mut columns = self.keys.iter().map(|k| take(k, &groups, None)).collect::<Result<Vec<_>, _>>()?;
        for (old, new) in self.old.iter().zip(self.new) {
            columns.push(interleave(&[old.as_ref(), new.as_ref()], &places)?);
        }
        let retracts = retracts.contains(&true).then(|| BooleanArray::from(retracts));
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        Ok(Some(Rows { retracts, ..Rows::new(batch, Int64Array::from(time)) }))
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

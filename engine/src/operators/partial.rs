//! A worker's share of a windowed aggregate.
//!
//! State is a map from slice to a hash aggregation. A batch whose event times fall in one slice, the usual case, is
//! aggregated whole; otherwise it is split once. When a window that contains a slice closes, and at every checkpoint,
//! the slice's state goes to the [merge](super::merge) as a delta: a worker keeps nothing across a barrier.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::accumulate::{Aggregation, Groups, Inputs};
use super::failing::of_good_rows;
use super::window::Windows;
use super::{Operator, Output};
use crate::error::Result;
use crate::message::{LateRows, Rows, SliceState, take_batch};
use crate::time::{WATERMARK_MIN, Watermark};
use arrow::array::UInt32Array;

/// The start of a slice and the end of the first window that rows of this entry count in. On-time rows of a slice all
/// have the same one; a row that was late for some of its hopping windows counts only in those that end later.
type SliceKey = (i64, i64);

/// Partial aggregation per slice. *Shape* in: the query's input; out: [`SliceState`]s and [`LateRows`].
pub struct Partial {
    aggregation: Arc<Aggregation>,
    windows: Windows,
    slices: BTreeMap<SliceKey, Groups>,
}

impl Partial {
    /// An empty one.
    pub fn new(aggregation: Arc<Aggregation>, windows: Windows) -> Self {
        Self { aggregation, windows, slices: BTreeMap::new() }
    }

    fn update(&mut self, key: SliceKey, inputs: &Inputs) -> Result<()> {
        match self.slices.entry(key) {
            std::collections::btree_map::Entry::Occupied(mut e) => e.get_mut().update(inputs),
            std::collections::btree_map::Entry::Vacant(e) => e.insert(Groups::new(&self.aggregation)?).update(inputs),
        }
    }

    /// The whole batch in one go, if its event times lie in one slice and no row can be late.
    fn update_whole(&mut self, rows: &Rows, inputs: &Inputs) -> Result<bool> {
        if rows.row_watermark.is_some() {
            return Ok(false);
        }
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for t in rows.time.values() {
            min = min.min(*t);
            max = max.max(*t);
        }
        let slice = self.windows.slice();
        let start = self.windows.floor(min, slice);
        if max.saturating_sub(start) >= slice {
            return Ok(false);
        }
        if let Some(end) = self.windows.first_end_after(start, WATERMARK_MIN) {
            self.update((start, end), inputs)?;
        }
        Ok(true)
    }

    fn update_split(&mut self, rows: &Rows, inputs: &Inputs, out: &mut Output) -> Result<()> {
        let split = split(&self.windows, rows);
        for (key, indices) in split.on_time {
            let (first, last) = (indices.first().copied().unwrap_or(0), indices.last().copied().unwrap_or(0));
            let own = if (last - first) as usize + 1 == indices.len() {
                inputs.slice(first as usize, indices.len())?
            } else {
                inputs.take(&UInt32Array::from(indices))?
            };
            self.update(key, &own)?;
        }
        if !split.late.rows.is_empty() {
            out.late.push(split.late.into_rows(rows)?);
        }
        Ok(())
    }

    fn flush(&mut self, through: Watermark, out: &mut Output) -> Result<()> {
        let done: Vec<SliceKey> = self.slices.keys().copied().filter(|(_, end)| *end <= through).collect();
        for key in done {
            if let Some(groups) = self.slices.remove(&key) {
                let groups = groups.into_state(&self.aggregation)?;
                out.slices.push(SliceState { start: key.0, first_window_end: key.1, groups });
            }
        }
        Ok(())
    }
}

/// Rows by slice, and those that were late for some window.
struct Split {
    on_time: BTreeMap<SliceKey, Vec<u32>>,
    late: LateIndices,
}

#[derive(Default)]
struct LateIndices {
    rows: Vec<u32>,
    window_start: Vec<i64>,
    window_end: Vec<i64>,
    watermark: Vec<i64>,
}

fn split(windows: &Windows, rows: &Rows) -> Split {
    let slice = windows.slice();
    let mut split = Split { on_time: BTreeMap::new(), late: LateIndices::default() };
    let watermarks = rows.row_watermark.as_ref().map(|w| w.values());
    // Neighbouring rows mostly share a slice: one look-up per run of them, not per row.
    let mut run: Option<(SliceKey, Vec<u32>)> = None;
    for (i, time) in rows.time.values().iter().enumerate() {
        let watermark = watermarks.and_then(|w| w.get(i)).copied().unwrap_or(WATERMARK_MIN);
        let start = match &run {
            Some(((start, _), _)) if (*start..start.saturating_add(slice)).contains(time) => *start,
            _ => windows.floor(*time, slice),
        };
        if watermark > start {
            for end in windows.ends(start, WATERMARK_MIN + 1).take_while(|end| *end <= watermark) {
                split.late.rows.push(i as u32);
                split.late.window_start.push(windows.start_of(end));
                split.late.window_end.push(end);
                split.late.watermark.push(watermark);
            }
        }
        let Some(end) = windows.first_end_after(start, watermark) else { continue };
        match &mut run {
            Some((key, indices)) if *key == (start, end) => indices.push(i as u32),
            _ => {
                if let Some((key, indices)) = run.take() {
                    split.on_time.entry(key).or_default().extend(indices);
                }
                run = Some(((start, end), vec![i as u32]));
            }
        }
    }
    if let Some((key, indices)) = run {
        split.on_time.entry(key).or_default().extend(indices);
    }
    split
}

impl LateIndices {
    fn into_rows(self, rows: &Rows) -> Result<LateRows> {
        let indices = UInt32Array::from(self.rows);
        Ok(LateRows {
            batch: take_batch(&rows.batch, &indices)?,
            time: indices.iter().flatten().map(|i| rows.time.value(i as usize)).collect::<Vec<_>>().into(),
            window_start: self.window_start.into(),
            window_end: self.window_end.into(),
            watermark: self.watermark.into(),
        })
    }
}

impl Operator for Partial {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let aggregation = self.aggregation.clone();
        for (rows, inputs) in of_good_rows(rows, out, &|rows| aggregation.inputs(&rows.batch))? {
            if !self.update_whole(&rows, &inputs)? {
                self.update_split(&rows, &inputs, out)?;
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        self.flush(watermark, out)?;
        Ok(watermark)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<()> {
        self.flush(i64::MAX, out)
    }

    fn shed(&mut self, out: &mut Output) -> Result<()> {
        self.flush(i64::MAX, out)
    }

    fn state_bytes(&self) -> usize {
        self.slices.values().map(Groups::size).sum()
    }
}

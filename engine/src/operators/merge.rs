//! The close of tumbling and hopping windows: merges the workers' partial aggregates and emits one row per window and
//! group.
//!
//! State is, per slice, the list of deltas that arrived. All windows that one watermark closes are evaluated together,
//! with one set of accumulators; a window whose state came in one piece needs no hashing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::accumulate::{Aggregation, Groups};
use super::window::{Windows, result_times, window_column};
use super::{Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::{Rows, SliceState};
use crate::time::{WATERMARK_MIN, Watermark};

/// A slice whose deltas are more than this is folded into one.
const DELTAS_MAX: usize = 16;

/// A state in more files than this is written anew as one.
const FILES_MAX: usize = 32;

/// Windows are evaluated together until their groups are this many.
const GROUPS_PER_EMIT: usize = 64 * 1024;

/// Merges [`SliceState`]s. *Shape* out: `schema`, the columns of the SQL aggregate with the window at `window_at`.
/// *Order*: by window end. Event time of a result: the window's last nanosecond.
pub struct Merge {
    aggregation: Arc<Aggregation>,
    windows: Windows,
    schema: SchemaRef,
    window_at: Option<usize>,
    slices: BTreeMap<(i64, i64), Vec<RecordBatch>>,
    open_ends: BTreeSet<i64>,
    watermark: Watermark,
    unsaved: Vec<SliceState>,
}

impl Merge {
    /// An empty one. `window_at`: the position of the window among the output's group columns, if it is to be added.
    pub fn new(aggregation: Arc<Aggregation>, windows: Windows, schema: SchemaRef, window_at: Option<usize>) -> Self {
        Self {
            aggregation,
            windows,
            schema,
            window_at,
            slices: BTreeMap::new(),
            open_ends: BTreeSet::new(),
            watermark: WATERMARK_MIN,
            unsaved: Vec::new(),
        }
    }

    fn insert(&mut self, start: i64, first_window_end: i64, groups: RecordBatch) -> Result<()> {
        let from = first_window_end.max(self.watermark.saturating_add(1));
        self.open_ends.extend(self.windows.ends(start, from));
        let deltas = self.slices.entry((start, first_window_end)).or_default();
        deltas.push(groups);
        if deltas.len() > DELTAS_MAX {
            let mut folded = Groups::new(&self.aggregation)?;
            for delta in deltas.iter() {
                folded.merge(&self.aggregation, delta)?;
            }
            *deltas = vec![folded.into_state(&self.aggregation)?];
        }
        Ok(())
    }

    fn close(&mut self, ends: &[i64], out: &mut Output) -> Result<()> {
        let mut closing = Closing::new(&self.aggregation)?;
        for end in ends {
            let parts: Vec<&RecordBatch> = self
                .slices
                .range((self.windows.start_of(*end), i64::MIN)..(*end, i64::MIN))
                .filter(|((_, first), _)| first <= end)
                .flat_map(|(_, deltas)| deltas)
                .collect();
            closing.add(*end, &parts)?;
            if closing.groups >= GROUPS_PER_EMIT {
                let full = std::mem::replace(&mut closing, Closing::new(&self.aggregation)?);
                out.batches.push(full.emit(&self.windows, &self.schema, self.window_at)?);
            }
        }
        if closing.groups > 0 {
            out.batches.push(closing.emit(&self.windows, &self.schema, self.window_at)?);
        }
        Ok(())
    }
}

/// Windows that are being evaluated together.
struct Closing<'a> {
    aggregation: &'a Aggregation,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    keys: Vec<Vec<ArrayRef>>,
    ends: Vec<i64>,
    groups: usize,
    indices: Vec<usize>,
}

impl<'a> Closing<'a> {
    fn new(aggregation: &'a Aggregation) -> Result<Self> {
        Ok(Self {
            aggregation,
            accumulators: aggregation.accumulators()?,
            keys: Vec::new(),
            ends: Vec::new(),
            groups: 0,
            indices: Vec::new(),
        })
    }

    fn add(&mut self, end: i64, parts: &[&RecordBatch]) -> Result<()> {
        let base = self.groups;
        let key_columns = self.aggregation.group_fields.len();
        // The groups of a single delta are distinct already.
        let mut table = if parts.len() > 1 { self.aggregation.group_table()? } else { None };
        for part in parts {
            let rows = part.num_rows();
            let (keys, _) = part.columns().split_at(key_columns);
            match &mut table {
                Some(table) => {
                    table.intern(keys, &mut self.indices)?;
                    self.indices.iter_mut().for_each(|i| *i += base);
                    self.groups = base + table.len();
                }
                None if key_columns == 0 => {
                    self.indices.clear();
                    self.indices.resize(rows, base);
                    self.groups = base + 1;
                }
                None => {
                    self.indices.clear();
                    self.indices.extend(base..base + rows);
                    self.groups = base + rows;
                    self.keys.push(keys.to_vec());
                }
            }
            for (accumulator, columns) in self.accumulators.iter_mut().zip(self.aggregation.state_columns(part)?) {
                accumulator.merge_batch(columns, &self.indices, self.groups)?;
            }
        }
        if let Some(mut table) = table {
            self.keys.push(table.emit(EmitTo::All)?);
        }
        self.ends.resize(self.groups, end);
        Ok(())
    }

    fn emit(mut self, windows: &Windows, schema: &SchemaRef, window_at: Option<usize>) -> Result<Rows> {
        let key_columns = self.aggregation.group_fields.len();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for i in 0..key_columns {
            let parts: Vec<&dyn Array> = self.keys.iter().filter_map(|k| k.get(i)).map(|a| a.as_ref()).collect();
            columns.push(concat(&parts)?);
        }
        let time = result_times(&self.ends);
        if let Some(at) = window_at {
            let starts = self.ends.iter().map(|e| windows.start_of(*e)).collect();
            columns.insert(at.min(columns.len()), window_column(starts, self.ends));
        }
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        Ok(Rows::new(RecordBatch::try_new(schema.clone(), columns)?, time))
    }
}

impl Operator for Merge {
    fn on_batch(&mut self, _port: usize, _rows: Rows, _out: &mut Output) -> Result<()> {
        Err(Error::Bug("rows sent to a merge of partial aggregates".into()))
    }

    fn on_slice(&mut self, slice: &SliceState, _out: &mut Output) -> Result<()> {
        self.insert(slice.start, slice.first_window_end, slice.groups.clone())?;
        self.unsaved.push(slice.clone());
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        let mut ends = Vec::new();
        while let Some(end) = self.open_ends.first().copied().filter(|e| *e <= watermark) {
            self.open_ends.remove(&end);
            ends.push(end);
        }
        self.watermark = watermark;
        if !ends.is_empty() {
            self.close(&ends, out)?;
            let windows = self.windows;
            self.slices.retain(|(start, _), _| windows.last_end(*start) > watermark);
        }
        Ok(watermark)
    }

    fn snapshot(&mut self, files: usize) -> Result<StateChange> {
        let (windows, watermark) = (self.windows, self.watermark);
        let unsaved = std::mem::take(&mut self.unsaved);
        if files >= FILES_MAX {
            let all = self.slices.iter().flat_map(|(key, deltas)| deltas.iter().map(|d| (*key, d)));
            return Ok(StateChange::Replace(all.map(|(key, d)| tag(key, d)).collect::<Result<_>>()?));
        }
        let live: Vec<_> = unsaved.into_iter().filter(|s| windows.last_end(s.start) > watermark).collect();
        let Some(needed_until) = live.iter().map(|s| windows.last_end(s.start)).max() else {
            return Ok(StateChange::None);
        };
        let batches = live.iter().map(|s| tag((s.start, s.first_window_end), &s.groups)).collect::<Result<_>>()?;
        Ok(StateChange::Append { batches, needed_until })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        for batch in state {
            let ((start, first_window_end), groups) = untag(&batch)?;
            if self.windows.last_end(start) > watermark {
                self.insert(start, first_window_end, groups)?;
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.slices.values().flatten().map(RecordBatch::get_array_memory_size).sum()
    }
}

/// State files carry the slice in two leading columns, so that any Arrow reader can make sense of them.
fn tag((start, first_window_end): (i64, i64), groups: &RecordBatch) -> Result<RecordBatch> {
    let rows = groups.num_rows();
    let mut fields: Vec<FieldRef> = vec![
        Arc::new(Field::new("slice_start_ns", DataType::Int64, false)),
        Arc::new(Field::new("first_window_end_ns", DataType::Int64, false)),
    ];
    fields.extend(groups.schema().fields().iter().cloned());
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![start; rows])), Arc::new(Int64Array::from(vec![first_window_end; rows]))];
    columns.extend(groups.columns().iter().cloned());
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn untag(batch: &RecordBatch) -> Result<((i64, i64), RecordBatch)> {
    let tag = |i: usize| -> Option<i64> {
        let column = batch.columns().get(i)?.as_primitive_opt::<Int64Type>()?;
        (!column.is_empty()).then(|| column.value(0))
    };
    let (Some(start), Some(first_window_end)) = (tag(0), tag(1)) else {
        return Err(Error::Corrupt("a window's state file lacks its slice columns".into()));
    };
    let rest: Vec<usize> = (2..batch.num_columns()).collect();
    Ok(((start, first_window_end), batch.project(&rest)?))
}

//! The close of tumbling and hopping windows: merges the workers' partial aggregates and emits one row per window and
//! group.
//!
//! State is, per slice, the list of deltas that arrived. All windows that one watermark closes are evaluated together,
//! with one set of accumulators; a window whose state came in one piece needs no hashing at all.
//!
//! Where memory is short all deltas go out of it, divided by key. Windows with such state are evaluated a part at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::accumulate::{Aggregation, Groups};
use super::spill::{Divided, PARTS, Spill, Spilled, check_part};
use super::window::{Windows, result_times, window_column};
use super::{FILES_MAX, Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::{Rows, SliceState};
use crate::time::{WATERMARK_MIN, Watermark};

/// A slice whose deltas are more than this is folded into one.
const DELTAS_MAX: usize = 16;

/// Windows are evaluated together until their groups are this many.
const GROUPS_PER_EMIT: usize = 64 * 1024;

/// The columns of state files before the keys: the slice.
const TAGS: usize = 2;

/// A slice's start, and the end of the first window that its rows count in.
type SliceKey = (i64, i64);

/// Deltas by slice, oldest first.
type Slices = BTreeMap<SliceKey, Vec<RecordBatch>>;

/// Merges [`SliceState`]s. *Shape* out: `schema`, the columns of the SQL aggregate with the window at `window_at`.
/// *Order*: by window end. Event time of a result: the window's last nanosecond.
pub struct Merge {
    aggregation: Arc<Aggregation>,
    windows: Windows,
    schema: SchemaRef,
    window_at: Option<usize>,
    slices: Slices,
    /// What is out of memory, older than what is in memory.
    out: Vec<OutOfMemory>,
    open_ends: BTreeSet<i64>,
    watermark: Watermark,
    unsaved: Vec<SliceState>,
    closing: Option<ByPart>,
}

/// Deltas that are out of memory.
struct OutOfMemory {
    state: Arc<dyn Spilled>,
    slices: BTreeSet<SliceKey>,
}

/// Windows that are being closed a part at a time.
struct ByPart {
    ends: Vec<i64>,
    /// Their share of what is in memory.
    held: Option<Divided>,
    part: usize,
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
            out: Vec::new(),
            open_ends: BTreeSet::new(),
            watermark: WATERMARK_MIN,
            unsaved: Vec::new(),
            closing: None,
        }
    }

    fn open(&mut self, start: i64, first_window_end: i64) {
        let from = first_window_end.max(self.watermark.saturating_add(1));
        self.open_ends.extend(self.windows.ends(start, from));
    }

    fn insert(&mut self, start: i64, first_window_end: i64, groups: RecordBatch) -> Result<()> {
        self.open(start, first_window_end);
        let deltas = self.slices.entry((start, first_window_end)).or_default();
        deltas.push(groups);
        if deltas.len() > DELTAS_MAX {
            *deltas = vec![fold(&self.aggregation, deltas)?];
        }
        Ok(())
    }

    /// Evaluates windows. `distinct`: no group is twice in one delta.
    fn close(&self, slices: &Slices, ends: &[i64], distinct: bool, out: &mut Output) -> Result<()> {
        let mut closing = Closing::new(&self.aggregation)?;
        for end in ends {
            let parts: Vec<&RecordBatch> = slices
                .range(slices_of(&self.windows, *end))
                .filter(|((_, first), _)| first <= end)
                .flat_map(|(_, deltas)| deltas)
                .collect();
            if parts.is_empty() {
                continue;
            }
            closing.add(*end, &parts, distinct)?;
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

    /// The keys of a batch of a state file.
    fn keys(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        batch.columns().iter().skip(TAGS).take(self.aggregation.group_fields.len()).cloned().collect()
    }

    fn is_open(&self, slice: &SliceKey) -> bool {
        self.windows.last_end(slice.0) > self.watermark
    }

    /// Deltas divided by key; none if there are none.
    fn divide(&self, slices: Slices) -> Result<Option<Divided>> {
        let mut all =
            slices.into_iter().flat_map(|(key, deltas)| deltas.into_iter().map(move |d| tag(key, &d))).peekable();
        let schema = match all.peek() {
            Some(Ok(first)) => first.schema(),
            Some(Err(_)) => Arc::new(Schema::empty()),
            None => return Ok(None),
        };
        let mut failed = None;
        let good = all.map_while(|batch| batch.map_err(|e| failed = Some(e)).ok());
        let divided = Divided::new(schema, good, |batch| Ok(self.keys(batch)))?;
        failed.map_or(Ok(Some(divided)), Err)
    }

    /// Begins to close windows, of which some have state out of memory.
    fn by_part(&self, ends: Vec<i64>) -> Result<ByPart> {
        let mut held = Slices::new();
        for end in &ends {
            let own = self.slices.range(slices_of(&self.windows, *end));
            held.extend(own.map(|(key, deltas)| (*key, deltas.clone())));
        }
        Ok(ByPart { ends, held: self.divide(held)?, part: 0 })
    }

    /// Closes windows part by part until enough rows have come together; whether there are more.
    fn close_parts(&self, closing: &mut ByPart, out: &mut Output) -> Result<bool> {
        let out_of = |o: &&OutOfMemory| o.has_any_of(&self.windows, &closing.ends);
        let state: Vec<&OutOfMemory> = self.out.iter().filter(out_of).collect();
        while closing.part < PARTS {
            let mut slices = Slices::new();
            for own in &state {
                split(&own.state.read(closing.part)?, &mut slices)?;
            }
            if let Some(held) = &closing.held {
                split(&held.part(closing.part)?, &mut slices)?;
            }
            // Deltas of a slice that went out together are one run of rows.
            self.close(&slices, &closing.ends, false, out)?;
            closing.part += 1;
            if out.batches.iter().map(Rows::len).sum::<usize>() >= GROUPS_PER_EMIT {
                break;
            }
        }
        Ok(closing.part < PARTS)
    }

    /// Puts all that is out of memory together, each slice's deltas folded.
    fn fold_out(&mut self, spill: &mut dyn Spill) -> Result<()> {
        let (old, keep) = (std::mem::take(&mut self.out), |key: &SliceKey| self.is_open(key));
        let mut part = |part: usize| {
            let (mut slices, mut schema) = (Slices::new(), None);
            for own in &old {
                let batch = own.state.read(part)?;
                schema.get_or_insert(batch.schema());
                split(&batch, &mut slices)?;
            }
            let open = slices.iter().filter(|(key, _)| keep(key));
            let folded = open.map(|(key, deltas)| tag(*key, &fold(&self.aggregation, deltas)?));
            let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
            Ok(concat_batches(&schema, &folded.collect::<Result<Vec<_>>>()?)?)
        };
        let state = spill.write(&mut part)?;
        let slices = old.iter().flat_map(|o| &o.slices).copied().filter(keep).collect();
        self.out = vec![OutOfMemory { state, slices }];
        Ok(())
    }

    /// Forgets what no open window needs.
    fn forget_closed(&mut self) {
        let (windows, watermark) = (self.windows, self.watermark);
        let is_open = |(start, _): &SliceKey| windows.last_end(*start) > watermark;
        self.slices.retain(|key, _| is_open(key));
        self.unsaved.retain(|slice| windows.last_end(slice.start) > watermark);
        self.out.retain_mut(|out| {
            out.slices.retain(is_open);
            !out.slices.is_empty()
        });
    }
}

/// The keys of the slices of the window that ends at `end`; those of rows that were late for it are among them.
fn slices_of(windows: &Windows, end: i64) -> std::ops::Range<SliceKey> {
    (windows.start_of(end), i64::MIN)..(end, i64::MIN)
}

impl OutOfMemory {
    fn has_any_of(&self, windows: &Windows, ends: &[i64]) -> bool {
        ends.iter().any(|end| self.slices.range(slices_of(windows, *end)).any(|(_, first)| first <= end))
    }
}

/// Deltas as one, with each group once.
fn fold(aggregation: &Aggregation, deltas: &[RecordBatch]) -> Result<RecordBatch> {
    let mut folded = Groups::new(aggregation)?;
    for delta in deltas {
        folded.merge(aggregation, delta)?;
    }
    folded.into_state(aggregation)
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

    fn add(&mut self, end: i64, parts: &[&RecordBatch], distinct: bool) -> Result<()> {
        let base = self.groups;
        let key_columns = self.aggregation.group_fields.len();
        // The groups of a single delta are distinct already.
        let mut table = if parts.len() > 1 || !distinct { self.aggregation.group_table()? } else { None };
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
        let mut closing = match self.closing.take() {
            Some(closing) => closing,
            None => {
                let later = self.open_ends.split_off(&watermark.saturating_add(1));
                let ends: Vec<i64> = std::mem::replace(&mut self.open_ends, later).into_iter().collect();
                if !self.out.iter().any(|o| o.has_any_of(&self.windows, &ends)) {
                    self.close(&self.slices, &ends, true, out)?;
                    self.watermark = watermark;
                    self.forget_closed();
                    return Ok(watermark);
                }
                self.by_part(ends)?
            }
        };
        out.more = self.close_parts(&mut closing, out)?;
        if out.more {
            self.closing = Some(closing);
        } else {
            self.watermark = watermark;
            self.forget_closed();
        }
        Ok(self.watermark)
    }

    fn spill(&mut self, spill: &mut dyn Spill) -> Result<bool> {
        let slices: BTreeSet<SliceKey> = self.slices.keys().copied().collect();
        self.unsaved.clear();
        let held = std::mem::take(&mut self.slices);
        let Some(held) = self.divide(held)? else { return Ok(false) };
        let state = spill.write(&mut |part| held.part(part))?;
        self.out.push(OutOfMemory { state, slices });
        if self.out.len() > FILES_MAX {
            self.fold_out(spill)?;
        }
        Ok(true)
    }

    fn spilled(&self) -> Vec<Arc<dyn Spilled>> {
        self.out.iter().map(|o| o.state.clone()).collect()
    }

    fn restore_spilled(&mut self, state: Arc<dyn Spilled>, watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        let mut slices = Slices::new();
        for part in 0..PARTS {
            let batch = state.read(part)?;
            check_part(&self.keys(&batch), batch.num_rows(), part)?;
            split(&batch, &mut slices)?;
            // Only where they are is of interest.
            slices.values_mut().for_each(Vec::clear);
        }
        let slices: BTreeSet<SliceKey> = slices.into_keys().filter(|key| self.is_open(key)).collect();
        for (start, first_window_end) in &slices {
            self.open(*start, *first_window_end);
        }
        if !slices.is_empty() {
            self.out.push(OutOfMemory { state, slices });
        }
        Ok(())
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let (windows, watermark) = (self.windows, self.watermark);
        let unsaved = std::mem::take(&mut self.unsaved);
        if whole {
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
        // What is not saved yet is mostly the same arrays.
        let open: usize = self.slices.values().flatten().map(RecordBatch::get_array_memory_size).sum();
        open.max(self.unsaved.iter().map(|slice| slice.groups.get_array_memory_size()).sum())
            + self.closing.iter().flat_map(|c| &c.held).map(Divided::bytes).sum::<usize>()
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
    let [start, first_window_end] = tags(batch)?;
    let (Some(start), Some(first_window_end)) = (start.first(), first_window_end.first()) else {
        return Err(Error::Corrupt("a window's state file has an empty batch".into()));
    };
    Ok(((*start, *first_window_end), groups(batch)?))
}

fn tags(batch: &RecordBatch) -> Result<[&[i64]; TAGS]> {
    let tag = |i: usize| batch.columns().get(i)?.as_primitive_opt::<Int64Type>().map(|c| c.values().as_ref());
    match (tag(0), tag(1)) {
        (Some(start), Some(first_window_end)) => Ok([start, first_window_end]),
        _ => Err(Error::Corrupt("a window's state file lacks its slice columns".into())),
    }
}

fn groups(batch: &RecordBatch) -> Result<RecordBatch> {
    let rest: Vec<usize> = (TAGS..batch.num_columns()).collect();
    Ok(batch.project(&rest)?)
}

/// Adds the rows of a batch of several slices, which has those of each together: what were several deltas comes as one, in
/// which a group may be twice.
fn split(batch: &RecordBatch, slices: &mut Slices) -> Result<()> {
    let ([starts, firsts], groups) = (tags(batch)?, groups(batch)?);
    let keys: Vec<SliceKey> = starts.iter().copied().zip(firsts.iter().copied()).collect();
    let mut from = 0;
    for run in keys.chunk_by(|a, b| a == b) {
        if let Some(key) = run.first() {
            slices.entry(*key).or_default().push(groups.slice(from, run.len()));
        }
        from += run.len();
    }
    Ok(())
}

//! The join of results of equal windows: both sides are kept until the windows have closed, then all closed windows
//! are joined together, with the window's end as one more key.
//!
//! Where memory is short all rows go out of it, divided by key, and windows with such rows are joined a part at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::condition::{Condition, KeyTable};
use super::output::{Change, Shape, emit};
use super::probe::{Pairs, Probe};
use super::saved::{load, save};
use super::store::Store;
use super::updates::all_new;
use crate::error::{Error, Result};
use crate::message::Rows;
use crate::operators::spec::{Properties, Spec};
use crate::operators::spill::{Divided, PARTS, Spill, Spilled, check_part};
use crate::operators::{FILES_MAX, Operator, Output, StateChange};
use crate::time::{WATERMARK_MIN, Watermark};

/// A join of results of equal windows. Event time of a result: the window's last nanosecond.
#[derive(Debug, Clone)]
pub struct WindowedJoin {
    /// What pairs agree on besides the window.
    pub condition: Arc<Condition>,
    /// The type and columns.
    pub shape: Shape,
    /// The columns of both inputs.
    pub inputs: [SchemaRef; 2],
    /// The types of the keys.
    pub key_types: Vec<DataType>,
}

impl WindowedJoin {
    /// A planned join. *Errors*: an expression that does not fit the columns.
    pub fn new(condition: Condition, shape: Shape, inputs: [SchemaRef; 2]) -> Result<Self> {
        let [left, _] = &inputs;
        let mut key_types = condition.key_types(left)?;
        key_types.push(DataType::Int64);
        Ok(Self { condition: Arc::new(condition), shape, inputs, key_types })
    }

    fn fill(
        &self,
        side: usize,
        parts: &[RecordBatch],
        times: &[i64],
        keys: &mut KeyTable,
    ) -> Result<(Store, Vec<u32>)> {
        let [left, right] = &self.inputs;
        let schema = if side == 0 { left } else { right };
        let mut store = Store::new(schema.clone(), self.shape.alone(side).is_some());
        let mut numbers = Vec::new();
        if let Some(first) = parts.first() {
            let batch = concat_batches(&first.schema(), parts)?;
            let mut columns = self.condition.keys(side, &batch)?;
            columns.push(Arc::new(Int64Array::from(times.to_vec())) as ArrayRef);
            numbers = keys.intern(&columns, batch.num_rows())?;
            store.append(batch.columns(), &numbers, keys.len(), times)?;
        }
        Ok((store, numbers))
    }

    fn join(&self, sides: [(Vec<RecordBatch>, Vec<i64>); 2], out: &mut Output) -> Result<()> {
        let mut keys = KeyTable::new(self.key_types.clone(), self.condition.nulls_equal)?;
        let [(left, left_times), (right, right_times)] = sides;
        let (mut left, left_keys) = self.fill(0, &left, &left_times, &mut keys)?;
        let (mut right, right_keys) = self.fill(1, &right, &right_times, &mut keys)?;
        let rows = all_new(0, &left_keys).fresh;
        let (mut probe, mut pairs) = (Probe::new(0, &rows), Pairs::default());
        while probe.next(&self.condition, [&left, &right], |_, _, _| true, &mut pairs)? {
            for (l, r) in pairs.of(0) {
                left.set_partners(l, left.partners(l) + 1);
                right.set_partners(r, right.partners(r) + 1);
            }
            if self.shape.pairs() {
                let changes: Vec<Change> = pairs.of(0).map(|(l, r)| Change::of(0, l, r, left.time(l))).collect();
                emit(&changes, &self.shape, [&left, &right], false, &mut out.batches)?;
            }
        }
        let mut changes = Vec::new();
        for (side, store, keys) in [(0, &left, &left_keys), (1, &right, &right_keys)] {
            let Some(alone) = self.shape.alone(side) else { continue };
            let shown = (0..keys.len() as u32).filter_map(|row| Some((row, alone.shown(store.partners(row))?)));
            changes.extend(shown.map(|(row, other)| Change::of(side, row, other, store.time(row))));
        }
        emit(&changes, &self.shape, [&left, &right], false, &mut out.batches)
    }
}

impl Spec for WindowedJoin {
    fn schema(&self) -> SchemaRef {
        self.shape.schema.clone()
    }

    fn describe(&self) -> String {
        format!("windowed {} join on {}", self.shape.describe(), self.condition.describe())
    }

    fn state(&self) -> String {
        "the rows of both sides, until the watermark passes the end of their window".into()
    }

    fn properties(&self, inputs: &[Properties]) -> Properties {
        Properties { window: inputs.first().and_then(|p| p.window), updating: false }
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Windowed {
            spec: self.clone(),
            open: [BTreeMap::new(), BTreeMap::new()],
            unsaved: Vec::new(),
            out: [Vec::new(), Vec::new()],
            watermark: WATERMARK_MIN,
            closing: None,
        }))
    }
}

/// The join at work.
struct Windowed {
    spec: WindowedJoin,
    /// Rows by event time, which is the same for all rows of a window.
    open: [BTreeMap<i64, Vec<RecordBatch>>; 2],
    /// What came since the last checkpoint: side, event time, rows.
    unsaved: Vec<(usize, i64, RecordBatch)>,
    /// Rows of each side that are out of memory.
    out: [Vec<OutOfMemory>; 2],
    /// Rows before it have been joined.
    watermark: Watermark,
    closing: Option<ByPart>,
}

/// Rows of one side, by event time.
type Open = BTreeMap<i64, Vec<RecordBatch>>;

/// Rows that are out of memory, with their times before their columns.
struct OutOfMemory {
    state: Arc<dyn Spilled>,
    times: BTreeSet<i64>,
}

/// Windows that are being joined a part at a time.
struct ByPart {
    /// Their share of what is in memory.
    held: [Option<Divided>; 2],
    part: usize,
}

/// In the schema of spilled rows: which side they are of.
const SIDE: &str = "side";

impl Windowed {
    fn insert(&mut self, side: usize, time: i64, batch: RecordBatch) {
        if let Some(open) = self.open.get_mut(side) {
            open.entry(time).or_default().push(batch);
        }
    }

    /// Rows divided by key; none if there are none.
    fn divide(&self, side: usize, rows: Open) -> Result<Option<Divided>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let [left, right] = &self.spec.inputs;
        let own = if side == 0 { left } else { right };
        let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new("event_time_ns", DataType::Int64, false))];
        fields.extend(own.fields().iter().cloned());
        let metadata = HashMap::from([(SIDE.to_string(), side.to_string())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let timed = |(time, batch): (i64, RecordBatch)| {
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![time; batch.num_rows()]))];
            columns.extend(batch.columns().iter().cloned());
            RecordBatch::try_new(schema.clone(), columns)
        };
        let all = rows.into_iter().flat_map(|(time, batches)| batches.into_iter().map(move |b| (time, b)));
        let mut failed = None;
        let good = all.map(timed).map_while(|batch| batch.map_err(|e| failed = Some(e)).ok());
        let divided = Divided::new(schema.clone(), good, |batch| self.keys(side, batch))?;
        failed.map_or(Ok(Some(divided)), |e| Err(e.into()))
    }

    /// The keys of rows with their times.
    fn keys(&self, side: usize, timed: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.spec.condition.keys(side, &without_times(timed)?)
    }

    /// Joins windows part by part until some rows have come together; whether there are more.
    fn close_parts(&self, closing: &mut ByPart, watermark: Watermark, out: &mut Output) -> Result<bool> {
        while closing.part < PARTS && out.batches.is_empty() {
            let mut closed = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
            for ((own, held), (batches, times)) in self.out.iter().zip(&closing.held).zip(&mut closed) {
                let mut parts = Vec::new();
                for out in own.iter().filter(|o| o.times.first().is_some_and(|t| *t < watermark)) {
                    let all = out.state.read(closing.part)?;
                    let due = times_of(&all)?.iter().map(|t| Some((self.watermark..watermark).contains(t)));
                    parts.push(filter_record_batch(&all, &due.collect())?);
                }
                parts.extend(held.as_ref().map(|h| h.part(closing.part)).transpose()?);
                for part in parts.iter().filter(|p| p.num_rows() > 0) {
                    times.extend(times_of(part)?);
                    batches.push(without_times(part)?);
                }
            }
            if closed.iter().any(|(batches, _)| !batches.is_empty()) {
                self.spec.join(closed, out)?;
            }
            closing.part += 1;
        }
        Ok(closing.part < PARTS)
    }

    /// Puts all that is out of memory on a side together.
    fn fold_out(&mut self, side: usize, spill: &mut dyn Spill) -> Result<()> {
        let Some(own) = self.out.get_mut(side) else { return Ok(()) };
        let mut part = |part: usize| {
            let mut batches = Vec::new();
            for out in own.iter() {
                let all = out.state.read(part)?;
                let open: BooleanArray = times_of(&all)?.iter().map(|t| Some(*t >= self.watermark)).collect();
                batches.push(filter_record_batch(&all, &open)?);
            }
            let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
            Ok(concat_batches(&schema, &batches)?)
        };
        let state = spill.write(&mut part)?;
        let times = own.iter().flat_map(|o| &o.times).copied().collect();
        *own = vec![OutOfMemory { state, times }];
        Ok(())
    }
}

fn times_of(timed: &RecordBatch) -> Result<&[i64]> {
    let times = timed.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
    times.map(|t| t.values().as_ref()).ok_or_else(|| Error::Corrupt("a join's spilled rows lack their times".into()))
}

fn without_times(timed: &RecordBatch) -> Result<RecordBatch> {
    let rest: Vec<usize> = (1..timed.num_columns()).collect();
    Ok(timed.project(&rest)?)
}

impl Windowed {
    fn close_by_part(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        let mut closing = match self.closing.take() {
            Some(closing) => closing,
            None => {
                self.unsaved.retain(|(_, time, _)| *time >= watermark);
                let mut held = [None, None];
                for (side, held) in held.iter_mut().enumerate() {
                    let Some(open) = self.open.get_mut(side) else { continue };
                    let later = open.split_off(&watermark);
                    let due = std::mem::replace(open, later);
                    *held = self.divide(side, due)?;
                }
                ByPart { held, part: 0 }
            }
        };
        out.more = self.close_parts(&mut closing, watermark, out)?;
        if out.more {
            self.closing = Some(closing);
            return Ok(self.watermark);
        }
        self.watermark = watermark;
        for own in &mut self.out {
            own.retain_mut(|out| {
                out.times = out.times.split_off(&watermark);
                !out.times.is_empty()
            });
        }
        Ok(watermark)
    }
}

impl Operator for Windowed {
    fn on_batch(&mut self, side: usize, rows: Rows, _out: &mut Output) -> Result<()> {
        let mut from = 0;
        for run in rows.time.values().chunk_by(|a, b| a == b) {
            let batch = rows.batch.slice(from, run.len());
            from += run.len();
            if let Some(time) = run.first() {
                self.unsaved.push((side, *time, batch.clone()));
                self.insert(side, *time, batch);
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        let is_due = |o: &OutOfMemory| o.times.first().is_some_and(|t| *t < watermark);
        if self.closing.is_some() || self.out.iter().flatten().any(is_due) {
            return self.close_by_part(watermark, out);
        }
        let mut closed = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        for (open, (batches, times)) in self.open.iter_mut().zip(&mut closed) {
            let later = open.split_off(&watermark);
            for (time, parts) in std::mem::replace(open, later) {
                for part in parts {
                    times.extend(std::iter::repeat_n(time, part.num_rows()));
                    batches.push(part);
                }
            }
        }
        if closed.iter().any(|(batches, _)| !batches.is_empty()) {
            self.unsaved.retain(|(_, time, _)| *time >= watermark);
            self.spec.join(closed, out)?;
        }
        self.watermark = watermark;
        Ok(watermark)
    }

    fn spill(&mut self, spill: &mut dyn Spill) -> Result<bool> {
        self.unsaved.clear();
        let mut any = false;
        for (side, open) in std::mem::take(&mut self.open).into_iter().enumerate() {
            let times = open.keys().copied().collect();
            let Some(held) = self.divide(side, open)? else { continue };
            let state = spill.write(&mut |part| held.part(part))?;
            any = true;
            let Some(own) = self.out.get_mut(side) else { continue };
            own.push(OutOfMemory { state, times });
            if own.len() > FILES_MAX {
                self.fold_out(side, spill)?;
            }
        }
        Ok(any)
    }

    fn spilled(&self) -> Vec<Arc<dyn Spilled>> {
        self.out.iter().flatten().map(|o| o.state.clone()).collect()
    }

    fn restore_spilled(&mut self, state: Arc<dyn Spilled>, watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        let (mut side, mut times) = (0, BTreeSet::new());
        for part in 0..PARTS {
            let batch = state.read(part)?;
            side = usize::from(batch.schema().metadata().get(SIDE).is_some_and(|s| s == "1"));
            check_part(&self.keys(side, &batch)?, batch.num_rows(), part)?;
            times.extend(times_of(&batch)?.iter().copied().filter(|t| *t >= watermark));
        }
        if let Some(own) = self.out.get_mut(side).filter(|_| !times.is_empty()) {
            own.push(OutOfMemory { state, times });
        }
        Ok(())
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let (mut batches, mut newest) = (Vec::new(), None);
        let mut unsaved = std::mem::take(&mut self.unsaved);
        if whole {
            let sides =
                (0..).zip(&self.open).flat_map(|(side, open)| open.iter().map(move |(time, all)| (side, time, all)));
            unsaved = sides.flat_map(|(side, time, all)| all.iter().map(move |b| (side, *time, b.clone()))).collect();
        }
        unsaved.sort_by_key(|(side, ..)| *side);
        for (side, time, batch) in unsaved {
            let mut store = Store::new(batch.schema(), false);
            let rows = batch.num_rows();
            store.append(batch.columns(), &vec![0; rows], 1, &vec![time; rows])?;
            save(side, &store, 0, &batch.schema(), &mut batches)?;
            newest = newest.max(Some(time));
        }
        Ok(match newest {
            _ if whole => StateChange::Replace(batches),
            None => StateChange::None,
            // The window of a time ends a nanosecond after it.
            Some(time) => StateChange::Append { batches, needed_until: time.saturating_add(1) },
        })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        for batch in &state {
            let saved = load(batch)?;
            if let Some(time) = saved.times.values().first().filter(|t| **t >= watermark) {
                let [left, right] = &self.spec.inputs;
                let schema = if saved.side == 0 { left } else { right };
                let rows = RecordBatch::try_new(schema.clone(), saved.batch.columns().to_vec())?;
                self.insert(saved.side, *time, rows);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.open.iter().flat_map(|o| o.values()).flatten().map(RecordBatch::get_array_memory_size).sum::<usize>()
            + self.closing.iter().flat_map(|c| &c.held).flatten().map(Divided::bytes).sum::<usize>()
    }
}

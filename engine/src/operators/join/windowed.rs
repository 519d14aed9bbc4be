//! The join of results of equal windows: both sides are kept until the windows have closed, then all closed windows
//! are joined together, with the window's end as one more key.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::condition::{Condition, KeyTable};
use super::output::{Change, Shape, emit};
use super::probe::{Pairs, Probe};
use super::saved::{load, save};
use super::store::Store;
use super::updates::all_new;
use crate::error::Result;
use crate::message::Rows;
use crate::operators::spec::{Properties, Spec};
use crate::operators::{Operator, Output, StateChange};
use crate::time::Watermark;

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
            let rows = (0..keys.len() as u32).filter(|row| alone.shows(store.partners(*row)));
            changes.extend(rows.map(|row| Change::of(side, row, super::NONE, store.time(row))));
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
        Ok(Box::new(Windowed { spec: self.clone(), open: [BTreeMap::new(), BTreeMap::new()], unsaved: Vec::new() }))
    }
}

/// The join at work.
struct Windowed {
    spec: WindowedJoin,
    /// Rows by event time, which is the same for all rows of a window.
    open: [BTreeMap<i64, Vec<RecordBatch>>; 2],
    /// What came since the last checkpoint: side, event time, rows.
    unsaved: Vec<(usize, i64, RecordBatch)>,
}

impl Windowed {
    fn insert(&mut self, side: usize, time: i64, batch: RecordBatch) {
        if let Some(open) = self.open.get_mut(side) {
            open.entry(time).or_default().push(batch);
        }
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
        Ok(watermark)
    }

    fn snapshot(&mut self, _files: usize) -> Result<StateChange> {
        let (mut batches, mut newest) = (Vec::new(), None);
        let mut unsaved = std::mem::take(&mut self.unsaved);
        unsaved.sort_by_key(|(side, ..)| *side);
        for (side, time, batch) in unsaved {
            let mut store = Store::new(batch.schema(), false);
            let rows = batch.num_rows();
            store.append(batch.columns(), &vec![0; rows], 1, &vec![time; rows])?;
            save(side, &store, 0, &batch.schema(), &mut batches)?;
            newest = newest.max(Some(time));
        }
        Ok(match newest {
            None => StateChange::None,
            // The window of a time ends a nanosecond after it.
            Some(time) => StateChange::Append { batches, needed_until: time.saturating_add(1) },
        })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
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
        self.open.iter().flat_map(|o| o.values()).flatten().map(RecordBatch::get_array_memory_size).sum()
    }
}

//! Session windows: a key's events with less than `gap` between neighbours form one window, `[first, last + gap)`.
//!
//! One pass over primitive arrays gives each row the slot of its key's open session (extend, open, or merge two); the
//! slots are the group indices of ordinary vectorised accumulators. Closed sessions are emitted together: an
//! accumulator can only be emptied whole, so a sweep takes all state out, evaluates what is closed and puts the rest
//! back. Sweeps are spaced by a share of the gap, and the watermark is held back between them, so the cost per event is
//! bounded whatever the number of sessions.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::aggregates::group_values::GroupValues;

use super::accumulate::{Aggregation, Inputs};
use super::failing::of_good_rows;
use super::window::{result_times, window_column};
use super::{Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::{LateRows, Rows};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

const NONE: u32 = u32::MAX;

/// Sweeps are at least `gap / SWEEPS_PER_GAP` of event time apart.
const SWEEPS_PER_GAP: i64 = 8;

/// An open session, or one that was merged into another and only keeps its share of the accumulators.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: u32,
    first: i64,
    last: i64,
    /// The next open session of the same key, or `NONE`.
    next: u32,
    /// The session this one was merged into, or itself.
    owner: u32,
}

/// All state of a [`Session`], one row per slot.
struct Drained {
    keys: Vec<ArrayRef>,
    /// First and last event, and each slot's owner.
    slots: Vec<Slot>,
    /// Of each aggregate function, its state columns.
    states: Vec<Vec<ArrayRef>>,
}

/// Session aggregation. *Shape* out: `schema`, the columns of the SQL aggregate with the window at `window_at`.
/// Event time of a result: the window's last nanosecond. Input must arrive in the order of the log.
pub struct Session {
    aggregation: Arc<Aggregation>,
    gap: i64,
    schema: SchemaRef,
    window_at: usize,
    open: Open,
    /// The watermark handed on: that of the last sweep.
    watermark: Watermark,
    /// The newest watermark seen.
    received: Watermark,
    next_sweep: Watermark,
}

/// The open sessions of all keys.
struct Open {
    keys: Option<Box<dyn GroupValues>>,
    /// First open session of each key.
    heads: Vec<u32>,
    slots: Vec<Slot>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// Whether some slots are owned by others.
    joined: bool,
}

impl Open {
    fn new(aggregation: &Aggregation) -> Result<Self> {
        Ok(Self {
            keys: aggregation.group_table()?,
            heads: Vec::new(),
            slots: Vec::new(),
            accumulators: aggregation.accumulators()?,
            joined: false,
        })
    }

    fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
        let mut keys = Vec::with_capacity(rows);
        match &mut self.keys {
            Some(table) => {
                table.intern(columns, &mut keys)?;
                self.heads.resize(table.len(), NONE);
            }
            None => {
                keys.resize(rows, 0);
                self.heads.resize(1, NONE);
            }
        }
        Ok(keys)
    }

    fn owner(&self, mut slot: u32) -> u32 {
        while let Some(s) = self.slots.get(slot as usize).filter(|s| s.owner != slot) {
            slot = s.owner;
        }
        slot
    }

    fn push(&mut self, key: u32, first: i64, last: i64) -> u32 {
        let slot = self.slots.len() as u32;
        let next = self.heads.get(key as usize).copied().unwrap_or(NONE);
        self.slots.push(Slot { key, first, last, next, owner: slot });
        if let Some(head) = self.heads.get_mut(key as usize) {
            *head = slot;
        }
        slot
    }

    /// Finds or makes the session that an event of `key` at `time` belongs to; `None` if the event is late.
    fn place(&mut self, key: u32, time: i64, gap: i64, watermark: Watermark) -> Option<u32> {
        let mut found = NONE;
        let mut previous = NONE;
        let mut at = self.heads.get(key as usize).copied().unwrap_or(NONE);
        while let Some(slot) = self.slots.get(at as usize).copied() {
            let end = slot.last.saturating_add(gap);
            // A session that ended before the watermark at this row is closed, even if it has not been swept yet.
            let touches = time < end && slot.first < time.saturating_add(gap) && end > watermark;
            if !touches {
                previous = at;
            } else if found == NONE {
                found = at;
                previous = at;
                if let Some(s) = self.slots.get_mut(at as usize) {
                    s.first = s.first.min(time);
                    s.last = s.last.max(time);
                }
            } else {
                // The event joins two sessions: the second is taken out of the list and owned by the first.
                self.joined = true;
                if let Some(s) = self.slots.get_mut(at as usize) {
                    s.owner = found;
                }
                if let Some(p) = self.slots.get_mut(previous as usize) {
                    p.next = slot.next;
                }
                if let Some(f) = self.slots.get_mut(found as usize) {
                    f.first = f.first.min(slot.first);
                    f.last = f.last.max(slot.last);
                }
            }
            at = slot.next;
        }
        if found != NONE {
            return Some(found);
        }
        (time.saturating_add(gap) > watermark).then(|| self.push(key, time, time))
    }
}

impl Session {
    /// An empty one; `gap` in nanoseconds, positive.
    pub fn new(aggregation: Arc<Aggregation>, gap: i64, schema: SchemaRef, window_at: usize) -> Result<Self> {
        let open = Open::new(&aggregation)?;
        let (watermark, received, next_sweep) = (WATERMARK_MIN, WATERMARK_MIN, WATERMARK_MIN);
        Ok(Self { aggregation, gap, schema, window_at, open, watermark, received, next_sweep })
    }

    /// Gives each row its slot, up to the one that joins sessions if their values are in order; the mask says which rows are on
    /// time, if some are late.
    fn assign(&mut self, rows: &Rows, keys: &[usize], out: &mut Output) -> Result<(Vec<usize>, BooleanArray)> {
        let stops = self.aggregation.is_ordered();
        let watermarks = rows.row_watermark.as_ref().map(|w| w.values());
        let mut slots = Vec::with_capacity(keys.len());
        let mut late: Vec<u32> = Vec::new();
        for (i, (time, key)) in rows.time.values().iter().zip(keys).enumerate() {
            let watermark = watermarks.and_then(|w| w.get(i)).copied().unwrap_or(WATERMARK_MIN);
            match self.open.place(*key as u32, *time, self.gap, watermark) {
                Some(slot) => slots.push(slot as usize),
                None => late.push(i as u32),
            }
            if stops && self.open.joined {
                break;
            }
        }
        let mut on_time = vec![true; slots.len() + late.len()];
        if late.is_empty() {
            return Ok((slots, on_time.into()));
        }
        late.iter().for_each(|i| on_time.iter_mut().skip(*i as usize).take(1).for_each(|k| *k = false));
        let indices = UInt32Array::from(late);
        let missed = rows.take(&indices)?;
        out.late.push(LateRows {
            window_start: missed.time.clone(),
            window_end: missed.time.values().iter().map(|t| t + self.gap).collect::<Vec<_>>().into(),
            watermark: missed.row_watermark.unwrap_or_else(|| Int64Array::from(vec![self.watermark; indices.len()])),
            batch: missed.batch,
            time: missed.time,
        });
        Ok((slots, on_time.into()))
    }

    /// Takes all state out.
    fn drain(&mut self) -> Result<Drained> {
        let mut open = std::mem::replace(&mut self.open, Open::new(&self.aggregation)?);
        let owners: Vec<u32> = (0..open.slots.len() as u32).map(|s| open.owner(s)).collect();
        let keys = match &mut open.keys {
            Some(table) => table.emit(EmitTo::All)?,
            None => Vec::new(),
        };
        let key_of: UInt32Array = open.slots.iter().map(|s| s.key).collect::<Vec<_>>().into();
        let keys = keys.iter().map(|k| Ok(take(k, &key_of, None)?)).collect::<Result<Vec<_>>>()?;
        let states = open.accumulators.iter_mut().map(|a| Ok(a.state(EmitTo::All)?)).collect::<Result<Vec<_>>>()?;
        let slots = open.slots.iter().zip(owners).map(|(s, owner)| Slot { owner, ..*s }).collect();
        Ok(Drained { keys, slots, states })
    }

    /// Emits every session that ends at or before `watermark`; the open ones go back.
    fn sweep(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let gap = self.gap;
        let ended = |s: &Slot| s.last.saturating_add(gap) <= watermark;
        if !self.open.slots.iter().enumerate().any(|(i, s)| s.owner == i as u32 && ended(s)) {
            return Ok(());
        }
        let Drained { keys, slots, states } = self.drain()?;
        let is_closed = |i: usize| slots.get(i).and_then(|s| slots.get(s.owner as usize)).is_some_and(ended);
        let (mut closed, mut kept): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for i in 0..slots.len() {
            if is_closed(i) { closed.push(i as u32) } else { kept.push(i as u32) }
        }
        self.emit(&keys, &slots, &states, closed, out)?;
        self.put_back(&keys, &slots, &states, kept)
    }

    /// What the sessions that have ended at `watermark` held, which go, and what the open ones hold, which stay.
    pub(super) fn results(&mut self, watermark: Watermark) -> Result<(Vec<Rows>, Vec<Rows>)> {
        let (mut ended, mut open) = (Output::default(), Output::default());
        self.sweep(watermark, &mut ended)?;
        if !self.open.slots.is_empty() {
            let Drained { keys, slots, states } = self.drain()?;
            let all: Vec<u32> = (0..slots.len() as u32).collect();
            self.emit(&keys, &slots, &states, all.clone(), &mut open)?;
            self.put_back(&keys, &slots, &states, all)?;
        }
        Ok((ended.batches, open.batches))
    }

    fn emit(
        &self,
        keys: &[ArrayRef],
        slots: &[Slot],
        states: &[Vec<ArrayRef>],
        closed: Vec<u32>,
        out: &mut Output,
    ) -> Result<()> {
        let mut rank = vec![usize::MAX; slots.len()];
        let owners: Vec<u32> =
            closed.iter().copied().filter(|i| slots.get(*i as usize).is_some_and(|s| s.owner == *i)).collect();
        for (n, owner) in owners.iter().enumerate() {
            rank.iter_mut().skip(*owner as usize).take(1).for_each(|r| *r = n);
        }
        let groups: Vec<usize> = closed
            .iter()
            .filter_map(|i| slots.get(*i as usize))
            .filter_map(|s| rank.get(s.owner as usize).copied())
            .collect();
        let closed = UInt32Array::from(closed);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for s in owners.iter().filter_map(|o| slots.get(*o as usize)) {
            starts.push(s.first);
            ends.push(s.last.saturating_add(self.gap));
        }
        let count = owners.len();
        let owners = UInt32Array::from(owners);
        for key in keys {
            columns.push(take(key, &owners, None)?);
        }
        let time = result_times(&ends);
        columns.insert(self.window_at.min(columns.len()), window_column(starts, ends));
        for (mut accumulator, state) in self.aggregation.accumulators()?.into_iter().zip(states) {
            let state = state.iter().map(|s| Ok(take(s, &closed, None)?)).collect::<Result<Vec<_>>>()?;
            accumulator.merge_batch(&state, &groups, count)?;
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        out.batches.push(Rows::new(RecordBatch::try_new(self.schema.clone(), columns)?, time));
        Ok(())
    }

    fn update(&mut self, rows: &Rows, inputs: &Inputs, out: &mut Output) -> Result<()> {
        let mut from = 0;
        while from < inputs.rows {
            let rest = inputs.rows - from;
            from += self.update_some(&rows.slice(from, rest), inputs.slice(from, rest)?, out)?;
            if self.open.joined && self.aggregation.is_ordered() {
                // At once: else the order of the values would depend on when state is taken out next.
                let Drained { keys, slots, states } = self.drain()?;
                let all: Vec<u32> = (0..slots.len() as u32).collect();
                self.put_back(&keys, &slots, &states, all)?;
            }
        }
        Ok(())
    }

    /// Takes the first rows; returns how many.
    fn update_some(&mut self, rows: &Rows, mut inputs: Inputs, out: &mut Output) -> Result<usize> {
        let keys = self.open.intern(&inputs.groups, inputs.rows)?;
        let (slots, on_time) = self.assign(rows, &keys, out)?;
        if on_time.len() < inputs.rows {
            inputs = inputs.slice(0, on_time.len())?;
        }
        if slots.len() < inputs.rows {
            inputs = inputs.filter(&on_time)?;
        }
        let total = self.open.slots.len();
        for ((accumulator, arguments), filter) in
            self.open.accumulators.iter_mut().zip(&inputs.arguments).zip(&inputs.filters)
        {
            accumulator.update_batch(arguments, &slots, filter.as_ref(), total)?;
        }
        Ok(on_time.len())
    }

    fn put_back(&mut self, keys: &[ArrayRef], slots: &[Slot], states: &[Vec<ArrayRef>], kept: Vec<u32>) -> Result<()> {
        if kept.is_empty() {
            // Some accumulators have no state columns at all when they have no groups.
            return Ok(());
        }
        let indices = UInt32Array::from(kept);
        let keys = keys.iter().map(|k| Ok(take(k, &indices, None)?)).collect::<Result<Vec<_>>>()?;
        let interned = self.open.intern(&keys, indices.len())?;
        // Owners first, so that the sessions merged into them find their new slot.
        let mut moved = vec![NONE; slots.len()];
        let rows: Vec<(u32, u32)> = indices.values().iter().copied().zip(interned.iter().map(|k| *k as u32)).collect();
        for (old, key) in &rows {
            if let Some(s) = slots.get(*old as usize).filter(|s| s.owner == *old) {
                let new = self.open.push(*key, s.first, s.last);
                moved.iter_mut().skip(*old as usize).take(1).for_each(|m| *m = new);
            }
        }
        let groups: Vec<usize> = rows
            .iter()
            .filter_map(|(old, _)| slots.get(*old as usize))
            .filter_map(|s| moved.get(s.owner as usize).map(|m| *m as usize))
            .collect();
        let total = self.open.slots.len();
        for (accumulator, state) in self.open.accumulators.iter_mut().zip(states) {
            let state = state.iter().map(|s| Ok(take(s, &indices, None)?)).collect::<Result<Vec<_>>>()?;
            accumulator.merge_batch(&state, &groups, total)?;
        }
        Ok(())
    }
}

impl Operator for Session {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let aggregation = self.aggregation.clone();
        for (rows, inputs) in of_good_rows(rows, out, &|rows| aggregation.inputs(&rows.batch))? {
            self.update(&rows, &inputs, out)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        self.received = watermark;
        if watermark >= self.next_sweep || watermark == WATERMARK_MAX {
            self.sweep(watermark, out)?;
            self.watermark = watermark;
            self.next_sweep = watermark.saturating_add((self.gap / SWEEPS_PER_GAP).max(1));
        }
        Ok(self.watermark)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<()> {
        // Closed sessions are not kept waiting across a checkpoint, or tables would lag by a share of the gap.
        self.sweep(self.received, out)
    }

    fn snapshot(&mut self, _whole: bool) -> Result<StateChange> {
        // Without a session some accumulators have no state to give, not even its columns.
        if self.open.slots.is_empty() {
            return Ok(StateChange::Replace(Vec::new()));
        }
        let Drained { keys, slots, states } = self.drain()?;
        let all: Vec<u32> = (0..slots.len() as u32).collect();
        self.put_back(&keys, &slots, &states, all)?;
        // Sessions merged into another are written as rows of their own with the owner's bounds: they merge again.
        let bounds: Vec<Slot> = slots.iter().filter_map(|s| slots.get(s.owner as usize).copied()).collect();
        let mut fields: Vec<FieldRef> = vec![
            Arc::new(Field::new("first_event_ns", DataType::Int64, false)),
            Arc::new(Field::new("last_event_ns", DataType::Int64, false)),
        ];
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(bounds.iter().map(|s| s.first).collect::<Int64Array>()),
            Arc::new(bounds.iter().map(|s| s.last).collect::<Int64Array>()),
        ];
        let state = self
            .aggregation
            .state_batch(keys.into_iter().chain(states.into_iter().flatten()).collect(), slots.len())?;
        fields.extend(state.schema().fields().iter().cloned());
        columns.extend(state.columns().iter().cloned());
        Ok(StateChange::Replace(vec![RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?]))
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        (self.watermark, self.received) = (watermark, watermark);
        for batch in state.iter().filter(|b| b.num_rows() > 0) {
            let bounds = |i: usize| {
                batch.columns().get(i).and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(|| {
                    Error::Corrupt("a session's state file lacks its first_event_ns and last_event_ns columns".into())
                })
            };
            let (first, last) = (bounds(0)?, bounds(1)?);
            let rest: Vec<usize> = (2..batch.num_columns()).collect();
            let state = batch.project(&rest)?;
            let (keys, _) = state.columns().split_at(self.aggregation.group_fields.len());
            let interned = self.open.intern(keys, state.num_rows())?;
            let mut groups = Vec::with_capacity(interned.len());
            for ((key, first), last) in interned.iter().zip(first.values()).zip(last.values()) {
                let at = self.open.find(*key as u32, *first, *last);
                groups.push(at.unwrap_or_else(|| self.open.push(*key as u32, *first, *last)) as usize);
            }
            let total = self.open.slots.len();
            let columns = self.aggregation.state_columns(&state)?;
            for (accumulator, columns) in self.open.accumulators.iter_mut().zip(columns) {
                accumulator.merge_batch(columns, &groups, total)?;
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.open.keys.as_ref().map_or(0, |k| k.size())
            + self.open.slots.len() * size_of::<Slot>()
            + self.open.accumulators.iter().map(|a| a.size()).sum::<usize>()
    }
}

impl Open {
    /// The open session of `key` with exactly these bounds.
    fn find(&self, key: u32, first: i64, last: i64) -> Option<u32> {
        let mut at = self.heads.get(key as usize).copied()?;
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.first == first && slot.last == last {
                return Some(at);
            }
            at = slot.next;
        }
        None
    }
}

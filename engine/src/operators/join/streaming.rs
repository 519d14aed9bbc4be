//! The join of rows whenever they come: each new row is joined with all rows of the other side that are kept, and rows
//! that are taken back take back what they gave.
//!
//! What is kept is bounded by event time: a TTL, or the interval in which the condition lets partners lie. Whether two
//! rows see each other depends on their event times and on the watermark at their place, never on when state is swept.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::condition::{Condition, KeyTable};
use super::late;
use super::output::{Change, Shape, emit, pair_up};
use super::probe::{Pairs, Probe};
use super::saved::{load, save};
use super::store::Store;
use super::updates::{Taken, all_new, net};
use crate::error::Result;
use crate::message::Rows;
use crate::operators::spec::{Properties, Spec, Warning};
use crate::operators::window::show_duration;
use crate::operators::{Operator, Output, StateChange};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// State is swept at most this often in the time for which it is kept.
const SWEEPS: i64 = 8;

/// Rows that have gone are freed once they are more than those that are there, and this many.
const GONE: usize = 4096;

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For ever.
    Always,
    /// Until the watermark is so many nanoseconds past their event time.
    Ttl(i64),
    /// As long as partners can come: the right row's event time less the left one's is from `lowest` to `highest`.
    Interval {
        /// The least difference, in nanoseconds.
        lowest: i64,
        /// The greatest, in nanoseconds.
        highest: i64,
    },
}

/// A join of rows whenever they come.
#[derive(Debug, Clone)]
pub struct StreamingJoin {
    /// What pairs agree on.
    pub condition: Arc<Condition>,
    /// The type and columns.
    pub shape: Shape,
    /// The columns of both inputs.
    pub inputs: [SchemaRef; 2],
    /// Whether rows of either input take back earlier ones.
    pub updating: [bool; 2],
    /// How long rows are kept.
    pub keep: Keep,
    /// The types of the keys.
    pub key_types: Vec<DataType>,
}

impl StreamingJoin {
    /// A planned join. *Errors*: an expression that does not fit the columns.
    pub fn new(
        condition: Condition,
        shape: Shape,
        inputs: [SchemaRef; 2],
        updating: [bool; 2],
        keep: Keep,
    ) -> Result<Self> {
        let [left, _] = &inputs;
        let key_types = condition.key_types(left)?;
        Ok(Self { condition: Arc::new(condition), shape, inputs, updating, keep, key_types })
    }

    /// How long after its event time a row of `side` is kept, in nanoseconds.
    fn retention(&self, side: usize) -> Option<i64> {
        match self.keep {
            Keep::Always => None,
            Keep::Ttl(ttl) => Some(ttl),
            Keep::Interval { lowest, highest } => Some(if side == 0 { highest } else { lowest.saturating_neg() }),
        }
    }

    /// Whether rows without a partner wait until none can come any more.
    fn waits(&self) -> bool {
        self.waiting(0) || self.waiting(1)
    }

    /// Whether rows of `side` wait until no partner can come any more.
    fn waiting(&self, side: usize) -> bool {
        matches!(self.keep, Keep::Interval { .. }) && self.shape.waits(side)
    }

    /// Whether rows of the result may be taken back.
    fn is_updating(&self) -> bool {
        let interval = matches!(self.keep, Keep::Interval { .. });
        self.updating.contains(&true) || (!interval && (self.shape.waits(0) || self.shape.waits(1)))
    }

    fn appends_only(&self) -> bool {
        !self.updating.contains(&true) && self.shape.alone(0).is_none() && self.shape.alone(1).is_none()
    }
}

impl Spec for StreamingJoin {
    fn schema(&self) -> SchemaRef {
        self.shape.schema.clone()
    }

    fn describe(&self) -> String {
        let kind = match self.keep {
            Keep::Interval { lowest, highest } => {
                format!("interval {} to {} ", signed(lowest), signed(highest))
            }
            _ => String::new(),
        };
        format!("{kind}{} join on {}", self.shape.describe(), self.condition.describe())
    }

    fn state(&self) -> String {
        match self.keep {
            Keep::Always => "all rows of both sides, for ever".into(),
            Keep::Ttl(ttl) => {
                format!("the rows of both sides, until the watermark is {} past their event time", show_duration(ttl))
            }
            Keep::Interval { lowest, highest } => format!(
                "left rows until the watermark is {} past their event time, right rows {}",
                signed(highest),
                signed(lowest.saturating_neg())
            ),
        }
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { updating: self.is_updating(), ..Properties::default() }
    }

    fn has_late_rows(&self) -> bool {
        matches!(self.keep, Keep::Interval { .. })
    }

    fn warning(&self) -> Option<Warning> {
        let [keys, _] = &self.condition.keys;
        match (self.keep, keys.is_empty()) {
            (Keep::Ttl(_) | Keep::Interval { .. }, _) => None,
            (Keep::Always, false) => Some(Warning::without_ttl("a join keeps all rows of both sides for ever")),
            // A TTL would not do: the one row may change what all others give, however old they are.
            (Keep::Always, true) => Some(Warning::new(
                "each row is compared with one row about all of the other side, so all rows are kept for ever",
                "bind the subquery to its row by a key, such as (SELECT max(b.v) FROM b WHERE b.k = a.k), or join windows",
            )),
        }
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Streaming::new(self.clone())?))
    }
}

fn signed(nanoseconds: i64) -> String {
    if nanoseconds == 0 { "0s".into() } else { show_duration(nanoseconds) }
}

/// The join at work.
pub(super) struct Streaming {
    spec: StreamingJoin,
    keys: KeyTable,
    left: Store,
    right: Store,
    /// The watermark of each input.
    inputs: [Watermark; 2],
    /// The newest watermark of both.
    watermark: Watermark,
    /// What was handed on.
    sent: Watermark,
    next_sweep: Watermark,
}

impl Streaming {
    pub(super) fn new(spec: StreamingJoin) -> Result<Self> {
        let [left, right] = &spec.inputs;
        Ok(Self {
            keys: KeyTable::new(spec.key_types.clone(), spec.condition.nulls_equal)?,
            left: Store::new(left.clone(), spec.shape.alone(0).is_some()),
            right: Store::new(right.clone(), spec.shape.alone(1).is_some()),
            inputs: [WATERMARK_MIN; 2],
            watermark: WATERMARK_MIN,
            sent: WATERMARK_MIN,
            next_sweep: WATERMARK_MIN,
            spec,
        })
    }

    fn store(&mut self, side: usize) -> &mut Store {
        if side == 0 { &mut self.left } else { &mut self.right }
    }

    /// Puts rows into their store and says what they change.
    fn take(&mut self, side: usize, rows: &Rows) -> Result<(u32, Taken)> {
        let columns = self.spec.condition.keys(side, &rows.batch)?;
        let keys = self.keys.intern(&columns, rows.len())?;
        let keys_len = self.keys.len();
        let ttl = if let Keep::Ttl(ttl) = self.spec.keep { ttl } else { i64::MAX };
        let store = self.store(side);
        let base = store.append(rows.batch.columns(), &keys, keys_len, rows.time.values())?;
        let taken = match rows.retracts {
            None => all_new(base, &keys),
            Some(_) => net(store, base, rows, &keys, |old, now| old.saturating_add(ttl) >= now)?,
        };
        Ok((base, taken))
    }

    /// Joins what has changed on `side` with the other side.
    fn join(&mut self, side: usize, rows: &Rows, base: u32, taken: &Taken, out: &mut Output) -> Result<()> {
        let spec = self.spec.clone();
        let other_watermark = self.inputs.get(1 - side).copied().unwrap_or(WATERMARK_MIN);
        let places = rows.row_watermark.as_ref().map(|w| w.values());
        let lowest = places.and_then(|w| w.iter().min()).copied();
        // The watermark at the place of a row; rows that are taken back count as the first of their batch.
        let place = |row: u32| {
            let own = places?.get(row.checked_sub(base)? as usize).copied();
            Some(own?.min(other_watermark))
        };
        let at = |row: u32| place(row).or(lowest).unwrap_or(WATERMARK_MAX).min(other_watermark);
        let ttl = if let Keep::Ttl(ttl) = spec.keep { Some(ttl) } else { None };
        let within = |row: u32, time: i64, other: i64| match ttl {
            None => true,
            Some(ttl) => {
                time.abs_diff(other) <= ttl as u64 && place(row).is_none_or(|w| other.saturating_add(ttl) >= w)
            }
        };
        let late = places.is_some();
        let (count_own, count_other) = (spec.shape.alone(side).is_some(), spec.shape.alone(1 - side).is_some());
        let (mut changes, mut touched): (Vec<Change>, Vec<(u32, u32, bool)>) = (Vec::new(), Vec::new());
        let mut pairs = Pairs::default();
        for (list, retracts) in [(&taken.removed, true), (&taken.fresh, false)] {
            let mut probe = Probe::new(side, list);
            while probe.next(&spec.condition, [&self.left, &self.right], within, &mut pairs)? {
                let (own, other) = self.sides(side);
                if spec.shape.pairs() {
                    changes.extend(pairs.of(side).map(|(row, partner)| {
                        let time = own.time(row).max(other.time(partner));
                        let key = other.row(partner).map_or(super::NONE, |r| r.key);
                        Change { key, watermark: at(row), retracts, ..Change::of(side, row, partner, time) }
                    }));
                }
                if count_other {
                    touched.extend(pairs.of(side).map(|(row, partner)| (partner, row, retracts)));
                }
                if count_own && !retracts {
                    let store = self.store(side);
                    pairs.of(side).for_each(|(row, _)| store.set_partners(row, store.partners(row) + 1));
                }
                if spec.appends_only() {
                    emit(&changes, &spec.shape, [&self.left, &self.right], late, &mut out.batches)?;
                    changes.clear();
                }
            }
        }
        self.own_alone(side, taken, at, &mut changes);
        self.others_alone(side, touched, at, &mut changes);
        if changes.iter().any(|c| c.retracts) {
            pair_up(&mut changes, side);
        }
        emit(&changes, &spec.shape, [&self.left, &self.right], late, &mut out.batches)
    }

    /// The store of `side` and the other one.
    fn sides(&self, side: usize) -> (&Store, &Store) {
        if side == 0 { (&self.left, &self.right) } else { (&self.right, &self.left) }
    }

    /// Rows of `side` that are in the result by themselves.
    fn own_alone(&self, side: usize, taken: &Taken, at: impl Fn(u32) -> i64, changes: &mut Vec<Change>) {
        let Some(alone) = self.spec.shape.alone(side) else { return };
        let waits = self.spec.waiting(side);
        let (own, _) = self.sides(side);
        for (list, retracts) in [(&taken.removed, true), (&taken.fresh, false)] {
            for (row, key) in list.iter().copied() {
                // A row with a null in its key need not wait.
                if let Some(other) = alone.shown(own.partners(row)).filter(|_| !waits || key == super::NONE) {
                    let change = Change::of(side, row, other, own.time(row));
                    changes.push(Change { key, watermark: at(row), retracts, ..change });
                }
            }
        }
    }

    /// Rows of the other side that have found their first partner or lost their last.
    fn others_alone(
        &mut self,
        side: usize,
        mut touched: Vec<(u32, u32, bool)>,
        at: impl Fn(u32) -> i64,
        changes: &mut Vec<Change>,
    ) {
        let Some(alone) = self.spec.shape.alone(1 - side) else { return };
        let waits = self.spec.waiting(1 - side);
        touched.sort_unstable();
        for same in touched.chunk_by(|a, b| a.0 == b.0) {
            let Some((partner, row, _)) = same.first().copied() else { continue };
            let (own, other) = self.sides(side);
            let before = other.partners(partner);
            let lost = same.iter().filter(|t| t.2).count() as u32;
            let now = (before + same.len() as u32 - lost).saturating_sub(lost);
            let time = same.iter().map(|t| own.time(t.1)).fold(other.time(partner), i64::max);
            let key = other.row(partner).map_or(super::NONE, |r| r.key);
            let (old, new) = (alone.shown(before), alone.shown(now));
            if old != new && !waits {
                for (shown, retracts) in [(old, true), (new, false)] {
                    let change = shown.map(|shown| Change::of(1 - side, partner, shown, time));
                    changes.extend(change.map(|c| Change { key, watermark: at(row), retracts, ..c }));
                }
            }
            self.store(1 - side).set_partners(partner, now);
        }
    }

    /// Drops what is older than it is kept.
    fn sweep(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let mut changes = Vec::new();
        for side in [0, 1] {
            let Some(retention) = self.spec.retention(side) else { continue };
            let waits = self.spec.shape.alone(side).filter(|_| self.spec.waiting(side));
            let (own, _) = self.sides(side);
            let over = |time: i64| time.saturating_add(retention) < watermark || watermark == WATERMARK_MAX;
            let gone: Vec<u32> = own.iter().filter(|(_, r)| over(r.time)).map(|(row, _)| row).collect();
            if let Some(alone) = waits {
                let shown = gone.iter().filter_map(|row| Some((*row, alone.shown(own.partners(*row))?)));
                changes.extend(shown.map(|(row, other)| Change::of(side, row, other, own.time(row))));
            }
            let store = self.store(side);
            gone.iter().for_each(|row| store.remove(*row));
        }
        emit(&changes, &self.spec.shape, [&self.left, &self.right], false, &mut out.batches)?;
        self.compact()
    }

    fn compact(&mut self) -> Result<()> {
        self.left.compact()?;
        self.right.compact()?;
        let mut used = vec![false; self.keys.len()];
        self.left.mark_used(&mut used);
        self.right.mark_used(&mut used);
        let live = used.iter().filter(|u| **u).count();
        if self.keys.len() > 2 * live + 64 {
            let numbers = self.keys.retain(&used)?;
            let keys_len = self.keys.len();
            self.left.renumber(&numbers, keys_len);
            self.right.renumber(&numbers, keys_len);
        }
        Ok(())
    }

    /// The watermark to hand on after a sweep at `watermark`: rows that still wait for a partner may come after it.
    fn held(&self, watermark: Watermark) -> Watermark {
        let waiting = |side: &usize| self.spec.waiting(*side);
        let retentions = [0, 1].into_iter().filter(waiting).filter_map(|side| self.spec.retention(side));
        let longest = retentions.max().unwrap_or(0).max(0);
        if watermark == WATERMARK_MAX { watermark } else { watermark.saturating_sub(longest) }
    }
}

impl Operator for Streaming {
    fn on_batch(&mut self, side: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let rows = match self.spec.keep {
            Keep::Interval { lowest, highest } => {
                let other = self.inputs.get(1 - side).copied().unwrap_or(WATERMARK_MIN);
                let span = if side == 0 { (lowest, highest) } else { (-highest, -lowest) };
                late::divert(rows, other, span, out)?
            }
            _ => rows,
        };
        if rows.is_empty() {
            return Ok(());
        }
        let (base, taken) = self.take(side, &rows)?;
        self.join(side, &rows, base, &taken, out)?;
        let gone = |s: &Store| s.gone() > s.live() + GONE;
        if gone(&self.left) || gone(&self.right) {
            self.compact()?;
        }
        Ok(())
    }

    fn on_input_watermark(&mut self, port: usize, watermark: Watermark) {
        if let Some(w) = self.inputs.get_mut(port) {
            *w = watermark;
        }
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        self.watermark = watermark;
        let Some(longest) = [0, 1].into_iter().filter_map(|side| self.spec.retention(side)).max() else {
            return Ok(watermark);
        };
        if watermark >= self.next_sweep || watermark == WATERMARK_MAX {
            self.sweep(watermark, out)?;
            let width = match self.spec.keep {
                Keep::Interval { lowest, highest } => highest.saturating_sub(lowest),
                _ => longest,
            };
            self.next_sweep = watermark.saturating_add((width / SWEEPS).max(1));
            self.sent = self.held(watermark).max(self.sent);
        }
        Ok(if self.spec.waits() { self.sent } else { watermark })
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<()> {
        // Rows without a partner are not kept waiting across a checkpoint, nor is what has gone written.
        self.sweep(self.watermark, out)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let append = self.spec.appends_only() && !whole;
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut needed_until = WATERMARK_MIN;
        for side in [0, 1] {
            let Some(schema) = self.spec.inputs.get(side).cloned() else { continue };
            let retention = self.spec.retention(side).unwrap_or(i64::MAX);
            let store = self.store(side);
            let from = if append { store.saved } else { 0 };
            save(side, store, from, &schema, &mut batches)?;
            let newest = store.iter().filter(|(row, _)| *row >= from).map(|(_, r)| r.time).max();
            needed_until =
                needed_until.max(newest.map_or(WATERMARK_MIN, |t| t.saturating_add(retention).saturating_add(1)));
            store.saved = store.len();
        }
        Ok(match (append, batches.is_empty()) {
            (true, true) => StateChange::None,
            (true, false) => StateChange::Append { batches, needed_until },
            (false, _) => StateChange::Replace(batches),
        })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        (self.watermark, self.sent) = (watermark, watermark);
        for batch in &state {
            let saved = load(batch)?;
            let columns = self.spec.condition.keys(saved.side, &saved.batch)?;
            let keys = self.keys.intern(&columns, saved.batch.num_rows())?;
            let keys_len = self.keys.len();
            let store = self.store(saved.side);
            let base = store.append(saved.batch.columns(), &keys, keys_len, saved.times.values())?;
            for (row, partners) in (base..).zip(saved.partners.values()) {
                store.set_partners(row, *partners);
            }
            store.saved = store.len();
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.left.size() + self.right.size() + self.keys.size()
    }
}

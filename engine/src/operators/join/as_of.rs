//! The join of a stream with the versions of a table: each left row with the newest right row of its key that is not
//! younger than it.
//!
//! A left row waits until the watermark has passed its event time, for only then all versions before it have come. Of
//! the versions only those are kept that a left row may still ask for: per key the newest behind the watermark, and all
//! after it. Rows behind the watermark are late: what they would have changed is already out.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::condition::{Condition, KeyTable};
use super::output::{Change, Shape, emit};
use super::saved::{load, save};
use super::store::Store;
use super::{NONE, late};
use crate::error::Result;
use crate::message::Rows;
use crate::operators::spec::{Properties, Spec, Warning};
use crate::operators::{Operator, Output, StateChange};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// Versions that nobody can ask for any more are dropped once they may be more than those that somebody can, and this many.
const GONE: usize = 4096;

/// Old versions are looked for when there are twice as many as after the last time, and so many more: a look-up goes
/// through the versions of its key.
const VERSIONS: usize = 512;

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// A join with versions. Event time of a result: that of the left row.
#[derive(Debug, Clone)]
pub struct AsOfJoin {
    /// What pairs agree on besides time: equalities only.
    pub condition: Arc<Condition>,
    /// An inner or left join, and its columns.
    pub shape: Shape,
    /// The columns of both inputs.
    pub inputs: [SchemaRef; 2],
    /// The types of the keys.
    pub key_types: Vec<DataType>,
    /// Whether a left row without a version is left out.
    pub inner: bool,
}

impl AsOfJoin {
    /// A planned join. *Errors*: an expression that does not fit the columns.
    pub fn new(condition: Condition, shape: Shape, inputs: [SchemaRef; 2], inner: bool) -> Result<Self> {
        let [left, _] = &inputs;
        let key_types = condition.key_types(left)?;
        Ok(Self { condition: Arc::new(condition), shape, inputs, key_types, inner })
    }
}

impl Spec for AsOfJoin {
    fn schema(&self) -> SchemaRef {
        self.shape.schema.clone()
    }

    fn describe(&self) -> String {
        let kind = if self.inner { "inner" } else { "left" };
        format!("as-of {kind} join on {}", self.condition.describe())
    }

    fn state(&self) -> String {
        "left rows until the watermark passes them; of each key the newest right row behind the watermark, for ever, and all \
         after it"
            .into()
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties::default()
    }

    fn has_late_rows(&self) -> bool {
        true
    }

    fn warning(&self) -> Option<Warning> {
        Some(Warning::new(
            "an as-of join keeps the newest row of each key of its right side for ever: its state grows with new keys",
            "where keys come and go, join within an interval: ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '1 hour' AND a.ts",
        ))
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        let [left, right] = &self.inputs;
        Ok(Box::new(AsOf {
            keys: KeyTable::new(self.key_types.clone(), self.condition.nulls_equal)?,
            waiting: Store::new(left.clone(), false),
            versions: Store::new(right.clone(), false),
            crowded: BTreeSet::new(),
            inputs: [WATERMARK_MIN; 2],
            watermark: WATERMARK_MIN,
            waiting_since: WATERMARK_MAX,
            drop_at: VERSIONS,
            spec: self.clone(),
        }))
    }
}

/// The join at work.
struct AsOf {
    spec: AsOfJoin,
    keys: KeyTable,
    /// Left rows that the watermark has not passed.
    waiting: Store,
    /// Right rows.
    versions: Store,
    /// Keys with more than one version.
    crowded: BTreeSet<u32>,
    /// The watermark of each input.
    inputs: [Watermark; 2],
    /// The newest watermark of both.
    watermark: Watermark,
    /// The least event time of the left rows that wait.
    waiting_since: i64,
    /// Versions that there may be before old ones are looked for.
    drop_at: usize,
}

impl AsOf {
    fn keys(&mut self, side: usize, batch: &RecordBatch) -> Result<Vec<u32>> {
        let columns = self.spec.condition.keys(side, batch)?;
        self.keys.intern(&columns, batch.num_rows())
    }

    fn add(&mut self, side: usize, batch: &RecordBatch, times: &[i64]) -> Result<(u32, Vec<u32>)> {
        let keys = self.keys(side, batch)?;
        let keys_len = self.keys.len();
        if side == LEFT {
            self.waiting_since = times.iter().copied().fold(self.waiting_since, i64::min);
            return Ok((self.waiting.append(batch.columns(), &keys, keys_len, times)?, keys));
        }
        // What a key has before the batch, and what comes twice in it.
        let mut seen = BTreeSet::new();
        let more = keys.iter().filter(|k| **k != NONE && (self.versions.head(**k) != NONE || !seen.insert(**k)));
        self.crowded.extend(more.copied());
        Ok((self.versions.append(batch.columns(), &keys, keys_len, times)?, keys))
    }

    /// The version of `key` at `time`: of several of one time the last.
    fn version(&self, key: u32, time: i64) -> u32 {
        let mut best: Option<(i64, u32)> = None;
        for (row, version) in self.versions.chain(self.versions.head(key)) {
            if version.time <= time && best.is_none_or(|(t, _)| version.time > t) {
                best = Some((version.time, row));
            }
        }
        best.map_or(NONE, |(_, row)| row)
    }

    /// Joins the left rows that the watermark has passed.
    fn close(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let passed = |time: i64| time < watermark || watermark == WATERMARK_MAX;
        if !passed(self.waiting_since) || self.waiting.live() == 0 {
            return Ok(());
        }
        let mut due: Vec<(i64, u32, u32)> =
            self.waiting.iter().filter(|(_, r)| passed(r.time)).map(|(row, r)| (r.time, row, r.key)).collect();
        due.sort_unstable();
        let mut changes = Vec::with_capacity(due.len());
        for (time, row, key) in &due {
            let version = self.version(*key, *time);
            if version != NONE || !self.spec.inner {
                changes.push(Change::of(LEFT, *row, version, *time));
            }
        }
        emit(&changes, &self.spec.shape, [&self.waiting, &self.versions], false, &mut out.batches)?;
        due.iter().for_each(|(_, row, _)| self.waiting.remove(*row));
        self.waiting_since = self.waiting.iter().map(|(_, r)| r.time).min().unwrap_or(WATERMARK_MAX);
        if self.waiting.gone() > self.waiting.live() + GONE || self.waiting.live() == 0 {
            self.waiting.compact()?;
        }
        Ok(())
    }

    /// Drops the versions that no left row can ask for: those before the newest behind the watermark.
    fn drop_old(&mut self) -> Result<()> {
        let mut crowded = std::mem::take(&mut self.crowded);
        crowded.retain(|key| {
            let newest = self.version(*key, self.watermark.saturating_sub(1));
            let rows: Vec<(u32, i64)> =
                self.versions.chain(self.versions.head(*key)).map(|(row, r)| (row, r.time)).collect();
            if newest == NONE {
                return rows.len() > 1;
            }
            let since = self.versions.time(newest);
            let old = |(row, time): &(u32, i64)| *row != newest && *time <= since;
            rows.iter().filter(|r| old(r)).for_each(|(row, _)| self.versions.remove(*row));
            rows.iter().filter(|r| !old(r)).count() > 1
        });
        self.crowded = crowded;
        self.versions.compact()?;
        self.drop_at = 2 * self.versions.live() + VERSIONS;
        Ok(())
    }
}

impl Operator for AsOf {
    fn on_batch(&mut self, side: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let other = self.inputs.get(1 - side).copied().unwrap_or(WATERMARK_MIN);
        let rows = late::divert(rows, other, (0, 0), out)?;
        if rows.is_empty() {
            return Ok(());
        }
        let (base, keys) = self.add(side, &rows.batch, rows.time.values())?;
        if side == LEFT && !self.spec.inner && keys.contains(&NONE) {
            // A row with a null in its key has no version to wait for.
            let alone = (base..).zip(&keys).filter(|(_, key)| **key == NONE).map(|(row, _)| row);
            let changes: Vec<Change> = alone.map(|row| Change::of(LEFT, row, NONE, self.waiting.time(row))).collect();
            emit(&changes, &self.spec.shape, [&self.waiting, &self.versions], false, &mut out.batches)?;
        }
        if side == RIGHT && self.versions.live() > self.drop_at {
            self.drop_old()?;
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
        self.close(watermark, out)?;
        Ok(watermark)
    }

    fn on_barrier(&mut self, _out: &mut Output) -> Result<()> {
        self.drop_old()
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let append = !whole;
        let mut batches = Vec::new();
        let [left, right] = &self.spec.inputs;
        for (side, store, schema) in [(LEFT, &mut self.waiting, left), (RIGHT, &mut self.versions, right)] {
            save(side, store, if append { store.saved } else { 0 }, schema, &mut batches)?;
            store.saved = store.len();
        }
        Ok(match (append, batches.is_empty()) {
            (true, true) => StateChange::None,
            // Versions that are in no store any more are in older files; they are older than one that is there.
            (true, false) => StateChange::Append { batches, needed_until: i64::MAX },
            (false, _) => StateChange::Replace(batches),
        })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        for batch in &state {
            let saved = load(batch)?;
            let first = if saved.side == LEFT { watermark } else { i64::MIN };
            let kept = saved.times.values().iter().map(|t| Some(*t >= first && watermark != WATERMARK_MAX)).collect();
            let rows = match saved.side {
                LEFT => arrow::compute::filter_record_batch(&saved.batch, &kept)?,
                _ => saved.batch,
            };
            let times: Vec<i64> = match saved.side {
                LEFT => saved.times.values().iter().zip(kept.values()).filter(|(_, k)| *k).map(|(t, _)| *t).collect(),
                _ => saved.times.values().to_vec(),
            };
            self.add(saved.side, &rows, &times)?;
        }
        (self.waiting.saved, self.versions.saved) = (self.waiting.len(), self.versions.len());
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.waiting.size() + self.versions.size() + self.keys.size()
    }
}

//! The join of a stream with a table in memory: each row passes with its own time and what the table holds for its key.
//!
//! The table's rows are part of the pipeline's state: they come from the checkpoint at a restart. New ones take their
//! place only at a barrier, so every worker sees them at the same place of the log, and a replay sees the same ones.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::condition::{Condition, KeyTable};
use super::output::{Change, Shape, emit};
use super::probe::{Pairs, Probe};
use super::store::Store;
use super::updates::all_new;
use crate::error::{Error, Result};
use crate::message::Rows;
use crate::operators::spec::{Place, Properties, Spec};
use crate::operators::{Operator, Output};
use crate::time::WATERMARK_MAX;

/// Keys of passing rows that the table does not have are forgotten once they are so many.
const UNKNOWN_KEYS: usize = 64 * 1024;

/// Where the rows of a lookup table come from.
pub struct LookupSource {
    /// All columns of the table.
    pub schema: SchemaRef,
    /// Reads the rows, in those columns.
    pub fetch: Box<dyn Fn() -> Result<RecordBatch> + Send + Sync>,
    /// The rows are read again at the first barrier after this, nanoseconds; `None`: never.
    pub ttl: Option<i64>,
}

impl std::fmt::Debug for LookupSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LookupSource").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// The rows of a lookup table at one moment.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The rows, in all columns of the table.
    pub rows: RecordBatch,
    /// When they were read, by the clock: nanoseconds since the epoch.
    pub at: i64,
    /// 1, 2, 3, ... as they replace each other in this process.
    pub version: u64,
}

/// A table that is loaded before its pipeline starts. Clones share the rows.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Its name.
    pub table: String,
    source: Arc<OnceLock<LookupSource>>,
    loaded: Arc<RwLock<Option<Loaded>>>,
}

impl Lookup {
    /// A table that is not loaded yet.
    pub fn new(table: String) -> Self {
        Self { table, source: Arc::default(), loaded: Arc::default() }
    }

    /// Says where its rows come from.
    pub fn connect(&self, source: LookupSource) {
        // A second one would be the same.
        let _ = self.source.set(source);
    }

    /// Gives it rows that were read at `at`, in all columns of the table. After the start only before a barrier is placed.
    pub fn load(&self, rows: RecordBatch, at: i64) {
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        let version = loaded.as_ref().map_or(0, |l| l.version) + 1;
        *loaded = Some(Loaded { rows, at, version });
    }

    /// Takes rows of a checkpoint, if they have the table's columns; whether they have.
    pub fn restore(&self, rows: RecordBatch, at: i64) -> bool {
        let fits = self.source.get().is_some_and(|s| s.schema.fields() == rows.schema_ref().fields());
        if fits {
            self.load(rows, at);
        }
        fits
    }

    /// Reads the rows anew.
    pub fn fetch(&self, now: i64) -> Result<()> {
        match self.source.get() {
            Some(source) => self.load((source.fetch)()?, now),
            None => return Err(Error::Bug(format!("lookup table {} has no source", self.table))),
        }
        Ok(())
    }

    /// Whether its rows are older than they may be.
    pub fn is_stale(&self, now: i64) -> bool {
        let ttl = self.source.get().and_then(|s| s.ttl);
        ttl.is_some_and(|ttl| self.loaded().is_ok_and(|loaded| now.saturating_sub(loaded.at) >= ttl))
    }

    /// Whether its rows are read again from time to time.
    pub fn reloads(&self) -> bool {
        self.source.get().is_some_and(|s| s.ttl.is_some())
    }

    /// The rows of now.
    pub fn loaded(&self) -> Result<Loaded> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        loaded.ok_or_else(|| Error::Bug(format!("lookup table {} was not loaded", self.table)))
    }
}

/// A join with a lookup table on the right. *Order*: kept.
#[derive(Debug, Clone)]
pub struct LookupJoin {
    /// The table.
    pub lookup: Lookup,
    /// The columns of it that are read.
    pub columns: Vec<usize>,
    /// What is done to its rows before they are joined; without state.
    pub steps: Vec<Arc<dyn Spec>>,
    /// What pairs agree on.
    pub condition: Arc<Condition>,
    /// Inner, left, semi, anti or mark, and the columns.
    pub shape: Shape,
    /// The columns of both sides.
    pub inputs: [SchemaRef; 2],
    /// Whether the condition names the whole PRIMARY KEY: then the last row of a key counts.
    pub unique: bool,
    /// The types of the keys.
    pub key_types: Vec<DataType>,
}

impl Spec for LookupJoin {
    fn schema(&self) -> SchemaRef {
        self.shape.schema.clone()
    }

    fn describe(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(|s| format!("{}, ", s.describe())).collect();
        let (steps, on) = (steps.concat(), self.condition.describe());
        format!("{} lookup in {}: {steps}on {on}", self.shape.describe(), self.lookup.table)
    }

    fn state(&self) -> String {
        format!("the rows of {}, as they were when last loaded", self.lookup.table)
    }

    fn properties(&self, inputs: &[Properties]) -> Properties {
        inputs.first().cloned().unwrap_or_default()
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn lookup(&self) -> Option<&Lookup> {
        Some(&self.lookup)
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.looking()?))
    }
}

impl LookupJoin {
    fn looking(&self) -> Result<Looking> {
        let Loaded { rows, version, .. } = self.lookup.loaded()?;
        let batch = rows.project(&self.columns)?;
        let times = vec![0; batch.num_rows()];
        let mut parts = vec![Rows::new(batch, times.into())];
        for step in &self.steps {
            let (mut operator, mut out) = (step.build()?, Output::default());
            parts.into_iter().try_for_each(|rows| operator.on_batch(0, rows, &mut out))?;
            parts = out.batches;
        }
        let mut keys = KeyTable::new(self.key_types.clone(), self.condition.nulls_equal)?;
        let [_, right] = &self.inputs;
        let mut table = Store::new(right.clone(), false);
        for rows in parts {
            let numbers = keys.intern(&self.condition.keys(1, &rows.batch)?, rows.len())?;
            table.append(rows.batch.columns(), &numbers, keys.len(), rows.time.values())?;
        }
        if self.unique {
            let older: Vec<u32> = table.iter().filter(|(n, r)| table.head(r.key) != *n).map(|(n, _)| n).collect();
            older.into_iter().for_each(|row| table.remove(row));
        }
        table.compact()?;
        let keys_max = keys.len() * 2 + UNKNOWN_KEYS;
        Ok(Looking { spec: self.clone(), keys, keys_max, table, version })
    }
}

struct Looking {
    spec: LookupJoin,
    keys: KeyTable,
    keys_max: usize,
    table: Store,
    version: u64,
}

impl Operator for Looking {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let numbers = self.keys.intern(&self.spec.condition.keys(0, &rows.batch)?, rows.len())?;
        let [left, _] = &self.spec.inputs;
        let mut passing = Store::new(left.clone(), true);
        passing.append(rows.batch.columns(), &numbers, self.keys.len(), rows.time.values())?;
        let taken = all_new(0, &numbers).fresh;
        let (mut probe, mut pairs, mut found) = (Probe::new(0, &taken), Pairs::default(), Vec::new());
        while probe.next(&self.spec.condition, [&passing, &self.table], |_, _, _| true, &mut pairs)? {
            for (row, partner) in pairs.of(0) {
                passing.set_partners(row, 1);
                found.push((row, partner));
            }
        }
        if !self.spec.shape.pairs() {
            found.clear();
        }
        if let Some(alone) = self.spec.shape.alone(0) {
            let shown = (0..passing.len()).filter_map(|row| Some((row, alone.shown(passing.partners(row))?)));
            found.extend(shown);
            found.sort_by_key(|(row, _)| *row);
        }
        let watermark = |i: usize| rows.row_watermark.as_ref().map_or(WATERMARK_MAX, |w| w.value(i));
        let change = |(row, partner): (u32, u32)| Change {
            watermark: watermark(row as usize),
            retracts: rows.retracts.as_ref().is_some_and(|r| r.value(row as usize)),
            ..Change::of(0, row, partner, passing.time(row))
        };
        let changes: Vec<Change> = found.into_iter().map(change).collect();
        let late = rows.row_watermark.is_some();
        emit(&changes, &self.spec.shape, [&passing, &self.table], late, &mut out.batches)?;
        if self.keys.len() > self.keys_max {
            let mut used = vec![false; self.keys.len()];
            self.table.mark_used(&mut used);
            let renamed = self.keys.retain(&used)?;
            self.table.renumber(&renamed, self.keys.len());
        }
        Ok(())
    }

    fn on_barrier(&mut self, _out: &mut Output) -> Result<()> {
        if self.spec.lookup.loaded()?.version != self.version {
            *self = self.spec.looking()?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.table.size() + self.keys.size()
    }
}

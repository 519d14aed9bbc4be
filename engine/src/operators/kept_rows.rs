//! The rows of each partition in their order: all of them, or the first `limit`. Rows come and go; for every batch the
//! partitions that changed are given as they were and as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::expiry::Expiry;
use super::partitions::Partitions;
use super::stored_rows::{Codec, StoredRow, evaluate};
use super::{Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::Rows;
use crate::time::{WATERMARK_MIN, Watermark};

/// How rows are kept.
#[derive(Debug, Clone)]
pub struct Keeping {
    /// `PARTITION BY`.
    pub partition: Vec<Arc<dyn PhysicalExpr>>,
    /// Its columns.
    pub partition_fields: Vec<FieldRef>,
    /// `ORDER BY`; rows that it leaves equal are in the order of their columns.
    pub order: Vec<PhysicalSortExpr>,
    /// The first of each partition that matter.
    pub limit: usize,
    /// Whether rows may be taken back: then the ones after the first `limit` are kept too, to move up.
    pub retracts: bool,
    /// Whether rows have event times of their own. Rows that change have not: a row is taken back at a later time.
    pub timed: bool,
    /// A partition expires when it has had no row for this long; zero or less: never. Nanoseconds of event time.
    pub ttl: i64,
    /// The rows' columns.
    pub input: SchemaRef,
}

impl Keeping {
    /// `[keys] order by [columns]`, for descriptions.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = self.partition_fields.iter().map(|f| f.name().as_str()).collect();
        let order: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        format!("[{}] order by [{}]", names.join(", "), order.join(", "))
    }
}

/// A partition that changed: its first rows, before and after.
pub struct Change {
    /// As they were; in order.
    pub before: Vec<StoredRow>,
    /// As they are; in order.
    pub after: Vec<StoredRow>,
    /// The event time of the change, where rows have none of their own.
    pub time: Option<i64>,
}

/// What an operator says of partitions that changed.
pub trait Results: Send {
    /// Hands on the changes of the results.
    fn emit(&self, rows: &KeptRows, changes: &[Change], out: &mut Output) -> Result<()>;
}

/// An operator that keeps the rows of partitions and tells what changes.
pub struct Running<R> {
    /// The rows.
    pub rows: KeptRows,
    /// What is made of them.
    pub results: R,
}

impl<R: Results> Operator for Running<R> {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let changes = self.rows.apply(&rows)?;
        self.results.emit(&self.rows, &changes, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        let changes = self.rows.on_watermark(watermark)?;
        self.results.emit(&self.rows, &changes, out)?;
        Ok(watermark)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        self.rows.snapshot(whole)
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.rows.restore(&state, watermark)
    }

    fn state_bytes(&self) -> usize {
        self.rows.state_bytes()
    }
}

/// A partition's rows.
struct Kept {
    best: Vec<StoredRow>,
    /// Those after the best, and how often each; only if rows may be taken back.
    rest: BTreeMap<StoredRow, u64>,
    newest: i64,
    /// Changed since the last checkpoint.
    unsaved: bool,
    /// The row that went last: it stands for an empty partition in a state file.
    last: Option<StoredRow>,
    /// The best before this batch, if it was touched.
    before: Option<Vec<StoredRow>>,
}

impl Kept {
    fn new() -> Self {
        let (best, rest) = (Vec::new(), BTreeMap::new());
        Self { best, rest, newest: i64::MIN, unsaved: false, last: None, before: None }
    }

    fn insert(&mut self, row: StoredRow, keeping: &Keeping) {
        let at = self.best.partition_point(|r| *r <= row);
        if at >= keeping.limit {
            if keeping.retracts {
                *self.rest.entry(row).or_insert(0) += 1;
            }
            return;
        }
        self.best.insert(at, row);
        if self.best.len() > keeping.limit
            && let Some(out) = self.best.pop()
            && keeping.retracts
        {
            *self.rest.entry(out).or_insert(0) += 1;
        }
    }

    fn remove(&mut self, row: StoredRow) {
        match self.best.binary_search(&row) {
            Ok(at) => {
                self.best.remove(at);
                if let Some(mut first) = self.rest.first_entry() {
                    self.best.push(first.key().clone());
                    *first.get_mut() -= 1;
                    if *first.get() == 0 {
                        first.remove();
                    }
                }
            }
            // A row that is not here had expired.
            Err(_) => {
                if let Some(count) = self.rest.get_mut(&row) {
                    *count -= 1;
                    if *count == 0 {
                        self.rest.remove(&row);
                    }
                }
            }
        }
        self.last = Some(row);
    }

    fn clear(&mut self) {
        if let Some(first) = self.best.first() {
            self.last = Some(first.clone());
        }
        self.best.clear();
        self.rest.clear();
    }

    fn size(&self) -> usize {
        // Rows of a partition are alike: the first stands for all.
        let row = self.best.first().map_or(0, StoredRow::size);
        size_of::<Self>() + row * (self.best.len() + self.rest.len())
    }
}

/// The rows of all partitions.
pub struct KeptRows {
    keeping: Keeping,
    codec: Codec,
    partitions: Partitions<Kept>,
    /// Bytes of all partitions, kept up to date: they are asked for every few batches.
    bytes: usize,
    expiry: Expiry,
}

impl KeptRows {
    /// None yet.
    pub fn new(keeping: Keeping) -> Result<Self> {
        Ok(Self {
            codec: Codec::new(keeping.input.clone(), keeping.order.clone())?,
            partitions: Partitions::new(&keeping.partition_fields)?,
            bytes: 0,
            expiry: Expiry::new(keeping.ttl),
            keeping,
        })
    }

    /// Turns rows back into columns.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Whether rows have event times of their own.
    pub fn timed(&self) -> bool {
        self.keeping.timed
    }

    /// Takes rows, new and taken back; returns the partitions whose first rows changed, in the order of their first row.
    pub fn apply(&mut self, rows: &Rows) -> Result<Vec<Change>> {
        let columns = evaluate(&self.keeping.partition, &rows.batch)?;
        let ids = self.partitions.of(&columns, rows.len())?;
        let keys = self.codec.keys(&rows.batch)?;
        let chosen = self.candidates(rows, &ids, |i| keys.get(i));
        let mut own = rows.take(&UInt32Array::from(chosen.clone()))?;
        if !self.keeping.timed {
            own.time = vec![0; own.len()].into();
        }
        let payloads = self.codec.payloads(&own)?;
        let mut chosen = chosen.iter().zip(payloads.iter()).peekable();
        let mut touched = Vec::new();
        for (i, id) in ids.iter().enumerate() {
            let Some(slot) = self.partitions.slot(*id) else { continue };
            let bytes_before = slot.as_ref().map_or(0, Kept::size);
            let kept = slot.get_or_insert_with(Kept::new);
            let time = rows.time.value(i);
            let now = rows.row_watermark.as_ref().map_or(time, |w| time.max(w.value(i)));
            let candidate = chosen.next_if(|(c, _)| **c == i as u32);
            let expired = self.expiry.is_expired(kept.newest, now);
            kept.newest = kept.newest.max(now);
            kept.unsaved = true;
            if let Some((_, payload)) = candidate {
                if kept.before.is_none() {
                    kept.before = Some(kept.best.clone());
                    touched.push(*id);
                }
                if expired {
                    kept.clear();
                }
                let row = Codec::row(keys.get(i), payload);
                match &rows.retracts {
                    Some(r) if r.value(i) => kept.remove(row),
                    _ => kept.insert(row, &self.keeping),
                }
            }
            self.bytes = self.bytes + kept.size() - bytes_before;
        }
        Ok(self.changes(touched))
    }

    fn changes(&mut self, touched: Vec<usize>) -> Vec<Change> {
        let mut changes = Vec::new();
        for id in touched {
            let Some(Some(kept)) = self.partitions.slot(id) else { continue };
            let before = kept.before.take().unwrap_or_default();
            if before != kept.best {
                let time = (!self.keeping.timed).then_some(kept.newest);
                changes.push(Change { before, after: kept.best.clone(), time });
            }
        }
        changes
    }

    /// The rows that may be among the first of their partition; of others only the time counts.
    fn candidates<'k>(&self, rows: &Rows, ids: &[usize], key: impl Fn(usize) -> &'k [u8]) -> Vec<u32> {
        if self.keeping.retracts {
            return (0..rows.len() as u32).collect();
        }
        let latest = |a: &Int64Array| arrow::compute::max(a).unwrap_or(WATERMARK_MIN);
        let now = latest(&rows.time).max(rows.row_watermark.as_ref().map_or(WATERMARK_MIN, latest));
        let may_enter = |i: usize, id: usize| {
            let Some(kept) = self.partitions.get(id) else { return true };
            let worst = kept.best.last().filter(|_| kept.best.len() >= self.keeping.limit);
            worst.is_none_or(|worst| key(i) <= worst.key()) || self.expiry.is_expired(kept.newest, now)
        };
        ids.iter().enumerate().filter(|(i, id)| may_enter(*i, **id)).map(|(i, _)| i as u32).collect()
    }

    /// Hears of the watermark; returns the partitions that have expired.
    pub fn on_watermark(&mut self, watermark: Watermark) -> Result<Vec<Change>> {
        let Some(before) = self.expiry.due(watermark) else { return Ok(Vec::new()) };
        let gone = self.remove_where(|kept| kept.newest < before)?;
        let gone = gone.into_iter().filter(|kept| !kept.best.is_empty());
        let timed = self.keeping.timed;
        let change = |kept: Kept| {
            let time = (!timed).then_some(kept.newest);
            Change { before: kept.best, after: Vec::new(), time }
        };
        Ok(gone.map(change).collect())
    }

    /// The partitions that changed since the last checkpoint; all, once that is in many files.
    pub fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let mut saved: Vec<(&StoredRow, i64, i64)> = Vec::new();
        for kept in self.partitions.values().filter(|k| whole || k.unsaved) {
            saved.extend(kept.best.iter().map(|r| (r, 1, kept.newest)));
            saved.extend(kept.rest.iter().map(|(r, count)| (r, *count as i64, kept.newest)));
            if kept.best.is_empty() && !whole {
                saved.extend(kept.last.iter().map(|r| (r, 0, kept.newest)));
            }
        }
        if saved.is_empty() && !whole {
            return Ok(StateChange::None);
        }
        let batch = self.state(&saved)?;
        self.partitions.values_mut().for_each(|k| k.unsaved = false);
        self.remove_where(|k| k.best.is_empty())?;
        Ok(match whole {
            true => StateChange::Replace(vec![batch]),
            false => StateChange::Append { batches: vec![batch], needed_until: i64::MAX },
        })
    }

    /// *Shape*: the rows' columns after three of our own. A row with count 0 says that its partition is empty.
    fn state(&self, rows: &[(&StoredRow, i64, i64)]) -> Result<RecordBatch> {
        let (columns, time) = self.codec.decode(rows.iter().map(|(r, ..)| *r))?;
        let own = ["row_count", "partition_newest_ns", "event_time_ns"];
        let mut fields: Vec<FieldRef> = own.iter().map(|n| Arc::new(Field::new(*n, DataType::Int64, false))).collect();
        fields.extend(self.codec.schema().fields().iter().cloned());
        let mut all: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|(_, count, _)| *count).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|(.., newest)| *newest).collect::<Int64Array>()),
            Arc::new(time),
        ];
        all.extend(columns);
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), all)?)
    }

    /// Takes back what [`KeptRows::snapshot`] gave.
    pub fn restore(&mut self, state: &[RecordBatch], watermark: Watermark) -> Result<()> {
        let swept = self.expiry.restore(watermark).unwrap_or(i64::MIN);
        for batch in state {
            let own = |i: usize| {
                let column = batch.columns().get(i).and_then(|c| c.as_primitive_opt::<Int64Type>());
                column.ok_or_else(|| Error::Corrupt("a state file of rows by partition lacks a column".into()))
            };
            let (counts, newest, time) = (own(0)?, own(1)?, own(2)?);
            let columns: Vec<usize> = (3..batch.num_columns()).collect();
            let rows = batch.project(&columns)?.with_schema(self.codec.schema().clone())?;
            let rows = Rows::new(rows, time.clone());
            let ids = self.partitions.of(&evaluate(&self.keeping.partition, &rows.batch)?, rows.len())?;
            // A partition's newest file holds all of it.
            for id in &ids {
                if let Some(slot) = self.partitions.slot(*id) {
                    *slot = None;
                }
            }
            for (i, (row, id)) in self.codec.encode(&rows)?.into_iter().zip(ids).enumerate() {
                let Some(slot) = self.partitions.slot(id) else { continue };
                let kept = slot.get_or_insert_with(Kept::new);
                kept.newest = newest.value(i);
                (0..counts.value(i)).for_each(|_| kept.insert(row.clone(), &self.keeping));
            }
        }
        self.bytes = self.partitions.values().map(Kept::size).sum();
        self.remove_where(|k| k.best.is_empty() || k.newest < swept)?;
        Ok(())
    }

    fn remove_where(&mut self, dead: impl Fn(&Kept) -> bool) -> Result<Vec<Kept>> {
        let gone = self.partitions.remove_where(dead)?;
        self.bytes -= gone.iter().map(Kept::size).sum::<usize>();
        Ok(gone)
    }

    /// Bytes of state, roughly.
    pub fn state_bytes(&self) -> usize {
        self.partitions.size() + self.bytes
    }
}

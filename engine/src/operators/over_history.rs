//! What an `OVER` in the order of event time keeps of each partition: totals, and the rows that frames reach back to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use super::expiry::Expiry;
use super::over::Over;
use super::over_functions::{Function, Kind, Sorted, Totals, add_rows, ranks};
use super::partitions::Partitions;
use super::stored_rows::{Codec, StoredRow, evaluate};
use super::window::show_duration;
use crate::error::{Error, Result};
use crate::message::{Rows, take_batch};
use crate::time::Watermark;

/// How far back frames look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// This many rows.
    pub rows: usize,
    /// Rows of this long before; nanoseconds.
    pub range: i64,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rows, self.range) {
            (0, 0) => write!(f, "its totals and its last row"),
            (rows, 0) => write!(f, "its last {rows} rows"),
            (0, range) => write!(f, "its rows of the last {}", show_duration(range)),
            (rows, range) => write!(f, "its last {rows} rows and those of the last {}", show_duration(range)),
        }
    }
}

struct History {
    totals: Totals,
    /// In order; the last row at least.
    rows: Vec<StoredRow>,
    times: Vec<i64>,
    newest: i64,
    unsaved: bool,
}

impl History {
    fn size(&self) -> usize {
        // Rows of a partition are alike: the first stands for all.
        let row = self.rows.first().map_or(0, StoredRow::size) + size_of::<i64>();
        let states = self.totals.states.iter().flatten().map(ScalarValue::size).sum::<usize>();
        size_of::<Self>() + row * self.rows.len() + states
    }
}

/// The histories of all partitions.
pub struct Histories {
    partition: Vec<Arc<dyn PhysicalExpr>>,
    codec: Codec,
    reach: Reach,
    partitions: Partitions<History>,
    /// Bytes of all partitions, kept up to date: they are asked for every few batches.
    bytes: usize,
    expiry: Expiry,
}

/// A partition's new rows, or those after a pause as long as the time to live.
struct Span {
    id: usize,
    rows: Range<usize>,
    /// Whether the earlier rows of the partition have expired.
    anew: bool,
}

impl Histories {
    /// None yet.
    pub fn new(spec: &Over, reach: Reach, ttl: i64) -> Result<Self> {
        Ok(Self {
            partition: spec.partition.clone(),
            codec: Codec::new(spec.input.clone(), Vec::new())?,
            reach,
            partitions: Partitions::new(&spec.partition_fields)?,
            bytes: 0,
            expiry: Expiry::new(ttl),
        })
    }

    /// Evaluates functions over rows that come after all earlier ones, in sorted order.
    pub fn evaluate(
        &mut self,
        functions: &[Function],
        rows: &Rows,
        sorted: &Sorted,
        watermark: Watermark,
    ) -> Result<Vec<ArrayRef>> {
        let rows = rows.take(&sorted.indices)?;
        let ids = self.partitions.of(&evaluate(&self.partition, &rows.batch)?, rows.len())?;
        let spans = self.spans(&rows, sorted, &ids);
        let ranges: Vec<Range<usize>> = spans.iter().map(|s| s.rows.clone()).collect();
        let totals_of = |s: &Span| self.partitions.get(s.id).filter(|_| !s.anew).map(|h| h.totals.clone());
        let mut totals: Vec<Totals> = spans.iter().map(|s| totals_of(s).unwrap_or_default()).collect();
        let frames = if functions.iter().any(|f| f.kind == Kind::Framed) {
            Some(self.with_history(&rows, &spans)?)
        } else {
            None
        };
        let (mut results, mut running) = (Vec::with_capacity(functions.len()), 0);
        for f in functions {
            results.push(match (f.kind, &frames) {
                (Kind::Framed, Some(frames)) => take(&f.framed(&frames.batch, &frames.spans)?, &frames.new, None)?,
                (Kind::Running { .. }, _) => {
                    running += 1;
                    f.running(&rows.batch, &ranges, &sorted.peers, &mut totals, running - 1)?
                }
                (kind, _) => ranks(kind, &ranges, &sorted.peers, &totals),
            });
        }
        add_rows(&ranges, &sorted.peers, &mut totals);
        self.remember(&rows, &spans, totals, watermark)?;
        Ok(results)
    }

    /// The sorted partitions, split at pauses as long as the time to live.
    fn spans(&self, rows: &Rows, sorted: &Sorted, ids: &[usize]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for span in &sorted.spans {
            let Some(id) = ids.get(span.start).copied() else { continue };
            let mut newest = self.partitions.get(id).map(|h| h.newest);
            for i in span.clone() {
                let time = rows.time.value(i);
                let anew = newest.is_none_or(|n| self.expiry.is_expired(n, time));
                newest = Some(newest.unwrap_or(time).max(time));
                match spans.last_mut() {
                    Some(last) if i > span.start && !anew => last.rows.end = i + 1,
                    _ => spans.push(Span { id, rows: i..i + 1, anew }),
                }
            }
        }
        spans
    }

    /// The new rows of each partition after those that it has kept.
    fn with_history(&self, rows: &Rows, spans: &[Span]) -> Result<Frames> {
        let kept = |s: &Span| self.partitions.get(s.id).filter(|_| !s.anew).map_or(&[][..], |h| h.rows.as_slice());
        let (columns, _) = self.codec.decode(spans.iter().flat_map(kept))?;
        let columns: Vec<ArrayRef> = columns
            .iter()
            .zip(rows.batch.columns())
            .map(|(old, new)| Ok(concat(&[old.as_ref(), new.as_ref()])?))
            .collect::<Result<_>>()?;
        let all = RecordBatch::try_new(self.codec.schema().clone(), columns)?;
        let first_new = (all.num_rows() - rows.len()) as u32;
        let (mut places, mut own, mut new, mut old) = (Vec::new(), Vec::new(), Vec::new(), 0_u32);
        for span in spans {
            let (start, count) = (places.len(), kept(span).len() as u32);
            places.extend(old..old + count);
            old += count;
            new.extend(span.rows.clone().enumerate().map(|(n, _)| (start + count as usize + n) as u32));
            places.extend(span.rows.clone().map(|i| first_new + i as u32));
            own.push(start..places.len());
        }
        Ok(Frames { batch: take_batch(&all, &UInt32Array::from(places))?, spans: own, new: UInt32Array::from(new) })
    }

    fn remember(&mut self, rows: &Rows, spans: &[Span], totals: Vec<Totals>, watermark: Watermark) -> Result<()> {
        let reach = self.reach;
        // The next row is at the watermark or after it.
        let since = watermark.saturating_sub(reach.range);
        let needed = |span: &Span| {
            let by_rows = span.rows.end.saturating_sub(reach.rows.max(1)).max(span.rows.start);
            let within = |i: &usize| rows.time.values().get(*i).is_some_and(|t| *t >= since);
            let by_time = if reach.range > 0 { span.rows.clone().find(within) } else { None };
            by_rows.min(by_time.unwrap_or(by_rows))..span.rows.end
        };
        let places: UInt32Array = spans.iter().flat_map(needed).map(|i| i as u32).collect::<Vec<_>>().into();
        let mut stored = self.codec.encode(&rows.take(&places)?)?.into_iter();
        for (span, totals) in spans.iter().zip(totals) {
            let own = needed(span);
            let Some(slot) = self.partitions.slot(span.id) else { continue };
            let bytes_before = slot.as_ref().map_or(0, History::size);
            if span.anew {
                *slot = None;
            }
            let fresh =
                || History { totals: Totals::default(), rows: vec![], times: vec![], newest: i64::MIN, unsaved: true };
            let history = slot.get_or_insert_with(fresh);
            history.totals = totals;
            history.rows.extend(stored.by_ref().take(own.len()));
            history.times.extend(own.filter_map(|i| rows.time.values().get(i)));
            history.newest = history.times.last().copied().unwrap_or(history.newest);
            history.unsaved = true;
            let by_rows = history.rows.len().saturating_sub(reach.rows.max(1));
            let by_time = history.times.iter().position(|t| *t >= since).filter(|_| reach.range > 0);
            let drop = by_rows.min(by_time.unwrap_or(by_rows));
            history.rows.drain(..drop);
            history.times.drain(..drop);
            self.bytes = self.bytes + history.size() - bytes_before;
        }
        Ok(())
    }

    /// Forgets the partitions that have been without a row too long.
    pub fn expire(&mut self, watermark: Watermark) -> Result<()> {
        if let Some(before) = self.expiry.due(watermark) {
            self.remove_where(|h| h.newest < before)?;
        }
        Ok(())
    }

    fn remove_where(&mut self, dead: impl Fn(&History) -> bool) -> Result<()> {
        let gone = self.partitions.remove_where(dead)?;
        self.bytes -= gone.iter().map(History::size).sum::<usize>();
        Ok(())
    }

    /// The partitions that changed since the last checkpoint, or all. *Shape*: three columns of totals, the rows' columns,
    /// their event time, then the states of running aggregates.
    pub fn snapshot(&mut self, all: bool) -> Result<Option<RecordBatch>> {
        let saved: Vec<&History> = self.partitions.values().filter(|h| all || h.unsaved).collect();
        if saved.is_empty() {
            return Ok(None);
        }
        let (columns, time) = self.codec.decode(saved.iter().flat_map(|h| &h.rows))?;
        let each = |f: fn(&History) -> i64| -> ArrayRef {
            let values = saved.iter().flat_map(|h| std::iter::repeat_n(f(h), h.rows.len()));
            Arc::new(values.collect::<Int64Array>())
        };
        let own = ["partition_rows", "partition_groups", "partition_newest_ns", "row_time_ns"];
        let mut fields: Vec<FieldRef> = own.iter().map(|n| Arc::new(Field::new(*n, DataType::Int64, false))).collect();
        let mut all: Vec<ArrayRef> =
            vec![each(|h| h.totals.rows as i64), each(|h| h.totals.groups as i64), each(|h| h.newest), Arc::new(time)];
        fields.extend(self.codec.schema().fields().iter().cloned());
        all.extend(columns);
        let shape: Vec<usize> = saved.first().map_or(Vec::new(), |h| h.totals.states.iter().map(Vec::len).collect());
        for (n, width) in shape.iter().enumerate() {
            for part in 0..*width {
                let state = |h: &&History| h.totals.states.get(n).and_then(|s| s.get(part)).cloned();
                let repeated = |h: &History| std::iter::repeat_n(state(&h), h.rows.len()).flatten();
                let values = ScalarValue::iter_to_array(saved.iter().flat_map(|h| repeated(h)))?;
                fields.push(Arc::new(Field::new(format!("state_{n}_{part}"), values.data_type().clone(), true)));
                all.push(values);
            }
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), all)?;
        self.partitions.values_mut().for_each(|h| h.unsaved = false);
        Ok(Some(batch))
    }

    /// Takes back one batch of [`Histories::snapshot`].
    pub fn restore(&mut self, batch: &RecordBatch) -> Result<()> {
        let own = |i: usize| {
            let column = batch.columns().get(i).and_then(|c| c.as_primitive_opt::<Int64Type>());
            column.ok_or_else(|| Error::Corrupt("a state file of OVER lacks a column".into()))
        };
        let (rows_before, groups, newest, time) = (own(0)?, own(1)?, own(2)?, own(3)?);
        let width = self.codec.schema().fields().len();
        let columns: Vec<usize> = (4..4 + width).collect();
        let rows = Rows::new(batch.project(&columns)?.with_schema(self.codec.schema().clone())?, time.clone());
        let ids = self.partitions.of(&evaluate(&self.partition, &rows.batch)?, rows.len())?;
        for id in &ids {
            if let Some(slot) = self.partitions.slot(*id) {
                *slot = None;
            }
        }
        for (i, (row, id)) in self.codec.encode(&rows)?.into_iter().zip(ids).enumerate() {
            let Some(slot) = self.partitions.slot(id) else { continue };
            if slot.is_none() {
                let states = states(batch, 4 + width, i)?;
                let totals = Totals { rows: rows_before.value(i) as u64, groups: groups.value(i) as u64, states };
                *slot = Some(History { totals, rows: vec![], times: vec![], newest: newest.value(i), unsaved: false });
            }
            if let Some(history) = slot {
                history.rows.push(row);
                history.times.push(time.value(i));
            }
        }
        Ok(())
    }

    /// All batches have been taken back.
    pub fn restored(&mut self, watermark: Watermark) -> Result<()> {
        let swept = self.expiry.restore(watermark).unwrap_or(i64::MIN);
        self.bytes = self.partitions.values().map(History::size).sum();
        self.remove_where(|h| h.newest < swept)
    }

    /// Bytes of state, roughly.
    pub fn state_bytes(&self) -> usize {
        self.partitions.size() + self.bytes
    }
}

/// The states of running aggregates in row `i`, from the columns `state_<n>_<part>`.
fn states(batch: &RecordBatch, from: usize, i: usize) -> Result<Vec<Vec<ScalarValue>>> {
    let mut states: Vec<Vec<ScalarValue>> = Vec::new();
    for (column, field) in batch.columns().iter().zip(batch.schema().fields()).skip(from) {
        let n = field.name().split('_').nth(1).and_then(|n| n.parse::<usize>().ok());
        let n = n.ok_or_else(|| Error::Corrupt(format!("a state file of OVER has a column '{}'", field.name())))?;
        if states.len() <= n {
            states.resize(n + 1, Vec::new());
        }
        let value = ScalarValue::try_from_array(column, i)?;
        states.iter_mut().skip(n).take(1).for_each(|s| s.push(value.clone()));
    }
    Ok(states)
}

/// New rows after kept ones.
struct Frames {
    batch: RecordBatch,
    spans: Vec<Range<usize>>,
    /// The places of the new rows.
    new: UInt32Array,
}

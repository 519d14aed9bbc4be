//! `OVER` whose rows are final: the partition holds the window of the rows, or the order is that of event time.
//!
//! Rows wait until the watermark has passed their event time. Then all that are ready are sorted once and evaluated
//! together. In the first case partitions are complete and nothing is kept; in the second each partition keeps its
//! totals, and as many earlier rows as the frames reach back.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::over_functions::{Function, Sorted, sorted_once};
use super::over_history::{Histories, Reach};
use super::spec::{Properties, Spec, Warning};
use super::window::show_duration;
use super::{Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::{LateRows, Rows};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// With a limit, waiting rows are thinned out whenever they have doubled, but not below this many.
const THIN_OUT_MIN: usize = 16 * 1024;

/// Why rows are final once the watermark has passed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// All rows of a partition have one event time: the partition holds their window.
    Window,
    /// The order is that of event time, and no frame looks ahead.
    Order {
        /// How far back frames look.
        reach: Reach,
        /// A partition without a row for this long begins anew; zero or less: never. Nanoseconds of event time.
        ttl: i64,
    },
}

/// `OVER` on final rows. *Shape*: the input's columns, then one per function. *Order*: by the watermark that made rows
/// final, and as they came. Late rows, behind the watermark at their own place, are not evaluated.
#[derive(Debug, Clone)]
pub struct Over {
    /// What is computed.
    pub functions: Vec<Function>,
    /// `PARTITION BY`.
    pub partition: Vec<Arc<dyn PhysicalExpr>>,
    /// Its columns.
    pub partition_fields: Vec<FieldRef>,
    /// `ORDER BY`
    pub order: Vec<PhysicalSortExpr>,
    /// Why rows are final.
    pub fin: Final,
    /// The only function is `row_number()`, and only rows up to this one matter.
    pub limit: Option<usize>,
    /// The input's columns.
    pub input: SchemaRef,
    /// The output columns.
    pub schema: SchemaRef,
}

impl Spec for Over {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.functions.iter().map(|f| f.expression.name()).collect();
        let partition: Vec<&str> = self.partition_fields.iter().map(|f| f.name().as_str()).collect();
        let order: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        let limit = self.limit.map_or(String::new(), |n| format!(" first {n}"));
        let how = if self.fin == Final::Window { "in window" } else { "in time" };
        let (names, partition, order) = (names.join(", "), partition.join(", "), order.join(", "));
        format!("over {how}{limit} by [{partition}] order by [{order}] of [{names}]")
    }

    fn state(&self) -> String {
        match &self.fin {
            Final::Window => match self.limit {
                Some(n) => format!("{n} rows per partition, until the watermark passes the end of their window"),
                None => "all rows, until the watermark passes the end of their window".into(),
            },
            Final::Order { reach, ttl } => {
                let until = if *ttl > 0 { format!("{} without a row", show_duration(*ttl)) } else { "for ever".into() };
                format!("rows until the watermark passes them; per partition {reach}, until {until}")
            }
        }
    }

    fn warning(&self) -> Option<Warning> {
        let grows = matches!(self.fin, Final::Order { ttl, .. } if ttl <= 0);
        grows.then(|| Warning::without_ttl("the state of OVER grows with every new partition"))
    }

    fn has_late_rows(&self) -> bool {
        self.fin != Final::Window
    }

    fn properties(&self, inputs: &[Properties]) -> Properties {
        Properties { window: inputs.first().and_then(|p| p.window), updating: false }
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        let histories = match &self.fin {
            Final::Window => None,
            Final::Order { reach, ttl } => Some(Histories::new(self, *reach, *ttl)?),
        };
        Ok(Box::new(Waiting {
            spec: self.clone(),
            histories,
            rows: Vec::new(),
            count: 0,
            thin_out_at: THIN_OUT_MIN,
            unsaved: Vec::new(),
            watermark: WATERMARK_MIN,
        }))
    }
}

/// Rows of about one batch, with the least and the greatest event time.
struct Waited {
    rows: Rows,
    first: i64,
    last: i64,
}

/// The operator: rows that wait for the watermark.
struct Waiting {
    spec: Over,
    histories: Option<Histories>,
    rows: Vec<Waited>,
    count: usize,
    thin_out_at: usize,
    /// Rows that came since the last checkpoint, with their greatest event time, until the watermark has passed that.
    unsaved: Vec<(i64, Rows)>,
    watermark: Watermark,
}

impl Waiting {
    fn wait(&mut self, rows: Rows) {
        let bounds = (arrow::compute::min(&rows.time), arrow::compute::max(&rows.time));
        if let (Some(first), Some(last)) = bounds {
            self.count += rows.len();
            self.rows.push(Waited { rows, first, last });
        }
    }

    /// Takes out the rows before `watermark`.
    fn ready(&mut self, watermark: Watermark) -> Result<Option<Rows>> {
        let is_ready = |t: i64| t < watermark || watermark == WATERMARK_MAX;
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for waited in std::mem::take(&mut self.rows) {
            if is_ready(waited.last) {
                ready.push(waited.rows);
            } else if is_ready(waited.first) {
                let mask: Vec<bool> = waited.rows.time.values().iter().map(|t| is_ready(*t)).collect();
                let (mask, rest) = (BooleanArray::from(mask.clone()), mask.iter().map(|m| Some(!m)).collect());
                ready.push(waited.rows.filter(&mask)?);
                waiting.push(waited.rows.filter(&rest)?);
            } else {
                waiting.push(waited.rows);
            }
        }
        self.count = 0;
        waiting.into_iter().for_each(|rows| self.wait(rows));
        if ready.is_empty() { Ok(None) } else { Ok(Some(Rows::concat(&self.spec.input, &ready)?)) }
    }

    /// Drops rows that can no longer be among the first of their partition.
    fn thin_out(&mut self) -> Result<()> {
        let (Some(limit), Final::Window) = (self.spec.limit, &self.spec.fin) else { return Ok(()) };
        if self.count < self.thin_out_at {
            return Ok(());
        }
        let all: Vec<Rows> = std::mem::take(&mut self.rows).into_iter().map(|w| w.rows).collect();
        let all = Rows::concat(&self.spec.input, &all)?;
        let sorted = Sorted::new(&all, true, &self.spec.partition, &self.spec.order)?;
        let first = sorted.spans.iter().flat_map(|span| span.clone().take(limit));
        let mut kept: Vec<u32> = first.filter_map(|i| sorted.indices.values().get(i).copied()).collect();
        // As they came, so that nothing depends on when this was done.
        kept.sort_unstable();
        self.count = 0;
        self.wait(all.take(&kept.into())?);
        self.thin_out_at = (self.count * 2).max(THIN_OUT_MIN);
        Ok(())
    }

    fn evaluate(&mut self, rows: Rows, watermark: Watermark, out: &mut Output) -> Result<()> {
        let by_time = self.spec.fin == Final::Window;
        let sorted = Sorted::new(&rows, by_time, &self.spec.partition, &self.spec.order)?;
        let results = match &mut self.histories {
            None => {
                let mut batch = sorted_once(&rows.batch, &sorted);
                let whole = |f: &Function| f.whole(&sorted.spans, &sorted.peers, &mut batch);
                self.spec.functions.iter().map(whole).collect::<Result<Vec<_>>>()?
            }
            Some(histories) => histories.evaluate(&self.spec.functions, &rows, &sorted, watermark)?,
        };
        let mut columns = rows.batch.columns().to_vec();
        for result in &results {
            columns.push(sorted.unsort(result)?);
        }
        let rows = Rows::new(RecordBatch::try_new(self.spec.schema.clone(), columns)?, rows.time);
        let Some(limit) = self.spec.limit else {
            out.batches.push(rows);
            return Ok(());
        };
        let numbers = rows.batch.columns().last().and_then(|c| c.as_any().downcast_ref::<UInt64Array>());
        let numbers = numbers.ok_or_else(|| Error::Bug("row_number() is no column of numbers".into()))?;
        let first: BooleanArray = numbers.values().iter().map(|n| Some(*n <= limit as u64)).collect();
        out.batches.push(rows.filter(&first)?);
        Ok(())
    }
}

/// Splits off the rows behind the watermark at their own place.
fn split_late(rows: Rows, out: &mut Output) -> Result<Rows> {
    let Some(watermarks) = &rows.row_watermark else { return Ok(rows) };
    let late: Vec<bool> = rows.time.values().iter().zip(watermarks.values()).map(|(t, w)| t < w).collect();
    if !late.contains(&true) {
        return Ok(rows);
    }
    let missed = rows.filter(&BooleanArray::from(late.clone()))?;
    out.late.push(LateRows {
        window_start: missed.time.clone(),
        window_end: missed.time.values().iter().map(|t| t + 1).collect::<Vec<_>>().into(),
        watermark: missed.row_watermark.unwrap_or_else(|| missed.time.clone()),
        batch: missed.batch,
        time: missed.time,
    });
    rows.filter(&late.iter().map(|l| Some(!l)).collect())
}

impl Operator for Waiting {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let rows = split_late(rows, out)?;
        if rows.is_empty() {
            return Ok(());
        }
        let rows = Rows { row_watermark: None, batch: rows.batch.with_schema(self.spec.input.clone())?, ..rows };
        self.unsaved.push((arrow::compute::max(&rows.time).unwrap_or(i64::MIN), rows.clone()));
        self.wait(rows);
        self.thin_out()
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        if let Some(rows) = self.ready(watermark)? {
            self.evaluate(rows, watermark, out)?;
        }
        self.watermark = watermark;
        self.unsaved.retain(|(last, _)| *last >= watermark);
        if let Some(histories) = &mut self.histories {
            histories.expire(watermark)?;
        }
        Ok(watermark)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let watermark = self.watermark;
        let rows: Vec<&Rows> = match whole {
            true => self.rows.iter().map(|w| &w.rows).collect(),
            // What came and went between two checkpoints is not written.
            false => unsaved
                .iter()
                .map(|(_, rows)| rows)
                .filter(|r| r.time.values().iter().any(|t| *t >= watermark))
                .collect(),
        };
        let last = rows.iter().flat_map(|r| r.time.values()).max().copied();
        let mut batches = rows.into_iter().map(tag).collect::<Result<Vec<_>>>()?;
        let histories = match &mut self.histories {
            Some(histories) => histories.snapshot(whole)?,
            None => None,
        };
        let needed_until = match &histories {
            Some(_) => i64::MAX,
            None => last.unwrap_or(i64::MIN).saturating_add(1),
        };
        batches.extend(histories);
        Ok(match (whole, batches.is_empty()) {
            (true, _) => StateChange::Replace(batches),
            (false, true) => StateChange::None,
            (false, false) => StateChange::Append { batches, needed_until },
        })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        for batch in state {
            if is_waiting(&batch) {
                let rows = untag(&batch, &self.spec.input)?;
                let waits: BooleanArray = rows.time.values().iter().map(|t| Some(*t >= watermark)).collect();
                self.wait(rows.filter(&waits)?);
            } else if let Some(histories) = &mut self.histories {
                histories.restore(&batch)?;
            }
        }
        match &mut self.histories {
            Some(histories) => histories.restored(watermark),
            None => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        let rows = self.rows.iter().map(|w| w.rows.batch.get_array_memory_size()).sum::<usize>();
        // What is not saved yet is mostly the same arrays.
        let rows = rows.max(self.unsaved.iter().map(|(_, rows)| rows.batch.get_array_memory_size()).sum());
        rows + self.histories.as_ref().map_or(0, Histories::state_bytes)
    }
}

/// The first column of waiting rows in state files.
const WAITING: &str = "event_time_ns";

/// Waiting rows as a state file holds them: their event time, then their columns.
pub(super) fn tag(rows: &Rows) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new(WAITING, DataType::Int64, false))];
    fields.extend(rows.batch.schema().fields().iter().cloned());
    let mut columns: Vec<ArrayRef> = vec![Arc::new(rows.time.clone())];
    columns.extend(rows.batch.columns().iter().cloned());
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Whether a batch is one of [`tag`].
pub(super) fn is_waiting(batch: &RecordBatch) -> bool {
    batch.schema_ref().fields().first().is_some_and(|f| f.name() == WAITING)
}

/// Takes back what [`tag`] gave.
pub(super) fn untag(batch: &RecordBatch, schema: &SchemaRef) -> Result<Rows> {
    let time = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>().cloned());
    let time: Int64Array = time.ok_or_else(|| Error::Corrupt("waiting rows without event times".into()))?;
    let columns: Vec<usize> = (1..batch.num_columns()).collect();
    Ok(Rows::new(batch.project(&columns)?.with_schema(schema.clone())?, time))
}

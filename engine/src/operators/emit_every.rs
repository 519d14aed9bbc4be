//! `EMIT EVERY`: results that change are shown so often and no more.
//!
//! In: changes of an aggregate, its keys first. Out: for each key at most one change per interval of event time, from what
//! was shown last to what holds now. What a window held when it closed comes when it closes. Which intermediate results are
//! seen depends on where batches end; what the changes add up to does not.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::spec::{Properties, Spec};
use super::window::show_duration;
use super::{Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::{Rows, take_batch};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// Holds changes back. *Shape*: as the input.
#[derive(Debug, Clone)]
pub struct EmitEvery {
    /// The interval, in nanoseconds of event time; positive.
    pub every: i64,
    /// The first so many columns are the key.
    pub keys: usize,
    /// Whether the results are of windows: a row's event time is its window's last nanosecond.
    pub windowed: bool,
    /// The columns.
    pub schema: SchemaRef,
}

impl Spec for EmitEvery {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        format!("emit every {}", show_duration(self.every))
    }

    fn state(&self) -> String {
        "the changes since they were shown last".into()
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: None, updating: true }
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Holding { spec: self.clone(), held: Vec::new(), next: WATERMARK_MIN, saved: false }))
    }
}

/// The operator at work.
struct Holding {
    spec: EmitEvery,
    held: Vec<Rows>,
    /// When to show what is held; the least time before the first watermark.
    next: Watermark,
    /// Whether the last checkpoint holds rows.
    saved: bool,
}

/// What a key had before its changes, and has after them: rows among the changes.
#[derive(Clone, Copy, Default)]
struct Net {
    before: Option<u32>,
    after: Option<u32>,
    seen: bool,
}

impl Holding {
    fn after(&self, watermark: Watermark) -> Watermark {
        watermark.div_euclid(self.spec.every).saturating_add(1).saturating_mul(self.spec.every)
    }

    /// All that is held as one batch.
    fn together(&mut self) -> Result<Option<Rows>> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { Ok(None) } else { Rows::concat(&self.spec.schema, &held).map(Some) }
    }

    /// What changes add up to: one row taken back and one given, at most, for each key.
    fn net(&self, rows: &Rows) -> Result<Rows> {
        let mut groups = Vec::new();
        let keys = rows.batch.columns().get(..self.spec.keys).unwrap_or_default();
        if keys.is_empty() {
            groups.resize(rows.len(), 0);
        } else {
            let fields: Vec<FieldRef> = self.spec.schema.fields().iter().take(self.spec.keys).cloned().collect();
            let mut table = new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?;
            table.intern(keys, &mut groups)?;
        }
        let mut nets = vec![Net::default(); groups.iter().max().map_or(0, |g| g + 1)];
        for (row, (group, retracts)) in (0_u32..).zip(groups.iter().zip(rows.signs())) {
            let Some(net) = nets.get_mut(*group) else { continue };
            if !net.seen && retracts {
                net.before = Some(row);
            }
            net.seen = true;
            net.after = (!retracts).then_some(row);
        }
        let (mut indices, mut retracts) = (Vec::new(), Vec::new());
        for net in nets {
            for (row, back) in [(net.before, true), (net.after, false)] {
                indices.extend(row);
                retracts.extend(row.map(|_| back));
            }
        }
        let indices = UInt32Array::from(indices);
        Ok(Rows {
            batch: take_batch(&rows.batch, &indices)?,
            time: arrow::compute::take(&rows.time, &indices, None)?.as_primitive::<Int64Type>().clone(),
            row_watermark: None,
            retracts: retracts.contains(&true).then(|| BooleanArray::from(retracts)),
        })
    }

    /// Shows all that is held, or only what belongs to windows that close at `watermark`.
    fn show(&mut self, closing: Option<Watermark>, out: &mut Output) -> Result<()> {
        let Some(rows) = self.together()? else { return Ok(()) };
        let due = match closing {
            None => rows,
            Some(watermark) => {
                let due: BooleanArray = rows.time.values().iter().map(|t| Some(*t < watermark)).collect();
                let kept: BooleanArray = due.iter().map(|d| d.map(|d| !d)).collect();
                let kept = rows.filter(&kept)?;
                self.held.extend((!kept.is_empty()).then_some(kept));
                rows.filter(&due)?
            }
        };
        let net = self.net(&due)?;
        out.batches.extend((!net.is_empty()).then_some(net));
        Ok(())
    }

    fn tagged(&self, rows: &Rows) -> Result<RecordBatch> {
        let mut fields: Vec<FieldRef> = vec![
            Arc::new(Field::new("event_time_ns", DataType::Int64, false)),
            Arc::new(Field::new("retracts", DataType::Boolean, false)),
        ];
        fields.extend(self.spec.schema.fields().iter().cloned());
        let retracts: BooleanArray = rows.signs().map(Some).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(rows.time.clone()), Arc::new(retracts)];
        columns.extend(rows.batch.columns().iter().cloned());
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

impl Operator for Holding {
    fn on_batch(&mut self, _port: usize, rows: Rows, _out: &mut Output) -> Result<()> {
        self.held.extend((!rows.is_empty()).then_some(Rows { row_watermark: None, ..rows }));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        let closes = self.spec.windowed && self.held.iter().flat_map(|r| r.time.values()).any(|time| *time < watermark);
        if watermark == WATERMARK_MAX || (self.next != WATERMARK_MIN && watermark >= self.next) {
            self.show(None, out)?;
        } else if closes {
            self.show(Some(watermark), out)?;
        }
        self.next = self.after(watermark);
        Ok(watermark)
    }

    fn snapshot(&mut self, _whole: bool) -> Result<StateChange> {
        let batches = self.held.iter().map(|rows| self.tagged(rows)).collect::<Result<Vec<_>>>()?;
        let had = std::mem::replace(&mut self.saved, !batches.is_empty());
        Ok(if batches.is_empty() && !had { StateChange::None } else { StateChange::Replace(batches) })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        let bad = || Error::Corrupt("a state file of EMIT EVERY lacks its event_time_ns and retracts columns".into());
        for batch in &state {
            let [time, retracts, columns @ ..] = batch.columns() else { return Err(bad()) };
            let time: Int64Array = time.as_primitive_opt::<Int64Type>().ok_or_else(bad)?.clone();
            let retracts = retracts.as_boolean_opt().ok_or_else(bad)?.clone();
            let batch = RecordBatch::try_new(self.spec.schema.clone(), columns.to_vec())?;
            self.held.push(Rows { batch, time, row_watermark: None, retracts: Some(retracts) });
        }
        self.saved = !self.held.is_empty();
        if watermark > WATERMARK_MIN {
            self.next = self.after(watermark);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.held.iter().map(|r| r.batch.get_array_memory_size()).sum()
    }
}

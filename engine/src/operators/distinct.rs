//! `SELECT DISTINCT` and `UNION` of rows that are never taken back: each row passes when it is first seen.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

use super::expiry::Expiry;
use super::failing::{may_fail, of_good_rows};
use super::keyed_state::KeyedState;
use super::spec::{Properties, Spec, Warning};
use super::window::show_duration;
use super::{Operator, Output, StateChange};
use crate::error::Result;
use crate::message::Rows;
use crate::time::Watermark;

/// Distinct rows. *Shape*: the expressions' values. *Order*: kept.
#[derive(Debug, Clone)]
pub struct Distinct {
    /// What makes a row.
    pub expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// The columns.
    pub schema: SchemaRef,
    /// How long a row that does not come again is remembered, in nanoseconds of event time; 0: for ever.
    pub ttl: i64,
}

impl Spec for Distinct {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let columns: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        format!("distinct [{}]", columns.join(", "))
    }

    fn state(&self) -> String {
        match self.ttl {
            0 => "each different row, for ever".into(),
            ttl => format!("each different row, until the watermark is {} past its newest event", show_duration(ttl)),
        }
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties::default()
    }

    fn warning(&self) -> Option<Warning> {
        let grows = self.ttl == 0;
        let what = || format!("the state of '{}' grows with every different row and is never dropped", self.describe());
        grows.then(|| Warning::without_ttl(what()))
    }

    fn may_fail(&self, input: &Schema) -> bool {
        self.expressions.iter().any(|e| may_fail(e, input))
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        let newest = Arc::new(Field::new("newest_event_ns", DataType::Int64, false));
        let seen = KeyedState::new("rows", self.schema.fields(), vec![newest])?;
        Ok(Box::new(Seen { spec: self.clone(), seen, expiry: Expiry::new(self.ttl) }))
    }
}

struct Seen {
    spec: Distinct,
    /// The newest event time of each row.
    seen: KeyedState,
    expiry: Expiry,
}

impl Seen {
    fn newest(&self, rows: &[u32]) -> Result<Vec<i64>> {
        let columns = self.seen.read(rows, 0, 1)?;
        Ok(columns.first().map(|c| c.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default())
    }

    /// The rows that were not seen before, with their columns.
    fn first_seen(&mut self, rows: Rows, columns: Vec<ArrayRef>) -> Result<Option<Rows>> {
        let touched = self.seen.touch(&[(&columns, rows.len())])?;
        let mut newest = self.newest(&touched.rows)?;
        newest.iter_mut().skip(touched.known).for_each(|newest| *newest = i64::MIN);
        let mut passing: Vec<u32> = Vec::new();
        let now = Expiry::now(&rows);
        for (i, (number, (time, now))) in touched.numbers().zip(rows.time.values().iter().zip(now.iter())).enumerate() {
            let Some(newest) = newest.get_mut(number) else { continue };
            if *newest == i64::MIN || self.expiry.is_expired(*newest, *now) {
                passing.push(i as u32);
                *newest = *time;
            }
            *newest = (*newest).max(*time);
        }
        self.seen.write(&touched.rows, 0, &[Arc::new(Int64Array::from(newest)) as ArrayRef])?;
        if passing.is_empty() {
            return Ok(None);
        }
        let batch = RecordBatch::try_new(self.spec.schema.clone(), columns)?;
        Rows { batch, ..rows }.take(&UInt32Array::from(passing)).map(Some)
    }

    /// Forgets rows whose newest event is before `limit`.
    fn sweep(&mut self, limit: i64) -> Result<()> {
        let all: Vec<u32> = (0..self.seen.len() as u32).collect();
        let newest = self.newest(&all)?;
        let live: Vec<u32> = all.iter().zip(&newest).filter(|(_, t)| **t >= limit).map(|(r, _)| *r).collect();
        if live.len() < all.len() { self.seen.retain(&live) } else { Ok(()) }
    }
}

impl Operator for Seen {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let expressions = self.spec.expressions.clone();
        let evaluate = |rows: &Rows| -> Result<Vec<ArrayRef>> {
            expressions.iter().map(|e| Ok(e.evaluate(&rows.batch)?.into_array(rows.len())?)).collect()
        };
        for (rows, columns) in of_good_rows(rows, out, &evaluate)? {
            out.batches.extend(self.first_seen(rows, columns)?);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, _out: &mut Output) -> Result<Watermark> {
        if let Some(limit) = self.expiry.due(watermark) {
            self.sweep(limit)?;
        }
        Ok(watermark)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        KeyedState::snapshot([&mut self.seen], whole)
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.seen.restore(&state)?;
        match self.expiry.restore(watermark) {
            Some(limit) => self.sweep(limit),
            None => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.seen.bytes()
    }
}

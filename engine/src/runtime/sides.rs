//! Rows of a pipeline that do not reach its sink: late ones, and those for which an expression failed. Each kind is a
//! table of its own; without a place for it, it is counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use serde_json::Value;

use super::Result;
use super::pipeline::{Counters, Target};
use crate::connectors::Rejected;
use crate::connectors::ingest::rejected_batch;
use crate::connectors::json::write_lines;
use crate::error::Error;
use crate::message::{FailedRows, LateRows, Rows};
use crate::planted::{self, Bug};
use crate::sql::plan::Plan;

/// The column of late rows as JSON.
const LATE_ROW: &str = "late_row";

/// The columns of a pipeline's late rows: what the window saw, and what the row missed; `None` if nothing can be late.
/// Where windows see different columns, what they saw is one JSON object: `late_row`.
pub fn late_schema(plan: &Plan) -> Option<SchemaRef> {
    let inputs = plan.late_inputs();
    let first = inputs.first()?;
    if inputs.iter().all(|i| i.fields() == first.fields()) {
        return Some(late_columns(first));
    }
    Some(late_columns(&Schema::new(vec![Field::new(LATE_ROW, DataType::Utf8, true)])))
}

fn late_columns(input: &Schema) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let own = ["late_event_time", "late_window_start", "late_window_end", "late_watermark"];
    let mut fields: Vec<FieldRef> =
        input.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    fields.extend(own.iter().map(|n| Arc::new(Field::new(*n, time.clone(), false))));
    Arc::new(Schema::new(fields))
}

/// Where the rows go that do not reach the sink.
#[derive(Default)]
pub struct Sides {
    /// `<pipeline>__late`.
    pub late: Option<Target>,
    /// `<pipeline>__rejected`.
    pub rejected: Option<Target>,
}

impl Sides {
    /// Takes late rows; `schema` is [`late_schema`].
    pub fn write_late(&mut self, late: &LateRows, schema: Option<&SchemaRef>, counters: &Counters) -> Result<()> {
        counters.rows_late.fetch_add(late.batch.num_rows() as u64, Ordering::Relaxed);
        let (Some(target), Some(schema)) = (&mut self.late, schema) else { return Ok(()) };
        if planted::is(Bug::LateRowsDropped) {
            return Ok(());
        }
        let mut columns = late.batch.columns().to_vec();
        if schema.fields().first().is_some_and(|f| f.name() == LATE_ROW) {
            let lines = lines(&late.batch)?;
            columns = vec![Arc::new(lines.lines().map(Some).collect::<StringArray>()) as ArrayRef];
        }
        for times in [&late.time, &late.window_start, &late.window_end, &late.watermark] {
            columns.push(Arc::new(TimestampNanosecondArray::new(times.values().clone(), None)) as ArrayRef);
        }
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        target.sink.write(&Rows::new(batch, late.time.clone()))
    }

    /// Takes rows for which an expression failed; `pipeline` names it in the message.
    pub fn write_failed(&mut self, failed: &FailedRows, pipeline: &str, counters: &Counters) -> Result<()> {
        counters.rows_failed.fetch_add(failed.batch.num_rows() as u64, Ordering::Relaxed);
        let lines = lines(&failed.batch)?;
        let Some(target) = &mut self.rejected else {
            tracing::warn!("{pipeline}: rejected: {} in {}", failed.message, lines.trim_end());
            return Ok(());
        };
        for (line, time) in lines.lines().zip(failed.time.values()) {
            let row = Rejected {
                position: 0,
                code: "EXPRESSION".into(),
                message: format!("{pipeline}: {}", failed.message),
                raw: line.as_bytes().to_vec(),
            };
            target.sink.write(&Rows::new(rejected_batch(&[row], *time, |_| None)?, vec![*time].into()))?;
        }
        Ok(())
    }

    fn targets(&mut self) -> [Option<&mut Target>; 2] {
        [self.late.as_mut(), self.rejected.as_mut()]
    }

    /// What [`Commit`](crate::connectors::Commit) needs: late rows, rejected rows.
    pub fn prepare(&mut self, checkpoint: u64) -> Result<[Value; 2]> {
        let mut prepared = [Value::Null, Value::Null];
        for (target, value) in self.targets().into_iter().zip(&mut prepared) {
            if let Some(target) = target {
                *value = target.sink.prepare(checkpoint)?;
            }
        }
        Ok(prepared)
    }

    /// Goes back to what `prepare` gave.
    pub fn restore(&mut self, prepared: [&Value; 2]) -> Result<()> {
        let own = self.targets().into_iter().zip(prepared);
        own.filter_map(|(t, v)| Some((t?, v))).try_for_each(|(t, v)| t.sink.restore(v))
    }

    /// Nothing follows.
    pub fn finish(&mut self) -> Result<()> {
        self.targets().into_iter().flatten().try_for_each(|t| t.sink.finish())
    }
}

fn lines(batch: &RecordBatch) -> Result<String> {
    let mut lines = Vec::new();
    write_lines(batch, &mut lines)?;
    String::from_utf8(lines).map_err(|e| Error::Bug(format!("JSON that is not UTF-8: {e}")))
}

//! Rows with their windows: one row for each window that holds it, as the window table functions give them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampNanosecondArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::spec::{Place, Properties, Spec};
use super::window::{WindowKind, Windows, result_times};
use super::{Operator, Output};
use crate::error::Result;
use crate::message::{LateRows, Rows, take_batch};
use crate::time::WATERMARK_MIN;

/// Repeats rows for their windows. *Shape*: the input's columns, then `window_start`, `window_end` and `window_time`, the
/// last nanosecond of the window, which is the event time of the new row. A row that is late for a window goes to the late
/// rows. *Order*: kept.
#[derive(Debug, Clone)]
pub struct Assign {
    /// The windows.
    pub windows: Windows,
    /// The output columns.
    pub schema: SchemaRef,
}

impl Spec for Assign {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        format!("rows of {}", WindowKind::Aligned(self.windows))
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: Some(WindowKind::Aligned(self.windows)), updating: false }
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn has_late_rows(&self) -> bool {
        true
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

/// Rows and the windows they are in.
#[derive(Default)]
struct Placed {
    rows: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Placed {
    fn push(&mut self, row: usize, windows: &Windows, end: i64) {
        self.rows.push(row as u32);
        self.starts.push(windows.start_of(end));
        self.ends.push(end);
    }
}

impl Operator for Assign {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let (mut on_time, mut late) = (Placed::default(), Placed::default());
        for (i, time) in rows.time.values().iter().enumerate() {
            let watermark = rows.row_watermark.as_ref().map_or(WATERMARK_MIN, |w| w.value(i));
            for end in self.windows.ends(self.windows.slice_of(*time), WATERMARK_MIN + 1) {
                let placed = if end <= watermark { &mut late } else { &mut on_time };
                placed.push(i, &self.windows, end);
            }
        }
        if !late.rows.is_empty() {
            let own = rows.take(&UInt32Array::from(late.rows))?;
            out.late.push(LateRows {
                batch: own.batch,
                window_start: late.starts.into(),
                window_end: late.ends.into(),
                watermark: own.row_watermark.unwrap_or_else(|| Int64Array::from(vec![WATERMARK_MIN; own.time.len()])),
                time: own.time,
            });
        }
        let batch = take_batch(&rows.batch, &UInt32Array::from(on_time.rows))?;
        let time = result_times(&on_time.ends);
        let mut columns = batch.columns().to_vec();
        let own: [ArrayRef; 3] = [
            Arc::new(TimestampNanosecondArray::from(on_time.starts)),
            Arc::new(TimestampNanosecondArray::from(on_time.ends)),
            Arc::new(TimestampNanosecondArray::new(time.values().clone(), None)),
        ];
        columns.extend(own);
        out.batches.push(Rows::new(RecordBatch::try_new(self.schema.clone(), columns)?, time));
        Ok(())
    }
}

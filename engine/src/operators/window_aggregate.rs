//! A windowed aggregate as planned: a [`Partial`] in every worker and one [`Merge`], or one [`Session`].

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::accumulate::Aggregation;
use super::merge::Merge;
use super::partial::Partial;
use super::session::Session;
use super::spec::{Properties, Spec};
use super::spill::{Spill, Spilled};
use super::window::{WindowKind, Windows, show_duration};
use super::{Operator, Output, StateChange};
use crate::error::Result;
use crate::message::Rows;
use crate::time::Watermark;

/// An aggregate by tumbling, hopping or cumulating windows.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    /// Keys and functions.
    pub aggregation: Arc<Aggregation>,
    /// The windows; where the rows are results of windows already, one nanosecond wide: their window is their time.
    pub windows: Windows,
    /// The window's place among the group columns; `None` if it is one of the keys already.
    pub window_at: Option<usize>,
    /// The columns.
    pub schema: SchemaRef,
}

impl WindowAggregate {
    fn partial(&self) -> Partial {
        Partial::new(self.aggregation.clone(), self.windows)
    }
}

impl Spec for WindowAggregate {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        match self.window_at {
            Some(_) => format!("{} {}", WindowKind::Aligned(self.windows), self.aggregation.describe()),
            None => format!("same window {}", self.aggregation.describe()),
        }
    }

    fn state(&self) -> String {
        match self.window_at {
            Some(_) => format!(
                "one row per key and {} slice, until the watermark passes the end of its last window",
                show_duration(self.windows.slice())
            ),
            None => "one row per key and window, until the watermark passes its end".into(),
        }
    }

    fn properties(&self, inputs: &[Properties]) -> Properties {
        let same = inputs.first().and_then(|p| p.window);
        let window = if self.window_at.is_some() { Some(WindowKind::Aligned(self.windows)) } else { same };
        Properties { window, updating: false }
    }

    fn has_late_rows(&self) -> bool {
        self.window_at.is_some()
    }

    fn may_fail(&self, input: &Schema) -> bool {
        self.aggregation.may_fail(input)
    }

    fn first_half(&self) -> Option<Result<Box<dyn Operator>>> {
        (!self.aggregation.is_ordered()).then(|| Ok(Box::new(self.partial()) as Box<dyn Operator>))
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        let merge = Merge::new(self.aggregation.clone(), self.windows, self.schema.clone(), self.window_at);
        if self.aggregation.is_ordered() {
            return Ok(Box::new(InOrder { partial: self.partial(), merge }));
        }
        Ok(Box::new(merge))
    }
}

/// Both halves in one thread, which sees the rows in the order of the log: the values of `array_agg` or `first_value` must not
/// depend on which worker had them.
struct InOrder {
    partial: Partial,
    merge: Merge,
}

impl InOrder {
    fn merge(&mut self, out: &mut Output) -> Result<()> {
        let mut merged = Output::default();
        for slice in std::mem::take(&mut out.slices) {
            self.merge.on_slice(&slice, &mut merged)?;
        }
        out.batches.append(&mut merged.batches);
        Ok(())
    }
}

impl Operator for InOrder {
    fn on_batch(&mut self, port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        self.partial.on_batch(port, rows, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        self.partial.on_watermark(watermark, out)?;
        self.merge(out)?;
        self.merge.on_watermark(watermark, out)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<()> {
        self.partial.on_barrier(out)?;
        self.merge(out)
    }

    fn spill(&mut self, spill: &mut dyn Spill) -> Result<bool> {
        let mut out = Output::default();
        self.partial.shed(&mut out)?;
        self.merge(&mut out)?;
        self.merge.spill(spill)
    }

    fn spilled(&self) -> Vec<Arc<dyn Spilled>> {
        self.merge.spilled()
    }

    fn restore_spilled(&mut self, state: Arc<dyn Spilled>, watermark: Watermark) -> Result<()> {
        self.merge.restore_spilled(state, watermark)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        self.merge.snapshot(whole)
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.merge.restore(state, watermark)
    }

    fn state_bytes(&self) -> usize {
        self.partial.state_bytes() + self.merge.state_bytes()
    }
}

/// An aggregate by session windows.
#[derive(Debug, Clone)]
pub struct SessionAggregate {
    /// Keys and functions.
    pub aggregation: Arc<Aggregation>,
    /// The gap, in nanoseconds.
    pub gap: i64,
    /// The window's place among the group columns.
    pub window_at: usize,
    /// The columns.
    pub schema: SchemaRef,
}

impl SessionAggregate {
    pub(super) fn running(&self) -> Result<Session> {
        Session::new(self.aggregation.clone(), self.gap, self.schema.clone(), self.window_at)
    }
}

impl Spec for SessionAggregate {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        format!("{} {}", WindowKind::Session(self.gap), self.aggregation.describe())
    }

    fn state(&self) -> String {
        let gap = show_duration(self.gap);
        format!("one row per open session, until the watermark is {gap} past its last event")
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: Some(WindowKind::Session(self.gap)), updating: false }
    }

    fn has_late_rows(&self) -> bool {
        true
    }

    fn may_fail(&self, input: &Schema) -> bool {
        self.aggregation.may_fail(input)
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.running()?))
    }
}

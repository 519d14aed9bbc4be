//! `EMIT EVERY` of session windows: what each session holds so far, as changes. A session that grows or joins another has
//! other bounds, so what was shown of it is taken back.
//!
//! In: rows in the order of the log. Out: at each interval of event time the difference between what was shown last and what
//! holds now; a session that has ended is shown for the last time then.

use std::collections::BTreeSet;

use arrow::array::BooleanArray;
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::col;

use super::over::{is_waiting, tag, untag};
use super::session::Session;
use super::spec::{Properties, Spec};
use super::stored_rows::{Codec, StoredRow};
use super::window::show_duration;
use super::window_aggregate::SessionAggregate;
use super::{Operator, Output, StateChange};
use crate::error::Result;
use crate::message::Rows;
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// An aggregate by session windows whose results are shown before they are final.
#[derive(Debug, Clone)]
pub struct EarlySessions {
    /// The aggregate.
    pub sessions: SessionAggregate,
    /// The interval, in nanoseconds of event time; positive.
    pub every: i64,
}

impl Spec for EarlySessions {
    fn schema(&self) -> SchemaRef {
        self.sessions.schema()
    }

    fn describe(&self) -> String {
        format!("{}, emit every {}", self.sessions.describe(), show_duration(self.every))
    }

    fn state(&self) -> String {
        format!("{}, and as it was shown last", self.sessions.state())
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: None, updating: true }
    }

    fn has_late_rows(&self) -> bool {
        true
    }

    fn may_fail(&self, input: &Schema) -> bool {
        self.sessions.may_fail(input)
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        let (schema, window_at) = (self.schema(), self.sessions.window_at);
        // Rows of one key are neighbours, so that a change is a row taken back and the one in its place.
        let keys = 0..=self.sessions.aggregation.group_fields.len();
        let keys = keys.filter(|i| *i != window_at).filter_map(|i| schema.fields().get(i));
        let sorted = |name: &str| Ok(PhysicalSortExpr::new(col(name, &schema)?, SortOptions::default()));
        let keys = keys.map(|f| sorted(f.name())).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Showing {
            codec: Codec::new(schema.clone(), keys)?,
            sessions: self.sessions.running()?,
            shown: BTreeSet::new(),
            next: WATERMARK_MIN,
            spec: self.clone(),
        }))
    }
}

/// The operator at work.
struct Showing {
    spec: EarlySessions,
    sessions: Session,
    codec: Codec,
    /// What was shown of the sessions that were open then.
    shown: BTreeSet<StoredRow>,
    /// When to show them next; the least time before the first watermark.
    next: Watermark,
}

impl Showing {
    fn after(&self, watermark: Watermark) -> Watermark {
        watermark.div_euclid(self.spec.every).saturating_add(1).saturating_mul(self.spec.every)
    }

    fn show(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let (ended, open) = self.sessions.results(watermark)?;
        let open: BTreeSet<StoredRow> = self.encode(&open)?.collect();
        let now: BTreeSet<StoredRow> = self.encode(&ended)?.chain(open.iter().cloned()).collect();
        let mut changes: Vec<(&StoredRow, bool)> = self.shown.difference(&now).map(|r| (r, true)).collect();
        changes.extend(now.difference(&self.shown).map(|r| (r, false)));
        changes.sort_by_key(|(row, _)| row.key());
        let mut ordered = Vec::with_capacity(changes.len());
        for of_key in changes.chunk_by(|a, b| a.0.key() == b.0.key()) {
            let (old, new) = of_key.split_at(of_key.partition_point(|(_, retracts)| *retracts));
            for at in 0..old.len().max(new.len()) {
                ordered.extend(old.get(at).into_iter().chain(new.get(at)).copied());
            }
        }
        if !ordered.is_empty() {
            let (columns, time) = self.codec.decode(ordered.iter().map(|(row, _)| *row))?;
            let retracts: BooleanArray = ordered.iter().map(|(_, retracts)| Some(*retracts)).collect();
            let batch = RecordBatch::try_new(self.spec.schema(), columns)?;
            let retracts = (retracts.true_count() > 0).then_some(retracts);
            out.batches.push(Rows { retracts, ..Rows::new(batch, time) });
        }
        self.shown = open;
        Ok(())
    }

    fn encode(&self, rows: &[Rows]) -> Result<impl Iterator<Item = StoredRow> + use<>> {
        let rows = rows.iter().map(|rows| self.codec.encode(rows)).collect::<Result<Vec<_>>>()?;
        Ok(rows.into_iter().flatten())
    }
}

impl Operator for Showing {
    fn on_batch(&mut self, port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        self.sessions.on_batch(port, rows, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        if watermark == WATERMARK_MAX || (self.next != WATERMARK_MIN && watermark >= self.next) {
            self.show(watermark, out)?;
        }
        self.next = self.after(watermark);
        Ok(watermark)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let mut batches = match self.sessions.snapshot(whole)? {
            StateChange::Replace(batches) | StateChange::Append { batches, .. } => batches,
            StateChange::None => Vec::new(),
        };
        if !self.shown.is_empty() {
            let (columns, time) = self.codec.decode(&self.shown)?;
            batches.push(tag(&Rows::new(RecordBatch::try_new(self.spec.schema(), columns)?, time))?);
        }
        Ok(StateChange::Replace(batches))
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        let (shown, sessions): (Vec<_>, Vec<_>) = state.into_iter().partition(is_waiting);
        for batch in &shown {
            let rows = untag(batch, &self.spec.schema())?;
            self.shown.extend(self.codec.encode(&rows)?);
        }
        if watermark > WATERMARK_MIN {
            self.next = self.after(watermark);
        }
        self.sessions.restore(sessions, watermark)
    }

    fn state_bytes(&self) -> usize {
        self.sessions.state_bytes() + self.shown.iter().map(StoredRow::size).sum::<usize>()
    }
}

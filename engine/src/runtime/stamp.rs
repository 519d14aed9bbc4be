//! Event time and watermark of each row, at its own place in the log.
//!
//! The watermark at a place is the minimum, over the source's partitions that are not idle, of the greatest watermark
//! expression of the partition's events before that place; and it never goes back. A partition is a producer, or a
//! file. So the same log gives the same watermarks whatever the batch size or the number of workers.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use datafusion::physical_expr::PhysicalExpr;

use crate::checkpoint::{Partition, StampState};
use crate::error::Result;
use crate::message::{Rows, ascends, bounds, nanoseconds};
use crate::planted::{self, Bug};
use crate::sql::catalog::Table;
use crate::time::{SECOND, WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// The delay of a source without `WATERMARK FOR`, as in Arroyo.
const DELAY: i64 = SECOND;

/// Event times from 1700 to 2200 are used: windows around them are within an `i64` of nanoseconds.
const TIME_MIN: i64 = -8_520_336_000 * SECOND;
const TIME_MAX: i64 = 7_258_118_400 * SECOND;

/// Stamps the rows of one source.
#[derive(Debug)]
pub struct Stamper {
    event_time: Option<usize>,
    expression: Option<Arc<dyn PhysicalExpr>>,
    future_skew: i64,
    /// What a checkpoint keeps.
    pub state: StampState,
    /// Events too far ahead of their arrival to move the watermark.
    pub future: u64,
}

/// What became of a batch.
pub struct Stamped {
    /// The rows with their times.
    pub rows: Rows,
    /// The rows without an event time that can be used, if there are some.
    pub untimed: Option<RecordBatch>,
}

/// The rows of a batch with an event time that can be used.
struct Timed {
    batch: RecordBatch,
    time: Int64Array,
    /// The least and the greatest of `time`; see [`bounds`].
    bounds: (i64, i64),
    untimed: Option<RecordBatch>,
}

/// What each row of a batch says of the watermark.
enum Candidates {
    /// That it is so far behind the row's time.
    Behind(i64),
    /// This, or nothing.
    Of(Int64Array),
}

impl Candidates {
    /// Whether no row is before an earlier one, nor before what a row says of the watermark.
    fn in_order(&self, times: &[i64]) -> bool {
        ascends(times)
            && match self {
                Self::Behind(_) => true,
                Self::Of(candidates) => candidates.iter().zip(times).all(|(c, t)| c.is_none_or(|c| c <= *t)),
            }
    }
}

impl Stamper {
    /// For a table.
    pub fn new(table: &Table, state: StampState) -> Self {
        Self {
            event_time: table.event_time,
            expression: table.watermark.clone(),
            future_skew: table.future_skew,
            state,
            future: 0,
        }
    }

    /// Stamps rows of `partition` that arrived at `arrived` (nanoseconds since the epoch).
    pub fn stamp(&mut self, partition: &str, batch: RecordBatch, arrived: i64) -> Result<Stamped> {
        let Timed { batch, time, bounds: (min, max), untimed } = self.timed(batch, arrived)?;
        let candidates = self.candidates(&batch, &time, max, arrived)?;
        let others = self.others(partition);
        let before = self.state.watermark;
        let own = self
            .state
            .partitions
            .entry(partition.to_string())
            .or_insert(Partition { watermark: WATERMARK_MIN, idle: false });
        own.idle = false;
        let own_before = own.watermark;
        let greatest = match &candidates {
            Candidates::Behind(delay) => Some(max.saturating_sub(*delay)),
            Candidates::Of(candidates) => arrow::compute::max(candidates),
        };
        own.watermark = greatest.map_or(own_before, |m| m.max(own_before));
        let before = if planted::is(Bug::WatermarkGoesBack) { WATERMARK_MIN } else { before };
        let after = before.max(others.min(own.watermark));
        self.state.watermark = after;
        // The usual case: no row is behind the watermark after the batch, or each is as late as those before it. None is late.
        let in_order = || min >= before.max(others.min(own_before)) && candidates.in_order(time.values());
        let row_watermark = (min < after && !in_order()).then(|| {
            let mut running = own_before;
            let at_row = |candidate: Option<i64>| {
                let watermark = before.max(others.min(running));
                running = candidate.map_or(running, |c| running.max(c));
                watermark
            };
            match &candidates {
                Candidates::Behind(delay) => {
                    time.values().iter().map(|t| Some(t.saturating_sub(*delay))).map(at_row).collect::<Vec<_>>().into()
                }
                Candidates::Of(candidates) => candidates.iter().map(at_row).collect::<Vec<_>>().into(),
            }
        });
        Ok(Stamped { rows: Rows { batch, time, row_watermark, retracts: None }, untimed })
    }

    /// A partition has gone silent; returns whether the watermark moved.
    pub fn idle(&mut self, partition: &str) -> bool {
        let Some(p) = self.state.partitions.get_mut(partition) else { return false };
        p.idle = true;
        self.advance()
    }

    /// A partition promises no event before `time`; returns whether the watermark moved.
    pub fn promise(&mut self, partition: &str, time: Watermark) -> bool {
        let fresh = Partition { watermark: WATERMARK_MIN, idle: false };
        let p = self.state.partitions.entry(partition.to_string()).or_insert(fresh);
        p.watermark = p.watermark.max(time);
        self.advance()
    }

    /// The source has ended: every window closes.
    pub fn end(&mut self) {
        self.state.watermark = WATERMARK_MAX;
    }

    fn advance(&mut self) -> bool {
        let all = self.state.partitions.values();
        let active = all.clone().filter(|p| !p.idle).map(|p| p.watermark).min();
        let now = active.or_else(|| all.map(|p| p.watermark).max()).unwrap_or(WATERMARK_MIN);
        let moved = now > self.state.watermark;
        self.state.watermark = self.state.watermark.max(now);
        moved
    }

    fn others(&self, partition: &str) -> Watermark {
        let others = self.state.partitions.iter().filter(|(name, p)| !p.idle && name.as_str() != partition);
        others.map(|(_, p)| p.watermark).min().unwrap_or(WATERMARK_MAX)
    }

    /// The rows with an event time that can be used.
    fn timed(&self, batch: RecordBatch, arrived: i64) -> Result<Timed> {
        let Some(column) = self.event_time else {
            let time = Int64Array::from(vec![arrived; batch.num_rows()]);
            return Ok(Timed { batch, time, bounds: (arrived, arrived), untimed: None });
        };
        let time = nanoseconds(batch.column(column))?;
        let inside = |t: i64| (TIME_MIN..TIME_MAX).contains(&t);
        let (min, max) = bounds(time.values());
        if time.null_count() == 0 && (time.is_empty() || inside(min) && inside(max)) {
            return Ok(Timed { batch, time, bounds: (min, max), untimed: None });
        }
        let timed: BooleanArray = time.iter().map(|t| Some(t.is_some_and(inside))).collect();
        let untimed = Some(filter_record_batch(&batch, &not(&timed)?)?);
        let batch = filter_record_batch(&batch, &timed)?;
        let time = nanoseconds(batch.column(column))?;
        Ok(Timed { bounds: bounds(time.values()), batch, time, untimed })
    }

    /// What the rows say of the watermark; nothing, where they are too far ahead of their arrival.
    fn candidates(&mut self, batch: &RecordBatch, time: &Int64Array, max: i64, arrived: i64) -> Result<Candidates> {
        let limit = arrived.saturating_add(self.future_skew);
        let said = match &self.expression {
            None if max <= limit => return Ok(Candidates::Behind(DELAY)),
            None => time.values().iter().map(|t| t.saturating_sub(DELAY)).collect::<Vec<_>>().into(),
            Some(e) => nanoseconds(&e.evaluate(batch)?.into_array(batch.num_rows())?)?,
        };
        if max <= limit {
            let is_time = said.values().inner().ptr_eq(time.values().inner()) && said.null_count() == 0;
            return Ok(if is_time { Candidates::Behind(0) } else { Candidates::Of(said) });
        }
        let future = &mut self.future;
        let kept = time.values().iter().zip(said.iter()).map(|(t, c)| {
            if *t > limit {
                *future += 1;
                None
            } else {
                c
            }
        });
        Ok(Candidates::Of(kept.collect()))
    }
}

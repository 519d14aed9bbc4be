//! When a key without news is dropped: once the watermark is more than a time to live past its newest event, or when an
//! event more than that newer comes.
//!
//! Whether a key has expired depends on the log alone. When that is told does not matter to the sum of all rows sent, so
//! keys are swept together, whenever the watermark crosses a line of a grid an eighth of the time to live apart: every
//! operator with the same time to live sweeps at the same watermark, inputs first.

use std::borrow::Cow;

use crate::message::{Rows, bounds};
use crate::time::{SECOND, WATERMARK_MIN, Watermark};

/// A watermark this late (2199-01-01) is no time that was reached but a promise that nothing follows.
const END: Watermark = 7_226_582_400 * SECOND;

/// Sweeps are `keep / SWEEPS` of event time apart.
const SWEEPS: i64 = 8;

/// The time to live of keys.
#[derive(Debug, Clone)]
pub struct Expiry {
    /// How long a key without news is kept, in nanoseconds of event time; 0: for ever.
    keep: i64,
    /// Up to where keys were swept.
    swept: Watermark,
    /// The newest watermark before the end of the input.
    watermark: Watermark,
}

impl Expiry {
    /// Keeps keys for `keep` nanoseconds of event time; for ever, if that is 0.
    pub fn new(keep: i64) -> Self {
        Self { keep, swept: WATERMARK_MIN, watermark: WATERMARK_MIN }
    }

    /// Takes the watermark. If it is time to sweep: keys whose newest event is before the result are to be dropped.
    /// The end of the input expires nothing, but what had expired before it is swept.
    pub fn due(&mut self, watermark: Watermark) -> Option<i64> {
        let upto = if watermark >= END { self.watermark } else { self.grid(watermark) };
        if watermark < END {
            self.watermark = watermark;
        }
        if self.keep == 0 || upto <= self.swept {
            return None;
        }
        self.swept = upto;
        Some(upto.saturating_sub(self.keep))
    }

    /// Takes up at the watermark of a checkpoint: keys whose newest event is before the result had been swept.
    pub fn restore(&mut self, watermark: Watermark) -> Option<i64> {
        if watermark >= END {
            return None;
        }
        self.due(watermark)
    }

    /// Whether a row at `now` (see [`Expiry::now`]) finds its key, whose newest event was at `newest`, expired.
    pub fn is_expired(&self, newest: i64, now: i64) -> bool {
        self.keep > 0 && now.saturating_sub(newest) > self.keep
    }

    /// What each row shows of the time at its place: its own, or the watermark there. (A row without a watermark is at
    /// or after it.)
    pub fn now(rows: &Rows) -> Cow<'_, [i64]> {
        let time = rows.time.values();
        match &rows.row_watermark {
            None => Cow::Borrowed(time),
            Some(w) => time.iter().zip(w.values()).map(|(t, w)| *t.max(w)).collect(),
        }
    }

    /// Whether some row might find its key expired by another one, or with one of the times `known`. Of each batch: times,
    /// and what its rows show of the time.
    pub fn within<'a>(&self, batches: impl IntoIterator<Item = (&'a [i64], &'a [i64])>, known: &[i64]) -> bool {
        if self.keep == 0 {
            return false;
        }
        let (mut earliest, mut latest) = (known.iter().fold(i64::MAX, |least, t| least.min(*t)), None);
        for (time, now) in batches {
            let (first, last) = bounds(time);
            earliest = earliest.min(first);
            latest = latest.max(Some(if std::ptr::eq(time, now) { last } else { bounds(now).1 }));
        }
        latest.is_some_and(|latest| self.is_expired(earliest, latest))
    }

    fn grid(&self, watermark: Watermark) -> Watermark {
        let step = (self.keep / SWEEPS).max(1);
        watermark.div_euclid(step).saturating_mul(step)
    }
}

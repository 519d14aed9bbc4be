//! Event time, watermarks and the clock.
//!
//! Event times are nanoseconds since 1970-01-01 UTC in an `i64`, as in Arrow's `Timestamp(Nanosecond, None)`: from 1677 to
//! 2262. The wall clock is read through [`Clock`] alone, so that tests and simulations own it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A moment at which an event happened, in nanoseconds since the epoch, UTC.
pub type EventTime = i64;

/// No event with a time before this one is expected any more. Monotone at every place that carries it.
pub type Watermark = EventTime;

/// The watermark before the first event: nothing is late.
pub const WATERMARK_MIN: Watermark = i64::MIN;

/// The watermark after the last event of a bounded input: every window closes.
pub const WATERMARK_MAX: Watermark = i64::MAX;

/// One second.
pub const SECOND: i64 = 1_000_000_000;

/// One day.
pub const DAY: i64 = 86_400 * SECOND;

/// The wall clock, in nanoseconds since the epoch, UTC.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now.
    fn now(&self) -> i64;

    /// Lets time pass.
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Pauses grow to the greater, and so many of them take about five minutes.
const TRIES: u32 = 64;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Waits while a disk is full, for about five minutes: what is to be written exists in memory alone, and space can be freed.
/// `place` names it for the log, `is_full` tells such an error from others.
pub(crate) fn while_full<T, E: std::fmt::Display>(
    clock: &dyn Clock,
    place: impl std::fmt::Display,
    is_full: impl Fn(&E) -> bool,
    mut write: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut pause = PAUSE_MIN;
    for _ in 0..TRIES {
        match write() {
            Err(e) if is_full(&e) => {
                tracing::warn!("cannot write {place}: {e}; free some space, trying again");
                clock.sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
            other => return other,
        }
    }
    write()
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now(&self) -> i64 {
        chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: i64) -> Self {
        Self(Arc::new(AtomicI64::new(now)))
    }

    /// Moves the clock to `now`, forwards or backwards.
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// `2026-11-23T05:56:15.000Z`, the one way in which times are shown to people.
pub fn show(time: EventTime) -> String {
    match time {
        WATERMARK_MIN => "-".to_string(),
        WATERMARK_MAX => "end".to_string(),
        t => chrono::DateTime::from_timestamp_nanos(t).to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    }
}

/// The UTC day of `time`, in days since the epoch (Arrow's `Date32`).
pub fn day_of(time: EventTime) -> i32 {
    // An i64 of nanoseconds holds about 213,000 days: no truncation.
    time.div_euclid(DAY) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_before_the_epoch_round_down() {
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(0), 0);
        assert_eq!(day_of(DAY), 1);
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(show(1_500_000_000), "1970-01-01T00:00:01.500Z");
        assert_eq!(show(WATERMARK_MIN), "-");
    }
}

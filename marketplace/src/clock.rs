//! The time of day, passed in: tests set it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// One second, milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// One day, milliseconds.
pub const DAY_MS: i64 = 86_400 * SECOND_MS;

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is set.
    pub fn set_to(now_ms: i64) -> Self {
        Self(Source::Set(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Moves a clock made by [`Clock::set_to`], and all its clones; the machine's clock stays as it is.
    pub fn advance(&self, by_ms: i64) {
        if let Source::Set(now) = &self.0 {
            now.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Milliseconds since 1970, UTC.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => chrono::Utc::now().timestamp_millis(),
            Source::Set(now) => now.load(Ordering::SeqCst),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now_ms())
    }
}

/// A time as RFC 3339 with seconds, UTC.
pub fn rfc3339(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A time for people, UTC.
pub fn shown(ms: i64) -> String {
    let text = rfc3339(ms);
    format!("{} {}", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}

/// A time's date, UTC.
pub fn date(ms: i64) -> String {
    rfc3339(ms).chars().take(10).collect()
}

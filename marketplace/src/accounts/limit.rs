//! Rate limits: a bucket for each thing that is limited and each one who does it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Clock;
use crate::problem::{Problem, Result};

/// Keys remembered; when there are more, those whose bucket is full again are forgotten.
const KEYS_MAX: usize = 100_000;

/// What is limited, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Wrong passwords for one account.
    SignInAccount,
    /// Tries to sign in from one address.
    SignInAddress,
    /// Unknown tokens from one address.
    Token,
    /// New accounts from one address.
    SignUp,
    /// Uploads of one account.
    Upload,
    /// Anything else of one account or address that changes something.
    Write,
    /// Searches and pages of one address.
    Read,
}

impl Limit {
    /// (at once, seconds until one more is allowed in thousandths, what to say).
    fn rule(self) -> (f64, f64, &'static str) {
        match self {
            Self::SignInAccount => (10.0, 90_000.0, "wrong passwords for this account"),
            Self::SignInAddress => (60.0, 5_000.0, "tries to sign in from your address"),
            Self::Token => (100.0, 5_000.0, "unknown tokens from your address"),
            Self::SignUp => (20.0, 60_000.0, "new accounts from your address"),
            Self::Upload => (30.0, 10_000.0, "uploads"),
            Self::Write => (600.0, 100.0, "changes"),
            Self::Read => (5_000.0, 2.0, "requests from your address"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at_ms: i64,
}

/// All buckets of a server.
#[derive(Debug)]
pub struct Limits {
    clock: Clock,
    buckets: Mutex<HashMap<(Limit, String), Bucket>>,
}

impl Limits {
    /// Nothing done yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, buckets: Mutex::default() }
    }

    /// Counts one.
    ///
    /// *Errors*: 429 with the seconds to wait, if there were too many.
    pub fn take(&self, limit: Limit, key: &str) -> Result<()> {
        self.count(limit, key, 1.0)
    }

    /// As [`Limits::take`] without counting.
    pub fn check(&self, limit: Limit, key: &str) -> Result<()> {
        self.count(limit, key, 0.0)
    }

    fn count(&self, limit: Limit, key: &str, cost: f64) -> Result<()> {
        let now = self.clock.now_ms();
        let (size, refill_ms, what) = limit.rule();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS_MAX {
            buckets.retain(|(limit, _), bucket| {
                let (size, refill_ms, _) = limit.rule();
                bucket.left + (now - bucket.at_ms) as f64 / refill_ms < size
            });
        }
        let bucket = buckets.entry((limit, key.to_string())).or_insert(Bucket { left: size, at_ms: now });
        bucket.left = (bucket.left + (now - bucket.at_ms).max(0) as f64 / refill_ms).min(size);
        bucket.at_ms = now;
        if bucket.left < 1.0 {
            let wait_s = ((1.0 - bucket.left) * refill_ms / 1_000.0).ceil().max(1.0) as u64;
            return Err(Problem::too_many(format!("too many {what}; try again in {wait_s} s"), wait_s));
        }
        bucket.left -= cost;
        Ok(())
    }
}

//! Counters of requests and queries, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Method, route, status.
pub type RequestKey = (String, &'static str, u16);

/// What was asked since the start.
#[derive(Debug, Default)]
pub struct Counters {
    requests: Mutex<BTreeMap<RequestKey, Requests>>,
    /// Queries answered.
    pub queries_ok: AtomicU64,
    /// Queries refused or failed.
    pub queries_failed: AtomicU64,
}

/// Requests of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Requests {
    /// How many.
    pub count: u64,
    /// How long they took together, seconds.
    pub seconds: f64,
}

impl Counters {
    /// Counts one request. `route` is a pattern, never a path: paths have no bound.
    pub fn request(&self, method: &str, route: &'static str, status: u16, took: Duration) {
        // A method is a client's word: everything unknown is one.
        let method = if matches!(method, "GET" | "POST" | "HEAD" | "OPTIONS") { method } else { "other" };
        // The lock is held for one map update, which cannot panic; a poisoned map is still a good map.
        let mut requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = requests.entry((method.to_string(), route, status)).or_default();
        entry.count += 1;
        entry.seconds += took.as_secs_f64();
    }

    /// Counts one query.
    pub fn query(&self, ok: bool) {
        let counter = if ok { &self.queries_ok } else { &self.queries_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All requests so far, sorted.
    pub fn requests(&self) -> BTreeMap<RequestKey, Requests> {
        self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

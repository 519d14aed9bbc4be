//! What was found out about SQL texts and rollups before, so that it is found out once.
//!
//! Nothing in it can be stale: a text's tables follow from the text and the views, and runs are read as of their table's version.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rollup::{Runs, histories};
use crate::error::Result;

/// Texts remembered at most; then all are forgotten. Metrics, rollups and reports are far fewer.
const TEXTS_MAX: usize = 1_000;

/// Shared by the clones of a [`super::Batch`].
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Mutex<HashMap<String, Vec<String>>>,
    histories: Mutex<HashMap<String, BTreeSet<String>>>,
    /// The runs of rollups.
    pub(super) runs: tokio::sync::Mutex<Runs>,
}

impl Known {
    /// The tables that a text reads.
    pub(super) fn tables(&self, sql: &str, find: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<String>> {
        remembered(&self.tables, sql, find)
    }

    /// The tables of a rollup whose past decides.
    pub(super) fn histories(&self, sql: &str) -> Result<BTreeSet<String>> {
        remembered(&self.histories, sql, || histories(sql))
    }

    /// Views have changed.
    pub(super) fn forget_tables(&self) {
        lock(&self.tables).clear();
    }
}

/// The lock is held while something is found out, so that what was begun before [`Known::forget_tables`] is forgotten by it.
fn remembered<T: Clone>(known: &Mutex<HashMap<String, T>>, sql: &str, find: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut known = lock(known);
    if let Some(found) = known.get(sql) {
        return Ok(found.clone());
    }
    let found = find()?;
    if known.len() >= TEXTS_MAX {
        known.clear();
    }
    known.insert(sql.to_string(), found.clone());
    Ok(found)
}

fn lock<T>(known: &Mutex<T>) -> MutexGuard<'_, T> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Views and searches: nothing is changed by them, so they are gathered and written some at a time.

use std::sync::{Mutex, PoisonError};

use super::{Event, record};
use crate::db::Db;
use crate::problem::Result;

/// Events held at most; more are dropped and counted, so that a stuck disk does not fill the memory.
const HELD_MAX: usize = 20_000;

/// Events that are not written yet.
#[derive(Debug, Default)]
pub struct Views {
    held: Mutex<(Vec<Event>, u64)>,
}

impl Views {
    /// Takes one.
    pub fn add(&self, event: Event) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0.len() < HELD_MAX {
            held.0.push(event);
        } else {
            held.1 += 1;
        }
    }

    /// Writes all that were taken.
    pub async fn flush(&self, db: &Db) -> Result<()> {
        let (events, dropped) = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        if dropped > 0 {
            tracing::warn!(dropped, "views and searches came faster than they could be written");
        }
        if events.is_empty() {
            return Ok(());
        }
        let mut tx = db.begin().await?;
        for event in &events {
            record(&mut tx, event).await?;
        }
        tx.commit().await
    }
}

//! `connector = 'memory'`: batches for the embedding program, through a bounded channel.

use std::sync::mpsc::SyncSender;

use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::Sink;
use crate::error::Result;
use crate::message::Rows;

/// Batches that wait for a slow subscriber; then the pipeline waits too.
pub const QUEUE_BATCHES: usize = 64;

/// Hands rows to a subscriber; without one, rows are dropped.
#[derive(Debug)]
pub struct Memory {
    subscriber: Option<SyncSender<RecordBatch>>,
}

impl Memory {
    /// A sink for one subscriber.
    pub fn new(subscriber: Option<SyncSender<RecordBatch>>) -> Self {
        Self { subscriber }
    }
}

impl Sink for Memory {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        if let Some(subscriber) = &self.subscriber
            && subscriber.send(rows.batch.clone()).is_err()
        {
            // The subscriber has gone: an unwatched memory table keeps nothing.
            self.subscriber = None;
        }
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        Ok(Value::Null)
    }
}

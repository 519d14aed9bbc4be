//! `connector = 'blackhole'`: takes everything and keeps nothing.

use serde_json::Value;

use super::Sink;
use crate::error::Result;
use crate::message::Rows;

/// Keeps nothing.
#[derive(Debug, Default)]
pub struct Blackhole;

impl Sink for Blackhole {
    fn write(&mut self, _rows: &Rows) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        Ok(Value::Null)
    }
}

//! `connector = 'stdout'`: JSON lines on standard output, as soon as they are there.

use std::io::Write;

use serde_json::Value;

use super::Sink;
use super::json_options::JsonOptions;
use crate::error::{Error, Result};
use crate::message::Rows;

/// Prints rows.
#[derive(Debug, Default)]
pub struct Stdout(pub JsonOptions);

impl Sink for Stdout {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        let mut text = Vec::new();
        self.0.write(&rows.batch, &mut text)?;
        let mut out = std::io::stdout().lock();
        out.write_all(&text)
            .and_then(|()| out.flush())
            .map_err(|e| Error::Storage(format!("cannot write to standard output: {e}")))
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        Ok(Value::Null)
    }
}

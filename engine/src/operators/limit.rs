//! `LIMIT` without `ORDER BY`: the first rows as they come.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::spec::Spec;
use super::{Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::Rows;
use crate::time::Watermark;

/// Passes some rows by. *Shape*: as the input. *Order*: kept.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Rows left out at the beginning.
    pub skip: usize,
    /// Rows passed by after those.
    pub fetch: usize,
    /// The columns.
    pub schema: SchemaRef,
}

impl Spec for Limit {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        format!("limit {} after {}", self.fetch, self.skip)
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Counting { limit: self.clone(), seen: 0 }))
    }
}

struct Counting {
    limit: Limit,
    seen: usize,
}

impl Operator for Counting {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let end = self.limit.skip.saturating_add(self.limit.fetch);
        let from = self.limit.skip.saturating_sub(self.seen).min(rows.len());
        let until = end.saturating_sub(self.seen).min(rows.len());
        self.seen += rows.len();
        if from < until {
            out.batches.push(rows.slice(from, until - from));
        }
        Ok(())
    }

    fn snapshot(&mut self, _whole: bool) -> Result<StateChange> {
        let schema = Schema::new(vec![Field::new("rows_seen", DataType::Int64, false)]);
        let seen = Int64Array::from(vec![self.seen as i64]);
        Ok(StateChange::Replace(vec![RecordBatch::try_new(Arc::new(schema), vec![Arc::new(seen)])?]))
    }

    fn restore(&mut self, state: Vec<RecordBatch>, _watermark: Watermark) -> Result<()> {
        for batch in &state {
            let seen = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
            let seen = seen.ok_or_else(|| Error::Corrupt("a state file of LIMIT has no number".into()))?;
            self.seen = seen.iter().flatten().max().unwrap_or(0) as usize;
        }
        Ok(())
    }
}

//! The expressions of a `SELECT` list.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

use super::{Operator, Output};
use crate::error::Result;
use crate::message::Rows;

/// Computes columns. *Shape*: `schema`; event times and row watermarks pass by untouched. *Order*: kept.
#[derive(Debug)]
pub struct Project {
    /// One expression per output column.
    pub expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// The output columns.
    pub schema: SchemaRef,
}

impl Operator for Project {
    fn on_batch(&mut self, rows: Rows, out: &mut Output) -> Result<()> {
        let columns = self
            .expressions
            .iter()
            .map(|e| Ok(e.evaluate(&rows.batch)?.into_array(rows.len())?))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        out.batches.push(Rows { batch, ..rows });
        Ok(())
    }
}

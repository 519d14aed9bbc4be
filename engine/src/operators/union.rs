//! `UNION ALL`.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::spec::{Place, Properties, Spec};
use super::{Operator, Output};
use crate::error::Result;
use crate::message::Rows;

/// All rows of all inputs. *Shape*: `schema`, which every input's columns have by position. *Order*: as they come; the
/// watermark is the least of the inputs'.
#[derive(Debug, Clone)]
pub struct Union {
    /// The columns.
    pub schema: SchemaRef,
    /// How many inputs.
    pub inputs: usize,
}

impl Spec for Union {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        format!("union of {}", self.inputs)
    }

    fn properties(&self, inputs: &[Properties]) -> Properties {
        let first = inputs.first().and_then(|p| p.window);
        let window = first.filter(|w| inputs.iter().all(|p| p.window.as_ref() == Some(w)));
        Properties { window, updating: inputs.iter().any(|p| p.updating) }
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Union {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        // A query that only counts reads no column.
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let columns = rows.batch.columns().to_vec();
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        out.batches.push(Rows { batch, ..rows });
        Ok(())
    }
}

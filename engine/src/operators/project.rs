//! The expressions of a `SELECT` list.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

use super::failing::{may_fail, of_good_rows};
use super::spec::{Place, Spec};
use super::{Operator, Output};
use crate::error::Result;
use crate::message::Rows;

/// Computes columns. *Shape*: `schema`; event times and row watermarks pass by untouched. *Order*: kept.
#[derive(Debug, Clone)]
pub struct Project {
    /// One expression per output column.
    pub expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// The output columns.
    pub schema: SchemaRef,
}

impl Spec for Project {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let column = |(e, f): (&Arc<dyn PhysicalExpr>, &FieldRef)| {
            let e = e.to_string();
            if e.split('@').next() == Some(f.name()) { f.name().clone() } else { format!("{e} AS {}", f.name()) }
        };
        let columns: Vec<String> = self.expressions.iter().zip(self.schema.fields()).map(column).collect();
        format!("project {}", columns.join(", "))
    }

    fn is_punctual(&self) -> bool {
        false
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn may_fail(&self, input: &Schema) -> bool {
        self.expressions.iter().any(|e| may_fail(e, input))
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Project {
    fn compute(&self, rows: &Rows) -> Result<RecordBatch> {
        let column = |e: &Arc<dyn PhysicalExpr>| Ok(e.evaluate(&rows.batch)?.into_array(rows.len())?);
        let columns = self.expressions.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl Operator for Project {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        for (rows, batch) in of_good_rows(rows, out, &|rows| self.compute(rows))? {
            out.batches.push(Rows { batch, ..rows });
        }
        Ok(())
    }
}

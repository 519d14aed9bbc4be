//! `WHERE` and `HAVING`.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::array::{Array, BooleanArray};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;

use super::failing::{may_fail, of_good_rows};
use super::spec::{Place, Spec};
use super::{Operator, Output};
use crate::error::{Error, Result};
use crate::message::Rows;

/// Keeps the rows for which the predicate is true. *Shape*: as the input. *Order*: kept.
#[derive(Debug, Clone)]
pub struct Filter {
    /// A boolean expression over the input.
    pub predicate: Arc<dyn PhysicalExpr>,
    /// The columns.
    pub schema: SchemaRef,
}

impl Spec for Filter {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        format!("filter {}", self.predicate)
    }

    fn is_punctual(&self) -> bool {
        false
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn may_fail(&self, input: &Schema) -> bool {
        may_fail(&self.predicate, input)
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

/// The predicate over a batch, null counted as false.
pub(super) fn mask(predicate: &Arc<dyn PhysicalExpr>, rows: &Rows) -> Result<BooleanArray> {
    let mask = predicate.evaluate(&rows.batch)?.into_array(rows.len())?;
    let mask = mask.as_boolean_opt().ok_or_else(|| Error::Bug(format!("a predicate of type {}", mask.data_type())))?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

impl Operator for Filter {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        for (rows, mask) in of_good_rows(rows, out, &|rows| mask(&self.predicate, rows))? {
            match mask.true_count() {
                0 => {}
                n if n == rows.len() => out.batches.push(rows),
                _ => out.batches.push(rows.filter(&mask)?),
            }
        }
        Ok(())
    }
}

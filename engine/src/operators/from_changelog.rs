//! Changes of a table (`before`, `after`, `op`) to rows, and rows that take back earlier ones: what
//! [`changelog`](super::changelog) does, backwards.

use arrow::array::{ArrayRef, AsArray, RecordBatchOptions, UInt32Array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::spec::{Place, Properties, Spec};
use super::{Operator, Output};
use crate::error::{Error, Result};
use crate::message::Rows;

/// Turns changes into rows. *Shape*: in, the columns of [`envelope`](super::changelog::envelope), already checked: a change
/// has the rows that its `op` needs. Out, some columns of the changed table. *Order*: kept; an update is the old row taken
/// back, then the new one.
#[derive(Debug, Clone)]
pub struct FromChangelog {
    /// The columns of the table that are read.
    pub columns: Vec<usize>,
    /// Those columns.
    pub schema: SchemaRef,
}

impl Spec for FromChangelog {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        format!("rows of changes [{}]", names.join(", "))
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: None, updating: true }
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for FromChangelog {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let [before, after, op] = rows.batch.columns() else {
            return Err(Error::Bug("changes without before, after and op".into()));
        };
        let (before, after, op) = (before.as_struct(), after.as_struct(), op.as_string::<i32>());
        let (mut picked, mut places, mut retracts) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..rows.len() {
            let (takes_back, gives) = effect(op.value(i));
            let sides = [(takes_back, 0, true), (gives, 1, false)];
            for (_, side, retract) in sides.into_iter().filter(|(happens, ..)| *happens) {
                picked.push((side, i));
                places.push(i as u32);
                retracts.push(retract);
            }
        }
        let column = |c: &usize| -> Result<ArrayRef> {
            let (Some(old), Some(new)) = (before.columns().get(*c), after.columns().get(*c)) else {
                return Err(Error::Bug("a change without one of its table's columns".into()));
            };
            Ok(interleave(&[old.as_ref(), new.as_ref()], &picked)?)
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(picked.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let retracts = retracts.contains(&true).then(|| retracts.into());
        let times = rows.take(&UInt32Array::from(places))?;
        out.batches.push(Rows { batch, retracts, ..times });
        Ok(())
    }
}

/// Whether a change takes back `before`, and whether it gives `after`. `c` and `r` (of a snapshot) create, `u` updates,
/// `d` deletes.
pub fn effect(op: &str) -> (bool, bool) {
    match op {
        "u" => (true, true),
        "d" => (true, false),
        _ => (false, true),
    }
}

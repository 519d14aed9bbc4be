//! Rows that take back earlier ones, as columns: `before`, `after`, `op`, the shape that Debezium gave to changes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StructArray, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::spec::{Place, Properties, Spec};
use super::{Operator, Output};
use crate::error::Result;
use crate::message::Rows;

/// Turns rows into changes. *Shape*: `before` and `after` (structs of the input's columns, null where there is none) and
/// `op`: `c` a row appeared, `d` it went, `u` the row with this key was replaced. *Order*: kept.
/// (Source of the shape: the event format of the Debezium connectors.)
#[derive(Debug, Clone)]
pub struct Changelog {
    /// The input's columns.
    pub input: SchemaRef,
    /// The columns whose values identify a row; without any, a replaced row is a `d` and a `c`.
    pub key: Vec<usize>,
}

/// The columns of changes of rows with `columns`: `before`, `after`, `op`.
pub fn envelope(columns: &Schema) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("before", DataType::Struct(nullable(columns)), true),
        Field::new("after", DataType::Struct(nullable(columns)), true),
        Field::new("op", DataType::Utf8, false),
    ]))
}

fn nullable(columns: &Schema) -> Fields {
    columns.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect()
}

impl Spec for Changelog {
    fn schema(&self) -> SchemaRef {
        envelope(&self.input)
    }

    fn describe(&self) -> String {
        let key: Vec<&str> =
            self.key.iter().filter_map(|i| self.input.fields().get(*i)).map(|f| f.name().as_str()).collect();
        format!("changelog by [{}]", key.join(", "))
    }

    fn properties(&self, inputs: &[Properties]) -> Properties {
        Properties { window: inputs.first().and_then(|p| p.window), updating: false }
    }

    fn is_punctual(&self) -> bool {
        false
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Changelog {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let same_key = same_rows(&rows.batch, &self.key)?;
        let retracts = |i: usize| rows.retracts.as_ref().is_some_and(|r| r.value(i));
        let (mut before, mut after, mut op) = (Vec::new(), Vec::new(), Vec::new());
        let mut i = 0;
        while i < rows.len() {
            let (row, next) = (Some(i as u32), i + 1);
            let replaced = retracts(i) && next < rows.len() && !retracts(next) && same_key(i, next);
            let change = match (retracts(i), replaced) {
                (false, _) => (None, row, "c"),
                (true, false) => (row, None, "d"),
                (true, true) => (row, Some(next as u32), "u"),
            };
            before.push(change.0);
            after.push(change.1);
            op.push(change.2);
            i = if replaced { next + 1 } else { next };
        }
        let places: UInt32Array = before.iter().zip(&after).map(|(b, a)| a.or(*b)).collect();
        let columns: Vec<ArrayRef> = vec![
            self.structs(&rows.batch, before.into())?,
            self.structs(&rows.batch, after.into())?,
            Arc::new(StringArray::from(op)),
        ];
        let batch = RecordBatch::try_new(Spec::schema(self), columns)?;
        let rows = Rows { retracts: None, ..rows }.take(&places)?;
        out.batches.push(Rows { batch, ..rows });
        Ok(())
    }
}

impl Changelog {
    /// The rows at `places` as one column, null where the place is.
    fn structs(&self, batch: &RecordBatch, places: UInt32Array) -> Result<ArrayRef> {
        let columns = batch.columns().iter().map(|c| take(c, &places, None)).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(StructArray::try_new(nullable(&self.input), columns, places.nulls().cloned())?))
    }
}

/// Whether two rows have equal values in `columns`; never, if there are none.
fn same_rows(batch: &RecordBatch, columns: &[usize]) -> Result<impl Fn(usize, usize) -> bool + use<>> {
    let comparators = columns
        .iter()
        .filter_map(|c| batch.columns().get(*c))
        .map(|c| make_comparator(c.as_ref(), c.as_ref(), SortOptions::default()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(move |a, b| !comparators.is_empty() && comparators.iter().all(|c| c(a, b).is_eq()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array};

    use super::*;

    #[test]
    fn neighbours_with_one_key_are_an_update() {
        let batch = RecordBatch::try_from_iter([
            ("k", Arc::new(Int64Array::from(vec![1, 1, 2, 3, 4])) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![10, 11, 20, 30, 40])) as ArrayRef),
        ])
        .unwrap();
        let mut changelog = Changelog { input: batch.schema(), key: vec![0] };
        let rows = Rows {
            retracts: Some(BooleanArray::from(vec![true, false, true, false, true])),
            ..Rows::new(batch, vec![1, 2, 3, 4, 5].into())
        };
        let mut out = Output::default();
        changelog.on_batch(0, rows, &mut out).unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&[out.batches[0].batch.clone()]).unwrap().to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[3].contains("{k: 1, n: 10} | {k: 1, n: 11} | u"), "{shown}");
        assert!(lines[4].contains("{k: 2, n: 20} |               | d"), "{shown}");
        assert!(lines[5].contains("              | {k: 3, n: 30} | c"), "{shown}");
        assert!(lines[6].contains("{k: 4, n: 40} |               | d"), "{shown}");
        assert_eq!(out.batches[0].time.values().to_vec(), [2, 3, 4, 5]);
    }
}

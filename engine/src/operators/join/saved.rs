//! A join's rows in state files: `left_event_time_ns` or `right_event_time_ns`, `partners`, then the side's columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt32Type};
use arrow::record_batch::RecordBatch;

use super::store::Store;
use crate::error::{Error, Result};

const TIMES: [&str; 2] = ["left_event_time_ns", "right_event_time_ns"];

/// Rows in one batch of a state file.
const ROWS: usize = 64 * 1024;

/// The rows of a store that are there, from row `from` on.
pub(super) fn save(side: usize, store: &Store, from: u32, schema: &SchemaRef, to: &mut Vec<RecordBatch>) -> Result<()> {
    let name = TIMES.get(side).copied().unwrap_or_default();
    let mut fields: Vec<FieldRef> = vec![
        Arc::new(Field::new(name, DataType::Int64, false)),
        Arc::new(Field::new("partners", DataType::UInt32, false)),
    ];
    fields.extend(schema.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))));
    let fields = Arc::new(Schema::new(fields));
    let rows: Vec<u32> = store.iter().map(|(row, _)| row).filter(|row| *row >= from).collect();
    for rows in rows.chunks(ROWS) {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| store.time(*r)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| store.partners(*r)).collect::<UInt32Array>()),
        ];
        let mut places = store.places(rows);
        for column in 0..store.columns() {
            columns.push(places.gather(column)?);
        }
        to.push(RecordBatch::try_new(fields.clone(), columns)?);
    }
    Ok(())
}

/// Rows read back.
pub(super) struct Saved {
    /// Whose.
    pub side: usize,
    /// Their times.
    pub times: Int64Array,
    /// How many partners each had.
    pub partners: UInt32Array,
    /// Their columns.
    pub batch: RecordBatch,
}

/// What [`save`] wrote.
pub(super) fn load(batch: &RecordBatch) -> Result<Saved> {
    let bad = || Error::Corrupt("a join's state file lacks its event time and partners columns".into());
    let name = batch.schema_ref().fields().first().map(|f| f.name().clone()).unwrap_or_default();
    let side = TIMES.iter().position(|t| *t == name).ok_or_else(bad)?;
    let times = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(bad)?;
    let partners = batch.columns().get(1).and_then(|c| c.as_primitive_opt::<UInt32Type>()).ok_or_else(bad)?;
    let rest: Vec<usize> = (2..batch.num_columns()).collect();
    Ok(Saved { side, times: times.clone(), partners: partners.clone(), batch: batch.project(&rest)? })
}

//! `connector = 'ingest'`: the columns in which rejected rows are kept.
//!
//! The rows themselves come through the log; see [`crate::log`] and [`crate::runtime`].

use std::sync::{Arc, LazyLock};

use arrow::array::{BinaryArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::Rejected;
use crate::error::Result;

/// The columns of every `<source>__rejected` table.
pub static REJECTED: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("received_at", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("position", DataType::Int64, false),
        Field::new("code", DataType::Utf8, false),
        Field::new("message", DataType::Utf8, false),
        Field::new("raw", DataType::Binary, false),
        Field::new("rejected_id", DataType::Utf8, true),
    ]))
});

/// The name of the table for a source's rejected rows.
pub fn rejected_table(source: &str) -> String {
    format!("{source}__rejected")
}

/// The column of [`REJECTED`] by which a row that is sent again is known.
pub const REJECTED_ID: usize = 5;

/// Rejected rows as a batch of [`REJECTED`]; `received_at` in nanoseconds since the epoch; `id` names a row so that it
/// is not kept twice when it is sent again.
pub fn rejected_batch(
    rows: &[Rejected],
    received_at: i64,
    id: impl Fn(&Rejected) -> Option<String>,
) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(
        REJECTED.clone(),
        vec![
            Arc::new(TimestampNanosecondArray::from(vec![received_at; rows.len()])),
            Arc::new(rows.iter().map(|r| r.position as i64).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| Some(r.code.as_str())).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| Some(r.message.as_str())).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| Some(r.raw.as_slice())).collect::<BinaryArray>()),
            Arc::new(rows.iter().map(id).collect::<StringArray>()),
        ],
    )?)
}

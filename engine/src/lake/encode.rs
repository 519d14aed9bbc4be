//! Rows to Parquet files, one per day and partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Date32Type, SchemaRef};
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::partition::{Values, split};
use super::statistics::{show_day, statistics};
use super::types::{DAY, align};
use crate::error::{Error, Result};

/// A Parquet file that is on the store but not in its table: readers do not see it before it is committed.
///
/// It is plain data, so that a checkpoint manifest can hold it across a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFile {
    /// Relative to the table's directory: `day=2026-11-23/...parquet`.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// The day of all its rows, in days since the epoch.
    pub day: i32,
    /// The values of the other columns that the table is partitioned by.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub values: Values,
    /// Its rows.
    pub rows: u64,
    /// Delta's statistics, as JSON.
    pub stats: String,
    /// When it was written, in milliseconds since the epoch.
    pub written_at_ms: i64,
}

impl PendingFile {
    /// The action that makes the file part of the table. `data_change` is false when its rows were there before.
    pub(crate) fn add(&self, data_change: bool) -> Result<Add> {
        Ok(Add {
            path: self.path.clone(),
            partition_values: std::iter::once((DAY.to_string(), Some(day_text(self.day)?)))
                .chain(self.values.clone())
                .collect(),
            size: i64::try_from(self.size_bytes).map_err(|_| Error::Bug(format!("{} is too large", self.path)))?,
            modification_time: self.written_at_ms,
            data_change,
            stats: Some(self.stats.clone()),
            ..Add::default()
        })
    }
}

/// A Parquet file in memory and what the log says of it.
pub(crate) struct Encoded {
    pub(crate) day: i32,
    pub(crate) values: Values,
    pub(crate) rows: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stats: String,
    /// Of the bytes: a part of the names of files that replace others, so that equal content is seen as such.
    pub(crate) crc: u32,
}

/// Whether a file's bytes have the checksum that its name ends in. Other writers' names end otherwise.
pub(crate) fn fits_name(path: &str, bytes: &[u8]) -> bool {
    let stem = path.trim_end_matches(".parquet");
    let named = stem.rsplit('-').next().filter(|s| s.len() == 8).and_then(|s| u32::from_str_radix(s, 16).ok());
    named.is_none_or(|crc| crc == crc32fast::hash(bytes))
}

/// `2026-11-23`, or an error for a day outside the calendar.
pub(crate) fn day_text(day: i32) -> Result<String> {
    show_day(day).ok_or_else(|| Error::event("OUT_OF_RANGE", format!("day {day} is outside the calendar")))
}

/// One file per day and partition of the rows, in their order; rows keep theirs. `columns` are those of the partition but
/// for the day.
///
/// Errors: `Event` with code `MISSING_DAY` when a row's day is null, and those of [`align`].
pub(crate) fn encode(
    table: &str,
    schema: &SchemaRef,
    columns: &[String],
    batches: &[RecordBatch],
) -> Result<Vec<Encoded>> {
    let mut days: BTreeMap<i32, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches.iter().filter(|b| b.num_rows() > 0) {
        split_by_day(table, &align(table, batch, schema)?, &mut days)?;
    }
    let mut files = Vec::new();
    for (day, batches) in days {
        let mut parts: BTreeMap<Values, Vec<RecordBatch>> = BTreeMap::new();
        for batch in batches {
            split(batch, columns)?.into_iter().for_each(|(values, part)| parts.entry(values).or_default().push(part));
        }
        for (values, batches) in parts {
            files.push(encode_part(day, values, &batches)?);
        }
    }
    Ok(files)
}

/// Bytes of a row group, about. Whoever reads a file holds one of its row groups, packed, so this is what reading takes however wide a
/// table is and however large its files are.
const ROW_GROUP_BYTES_MAX: usize = 4 << 20;

/// Rows after which the bytes are looked at.
const ROWS_AT_ONCE: usize = 1_024;

/// One Parquet file of rows that have no columns of the partition any more.
pub(crate) fn encode_part(day: i32, values: Values, batches: &[RecordBatch]) -> Result<Encoded> {
    let Some(first) = batches.first() else { return Err(Error::Bug("a Parquet file without rows".into())) };
    let zstd = ZstdLevel::try_new(1)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(zstd))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties))?;
    for batch in batches {
        // The writer looks at bytes between the batches that it is given.
        for start in (0..batch.num_rows()).step_by(ROWS_AT_ONCE) {
            writer.write(&batch.slice(start, ROWS_AT_ONCE.min(batch.num_rows() - start)))?;
        }
    }
    let bytes = writer.into_inner()?;
    let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
    Ok(Encoded { day, values, rows, stats: statistics(batches), crc: crc32fast::hash(&bytes), bytes })
}

/// Appends the rows of an aligned batch, without `day`, to their days.
fn split_by_day(table: &str, batch: &RecordBatch, days: &mut BTreeMap<i32, Vec<RecordBatch>>) -> Result<()> {
    let index = batch.schema_ref().index_of(DAY)?;
    let column = Arc::clone(batch.column(index));
    let values = column
        .as_primitive_opt::<Date32Type>()
        .ok_or_else(|| Error::Bug(format!("column 'day' of '{table}' is {}", column.data_type())))?;
    if values.null_count() > 0 {
        return Err(Error::event(
            "MISSING_DAY",
            format!(
                "a row for table '{table}' has no day; derive it from the event time, CAST(event_time AS DATE) AS day"
            ),
        ));
    }
    let mut rest = batch.clone();
    rest.remove_column(index);
    let least = arrow::compute::min(values);
    if least == arrow::compute::max(values) {
        days.entry(least.unwrap_or_default()).or_default().push(rest);
        return Ok(());
    }
    let mut rows: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (row, day) in (0u32..).zip(values.values().iter()) {
        rows.entry(*day).or_default().push(row);
    }
    for (day, indices) in rows {
        days.entry(day).or_default().push(take_record_batch(&rest, &UInt32Array::from(indices))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use arrow::compute::concat_batches;
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    /// Text that does not pack: each cell is made of what the one before was.
    fn wide(columns: usize, rows: usize) -> RecordBatch {
        let mut state = 88_172_645_463_325_252_u64;
        let mut cell = || {
            let mut digits = String::new();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                digits.push_str(&format!("{state:016x}"));
            }
            digits
        };
        let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
        let texts = names.iter().map(|name| {
            let texts: StringArray = (0..rows).map(|_| Some(cell())).collect();
            (name.as_str(), Arc::new(texts) as ArrayRef)
        });
        RecordBatch::try_from_iter(texts).unwrap()
    }

    #[test]
    fn a_wide_table_has_row_groups_of_bounded_bytes() {
        let rows = wide(60, 12_000);
        let encoded = encode_part(0, Values::new(), std::slice::from_ref(&rows)).unwrap();
        assert!(encoded.bytes.len() > 4 * ROW_GROUP_BYTES_MAX, "{} bytes", encoded.bytes.len());
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(encoded.bytes)).unwrap();
        for group in reader.metadata().row_groups() {
            let bytes = usize::try_from(group.compressed_size()).unwrap();
            assert!(bytes < ROW_GROUP_BYTES_MAX / 2 * 3, "{} rows in {bytes} bytes", group.num_rows());
        }
        let read: Vec<RecordBatch> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
        assert_eq!(concat_batches(&rows.schema(), &read).unwrap(), rows);
    }
}

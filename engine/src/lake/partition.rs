//! The partitions of a table: the day, and the columns that it is also split by. Their values are in the log, not in the files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::encode::day_text;
use super::types::DAY;
use crate::error::{Error, Result};

/// The values of a file's partition columns but for the day, by column, as the log writes them. The protocol has no empty
/// text: it is null.
pub type Values = BTreeMap<String, Option<String>>;

/// Whether a table can be split by columns of this type.
pub fn can_split(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Date32
    ) || data_type.is_integer()
}

/// Columns without those whose values are in the log.
pub(crate) fn in_files(schema: &Schema, columns: &[String]) -> Schema {
    let kept = schema.fields().iter().filter(|f| f.name() != DAY && !columns.contains(f.name()));
    Schema::new(kept.cloned().collect::<Vec<_>>())
}

/// Splits rows by the values of `columns`, which are gone after; rows keep their order.
pub(crate) fn split(batch: RecordBatch, columns: &[String]) -> Result<Vec<(Values, RecordBatch)>> {
    if columns.is_empty() {
        return Ok(vec![(Values::new(), batch)]);
    }
    let mut texts = Vec::with_capacity(columns.len());
    let mut rest = batch;
    for name in columns {
        let index = rest.schema_ref().index_of(name)?;
        texts.push(values(&rest.remove_column(index))?);
    }
    let mut rows: BTreeMap<Vec<&Option<String>>, Vec<u32>> = BTreeMap::new();
    for row in 0..rest.num_rows() {
        let key = texts.iter().filter_map(|column| column.get(row)).collect();
        rows.entry(key).or_default().push(row as u32);
    }
    let parts = rows.into_iter().map(|(key, rows)| {
        let values = columns.iter().cloned().zip(key.into_iter().cloned()).collect();
        Ok((values, take_record_batch(&rest, &UInt32Array::from(rows))?))
    });
    parts.collect()
}

fn values(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let format = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    let text = |row: usize| column.is_valid(row).then(|| format.value(row).to_string()).filter(|text| !text.is_empty());
    Ok((0..column.len()).map(text).collect())
}

/// Where the files of a partition are: `day=2026-11-23/region=eu`. What is no plain word stands as its bytes, so that no reader
/// has anything to decode: the values themselves are in the log.
pub(crate) fn directory(day: i32, values: &Values) -> Result<String> {
    let mut path = format!("{DAY}={}", day_text(day)?);
    for (name, value) in values {
        let value = value.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__");
        let _ = write!(path, "/{}={}", plain(name), plain(value));
    }
    Ok(path)
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars().take(64) {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
            plain.push(c);
        } else {
            let _ = write!(plain, ".{:x}", u32::from(c));
        }
    }
    plain
}

/// That a table is split as its pipeline says.
pub(crate) fn check(table: &str, found: &[String], wanted: &[String]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let show = |columns: &[String]| [&[DAY.to_string()], columns].concat().join(", ");
    Err(Error::Config(format!(
        "table '{table}' in the lake is partitioned by ({}), but its pipeline says ({}); write into another table, or say the same",
        show(found),
        show(wanted)
    )))
}

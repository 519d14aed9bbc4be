//! Arrow IPC streams to batches of a table: the way for bulk, and the one whose bytes are trusted least.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, downcast_dictionary_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::reader::StreamDecoder;
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use millstream::contained::contained;
use millstream::{Error, Result, TableInfo};

use super::columns::{missing, sql_name};
use super::json::unknown_column;
use super::{Decoded, Refusal, Rejected};

/// Text that a dictionary or a view may grow to when it is laid out plainly: they can repeat one long text without bound.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// Decodes an Arrow IPC stream into the columns of `table`, matched by name.
///
/// *Errors*: `MALFORMED_ARROW` for bytes that are no such stream; `UNKNOWN_COLUMN`, `MISSING_COLUMN` and `WRONG_TYPE` if its
/// schema does not fit; `TOO_MANY_ROWS`. A row without event time, with NULL where the table forbids it, or with a value
/// that the column's type cannot hold is no error: it is among the rejected, as JSON.
pub fn decode(table: &TableInfo, stream: Bytes, rows_max: usize) -> Result<Decoded> {
    let batch = contained("the batch", || read(stream, rows_max)).map_err(|e| match e {
        Error::Corrupt(_) => malformed("its parts contradict each other"),
        other => other,
    })?;
    let rows = batch.num_rows();
    let mut refusals: Vec<Option<Refusal>> = Vec::new();
    let fitted = fit(table, &batch, &mut refusals)?;
    if refusals.is_empty() {
        return Ok(Decoded { batch: fitted, rejected: Vec::new(), rows });
    }
    let keep: BooleanBuffer = refusals.iter().map(Option::is_none).collect();
    let mut rejected = Vec::new();
    for (index, refusal) in refusals.into_iter().enumerate() {
        if let Some(refusal) = refusal {
            rejected.push(Rejected { index: index as u32, refusal, raw: json_of(&batch.slice(index, 1)) });
        }
    }
    let kept = filter_record_batch(&fitted, &BooleanArray::new(keep, None))?;
    let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
    let batch = RecordBatch::try_new_with_options(table.schema.clone(), kept.columns().to_vec(), &options)?;
    Ok(Decoded { batch, rejected, rows })
}

fn malformed(what: &str) -> Error {
    Error::event(
        "MALFORMED_ARROW",
        format!("the batch is not a valid Arrow IPC stream: {what}; write it without compression"),
    )
}

/// The batches of the stream as one, still as the producer declared them.
fn read(stream: Bytes, rows_max: usize) -> Result<RecordBatch> {
    let mut buffer = Buffer::from(stream);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    let mut rows = 0_usize;
    while !buffer.is_empty() {
        let Some(batch) = decoder.decode(&mut buffer).map_err(|e| malformed(&e.to_string()))? else { continue };
        rows = rows.saturating_add(batch.num_rows());
        if rows > rows_max {
            return Err(super::too_many_rows(rows, rows_max));
        }
        batches.push(batch);
    }
    decoder.finish().map_err(|e| malformed(&e.to_string()))?;
    let schema = decoder.schema().ok_or_else(|| malformed("it is empty"))?;
    match batches.as_slice() {
        [batch] => Ok(batch.clone()),
        batches => concat_batches(&schema, batches).map_err(|e| malformed(&e.to_string())),
    }
}

/// The batch in the table's columns. `refusals` stays empty, or gets one entry a row.
fn fit(table: &TableInfo, batch: &RecordBatch, refusals: &mut Vec<Option<Refusal>>) -> Result<RecordBatch> {
    let schema = batch.schema();
    let known: Vec<String> = table.schema.fields().iter().map(|field| field.name().clone()).collect();
    for field in schema.fields() {
        if !known.contains(field.name()) {
            return Err(unknown_column(&table.name, field.name(), &known).into());
        }
    }
    let mut arrays = Vec::with_capacity(known.len());
    for field in table.schema.fields() {
        let is_event_time = table.event_time.as_deref() == Some(field.name());
        let required = is_event_time || !field.is_nullable();
        let Some(from) = batch.column_by_name(field.name()) else {
            if required {
                return Err(missing(field.name(), is_event_time).into());
            }
            arrays.push(new_null_array(field.data_type(), batch.num_rows()));
            continue;
        };
        let array = convert(from, field)?;
        let (nulls_before, nulls) = (from.logical_null_count(), array.logical_null_count());
        if nulls > nulls_before || (required && nulls > 0) {
            refuse_rows(from, &array, field, is_event_time, required, refusals);
        }
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    // NULLs in a NOT NULL column are filtered out right after; until then the column is nullable.
    let nullable: Vec<Arc<Field>> =
        table.schema.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    if refusals.is_empty() {
        return Ok(RecordBatch::try_new_with_options(table.schema.clone(), arrays, &options)?);
    }
    let loose = Arc::new(arrow::datatypes::Schema::new(nullable));
    Ok(RecordBatch::try_new_with_options(loose, arrays, &options)?)
}

fn refuse_rows(
    from: &ArrayRef,
    to: &ArrayRef,
    field: &Field,
    is_event_time: bool,
    required: bool,
    refusals: &mut Vec<Option<Refusal>>,
) {
    refusals.resize(from.len(), None);
    let (before, after) = (from.logical_nulls(), to.logical_nulls());
    for (row, refusal) in refusals.iter_mut().enumerate().filter(|(_, refusal)| refusal.is_none()) {
        let is_null = |nulls: &Option<arrow::buffer::NullBuffer>| nulls.as_ref().is_some_and(|n| n.is_null(row));
        if !is_null(&after) {
            continue;
        }
        if !is_null(&before) {
            let message = format!(
                "column {} is {} and cannot hold the row's value; send one that fits",
                field.name(),
                sql_name(field.data_type())
            );
            *refusal = Some(Refusal { code: "WRONG_TYPE", message });
        } else if required {
            *refusal = Some(missing(field.name(), is_event_time));
        }
    }
}

/// `from` in the type of `field`; a value that does not fit becomes NULL.
fn convert(from: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let (is, must) = (from.data_type(), field.data_type());
    if is == must {
        return Ok(from.clone());
    }
    if !lossless(is, must) {
        let name = field.name();
        let message =
            format!("column {name} is {} ({must}) but the batch has {is}; cast it before sending", sql_name(must));
        return Err(Error::event("WRONG_TYPE", message));
    }
    if expanded_bytes(from) > EXPANDED_BYTES_MAX {
        let limit = EXPANDED_BYTES_MAX >> 20;
        let message = format!(
            "column {} holds more than {limit} MiB of text once laid out plainly; send fewer rows a batch",
            field.name()
        );
        return Err(Error::event("TOO_LARGE", message));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    cast_with_options(from, must, &options)
        .map_err(|e| Error::event("WRONG_TYPE", format!("column {}: {e}", field.name())))
}

/// Whether every value of `from` that `to` can hold stays what it is.
fn lossless(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (Dictionary(_, value), to) => {
            !matches!(value.as_ref(), Dictionary(_, _)) && (value.as_ref() == to || lossless(value, to))
        }
        (Null, _) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (Timestamp(_, _), Timestamp(_, _)) | (Date32, Timestamp(_, _)) => true,
        (from, to) if from.is_integer() => to.is_integer() || matches!(to, Float64),
        (Float16 | Float32 | Float64, Float64) | (Float16, Float32) => true,
        _ => false,
    }
}

/// Bytes of text or binary that a dictionary or a view stands for.
fn expanded_bytes(array: &ArrayRef) -> usize {
    fn lengths(values: &dyn Array) -> Vec<usize> {
        match values.data_type() {
            DataType::Utf8 => values.as_string::<i32>().iter().map(|v| v.map_or(0, str::len)).collect(),
            DataType::LargeUtf8 => values.as_string::<i64>().iter().map(|v| v.map_or(0, str::len)).collect(),
            DataType::Utf8View => values.as_string_view().iter().map(|v| v.map_or(0, str::len)).collect(),
            DataType::Binary => values.as_binary::<i32>().iter().map(|v| v.map_or(0, <[u8]>::len)).collect(),
            DataType::LargeBinary => values.as_binary::<i64>().iter().map(|v| v.map_or(0, <[u8]>::len)).collect(),
            DataType::BinaryView => values.as_binary_view().iter().map(|v| v.map_or(0, <[u8]>::len)).collect(),
            _ => Vec::new(),
        }
    }
    let array: &dyn Array = array.as_ref();
    downcast_dictionary_array!(
        array => {
            let lengths = lengths(array.values().as_ref());
            array.keys_iter().flatten().map(|key| lengths.get(key).copied().unwrap_or(0)).sum()
        }
        DataType::Utf8View | DataType::BinaryView => lengths(array).iter().sum(),
        _ => 0,
    )
}

/// A row as JSON, for the rejected table: Arrow has no bytes of a row.
fn json_of(row: &RecordBatch) -> Bytes {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    let written = writer.write(row).and_then(|()| writer.finish());
    let mut text = if written.is_ok() { writer.into_inner() } else { Vec::new() };
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    text.into()
}

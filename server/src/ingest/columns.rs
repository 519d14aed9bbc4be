//! Columns that grow row by row, whatever the rows come from.
//!
//! A row sets only what it carries; a column is padded with NULLs when it is next set, and at the end. So a row costs what it
//! carries and not what the table could hold, and a row that turns out bad is taken back by cutting every column.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampNanosecondArray, new_null_array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{DataType, Field, SchemaRef};
use millstream::{Error, Result};

use super::Refusal;

/// Metadata of a text column that holds one JSON object a row: `json` = `object`.
pub const JSON_METADATA: (&str, &str) = ("json", "object");

/// What a column's values are kept as until the batch is finished.
#[derive(Debug)]
pub(crate) enum Values {
    /// Text of any Arrow layout.
    Text { ends: Vec<i32>, bytes: Vec<u8> },
    /// Integers of any width.
    Int(Vec<i64>),
    /// Floating point of any width.
    Float(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Times of any resolution, in nanoseconds.
    Time(Vec<i64>),
    /// Any other type: one array a row.
    Other(Vec<ArrayRef>),
}

/// One growing column.
#[derive(Debug)]
pub(crate) struct Column {
    /// The table's column.
    pub(crate) field: Arc<Field>,
    /// Whether the text is a JSON object.
    pub(crate) json: bool,
    pub(crate) values: Values,
    nulls: NullBufferBuilder,
    /// Rows that are there, NULLs included.
    len: usize,
}

impl Column {
    fn new(field: Arc<Field>, rows: usize) -> Self {
        use DataType::*;
        let values = match field.data_type() {
            Utf8 | LargeUtf8 | Utf8View => {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                Values::Text { ends, bytes: Vec::with_capacity(rows * 8) }
            }
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => Values::Int(Vec::with_capacity(rows)),
            Float16 | Float32 | Float64 => Values::Float(Vec::with_capacity(rows)),
            Boolean => Values::Bool(Vec::with_capacity(rows)),
            Timestamp(_, _) => Values::Time(Vec::with_capacity(rows)),
            _ => Values::Other(Vec::new()),
        };
        let json = field.metadata().get(JSON_METADATA.0).is_some_and(|v| v == JSON_METADATA.1);
        Self { field, json, values, nulls: NullBufferBuilder::new(rows), len: 0 }
    }

    fn is_set(&self, row: usize) -> bool {
        self.len == row + 1
    }

    /// Appends NULLs up to `row`.
    fn pad(&mut self, row: usize) {
        let missing = row.saturating_sub(self.len);
        if missing == 0 {
            return;
        }
        match &mut self.values {
            Values::Text { ends, .. } => ends.resize(row + 1, ends.last().copied().unwrap_or(0)),
            Values::Int(values) | Values::Time(values) => values.resize(row, 0),
            Values::Float(values) => values.resize(row, 0.0),
            Values::Bool(values) => values.resize(row, false),
            Values::Other(parts) => parts.extend((0..missing).map(|_| new_null_array(self.field.data_type(), 1))),
        }
        self.nulls.append_n_nulls(missing);
        self.len = row;
    }

    /// Takes back every row from `rows` on.
    fn truncate(&mut self, rows: usize) {
        if self.len <= rows {
            return;
        }
        match &mut self.values {
            Values::Text { ends, bytes } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends.last().copied().unwrap_or(0) as usize);
            }
            Values::Int(values) | Values::Time(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Bool(values) => values.truncate(rows),
            Values::Other(parts) => parts.truncate(rows),
        }
        self.nulls.truncate(rows);
        self.len = rows;
    }

    /// Makes ready for a value of `row`; a value that was set for this row before is replaced, as the formats demand.
    fn begin(&mut self, row: usize) {
        if self.is_set(row) {
            self.truncate(row);
        }
        self.pad(row);
    }

    fn end(&mut self) {
        self.nulls.append_non_null();
        self.len += 1;
    }

    /// NULL at `row`.
    pub(crate) fn set_null(&mut self, row: usize) {
        self.begin(row);
    }

    /// Text at `row`, as bytes that are checked to be UTF-8 when the batch is finished.
    pub(crate) fn set_text(&mut self, row: usize, text: &[u8]) {
        self.begin(row);
        if let Values::Text { ends, bytes } = &mut self.values {
            bytes.extend_from_slice(text);
            ends.push(end_of(bytes));
            self.end();
        }
    }

    /// Adds to the text of `row`, or begins it: `write` gets the column's bytes, which end with the text so far, and whether
    /// there is any.
    pub(crate) fn extend_text(&mut self, row: usize, write: impl FnOnce(&mut Vec<u8>, bool)) {
        let more = self.is_set(row);
        if !more {
            self.begin(row);
        }
        let Values::Text { ends, bytes } = &mut self.values else { return };
        write(bytes, more);
        if more {
            ends.pop();
        }
        ends.push(end_of(bytes));
        if !more {
            self.end();
        }
    }

    /// An integer, a truth value (0 is false) or nanoseconds at `row`, as the column is; false if it does not fit.
    pub(crate) fn set_int(&mut self, row: usize, value: i64) -> bool {
        if !int_fits(self.field.data_type(), value) {
            return false;
        }
        self.begin(row);
        match &mut self.values {
            Values::Int(values) | Values::Time(values) => values.push(value),
            Values::Float(values) => values.push(value as f64),
            Values::Bool(values) => values.push(value != 0),
            Values::Text { .. } | Values::Other(_) => return false,
        }
        self.end();
        true
    }

    /// A number at `row`; false if the column is not of floating point.
    pub(crate) fn set_float(&mut self, row: usize, value: f64) -> bool {
        self.begin(row);
        let Values::Float(values) = &mut self.values else { return false };
        values.push(value);
        self.end();
        true
    }

    /// A one-row array of the column's type at `row`.
    pub(crate) fn set_other(&mut self, row: usize, value: ArrayRef) {
        self.begin(row);
        if let Values::Other(parts) = &mut self.values {
            let null = value.is_null(0);
            parts.push(value);
            self.nulls.append(!null);
            self.len += 1;
        }
    }

    fn finish(mut self, rows: usize) -> Result<ArrayRef> {
        self.pad(rows);
        let nulls = self.nulls.finish();
        let array: ArrayRef = match self.values {
            Values::Text { ends, bytes } => Arc::new(StringArray::try_new(
                OffsetBuffer::new(ScalarBuffer::from(ends)),
                Buffer::from_vec(bytes),
                nulls,
            )?),
            Values::Int(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Values::Time(values) => Arc::new(TimestampNanosecondArray::new(values.into(), nulls)),
            Values::Other(parts) if parts.is_empty() => new_null_array(self.field.data_type(), 0),
            Values::Other(parts) => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?,
        };
        if array.data_type() == self.field.data_type() {
            return Ok(array);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(&array, self.field.data_type(), &options)?)
    }
}

/// The end of the last text; a batch is far below two gigabytes, because a request is.
fn end_of(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}

fn int_fits(data_type: &DataType, value: i64) -> bool {
    match data_type {
        DataType::Int8 => i8::try_from(value).is_ok(),
        DataType::Int16 => i16::try_from(value).is_ok(),
        DataType::Int32 => i32::try_from(value).is_ok(),
        DataType::UInt8 => u8::try_from(value).is_ok(),
        DataType::UInt16 => u16::try_from(value).is_ok(),
        DataType::UInt32 => u32::try_from(value).is_ok(),
        DataType::UInt64 => value >= 0,
        _ => true,
    }
}

/// The columns of a batch in the making.
#[derive(Debug)]
pub(crate) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Columns that every row must have.
    required: Vec<usize>,
    event_time: Option<usize>,
    row: usize,
}

impl Columns {
    /// Empty columns of `schema` with room for `rows`; `event_time` names the column that no row may lack.
    pub(crate) fn new(schema: &SchemaRef, event_time: Option<&str>, rows: usize) -> Self {
        let columns: Vec<Column> = schema.fields().iter().map(|field| Column::new(field.clone(), rows)).collect();
        let event_time = event_time.and_then(|name| schema.index_of(name).ok());
        let required =
            (0..columns.len()).filter(|i| Some(*i) == event_time || !schema.field(*i).is_nullable()).collect();
        Self { schema: schema.clone(), columns, required, event_time, row: 0 }
    }

    /// Rows that are finished, and so the number of the row in the making.
    pub(crate) fn row(&self) -> usize {
        self.row
    }

    pub(crate) fn column(&mut self, index: usize) -> Option<&mut Column> {
        self.columns.get_mut(index)
    }

    /// Whether `index` is the event-time column.
    pub(crate) fn is_event_time(&self, index: usize) -> bool {
        self.event_time == Some(index)
    }

    /// Ends the row in the making: keeps it, or takes it back if it is refused or lacks what it must have.
    pub(crate) fn end_row(&mut self, outcome: Result<(), Refusal>) -> Result<(), Refusal> {
        let outcome = outcome.and_then(|()| self.check_row());
        match outcome {
            Ok(()) => self.row += 1,
            Err(_) => self.columns.iter_mut().for_each(|column| column.truncate(self.row)),
        }
        outcome
    }

    fn check_row(&self) -> Result<(), Refusal> {
        for index in &self.required {
            let Some(column) = self.columns.get(*index) else { continue };
            if !column.is_set(self.row) {
                return Err(missing(column.field.name(), self.is_event_time(*index)));
            }
        }
        Ok(())
    }

    /// The batch. *Errors*: `INVALID_UTF8` if a text is not UTF-8.
    pub(crate) fn finish(self) -> Result<RecordBatch> {
        let rows = self.row;
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in self.columns {
            let name = column.field.name().clone();
            arrays.push(column.finish(rows).map_err(|e| Error::event("INVALID_UTF8", format!("column {name}: {e}")))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema, arrays, &options)
            .map_err(|e| Error::Bug(format!("decoded columns do not fit their table: {e}")))
    }
}

/// The refusal of a row that lacks `column`.
pub(crate) fn missing(column: &str, is_event_time: bool) -> Refusal {
    if is_event_time {
        let message = format!("column {column} is missing or null; every event needs the time at which it happened");
        return Refusal { code: "MISSING_EVENT_TIME", message };
    }
    Refusal { code: "MISSING_COLUMN", message: format!("column {column} is missing or null but is NOT NULL; send it") }
}

/// How analysts write a type.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Timestamp(_, _) => "TIMESTAMP".into(),
        DataType::Date32 => "DATE".into(),
        other => other.to_string(),
    }
}

//! The options of `format = 'json'` (`json.*`, `framing`), as Kafka Connect and Debezium know them: how times and
//! decimals stand in the text, and what is around a row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::json::write_lines;
use super::options::Options;
use crate::error::{Error, Result, SqlError};

/// A longer line is rejected, unless `framing.newline.max_length` says otherwise: it is not an event.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How decimals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decimals {
    Number,
    Text,
    /// The digits without the point as a big-endian integer, in base 64.
    Bytes,
}

/// What a line is, if it is not the columns of a row by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// JSON of any shape (`json.unstructured`).
    Json,
    /// Any text (`raw_string`).
    Text,
    /// Any bytes but the end of a line (`raw_bytes`).
    Bytes,
}

/// How lines hold rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonOptions {
    unix_millis: bool,
    decimals: Decimals,
    /// `{"schema": .., "payload": row}` instead of the row.
    include_schema: bool,
    /// The line is the one column `value`.
    pub(super) whole: Option<Whole>,
    /// The longest line that is read.
    pub(super) line_bytes_max: u64,
}

impl Default for JsonOptions {
    fn default() -> Self {
        let line_bytes_max = LINE_BYTES_MAX;
        Self { unix_millis: false, decimals: Decimals::Number, include_schema: false, whole: None, line_bytes_max }
    }
}

impl JsonOptions {
    /// Takes the options of the format.
    pub fn from_options(options: &mut Options) -> Result<Self> {
        let line_bytes_max = framing(options)?;
        if options.boolean("json.confluent_schema_registry")? == Some(true) {
            return Err(Error::Query(SqlError {
                message: "option 'json.confluent_schema_registry' is not supported: nothing here speaks to a registry"
                    .into(),
                fix: Some("drop it, and declare the columns in CREATE TABLE".into()),
                ..SqlError::default()
            }));
        }
        let formats = ["rfc3339", "unix_millis"];
        let decimals = match options.word("json.decimal_encoding", &["number", "string", "bytes"])?.as_deref() {
            Some("string") => Decimals::Text,
            Some("bytes") => Decimals::Bytes,
            _ => Decimals::Number,
        };
        Ok(Self {
            unix_millis: options.word("json.timestamp_format", &formats)?.as_deref() == Some("unix_millis"),
            decimals,
            include_schema: options.boolean("json.include_schema")?.unwrap_or(false),
            whole: options.boolean("json.unstructured")?.unwrap_or(false).then_some(Whole::Json),
            line_bytes_max,
        })
    }

    /// Takes the options of `format = 'raw_string'` and `'raw_bytes'`.
    pub fn raw(options: &mut Options, whole: Whole) -> Result<Self> {
        Ok(Self { whole: Some(whole), line_bytes_max: framing(options)?, ..Self::default() })
    }

    /// Refuses columns that the lines cannot hold; `table` names them.
    pub fn check_columns(&self, table: &str, columns: &Schema) -> Result<()> {
        let Some(whole) = self.whole else { return Ok(()) };
        let (option, wanted, word) = match whole {
            Whole::Json => ("json.unstructured = true", DataType::Utf8, "JSON"),
            Whole::Text => ("format = 'raw_string'", DataType::Utf8, "TEXT"),
            Whole::Bytes => ("format = 'raw_bytes'", DataType::Binary, "BYTEA"),
        };
        match columns.fields().as_ref() {
            [one] if one.name() == "value" && *one.data_type() == wanted => Ok(()),
            _ => Err(Error::Query(SqlError {
                message: format!("table '{table}' with {option} must have exactly one column, value {word}"),
                fix: Some(format!(
                    "declare it as CREATE TABLE {table} (value {word}), and take the line apart in a view"
                )),
                ..SqlError::default()
            })),
        }
    }

    /// The columns as they are decoded from the text, before [`JsonOptions::read`].
    pub(super) fn decoded(&self, schema: &SchemaRef) -> SchemaRef {
        let wire = |t: &DataType| match t {
            DataType::Timestamp(..) if self.unix_millis => DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::Decimal128(..) if self.decimals == Decimals::Bytes => DataType::Utf8,
            other => other.clone(),
        };
        let fields: Fields = schema.fields().iter().map(|f| leaf_types(f, &wire)).collect();
        match self.include_schema {
            true => Arc::new(Schema::new(vec![Field::new("payload", DataType::Struct(fields), false)])),
            false => Arc::new(Schema::new(fields)),
        }
    }

    /// Decoded columns as `schema`.
    pub(super) fn read(&self, batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let columns = match batch.columns() {
            [payload] if self.include_schema => payload.as_struct().columns().to_vec(),
            all => all.to_vec(),
        };
        let columns = columns.iter().zip(schema.fields());
        let columns = columns.map(|(c, f)| leaves(c, f.data_type(), &from_text)).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }

    /// Appends rows as lines.
    pub(super) fn write(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        if self.whole.is_some() {
            return write_values(batch, out);
        }
        let batch = self.as_written(batch)?;
        if !self.include_schema {
            return write_lines(&batch, out);
        }
        let schema = json!({ "type": "struct", "fields": batch.schema_ref().fields().iter().map(connect_field).collect::<Vec<_>>(), "optional": false });
        let mut lines = Vec::new();
        write_lines(&batch, &mut lines)?;
        for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            out.extend_from_slice(format!("{{\"schema\":{schema},\"payload\":").as_bytes());
            out.extend_from_slice(line);
            out.extend_from_slice(b"}\n");
        }
        Ok(())
    }

    fn as_written(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let wire = |t: &DataType| match t {
            DataType::Timestamp(..) if self.unix_millis => DataType::Int64,
            DataType::Decimal128(..) if self.decimals != Decimals::Number => DataType::Utf8,
            other => other.clone(),
        };
        let fields: Fields = batch.schema_ref().fields().iter().map(|f| leaf_types(f, &wire)).collect();
        let to_text = |column: &ArrayRef, to: &DataType| to_text(column, to, self.decimals);
        let columns = batch.columns().iter().zip(&fields);
        let columns = columns.map(|(c, f)| leaves(c, f.data_type(), &to_text)).collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }
}

/// The column `value` as it is, one row a line.
fn write_values(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let Some(column) = batch.columns().first() else {
        return Err(Error::Bug("rows without the column 'value'".into()));
    };
    let column = cast_with_options(column, &DataType::Binary, &strictly())?;
    for value in column.as_binary::<i32>() {
        out.extend_from_slice(value.unwrap_or_default());
        out.push(b'\n');
    }
    Ok(())
}

/// Takes the options of lines; the longest that is read.
fn framing(options: &mut Options) -> Result<u64> {
    options.word("framing", &["newline"])?;
    match options.whole("framing.newline.max_length")? {
        Some(0) => Err(Error::sql("option 'framing.newline.max_length' must be above zero")),
        other => Ok(other.unwrap_or(LINE_BYTES_MAX)),
    }
}

/// A field with the types of its leaves changed.
fn leaf_types(field: &FieldRef, change: &dyn Fn(&DataType) -> DataType) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| leaf_types(f, change)).collect()),
        DataType::List(of) => DataType::List(leaf_types(of, change)),
        other => change(other),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// A column with its leaves brought to type `to` by `change`, where they are not of it.
fn leaves(
    column: &ArrayRef,
    to: &DataType,
    change: &dyn Fn(&ArrayRef, &DataType) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    match (column.data_type(), to) {
        (from, to) if from == to => Ok(column.clone()),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let own = column.as_struct();
            let columns = own.columns().iter().zip(fields).map(|(c, f)| leaves(c, f.data_type(), change));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, own.nulls().cloned())?))
        }
        (DataType::List(_), DataType::List(of)) => {
            let own = column.as_list::<i32>();
            let values = leaves(own.values(), of.data_type(), change)?;
            Ok(Arc::new(ListArray::try_new(of.clone(), own.offsets().clone(), values, own.nulls().cloned())?))
        }
        _ => change(column, to),
    }
}

fn strictly() -> CastOptions<'static> {
    CastOptions { safe: false, ..CastOptions::default() }
}

fn from_text(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let (Some(texts), DataType::Decimal128(precision, scale)) = (column.as_string_opt::<i32>(), to) else {
        return Ok(cast_with_options(column, to, &strictly())?);
    };
    let number = |text: &str| {
        let bytes = BASE64.decode(text).ok().filter(|b| b.len() <= 16);
        let wrong = || Error::event("WRONG_TYPE", format!("'{text}' is not a decimal in base 64"));
        let bytes = bytes.ok_or_else(wrong)?;
        let sign = if bytes.first().is_some_and(|b| b & 0x80 != 0) { -1 } else { 0 };
        Ok::<i128, Error>(bytes.iter().fold(sign, |n, b| (n << 8) | i128::from(*b)))
    };
    let numbers = texts.iter().map(|t| t.map(number).transpose()).collect::<Result<Vec<_>>>()?;
    let numbers = arrow::array::PrimitiveArray::<Decimal128Type>::from_iter(numbers);
    let numbers = numbers.with_precision_and_scale(*precision, *scale)?;
    numbers.validate_decimal_precision(*precision)?;
    Ok(Arc::new(numbers))
}

fn to_text(column: &ArrayRef, to: &DataType, decimals: Decimals) -> Result<ArrayRef> {
    if matches!(column.data_type(), DataType::Timestamp(..)) {
        let millis = cast_with_options(column, &DataType::Timestamp(TimeUnit::Millisecond, None), &strictly())?;
        return Ok(cast_with_options(&millis, to, &strictly())?);
    }
    let (Some(numbers), Decimals::Bytes) = (column.as_primitive_opt::<Decimal128Type>(), decimals) else {
        return Ok(cast_with_options(column, to, &strictly())?);
    };
    let text = |n: i128| {
        let bytes = n.to_be_bytes();
        // As few bytes as hold the number and its sign.
        let fill = if n < 0 { 0xff } else { 0 };
        let surplus = bytes.windows(2).take_while(|w| matches!(w, [a, b] if *a == fill && (b ^ fill) & 0x80 == 0));
        BASE64.encode(bytes.get(surplus.count()..).unwrap_or_default())
    };
    Ok(Arc::new(numbers.iter().map(|n| n.map(text)).collect::<StringArray>()))
}

/// A field as Kafka Connect describes it.
fn connect_field(field: &FieldRef) -> Value {
    let mut described = connect_type(field.data_type());
    if let Value::Object(map) = &mut described {
        map.insert("field".into(), field.name().as_str().into());
        map.insert("optional".into(), field.is_nullable().into());
    }
    described
}

fn connect_type(data_type: &DataType) -> Value {
    let word = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "int8",
        DataType::Int16 | DataType::UInt8 => "int16",
        DataType::Int32 | DataType::UInt16 => "int32",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "int64",
        DataType::Float32 => "float",
        DataType::Float64 | DataType::Decimal128(..) => "double",
        DataType::List(of) => return json!({ "type": "array", "items": connect_type(of.data_type()) }),
        DataType::Struct(fields) => {
            return json!({ "type": "struct", "fields": fields.iter().map(connect_field).collect::<Vec<_>>() });
        }
        // Times are texts unless they are numbers already; bytes are hexadecimal texts.
        _ => "string",
    };
    json!({ "type": word })
}

//! Avro object container files, columns by name.

use std::fs::File;
use std::io::BufReader;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow_avro::compression::CompressionCodec;
use arrow_avro::reader::{Reader, ReaderBuilder};
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer, WriterBuilder};

use super::options::Options;
use super::{Read, Source};
use crate::error::{Error, Result, SqlError};

/// Rows decoded together.
const ROWS: usize = 8192;

/// Refuses the options of Avro that have no meaning in a file.
pub fn refuse_options(options: &mut Options) -> Result<()> {
    for (option, fix) in [
        ("avro.raw_datums", "drop it: a file holds its schema, which is read"),
        ("avro.confluent_schema_registry", "drop it: a file holds its schema, and nothing here speaks to a registry"),
        (
            "avro.into_unstructured_json",
            "drop it, and declare the columns that you need; STRUCT and arrays are read as such",
        ),
    ] {
        if options.boolean(option)? == Some(true) {
            return Err(Error::Query(SqlError {
                message: format!("option '{option}' is not supported for files"),
                fix: Some(fix.into()),
                ..SqlError::default()
            }));
        }
    }
    Ok(())
}

/// Reads blocks in order. A column that the table declares is cast to its type.
pub struct AvroSource {
    input: Reader<BufReader<File>>,
    name: String,
    schema: SchemaRef,
    columns: Vec<usize>,
}

impl AvroSource {
    /// A source over `file`, called `name` in errors.
    pub fn new(file: File, name: String, schema: SchemaRef) -> Result<Self> {
        let input = ReaderBuilder::new()
            .with_batch_size(ROWS)
            .build(BufReader::with_capacity(1 << 18, file))
            .map_err(|e| Error::Corrupt(format!("{name} is not a readable Avro file: {e}")))?;
        let have = input.schema();
        let find = |f: &FieldRef| {
            have.index_of(f.name()).map_err(|_| {
                let known = have.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
                Error::event("UNKNOWN_COLUMN", format!("{name} has no column '{}'; it has: {known}", f.name()))
            })
        };
        let columns = schema.fields().iter().map(find).collect::<Result<_>>()?;
        Ok(Self { input, name, schema, columns })
    }
}

impl Source for AvroSource {
    fn read(&mut self) -> Result<Read> {
        let Some(batch) = self.input.next() else { return Ok(Read::default()) };
        let batch = batch.map_err(|e| Error::Corrupt(format!("{}: {e}", self.name)))?;
        let fields = self.columns.iter().zip(self.schema.fields());
        let columns = fields.map(|(at, f)| column(&batch, *at, f.data_type())).collect::<Result<Vec<_>>>()?;
        let whole = RecordBatch::try_new(self.schema.clone(), columns);
        let whole = whole.map_err(|e| Error::event("WRONG_TYPE", format!("{}: {e}", self.name)))?;
        Ok(Read { batch: Some(whole), ..Read::default() })
    }
}

fn column(batch: &RecordBatch, at: usize, to: &DataType) -> Result<ArrayRef> {
    let Some(column) = batch.columns().get(at) else { return Ok(new_null_array(to, batch.num_rows())) };
    let strictly = CastOptions { safe: false, ..CastOptions::default() };
    // A time with a zone is the same instant in UTC.
    Ok(cast_with_options(column, to, &strictly)?)
}

/// A writer of a container file, its blocks packed with deflate, which every reader of Avro knows.
pub fn writer(file: File, schema: &Schema) -> Result<Writer<File, AvroOcfFormat>> {
    WriterBuilder::new(stored(schema)).with_compression(Some(CompressionCodec::Deflate)).build(file).map_err(told)
}

/// Writes rows, in the types that Avro has.
pub fn write(writer: &mut Writer<File, AvroOcfFormat>, batch: &RecordBatch) -> Result<()> {
    let schema = stored(batch.schema_ref());
    let strictly = CastOptions { safe: false, ..CastOptions::default() };
    let fields = batch.columns().iter().zip(schema.fields());
    let columns = fields.map(|(c, f)| cast_with_options(c, f.data_type(), &strictly)).collect::<Result<Vec<_>, _>>()?;
    writer.write(&RecordBatch::try_new(schema.into(), columns)?).map_err(told)
}

/// Ends a file.
pub fn finish(mut writer: Writer<File, AvroOcfFormat>) -> Result<File> {
    writer.finish().map_err(told)?;
    Ok(writer.into_inner())
}

fn told(e: impl std::fmt::Display) -> Error {
    Error::Storage(format!("Avro: {e}"))
}

/// The types that Avro has: integers are 32 or 64 bits and signed, times are microseconds in UTC.
fn stored(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(stored_field).collect::<Vec<_>>())
}

fn stored_field(field: &FieldRef) -> Field {
    let data_type = match field.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(stored_field).collect()),
        DataType::List(of) => DataType::List(stored_field(of).into()),
        other => other.clone(),
    };
    field.as_ref().clone().with_data_type(data_type)
}

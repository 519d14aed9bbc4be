//! Rows as text or bytes: an aligned table, CSV, JSON, Parquet. Every face and the command line use these.

use std::io::Write;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, JsonFormat, LineDelimited};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use clap::ValueEnum;
use millstream::{Error, Result};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An aligned table for people.
    Table,
    /// RFC 4180 with a header.
    Csv,
    /// One JSON array of objects.
    Json,
    /// One Parquet file.
    Parquet,
}

/// ISO 8601 in UTC, with as many fractional digits as the value has.
const TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// Writes `batches` as `format`.
pub fn write(format: Format, schema: &SchemaRef, batches: &[RecordBatch], out: &mut dyn Write) -> Result<()> {
    match format {
        Format::Table => write_table(batches, out),
        Format::Csv => out.write_all(csv(schema, batches)?.as_bytes()).map_err(output_error),
        Format::Json => {
            out.write_all(&json(batches)?).map_err(output_error)?;
            out.write_all(b"\n").map_err(output_error)
        }
        Format::Parquet => write_parquet(schema, batches, out),
    }
}

fn write_table(batches: &[RecordBatch], out: &mut dyn Write) -> Result<()> {
    let options = FormatOptions::default().with_null("NULL");
    let table = pretty_format_batches_with_options(batches, &options)?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let noun = if rows == 1 { "row" } else { "rows" };
    writeln!(out, "{table}\n{rows} {noun}").map_err(output_error)
}

fn write_parquet(schema: &SchemaRef, batches: &[RecordBatch], out: &mut dyn Write) -> Result<()> {
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema.clone(), None)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    out.write_all(&bytes).map_err(output_error)
}

/// CSV by RFC 4180: CRLF, a header, UTF-8, times in ISO 8601, an empty cell for NULL.
pub fn csv(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    crate::adapt::csv(schema, batches)
}

/// A JSON array of objects; NULL is `null`, times are ISO 8601 in UTC.
pub fn json(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    write_json::<JsonArray>(batches)
}

/// One JSON object a line.
pub fn json_lines(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    write_json::<LineDelimited>(batches)
}

fn write_json<F: JsonFormat>(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_format(TIMESTAMP.to_string())
        .with_timestamp_tz_format(TIMESTAMP.to_string())
        .build::<_, F>(Vec::new());
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner())
}

/// The Arrow IPC stream of an answer, for programs that want its exact types.
pub fn arrow_stream(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// Reads what [`arrow_stream`] wrote.
pub fn read_arrow_stream(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let reader = arrow::ipc::reader::StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok((schema, batches))
}

fn output_error(e: std::io::Error) -> Error {
    Error::Storage(format!("cannot write the answer: {e}"))
}

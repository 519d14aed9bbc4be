//! Parquet files, columns by name.

use std::fs::File;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::options::Options;
use super::{Read, Source};
use crate::contained::contained;
use crate::error::{Error, Result};

/// Rows decoded together.
const ROWS: usize = 8192;

/// How Parquet files are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParquetOptions {
    compression: Option<Compression>,
    row_group_rows: Option<usize>,
}

impl ParquetOptions {
    /// Takes `parquet.compression` and `parquet.row_group_size` (rows).
    pub fn from_options(options: &mut Options) -> Result<Self> {
        let compression = match options.word("parquet.compression", &["none", "uncompressed", "snappy", "zstd"])? {
            Some(word) if word == "snappy" => Some(Compression::SNAPPY),
            Some(word) if word == "zstd" => Some(Compression::ZSTD(ZstdLevel::default())),
            Some(_) => Some(Compression::UNCOMPRESSED),
            None => None,
        };
        let row_group_rows = match options.whole("parquet.row_group_size")? {
            Some(0) => return Err(Error::sql("option 'parquet.row_group_size' must be above zero")),
            rows => rows.and_then(|n| usize::try_from(n).ok()),
        };
        Ok(Self { compression, row_group_rows })
    }

    /// As the writer takes them: unpacked unless told otherwise.
    pub fn properties(&self) -> WriterProperties {
        let properties =
            WriterProperties::builder().set_compression(self.compression.unwrap_or(Compression::UNCOMPRESSED));
        match self.row_group_rows {
            Some(rows) => properties.set_max_row_group_row_count(Some(rows)).build(),
            None => properties.build(),
        }
    }
}

/// Reads row groups in order, only the columns that the table declares.
pub struct ParquetSource {
    input: ParquetRecordBatchReader,
    name: String,
    schema: SchemaRef,
}

impl ParquetSource {
    /// A source over `file`, called `name` in errors. Columns are cast to the declared types.
    pub fn new(file: File, name: String, schema: SchemaRef) -> Result<Self> {
        let opened = contained(&name, || Ok(ParquetRecordBatchReaderBuilder::try_new(file)?));
        let builder = opened.map_err(|e| Error::Corrupt(format!("{name} is not a readable Parquet file: {e}")))?;
        let have = builder.schema().clone();
        let mut wanted = Vec::new();
        for field in schema.fields() {
            let Some((at, _)) = have.column_with_name(field.name()) else {
                let known = have.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::event(
                    "UNKNOWN_COLUMN",
                    format!("{name} has no column '{}'; it has: {known}", field.name()),
                ));
            };
            wanted.push(at);
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let input = builder.with_projection(mask).with_batch_size(ROWS).build()?;
        Ok(Self { input, name, schema })
    }
}

impl Source for ParquetSource {
    fn read(&mut self) -> Result<Read> {
        let input = &mut self.input;
        let Some(batch) = contained(&self.name, || Ok(input.next()))? else { return Ok(Read::default()) };
        let batch = batch.map_err(|e| Error::Corrupt(format!("{}: {e}", self.name)))?;
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|f| {
                let column =
                    batch.column_by_name(f.name()).ok_or_else(|| Error::Bug("a projected column is missing".into()))?;
                Ok(if column.data_type() == f.data_type() { column.clone() } else { cast(column, f.data_type())? })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Read { batch: Some(RecordBatch::try_new(self.schema.clone(), columns)?), ..Read::default() })
    }
}

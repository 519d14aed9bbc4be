//! `METADATA FROM 'key'`: what a connector knows of a row beside the row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::single_file::Format;
use super::{Connector, Read, Source};
use crate::error::Result;

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// The file's path, as the table names it.
    Path,
    /// The line of a text file, from 1.
    Line,
    /// The row of a file without lines, from 1.
    Row,
    /// Who sent the row.
    Producer,
    /// The log entry that holds the row.
    Offset,
    /// When the row arrived.
    ReceivedAt,
}

impl Metadata {
    /// Its key in `METADATA FROM`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Line => "line",
            Self::Row => "row",
            Self::Producer => "producer",
            Self::Offset => "offset",
            Self::ReceivedAt => "received_at",
        }
    }

    /// The type of its column.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Path | Self::Producer => DataType::Utf8,
            Self::Line | Self::Row | Self::Offset => DataType::Int64,
            Self::ReceivedAt => DataType::Timestamp(TimeUnit::Nanosecond, None),
        }
    }

    /// All that a connector's rows have.
    pub fn of(connector: &Connector) -> &'static [Self] {
        match connector {
            Connector::Ingest => &[Self::Producer, Self::Offset, Self::ReceivedAt],
            Connector::SingleFile(file) => match file.format {
                Format::Lines | Format::Csv => &[Self::Path, Self::Line],
                Format::Parquet | Format::Avro => &[Self::Path, Self::Row],
            },
            _ => &[],
        }
    }
}

/// The place of a batch in the log.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Who sent it.
    pub producer: &'a str,
    /// The log entry.
    pub offset: u64,
    /// When it arrived, nanoseconds since the epoch.
    pub received_at: i64,
}

impl Origin<'_> {
    /// One column for a batch of `rows` rows.
    pub fn column(&self, what: Metadata, rows: usize) -> ArrayRef {
        match what {
            Metadata::Offset => Arc::new(Int64Array::from(vec![self.offset as i64; rows])),
            Metadata::ReceivedAt => Arc::new(TimestampNanosecondArray::from(vec![self.received_at; rows])),
            Metadata::Producer => Arc::new(StringArray::from(vec![self.producer; rows])),
            other => arrow::array::new_null_array(&other.data_type(), rows),
        }
    }
}

/// A file's rows with metadata columns after the others.
pub struct WithMetadata {
    inner: Box<dyn Source>,
    path: String,
    metadata: Vec<Metadata>,
    schema: SchemaRef,
    rows: u64,
}

impl WithMetadata {
    /// `columns` are those of `inner`; the metadata columns have the names of `fields`.
    pub fn new(inner: Box<dyn Source>, path: String, columns: &Schema, fields: &[(Field, Metadata)]) -> Self {
        let all = columns.fields().iter().cloned().chain(fields.iter().map(|(f, _)| Arc::new(f.clone())));
        let schema = Arc::new(Schema::new(all.collect::<Vec<_>>()));
        Self { inner, path, metadata: fields.iter().map(|(_, m)| *m).collect(), schema, rows: 0 }
    }
}

impl Source for WithMetadata {
    fn read(&mut self) -> Result<Read> {
        let mut read = self.inner.read()?;
        let Some(batch) = read.batch.take() else { return Ok(read) };
        let rows = batch.num_rows();
        let column = |what: &Metadata| -> ArrayRef {
            match what {
                Metadata::Path => Arc::new(StringArray::from(vec![self.path.as_str(); rows])),
                Metadata::Line => Arc::new(read.positions.iter().map(|p| *p as i64).collect::<Int64Array>()),
                _ => Arc::new((1..=rows).map(|n| (self.rows + n as u64) as i64).collect::<Int64Array>()),
            }
        };
        let columns = batch.columns().iter().cloned().chain(self.metadata.iter().map(column)).collect();
        self.rows += rows as u64;
        read.batch = Some(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(read)
    }
}

//! `connector = 'single_file'`: one file, read once from front to back or written in full.
//!
//! Formats: `json`, `raw_string`, `raw_bytes` (lines), `csv`, `parquet`, `avro`; `.gz` is unpacked. Reading restarts by skipping the rows already
//! covered by the checkpoint, so the file must not change in between.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use arrow::datatypes::{Field, SchemaRef};
use flate2::read::MultiGzDecoder;

use super::Source;
use super::avro::{self, AvroSource};
use super::csv::CsvSource;
use super::json::JsonSource;
use super::json_options::{JsonOptions, Whole};
use super::metadata::{Metadata, WithMetadata};
use super::options::Options;
use super::parquet::{ParquetOptions, ParquetSource};
use crate::error::{Error, Result};

const FORMATS: [&str; 6] = ["json", "csv", "parquet", "avro", "raw_string", "raw_bytes"];

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines: one JSON object in each, or anything.
    Lines,
    /// Comma-separated, with or without a header.
    Csv,
    /// Parquet.
    Parquet,
    /// Avro object container files.
    Avro,
}

/// The options of a file.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// Where it is; relative to the working directory.
    pub path: PathBuf,
    /// How it is laid out.
    pub format: Format,
    /// How lines hold rows.
    pub lines: JsonOptions,
    /// How Parquet is written.
    pub parquet: ParquetOptions,
    /// Packed with gzip.
    pub gzip: bool,
    /// Whether a CSV file has a header line.
    pub header: bool,
    /// The CSV delimiter.
    pub delimiter: u8,
    /// Rows a second at most, for reading.
    pub rate_limit: Option<f64>,
    /// Whether a row that cannot be decoded stops the run (`bad_data = 'fail'`) or goes to `<table>__rejected`.
    pub fail_on_bad_data: bool,
}

impl FileOptions {
    /// Takes the connector's options.
    pub fn from_options(options: &mut Options) -> Result<Self> {
        let Some(path) = options.text("path")? else {
            return Err(Error::sql("connector 'single_file' needs the option path = '...'"));
        };
        let (format, lines) = match options.word("format", &FORMATS)?.as_deref() {
            Some("csv") => (Format::Csv, JsonOptions::default()),
            Some("parquet") => (Format::Parquet, JsonOptions::default()),
            Some("avro") => (Format::Avro, JsonOptions::default()),
            Some("raw_string") => (Format::Lines, JsonOptions::raw(options, Whole::Text)?),
            Some("raw_bytes") => (Format::Lines, JsonOptions::raw(options, Whole::Bytes)?),
            Some("json") => (Format::Lines, JsonOptions::from_options(options)?),
            _ => {
                let known = FORMATS.join(", ");
                return Err(Error::sql(format!("connector 'single_file' needs the option format, one of: {known}")));
            }
        };
        let packing = match format {
            Format::Lines => options.word("json.compression", &["gzip", "none", "uncompressed"])?,
            _ => None,
        };
        let packing = packing.or(options.word("compression", &["gzip", "none"])?);
        let gzip = match packing {
            Some(word) => word == "gzip",
            None => path.ends_with(".gz"),
        };
        if gzip && matches!(format, Format::Parquet | Format::Avro) {
            return Err(Error::sql("option 'compression' is for text; Parquet and Avro files are packed inside"));
        }
        let parquet = match format {
            Format::Parquet => ParquetOptions::from_options(options)?,
            _ => ParquetOptions::default(),
        };
        if format == Format::Avro {
            avro::refuse_options(options)?;
        }
        let header = options.boolean("csv.header")?.unwrap_or(true);
        let delimiter = match options.text("csv.delimiter")?.as_deref() {
            None => b',',
            Some("\\t" | "tab") => b'\t',
            Some(text) => match text.as_bytes() {
                [one] => *one,
                _ => return Err(Error::sql("option 'csv.delimiter' must be one ASCII character or 'tab'")),
            },
        };
        Ok(Self {
            path: path.into(),
            format,
            lines,
            parquet,
            gzip,
            header,
            delimiter,
            rate_limit: options.positive("rate_limit")?,
            fail_on_bad_data: options.word("bad_data", &["fail", "drop", "reject"])?.as_deref() == Some("fail"),
        })
    }

    /// Opens the file for reading `schema`'s columns, then those of metadata.
    pub fn open_with(&self, schema: SchemaRef, metadata: &[(Field, Metadata)]) -> Result<Box<dyn Source>> {
        let inner = self.open(schema.clone())?;
        if metadata.is_empty() {
            return Ok(inner);
        }
        Ok(Box::new(WithMetadata::new(inner, self.path.display().to_string(), &schema, metadata)))
    }

    /// Opens the file for reading `schema`'s columns.
    pub fn open(&self, schema: SchemaRef) -> Result<Box<dyn Source>> {
        let name = self.path.display().to_string();
        let file = open(&self.path)?;
        match self.format {
            Format::Parquet => return Ok(Box::new(ParquetSource::new(file, name, schema)?)),
            Format::Avro => return Ok(Box::new(AvroSource::new(file, name, schema)?)),
            Format::Lines | Format::Csv => {}
        }
        let input: Box<dyn std::io::Read + Send> =
            if self.gzip { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        match self.format {
            Format::Csv => Ok(Box::new(CsvSource::new(input, name, schema, self.header, self.delimiter)?)),
            _ => {
                let input = BufReader::with_capacity(1 << 20, input);
                Ok(Box::new(JsonSource::new(input, name, schema, self.lines.clone())))
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let mut file = File::open(path).map_err(|e| {
        Error::Config(format!("cannot open {}: {e}; paths are relative to the working directory", path.display()))
    })?;
    // A directory opens, but does not read.
    file.read(&mut []).map_err(|e| Error::Config(format!("cannot read {}: {e}", path.display())))?;
    Ok(file)
}

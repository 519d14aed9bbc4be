//! `connector = 'single_file'`: one file, read once from front to back or written in full.
//!
//! Formats: `json` (lines), `csv`, `parquet`; `.gz` is unpacked. Reading restarts by skipping the rows already
//! covered by the checkpoint, so the file must not change in between.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use flate2::read::MultiGzDecoder;

use super::Source;
use super::csv::CsvSource;
use super::json::JsonSource;
use super::options::Options;
use super::parquet::ParquetSource;
use crate::error::{Error, Result};

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Comma-separated, with or without a header.
    Csv,
    /// Parquet.
    Parquet,
}

/// The options of a file.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// Where it is; relative to the working directory.
    pub path: PathBuf,
    /// How it is laid out.
    pub format: Format,
    /// Packed with gzip, for reading.
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
        let format = match options.word("format", &["json", "csv", "parquet"])?.as_deref() {
            Some("csv") => Format::Csv,
            Some("parquet") => Format::Parquet,
            Some(_) => Format::Json,
            None => return Err(Error::sql("connector 'single_file' needs the option format: json, csv or parquet")),
        };
        let gzip = match options.word("compression", &["gzip", "none"])? {
            Some(word) => word == "gzip",
            None => path.ends_with(".gz"),
        };
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
            gzip,
            header,
            delimiter,
            rate_limit: options.positive("rate_limit")?,
            fail_on_bad_data: options.word("bad_data", &["fail", "drop", "reject"])?.as_deref() == Some("fail"),
        })
    }

    /// Opens the file for reading `schema`'s columns.
    pub fn open(&self, schema: SchemaRef) -> Result<Box<dyn Source>> {
        let name = self.path.display().to_string();
        let file = open(&self.path)?;
        if self.format == Format::Parquet {
            return Ok(Box::new(ParquetSource::new(file, name, schema)?));
        }
        let input: Box<dyn std::io::Read + Send> =
            if self.gzip { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        match self.format {
            Format::Csv => Ok(Box::new(CsvSource::new(input, name, schema, self.header, self.delimiter)?)),
            _ => Ok(Box::new(JsonSource::new(BufReader::with_capacity(1 << 20, input), name, schema))),
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

//! Writing one file. JSON and CSV grow in place and are cut back to the last checkpoint after a crash; a Parquet file
//! cannot be cut, so its rows wait in part files beside it and become the file at the end.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::Sink;
use super::json::write_lines;
use super::single_file::{FileOptions, Format};
use crate::error::{Error, Result};
use crate::message::Rows;

/// A file of JSON lines or CSV.
pub struct TextSink {
    path: PathBuf,
    csv: bool,
    header: bool,
    schema: SchemaRef,
    file: Option<BufWriter<File>>,
    length: u64,
}

/// A sink for the file's format. Nothing is touched before the first row, checkpoint or restore.
pub fn open(options: &FileOptions, schema: SchemaRef) -> Box<dyn Sink> {
    match options.format {
        Format::Parquet => Box::new(ParquetSink { path: options.path.clone(), schema, part: None, parts: 0 }),
        format => Box::new(TextSink {
            path: options.path.clone(),
            csv: format == Format::Csv,
            header: options.header,
            schema,
            file: None,
            length: 0,
        }),
    }
}

impl TextSink {
    /// The file, cut to `length`, which the last checkpoint covers.
    fn file(&mut self) -> Result<&mut BufWriter<File>> {
        if self.file.is_none() {
            let at = |e| Error::file(&self.path, "write", e);
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path).map_err(at)?;
            let have = file.metadata().map_err(at)?.len();
            if have < self.length {
                let message = format!(
                    "{} has {have} bytes but the checkpoint covers {}; it was changed by someone else",
                    self.path.display(),
                    self.length
                );
                return Err(Error::Corrupt(message));
            }
            file.set_len(self.length).map_err(at)?;
            file.seek(SeekFrom::End(0)).map_err(at)?;
            self.file = Some(BufWriter::with_capacity(1 << 18, file));
            if self.length == 0 && self.csv && self.header {
                let empty = arrow::array::RecordBatch::new_empty(self.schema.clone());
                self.append(&empty, true)?;
            }
        }
        self.file.as_mut().ok_or_else(|| Error::Bug("a file vanished".into()))
    }

    fn append(&mut self, batch: &arrow::array::RecordBatch, header: bool) -> Result<()> {
        let mut text = Vec::new();
        if self.csv {
            WriterBuilder::new().with_header(header).build(&mut text).write(batch)?;
        } else {
            write_lines(batch, &mut text)?;
        }
        self.length += text.len() as u64;
        let path = self.path.clone();
        self.file()?.write_all(&text).map_err(|e| Error::file(&path, "write", e))
    }
}

impl Sink for TextSink {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        self.file()?;
        self.append(&rows.batch, false)
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        let path = self.path.clone();
        let file = self.file()?;
        file.flush().and_then(|()| file.get_ref().sync_data()).map_err(|e| Error::file(&path, "sync", e))?;
        Ok(json!({ "length": self.length }))
    }

    fn restore(&mut self, prepared: &Value) -> Result<()> {
        self.length = prepared.get("length").and_then(Value::as_u64).unwrap_or(0);
        self.file = None;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.prepare(0).map(drop)
    }
}

/// A Parquet file.
struct ParquetSink {
    path: PathBuf,
    schema: SchemaRef,
    part: Option<ArrowWriter<File>>,
    parts: u64,
}

impl ParquetSink {
    fn part_path(&self, part: u64) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".part-{part:06}"));
        self.path.with_file_name(name)
    }

    fn create(&self, path: &PathBuf) -> Result<ArrowWriter<File>> {
        let file = File::create(path).map_err(|e| Error::file(path, "create", e))?;
        Ok(ArrowWriter::try_new(file, self.schema.clone(), None)?)
    }
}

impl Sink for ParquetSink {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        if self.part.is_none() {
            self.part = Some(self.create(&self.part_path(self.parts))?);
        }
        let batch = rows.batch.clone().with_schema(self.schema.clone())?;
        self.part.as_mut().map_or(Ok(()), |w| Ok(w.write(&batch)?))
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        if let Some(writer) = self.part.take() {
            let path = self.part_path(self.parts);
            let file = writer.into_inner()?;
            file.sync_data().map_err(|e| Error::file(&path, "sync", e))?;
            self.parts += 1;
        }
        Ok(json!({ "parts": self.parts }))
    }

    fn restore(&mut self, prepared: &Value) -> Result<()> {
        self.parts = prepared.get("parts").and_then(Value::as_u64).unwrap_or(0);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.prepare(0)?;
        let mut whole = self.create(&self.path)?;
        for part in 0..self.parts {
            let path = self.part_path(part);
            let file = File::open(&path).map_err(|e| Error::file(&path, "open", e))?;
            for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
                whole.write(&batch?)?;
            }
        }
        let file = whole.into_inner()?;
        file.sync_data().map_err(|e| Error::file(&self.path, "sync", e))?;
        for part in 0..self.parts {
            let path = self.part_path(part);
            std::fs::remove_file(&path).map_err(|e| Error::file(&path, "remove", e))?;
        }
        Ok(())
    }
}

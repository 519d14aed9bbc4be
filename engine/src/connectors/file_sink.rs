//! Writing one file. Text grows in place and is cut back to the last checkpoint after a crash; a Parquet or Avro file
//! cannot be cut, so its rows wait in part files beside it and become the file at the end.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow_avro::writer::Writer;
use arrow_avro::writer::format::AvroOcfFormat;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::Sink;
use super::avro;
use super::single_file::{FileOptions, Format};
use crate::error::{Error, Result};
use crate::message::Rows;

/// Text that waits before it is packed: smaller pieces pack badly.
const PACKED_BYTES: usize = 1 << 20;

/// A file of lines or CSV. Packed, it is a chain of gzip members, none of them across a checkpoint.
pub struct TextSink {
    path: PathBuf,
    options: FileOptions,
    schema: SchemaRef,
    file: Option<BufWriter<File>>,
    length: u64,
    /// Text that is not in the file yet, if it is packed.
    waiting: Vec<u8>,
}

/// A sink for the file's format. Nothing is touched before the first row, checkpoint or restore.
pub fn open(options: &FileOptions, schema: SchemaRef) -> Box<dyn Sink> {
    match options.format {
        Format::Parquet | Format::Avro => {
            Box::new(PartsSink { path: options.path.clone(), options: options.clone(), schema, part: None, parts: 0 })
        }
        Format::Csv | Format::Lines => Box::new(TextSink {
            path: options.path.clone(),
            options: options.clone(),
            schema,
            file: None,
            length: 0,
            waiting: Vec::new(),
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
            if self.length == 0 && self.options.format == Format::Csv && self.options.header {
                let empty = RecordBatch::new_empty(self.schema.clone());
                self.append(&empty, true)?;
            }
        }
        self.file.as_mut().ok_or_else(|| Error::Bug("a file vanished".into()))
    }

    fn append(&mut self, batch: &RecordBatch, header: bool) -> Result<()> {
        let mut text = Vec::new();
        match self.options.format {
            Format::Csv => WriterBuilder::new().with_header(header).build(&mut text).write(batch)?,
            _ => self.options.lines.write(batch, &mut text)?,
        }
        if !self.options.gzip {
            return self.put(&text);
        }
        self.waiting.extend_from_slice(&text);
        if self.waiting.len() >= PACKED_BYTES { self.pack() } else { Ok(()) }
    }

    /// Appends what waits, packed.
    fn pack(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let at = |e| Error::file(&self.path, "pack", e);
        let mut member = GzEncoder::new(Vec::new(), Compression::default());
        member.write_all(&self.waiting).map_err(at)?;
        let packed = member.finish().map_err(at)?;
        self.waiting.clear();
        self.put(&packed)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        let path = self.path.clone();
        self.file()?.write_all(bytes).map_err(|e| Error::file(&path, "write", e))
    }
}

impl Sink for TextSink {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        self.file()?;
        self.append(&rows.batch, false)
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        self.file()?;
        self.pack()?;
        let path = self.path.clone();
        let file = self.file()?;
        file.flush().and_then(|()| file.get_ref().sync_data()).map_err(|e| Error::file(&path, "sync", e))?;
        Ok(json!({ "length": self.length }))
    }

    fn restore(&mut self, prepared: &Value) -> Result<()> {
        self.length = prepared.get("length").and_then(Value::as_u64).unwrap_or(0);
        self.file = None;
        self.waiting.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.prepare(0).map(drop)
    }
}

/// A file with an end that cannot be cut: Parquet or Avro.
struct PartsSink {
    path: PathBuf,
    options: FileOptions,
    schema: SchemaRef,
    part: Option<Part>,
    parts: u64,
}

enum Part {
    Parquet(Box<ArrowWriter<File>>),
    Avro(Box<Writer<File, AvroOcfFormat>>),
}

impl Part {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(w) => Ok(w.write(batch)?),
            Self::Avro(w) => avro::write(w, batch),
        }
    }

    fn finish(self) -> Result<File> {
        match self {
            Self::Parquet(w) => Ok(w.into_inner()?),
            Self::Avro(w) => avro::finish(*w),
        }
    }
}

impl PartsSink {
    fn part_path(&self, part: u64) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".part-{part:06}"));
        self.path.with_file_name(name)
    }

    fn create(&self, path: &PathBuf) -> Result<Part> {
        let file = File::create(path).map_err(|e| Error::file(path, "create", e))?;
        if self.options.format == Format::Avro {
            return Ok(Part::Avro(Box::new(avro::writer(file, &self.schema)?)));
        }
        let properties = self.options.parquet.properties();
        Ok(Part::Parquet(Box::new(ArrowWriter::try_new(file, self.schema.clone(), Some(properties))?)))
    }

    /// The rows of a part, in the columns of the sink.
    fn append_part(&self, path: &Path, whole: &mut Part) -> Result<()> {
        let mut rows = FileOptions { path: path.to_path_buf(), ..self.options.clone() }.open(self.schema.clone())?;
        while let Some(batch) = rows.read()?.batch {
            whole.write(&batch)?;
        }
        Ok(())
    }
}

impl Sink for PartsSink {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        if self.part.is_none() {
            self.part = Some(self.create(&self.part_path(self.parts))?);
        }
        let batch = rows.batch.clone().with_schema(self.schema.clone())?;
        self.part.as_mut().map_or(Ok(()), |w| w.write(&batch))
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        if let Some(writer) = self.part.take() {
            let path = self.part_path(self.parts);
            let file = writer.finish()?;
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
            self.append_part(&path, &mut whole)?;
        }
        let file = whole.finish()?;
        file.sync_data().map_err(|e| Error::file(&self.path, "sync", e))?;
        for part in 0..self.parts {
            let path = self.part_path(part);
            std::fs::remove_file(&path).map_err(|e| Error::file(&path, "remove", e))?;
        }
        Ok(())
    }
}

//! A file of rows as batches for ingest: JSON lines, CSV or Parquet, gz too.
//!
//! Batches are cut by rows and bytes alone, never by time, so the same file always gives the same batches.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, StringArray};
use arrow::csv::reader::Format as CsvFormat;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use millstream::{Error, Result};
use millstream_proto::v1::event_batch::Events;
use millstream_proto::v1::{ArrowRows, JsonRows};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use crate::{format, ingest};

/// Rows of one batch at most.
const BATCH_ROWS_MAX: usize = 5_000;

/// Bytes of one batch at most, well under the server's 4 MiB; a single longer row goes alone.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// CSV rows by which the types of a declared table's columns are guessed.
const INFERRED_ROWS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    JsonLines,
    Csv,
    Parquet,
}

/// One file, for one table.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    table: String,
    kind: Kind,
    gz: bool,
    bytes: u64,
}

/// Rows for one request.
#[derive(Debug)]
pub struct Chunk {
    /// The rows.
    pub events: Events,
    /// How many.
    pub rows: u64,
    /// Bytes of the file read so far.
    pub position: u64,
}

impl Source {
    /// Looks at the file; its format is told by its name.
    pub fn open(path: &Path, table: &str) -> Result<Self> {
        let bytes = std::fs::metadata(path)
            .map_err(|e| Error::Config(format!("cannot read {}: {e}; name an existing file", path.display())))?
            .len();
        let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        let (gz, plain) = name.strip_suffix(".gz").map_or((false, name.as_str()), |plain| (true, plain));
        let kind = match plain.rsplit_once('.').map(|(_, ending)| ending) {
            Some("jsonl" | "ndjson" | "json") => Kind::JsonLines,
            Some("csv") => Kind::Csv,
            Some("parquet") if !gz => Kind::Parquet,
            _ => {
                let fix = "name it .jsonl, .ndjson, .json, .csv (each also .gz) or .parquet";
                return Err(Error::Config(format!("{} has no known format; {fix}", path.display())));
            }
        };
        Ok(Self { path: path.to_path_buf(), table: table.to_string(), kind, gz, bytes })
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A name that the same content always has.
    pub fn producer(&self) -> Result<String> {
        let mut file = self.file()?;
        let mut hash = Sha256::new();
        std::io::copy(&mut file, &mut hash).map_err(|e| self.unreadable(&e))?;
        let digits: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        Ok(format!("file:{}:{name}:{digits}", self.table))
    }

    /// Reads everything; `send` returns false to stop.
    pub fn read(&self, mut send: impl FnMut(Chunk) -> bool) -> Result<()> {
        match self.kind {
            Kind::JsonLines => self.read_json_lines(&mut send),
            Kind::Csv => self.read_csv(&mut send),
            Kind::Parquet => self.read_parquet(&mut send),
        }
    }

    fn file(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| self.unreadable(&e))
    }

    fn unreadable(&self, e: &dyn std::fmt::Display) -> Error {
        Error::Config(format!("cannot read {}: {e}", self.path.display()))
    }

    /// The text of the file, unpacked, and how many bytes of the file it took.
    fn text(&self) -> Result<(Box<dyn BufRead>, Arc<AtomicU64>)> {
        let position = Arc::new(AtomicU64::new(0));
        let counted = Counted { file: self.file()?, position: position.clone() };
        let text: Box<dyn BufRead> = if self.gz {
            Box::new(BufReader::new(MultiGzDecoder::new(counted)))
        } else {
            Box::new(BufReader::new(counted))
        };
        Ok((text, position))
    }

    fn read_json_lines(&self, send: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        let (mut text, position) = self.text()?;
        let mut batch = JsonBatch::new(&self.table);
        loop {
            let mut line = Vec::new();
            if text.read_until(b'\n', &mut line).map_err(|e| self.unreadable(&e))? == 0 {
                break;
            }
            let trimmed = line.trim_ascii();
            if trimmed.is_empty() {
                continue;
            }
            let row = Bytes::copy_from_slice(trimmed);
            if !batch.push(row, &position, send) {
                return Ok(());
            }
        }
        batch.finish(&position, send);
        Ok(())
    }

    fn read_csv(&self, send: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        let header = CsvFormat::default().with_header(true);
        let inferred = header.infer_schema(self.text()?.0, Some(INFERRED_ROWS));
        let (inferred, _) = inferred.map_err(|e| self.unreadable(&e))?;
        let kinds = cell_kinds(&self.table, &inferred)?;
        let texts: Vec<Field> = inferred.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
        let (text, position) = self.text()?;
        let reader = arrow::csv::ReaderBuilder::new(Arc::new(Schema::new(texts)))
            .with_header(true)
            .with_batch_size(BATCH_ROWS_MAX)
            .build_buffered(text)
            .map_err(|e| self.unreadable(&e))?;
        let mut batch = JsonBatch::new(&self.table);
        for rows in reader {
            let rows = rows.map_err(|e| self.unreadable(&e))?;
            for row in csv_rows(&rows, &kinds)? {
                if !batch.push(row, &position, send) {
                    return Ok(());
                }
            }
        }
        batch.finish(&position, send);
        Ok(())
    }

    fn read_parquet(&self, send: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(self.file()?).map_err(|e| self.unreadable(&e))?;
        let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
        let reader = builder.with_batch_size(BATCH_ROWS_MAX).build().map_err(|e| self.unreadable(&e))?;
        let mut done = 0;
        for rows in reader {
            let rows = rows.map_err(|e| self.unreadable(&e))?;
            for piece in pieces(rows) {
                done += piece.num_rows() as u64;
                let ipc_stream = Bytes::from(format::arrow_stream(&piece.schema(), std::slice::from_ref(&piece))?);
                let events = Events::Arrow(ArrowRows { table: self.table.clone(), ipc_stream });
                let share = u128::from(self.bytes) * u128::from(done) / u128::from(total);
                let position = u64::try_from(share).unwrap_or(self.bytes);
                if !send(Chunk { events, rows: piece.num_rows() as u64, position }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Counts the bytes that are read.
struct Counted {
    file: File,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.position.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Rows that wait for a full request.
struct JsonBatch<'a> {
    table: &'a str,
    rows: Vec<Bytes>,
    bytes: usize,
}

impl<'a> JsonBatch<'a> {
    fn new(table: &'a str) -> Self {
        Self { table, rows: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, row: Bytes, position: &AtomicU64, send: &mut dyn FnMut(Chunk) -> bool) -> bool {
        let full = self.rows.len() >= BATCH_ROWS_MAX || self.bytes + row.len() > BATCH_BYTES_MAX;
        if full && !self.finish(position, send) {
            return false;
        }
        self.bytes += row.len();
        self.rows.push(row);
        true
    }

    fn finish(&mut self, position: &AtomicU64, send: &mut dyn FnMut(Chunk) -> bool) -> bool {
        if self.rows.is_empty() {
            return true;
        }
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        let count = rows.len() as u64;
        let events = Events::Json(JsonRows { table: self.table.to_string(), rows });
        send(Chunk { events, rows: count, position: position.load(Ordering::Relaxed) })
    }
}

/// A batch in pieces whose memory is about a request's.
fn pieces(rows: RecordBatch) -> Vec<RecordBatch> {
    let count = rows.num_rows();
    let wanted = rows.get_array_memory_size().div_ceil(BATCH_BYTES_MAX).clamp(1, count.max(1));
    let step = count.div_ceil(wanted).max(1);
    (0..count).step_by(step).map(|start| rows.slice(start, step.min(count - start))).collect()
}

/// How the cells of a CSV column are written as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Text,
    Number,
    Boolean,
}

/// By the table's columns where they are known here (typed events), else by what the cells look like.
fn cell_kinds(table: &str, inferred: &Schema) -> Result<Vec<Cell>> {
    let known = match ingest::MESSAGES.iter().find(|(_, name)| *name == table) {
        Some((message, _)) => Some(ingest::schema_of(message)?),
        None => None,
    };
    let kind = |data_type: &DataType| match data_type {
        DataType::Boolean => Cell::Boolean,
        t if t.is_numeric() => Cell::Number,
        _ => Cell::Text,
    };
    let kinds = inferred.fields().iter().map(|field| {
        let known = known.as_ref().and_then(|schema| schema.field_with_name(field.name()).ok());
        kind(known.map_or(field.data_type(), |known| known.data_type()))
    });
    Ok(kinds.collect())
}

/// Each row as a JSON object without its empty cells. A cell that is not what its column should be stays text: the server
/// refuses that row alone and says why.
fn csv_rows(rows: &RecordBatch, kinds: &[Cell]) -> Result<Vec<Bytes>> {
    let schema = rows.schema();
    let json = |text: &str| serde_json::to_string(text).map_err(|e| Error::Bug(e.to_string()));
    let mut columns: Vec<(String, &StringArray, Cell)> = Vec::new();
    for ((field, column), kind) in schema.fields().iter().zip(rows.columns()).zip(kinds) {
        let text = column.as_string_opt::<i32>().ok_or_else(|| Error::Bug("a CSV column that is not text".into()))?;
        columns.push((json(field.name())?, text, *kind));
    }
    let mut out = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        let mut object = String::from("{");
        for (name, column, kind) in &columns {
            if column.is_null(row) {
                continue;
            }
            let cell = column.value(row);
            if object.len() > 1 {
                object.push(',');
            }
            object.push_str(name);
            object.push(':');
            match (kind, cell.trim().parse::<i64>(), cell.trim().parse::<f64>()) {
                (Cell::Number, Ok(number), _) => object.push_str(&number.to_string()),
                (Cell::Number, _, Ok(number)) if number.is_finite() => object.push_str(&number.to_string()),
                (Cell::Boolean, ..) if matches!(cell.to_ascii_lowercase().as_str(), "true" | "false") => {
                    object.push_str(&cell.to_ascii_lowercase());
                }
                _ => object.push_str(&json(cell)?),
            }
        }
        object.push('}');
        out.push(Bytes::from(object));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(name: &str, bytes: &[u8], table: &str) -> Vec<String> {
        let dir = std::env::temp_dir().join(format!("millstream-rows-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        let source = Source::open(&path, table).unwrap();
        source
            .read(|chunk| {
                let Events::Json(json) = chunk.events else { panic!("JSON rows") };
                rows.extend(json.rows.iter().map(|row| String::from_utf8(row.to_vec()).unwrap()));
                true
            })
            .unwrap();
        assert_eq!(source.producer().unwrap(), Source::open(&path, table).unwrap().producer().unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
        rows
    }

    #[test]
    fn csv_cells_become_what_the_column_is() {
        let csv = b"event_id,user_id,tokens,event_time\ne1,7,12,2026-11-23T00:00:00Z\n\"e,2\",,many,\n";
        assert_eq!(
            read("ide.csv", csv, "ide_events"),
            [
                r#"{"event_id":"e1","user_id":"7","tokens":12,"event_time":"2026-11-23T00:00:00Z"}"#,
                r#"{"event_id":"e,2","tokens":"many"}"#,
            ],
            "user_id is text in the table, and the row with a wrong number is left to the server"
        );
        assert_eq!(
            read("t.csv", b"a,b,c\n1,x,true\n2.5,,FALSE\n", "t"),
            [r#"{"a":1,"b":"x","c":true}"#, r#"{"a":2.5,"c":false}"#]
        );
    }

    #[test]
    fn json_lines_may_be_packed() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"{\"a\":1}\n\n {\"a\":2}\r\n").unwrap();
        assert_eq!(read("t.jsonl.gz", &gz.finish().unwrap(), "t"), [r#"{"a":1}"#, r#"{"a":2}"#]);
    }

    #[test]
    fn batches_are_cut_by_rows_and_bytes() {
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(600_000));
        let dir = std::env::temp_dir().join(format!("millstream-rows-{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&dir, long.repeat(3) + &"{}\n".repeat(5_001)).unwrap();
        let mut sizes = Vec::new();
        Source::open(&dir, "t")
            .unwrap()
            .read(|chunk| {
                sizes.push(chunk.rows);
                true
            })
            .unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(sizes, [1, 1, 5_000, 2]);
    }

    #[test]
    fn an_unknown_ending_tells_the_known_ones() {
        let error = Source::open(Path::new(env!("CARGO_MANIFEST_PATH")), "t").unwrap_err().to_string();
        assert!(error.contains("no known format; name it .jsonl"), "{error}");
    }
}

//! JSON lines: decoding straight into Arrow, and writing.

use std::io::BufRead;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::json::writer::{LineDelimited, WriterBuilder};

use super::{Read, Rejected, Source};
use crate::error::{Error, Result};

/// Lines decoded together.
const LINES: usize = 8192;

/// A longer line is rejected: it is not an event.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads JSON objects, one a line; unknown fields are skipped, missing ones are null.
pub struct JsonSource<R> {
    input: R,
    name: String,
    schema: SchemaRef,
    line: u64,
}

impl<R: BufRead + Send> JsonSource<R> {
    /// A source over `input`, called `name` in errors.
    pub fn new(input: R, name: String, schema: SchemaRef) -> Self {
        Self { input, name, schema, line: 0 }
    }
}

impl<R: BufRead + Send> Source for JsonSource<R> {
    fn read(&mut self) -> Result<Read> {
        let mut text = Vec::with_capacity(1 << 20);
        let mut ends = Vec::with_capacity(LINES);
        let first = self.line + 1;
        while ends.len() < LINES {
            let start = text.len();
            let n = self
                .input
                .read_until(b'\n', &mut text)
                .map_err(|e| Error::Storage(format!("cannot read {} after line {}: {e}", self.name, self.line)))?;
            if n == 0 {
                break;
            }
            self.line += 1;
            if text.len() - start > LINE_BYTES_MAX {
                return Err(Error::Storage(format!(
                    "{}:{}: a line of over {LINE_BYTES_MAX} bytes; is it one JSON object a line?",
                    self.name, self.line
                )));
            }
            ends.push(text.len());
        }
        if ends.is_empty() {
            return Ok(Read::default());
        }
        if let Ok(batch) = decode(&self.schema, &text, ends.len()) {
            return Ok(Read { batch: Some(batch), rejected: Vec::new() });
        }
        self.read_each(&text, &ends, first)
    }
}

impl<R: BufRead> JsonSource<R> {
    /// Line by line, to find the bad ones.
    fn read_each(&self, text: &[u8], ends: &[usize], first: u64) -> Result<Read> {
        let mut rejected = Vec::new();
        let mut batches = Vec::new();
        let mut start = 0;
        for (i, end) in ends.iter().enumerate() {
            let line = text.get(start..*end).unwrap_or_default();
            start = *end;
            match decode(&self.schema, line, 1) {
                Ok(batch) => batches.push(batch),
                Err(e) => rejected.push(Rejected {
                    position: first + i as u64,
                    code: code_of(line).to_string(),
                    message: format!("{}:{}: {e}", self.name, first + i as u64),
                    raw: line.trim_ascii_end().to_vec(),
                }),
            }
        }
        let batch = arrow::compute::concat_batches(&self.schema, &batches)?;
        Ok(Read { batch: Some(batch), rejected })
    }
}

fn code_of(line: &[u8]) -> &'static str {
    match serde_json::from_slice::<serde_json::Value>(line) {
        Ok(_) => "WRONG_TYPE",
        Err(_) => "MALFORMED_JSON",
    }
}

fn decode(schema: &SchemaRef, text: &[u8], lines: usize) -> std::result::Result<RecordBatch, String> {
    let clean = |e: arrow::error::ArrowError| e.to_string().trim_start_matches("Json error: ").to_string();
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(lines).build_decoder().map_err(clean)?;
    let mut at = 0;
    while at < text.len() {
        let n = decoder.decode(text.get(at..).unwrap_or_default()).map_err(clean)?;
        if n == 0 {
            break;
        }
        at += n;
    }
    match decoder.flush().map_err(clean)? {
        Some(batch) => Ok(batch),
        None => Ok(RecordBatch::new_empty(schema.clone())),
    }
}

/// Appends rows as JSON lines: timestamps RFC 3339 in UTC, nulls left out.
pub fn write_lines(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    if batch.columns().iter().all(|c| c.is_empty()) && batch.num_rows() == 0 {
        return Ok(());
    }
    let mut writer = WriterBuilder::new().build::<_, LineDelimited>(out);
    writer.write(batch)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn bad_lines_are_rejected_with_their_number_and_the_rest_is_kept() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let text = b"{\"a\":1}\n{\"a\":\"x\"}\nnot json\n{}\n{\"a\":2,\"b\":3}\n";
        let mut source = JsonSource::new(&text[..], "in.json".into(), schema);
        let read = source.read().unwrap();
        assert_eq!(read.batch.unwrap().num_rows(), 2);
        let rejected: Vec<_> = read.rejected.iter().map(|r| (r.position, r.code.as_str(), r.raw.clone())).collect();
        assert_eq!(rejected.len(), 3);
        assert_eq!(rejected[0], (2, "WRONG_TYPE", b"{\"a\":\"x\"}".to_vec()));
        assert_eq!((rejected[1].0, rejected[1].1), (3, "MALFORMED_JSON"));
        assert_eq!((rejected[2].0, rejected[2].1), (4, "WRONG_TYPE"));
        assert!(source.read().unwrap().batch.is_none());
    }
}

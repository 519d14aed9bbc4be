//! JSON lines: decoding straight into Arrow, and writing.

use std::io::{BufRead, Read as _};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryBuilder, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::ReaderBuilder;
use arrow::json::writer::{LineDelimited, WriterBuilder};

use super::json_options::{JsonOptions, Whole};
use super::{Read, Rejected, Source};
use crate::error::{Error, Result};

/// Lines decoded together.
const LINES: usize = 8192;

/// How much of a line that is too long is kept among the rejected rows.
const CUT_BYTES: usize = 1024;

/// Reads JSON objects, one a line; unknown fields are skipped, missing ones are null.
pub struct JsonSource<R> {
    input: R,
    name: String,
    schema: SchemaRef,
    options: JsonOptions,
    line: u64,
    /// The memory of the text of the last read.
    text: Vec<u8>,
}

/// The lines of one read: the text, where each line ends, and which one it is.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    ends: Vec<(u64, usize)>,
    rejected: Vec<Rejected>,
}

impl<R: BufRead + Send> JsonSource<R> {
    /// A source over `input`, called `name` in errors.
    pub fn new(input: R, name: String, schema: SchemaRef, options: JsonOptions) -> Self {
        Self { input, name, schema, options, line: 0, text: Vec::new() }
    }

    fn lines(&mut self) -> Result<Lines> {
        let mut lines = Lines { text: std::mem::take(&mut self.text), ..Lines::default() };
        lines.text.clear();
        while lines.ends.len() + lines.rejected.len() < LINES {
            let start = lines.text.len();
            let most = self.options.line_bytes_max;
            let n = (&mut self.input).take(most + 1).read_until(b'\n', &mut lines.text);
            let n = n.map_err(|e| self.unreadable(&e))? as u64;
            if n == 0 {
                break;
            }
            self.line += 1;
            if n <= most || lines.text.ends_with(b"\n") {
                lines.ends.push((self.line, lines.text.len()));
                continue;
            }
            self.skip_line().map_err(|e| self.unreadable(&e))?;
            let end = lines.text.len().min(start + CUT_BYTES);
            lines.rejected.push(Rejected {
                position: self.line,
                code: "LINE_TOO_LONG".into(),
                message: format!(
                    "{}:{}: a line of over {most} bytes, of which the first {} are kept; if it is one event, raise \
                     'framing.newline.max_length'",
                    self.name,
                    self.line,
                    end - start
                ),
                raw: lines.text.get(start..end).unwrap_or_default().to_vec(),
            });
            lines.text.truncate(start);
        }
        Ok(lines)
    }

    fn unreadable(&self, e: &std::io::Error) -> Error {
        Error::Storage(format!("cannot read {} after line {}: {e}", self.name, self.line))
    }

    /// Passes over the rest of a line.
    fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let text = self.input.fill_buf()?;
            let (length, end) = match text.iter().position(|b| *b == b'\n') {
                Some(at) => (at + 1, true),
                None => (text.len(), text.is_empty()),
            };
            self.input.consume(length);
            if end {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead + Send> Source for JsonSource<R> {
    fn read(&mut self) -> Result<Read> {
        let lines = self.lines()?;
        if lines.ends.is_empty() && lines.rejected.is_empty() {
            return Ok(Read::default());
        }
        if lines.rejected.is_empty()
            && let Ok(batch) = self.decode(&lines.text, lines.ends.len())
        {
            // Lines that hold no row would shift the others.
            if batch.num_rows() == lines.ends.len() {
                let positions = lines.ends.iter().map(|(number, _)| *number).collect();
                self.text = lines.text;
                return Ok(Read { batch: Some(batch), positions, ..Read::default() });
            }
        }
        self.read_each(lines)
    }
}

impl<R: BufRead> JsonSource<R> {
    /// Line by line, to find the bad ones.
    fn read_each(&self, lines: Lines) -> Result<Read> {
        let Lines { text, ends, mut rejected } = lines;
        let (mut batches, mut positions) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (number, end) in ends {
            let line = text.get(start..end).unwrap_or_default();
            start = end;
            match self.decode(line, 1) {
                Ok(batch) => {
                    positions.extend(std::iter::repeat_n(number, batch.num_rows()));
                    batches.push(batch);
                }
                Err(e) => rejected.push(Rejected {
                    position: number,
                    code: self.code_of(line).to_string(),
                    message: format!("{}:{number}: {e}", self.name),
                    raw: line.trim_ascii_end().to_vec(),
                }),
            }
        }
        rejected.sort_by_key(|r| r.position);
        let batch = arrow::compute::concat_batches(&self.schema, &batches)?;
        Ok(Read { batch: Some(batch), rejected, positions })
    }

    fn code_of(&self, line: &[u8]) -> &'static str {
        if self.options.whole.is_some_and(|w| w != Whole::Json) {
            return "INVALID_UTF8";
        }
        match serde_json::from_slice::<serde_json::Value>(line) {
            Ok(_) => "WRONG_TYPE",
            Err(_) => "MALFORMED_JSON",
        }
    }

    fn decode(&self, text: &[u8], lines: usize) -> std::result::Result<RecordBatch, String> {
        if let Some(whole) = self.options.whole {
            return whole_lines(&self.schema, text, whole);
        }
        let batch = decode(&self.options.decoded(&self.schema), text, lines)?;
        let told = |e: Error| match e {
            Error::Event { message, .. } => message,
            other => other.to_string(),
        };
        self.options.read(batch, &self.schema).map_err(told)
    }
}

/// Each line as the one value of a row.
fn whole_lines(schema: &SchemaRef, text: &[u8], whole: Whole) -> std::result::Result<RecordBatch, String> {
    let mut values = BinaryBuilder::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if whole == Whole::Json {
            serde_json::from_slice::<serde::de::IgnoredAny>(line).map_err(|e| e.to_string())?;
        }
        values.append_value(line);
    }
    let mut column: ArrayRef = Arc::new(values.finish());
    if whole != Whole::Bytes {
        let strictly = CastOptions { safe: false, ..CastOptions::default() };
        column = cast_with_options(&column, &DataType::Utf8, &strictly).map_err(|_| "not UTF-8".to_string())?;
    }
    RecordBatch::try_new(schema.clone(), vec![column]).map_err(|e| e.to_string())
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
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn bad_lines_are_rejected_with_their_number_and_the_rest_is_kept() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let text = b"{\"a\":1}\n{\"a\":\"x\"}\nnot json\n{}\n{\"a\":2,\"b\":3}\n";
        let mut source = JsonSource::new(&text[..], "in.json".into(), schema, JsonOptions::default());
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

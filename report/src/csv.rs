//! CSV after RFC 4180, batch by batch at constant memory. In: record batches of one schema. Out: bytes to any writer.
//! It never looks at a locale: decimals have a point, no thousands separator, times are ISO 8601 in UTC.

mod cell;

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};

use crate::{Error, Result};
use cell::{Cells, write_quoted};

/// What may be asked of a CSV beyond RFC 4180. The default suits programs; people with spreadsheets want both on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CsvOptions {
    /// Begin with the byte order mark, by which Excel recognises UTF-8.
    pub bom: bool,
    /// Put `'` before text (and column names) that begins with `=`, `+`, `-`, `@`, TAB or CR, which a spreadsheet
    /// would run as a formula. Numbers are left as they are.
    pub formula_guard: bool,
}

/// Bytes gathered before they are handed to the writer; with one row and one batch, all the memory this uses.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes record batches of one schema as CSV: a header row, then a line per row, each ended by CR LF.
///
/// | type | written as |
/// |---|---|
/// | NULL | nothing; an empty text is `""`, so that the two differ |
/// | text | quoted only when it holds `"`, `,`, CR or LF, with quotes doubled |
/// | integers, decimals, booleans | `-5`, `12.50`, `true` |
/// | floats | shortest text that reads back the same: `0.1`, `1e300`, `NaN`, `inf` |
/// | timestamps | `2026-07-07T10:00:00Z`, fractions only where there are any; a time without a zone is taken as UTC |
/// | dates, times of day | `2026-07-07`, `10:00:00` |
/// | lists, structs, maps | JSON, quoted |
/// | binary | lower-case hex |
/// | dictionaries | their values |
///
/// ```
/// # use std::sync::Arc;
/// # use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
/// # use millstream_report::{CsvOptions, CsvWriter};
/// # fn main() -> millstream_report::Result<()> {
/// let agent: ArrayRef = Arc::new(StringArray::from(vec![Some("Ada, \"the first\""), None]));
/// let calls: ArrayRef = Arc::new(Int64Array::from(vec![3, 5]));
/// let batch = RecordBatch::try_from_iter([("agent", agent), ("calls", calls)])?;
///
/// let mut csv = CsvWriter::new(Vec::new(), &batch.schema(), CsvOptions::default())?;
/// csv.write(&batch)?;
/// let (rows, bytes) = csv.finish()?;
/// assert_eq!(rows, 2);
/// assert_eq!(bytes, b"agent,calls\r\n\"Ada, \"\"the first\"\"\",3\r\n,5\r\n");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CsvWriter<W: Write> {
    out: W,
    options: CsvOptions,
    types: Vec<DataType>,
    buffer: String,
    rows: u64,
}

impl<W: Write> CsvWriter<W> {
    /// Begins a CSV: writes the byte order mark, if asked for, and the header row.
    ///
    /// # Errors
    /// The writer failed.
    pub fn new(out: W, schema: &Schema, options: CsvOptions) -> Result<Self> {
        let mut buffer = String::with_capacity(BUFFER_BYTES + 4 * 1024);
        if options.bom {
            buffer.push('\u{feff}');
        }
        for (i, field) in schema.fields().iter().enumerate() {
            if i > 0 {
                buffer.push(',');
            }
            write_quoted(&mut buffer, field.name(), options.formula_guard);
        }
        buffer.push_str("\r\n");
        let types = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let mut csv = Self { out, options, types, buffer, rows: 0 };
        csv.flush_buffer()?;
        Ok(csv)
    }

    /// Writes every row of a batch; all of it has reached the writer when this returns.
    ///
    /// # Errors
    /// The batch has other column types than the schema, a time lies outside the calendar, or the writer failed.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let schema = batch.schema();
        let types = schema.fields().iter().map(|f| f.data_type());
        if !types.clone().eq(&self.types) {
            return Err(Error::Input(format!(
                "a batch with columns {:?} came into a CSV of columns {:?}; write batches of one schema",
                types.collect::<Vec<_>>(),
                self.types
            )));
        }
        let cells = Cells::of(batch)?;
        let mut columns = cells.columns(self.options.formula_guard)?;
        for row in 0..batch.num_rows() {
            for (i, column) in columns.iter_mut().enumerate() {
                if i > 0 {
                    self.buffer.push(',');
                }
                column.write(row, &mut self.buffer)?;
            }
            self.buffer.push_str("\r\n");
            if self.buffer.len() >= BUFFER_BYTES {
                self.out.write_all(self.buffer.as_bytes())?;
                self.buffer.clear();
            }
        }
        self.rows += batch.num_rows() as u64;
        self.flush_buffer()
    }

    /// The writer, for instance to send on and empty a `Vec` between batches.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Flushes the writer; gives the rows written, without the header, and the writer back.
    ///
    /// # Errors
    /// The writer failed.
    pub fn finish(mut self) -> Result<(u64, W)> {
        self.out.flush()?;
        Ok((self.rows, self.out))
    }

    fn flush_buffer(&mut self) -> Result<()> {
        self.out.write_all(self.buffer.as_bytes())?;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! CSV files: fields by the header's names, cast column by column; a row that does not cast is rejected by line.

use std::collections::BTreeMap;
use std::io::Read as IoRead;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};

use super::{Read, Rejected, Source};
use crate::error::{Error, Result};

/// Rows decoded together.
const ROWS: usize = 8192;

/// Reads records. An empty field is null.
pub struct CsvSource<R: IoRead> {
    input: csv::Reader<R>,
    name: String,
    schema: SchemaRef,
    /// For each column of the schema, its field in a record.
    fields: Vec<usize>,
    fields_max: usize,
}

impl<R: IoRead + Send> CsvSource<R> {
    /// A source over `input`, called `name` in errors; without a header the fields are in the order of the columns.
    pub fn new(input: R, name: String, schema: SchemaRef, header: bool, delimiter: u8) -> Result<Self> {
        let mut input =
            csv::ReaderBuilder::new().has_headers(header).delimiter(delimiter).flexible(true).from_reader(input);
        let count = schema.fields().len();
        let (fields, fields_max) = if header {
            let names =
                input.headers().map_err(|e| Error::Storage(format!("cannot read the header of {name}: {e}")))?.clone();
            let find =
                |wanted: &str| names.iter().position(|n| n.trim_start_matches('\u{feff}').eq_ignore_ascii_case(wanted));
            let fields = schema
                .fields()
                .iter()
                .map(|f| {
                    find(f.name()).ok_or_else(|| {
                        let known = names.iter().collect::<Vec<_>>().join(", ");
                        Error::event(
                            "UNKNOWN_COLUMN",
                            format!("{name} has no column '{}'; its header names: {known}", f.name()),
                        )
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            (fields, names.len())
        } else {
            ((0..count).collect(), count)
        };
        Ok(Self { input, name, schema, fields, fields_max })
    }
}

impl<R: IoRead + Send> Source for CsvSource<R> {
    fn read(&mut self) -> Result<Read> {
        let mut builders: Vec<StringBuilder> = self.fields.iter().map(|_| StringBuilder::new()).collect();
        let mut records = Vec::new();
        let mut rejected = Vec::new();
        let mut record = csv::ByteRecord::new();
        let mut seen = 0;
        while seen < ROWS {
            let line = self.input.position().line();
            match self.input.read_byte_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Err(Error::Storage(format!("cannot read {} near line {line}: {e}", self.name))),
            }
            seen += 1;
            let line = record.position().map_or(line, |p| p.line());
            let bad = if record.len() != self.fields_max {
                Some(("MALFORMED_CSV", format!("{} fields, but {} are expected", record.len(), self.fields_max)))
            } else if std::str::from_utf8(record.as_slice()).is_err() {
                Some(("INVALID_UTF8", "not UTF-8".to_string()))
            } else {
                None
            };
            if let Some((code, what)) = bad {
                rejected.push(self.reject(line, code, &what, &record));
                continue;
            }
            for (builder, field) in builders.iter_mut().zip(&self.fields) {
                match record.get(*field).and_then(|f| std::str::from_utf8(f).ok()).filter(|f| !f.is_empty()) {
                    Some(text) => builder.append_value(text),
                    None => builder.append_null(),
                }
            }
            records.push((line, record.clone()));
        }
        if seen == 0 {
            return Ok(Read::default());
        }
        let texts: Vec<ArrayRef> = builders.into_iter().map(|mut b| Arc::new(b.finish()) as ArrayRef).collect();
        let (batch, positions) = self.cast(&texts, &records, &mut rejected)?;
        Ok(Read { batch: Some(batch), rejected, positions })
    }
}

impl<R: IoRead> CsvSource<R> {
    fn cast(
        &self,
        texts: &[ArrayRef],
        records: &[(u64, csv::ByteRecord)],
        rejected: &mut Vec<Rejected>,
    ) -> Result<(RecordBatch, Vec<u64>)> {
        let options = CastOptions { safe: true, ..CastOptions::default() };
        let mut columns = Vec::with_capacity(texts.len());
        let mut bad: BTreeMap<usize, String> = BTreeMap::new();
        for (text, field) in texts.iter().zip(self.schema.fields()) {
            let column = match field.data_type() {
                DataType::Utf8 => text.clone(),
                wanted => cast_with_options(text, wanted, &options)?,
            };
            if column.null_count() > text.null_count() || (!field.is_nullable() && column.null_count() > 0) {
                for i in (0..column.len()).filter(|i| column.is_null(*i)) {
                    if text.is_valid(i) {
                        let value = arrow::util::display::array_value_to_string(text, i)?;
                        bad.entry(i).or_insert_with(|| {
                            format!("column '{}': '{value}' is not a {}", field.name(), field.data_type())
                        });
                    } else if !field.is_nullable() {
                        bad.entry(i)
                            .or_insert_with(|| format!("column '{}' is empty but declared NOT NULL", field.name()));
                    }
                }
            }
            columns.push(column);
        }
        let nullable: Vec<_> = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let batch = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(nullable)), columns)?;
        if bad.is_empty() {
            let lines = records.iter().map(|(line, _)| *line).collect();
            return Ok((RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())?, lines));
        }
        let lines = records.iter().enumerate().filter(|(i, _)| !bad.contains_key(i)).map(|(_, (line, _))| *line);
        let lines = lines.collect();
        let keep: BooleanArray = (0..batch.num_rows()).map(|i| Some(!bad.contains_key(&i))).collect();
        for (i, what) in bad {
            if let Some((line, record)) = records.get(i) {
                rejected.push(self.reject(*line, "WRONG_TYPE", &what, record));
            }
        }
        rejected.sort_by_key(|r| r.position);
        let kept = filter_record_batch(&batch, &keep)?;
        Ok((RecordBatch::try_new(self.schema.clone(), kept.columns().to_vec())?, lines))
    }

    fn reject(&self, line: u64, code: &str, what: &str, record: &csv::ByteRecord) -> Rejected {
        let mut raw = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        let raw = raw.write_byte_record(record).ok().and_then(|()| raw.into_inner().ok()).unwrap_or_default();
        Rejected {
            position: line,
            code: code.into(),
            message: format!("{}:{line}: {what}", self.name),
            raw: raw.trim_ascii_end().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn rows_that_do_not_cast_are_rejected_by_line() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("s", DataType::Utf8, true)]));
        let text = "s,n\n\"a,b\",1\nx,y\n,2\nz,\n1,2,3\n";
        let mut source = CsvSource::new(text.as_bytes(), "in.csv".into(), schema.clone(), true, b',').unwrap();
        let read = source.read().unwrap();
        assert_eq!(read.batch.unwrap().num_rows(), 2);
        let messages: Vec<_> = read.rejected.iter().map(|r| r.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "in.csv:3: column 'n': 'y' is not a Int64",
                "in.csv:5: column 'n' is empty but declared NOT NULL",
                "in.csv:6: 3 fields, but 2 are expected",
            ]
        );
        let e = CsvSource::new("a,b\n".as_bytes(), "in.csv".into(), schema, true, b',').err().unwrap();
        assert_eq!(e.to_string(), "UNKNOWN_COLUMN: in.csv has no column 'n'; its header names: a, b");
    }
}

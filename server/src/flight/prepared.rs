//! A prepared statement: the text with its parameters' values, packed into the handle that the client keeps.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use millstream::{Error, Result};
use prost::Message;

/// What a handle holds.
#[derive(Clone, PartialEq, Message)]
pub struct Prepared {
    /// The query.
    #[prost(string, tag = "1")]
    pub sql: String,
    /// One row as an Arrow IPC stream; empty while nothing is bound.
    #[prost(bytes = "bytes", tag = "2")]
    row: Bytes,
}

impl Prepared {
    /// A statement without values.
    pub fn new(sql: String) -> Self {
        Self { sql, row: Bytes::new() }
    }

    /// Reads a handle.
    ///
    /// *Errors*: `Event` for bytes that this server did not make.
    pub fn of(handle: &Bytes) -> Result<Self> {
        let unknown = |_| Error::event("MALFORMED", "this is no prepared statement of this server; prepare it again");
        Self::decode(handle.clone()).map_err(unknown)
    }

    /// The handle for a client.
    pub fn handle(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Binds the one row of `batches`.
    ///
    /// *Errors*: `Event` unless there is exactly one.
    pub fn bind(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let (1, Some(row)) = (rows, batches.iter().find(|batch| batch.num_rows() == 1)) else {
            let message = format!("{rows} rows of parameters for one query; send one row, and one query for each");
            return Err(Error::event("MALFORMED", message));
        };
        let mut writer = StreamWriter::try_new(Vec::new(), row.schema_ref())?;
        writer.write(row)?;
        self.row = writer.into_inner()?.into();
        Ok(())
    }

    /// The values by number.
    pub fn values(&self) -> Result<BTreeMap<String, ScalarValue>> {
        if self.row.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut values = BTreeMap::new();
        for batch in StreamReader::try_new(self.row.as_ref(), None)? {
            for (index, column) in batch?.columns().iter().enumerate() {
                values.insert((index + 1).to_string(), ScalarValue::try_from_array(column, 0)?);
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn rows(numbers: Vec<i64>) -> RecordBatch {
        let names: Vec<String> = numbers.iter().map(|n| format!("n{n}")).collect();
        let columns: Vec<(&str, arrow::array::ArrayRef)> =
            vec![("0", Arc::new(Int64Array::from(numbers))), ("1", Arc::new(StringArray::from(names)))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn a_handle_holds_the_values() {
        let mut prepared = Prepared::new("SELECT $1, $2".into());
        assert_eq!(Prepared::of(&prepared.handle()).unwrap().values().unwrap(), BTreeMap::new());
        prepared.bind(&[rows(vec![7])]).unwrap();
        let again = Prepared::of(&prepared.handle()).unwrap();
        assert_eq!(again.sql, "SELECT $1, $2");
        let expected = [("1".to_string(), ScalarValue::from(7i64)), ("2".to_string(), ScalarValue::from("n7"))];
        assert_eq!(again.values().unwrap(), expected.into());
    }

    #[test]
    fn one_row_of_values_and_no_other_number() {
        let mut prepared = Prepared::new("SELECT $1".into());
        let error = prepared.bind(&[rows(vec![1, 2])]).unwrap_err().to_string();
        assert!(error.contains("2 rows of parameters for one query; send one row"), "{error}");
        let error = Prepared::of(&Bytes::from_static(b"\xff\xff")).unwrap_err().to_string();
        assert!(error.contains("no prepared statement of this server"), "{error}");
    }
}

//! Rows kept one by one as bytes that sort as their `ORDER BY` does: arrow's row format of the order columns, then of the
//! whole row. So ties have one order that depends on the rows alone, and a comparison is one `memcmp`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{Row, RowConverter, Rows as ByteRows, SortField};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use crate::error::{Error, Result};
use crate::message::Rows;

/// A row with its event time. Rows of one [`Codec`] compare as its order says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredRow {
    /// Order columns, then all columns and the event time.
    bytes: Arc<[u8]>,
    /// Where the second part begins.
    key_bytes: u32,
}

impl StoredRow {
    /// The order columns.
    pub fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_bytes as usize).unwrap_or_default()
    }

    fn payload(&self) -> &[u8] {
        self.bytes.get(self.key_bytes as usize..).unwrap_or_default()
    }

    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        // The row's share of its owner's list, and the counts and the header of the allocation.
        self.bytes.len() + 56
    }
}

/// Turns batches into [`StoredRow`]s and back.
pub struct Codec {
    order: Vec<PhysicalSortExpr>,
    keys: RowConverter,
    rows: RowConverter,
    schema: SchemaRef,
}

impl Codec {
    /// For rows of `schema` in some order; without one they are in the order of their columns.
    pub fn new(schema: SchemaRef, order: Vec<PhysicalSortExpr>) -> Result<Self> {
        let key = |e: &PhysicalSortExpr| Ok(SortField::new_with_options(e.expr.data_type(&schema)?, e.options));
        let keys = RowConverter::new(order.iter().map(key).collect::<Result<Vec<_>>>()?)?;
        let mut fields: Vec<SortField> =
            schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        fields.push(SortField::new(DataType::Int64));
        Ok(Self { order, keys, rows: RowConverter::new(fields)?, schema })
    }

    /// The columns of a row.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The order columns of a batch as bytes.
    pub fn keys(&self, batch: &RecordBatch) -> Result<Keys> {
        let columns = evaluate(self.order.iter().map(|e| &e.expr), batch)?;
        Ok(Keys(if columns.is_empty() { None } else { Some(self.keys.convert_columns(&columns)?) }))
    }

    /// Whole rows as bytes.
    pub fn payloads(&self, rows: &Rows) -> Result<ByteRows> {
        let mut columns = rows.batch.columns().to_vec();
        columns.push(Arc::new(rows.time.clone()));
        Ok(self.rows.convert_columns(&columns)?)
    }

    /// A row of its two parts.
    pub fn row(key: &[u8], payload: Row<'_>) -> StoredRow {
        let bytes: Arc<[u8]> = key.iter().chain(payload.data()).copied().collect();
        StoredRow { bytes, key_bytes: key.len() as u32 }
    }

    /// Every row of a batch.
    pub fn encode(&self, rows: &Rows) -> Result<Vec<StoredRow>> {
        let (keys, payloads) = (self.keys(&rows.batch)?, self.payloads(rows)?);
        Ok(payloads.iter().enumerate().map(|(i, payload)| Self::row(keys.get(i), payload)).collect())
    }

    /// Rows as columns, with their event times.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a StoredRow>) -> Result<(Vec<ArrayRef>, Int64Array)> {
        let parser = self.rows.parser();
        let mut columns = self.rows.convert_rows(rows.into_iter().map(|r| parser.parse(r.payload())))?;
        let time = columns.pop().and_then(|t| t.as_primitive_opt::<Int64Type>().cloned());
        let time = time.ok_or_else(|| Error::Bug("a stored row without event time".into()))?;
        Ok((columns, time))
    }
}

/// The order columns of a batch's rows.
pub struct Keys(Option<ByteRows>);

impl Keys {
    /// Those of row `i`.
    pub fn get(&self, i: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |keys| keys.row(i).data())
    }
}

/// Columns of expressions over a batch.
pub fn evaluate<'a>(
    expressions: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    expressions.into_iter().map(|e| Ok(e.evaluate(batch)?.into_array(batch.num_rows())?)).collect()
}

/// Columns as bytes that sort as `options` say; `None` without columns.
pub fn byte_rows(columns: &[ArrayRef], fields: Vec<SortField>) -> Result<Option<ByteRows>> {
    if columns.is_empty() {
        return Ok(None);
    }
    Ok(Some(RowConverter::new(fields)?.convert_columns(columns)?))
}

/// Ascending, nulls first: for grouping and for breaking ties.
pub fn plain_fields(columns: &[ArrayRef]) -> Vec<SortField> {
    columns.iter().map(|c| SortField::new(c.data_type().clone())).collect()
}

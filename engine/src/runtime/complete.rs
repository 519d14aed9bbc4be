//! Rows as they arrive to rows of their table: columns by name, metadata, generated columns, changes that can be applied.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;

use super::Result;
use super::changes::applicable;
use crate::connectors::Rejected;
use crate::connectors::json::write_lines;
use crate::connectors::metadata::Origin;
use crate::sql::catalog::Table;

/// The table's columns from the arriving ones: by name, null where one is new, generated ones computed.
/// Rows with the generated columns, and those for which a generated column fails.
pub fn complete(table: &Table, batch: RecordBatch, origin: &Origin<'_>) -> Result<(RecordBatch, Vec<Rejected>)> {
    let same = |schema: &SchemaRef| batch.schema_ref().fields() == schema.fields();
    let arriving = match (same(&table.inputs()), same(&table.arriving)) {
        (true, _) => batch,
        (false, true) => with_metadata(table, &batch, &batch, origin)?,
        (false, false) => with_metadata(table, &conform(table, &batch)?, &batch, origin)?,
    };
    if table.changelog {
        return applicable(table, arriving);
    }
    let Some(expressions) = &table.columns else { return Ok((arriving, Vec::new())) };
    let compute = |b: &RecordBatch| -> Result<RecordBatch> {
        let columns =
            expressions.iter().map(|e| Ok(e.evaluate(b)?.into_array(b.num_rows())?)).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(table.schema.clone(), columns)?)
    };
    if let Ok(batch) = compute(&arriving) {
        return Ok((batch, Vec::new()));
    }
    let (mut good, mut rejected) = (Vec::new(), Vec::new());
    for i in 0..arriving.num_rows() {
        let row = arriving.slice(i, 1);
        match compute(&row) {
            Ok(row) => good.push(row),
            Err(e) => rejected.extend(as_rejected(&row, "GENERATED_COLUMN", &format!("{}: {e}", table.name))?),
        }
    }
    Ok((arrow::compute::concat_batches(&table.schema, &good)?, rejected))
}

/// The columns that arrived and those of `METADATA FROM`, which rows of a raw table hold already.
fn with_metadata(table: &Table, batch: &RecordBatch, raw: &RecordBatch, origin: &Origin<'_>) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    for (field, what) in &table.metadata {
        columns.push(match raw.column_by_name(field.name()) {
            Some(kept) => arrow::compute::cast(kept, field.data_type())?,
            None => origin.column(*what, batch.num_rows()),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(table.inputs(), columns, &options)?)
}

fn conform(table: &Table, batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = table
        .arriving
        .fields()
        .iter()
        .map(|f| match batch.column_by_name(f.name()) {
            Some(c) => Ok(arrow::compute::cast(c, f.data_type())?),
            None => Ok(new_null_array(f.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    Ok(RecordBatch::try_new(table.arriving.clone(), columns)?)
}

/// Rows as rejected ones, as JSON.
pub fn as_rejected(batch: &RecordBatch, code: &str, message: &str) -> Result<Vec<Rejected>> {
    let row = |i: usize| {
        let mut raw = Vec::new();
        write_lines(&batch.slice(i, 1), &mut raw)?;
        Ok(Rejected {
            position: i as u64,
            code: code.into(),
            message: message.into(),
            raw: raw.trim_ascii_end().to_vec(),
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

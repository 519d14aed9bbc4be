//! Changes of a table as they arrive (`format = 'debezium_json'`): those that cannot be applied are rejected, so that
//! operators see only changes that have the rows they need.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StructArray};
use arrow::compute::filter_record_batch;

use super::Result;
use super::complete::as_rejected;
use crate::connectors::Rejected;
use crate::error::Error;
use crate::operators::from_changelog::effect;
use crate::sql::catalog::Table;

/// The changes that can be applied, and the others.
pub fn applicable(table: &Table, batch: RecordBatch) -> Result<(RecordBatch, Vec<Rejected>)> {
    let [before, after, op] = batch.columns() else {
        return Err(Error::Bug(format!("changes of {} without before, after and op", table.name)));
    };
    let (before, after) = (before.as_struct(), after.as_struct());
    let op = op.as_string::<i32>();
    let mut rejected = Vec::new();
    let mut kept = Vec::with_capacity(batch.num_rows());
    for i in 0..batch.num_rows() {
        let wrong = wrong(table, before, after, op.value(i), i);
        kept.push(wrong.is_none());
        if let Some((code, what)) = wrong {
            rejected.extend(as_rejected(&batch.slice(i, 1), code, &format!("{}: {what}", table.name))?);
        }
    }
    if rejected.is_empty() {
        return Ok((batch, rejected));
    }
    Ok((filter_record_batch(&batch, &BooleanArray::from(kept))?, rejected))
}

fn wrong(
    table: &Table,
    before: &StructArray,
    after: &StructArray,
    op: &str,
    i: usize,
) -> Option<(&'static str, String)> {
    if !matches!(op, "c" | "r" | "u" | "d") {
        return Some(("UNKNOWN_OP", format!("a change with op '{op}'; known are c, r, u and d")));
    }
    let (takes_back, gives) = effect(op);
    if takes_back && before.is_null(i) {
        let fix = "let the database write whole old rows (in PostgreSQL: ALTER TABLE ... REPLICA IDENTITY FULL)";
        return Some(("MISSING_BEFORE", format!("a change with op '{op}' has no 'before'; {fix}")));
    }
    if gives && after.is_null(i) {
        return Some(("MISSING_AFTER", format!("a change with op '{op}' has no 'after'")));
    }
    let sides = [(takes_back, "before", before), (gives, "after", after)];
    for (_, name, rows) in sides.into_iter().filter(|(needed, ..)| *needed) {
        let mut required = table.schema.fields().iter().zip(rows.columns()).filter(|(f, _)| !f.is_nullable());
        if let Some((field, _)) = required.find(|(_, column)| column.is_null(i)) {
            return Some(("WRONG_TYPE", format!("'{name}.{}' is null but declared NOT NULL", field.name())));
        }
    }
    None
}

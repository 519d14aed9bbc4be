//! Rows for which an expression fails (a text that is no number, a division by zero), told apart from the others.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Operator as Binary;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::Output;
use crate::error::{Error, Result};
use crate::message::{FailedRows, Rows};

/// Functions that fail on some values.
const FAILING: [&str; 12] = [
    "to_timestamp",
    "to_date",
    "to_unixtime",
    "to_time",
    "make_date",
    "make_time",
    "date_bin",
    "decode",
    "chr",
    "factorial",
    "arrow_cast",
    "repeat",
];

/// What `work` makes of the rows for which it does not fail, in their order; the others go to `out.failed`.
pub fn of_good_rows<T>(rows: Rows, out: &mut Output, work: &impl Fn(&Rows) -> Result<T>) -> Result<Vec<(Rows, T)>> {
    match work(&rows) {
        Ok(made) => Ok(vec![(rows, made)]),
        Err(Error::Event { message, .. }) if rows.len() <= 1 => {
            out.failed.push(FailedRows { batch: rows.batch, time: rows.time, message });
            Ok(Vec::new())
        }
        Err(Error::Event { .. }) => {
            let half = rows.len() / 2;
            let mut made = of_good_rows(rows.slice(0, half), out, work)?;
            made.extend(of_good_rows(rows.slice(half, rows.len() - half), out, work)?);
            Ok(made)
        }
        Err(other) => Err(other),
    }
}

/// Whether an expression over `schema` may fail on some row, though its types are right.
pub fn may_fail(expression: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let mut found = false;
    let visited = expression.apply(|e| {
        found |= fails(e, schema);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || visited.is_err()
}

fn fails(e: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    if let Some(cast) = e.downcast_ref::<CastExpr>() {
        return cast.expr().data_type(schema).map_or(true, |from| !always_casts(&from, cast.cast_type()));
    }
    if let Some(binary) = e.downcast_ref::<BinaryExpr>() {
        let divides = matches!(binary.op(), Binary::Divide | Binary::Modulo);
        return divides && binary.data_type(schema).map_or(true, |t| !t.is_floating());
    }
    e.downcast_ref::<ScalarFunctionExpr>().is_some_and(|f| FAILING.iter().any(|name| f.name().starts_with(name)))
}

/// Whether every value of `from` has one of `to`.
fn always_casts(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Date32, Timestamp, Utf8, Utf8View};
    let wider = || from.primitive_width() <= to.primitive_width();
    match (from, to) {
        (_, Utf8 | Utf8View) => true,
        (Utf8 | Utf8View, _) => false,
        (Boolean, to) => to.is_numeric(),
        (Date32 | Timestamp(..), Date32 | Timestamp(..)) => true,
        (from, to) if to.is_floating() => from.is_numeric(),
        (from, to) if from.is_signed_integer() => to.is_signed_integer() && wider(),
        (from, to) if from.is_unsigned_integer() => {
            to.is_unsigned_integer() && wider()
                || to.is_signed_integer() && from.primitive_width() < to.primitive_width()
        }
        (from, to) => from == to,
    }
}

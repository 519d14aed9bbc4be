//! A worker's share of an updating aggregate: each batch becomes one state per group.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::EmitTo;

use crate::error::{Error, Result};
use crate::message::{Rows, SliceState, ascends};
use crate::operators::accumulate::{Aggregation, Inputs};
use crate::operators::expiry::Expiry;
use crate::operators::failing::of_good_rows;
use crate::operators::{Operator, Output};

/// Of this many batches one is tried, where earlier ones had hardly fewer groups than rows.
const TRY_EVERY: u32 = 128;

/// Aggregates batch by batch, and keeps nothing between them. Rows pass as they are where that gains nothing, or where
/// a key may expire within the batch.
pub(super) struct Share {
    aggregation: Arc<Aggregation>,
    expiry: Expiry,
    /// So many batches pass as they are.
    pass: u32,
}

impl Share {
    pub(super) fn new(aggregation: Arc<Aggregation>, keep: i64) -> Self {
        Self { aggregation, expiry: Expiry::new(keep), pass: 0 }
    }
}

impl Operator for Share {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.pass > 0 || self.expiry.within([(&rows.time.values()[..], &Expiry::now(&rows)[..])], &[]) {
            self.pass = self.pass.saturating_sub(1);
            out.batches.push(rows);
            return Ok(());
        }
        let aggregation = self.aggregation.clone();
        for (rows, inputs) in of_good_rows(rows, out, &|rows| aggregation.inputs(&rows.batch))? {
            self.aggregate(rows, &inputs, out)?;
        }
        Ok(())
    }
}

impl Share {
    fn aggregate(&mut self, rows: Rows, inputs: &Inputs, out: &mut Output) -> Result<()> {
        let aggregation = &self.aggregation;
        let now = Expiry::now(&rows);
        let mut groups = Vec::new();
        let mut table = aggregation.group_table()?;
        let count = match &mut table {
            Some(table) => {
                table.intern(&inputs.groups, &mut groups)?;
                table.len()
            }
            None => {
                groups.resize(inputs.rows, 0);
                1
            }
        };
        if count * 2 > inputs.rows && inputs.rows > 1 {
            self.pass = TRY_EVERY;
            out.batches.push(rows);
            return Ok(());
        }
        let (first, newest) = (first(&groups, &now, count), newest(&groups, rows.time.values(), count));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(first)), Arc::new(Int64Array::from(newest))];
        if let Some(mut table) = table {
            columns.extend(table.emit(EmitTo::All)?);
        }
        let accumulators = aggregation.accumulators()?;
        for ((mut a, arguments), filter) in accumulators.into_iter().zip(&inputs.arguments).zip(&inputs.filters) {
            a.update_batch(arguments, &groups, filter.as_ref(), count)?;
            columns.extend(a.state(EmitTo::All)?);
        }
        let groups = batch(columns)?;
        out.slices.push(SliceState { start: 0, first_window_end: 0, groups });
        Ok(())
    }
}

/// The value of the first row of each group. Groups are numbered as they come, so one is new if it is the next of them.
fn first(groups: &[usize], values: &[i64], count: usize) -> Vec<i64> {
    let mut first = Vec::with_capacity(count);
    for (group, value) in groups.iter().zip(values) {
        if *group == first.len() {
            first.push(*value);
            if first.len() == count {
                break;
            }
        }
    }
    first.resize(count, i64::MIN);
    first
}

/// The newest time of each group: where times ascend that of its last row, and few rows have to be looked at.
fn newest(groups: &[usize], times: &[i64], count: usize) -> Vec<i64> {
    let mut newest = vec![i64::MIN; count];
    let (ascends, mut left) = (ascends(times), count);
    for (group, time) in groups.iter().zip(times).rev() {
        let Some(newest) = newest.get_mut(*group) else { continue };
        if *newest == i64::MIN {
            left -= 1;
        }
        *newest = (*newest).max(*time);
        if ascends && left == 0 {
            break;
        }
    }
    newest
}

/// The columns of a share travel by position.
fn batch(columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let field = |(i, c): (usize, &ArrayRef)| -> FieldRef {
        Arc::new(Field::new(i.to_string(), DataType::clone(c.data_type()), true))
    };
    let fields: Vec<FieldRef> = columns.iter().enumerate().map(field).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// What a share sent, one row per group.
pub(super) struct Parts<'a> {
    /// Event time of the first row.
    pub(super) first: &'a [i64],
    /// Event time of the newest row.
    pub(super) newest: &'a [i64],
    /// Key columns.
    pub(super) keys: &'a [ArrayRef],
    /// State columns of the functions.
    pub(super) states: &'a [ArrayRef],
}

/// The columns of a share, of which `keys` are keys.
pub(super) fn read(share: &RecordBatch, keys: usize) -> Result<Parts<'_>> {
    let [first, newest, rest @ ..] = share.columns() else {
        return Err(Error::Bug("a share of an updating aggregate lacks its times".into()));
    };
    let (keys, states) = rest.split_at(keys.min(rest.len()));
    Ok(Parts {
        first: first.as_primitive::<Int64Type>().values(),
        newest: newest.as_primitive::<Int64Type>().values(),
        keys,
        states,
    })
}

//! The first rows of each partition, as they change: `row_number() OVER (PARTITION BY ... ORDER BY ...) <= n`. With `n` = 1
//! it is de-duplication.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::kept_rows::{Change, Keeping, KeptRows, Results, Running};
use super::spec::{Properties, Spec, Warning};
use super::stored_rows::StoredRow;
use super::window::show_duration;
use super::{Operator, Output};
use crate::error::Result;
use crate::message::Rows;

/// Keeps the best rows of each partition. *Shape*: the input's columns and the rank, or null in its place if `ranked` is
/// false. A batch makes one change per partition: rows that left are taken back, rows that entered are new, and with
/// `ranked` also those whose rank has changed.
#[derive(Debug, Clone)]
pub struct TopN {
    /// Which rows.
    pub keeping: Keeping,
    /// Whether anyone reads the rank.
    pub ranked: bool,
    /// The output columns.
    pub schema: SchemaRef,
}

impl Spec for TopN {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let ranked = if self.ranked { " with rank" } else { "" };
        format!("top {} by {}{ranked}", self.keeping.limit, self.keeping.describe())
    }

    fn state(&self) -> String {
        let until = match self.keeping.ttl {
            ttl if ttl > 0 => format!("until {} of event time without a row of it", show_duration(ttl)),
            _ => "for ever".into(),
        };
        match self.keeping.retracts {
            true => format!("all rows of a partition (they may be taken back), {until}"),
            false => format!("{} rows per partition, {until}", self.keeping.limit),
        }
    }

    fn warning(&self) -> Option<Warning> {
        let grows = self.keeping.ttl <= 0;
        grows.then(|| Warning::without_ttl("the state of row_number() grows with every new partition"))
    }

    fn is_punctual(&self) -> bool {
        false
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: None, updating: true }
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        let results = Ranks { ranked: self.ranked, schema: self.schema.clone() };
        Ok(Box::new(Running { rows: KeptRows::new(self.keeping.clone())?, results }))
    }
}

struct Ranks {
    ranked: bool,
    schema: SchemaRef,
}

/// Rows on their way out.
#[derive(Default)]
struct Emitted {
    rows: Vec<StoredRow>,
    ranks: Vec<u64>,
    retracts: Vec<bool>,
    /// Where rows have no event time of their own.
    times: Vec<i64>,
}

impl Emitted {
    fn push(&mut self, row: &StoredRow, place: usize, retracts: bool, change: &Change) {
        self.times.extend(change.time);
        self.rows.push(row.clone());
        self.ranks.push(place as u64 + 1);
        self.retracts.push(retracts);
    }

    /// Every place that holds another row now.
    fn by_rank(&mut self, change: &Change) {
        for place in 0..change.before.len().max(change.after.len()) {
            let (before, after) = (change.before.get(place), change.after.get(place));
            if before != after {
                before.iter().for_each(|row| self.push(row, place, true, change));
                after.iter().for_each(|row| self.push(row, place, false, change));
            }
        }
    }

    /// The rows that left and entered, in pairs as far as they go.
    fn by_row(&mut self, change: &Change) {
        let (gone, new) = (missing(&change.before, &change.after), missing(&change.after, &change.before));
        for place in 0..gone.len().max(new.len()) {
            gone.get(place).iter().for_each(|row| self.push(row, place, true, change));
            new.get(place).iter().for_each(|row| self.push(row, place, false, change));
        }
    }
}

/// The rows of `from` that are not in `other`, equal rows counted; both are in order.
fn missing<'a>(from: &'a [StoredRow], other: &[StoredRow]) -> Vec<&'a StoredRow> {
    let mut other = other.iter().peekable();
    let mut missing = Vec::new();
    for row in from {
        while other.next_if(|o| *o < row).is_some() {}
        if other.next_if(|o| *o == row).is_none() {
            missing.push(row);
        }
    }
    missing
}

impl Results for Ranks {
    fn emit(&self, rows: &KeptRows, changes: &[Change], out: &mut Output) -> Result<()> {
        let mut emitted = Emitted::default();
        for change in changes {
            if self.ranked { emitted.by_rank(change) } else { emitted.by_row(change) }
        }
        if emitted.rows.is_empty() {
            return Ok(());
        }
        let (mut columns, mut time) = rows.codec().decode(&emitted.rows)?;
        if !emitted.times.is_empty() {
            time = emitted.times.into();
        }
        columns.push(match self.ranked {
            true => Arc::new(UInt64Array::from(emitted.ranks)) as ArrayRef,
            false => new_null_array(&DataType::UInt64, emitted.rows.len()),
        });
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let retracts = emitted.retracts.contains(&true).then(|| BooleanArray::from(emitted.retracts));
        out.batches.push(Rows { retracts, ..Rows::new(batch, time) });
        Ok(())
    }
}

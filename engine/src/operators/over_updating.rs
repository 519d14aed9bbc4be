//! `OVER` where no window and no order of event time says when a partition is complete: results change as rows come.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::kept_rows::{Change, Keeping, KeptRows, Results, Running};
use super::over_functions::Function;
use super::spec::{Properties, Spec, Warning};
use super::stored_rows::{StoredRow, byte_rows, plain_fields};
use super::window::show_duration;
use super::{Operator, Output};
use crate::error::Result;
use crate::message::Rows;

/// Keeps all rows of each partition and computes a partition anew when it changes. *Shape*: the input's columns, then one
/// per function. A batch makes one change per row whose results changed.
#[derive(Debug, Clone)]
pub struct OverUpdating {
    /// Which rows.
    pub keeping: Keeping,
    /// What is computed.
    pub functions: Vec<Function>,
    /// The output columns.
    pub schema: SchemaRef,
}

impl Spec for OverUpdating {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.functions.iter().map(|f| f.expression.name()).collect();
        format!("updating over {} of [{}]", self.keeping.describe(), names.join(", "))
    }

    fn state(&self) -> String {
        match self.keeping.ttl {
            ttl if ttl > 0 => {
                format!("all rows of a partition, until {} of event time without a row of it", show_duration(ttl))
            }
            _ => "all rows, for ever".into(),
        }
    }

    fn warning(&self) -> Option<Warning> {
        Some(Warning::new(
            "an OVER without a window in PARTITION BY and without ORDER BY the event time keeps all rows of a partition and \
             computes it anew at every change",
            "order it by the event time, or keep the first rows by row_number() <= n",
        ))
    }

    fn is_punctual(&self) -> bool {
        false
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: None, updating: true }
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        let results = Computed { functions: self.functions.clone(), schema: self.schema.clone() };
        Ok(Box::new(Running { rows: KeptRows::new(self.keeping.clone())?, results }))
    }
}

struct Computed {
    functions: Vec<Function>,
    schema: SchemaRef,
}

impl Computed {
    /// The results of some partitions, one after the other.
    fn results<'a>(
        &self,
        kept: &KeptRows,
        partitions: impl Iterator<Item = &'a Vec<StoredRow>> + Clone,
    ) -> Result<Rows> {
        let rows = || partitions.clone().flatten();
        let (mut columns, time) = kept.codec().decode(rows())?;
        let batch = RecordBatch::try_new(kept.codec().schema().clone(), columns.clone())?;
        let (mut spans, mut peers, mut at) = (Vec::new(), Vec::new(), 0);
        for partition in partitions.clone().filter(|p| !p.is_empty()) {
            spans.push(at..at + partition.len());
            at += partition.len();
            let keys = partition.iter().map(StoredRow::key);
            let before = [None].into_iter().chain(keys.clone().map(Some));
            peers.extend(keys.zip(before).map(|(key, before)| before == Some(key)));
        }
        for f in &self.functions {
            columns.push(f.whole(&spans, &peers, &mut || Ok(batch.clone()))?);
        }
        Ok(Rows::new(RecordBatch::try_new(self.schema.clone(), columns)?, time))
    }
}

impl Results for Computed {
    fn emit(&self, rows: &KeptRows, changes: &[Change], out: &mut Output) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let before = self.results(rows, changes.iter().map(|c| &c.before))?;
        let after = self.results(rows, changes.iter().map(|c| &c.after))?;
        let times = |side: fn(&Change) -> &Vec<StoredRow>, own: &Rows| -> Vec<i64> {
            let each = changes.iter().flat_map(|c| std::iter::repeat_n(c.time, side(c).len()));
            each.zip(own.time.values()).map(|(time, own)| time.unwrap_or(*own)).collect()
        };
        let mut time = times(|c| &c.before, &before);
        time.extend(times(|c| &c.after, &after));
        // The time of a change is no part of its rows.
        let compared = if rows.timed() { time.clone() } else { vec![0; time.len()] };
        let both = Rows {
            batch: arrow::compute::concat_batches(&self.schema, [&before.batch, &after.batch])?,
            time: time.into(),
            row_watermark: None,
            retracts: None,
        };
        let mut columns: Vec<ArrayRef> = both.batch.columns().to_vec();
        columns.push(Arc::new(arrow::array::Int64Array::from(compared)));
        let fields = plain_fields(&columns);
        let Some(bytes) = byte_rows(&columns, fields)? else { return Ok(()) };
        let (mut places, mut retracts) = (Vec::new(), Vec::new());
        let (mut old, mut new) = (0, before.len());
        for change in changes {
            let olds = old..old + change.before.len();
            let news = new..new + change.after.len();
            (old, new) = (olds.end, news.end);
            let mut count: HashMap<&[u8], i64> = HashMap::new();
            news.clone().for_each(|i| *count.entry(bytes.row(i).data()).or_insert(0) += 1);
            let gone = pick(olds, &mut count, |i| bytes.row(i).data(), false);
            let came = pick(news, &mut count, |i| bytes.row(i).data(), true);
            for n in 0..gone.len().max(came.len()) {
                for (row, is_gone) in [(gone.get(n), true), (came.get(n), false)] {
                    places.extend(row.map(|i| *i as u32));
                    retracts.extend(row.map(|_| is_gone));
                }
            }
        }
        let rows = both.take(&UInt32Array::from(places))?;
        out.batches.push(Rows { retracts: Some(BooleanArray::from(retracts)), ..rows });
        Ok(())
    }
}

/// The rows that `count` does not hold, or holds, once for each time it holds them.
fn pick<'k>(
    rows: std::ops::Range<usize>,
    count: &mut HashMap<&'k [u8], i64>,
    key: impl Fn(usize) -> &'k [u8],
    held: bool,
) -> Vec<usize> {
    let mut take = |i: usize| match count.get_mut(key(i)) {
        Some(n) if *n > 0 => {
            *n -= 1;
            true
        }
        _ => false,
    };
    rows.filter(|i| take(*i) == held).collect()
}

//! The functions of an `OVER` on rows that are sorted by partition and order.
//!
//! Ranks are counted for all partitions in one pass; an aggregate of whole partitions is one grouped aggregation; all else
//! is DataFusion's, partition by partition.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, UInt64Array, new_empty_array};
use arrow::compute::{concat, filter, prep_null_mask_filter, take};
use arrow::datatypes::FieldRef;
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::window::{PlainAggregateWindowExpr, WindowExpr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::scalar::ScalarValue;

use super::stored_rows::{byte_rows, evaluate, plain_fields};
use crate::error::{Error, Result};
use crate::message::{Rows, take_batch};
use arrow::row::SortField;

/// How a function is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `row_number()`
    RowNumber,
    /// `rank()`
    Rank,
    /// `dense_rank()`
    DenseRank,
    /// An aggregate of all rows up to this one, and its peers if `peers`.
    Running {
        /// `RANGE` rather than `ROWS`.
        peers: bool,
    },
    /// An aggregate of the whole partition.
    Whole,
    /// Anything else: by DataFusion, over a frame of rows.
    Framed,
}

impl Kind {
    /// Whether it only counts rows.
    pub fn is_rank(self) -> bool {
        matches!(self, Self::RowNumber | Self::Rank | Self::DenseRank)
    }
}

/// One function.
#[derive(Debug, Clone)]
pub struct Function {
    /// DataFusion's.
    pub expression: Arc<dyn WindowExpr>,
    /// Its `FILTER`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// How it is computed.
    pub kind: Kind,
}

/// The rows, groups of peers and accumulators of a partition so far.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Groups of rows that the order leaves equal.
    pub groups: u64,
    /// The state of each running aggregate.
    pub states: Vec<Vec<ScalarValue>>,
}

/// Rows in the order of their partitions.
pub struct Sorted {
    /// The places of the rows before sorting.
    pub indices: UInt32Array,
    /// Whether a row is of the same partition as the one before it, and equal in order.
    pub peers: Vec<bool>,
    /// The partitions.
    pub spans: Vec<Range<usize>>,
}

impl Sorted {
    /// Sorts rows by partition and order. `by_time`: rows of different event times are of different partitions. Rows that
    /// the order leaves equal are in the order of their columns: a function of the rows, not of their arrival.
    pub fn new(
        rows: &Rows,
        by_time: bool,
        partition: &[Arc<dyn PhysicalExpr>],
        order: &[PhysicalSortExpr],
    ) -> Result<Self> {
        let mut columns = evaluate(partition, &rows.batch)?;
        if by_time {
            columns.insert(0, Arc::new(rows.time.clone()));
        }
        let fields = plain_fields(&columns);
        let partitions = byte_rows(&columns, fields)?;
        let columns = evaluate(order.iter().map(|e| &e.expr), &rows.batch)?;
        let fields =
            columns.iter().zip(order).map(|(c, e)| SortField::new_with_options(c.data_type().clone(), e.options));
        let keys = byte_rows(&columns, fields.collect())?;
        let (partitions, keys) = (partitions.as_ref(), keys.as_ref());
        let of_partition = |a: u32, b: u32| partitions.map(|p| p.row(a as usize).cmp(&p.row(b as usize)));
        let of_key = |a: u32, b: u32| keys.map(|k| k.row(a as usize).cmp(&k.row(b as usize)));
        let compare = |a: u32, b: u32| {
            of_partition(a, b)
                .unwrap_or(std::cmp::Ordering::Equal)
                .then_with(|| of_key(a, b).unwrap_or(std::cmp::Ordering::Equal))
        };
        let mut indices: Vec<u32> = (0..rows.len() as u32).collect();
        indices.sort_unstable_by(|a, b| compare(*a, *b).then(a.cmp(b)));
        let (mut peers, mut spans) = (Vec::with_capacity(rows.len()), Vec::new());
        let (mut first, mut before) = (0, None);
        for (i, row) in indices.iter().enumerate() {
            let same = before.is_some_and(|b| of_partition(b, *row).is_none_or(|o| o.is_eq()));
            if !same && i > 0 {
                spans.push(first..i);
                first = i;
            }
            peers.push(same && before.is_some_and(|b| of_key(b, *row).is_none_or(|o| o.is_eq())));
            before = Some(*row);
        }
        if !indices.is_empty() {
            spans.push(first..indices.len());
        }
        break_ties(rows, &mut indices, &peers)?;
        Ok(Self { indices: UInt32Array::from(indices), peers, spans })
    }

    /// Values in sorted order back in the order before.
    pub fn unsort(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let mut places = vec![0_u32; self.indices.len()];
        for (sorted, before) in self.indices.values().iter().enumerate() {
            places.iter_mut().skip(*before as usize).take(1).for_each(|p| *p = sorted as u32);
        }
        Ok(take(values, &UInt32Array::from(places), None)?)
    }
}

/// Sorts each run of peers by all of its columns.
fn break_ties(rows: &Rows, indices: &mut [u32], peers: &[bool]) -> Result<()> {
    let tied = |i: usize| peers.get(i) == Some(&true) || peers.get(i + 1) == Some(&true);
    let places: Vec<usize> = (0..indices.len()).filter(|i| tied(*i)).collect();
    if places.is_empty() {
        return Ok(());
    }
    let own: Vec<u32> = places.iter().filter_map(|i| indices.get(*i).copied()).collect();
    let rows = rows.take(&UInt32Array::from(own.clone()))?;
    let mut columns = rows.batch.columns().to_vec();
    columns.push(Arc::new(rows.time));
    let fields = plain_fields(&columns);
    let Some(bytes) = byte_rows(&columns, fields)? else { return Ok(()) };
    let mut start = 0;
    while start < places.len() {
        let starts_anew = |n: &usize| places.get(*n).is_none_or(|i| peers.get(*i) != Some(&true));
        let end = (start + 1..=places.len()).find(starts_anew).unwrap_or(places.len());
        let mut run: Vec<usize> = (start..end).collect();
        run.sort_by(|a, b| bytes.row(*a).cmp(&bytes.row(*b)));
        for (n, from) in (start..end).zip(run) {
            if let (Some(place), Some(row)) = (places.get(n), own.get(from))
                && let Some(index) = indices.get_mut(*place)
            {
                *index = *row;
            }
        }
        start = end;
    }
    Ok(())
}

impl Function {
    /// The column it computes.
    pub fn field(&self) -> Result<FieldRef> {
        Ok(self.expression.field()?)
    }

    /// Over partitions that are complete; `sorted` gives the rows in order, if it has to.
    pub fn whole(
        &self,
        spans: &[Range<usize>],
        peers: &[bool],
        sorted: &mut impl FnMut() -> Result<RecordBatch>,
    ) -> Result<ArrayRef> {
        match self.kind {
            kind if kind.is_rank() => Ok(ranks(kind, spans, peers, &[])),
            Kind::Whole => self.grouped(&sorted()?, spans),
            _ => self.framed(&sorted()?, spans),
        }
    }

    /// By DataFusion, over each partition by itself.
    pub fn framed(&self, batch: &RecordBatch, spans: &[Range<usize>]) -> Result<ArrayRef> {
        let one = |span: &Range<usize>| Ok(self.expression.evaluate(&batch.slice(span.start, span.len()))?);
        let parts = spans.iter().map(one).collect::<Result<Vec<ArrayRef>>>()?;
        let parts: Vec<&dyn Array> = parts.iter().map(|a| a.as_ref()).collect();
        Ok(if parts.is_empty() { new_empty_array(self.field()?.data_type()) } else { concat(&parts)? })
    }

    fn aggregate(&self) -> Result<&PlainAggregateWindowExpr> {
        let plain = self.expression.as_any().downcast_ref::<PlainAggregateWindowExpr>();
        plain.ok_or_else(|| Error::Bug(format!("{} is not a growing aggregate", self.expression.name())))
    }

    /// The rows that count, by `FILTER`.
    fn mask(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(e) = &self.filter else { return Ok(None) };
        let mask = e.evaluate(batch)?.into_array(batch.num_rows())?;
        let mask = mask.as_boolean();
        Ok(Some(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() }))
    }

    /// One value per partition, repeated for its rows.
    fn grouped(&self, batch: &RecordBatch, spans: &[Range<usize>]) -> Result<ArrayRef> {
        let function = self.aggregate()?.get_aggregate_expr();
        if !function.groups_accumulator_supported() {
            return self.framed(batch, spans);
        }
        let group = |(n, span): (usize, &Range<usize>)| std::iter::repeat_n(n, span.len());
        let groups: Vec<usize> = spans.iter().enumerate().flat_map(group).collect();
        let mut accumulator = function.create_groups_accumulator()?;
        let arguments = self.expression.evaluate_args(batch)?;
        accumulator.update_batch(&arguments, &groups, self.mask(batch)?.as_ref(), spans.len())?;
        let values = accumulator.evaluate(EmitTo::All)?;
        let groups: UInt32Array = groups.iter().map(|g| *g as u32).collect();
        Ok(take(&values, &groups, None)?)
    }

    /// An aggregate of all rows so far, going on from `totals`, whose states of number `n` it replaces.
    pub fn running(
        &self,
        batch: &RecordBatch,
        spans: &[Range<usize>],
        peers: &[bool],
        totals: &mut [Totals],
        n: usize,
    ) -> Result<ArrayRef> {
        let by_peers = self.kind == Kind::Running { peers: true };
        let arguments = self.expression.evaluate_args(batch)?;
        let mask = self.mask(batch)?;
        let mut values = Vec::with_capacity(batch.num_rows());
        for (span, totals) in spans.iter().zip(totals) {
            let mut accumulator = self.aggregate()?.get_aggregate_expr().create_accumulator()?;
            if let Some(state) = totals.states.get(n).filter(|s| !s.is_empty()) {
                let state = state.iter().map(|s| Ok(s.to_array()?)).collect::<Result<Vec<_>>>()?;
                accumulator.merge_batch(&state)?;
            }
            let mut start = span.start;
            while start < span.end {
                let anew = |i: &usize| *i >= span.end || !by_peers || peers.get(*i) != Some(&true);
                let end = (start + 1..=span.end).find(anew).unwrap_or(span.end);
                update(&mut accumulator, &arguments, mask.as_ref(), start..end)?;
                let value = accumulator.evaluate()?;
                values.extend(std::iter::repeat_n(value, end - start));
                start = end;
            }
            if totals.states.len() <= n {
                totals.states.resize(n + 1, Vec::new());
            }
            if let Some(state) = totals.states.get_mut(n) {
                *state = accumulator.state()?;
            }
        }
        if values.is_empty() {
            return Ok(new_empty_array(self.field()?.data_type()));
        }
        Ok(ScalarValue::iter_to_array(values)?)
    }
}

fn update(
    accumulator: &mut Box<dyn Accumulator>,
    arguments: &[ArrayRef],
    mask: Option<&BooleanArray>,
    rows: Range<usize>,
) -> Result<()> {
    let own = |a: &ArrayRef| -> Result<ArrayRef> {
        let slice = a.slice(rows.start, rows.len());
        Ok(match mask {
            Some(mask) => filter(&slice, &mask.slice(rows.start, rows.len()))?,
            None => slice,
        })
    };
    let arguments = arguments.iter().map(own).collect::<Result<Vec<_>>>()?;
    Ok(accumulator.update_batch(&arguments)?)
}

/// The number, rank or dense rank of each row; `totals`, if any, are what went before in each partition.
pub fn ranks(kind: Kind, spans: &[Range<usize>], peers: &[bool], totals: &[Totals]) -> ArrayRef {
    let mut ranks = Vec::with_capacity(peers.len());
    for (n, span) in spans.iter().enumerate() {
        let (mut rows, mut groups) = totals.get(n).map_or((0, 0), |t| (t.rows, t.groups));
        let mut rank = 0;
        for i in span.clone() {
            rows += 1;
            if peers.get(i) != Some(&true) || rank == 0 {
                (rank, groups) = (rows, groups + 1);
            }
            ranks.push(match kind {
                Kind::Rank => rank,
                Kind::DenseRank => groups,
                _ => rows,
            });
        }
    }
    Arc::new(UInt64Array::from(ranks))
}

/// Adds the rows of each partition to its totals.
pub fn add_rows(spans: &[Range<usize>], peers: &[bool], totals: &mut [Totals]) {
    for (span, totals) in spans.iter().zip(totals) {
        totals.rows += span.len() as u64;
        let begins = |i: &usize| *i == span.start || peers.get(*i) != Some(&true);
        totals.groups += span.clone().filter(begins).count() as u64;
    }
}

/// A batch in sorted order, made once when first asked for.
pub fn sorted_once<'a>(batch: &'a RecordBatch, sorted: &'a Sorted) -> impl FnMut() -> Result<RecordBatch> + 'a {
    let mut made: Option<RecordBatch> = None;
    move || match &made {
        Some(batch) => Ok(batch.clone()),
        None => Ok(made.insert(take_batch(batch, &sorted.indices)?).clone()),
    }
}

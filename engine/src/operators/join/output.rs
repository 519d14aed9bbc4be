//! What a join yields: pairs, rows alone, and how they become batches.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;

use super::store::Store;
use super::{NONE, PAIRS};
use crate::error::Result;
use crate::message::Rows;

/// When a row of one side is in the result by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alone {
    /// While it has no partner: outer joins (with nulls for the other side) and anti joins.
    Unmatched,
    /// While it has one: semi joins.
    Matched,
    /// Always, with the mark whether it has one: mark joins.
    Marked,
}

impl Alone {
    /// Whether a row with so many partners is there, and what stands for its partner: [`NONE`], or [`MARK`].
    pub fn shown(self, partners: u32) -> Option<u32> {
        match (self, partners > 0) {
            (Self::Unmatched, false) | (Self::Matched, true) | (Self::Marked, false) => Some(NONE),
            (Self::Marked, true) => Some(MARK),
            _ => None,
        }
    }
}

/// Stands for the partners of a row whose mark is true.
const MARK: u32 = 0;

/// A join's type and columns.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The type; no right mark joins.
    pub join_type: JoinType,
    /// The columns: the left ones and the right ones, or those of one side for semi and anti joins; for mark joins the left
    /// ones and the mark.
    pub schema: SchemaRef,
}

impl Shape {
    /// Whether pairs are in the result.
    pub(super) fn pairs(&self) -> bool {
        matches!(self.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
    }

    /// When a row of `side` is in the result by itself.
    pub(super) fn alone(&self, side: usize) -> Option<Alone> {
        match (self.join_type, side) {
            (JoinType::Left | JoinType::Full | JoinType::LeftAnti, 0) => Some(Alone::Unmatched),
            (JoinType::Right | JoinType::Full | JoinType::RightAnti, 1) => Some(Alone::Unmatched),
            (JoinType::LeftSemi, 0) | (JoinType::RightSemi, 1) => Some(Alone::Matched),
            (JoinType::LeftMark, 0) => Some(Alone::Marked),
            _ => None,
        }
    }

    /// Whether it takes until no partner can come any more to know how a row of `side` is in the result.
    pub(super) fn waits(&self, side: usize) -> bool {
        matches!(self.alone(side), Some(Alone::Unmatched | Alone::Marked))
    }

    /// Which sides' columns are in the result.
    fn sides(&self) -> &'static [usize] {
        match self.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => &[0],
            JoinType::RightSemi | JoinType::RightAnti => &[1],
            _ => &[0, 1],
        }
    }

    /// `inner`, `left anti`, ...
    pub(super) fn describe(&self) -> String {
        let name = self.join_type.to_string();
        let mut words = String::new();
        for c in name.chars() {
            if c.is_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.extend(c.to_lowercase());
        }
        words
    }
}

/// One row of a result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// The rows of both sides, [`NONE`] where there is none.
    pub rows: [u32; 2],
    /// The key, to keep rows of one key together.
    pub key: u32,
    /// Its event time.
    pub time: i64,
    /// The watermark at its place.
    pub watermark: i64,
    /// Whether it takes back an equal one.
    pub retracts: bool,
}

impl Change {
    /// A row made of `own` of `side` and `other` of the other side.
    pub fn of(side: usize, own: u32, other: u32, time: i64) -> Self {
        let rows = if side == 0 { [own, other] } else { [other, own] };
        Self { rows, key: NONE, time, watermark: i64::MAX, retracts: false }
    }
}

/// Puts rows that replace one another side by side, the old one first. `side` is the one whose rows have just come.
pub(super) fn pair_up(changes: &mut [Change], side: usize) {
    let other = |c: &Change| c.rows.get(1 - side).copied().unwrap_or(NONE);
    // Of one partner's rows those taken back come first; rows without a partner come last.
    changes.sort_by_key(|c| (c.key, other(c), !c.retracts));
}

/// The changes as batches. `late`: whether their watermarks are to be told.
pub(super) fn emit(
    changes: &[Change],
    shape: &Shape,
    stores: [&Store; 2],
    late: bool,
    batches: &mut Vec<Rows>,
) -> Result<()> {
    let mut rest = changes;
    while !rest.is_empty() {
        let mut n = rest.len().min(PAIRS);
        // An old row and the new one stay together.
        while n < rest.len() && rest.get(n - 1).is_some_and(|c| c.retracts) {
            n += 1;
        }
        let (piece, others) = rest.split_at(n);
        batches.push(piece_of(piece, shape, stores, late)?);
        rest = others;
    }
    Ok(())
}

fn piece_of(changes: &[Change], shape: &Shape, stores: [&Store; 2], late: bool) -> Result<Rows> {
    let mut columns = Vec::with_capacity(shape.schema.fields().len());
    for side in shape.sides() {
        let rows: Vec<u32> = changes.iter().filter_map(|c| c.rows.get(*side).copied()).collect();
        let Some(store) = stores.get(*side) else { continue };
        let mut places = store.places(&rows);
        for column in 0..store.columns() {
            columns.push(places.gather(column)?);
        }
    }
    if shape.join_type == JoinType::LeftMark {
        let marks: BooleanArray = changes.iter().map(|c| Some(c.rows[1] != NONE)).collect();
        columns.push(Arc::new(marks));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(changes.len()));
    let batch = RecordBatch::try_new_with_options(shape.schema.clone(), columns, &options)?;
    let time = changes.iter().map(|c| c.time).collect::<Vec<_>>().into();
    let retracts = changes.iter().any(|c| c.retracts);
    Ok(Rows {
        batch,
        time,
        row_watermark: late.then(|| changes.iter().map(|c| c.watermark).collect::<Vec<_>>().into()),
        retracts: retracts.then(|| changes.iter().map(|c| Some(c.retracts)).collect::<BooleanArray>()),
    })
}

//! The search for pairs: rows of one side against the store of the other.

use super::PAIRS;
use super::condition::Condition;
use super::store::Store;
use crate::error::Result;

/// Pairs of rows, one entry of each list a pair.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Rows of the left store.
    pub left: Vec<u32>,
    /// Rows of the right store.
    pub right: Vec<u32>,
}

impl Pairs {
    /// How many.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Keeps the pairs for which `keep` says so, in order.
    pub fn retain(&mut self, mut keep: impl FnMut() -> bool) {
        let mut kept = 0;
        for at in 0..self.left.len() {
            if keep() {
                self.left.swap(kept, at);
                self.right.swap(kept, at);
                kept += 1;
            }
        }
        self.left.truncate(kept);
        self.right.truncate(kept);
    }

    /// The pairs as (row of `side`, row of the other side).
    pub fn of(&self, side: usize) -> impl Iterator<Item = (u32, u32)> {
        let (own, other) = if side == 0 { (&self.left, &self.right) } else { (&self.right, &self.left) };
        own.iter().copied().zip(other.iter().copied())
    }
}

/// A search, done in pieces so that its memory is bounded whatever the number of pairs.
pub(super) struct Probe<'a> {
    side: usize,
    /// Rows of `side` with their keys.
    rows: &'a [(u32, u32)],
    at: usize,
    /// Where the chain of the row at `at` goes on; `None` before its beginning.
    chain: Option<u32>,
}

impl<'a> Probe<'a> {
    /// A search for the partners of `rows`, which are rows of `side` with their keys.
    pub fn new(side: usize, rows: &'a [(u32, u32)]) -> Self {
        Self { side, rows, at: 0, chain: None }
    }

    /// Fills `pairs` with the next ones that fulfil the condition; false at the end. `within(row, time, other_time)`
    /// says whether two rows can see each other.
    pub fn next(
        &mut self,
        condition: &Condition,
        stores: [&Store; 2],
        within: impl Fn(u32, i64, i64) -> bool,
        pairs: &mut Pairs,
    ) -> Result<bool> {
        pairs.left.clear();
        pairs.right.clear();
        let [left, right] = stores;
        let (own, other) = if self.side == 0 { (left, right) } else { (right, left) };
        let (owns, others) = match self.side {
            0 => (&mut pairs.left, &mut pairs.right),
            _ => (&mut pairs.right, &mut pairs.left),
        };
        while let Some((row, key)) = self.rows.get(self.at).copied() {
            let time = own.time(row);
            let start = self.chain.take().unwrap_or_else(|| other.head(key));
            for (partner, found) in other.chain(start) {
                if within(row, time, found.time) {
                    owns.push(row);
                    others.push(partner);
                    if owns.len() >= PAIRS {
                        self.chain = Some(other.after(partner));
                        condition.keep(stores, pairs)?;
                        return Ok(true);
                    }
                }
            }
            self.at += 1;
        }
        let found = !owns.is_empty();
        condition.keep(stores, pairs)?;
        Ok(found)
    }
}

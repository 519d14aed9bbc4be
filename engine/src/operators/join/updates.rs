//! A batch of rows, some of which take back earlier ones, reduced to what changes in a store.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use datafusion::common::hash_utils::{RandomState, create_hashes};

use super::NONE;
use super::store::Store;
use crate::error::Result;
use crate::message::Rows;

/// What a batch changes: rows with their keys.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Rows that were there before and have gone.
    pub removed: Vec<(u32, u32)>,
    /// Rows that are new.
    pub fresh: Vec<(u32, u32)>,
}

/// Takes rows, in the store from `base` on already, that all are new.
pub(super) fn all_new(base: u32, keys: &[u32]) -> Taken {
    Taken { removed: Vec::new(), fresh: (base..).zip(keys.iter().copied()).collect() }
}

/// Takes rows of which some take back others. `seen(stored, taking)`: whether a row stored at the one time can still be
/// taken back at the other. A row that is taken back and given again in one batch has not changed.
pub(super) fn net(
    store: &mut Store,
    base: u32,
    rows: &Rows,
    keys: &[u32],
    seen: impl Fn(i64, i64) -> bool,
) -> Result<Taken> {
    let hashes = Hashes::of(store, base, &rows.batch, keys.len())?;
    let retracts = |i: usize| rows.retracts.as_ref().is_some_and(|r| r.value(i));
    let mut removed: Vec<(u32, u32)> = Vec::new();
    let mut fresh: Vec<(u32, u32)> = Vec::new();
    // Removed rows by hash: the newest, and for each the one before.
    let (mut by_hash, mut before): (HashMap<u64, u32>, Vec<u32>) = (HashMap::new(), Vec::new());
    // Rows of this batch whose key is null: no store keeps them, and equal hashes are taken for equal rows.
    let mut unkept: HashMap<u64, Vec<usize>> = HashMap::new();
    // A row that takes back another is none that can be taken back.
    (base..).zip(0..keys.len()).filter(|(_, i)| retracts(*i)).for_each(|(row, _)| store.remove(row));
    for (i, (row, key)) in (base..).zip(keys.iter().copied()).enumerate() {
        if !retracts(i) {
            match revivable(store, &hashes, row, key, &removed, &by_hash, &before)? {
                Some(at) => {
                    let revived = removed.get_mut(at).map(|r| std::mem::replace(&mut r.0, NONE));
                    store.remove(row);
                    store.revive(revived.unwrap_or(NONE), key);
                }
                None => {
                    if key == NONE {
                        unkept.entry(hashes.get(row)).or_default().push(fresh.len());
                    }
                    fresh.push((row, key));
                }
            }
            continue;
        }
        if key == NONE {
            if let Some(given) = unkept.get_mut(&hashes.get(row)).and_then(Vec::pop).and_then(|at| fresh.get_mut(at)) {
                given.0 = NONE;
                continue;
            }
            // Such a row is never kept: this one speaks for it.
            removed.push((row, NONE));
            before.push(NONE);
            continue;
        }
        let time = store.time(row);
        let Some(found) = find(store, &hashes, row, key, |t| seen(t, time))? else { continue };
        store.remove(found);
        if found < base {
            let previous = by_hash.insert(hashes.get(row), removed.len() as u32).unwrap_or(NONE);
            before.push(previous);
            removed.push((found, key));
        }
    }
    removed.retain(|(row, _)| *row != NONE);
    fresh.retain(|(row, key)| *row != NONE && (*key == NONE || store.row(*row).is_some()));
    hashes.keep(store);
    Ok(Taken { removed, fresh })
}

/// The removed row that equals `row`, by its place in `removed`.
fn revivable(
    store: &Store,
    hashes: &Hashes,
    row: u32,
    key: u32,
    removed: &[(u32, u32)],
    by_hash: &HashMap<u64, u32>,
    before: &[u32],
) -> Result<Option<usize>> {
    let mut at = by_hash.get(&hashes.get(row)).copied().unwrap_or(NONE);
    let mut equality = store.equality();
    while let Some((old, old_key)) = removed.get(at as usize).copied() {
        if old != NONE && old_key == key && equality.same(old, row)? {
            return Ok(Some(at as usize));
        }
        at = before.get(at as usize).copied().unwrap_or(NONE);
    }
    Ok(None)
}

/// The newest row that equals `row`.
fn find(store: &Store, hashes: &Hashes, row: u32, key: u32, seen: impl Fn(i64) -> bool) -> Result<Option<u32>> {
    let mut equality = store.equality();
    for (other, found) in store.chain(store.head(key)) {
        // Rows of the same batch are in the store already, those after this one too.
        if other < row && hashes.get(other) == hashes.get(row) && seen(found.time) && equality.same(other, row)? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// A hash of each row of a store.
struct Hashes(Vec<u64>);

impl Hashes {
    /// The store's, and those of the rows that have just come.
    fn of(store: &mut Store, base: u32, batch: &RecordBatch, rows: usize) -> Result<Self> {
        let mut all = std::mem::take(&mut store.hashes);
        // Rows that came in batches without a retraction have none yet.
        if all.len() < base as usize {
            let old: Vec<u32> = (all.len() as u32..base).collect();
            let mut places = store.places(&old);
            let columns = (0..store.columns()).map(|c| places.gather(c)).collect::<Result<Vec<_>>>()?;
            all.extend(hash(&columns, old.len())?);
        }
        all.truncate(base as usize);
        all.extend(hash(batch.columns(), rows)?);
        Ok(Self(all))
    }

    fn get(&self, row: u32) -> u64 {
        self.0.get(row as usize).copied().unwrap_or(0)
    }

    fn keep(self, store: &mut Store) {
        store.hashes = self.0;
    }
}

fn hash(columns: &[arrow::array::ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows];
    create_hashes(columns, &RandomState::default(), &mut hashes)?;
    Ok(hashes)
}

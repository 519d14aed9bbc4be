//! `DISTINCT` inside an aggregate function: which rows are the first of their group with some arguments.
//!
//! The values that a group has seen are rows of a keyed state of their own, so a batch costs as much as the values it
//! brings, however many the group has. Functions with the same arguments share one look-up.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, SchemaRef, UInt64Type};

use super::function::Function;
use crate::error::Result;
use crate::operators::keyed_state::KeyedState;

/// The values seen by group, for the `DISTINCT` functions of one list of arguments.
pub(super) struct FirstSight {
    /// Which functions.
    pub(super) functions: Vec<usize>,
    retracting: bool,
    /// By group and arguments, how many rows have them, for each function; at most one, if none can be taken back.
    seen: KeyedState,
}

/// The rows that count for a function, and those that take back one that counted.
pub(super) struct Sights {
    pub(super) appended: BooleanArray,
    pub(super) retracted: Option<BooleanArray>,
}

impl FirstSight {
    /// One for each list of arguments.
    pub(super) fn all(functions: &[Function], retracting: bool, input: &SchemaRef) -> Result<Vec<Self>> {
        let mut lists: Vec<(String, Vec<usize>)> = Vec::new();
        for (i, f) in functions.iter().enumerate().filter(|(_, f)| f.first_sight) {
            let arguments = format!("{:?}", f.function.expressions());
            match lists.iter_mut().find(|(a, _)| *a == arguments) {
                Some((_, list)) => list.push(i),
                None => lists.push((arguments, vec![i])),
            }
        }
        let mut all = Vec::with_capacity(lists.len());
        for (_, list) in lists {
            let Some(first) = list.first().and_then(|i| functions.get(*i)) else { continue };
            let mut keys: Vec<FieldRef> = vec![Arc::new(Field::new("group", DataType::UInt64, false))];
            for (i, e) in first.function.expressions().iter().enumerate() {
                keys.push(Arc::new(Field::new(format!("value_{i}"), e.data_type(input)?, true)));
            }
            let rows = list.iter().map(|i| Arc::new(Field::new(format!("rows_{i}"), DataType::Int64, false)));
            let name = format!("distinct {}", list.iter().map(usize::to_string).collect::<Vec<_>>().join(" "));
            let seen = KeyedState::new(name, &keys, rows.collect())?;
            all.push(Self { functions: list, retracting, seen });
        }
        Ok(all)
    }

    /// Takes rows: the serial number of the group of each, the arguments, each function's filter, and which are taken
    /// back. Gives what counts for each function.
    pub(super) fn take(
        &mut self,
        group: UInt64Array,
        arguments: &[ArrayRef],
        filters: &[Option<&BooleanArray>],
        retracts: Option<&BooleanArray>,
    ) -> Result<Vec<Sights>> {
        let rows = group.len();
        let mut keys: Vec<ArrayRef> = vec![Arc::new(group)];
        keys.extend(arguments.iter().take(self.arguments()).cloned());
        let touched = self.seen.touch(&[(&keys, rows)])?;
        let (mut columns, mut sights) = (Vec::new(), Vec::new());
        let mut changed: Vec<bool> = (0..touched.len()).map(|i| i >= touched.known || self.retracting).collect();
        for (i, filter) in filters.iter().enumerate() {
            let before = self.seen.read(touched.known(), i, 1)?;
            let mut before =
                before.first().map(|b| b.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default();
            before.resize(touched.len(), 0);
            let mut after = before.clone();
            for (row, pair) in touched.numbers().enumerate() {
                if filter.is_some_and(|f| !f.value(row) || f.is_null(row)) {
                    continue;
                }
                let Some(n) = after.get_mut(pair) else { continue };
                let back = retracts.is_some_and(|r| r.value(row));
                *n += if back { -1 } else { 1 };
            }
            let most = if self.retracting { i64::MAX } else { 1 };
            after.iter_mut().for_each(|n| *n = (*n).clamp(0, most));
            changed.iter_mut().zip(before.iter().zip(&after)).for_each(|(c, (b, a))| *c |= b != a);
            sights.push(self.sights(&touched.first, rows, &before, &after));
            columns.push(Int64Array::from(after));
        }
        let which: UInt32Array =
            changed.iter().enumerate().filter(|(_, c)| **c).map(|(i, _)| i as u32).collect::<Vec<_>>().into();
        let written: Vec<u32> = which.values().iter().filter_map(|i| touched.rows.get(*i as usize).copied()).collect();
        let columns = columns.iter().map(|c| take(c, &which, None)).collect::<Result<Vec<_>, _>>()?;
        self.seen.write(&written, 0, &columns)?;
        Ok(sights)
    }

    fn sights(&self, first: &[(usize, usize)], rows: usize, before: &[i64], after: &[i64]) -> Sights {
        let (mut appended, mut retracted) = (vec![false; rows], vec![false; rows]);
        for ((_, row), (before, after)) in first.iter().zip(before.iter().zip(after)) {
            let mark = match (*before > 0, *after > 0) {
                (false, true) => &mut appended,
                (true, false) => &mut retracted,
                _ => continue,
            };
            mark.iter_mut().skip(*row).take(1).for_each(|m| *m = true);
        }
        Sights { appended: appended.into(), retracted: self.retracting.then(|| retracted.into()) }
    }

    fn arguments(&self) -> usize {
        self.seen.key_count() - 1
    }

    /// Forgets the values of all groups but these.
    pub(super) fn retain(&mut self, is_live: impl Fn(u64) -> bool) -> Result<()> {
        retain(&mut self.seen, |_, group| is_live(group))
    }

    pub(super) fn state(&self) -> &KeyedState {
        &self.seen
    }

    pub(super) fn state_mut(&mut self) -> &mut KeyedState {
        &mut self.seen
    }
}

/// Drops rows of a state whose first key column is the serial number of a group; `keep` is told row and group.
pub(super) fn retain(state: &mut KeyedState, keep: impl Fn(u32, u64) -> bool) -> Result<()> {
    let all: Vec<u32> = (0..state.len() as u32).collect();
    let Some(groups) = state.keys(&all)?.into_iter().next() else { return Ok(()) };
    let groups = groups.as_primitive::<UInt64Type>();
    let live: Vec<u32> = all.iter().zip(groups.values()).filter(|(r, g)| keep(**r, **g)).map(|(r, _)| *r).collect();
    if live.len() < all.len() { state.retain(&live) } else { Ok(()) }
}

//! The groups that a batch touches: their times, numbers of rows and serial numbers, before and after.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::compute::{filter, not};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};

use crate::error::Result;
use crate::message::{Rows, ascends};
use crate::operators::accumulate::Inputs;
use crate::operators::expiry::Expiry;
use crate::operators::keyed_state::Touched;

/// Where a group's values are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// The newest event time.
    pub(super) newest: usize,
    /// The number of its rows, where some can be taken back.
    pub(super) count: Option<usize>,
    /// A serial number, where more is kept by group.
    pub(super) serial: Option<usize>,
    /// The columns of the functions, from here on.
    pub(super) functions: usize,
}

impl Places {
    /// Those of the values that are needed, with the values before the functions'.
    pub(super) fn new(count: bool, serial: bool) -> (Self, Vec<FieldRef>) {
        let field = |name: &str, t: DataType| -> FieldRef { Arc::new(Field::new(name, t, false)) };
        let mut values = vec![field("newest_event_ns", DataType::Int64)];
        let mut place = |needed: bool, name: &str, t: DataType| {
            needed.then(|| {
                values.push(field(name, t));
                values.len() - 1
            })
        };
        let count = place(count, "row_count", DataType::Int64);
        let serial = place(serial, "group", DataType::UInt64);
        (Self { newest: 0, count, serial, functions: values.len() }, values)
    }
}

/// A piece of what comes in: the keys of its rows or states; for each, a time to tell whether its key has expired, its
/// event time, and whether it takes back another.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) keys: &'a [ArrayRef],
    pub(super) now: &'a [i64],
    pub(super) time: &'a [i64],
    pub(super) retracts: Option<&'a BooleanArray>,
}

/// The rows of a piece that count.
pub(super) struct Counted {
    /// The group of each.
    pub(super) number: Vec<usize>,
    /// So many groups have had a row when these have been taken.
    pub(super) groups: usize,
    /// What the functions take.
    pub(super) inputs: Inputs,
    /// Which of them are appended; all, if absent.
    pub(super) appended: Option<BooleanArray>,
    /// Which of them take back another; none, if absent.
    pub(super) retracts: Option<BooleanArray>,
}

/// With so many rows of each group, few of them are looked at to find its newest.
const ROWS_OF_GROUP: usize = 8;

/// A place among what comes in: which piece, and where in it.
type At = (usize, usize);

/// The groups that some pieces of input touch.
pub(super) struct Step {
    pub(super) touched: Touched,
    pub(super) newest: Vec<i64>,
    /// As long as `newest`, or empty if it is not kept.
    pub(super) count: Vec<i64>,
    /// As long as `newest`, or empty if it is not kept.
    pub(super) serial: Vec<u64>,
    /// The state of the first so many groups goes on: accumulators want groups to come in order.
    pub(super) going_on: usize,
    /// So many had a result: those that go on, then those whose key had expired.
    pub(super) had: usize,
    /// Whether groups are numbered as they came, so that [`TouchedBy::known`] holds.
    pub(super) in_order: bool,
    /// The rows of each piece that count, if a key expired within them.
    pub(super) live_rows: Vec<BooleanArray>,
}

impl Step {
    /// Of the values that known groups have; new ones begin.
    pub(super) fn new(touched: Touched, own: &[ArrayRef], places: Places, next_serial: &mut u64) -> Self {
        let (known, groups) = (touched.known, touched.len());
        let read = |place: Option<usize>| place.and_then(|at| own.get(at));
        let mut step = Self {
            newest: integers(read(Some(places.newest))),
            count: integers(read(places.count)),
            serial: read(places.serial).map(|s| s.as_primitive::<UInt64Type>().values().to_vec()).unwrap_or_default(),
            going_on: known,
            had: known,
            in_order: true,
            live_rows: Vec::new(),
            touched,
        };
        step.newest.resize(groups, i64::MIN);
        if places.count.is_some() {
            step.count.resize(groups, 0);
        }
        if places.serial.is_some() {
            let first = *next_serial;
            *next_serial += (groups - known) as u64;
            step.serial.extend(first..*next_serial);
        }
        step
    }

    /// Takes rows or states: moves times and numbers of rows on, and begins groups anew whose rows had all been taken
    /// back (unless `lasting`) or whose key had expired.
    pub(super) fn take(&mut self, arrivals: &[Arrival<'_>], expiry: &Expiry, lasting: bool, next_serial: &mut u64) {
        let known = self.touched.known;
        let is_there = |i: &usize| lasting || self.count.get(*i).is_none_or(|count| *count > 0);
        let had: Vec<usize> = (0..known).filter(is_there).collect();
        if had.len() < known {
            self.begin_again(&had, next_serial);
        }
        let renewed = self.count(arrivals, expiry);
        if renewed.is_empty() && had.len() == known {
            return;
        }
        let is_renewed = |i: usize| renewed.get(i).is_some_and(Option::is_some);
        let going_on: Vec<usize> = had.iter().copied().filter(|i| !is_renewed(*i)).collect();
        (self.going_on, self.had) = (going_on.len(), had.len());
        if !renewed.is_empty() {
            self.renew(&renewed, next_serial);
        }
        self.put_first(&going_on, &had);
    }

    /// Begins known groups anew, but for those that had a result.
    fn begin_again(&mut self, had: &[usize], next_serial: &mut u64) {
        let mut had = had.iter().copied().peekable();
        for i in 0..self.touched.known {
            if had.next_if_eq(&i).is_some() {
                continue;
            }
            self.newest.iter_mut().skip(i).take(1).for_each(|newest| *newest = i64::MIN);
            self.count.iter_mut().skip(i).take(1).for_each(|count| *count = 0);
            for serial in self.serial.iter_mut().skip(i).take(1) {
                *serial = *next_serial;
                *next_serial += 1;
            }
        }
    }

    /// Moves times and numbers of rows on; for each group, the place at which its key had expired. Empty if none had.
    fn count(&mut self, arrivals: &[Arrival<'_>], expiry: &Expiry) -> Vec<Option<At>> {
        let mut renewed: Vec<Option<At>> = Vec::new();
        let known = self.newest.get(..self.touched.known).unwrap_or_default();
        let expires = expiry.within(arrivals.iter().map(|a| (a.time, a.now)), known);
        if !expires && self.count.is_empty() {
            self.move_on(arrivals);
            return renewed;
        }
        for (piece, (arrival, touched)) in arrivals.iter().zip(&self.touched.pieces).enumerate() {
            let times = arrival.time.iter().zip(arrival.now);
            for (row, (number, (time, now))) in touched.number.iter().zip(times).enumerate() {
                let Some(newest) = self.newest.get_mut(*number) else { continue };
                let mut count = self.count.get_mut(*number);
                if expires && *newest != i64::MIN && expiry.is_expired(*newest, *now) {
                    renewed.resize(self.touched.rows.len(), None);
                    renewed.iter_mut().skip(*number).take(1).for_each(|r| *r = Some((piece, row)));
                    *newest = *time;
                    count.iter_mut().for_each(|count| **count = 0);
                }
                *newest = (*newest).max(*time);
                if let Some(count) = &mut count {
                    **count += if arrival.retracts.is_some_and(|r| r.value(row)) { -1 } else { 1 };
                }
            }
        }
        self.count.iter_mut().for_each(|c| *c = (*c).max(0));
        renewed
    }

    /// Moves times on, where no key expires.
    fn move_on(&mut self, arrivals: &[Arrival<'_>]) {
        let (rows, groups) = (arrivals.iter().map(|a| a.time.len()).sum::<usize>(), self.newest.len());
        let pieces = arrivals.iter().zip(&self.touched.pieces);
        if rows < ROWS_OF_GROUP * groups || !in_order(arrivals) {
            for (number, time) in pieces.flat_map(|(a, t)| t.number.iter().zip(a.time)) {
                if let Some(newest) = self.newest.get_mut(*number) {
                    *newest = (*newest).max(*time);
                }
            }
            return;
        }
        // From the end, the first row of a group is its newest, and most rows need not be looked at.
        let (mut is_met, mut left) = (vec![false; groups], groups);
        for (number, time) in pieces.rev().flat_map(|(a, t)| t.number.iter().zip(a.time).rev()) {
            let Some(met) = is_met.get_mut(*number).filter(|met| !**met) else { continue };
            *met = true;
            if let Some(newest) = self.newest.get_mut(*number) {
                *newest = (*newest).max(*time);
            }
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }

    /// Begins groups anew whose key had expired at some place; earlier rows do not count.
    fn renew(&mut self, renewed: &[Option<At>], next_serial: &mut u64) {
        for (serial, _) in self.serial.iter_mut().zip(renewed).filter(|(_, r)| r.is_some()) {
            *serial = *next_serial;
            *next_serial += 1;
        }
        let since = |number: &usize| renewed.get(*number).copied().flatten();
        for (piece, touched) in self.touched.pieces.iter().enumerate() {
            let counts = |(row, number)| Some(since(number).is_none_or(|since| (piece, row) >= since));
            self.live_rows.push(touched.number.iter().enumerate().map(counts).collect());
        }
    }

    /// Numbers the groups anew, so that those that go on come first, then the others that had a result.
    fn put_first(&mut self, going_on: &[usize], had: &[usize]) {
        // 0: goes on, 1: had a result, 2: new.
        let mut rank = vec![2_u8; self.touched.len()];
        for (groups, value) in [(had, 1), (going_on, 0)] {
            groups.iter().for_each(|i| rank.iter_mut().skip(*i).take(1).for_each(|r| *r = value));
        }
        let ranked = |value: u8| rank.iter().enumerate().filter(move |(_, r)| **r == value).map(|(i, _)| i);
        let order: Vec<usize> = ranked(0).chain(ranked(1)).chain(ranked(2)).collect();
        let mut new = vec![0; order.len()];
        for (to, from) in order.iter().enumerate() {
            new.iter_mut().skip(*from).take(1).for_each(|n| *n = to);
        }
        fn reorder<T: Copy>(all: &mut Vec<T>, order: &[usize]) {
            *all = order.iter().filter_map(|i| all.get(*i).copied()).collect();
        }
        reorder(&mut self.touched.rows, &order);
        reorder(&mut self.touched.first, &order);
        reorder(&mut self.newest, &order);
        reorder(&mut self.count, &order);
        reorder(&mut self.serial, &order);
        for number in self.touched.pieces.iter_mut().flat_map(|p| &mut p.number) {
            *number = new.get(*number).copied().unwrap_or(*number);
        }
        self.in_order = false;
    }

    /// What counts of the pieces that were taken.
    pub(super) fn counted(&mut self, pieces: &[(Rows, Inputs)]) -> Result<Vec<Counted>> {
        let (groups, mut live_rows) = (self.touched.len(), std::mem::take(&mut self.live_rows).into_iter());
        let mut counted = Vec::with_capacity(pieces.len());
        for (touched, (rows, inputs)) in std::mem::take(&mut self.touched.pieces).into_iter().zip(pieces) {
            let (mut number, mut inputs, mut retracts) = (touched.number, inputs.clone(), rows.retracts.clone());
            if let Some(live) = live_rows.next() {
                inputs = inputs.filter(&live)?;
                number = live.values().set_indices().filter_map(|i| number.get(i).copied()).collect();
                if let Some(r) = &mut retracts {
                    *r = filter(r, &live)?.as_boolean().clone();
                }
            }
            // Without a mask, an accumulator takes each group below the total for one that has had a value.
            let (groups, appended) = match (&retracts, self.in_order && !number.is_empty()) {
                (Some(retracts), _) => (groups, Some(not(retracts)?)),
                (None, true) => (touched.known, None),
                (None, false) => (groups, Some(BooleanArray::from(vec![true; number.len()]))),
            };
            counted.push(Counted { number, groups, inputs, appended, retracts });
        }
        Ok(counted)
    }

    /// The values before the functions', to be written.
    pub(super) fn own_columns(&self, places: Places) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(self.newest.clone()))];
        if places.count.is_some() {
            columns.push(Arc::new(Int64Array::from(self.count.clone())));
        }
        if places.serial.is_some() {
            columns.push(Arc::new(UInt64Array::from(self.serial.clone())));
        }
        columns
    }
}

/// Whether no row is before an earlier one.
fn in_order(arrivals: &[Arrival<'_>]) -> bool {
    let ends = arrivals.iter().filter_map(|a| a.time.first().zip(a.time.last()));
    let next = ends.clone().skip(1);
    ends.zip(next).all(|((_, last), (first, _))| last <= first) && arrivals.iter().all(|a| ascends(a.time))
}

/// The values of a column of integers; none without one.
pub(super) fn integers(column: Option<&ArrayRef>) -> Vec<i64> {
    column.map(|c| c.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default()
}

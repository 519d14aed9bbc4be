//! The rows of each group, with how often each occurs, for functions that cannot take a row back (min, max, lists,
//! percentiles): their results are made anew from the rows of the groups that a batch touches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, SchemaRef, UInt64Type};
use datafusion::logical_expr::EmitTo;

use super::first_sight::retain;
use super::function::{Function, Upkeep};
use crate::error::Result;
use crate::operators::accumulate::{Aggregation, Inputs, accumulator};
use crate::operators::keyed_state::KeyedState;

/// Rows that do not occur any more are dropped when there are more of them than this, and than others.
const DEAD_MIN: usize = 1024;

/// The rows of groups.
pub(super) struct Multiset {
    /// Which functions need them, how many arguments each has, and whether a filter comes after them.
    functions: Vec<(usize, usize, bool)>,
    /// By group, arguments and filters, how many rows have them.
    rows: KeyedState,
    /// The rows of each group, oldest first.
    of_group: HashMap<u64, Vec<u32>>,
    dead: usize,
}

impl Multiset {
    /// `None` if no function needs it.
    pub(super) fn new(functions: &[Function], aggregation: &Aggregation, input: &SchemaRef) -> Result<Option<Self>> {
        let mut keys: Vec<FieldRef> = vec![Arc::new(Field::new("group", DataType::UInt64, false))];
        let mut own = Vec::new();
        let all = functions.iter().zip(&aggregation.aggregates).enumerate();
        for (i, (function, aggregate)) in all.filter(|(_, (f, _))| f.upkeep == Upkeep::Recompute) {
            let order = function.function.order_bys().iter().map(|o| &o.expr);
            let arguments = function.function.expressions();
            own.push((i, arguments.len() + order.len(), aggregate.filter.is_some()));
            for e in arguments.iter().chain(order) {
                keys.push(Arc::new(Field::new(format!("value_{}", keys.len()), e.data_type(input)?, true)));
            }
            if aggregate.filter.is_some() {
                keys.push(Arc::new(Field::new(format!("filter_{}", keys.len()), DataType::Boolean, true)));
            }
        }
        if own.is_empty() {
            return Ok(None);
        }
        let count = vec![Arc::new(Field::new("rows", DataType::Int64, false)) as FieldRef];
        let rows = KeyedState::new("rows", &keys, count)?;
        Ok(Some(Self { functions: own, rows, of_group: HashMap::new(), dead: 0 }))
    }

    /// Takes rows: the serial number of the group of each, and which are taken back.
    pub(super) fn take(&mut self, group: &UInt64Array, inputs: &Inputs, retracts: Option<&BooleanArray>) -> Result<()> {
        let mut keys: Vec<ArrayRef> = vec![Arc::new(group.clone())];
        for (i, _, filtered) in &self.functions {
            keys.extend(inputs.arguments.get(*i).into_iter().flatten().cloned());
            if let Some(filter) = inputs.filters.get(*i).and_then(Option::as_ref).filter(|_| *filtered) {
                keys.push(Arc::new(filter.clone()));
            }
        }
        let touched = self.rows.touch(&[(&keys, inputs.rows)])?;
        let counts = self.rows.read(touched.known(), 0, 1)?;
        let mut after = counts.first().map(|c| c.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default();
        after.resize(touched.len(), 0);
        for (row, (_, first)) in touched.rows.iter().zip(&touched.first).skip(touched.known) {
            self.of_group.entry(group.value(*first)).or_default().push(*row);
            self.dead += 1;
        }
        let before = after.clone();
        for (row, number) in touched.numbers().enumerate() {
            if let Some(n) = after.get_mut(number) {
                *n += if retracts.is_some_and(|r| r.value(row)) { -1 } else { 1 };
            }
        }
        for (before, after) in before.iter().zip(&mut after) {
            *after = (*after).max(0);
            self.dead = match (*before > 0, *after > 0) {
                (true, false) => self.dead + 1,
                (false, true) => self.dead.saturating_sub(1),
                _ => self.dead,
            };
        }
        self.rows.write(&touched.rows, 0, &[Arc::new(Int64Array::from(after)) as ArrayRef])?;
        if self.dead > DEAD_MIN && self.dead * 2 > self.rows.len() {
            self.retain(|_| true)?;
        }
        Ok(())
    }

    /// The results of all functions that are recomputed, for some groups, with their numbers among all functions.
    pub(super) fn results(&self, functions: &[Function], groups: &[u64]) -> Result<Vec<(usize, ArrayRef)>> {
        let mut rows: Vec<u32> = Vec::new();
        let mut numbers: Vec<usize> = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let own = self.of_group.get(group).into_iter().flatten();
            rows.extend(own);
            numbers.resize(rows.len(), number);
        }
        let counts = self.rows.read(&rows, 0, 1)?;
        let counts = counts.first().map(|c| c.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default();
        let (mut repeated, mut group_of) = (Vec::new(), Vec::new());
        for ((at, count), number) in counts.iter().enumerate().zip(&numbers) {
            for _ in 0..*count {
                repeated.push(at as u32);
                group_of.push(*number);
            }
        }
        let repeated = UInt32Array::from(repeated);
        let keys = self.rows.keys(&rows)?;
        let mut columns = keys.iter().skip(1);
        let mut results = Vec::with_capacity(self.functions.len());
        for (i, arguments, filtered) in &self.functions {
            let mut next = || columns.next().map(|c| Ok(take(c, &repeated, None)?));
            let values = (0..*arguments).map_while(|_| next()).collect::<Result<Vec<_>>>()?;
            let filter = if *filtered { next().transpose()? } else { None };
            let Some(function) = functions.get(*i) else { continue };
            let mut accumulator = accumulator(&function.function)?;
            // With a filter an accumulator notes which groups have had a value; without one it takes all to have.
            let filter = match &filter {
                Some(filter) => filter.as_boolean().clone(),
                None => vec![true; repeated.len()].into(),
            };
            accumulator.update_batch(&values, &group_of, Some(&filter), groups.len())?;
            results.push((*i, accumulator.evaluate(EmitTo::All)?));
        }
        Ok(results)
    }

    /// Drops the rows of all groups but these, and rows that do not occur any more.
    pub(super) fn retain(&mut self, is_live: impl Fn(u64) -> bool) -> Result<()> {
        let all: Vec<u32> = (0..self.rows.len() as u32).collect();
        let counts = self.rows.read(&all, 0, 1)?;
        let counts = counts.first().map(|c| c.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default();
        let occurs = |row: u32| counts.get(row as usize).is_some_and(|n| *n > 0);
        retain(&mut self.rows, |row, group| occurs(row) && is_live(group))?;
        self.index()
    }

    fn index(&mut self) -> Result<()> {
        self.of_group.clear();
        self.dead = 0;
        let all: Vec<u32> = (0..self.rows.len() as u32).collect();
        let Some(groups) = self.rows.keys(&all)?.into_iter().next() else { return Ok(()) };
        for (row, group) in all.iter().zip(groups.as_primitive::<UInt64Type>().values()) {
            self.of_group.entry(*group).or_default().push(*row);
        }
        Ok(())
    }

    pub(super) fn state(&self) -> &KeyedState {
        &self.rows
    }

    pub(super) fn state_mut(&mut self) -> &mut KeyedState {
        &mut self.rows
    }

    /// Bytes held, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes() + self.rows.len() * size_of::<u32>() + self.of_group.len() * 2 * size_of::<Vec<u32>>()
    }
}

//! The state of an updating aggregate, and what a batch does to it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::changes::{Changes, taken_back};
use super::first_sight::{FirstSight, Sights};
use super::function::{Function, News};
use super::multiset::Multiset;
use super::share;
use super::spec::UpdatingAggregate;
use crate::error::Result;
use crate::message::{Rows, SliceState};
use crate::operators::accumulate::Inputs;
use crate::operators::expiry::Expiry;
use crate::operators::failing::of_good_rows;
use crate::operators::keyed_state::{KeyedState, Touched};
use crate::operators::{Operator, Output, StateChange};
use crate::time::{WATERMARK_MAX, Watermark};

/// The places of what every group has among the values of its state; the functions' columns follow.
const NEWEST: usize = 0;
const COUNT: usize = 1;
const SERIAL: usize = 2;
const FUNCTIONS: usize = 3;

/// Groups are taken back in batches of this many.
const ROWS_PER_EMIT: usize = 64 * 1024;

/// One updating aggregate.
pub(super) struct Updating {
    spec: UpdatingAggregate,
    /// By key: the newest event time, the number of rows (if some can be taken back), a serial number, and the state of
    /// each function.
    groups: KeyedState,
    first_sights: Vec<FirstSight>,
    multiset: Option<Multiset>,
    expiry: Expiry,
    /// Each group gets another one, and a key that expired and came back too: what is kept by group is told apart by it.
    next_serial: u64,
}

/// The groups that a batch touches, before and after.
struct Step {
    touched: Touched,
    newest: Vec<i64>,
    count: Vec<i64>,
    serial: Vec<u64>,
    /// The state of the first so many groups goes on: accumulators want groups to come in order.
    going_on: usize,
    /// So many had a result: those that go on, then those whose key had expired.
    had: usize,
    /// The rows of the batch that count, if a key expired within it.
    live_rows: Option<BooleanArray>,
}

/// What comes in: a time for each row or state, to tell whether its key has expired; its event time; whether it takes
/// back another.
struct Arrival<'a> {
    now: &'a [i64],
    time: &'a [i64],
    retracts: Option<&'a BooleanArray>,
}

impl Updating {
    pub(super) fn new(spec: UpdatingAggregate) -> Result<Self> {
        let field = |name: &str, t: DataType| -> FieldRef { Arc::new(Field::new(name, t, false)) };
        let mut values = vec![
            field("newest_event_ns", DataType::Int64),
            field("row_count", DataType::Int64),
            field("group", DataType::UInt64),
        ];
        values.extend(spec.functions.iter().flat_map(|f| f.columns.iter().cloned()));
        Ok(Self {
            groups: KeyedState::new("groups", &spec.aggregation.group_fields, values)?,
            first_sights: FirstSight::all(&spec.functions, spec.retracting, &spec.input)?,
            multiset: Multiset::new(&spec.functions, &spec.aggregation, &spec.input)?,
            expiry: Expiry::new(spec.keep),
            next_serial: 0,
            spec,
        })
    }

    /// Whether a group is there without rows: there is always one if there are no keys.
    fn is_global(&self) -> bool {
        self.spec.aggregation.groups.is_empty()
    }

    /// Finds the groups and brings everything up to date but the functions.
    fn step(&mut self, keys: &[ArrayRef], arrival: &Arrival<'_>) -> Result<Step> {
        let touched = self.groups.touch(keys, arrival.time.len())?;
        let n = touched.len();
        let own = self.groups.read(&touched.rows, NEWEST, FUNCTIONS)?;
        let mut newest = integers(own.get(NEWEST));
        let mut count = integers(own.get(COUNT));
        let mut serial = own.get(SERIAL).map(|s| s.as_primitive::<UInt64Type>().values().to_vec()).unwrap_or_default();
        let mut had = Vec::with_capacity(n);
        for (i, row) in touched.rows.iter().enumerate() {
            let (Some(newest), Some(count), Some(serial)) = (newest.get_mut(i), count.get_mut(i), serial.get_mut(i))
            else {
                continue;
            };
            let is_known = *row < touched.known;
            if is_known && (*count > 0 || self.is_global()) {
                had.push(i);
                continue;
            }
            (*newest, *count, *serial) = (i64::MIN, 0, self.next_serial);
            self.next_serial += 1;
        }
        let mut renewed: Vec<Option<usize>> = Vec::new();
        for (row, (number, (time, now))) in touched.number.iter().zip(arrival.time.iter().zip(arrival.now)).enumerate()
        {
            let (Some(newest), Some(count)) = (newest.get_mut(*number), count.get_mut(*number)) else { continue };
            if *newest != i64::MIN && self.expiry.is_expired(*newest, *now) {
                renewed.resize(n, None);
                renewed.iter_mut().skip(*number).take(1).for_each(|r| *r = Some(row));
                (*newest, *count) = (*time, 0);
            }
            *newest = (*newest).max(*time);
            *count += if arrival.retracts.is_some_and(|r| r.value(row)) { -1 } else { 1 };
        }
        count.iter_mut().for_each(|c| *c = (*c).max(0));
        let going_on =
            had.iter().copied().filter(|i| !renewed.get(*i).is_some_and(Option::is_some)).collect::<Vec<_>>();
        let mut step =
            Step { touched, newest, count, serial, going_on: going_on.len(), had: had.len(), live_rows: None };
        if !renewed.is_empty() {
            self.renew(&renewed, &mut step);
        }
        step.put_first(&going_on, &had);
        Ok(step)
    }

    /// Begins groups anew whose key had expired at a row of the batch; earlier rows do not count.
    fn renew(&mut self, renewed: &[Option<usize>], step: &mut Step) {
        for (serial, _) in step.serial.iter_mut().zip(renewed).filter(|(_, r)| r.is_some()) {
            *serial = self.next_serial;
            self.next_serial += 1;
        }
        let since = |number: &usize| renewed.get(*number).copied().flatten();
        let counts = |(row, number): (usize, &usize)| Some(since(number).is_none_or(|since| row >= since));
        step.live_rows = Some(step.touched.number.iter().enumerate().map(counts).collect());
    }

    fn rows(&mut self, rows: &Rows, mut inputs: Inputs, out: &mut Output) -> Result<()> {
        let now = Expiry::now(rows);
        let mut retracts = rows.retracts.clone();
        let arrival = Arrival { now: &now, time: rows.time.values(), retracts: retracts.as_ref() };
        let keys = std::mem::take(&mut inputs.groups);
        let step = self.step(&keys, &arrival)?;
        let mut number = step.touched.number.clone();
        if let Some(live) = &step.live_rows {
            inputs = inputs.filter(live)?;
            number = live.values().set_indices().filter_map(|i| number.get(i).copied()).collect();
            retracts = match retracts {
                Some(r) => Some(arrow::compute::filter(&r, live)?.as_boolean().clone()),
                None => None,
            };
        }
        self.take_rows(&keys, &step, &inputs, &number, retracts.as_ref(), out)
    }

    /// The one row that an aggregate without keys has over no rows, when the input has ended with none.
    fn nothing(&mut self, out: &mut Output) -> Result<()> {
        let inputs = self.spec.aggregation.inputs(&RecordBatch::new_empty(self.spec.input.clone()))?;
        let step = self.step(&[], &Arrival { now: &[0], time: &[0], retracts: None })?;
        self.take_rows(&[], &step, &inputs, &[], None, out)
    }

    /// Moves the functions on by rows: `number` is the group of each.
    fn take_rows(
        &mut self,
        keys: &[ArrayRef],
        step: &Step,
        inputs: &Inputs,
        number: &[usize],
        retracts: Option<&BooleanArray>,
        out: &mut Output,
    ) -> Result<()> {
        let group: Option<UInt64Array> = (!self.first_sights.is_empty() || self.multiset.is_some())
            .then(|| number.iter().filter_map(|n| step.serial.get(*n).copied()).collect::<Vec<_>>().into());
        let sights = match &group {
            Some(group) => self.first_sights(group, inputs, retracts)?,
            None => Vec::new(),
        };
        let recomputed = match (&mut self.multiset, &group) {
            (Some(multiset), Some(group)) => {
                multiset.take(group, inputs, retracts)?;
                multiset.results(&self.spec.functions, &step.serial)?
            }
            _ => Vec::new(),
        };
        let functions = self.spec.functions.clone();
        let news = |i: usize, function: &Function| {
            if let Some((_, result)) = recomputed.iter().find(|(at, _)| *at == i) {
                return Ok(Advance::To(vec![result.clone()]));
            }
            let arguments = inputs.arguments.get(i).cloned().unwrap_or_default();
            if function.first_sight {
                let own = sights.iter().find(|(at, _)| *at == i).map(|(_, s)| s);
                return Ok(Advance::By {
                    arguments,
                    appended: own.map(|s| s.appended.clone()),
                    retracted: own.and_then(|s| s.retracted.clone()),
                });
            }
            let filter = inputs.filters.get(i).and_then(Option::as_ref);
            let (appended, retracted) = signs(filter, retracts)?;
            Ok(Advance::By { arguments, appended, retracted })
        };
        let advance: Vec<Advance> = functions.iter().enumerate().map(|(i, f)| news(i, f)).collect::<Result<_>>()?;
        self.finish(keys, step, number, &advance, out)
    }

    fn first_sights(
        &mut self,
        group: &UInt64Array,
        inputs: &Inputs,
        retracts: Option<&BooleanArray>,
    ) -> Result<Vec<(usize, Sights)>> {
        let mut all = Vec::new();
        for seen in &mut self.first_sights {
            let arguments = seen.functions.first().and_then(|i| inputs.arguments.get(*i));
            let filters: Vec<Option<&BooleanArray>> =
                seen.functions.iter().map(|i| inputs.filters.get(*i).and_then(Option::as_ref)).collect();
            let sights =
                seen.take(group.clone(), arguments.map(Vec::as_slice).unwrap_or_default(), &filters, retracts)?;
            all.extend(seen.functions.iter().copied().zip(sights));
        }
        Ok(all)
    }

    /// Moves the functions on, sends what changed and writes the state.
    fn finish(
        &mut self,
        keys: &[ArrayRef],
        step: &Step,
        number: &[usize],
        advance: &[Advance],
        out: &mut Output,
    ) -> Result<()> {
        let groups = step.touched.len();
        let had_rows = step.touched.rows.get(..step.had).unwrap_or_default();
        let (mut columns, mut old_results, mut results) = (step.own_columns(), Vec::new(), Vec::new());
        let mut from = FUNCTIONS;
        for (function, advance) in self.spec.functions.iter().zip(advance) {
            let old = self.groups.read(had_rows, from, function.columns.len())?;
            from += function.columns.len();
            let kept: Vec<ArrayRef> = old.iter().map(|c| c.slice(0, step.going_on)).collect();
            let new = match advance {
                Advance::To(columns) => columns.clone(),
                Advance::By { arguments, appended, retracted } => {
                    let news = News::Rows { arguments, appended: appended.as_ref(), retracted: retracted.as_ref() };
                    function.advance(&kept, step.going_on, &news, number, groups)?
                }
                Advance::Merge(states) => {
                    function.advance(&kept, step.going_on, &News::States(states), number, groups)?
                }
            };
            if step.had > 0 {
                old_results.push(function.result(&old, step.had)?);
            }
            results.push(function.result(&new, groups)?);
            columns.extend(new);
        }
        if step.had == 0 {
            old_results = results.iter().map(|r| r.slice(0, 0)).collect();
        }
        let have: Option<Vec<bool>> =
            (self.spec.retracting && !self.is_global()).then(|| step.count.iter().map(|c| *c > 0).collect());
        let first = UInt32Array::from(step.touched.first.clone());
        let keys = keys.iter().map(|k| Ok(take(k, &first, None)?)).collect::<Result<Vec<_>>>()?;
        let changes = Changes {
            keys: &keys,
            newest: &step.newest,
            had: step.had,
            old: &old_results,
            have: have.as_deref(),
            new: &results,
        };
        out.batches.extend(changes.rows(&self.spec.schema)?);
        self.groups.write(&step.touched.rows, 0, &columns)
    }

    /// Takes back and drops every group whose newest event is before `limit`.
    fn sweep(&mut self, limit: i64, out: &mut Output) -> Result<()> {
        let all: Vec<u32> = (0..self.groups.len() as u32).collect();
        let own = self.groups.read(&all, NEWEST, 2)?;
        let (newest, count) = (integers(own.get(NEWEST)), integers(own.get(COUNT)));
        let dated = || all.iter().zip(newest.iter().zip(&count));
        let expired: Vec<u32> = dated().filter(|(_, (t, c))| **t < limit && **c > 0).map(|(r, _)| *r).collect();
        let live: Vec<u32> = dated().filter(|(_, (t, c))| **t >= limit && **c > 0).map(|(r, _)| *r).collect();
        for rows in expired.chunks(ROWS_PER_EMIT).filter(|_| !self.spec.windowed) {
            let mut results = Vec::with_capacity(self.spec.functions.len());
            let mut from = FUNCTIONS;
            for function in self.spec.functions.iter() {
                let columns = self.groups.read(rows, from, function.columns.len())?;
                from += function.columns.len();
                results.push(function.result(&columns, rows.len())?);
            }
            let times: Int64Array = rows.iter().filter_map(|r| newest.get(*r as usize).copied()).collect();
            out.batches.push(taken_back(&self.spec.schema, self.groups.keys(rows)?, results, times)?);
        }
        if live.len() < all.len() { self.retain(&live) } else { Ok(()) }
    }

    /// Keeps only these groups, and what belongs to them.
    fn retain(&mut self, live: &[u32]) -> Result<()> {
        self.groups.retain(live)?;
        if self.first_sights.is_empty() && self.multiset.is_none() {
            return Ok(());
        }
        let all: Vec<u32> = (0..self.groups.len() as u32).collect();
        let serial = self.groups.read(&all, SERIAL, 1)?;
        let serial: std::collections::HashSet<u64> = serial
            .first()
            .map(|s| s.as_primitive::<UInt64Type>().values().iter().copied().collect())
            .unwrap_or_default();
        for seen in &mut self.first_sights {
            seen.retain(|group| serial.contains(&group))?;
        }
        match &mut self.multiset {
            Some(multiset) => multiset.retain(|group| serial.contains(&group)),
            None => Ok(()),
        }
    }

    /// The greatest serial number in state files, of groups or of what belongs to one.
    fn last_serial(state: &[RecordBatch]) -> Option<u64> {
        let serials =
            |b: &RecordBatch| b.column_by_name("group").and_then(|c| c.as_primitive_opt::<UInt64Type>().cloned());
        state.iter().filter_map(serials).filter_map(|s| s.values().iter().copied().max()).max()
    }
}

/// What moves a function's columns on.
enum Advance {
    /// To these.
    To(Vec<ArrayRef>),
    /// By these rows.
    By { arguments: Vec<ArrayRef>, appended: Option<BooleanArray>, retracted: Option<BooleanArray> },
    /// By these states.
    Merge(Vec<ArrayRef>),
}

impl Step {
    /// Numbers the groups anew, so that those that go on come first, then the others that had a result.
    fn put_first(&mut self, going_on: &[usize], had: &[usize]) {
        if self.had == self.touched.len() && going_on.len() == had.len() {
            return;
        }
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
        for number in &mut self.touched.number {
            *number = new.get(*number).copied().unwrap_or(*number);
        }
    }

    fn own_columns(&self) -> Vec<ArrayRef> {
        vec![
            Arc::new(Int64Array::from(self.newest.clone())),
            Arc::new(Int64Array::from(self.count.clone())),
            Arc::new(UInt64Array::from(self.serial.clone())),
        ]
    }
}

fn integers(column: Option<&ArrayRef>) -> Vec<i64> {
    column.map(|c| c.as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default()
}

/// The rows that count and those that are taken back, of the rows that a filter lets through.
fn signs(
    filter: Option<&BooleanArray>,
    retracts: Option<&BooleanArray>,
) -> Result<(Option<BooleanArray>, Option<BooleanArray>)> {
    let Some(retracts) = retracts else { return Ok((filter.cloned(), None)) };
    let appended = arrow::compute::not(retracts)?;
    Ok(match filter {
        None => (Some(appended), Some(retracts.clone())),
        Some(filter) => {
            let filter = if filter.null_count() > 0 { &arrow::compute::prep_null_mask_filter(filter) } else { filter };
            let both = |sign: &BooleanArray| arrow::compute::and(filter, sign);
            (Some(both(&appended)?), Some(both(retracts)?))
        }
    })
}

impl Operator for Updating {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let aggregation = self.spec.aggregation.clone();
        for (rows, inputs) in of_good_rows(rows, out, &|rows| aggregation.inputs(&rows.batch))? {
            self.rows(&rows, inputs, out)?;
        }
        Ok(())
    }

    fn on_slice(&mut self, slice: &SliceState, out: &mut Output) -> Result<()> {
        let share::Parts { first, newest, keys, mut states } =
            share::read(slice, self.spec.aggregation.group_fields.len())?;
        let step = self.step(keys, &Arrival { now: first, time: newest, retracts: None })?;
        let mut advance = Vec::with_capacity(self.spec.functions.len());
        for aggregate in &self.spec.aggregation.aggregates {
            let (own, rest) = states.split_at(aggregate.function.state_fields()?.len().min(states.len()));
            advance.push(Advance::Merge(own.to_vec()));
            states = rest;
        }
        self.finish(keys, &step, &step.touched.number, &advance, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        if let Some(limit) = self.expiry.due(watermark) {
            self.sweep(limit, out)?;
        }
        if watermark == WATERMARK_MAX && self.is_global() && self.groups.is_empty() {
            self.nothing(out)?;
        }
        Ok(watermark)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let seen = self.first_sights.iter_mut().map(FirstSight::state_mut);
        let parts = std::iter::once(&mut self.groups).chain(seen);
        KeyedState::snapshot(parts.chain(self.multiset.as_mut().map(Multiset::state_mut)), whole)
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.next_serial = Self::last_serial(&state).map_or(0, |s| s + 1);
        self.groups.restore(&state)?;
        for seen in &mut self.first_sights {
            seen.state_mut().restore(&state)?;
        }
        if let Some(multiset) = &mut self.multiset {
            multiset.state_mut().restore(&state)?;
        }
        let limit = self.expiry.restore(watermark).unwrap_or(i64::MIN);
        let all: Vec<u32> = (0..self.groups.len() as u32).collect();
        let own = self.groups.read(&all, NEWEST, 2)?;
        let dated = all.iter().zip(integers(own.get(NEWEST)).into_iter().zip(integers(own.get(COUNT))));
        let global = self.is_global();
        let live: Vec<u32> = dated.filter(|(_, (t, c))| *t >= limit && (*c > 0 || global)).map(|(r, _)| *r).collect();
        self.retain(&live)
    }

    fn state_bytes(&self) -> usize {
        self.groups.bytes()
            + self.first_sights.iter().map(|s| s.state().bytes()).sum::<usize>()
            + self.multiset.as_ref().map_or(0, Multiset::bytes)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::Schema;
    use datafusion::functions_aggregate::count::count_udaf;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::Column;

    use super::*;
    use crate::operators::accumulate::{Aggregate, Aggregation};
    use crate::time::SECOND;

    /// `SELECT k, count(DISTINCT k) FROM t GROUP BY k`, with a time to live of a minute.
    fn counts() -> UpdatingAggregate {
        let field: FieldRef = Arc::new(Field::new("k", DataType::Int64, true));
        let input = Arc::new(Schema::new(vec![field.clone()]));
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
        let count = AggregateExprBuilder::new(count_udaf(), vec![key.clone()])
            .schema(input.clone())
            .alias("n")
            .with_distinct(true)
            .build()
            .unwrap();
        let aggregates = vec![Aggregate { function: Arc::new(count), filter: None }];
        let aggregation = Aggregation::new(vec![key], vec![field.clone()], aggregates).unwrap();
        let schema = Arc::new(Schema::new(vec![field, Arc::new(Field::new("n", DataType::Int64, true))]));
        UpdatingAggregate::new(Arc::new(aggregation), input, schema, 60 * SECOND, false).unwrap()
    }

    #[test]
    fn an_hour_of_new_keys_takes_the_memory_of_some_minutes() {
        let mut updating = Updating::new(counts()).unwrap();
        let (mut most, mut appended, mut retracted) = (0, 0, 0);
        for second in 0..3600_i64 {
            let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(second * 100..(second + 1) * 100));
            let batch = RecordBatch::try_from_iter([("k", keys)]).unwrap();
            let mut out = Output::default();
            let rows = Rows::new(batch, vec![second * SECOND; 100].into());
            updating.on_batch(0, rows, &mut out).unwrap();
            updating.on_watermark(second * SECOND, &mut out).unwrap();
            for rows in &out.batches {
                let back = rows.retracts.as_ref().map_or(0, BooleanArray::true_count);
                retracted += back;
                appended += rows.len() - back;
            }
            let KeyedStateSize { groups, values } = updating.sizes();
            assert!(groups <= 7_000 && values <= 7_000, "{groups} groups and {values} values at {second} s");
            if second > 300 {
                most = most.max(updating.state_bytes());
            } else if second == 300 {
                most = updating.state_bytes();
            }
        }
        assert_eq!(appended, 360_000);
        assert!((353_000..=354_500).contains(&retracted), "{retracted} taken back");
        assert!(most < 4 << 20, "{most} bytes for a minute of 100 keys a second");
    }

    struct KeyedStateSize {
        groups: usize,
        values: usize,
    }

    impl Updating {
        fn sizes(&self) -> KeyedStateSize {
            let values = self.first_sights.iter().map(|s| s.state().len()).sum();
            KeyedStateSize { groups: self.groups.len(), values }
        }
    }
}

//! The state of an updating aggregate, and what a batch does to it.

use std::borrow::Cow;
use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::compute::{and, prep_null_mask_filter};
use arrow::datatypes::UInt64Type;
use arrow::record_batch::RecordBatch;

use super::changes::{Changes, taken_back};
use super::first_sight::{FirstSight, Sights};
use super::function::{News, RowNews};
use super::multiset::Multiset;
use super::share;
use super::spec::UpdatingAggregate;
use super::step::{Arrival, Counted, Places, Step, integers};
use super::waiting::{Input, Waiting, pieces, shares};
use crate::error::Result;
use crate::message::{Rows, SliceState};
use crate::operators::accumulate::Inputs;
use crate::operators::expiry::Expiry;
use crate::operators::failing::of_good_rows;
use crate::operators::keyed_state::KeyedState;
use crate::operators::{Operator, Output, StateChange};
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// Groups are taken back in batches of this many.
const ROWS_PER_EMIT: usize = 64 * 1024;

/// One updating aggregate.
pub(super) struct Updating {
    spec: UpdatingAggregate,
    /// By key: what [`Places`] says, and the state of each function.
    groups: KeyedState,
    places: Places,
    first_sights: Vec<FirstSight>,
    multiset: Option<Multiset>,
    expiry: Expiry,
    waiting: Waiting,
    /// Whether a watermark waits too.
    withholds: bool,
    /// What waits is worked off when this would sweep: so the changes of a key are as close together as its rows, but
    /// for an eighth of the time to live.
    pace: Expiry,
    /// Each group gets another one, and a key that expired and came back too: what is kept by group is told apart by it.
    next_serial: u64,
}

impl Updating {
    pub(super) fn new(spec: UpdatingAggregate) -> Result<Self> {
        let first_sights = FirstSight::all(&spec.functions, spec.retracting, &spec.input)?;
        let multiset = Multiset::new(&spec.functions, &spec.aggregation, &spec.input)?;
        let (places, mut values) = Places::new(spec.retracting, !first_sights.is_empty() || multiset.is_some());
        values.extend(spec.functions.iter().flat_map(|f| f.columns.iter().cloned()));
        Ok(Self {
            groups: KeyedState::new("groups", &spec.aggregation.group_fields, values)?,
            places,
            first_sights,
            multiset,
            expiry: Expiry::new(spec.keep),
            waiting: Waiting::default(),
            withholds: false,
            pace: Expiry::new(spec.ttl),
            next_serial: 0,
            spec,
        })
    }

    /// Whether a group is there without rows: there is always one if there are no keys.
    fn is_global(&self) -> bool {
        self.spec.aggregation.groups.is_empty()
    }

    /// Takes all that waits.
    fn work(&mut self, out: &mut Output) -> Result<()> {
        for input in self.waiting.take() {
            match input {
                Input::Rows(batches) => {
                    let aggregation = self.spec.aggregation.clone();
                    let mut good = Vec::with_capacity(batches.len());
                    for rows in pieces(batches)? {
                        good.extend(of_good_rows(rows, out, &|rows| aggregation.inputs(&rows.batch))?);
                    }
                    if !good.is_empty() {
                        self.rows(&good, out)?;
                    }
                }
                Input::Shares(all) => {
                    if let Some(share) = shares(&all)? {
                        self.share(&share, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds the groups and brings everything up to date but the functions.
    fn step(&mut self, arrivals: &[Arrival<'_>]) -> Result<Step> {
        let keys: Vec<(&[ArrayRef], usize)> = arrivals.iter().map(|a| (a.keys, a.time.len())).collect();
        let touched = self.groups.touch(&keys)?;
        let own = self.groups.read(touched.known(), 0, self.places.functions)?;
        let mut step = Step::new(touched, &own, self.places, &mut self.next_serial);
        step.take(arrivals, &self.expiry, self.is_global(), &mut self.next_serial);
        Ok(step)
    }

    fn rows(&mut self, pieces: &[(Rows, Inputs)], out: &mut Output) -> Result<()> {
        let now: Vec<Cow<'_, [i64]>> = pieces.iter().map(|(rows, _)| Expiry::now(rows)).collect();
        let arrivals = pieces.iter().zip(&now).map(|((rows, inputs), now)| Arrival {
            keys: &inputs.groups,
            now,
            time: rows.time.values(),
            retracts: rows.retracts.as_ref(),
        });
        let arrivals: Vec<Arrival<'_>> = arrivals.collect();
        let mut step = self.step(&arrivals)?;
        let counted = step.counted(pieces)?;
        let keys: Vec<&[ArrayRef]> = arrivals.iter().map(|a| a.keys).collect();
        self.take_rows(&keys, &step, &counted, out)
    }

    /// Moves the functions on by rows.
    fn take_rows(&mut self, keys: &[&[ArrayRef]], step: &Step, counted: &[Counted], out: &mut Output) -> Result<()> {
        let (sights, recomputed) = self.by_group(step, counted)?;
        let mut news = Vec::with_capacity(self.spec.functions.len());
        for (i, function) in self.spec.functions.iter().enumerate() {
            news.push(match recomputed.iter().find(|(at, _)| *at == i) {
                Some((_, result)) => News::Result(result.clone()),
                None => News::Rows(rows_of(i, counted, function.first_sight.then_some(&sights))?),
            });
        }
        self.finish(keys, step, &news, out)
    }

    /// Takes rows where more is kept by group than states: which of them are first of their group, piece by piece, and the
    /// results of the functions that are computed from all rows.
    fn by_group(
        &mut self,
        step: &Step,
        counted: &[Counted],
    ) -> Result<(Vec<OfFunctions<Sights>>, OfFunctions<ArrayRef>)> {
        let mut sights = Vec::new();
        if self.places.serial.is_none() {
            return Ok((sights, Vec::new()));
        }
        for rows in counted {
            let serials = rows.number.iter().filter_map(|n| step.serial.get(*n).copied());
            let group = UInt64Array::from(serials.collect::<Vec<_>>());
            sights.push(self.first_sights(&group, rows)?);
            if let Some(multiset) = &mut self.multiset {
                multiset.take(&group, &rows.inputs, rows.retracts.as_ref())?;
            }
        }
        let results = match &self.multiset {
            Some(multiset) => multiset.results(&self.spec.functions, &step.serial)?,
            None => Vec::new(),
        };
        Ok((sights, results))
    }

    fn first_sights(&mut self, group: &UInt64Array, rows: &Counted) -> Result<OfFunctions<Sights>> {
        let (inputs, mut all) = (&rows.inputs, Vec::new());
        for seen in &mut self.first_sights {
            let arguments = seen.functions.first().and_then(|i| inputs.arguments.get(*i));
            let filters: Vec<Option<&BooleanArray>> =
                seen.functions.iter().map(|i| inputs.filters.get(*i).and_then(Option::as_ref)).collect();
            let arguments = arguments.map(Vec::as_slice).unwrap_or_default();
            let sights = seen.take(group.clone(), arguments, &filters, rows.retracts.as_ref())?;
            all.extend(seen.functions.iter().copied().zip(sights));
        }
        Ok(all)
    }

    /// Moves the functions on by a worker's states.
    fn share(&mut self, share: &RecordBatch, out: &mut Output) -> Result<()> {
        let share::Parts { first, newest, keys, mut states } =
            share::read(share, self.spec.aggregation.group_fields.len())?;
        let step = self.step(&[Arrival { keys, now: first, time: newest, retracts: None }])?;
        let number = step.touched.pieces.first().map(|p| p.number.as_slice()).unwrap_or_default();
        let mut news = Vec::with_capacity(self.spec.functions.len());
        for aggregate in &self.spec.aggregation.aggregates {
            let (own, rest) = states.split_at(aggregate.function.state_fields()?.len().min(states.len()));
            news.push(News::States(own, number));
            states = rest;
        }
        self.finish(&[keys], &step, &news, out)
    }

    /// The one row that an aggregate without keys has over no rows, when the input has ended with none.
    fn nothing(&mut self, out: &mut Output) -> Result<()> {
        let inputs = self.spec.aggregation.inputs(&RecordBatch::new_empty(self.spec.input.clone()))?;
        let step = self.step(&[Arrival { keys: &[], now: &[0], time: &[0], retracts: None }])?;
        let appended = Some(BooleanArray::from(Vec::<bool>::new()));
        let none = Counted { number: Vec::new(), groups: 1, inputs, appended, retracts: None };
        self.take_rows(&[&[]], &step, &[none], out)
    }

    /// Moves the functions on, sends what changed and writes the state. `keys`: those that came in, piece by piece.
    fn finish(&mut self, keys: &[&[ArrayRef]], step: &Step, news: &[News<'_>], out: &mut Output) -> Result<()> {
        let groups = step.touched.len();
        let had_rows = step.touched.rows.get(..step.had).unwrap_or_default();
        let (mut columns, mut old_results, mut results) = (step.own_columns(self.places), Vec::new(), Vec::new());
        let mut from = self.places.functions;
        for (function, news) in self.spec.functions.iter().zip(news) {
            let old = self.groups.read(had_rows, from, function.columns.len())?;
            from += function.columns.len();
            let kept: Vec<ArrayRef> = old.iter().map(|c| c.slice(0, step.going_on)).collect();
            let new = function.advance(&kept, step.going_on, news, groups)?;
            if step.had > 0 {
                old_results.push(function.result(&old, step.had)?);
            }
            results.push(function.result(&new, groups)?);
            columns.extend(new);
        }
        if step.had == 0 {
            old_results = results.iter().map(|r| r.slice(0, 0)).collect();
        }
        let have = (self.spec.retracting && !self.is_global()).then_some(step.count.as_slice());
        let changes = Changes {
            keys,
            first: &step.touched.first,
            newest: &step.newest,
            had: step.had,
            old: &old_results,
            count: have,
            new: &results,
        };
        out.batches.extend(changes.rows(&self.spec.schema)?);
        self.groups.write(&step.touched.rows, 0, &columns)
    }

    /// Takes back and drops every group whose newest event is before `limit`.
    fn sweep(&mut self, limit: i64, out: &mut Output) -> Result<()> {
        let (newest, is_there) = self.dated()?;
        let dated = || (0_u32..).zip(newest.iter().zip(&is_there)).filter(|(_, (_, there))| **there);
        let expired: Vec<u32> = dated().filter(|(_, (t, _))| **t < limit).map(|(r, _)| r).collect();
        let live: Vec<u32> = dated().filter(|(_, (t, _))| **t >= limit).map(|(r, _)| r).collect();
        for rows in expired.chunks(ROWS_PER_EMIT).filter(|_| !self.spec.windowed) {
            let mut results = Vec::with_capacity(self.spec.functions.len());
            let mut from = self.places.functions;
            for function in self.spec.functions.iter() {
                let columns = self.groups.read(rows, from, function.columns.len())?;
                from += function.columns.len();
                results.push(function.result(&columns, rows.len())?);
            }
            let times: Int64Array = rows.iter().filter_map(|r| newest.get(*r as usize).copied()).collect();
            out.batches.push(taken_back(&self.spec.schema, self.groups.keys(rows)?, results, times)?);
        }
        if live.len() < self.groups.len() { self.retain(&live) } else { Ok(()) }
    }

    /// The newest event time of each group, and whether it has rows.
    fn dated(&self) -> Result<(Vec<i64>, Vec<bool>)> {
        let all: Vec<u32> = (0..self.groups.len() as u32).collect();
        let own = self.groups.read(&all, 0, self.places.functions)?;
        let is_there = match self.places.count {
            Some(at) => integers(own.get(at)).iter().map(|count| *count > 0).collect(),
            None => vec![true; all.len()],
        };
        Ok((integers(own.get(self.places.newest)), is_there))
    }

    /// Keeps only these groups, and what belongs to them.
    fn retain(&mut self, live: &[u32]) -> Result<()> {
        self.groups.retain(live)?;
        let Some(at) = self.places.serial else { return Ok(()) };
        let all: Vec<u32> = (0..self.groups.len() as u32).collect();
        let serial = self.groups.read(&all, at, 1)?;
        let serial: HashSet<u64> = serial
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

    /// A serial number above all in the state, of groups or of what belongs to one.
    fn serial_above_all(&self) -> Result<u64> {
        let all = |state: &KeyedState| (0..state.len() as u32).collect::<Vec<u32>>();
        let mut serials = match self.places.serial {
            Some(at) => self.groups.read(&all(&self.groups), at, 1)?,
            None => Vec::new(),
        };
        let belonging =
            self.first_sights.iter().map(FirstSight::state).chain(self.multiset.as_ref().map(Multiset::state));
        for state in belonging {
            serials.extend(state.keys(&all(state))?.into_iter().next());
        }
        let greatest = |c: &ArrayRef| c.as_primitive_opt::<UInt64Type>().and_then(arrow::compute::max);
        Ok(serials.iter().filter_map(greatest).max().map_or(0, |greatest| greatest + 1))
    }
}

/// Something of some of the functions, with the number of each.
type OfFunctions<T> = Vec<(usize, T)>;

/// What function `i` takes of each piece: where only first sights count, those.
fn rows_of<'a>(i: usize, counted: &'a [Counted], sights: Option<&[OfFunctions<Sights>]>) -> Result<Vec<RowNews<'a>>> {
    let mut news = Vec::with_capacity(counted.len());
    for (at, rows) in counted.iter().enumerate() {
        let Counted { number, groups, inputs, appended, retracts } = rows;
        let own = sights.and_then(|all| all.get(at)?.iter().find(|(of, _)| *of == i));
        let filter = inputs.filters.get(i).and_then(Option::as_ref);
        let (appended, retracted) = match (own, sights) {
            (Some((_, own)), _) => (Some(own.appended.clone()), own.retracted.clone()),
            (None, Some(_)) => (None, None),
            (None, None) => {
                let retracted = retracts.as_ref().map(|r| let_through(r, filter)).transpose()?;
                let appended = appended.as_ref().map(|a| let_through(a, filter)).transpose()?;
                (appended.or_else(|| filter.cloned()), retracted)
            }
        };
        let arguments = inputs.arguments.get(i).map(Vec::as_slice).unwrap_or_default();
        news.push(RowNews { number, groups: *groups, arguments, appended, retracted });
    }
    Ok(news)
}

/// The marked rows that a filter lets through.
fn let_through(marked: &BooleanArray, filter: Option<&BooleanArray>) -> Result<BooleanArray> {
    match filter {
        None => Ok(marked.clone()),
        Some(filter) if filter.null_count() > 0 => Ok(and(&prep_null_mask_filter(filter), marked)?),
        Some(filter) => Ok(and(filter, marked)?),
    }
}

impl Operator for Updating {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        if !rows.is_empty() {
            self.waiting.rows(rows);
        }
        if self.waiting.is_full() { self.work(out) } else { Ok(()) }
    }

    fn on_slice(&mut self, slice: &SliceState, out: &mut Output) -> Result<()> {
        self.waiting.share(slice);
        if self.waiting.is_full() { self.work(out) } else { Ok(()) }
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        let limit = self.expiry.due(watermark);
        let is_due = self.pace.due(watermark).is_some() || limit.is_some() || watermark == WATERMARK_MAX;
        self.withholds = !is_due && !self.waiting.is_empty();
        if self.withholds {
            return Ok(WATERMARK_MIN);
        }
        self.work(out)?;
        if let Some(limit) = limit {
            self.sweep(limit, out)?;
        }
        if watermark == WATERMARK_MAX && self.is_global() && self.groups.is_empty() {
            self.nothing(out)?;
        }
        Ok(watermark)
    }

    fn on_pause(&mut self, out: &mut Output) -> Result<bool> {
        let waits = self.withholds || !self.waiting.is_empty();
        self.work(out)?;
        Ok(waits)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        let seen = self.first_sights.iter_mut().map(FirstSight::state_mut);
        let parts = std::iter::once(&mut self.groups).chain(seen);
        KeyedState::snapshot(parts.chain(self.multiset.as_mut().map(Multiset::state_mut)), whole)
    }

    fn restore(&mut self, state: Vec<RecordBatch>, watermark: Watermark) -> Result<()> {
        self.groups.restore(&state)?;
        for seen in &mut self.first_sights {
            seen.state_mut().restore(&state)?;
        }
        if let Some(multiset) = &mut self.multiset {
            multiset.state_mut().restore(&state)?;
        }
        self.next_serial = self.serial_above_all()?;
        let limit = self.expiry.restore(watermark).unwrap_or(i64::MIN);
        let _ = self.pace.restore(watermark);
        let global = self.is_global();
        let (newest, is_there) = self.dated()?;
        let dated = (0_u32..).zip(newest.iter().zip(&is_there));
        let live: Vec<u32> =
            dated.filter(|(_, (t, there))| **t >= limit && (**there || global)).map(|(r, _)| r).collect();
        self.retain(&live)
    }

    fn state_bytes(&self) -> usize {
        self.groups.bytes()
            + self.waiting.bytes()
            + self.first_sights.iter().map(|s| s.state().bytes()).sum::<usize>()
            + self.multiset.as_ref().map_or(0, Multiset::bytes)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, FieldRef, Schema};
    use datafusion::functions_aggregate::count::count_udaf;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::Column;

    use std::sync::Arc;

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
            updating.on_pause(&mut out).unwrap();
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

    #[test]
    fn what_has_come_already_is_one_change_per_key() {
        let mut updating = Updating::new(counts()).unwrap();
        let mut out = Output::default();
        let send = |updating: &mut Updating, keys: [i64; 2], second: i64| {
            let mut out = Output::default();
            let batch = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef)]);
            updating.on_batch(0, Rows::new(batch.unwrap(), vec![second * SECOND; 2].into()), &mut out).unwrap();
            let on = updating.on_watermark(second * SECOND, &mut out).unwrap();
            (out.batches.iter().map(Rows::len).sum::<usize>(), on)
        };
        // The first watermark is one at which keys are looked through.
        assert_eq!(send(&mut updating, [1, 2], 0), (2, 0));
        assert_eq!(send(&mut updating, [1, 3], 1), (0, WATERMARK_MIN));
        assert_eq!(send(&mut updating, [1, 3], 2), (0, WATERMARK_MIN));
        assert!(updating.on_pause(&mut out).unwrap());
        let sent = out.batches.iter().map(Rows::len).sum::<usize>();
        assert_eq!(sent, 1, "a key that is there already has the same count of distinct keys; the other is new");
        assert_eq!(updating.on_watermark(2 * SECOND, &mut out).unwrap(), 2 * SECOND);
        assert!(!updating.on_pause(&mut out).unwrap(), "nothing waits any more");
        assert_eq!(send(&mut updating, [4, 5], 7), (0, WATERMARK_MIN));
        assert_eq!(send(&mut updating, [4, 6], 8), (3, 8 * SECOND), "an eighth of the time to live has passed");
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

//! Random streams against a nested loop over the rows that are left at the end; and the size of the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::common::JoinType;
use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};

use super::condition::{Condition, Residual};
use super::output::Shape;
use super::streaming::{Keep, StreamingJoin};
use crate::message::Rows;
use crate::operators::spec::Spec;
use crate::operators::{FILES_MAX, Operator, Output, StateChange};
use crate::time::{SECOND, WATERMARK_MAX, WATERMARK_MIN};

const TYPES: [JoinType; 8] = [
    JoinType::Inner,
    JoinType::Left,
    JoinType::Right,
    JoinType::Full,
    JoinType::LeftSemi,
    JoinType::RightSemi,
    JoinType::LeftAnti,
    JoinType::RightAnti,
];

type Row = (Option<i64>, i64);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn schema(names: [&str; 2]) -> SchemaRef {
    Arc::new(Schema::new(names.map(|n| Field::new(n, DataType::Int64, true)).to_vec()))
}

/// `ON k = k2 AND residual`, where the columns are k, v, k2, w.
fn join(
    join_type: JoinType,
    residual: Option<Arc<dyn PhysicalExpr>>,
    updating: [bool; 2],
    keep: Keep,
) -> StreamingJoin {
    let inputs = [schema(["k", "v"]), schema(["k2", "w"])];
    let residual = residual.map(|e| Residual::new(e, &inputs[0], &inputs[1]).unwrap());
    let key = |name| vec![Arc::new(Column::new(name, 0)) as Arc<dyn PhysicalExpr>];
    let condition = Condition { keys: [key("k"), key("k2")], nulls_equal: false, residual };
    let sides: &[SchemaRef] = match join_type {
        JoinType::LeftSemi | JoinType::LeftAnti => &inputs[..1],
        JoinType::RightSemi | JoinType::RightAnti => &inputs[1..],
        _ => &inputs,
    };
    let fields: Vec<_> = sides.iter().flat_map(|s| s.fields().iter().cloned()).collect();
    let shape = Shape { join_type, schema: Arc::new(Schema::new(fields)) };
    StreamingJoin::new(condition, shape, inputs, updating, keep).unwrap()
}

fn compare(op: Comparison, add: i64) -> Arc<dyn PhysicalExpr> {
    let w = Arc::new(Column::new("w", 3));
    let v = Arc::new(BinaryExpr::new(Arc::new(Column::new("v", 1)), Comparison::Plus, lit(add)));
    Arc::new(BinaryExpr::new(w, op, v))
}

fn rows(names: [&str; 2], changes: &[(Row, bool)], time: impl Fn(i64) -> i64) -> Rows {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(changes.iter().map(|((k, _), _)| *k).collect::<Int64Array>()),
        Arc::new(changes.iter().map(|((_, v), _)| *v).collect::<Int64Array>()),
    ];
    let retracts = changes.iter().any(|c| c.1);
    Rows {
        retracts: retracts.then(|| changes.iter().map(|c| Some(c.1)).collect::<BooleanArray>()),
        ..Rows::new(
            RecordBatch::try_new(schema(names), columns).unwrap(),
            changes.iter().map(|((_, v), _)| time(*v)).collect::<Vec<_>>().into(),
        )
    }
}

/// Adds what came out to what there is.
fn consolidate(out: Output, all: &mut BTreeMap<String, i64>) {
    for rows in out.batches {
        for i in 0..rows.len() {
            let cells: Vec<String> =
                rows.batch.columns().iter().map(|c| array_value_to_string(c, i).unwrap()).collect();
            let retracts = rows.retracts.as_ref().is_some_and(|r| r.value(i));
            let count = all.entry(cells.join(",")).or_default();
            *count += if retracts { -1 } else { 1 };
            assert!(*count >= 0, "{cells:?} was taken back before it was given");
        }
    }
    all.retain(|_, n| *n != 0);
}

fn nested_loop(t: JoinType, left: &[Row], right: &[Row], on: impl Fn(i64, i64) -> bool) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    let show = |r: &Row| format!("{},{}", r.0.map_or(String::new(), |k| k.to_string()), r.1);
    let mut add = |row: String| *all.entry(row).or_default() += 1;
    let matches = |l: &Row, r: &Row| l.0.is_some() && l.0 == r.0 && on(l.1, r.1);
    let pairs = matches!(t, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full);
    for l in left {
        let partners: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        match t {
            _ if pairs => partners.iter().for_each(|r| add(format!("{},{}", show(l), show(r)))),
            JoinType::LeftSemi if !partners.is_empty() => add(show(l)),
            JoinType::LeftAnti if partners.is_empty() => add(show(l)),
            _ => {}
        }
        if partners.is_empty() && matches!(t, JoinType::Left | JoinType::Full) {
            add(format!("{},,", show(l)));
        }
    }
    for r in right {
        let alone = !left.iter().any(|l| matches(l, r));
        match t {
            JoinType::Right | JoinType::Full if alone => add(format!(",,{}", show(r))),
            JoinType::RightSemi if !alone => add(show(r)),
            JoinType::RightAnti if alone => add(show(r)),
            _ => {}
        }
    }
    all
}

/// Writes a checkpoint and takes up from it.
fn crash(
    spec: &StreamingJoin,
    operator: &mut Box<dyn Operator>,
    files: &mut Vec<RecordBatch>,
    watermark: i64,
    out: &mut Output,
) {
    operator.on_barrier(out).unwrap();
    match operator.snapshot(files.len() >= FILES_MAX).unwrap() {
        StateChange::None => {}
        StateChange::Append { batches, .. } => files.extend(batches),
        StateChange::Replace(batches) => *files = batches,
    }
    *operator = spec.build().unwrap();
    operator.restore(files.clone(), watermark).unwrap();
}

#[test]
fn updating_joins_end_as_the_join_of_what_is_left() {
    for seed in 0..160 {
        let mut random = Random(seed);
        let t = TYPES[seed as usize % TYPES.len()];
        let updating = [random.below(2) == 0, random.below(2) == 0];
        let spec = join(t, (seed % 3 > 0).then(|| compare(Comparison::LtEq, 3)), updating, Keep::Always);
        let mut operator = spec.build().unwrap();
        let (mut live, mut given, mut files): ([Vec<Row>; 2], _, _) = Default::default();
        for _ in 0..40 {
            let side = random.below(2) as usize;
            let mut batch = Vec::new();
            for _ in 0..1 + random.below(if seed % 2 == 0 { 1 } else { 12 }) {
                if updating[side] && random.below(3) == 0 && !live[side].is_empty() {
                    let at = random.below(live[side].len() as u64) as usize;
                    batch.push((live[side].swap_remove(at), true));
                } else {
                    let key = (random.below(8) > 0).then(|| random.below(4) as i64);
                    let row = (key, random.below(6) as i64);
                    live[side].push(row);
                    batch.push((row, false));
                }
            }
            let mut out = Output::default();
            operator.on_batch(side, rows([["k", "v"], ["k2", "w"]][side], &batch, |_| 0), &mut out).unwrap();
            if random.below(8) == 0 {
                crash(&spec, &mut operator, &mut files, WATERMARK_MIN, &mut out);
            }
            consolidate(out, &mut given);
            let on = |v, w| seed % 3 == 0 || w <= v + 3;
            assert_eq!(given, nested_loop(t, &live[0], &live[1], on), "seed {seed}: {t}");
        }
    }
}

#[test]
fn interval_joins_are_exact_and_take_nothing_back() {
    for seed in 0..160 {
        let mut random = Random(seed);
        let t = TYPES[seed as usize % TYPES.len()];
        let (lowest, highest) = (random.below(20) as i64 - 12, 8 + random.below(20) as i64);
        let bounds: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(
            compare(Comparison::GtEq, lowest),
            Comparison::And,
            compare(Comparison::LtEq, highest),
        ));
        let spec = join(t, Some(bounds), [false; 2], Keep::Interval { lowest, highest });
        assert!(!spec.properties(&[]).updating);
        let mut operator = spec.build().unwrap();
        let (mut all, mut given, mut files): ([Vec<Row>; 2], _, _) = Default::default();
        let (mut now, mut handed_on) = (0, WATERMARK_MIN);
        for _ in 0..120 {
            let side = random.below(2) as usize;
            let row = |random: &mut Random| {
                let key = (random.below(8) > 0).then(|| random.below(3) as i64);
                ((key, now + random.below(5) as i64), false)
            };
            let batch: Vec<_> = (0..1 + random.below(3)).map(|_| row(&mut random)).collect();
            all[side].extend(batch.iter().map(|b| b.0));
            let mut out = Output::default();
            operator.on_batch(side, rows([["k", "v"], ["k2", "w"]][side], &batch, |v| v), &mut out).unwrap();
            now += random.below(4) as i64;
            let sent = operator.on_watermark(now, &mut out).unwrap();
            if random.below(12) == 0 {
                crash(&spec, &mut operator, &mut files, sent, &mut out);
            }
            assert!(out.batches.iter().all(|r| r.retracts.is_none()), "seed {seed}");
            let earliest = out.batches.iter().flat_map(|r| r.time.values().to_vec()).min();
            assert!(earliest.is_none_or(|e| e >= handed_on), "seed {seed}: behind the watermark handed on");
            handed_on = sent;
            consolidate(out, &mut given);
        }
        let mut out = Output::default();
        operator.on_watermark(WATERMARK_MAX, &mut out).unwrap();
        consolidate(out, &mut given);
        let on = |v: i64, w: i64| (lowest..=highest).contains(&(w - v));
        assert_eq!(given, nested_loop(t, &all[0], &all[1], on), "seed {seed}: {t}");
    }
}

#[test]
fn a_ttl_frees_memory() {
    for t in [JoinType::Inner, JoinType::Full] {
        let mut operator = join(t, None, [false; 2], Keep::Ttl(60 * SECOND)).build().unwrap();
        let mut largest = (0, 0);
        for second in 0..3600 {
            // Keys that never come again.
            let batch: Vec<_> = (0..50).map(|i| ((Some(second * 50 + i), second), false)).collect();
            for side in [0, 1] {
                let names = [["k", "v"], ["k2", "w"]][side];
                operator.on_batch(side, rows(names, &batch, |v| v * SECOND), &mut Output::default()).unwrap();
            }
            operator.on_watermark(second * SECOND, &mut Output::default()).unwrap();
            let bytes = operator.state_bytes();
            if second < 300 { largest.0 = bytes.max(largest.0) } else { largest.1 = bytes.max(largest.1) }
        }
        assert!(
            largest.1 <= largest.0 * 5 / 4,
            "{largest:?} bytes, in the first five minutes and in the rest of an hour"
        );
        assert!(largest.1 < 2 << 20, "{} bytes for a minute of 6,000 rows", largest.1);
    }
}

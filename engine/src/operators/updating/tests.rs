//! Input that waited is taken in pieces: the same rows in any pieces give the same changes.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::min_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, cast, is_not_null};

use super::UpdatingAggregate;
use super::aggregate::Updating;
use crate::message::Rows;
use crate::operators::accumulate::{Aggregate, Aggregation};
use crate::operators::{Operator, Output};
use crate::time::SECOND;

const ROWS: usize = 30_000;

/// `SELECT k, count(v), sum(v), sum(v) FILTER (WHERE f), avg(v), min(v), count(DISTINCT v) FROM t GROUP BY k`: `v` is
/// null for some rows, so that groups begin with no value.
fn spec(ttl: i64, retracting: bool) -> UpdatingAggregate {
    let field = |name: &str, t: DataType| -> FieldRef { Arc::new(Field::new(name, t, true)) };
    let input = Arc::new(Schema::new(vec![
        field("k", DataType::Int64),
        field("v", DataType::Int64),
        field("f", DataType::Int64),
    ]));
    let column = |i: usize| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(input.field(i).name(), i)) };
    let float = || cast(column(1), &input, DataType::Float64).unwrap();
    let filter = || Some(is_not_null(column(2)).unwrap());
    let functions = [
        ("n", count_udaf(), column(1), None, false),
        ("s", sum_udaf(), column(1), None, false),
        ("sf", sum_udaf(), column(1), filter(), false),
        ("a", avg_udaf(), float(), None, false),
        ("m", min_udaf(), column(1), None, false),
        ("d", count_udaf(), column(1), None, true),
    ];
    let (mut aggregates, mut fields) = (Vec::new(), vec![field("k", DataType::Int64)]);
    for (name, function, argument, filter, distinct) in functions {
        let built = AggregateExprBuilder::new(function, vec![argument]).schema(input.clone()).alias(name);
        let function = built.with_distinct(distinct).build().unwrap();
        fields.push(field(name, function.field().data_type().clone()));
        aggregates.push(Aggregate { function: Arc::new(function), filter });
    }
    let aggregation = Aggregation::new(vec![column(0)], vec![field("k", DataType::Int64)], aggregates).unwrap();
    UpdatingAggregate::new(Arc::new(aggregation), input.clone(), Arc::new(Schema::new(fields)), ttl, retracting)
        .unwrap()
}

/// Rows of keys of which new ones come all the time, a minute of event time in all, in each half first with values and then mostly
/// without; if `retracting`, each third takes back the one before it.
fn input(seed: u64, retracting: bool) -> Rows {
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below) as i64
    };
    let (mut columns, mut time, mut back) = ([Vec::new(), Vec::new(), Vec::new()], Vec::new(), Vec::new());
    for row in 0..ROWS {
        let at = row as i64 * 60 * SECOND / ROWS as i64;
        if retracting && row % 3 == 2 {
            columns.iter_mut().for_each(|c| c.push(*c.last().unwrap()));
            back.push(true);
        } else {
            let has_value = row % (ROWS / 2) < 6_000 || random(10) == 0;
            let (key, value) = (random(1 + row as u64 / 8), has_value.then(|| random(5)));
            let flag = (random(2) == 0).then_some(1);
            columns.iter_mut().zip([Some(key), value, flag]).for_each(|(c, v)| c.push(v));
            back.push(false);
        }
        time.push(at + random(3) * SECOND);
    }
    let columns = columns.map(|c| Arc::new(Int64Array::from(c)) as ArrayRef);
    let batch = RecordBatch::try_from_iter(["k", "v", "f"].into_iter().zip(columns)).unwrap();
    Rows { retracts: retracting.then(|| BooleanArray::from(back)), ..Rows::new(batch, time.into()) }
}

/// What is sent for the rows, sorted, when those of each half wait in batches of `size`.
fn sent(spec: &UpdatingAggregate, rows: &Rows, size: usize) -> Vec<String> {
    let mut updating = Updating::new(spec.clone()).unwrap();
    let mut out = Output::default();
    for half in [0, ROWS / 2] {
        for from in (0..ROWS / 2).step_by(size) {
            let piece = rows.slice(half + from, size.min(ROWS / 2 - from));
            updating.on_batch(0, piece, &mut out).unwrap();
        }
        updating.on_pause(&mut out).unwrap();
    }
    let mut lines = Vec::new();
    for rows in &out.batches {
        for (at, back) in rows.signs().enumerate() {
            let values = rows.batch.columns().iter().map(|c| array_value_to_string(c, at).unwrap());
            let values: Vec<String> = values.collect();
            lines.push(format!("{} {} {}", if back { '-' } else { '+' }, values.join(" "), rows.time.value(at)));
        }
    }
    lines.sort();
    lines
}

#[test]
fn rows_in_any_pieces_give_the_same_changes() {
    for (seed, (ttl, retracting)) in (1..).zip([(0, false), (10 * SECOND, false), (0, true), (10 * SECOND, true)]) {
        let (spec, rows) = (spec(ttl, retracting), input(seed, retracting));
        let whole = sent(&spec, &rows, ROWS);
        assert!(whole.len() > 3_000, "seed {seed}: {} changes", whole.len());
        assert!(whole.iter().any(|line| line.contains(" 0     0 ")), "seed {seed}: no group without a value");
        for size in [5_000, 4_097, 1_000] {
            let pieces = sent(&spec, &rows, size);
            let differs = whole.iter().zip(&pieces).find(|(a, b)| a != b);
            assert!(whole == pieces, "seed {seed}, batches of {size}: {differs:?}");
        }
    }
}

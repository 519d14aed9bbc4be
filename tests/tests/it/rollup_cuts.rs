//! A rollup that is cut short at any call to the store: its day is then as it was or as it should be, and when the rollup has
//! run again each row is there once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream::QueryLimits;
use millstream::batch::{Batch, Functions, Rollup};
use millstream::lake::Lake;
use millstream::time::DAY;
use millstream_tests::sim::{Cut, SimStore, Weather, World};
use tokio::runtime::Runtime;

const FIRST: i32 = 19_723;

fn opened(store: &SimStore, world: &World) -> (Lake, Batch) {
    let url = "memory:///lake/".parse().unwrap();
    let lake = Lake::with_store(url, Arc::new(store.clone()), Arc::new(world.clone()));
    let batch = Batch::new(lake.clone(), Arc::new(world.clone()), Functions::default()).unwrap();
    (lake, batch)
}

fn rows(day: i32, values: &[i64]) -> RecordBatch {
    let value: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![day; values.len()]));
    RecordBatch::try_from_iter([("value", value), ("day", days)]).unwrap()
}

fn rollup() -> Rollup {
    Rollup {
        name: "values_1d".into(),
        sql: "SELECT value % 2 AS odd, sum(value) AS total FROM numbers WHERE day = $day GROUP BY 1".into(),
        file: "sql/rollups/values_1d.sql".into(),
    }
}

async fn totals(batch: &Batch) -> Vec<[i64; 3]> {
    let sql = "SELECT CAST(CAST(day AS INT) AS BIGINT), odd, total FROM values_1d ORDER BY 1, 2";
    let answer = batch.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
    let number = |b: &RecordBatch, c: usize, r: usize| b.column(c).as_primitive::<Int64Type>().value(r);
    let of = |b: &RecordBatch| (0..b.num_rows()).map(|r| [0, 1, 2].map(|c| number(b, c, r))).collect::<Vec<_>>();
    answer.batches.iter().flat_map(of).collect()
}

/// Rolls a day up that had been rolled up before late rows came, and ends at the so-manieth call to the store; whether it came
/// to its end before.
fn cut_at(calls: u64, runtime: &Runtime) -> bool {
    let world = World::new(calls, i64::from(FIRST + 2) * DAY);
    let store = SimStore::new(world.clone());
    world.set_weather(Weather::default());
    world.power_on(Cut::Never);
    let first = i64::from(FIRST);
    let (before, after) = ([[first, 0, 6], [first, 1, 4]], [[first, 0, 106], [first, 1, 4], [first + 1, 1, 7]]);
    runtime.block_on(async {
        let (lake, batch) = opened(&store, &world);
        let table = lake.table("numbers", rows(FIRST, &[]).schema()).await.unwrap();
        table.append(&[rows(FIRST, &[1, 2, 3, 4])]).await.unwrap();
        batch.rollup(&rollup(), FIRST).await.unwrap();
        assert_eq!(totals(&batch).await, before);
        table.append(&[rows(FIRST, &[100]), rows(FIRST + 1, &[7])]).await.unwrap();
    });
    world.power_on(Cut::Steps(calls));
    let (_, batch) = opened(&store, &world);
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(batch.rollup(&rollup(), FIRST)).is_ok()));
    let whole = !world.is_down();
    assert!(!whole || ended.is_ok_and(|ended| ended), "nothing but the cut fails");
    world.power_on(Cut::Never);
    runtime.block_on(async {
        let (_, batch) = opened(&store, &world);
        let found = totals(&batch).await;
        assert!(found == before || found == after[..2], "cut at call {calls}: {found:?}");
        for day in batch.rollup_days_due(&rollup(), FIRST + 1).await.unwrap() {
            batch.rollup(&rollup(), day).await.unwrap();
        }
        assert_eq!(totals(&batch).await, after, "cut at call {calls}, and run again");
        assert!(batch.rollup_days_due(&rollup(), FIRST + 1).await.unwrap().is_empty());
    });
    whole
}

#[test]
fn a_rollup_that_is_cut_short_anywhere_is_exact_when_it_has_run_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let cuts = (1..1_000).position(|calls| cut_at(calls, &runtime)).expect("a rollup makes fewer calls");
    println!("cut at each of {cuts} calls to the store");
    assert!(cuts > 5);
}

//! A changed pipeline is rebuilt from the raw table and goes on at an exact place in the log; a table has one writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int64Type;
use millstream::time::SECOND;
use millstream::{Append, Engine, Options, QueryLimits};
use millstream_tests::random::{Random, seeds};
use millstream_tests::reopened;

const SOURCE: &str = "
CREATE TABLE clicks (id BIGINT, amount BIGINT, t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '3 seconds')
  WITH (connector = 'ingest', future_skew = INTERVAL '10000 days', idle_timeout = INTERVAL '10000 days');
INSERT INTO raw_clicks SELECT * FROM clicks;
INSERT INTO untouched SELECT w['start'] AS start, n FROM (SELECT tumble(INTERVAL '7 seconds') AS w, count(*) AS n FROM clicks GROUP BY 1);
";
const OLD: &str = "INSERT INTO windows SELECT w['start'] AS start, n
  FROM (SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS n FROM clicks GROUP BY 1);";
const NEW: &str = "INSERT INTO windows SELECT w['start'] AS start, n, total
  FROM (SELECT tumble(INTERVAL '20 seconds') AS w, count(*) AS n, sum(amount) AS total FROM clicks GROUP BY 1);";

/// 2024-01-01T23:59:00Z: the rows lie on two days.
const START: i64 = 1_704_153_540 * SECOND;

async fn open(dir: &std::path::Path, pipeline: &str) -> Engine {
    let engine = reopened(async || Engine::open(Options::new(dir)).await).await.unwrap();
    engine.execute(&format!("{SOURCE}{pipeline}"), "pipelines.sql").await.unwrap();
    engine
}

async fn append(engine: &Engine, producer: &str, rows: &[(i64, i64, i64)]) {
    let numbers = |f: fn(&(i64, i64, i64)) -> i64| Arc::new(rows.iter().map(f).collect::<Int64Array>()) as ArrayRef;
    let t: TimestampNanosecondArray = rows.iter().map(|r| Some(r.2)).collect();
    let columns = vec![numbers(|r| r.0), numbers(|r| r.1), Arc::new(t) as ArrayRef];
    let batch = RecordBatch::try_new(engine.table("clicks").unwrap().schema, columns).unwrap();
    let (table, producer) = ("clicks".into(), producer.into());
    engine.append(Append { table, producer, sequence: None, batch, rejected: Vec::new() }).await.unwrap();
}

async fn rows(engine: &Engine, sql: &str) -> Vec<Vec<i64>> {
    let answer = engine.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
    let row = |b: &RecordBatch, i: usize| b.columns().iter().map(|c| c.as_primitive::<Int64Type>().value(i)).collect();
    answer.batches.iter().flat_map(|b| (0..b.num_rows()).map(|i| row(b, i)).collect::<Vec<_>>()).collect()
}

const WINDOWS: &str = "SELECT CAST(start AS BIGINT) / 1000000 AS s, n, total FROM windows ORDER BY 1";

async fn rebuilt_and_handed_over(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let (mut all, mut id) = (Vec::new(), 0);
    // In order but for a second or two: nothing is late, before or after.
    let mut batch = |random: &mut Random, second: i64| {
        let row = |_| {
            id += 1;
            (id, random.below(100) as i64, START + second * SECOND + random.below(2_000) as i64 * 1_000_000)
        };
        let rows: Vec<_> = (0..3).map(row).collect();
        all.extend(rows.clone());
        rows
    };
    let engine = open(dir.path(), OLD).await;
    engine.start().await.unwrap();
    for second in 0..150 {
        append(&engine, "p", &batch(&mut random, second)).await;
        if second % 50 == 17 {
            engine.flush().await.unwrap();
        }
    }
    engine.flush().await.unwrap();
    engine.close().await.unwrap();
    drop(engine);

    let changed = open(dir.path(), NEW).await;
    let refused = changed.start().await.unwrap_err().to_string();
    assert!(refused.contains("compute it again from the raw table with `millstream rebuild windows`"), "{refused}");
    let missing = changed.rebuild("window").await.unwrap_err().to_string();
    assert!(missing.contains("there is no pipeline 'window'; there are: "), "{missing}");
    let done = changed.rebuild("windows").await.unwrap();
    assert_eq!((done.rows_in, done.days, done.raw), (450, 2, vec!["raw_clicks".to_string()]));
    changed.start().await.unwrap();
    for second in 150..220 {
        append(&changed, "p", &batch(&mut random, second)).await;
    }
    changed.promise("clicks", "p", START + 1_000 * SECOND).await.unwrap();
    changed.flush().await.unwrap();
    let mut expected: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (_, amount, t) in &all {
        let window = expected.entry(t.div_euclid(20 * SECOND) * 20).or_default();
        *window = (window.0 + 1, window.1 + amount);
    }
    let expected: Vec<Vec<i64>> = expected.into_iter().map(|(s, (n, total))| vec![s, n, total]).collect();
    assert_eq!(rows(&changed, WINDOWS).await, expected, "MILLSTREAM_SEED={seed}");
    let counts = rows(&changed, "SELECT count(*), count(DISTINCT id) FROM raw_clicks").await;
    assert_eq!(counts, [[660, 660]], "the raw table has nothing twice");
    let untouched = rows(&changed, "SELECT sum(n), count(*) - count(DISTINCT start) FROM untouched").await;
    assert_eq!(untouched, [[660, 0]], "the other pipeline went on");
    changed.close().await.unwrap();
}

#[test]
fn a_changed_pipeline_is_rebuilt_and_handed_over_without_gap_or_double() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for seed in seeds(2).into_iter().take(5) {
        runtime.block_on(rebuilt_and_handed_over(seed));
    }
}

#[test]
fn a_second_engine_on_the_same_tables_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Some(dir.path().join("lake").display().to_string());
    let options = |name: &str| Options { lake_url: lake.clone(), ..Options::new(dir.path().join(name)) };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let first = Engine::open(options("first")).await.unwrap();
        first.execute(&format!("{SOURCE}{OLD}"), "pipelines.sql").await.unwrap();
        first.start().await.unwrap();
        let same = Engine::open(options("first")).await.unwrap_err().to_string();
        assert!(same.contains("first is in use by another process"), "{same}");
        let second = Engine::open(options("second")).await.unwrap();
        second.execute(&format!("{SOURCE}{OLD}"), "pipelines.sql").await.unwrap();
        let refused = second.start().await.unwrap_err().to_string();
        assert!(refused.contains("is written by another engine, "), "{refused}");
        assert!(refused.contains(&dir.path().join("first").display().to_string()), "{refused}");
        assert!(refused.contains("stop one of the two and give it a lake of its own"), "{refused}");
        append(&first, "p", &[(1, 1, START)]).await;
        first.flush().await.unwrap();
        assert_eq!(rows(&first, "SELECT count(*) FROM raw_clicks").await, [[1]]);
        first.close().await.unwrap();
        drop(first);
        // The first comes back to its tables.
        let again = reopened(async || Engine::open(options("first")).await).await.unwrap();
        again.execute(&format!("{SOURCE}{OLD}"), "pipelines.sql").await.unwrap();
        again.start().await.unwrap();
        again.close().await.unwrap();
    });
}

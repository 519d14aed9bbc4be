//! The engine inside a program: append, subscribe, and read a table that another pipeline wrote.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::Int64Type;
use millstream::engine::{RunOptions, run_file};
use millstream::time::SECOND;
use millstream::{Append, Engine, Options};
use millstream_tests::read_csv;

const SQL: &str = "
CREATE TABLE events (id TEXT, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '5 seconds') WITH (connector = 'ingest');
CREATE TABLE counts WITH (connector = 'memory');
INSERT INTO counts SELECT id, count(*) AS n FROM events GROUP BY tumble(INTERVAL '10 seconds'), id;
INSERT INTO raw_events SELECT * FROM events;";

async fn appended_rows_reach_a_subscriber_and_a_table(options: Options) {
    let engine = Engine::open(options).await.unwrap();
    engine.execute(SQL, "embed.sql").await.unwrap();
    let counts = engine.subscribe("counts").unwrap();
    engine.start().await.unwrap();
    let id: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
    let t: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![SECOND, 2 * SECOND, 3 * SECOND]));
    let batch = RecordBatch::try_new(engine.table("events").unwrap().schema, vec![id, t]).unwrap();
    let rows = Append { table: "events".into(), producer: "p".into(), sequence: None, batch, rejected: Vec::new() };
    assert_eq!(engine.append(rows).await.unwrap().accepted, 3);
    // No event follows: the producer's promise closes the window.
    engine.promise("events", "p", 60 * SECOND).await.unwrap();
    let got = tokio::task::spawn_blocking(move || counts.recv_timeout(Duration::from_secs(60)).unwrap()).await.unwrap();
    let mut got: Vec<(String, i64)> = (0..got.num_rows())
        .map(|i| (got.column(0).as_string::<i32>().value(i).into(), got.column(1).as_primitive::<Int64Type>().value(i)))
        .collect();
    got.sort();
    assert_eq!(got, [("a".to_string(), 2), ("b".to_string(), 1)]);
    engine.close().await.unwrap();
}

#[test]
fn an_embedded_engine_and_a_table_as_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("run/lake");
    let options = Options { lake_url: Some(lake.display().to_string()), ..Options::new(dir.path().join("engine")) };
    tokio::runtime::Runtime::new().unwrap().block_on(appended_rows_reach_a_subscriber_and_a_table(options));

    let sql = format!(
        "CREATE TABLE raw_events (id TEXT, t TIMESTAMP, WATERMARK FOR t) WITH (connector = 'lake');
         CREATE TABLE out (id TEXT, n BIGINT) WITH (connector = 'single_file', format = 'csv', path = '{}');
         INSERT INTO out SELECT id, count(*) FROM raw_events GROUP BY tumble(INTERVAL '1 minute'), id;",
        dir.path().join("out.csv").display()
    );
    let options = RunOptions { state_dir: Some(dir.path().join("run")), ..RunOptions::default() };
    run_file(&sql, "replay.sql", &options).unwrap();
    let (_, mut rows) = read_csv(&dir.path().join("out.csv"));
    rows.sort();
    assert_eq!(rows, [["a", "2"], ["b", "1"]]);
}

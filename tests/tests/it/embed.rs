//! The engine inside a program: append, subscribe, read a table that another pipeline wrote, and functions written in Rust.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{Accumulator, ColumnarValue, Volatility, create_udaf, create_udf};
use datafusion::scalar::ScalarValue;
use millstream::engine::{Functions, QueryLimits, RunOptions, run_file};
use millstream::time::SECOND;
use millstream::{Append, Engine, Options};
use millstream_tests::{read_csv, root};

#[path = "../../../engine/examples/embed.rs"]
mod example;

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

#[test]
fn the_example_runs_and_is_short() {
    example::main().unwrap();
    let text = std::fs::read_to_string(root().join("engine/examples/embed.rs")).unwrap();
    assert!(text.lines().count() < 40, "{} lines", text.lines().count());
}

/// The product of all values.
#[derive(Debug)]
struct Product(Option<i64>);

impl Accumulator for Product {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.0 = Some(self.0.unwrap_or(1) * value);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(self.0)])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Int64(self.0))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// `successor(x)`: one more; `product(x)`: of all values.
fn functions() -> Functions {
    let successor = |arguments: &[ColumnarValue]| -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let more: Int64Array = arrays[0].as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v + 1)).collect();
        Ok(ColumnarValue::Array(Arc::new(more)))
    };
    let integer = DataType::Int64;
    let scalar =
        create_udf("successor", vec![integer.clone()], integer.clone(), Volatility::Immutable, Arc::new(successor));
    let aggregate = create_udaf(
        "product",
        vec![integer.clone()],
        Arc::new(integer.clone()),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::new(Product(None)))),
        Arc::new(vec![integer]),
    );
    Functions { scalar: vec![Arc::new(scalar)], aggregate: vec![Arc::new(aggregate)] }
}

/// What a file of the table `t` becomes in a pipeline with functions from Rust, as sorted rows.
fn with_functions(query: &str, workers: usize) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let rows =
        "k,x,ts\na,1,2024-01-01T00:00:01\nb,4,2024-01-01T00:00:02\na,2,2024-01-01T00:00:03\na,3,2024-01-01T00:01:30\n";
    std::fs::write(dir.path().join("t.csv"), rows).unwrap();
    let path = dir.path().display();
    let sql = format!(
        "CREATE TABLE t (k TEXT, x BIGINT, ts TIMESTAMP, WATERMARK FOR ts) WITH (connector = 'single_file', format = 'csv', path = '{path}/t.csv');
         CREATE TABLE o (k TEXT, n BIGINT) WITH (connector = 'single_file', format = 'csv', path = '{path}/o.csv');
         INSERT INTO o {query};"
    );
    run_file(&sql, "functions.sql", &RunOptions { functions: functions(), workers, ..RunOptions::default() }).unwrap();
    let (_, mut rows) = read_csv(&dir.path().join("o.csv"));
    rows.sort();
    rows
}

#[test]
fn functions_from_rust_run_in_pipelines() {
    for workers in [1, 2, 4] {
        let each = with_functions("SELECT k, successor(x) FROM t WHERE successor(x) > 2", workers);
        assert_eq!(each, [["a", "3"], ["a", "4"], ["b", "5"]], "{workers} workers");
        let windows =
            with_functions("SELECT k, product(successor(x)) FROM t GROUP BY tumble(INTERVAL '1 minute'), k", workers);
        assert_eq!(windows, [["a", "4"], ["a", "6"], ["b", "5"]], "{workers} workers");
        let sessions =
            with_functions("SELECT k, product(successor(x)) FROM t GROUP BY session(INTERVAL '1 hour'), k", workers);
        assert_eq!(sessions, [["a", "24"], ["b", "5"]], "{workers} workers");
    }
}

#[test]
fn functions_from_rust_run_in_queries() {
    let dir = tempfile::tempdir().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let engine = Engine::open(Options { functions: functions(), ..Options::new(dir.path()) }).await.unwrap();
        let query = "SELECT product(successor(x)) AS n FROM (VALUES (1), (2), (3)) AS t(x)";
        let answer = engine.query(query, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
        let column = answer.batches[0].column(0).clone();
        assert_eq!(column.as_primitive::<Int64Type>().value(0), 24);
        assert_eq!(column.len(), 1);
        engine.close().await.unwrap();
    });
}

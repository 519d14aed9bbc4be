//! Delta tables that a pipeline writes, on a local disk and on S3, as other programs read them: DuckDB (the table's
//! Parquet files) and the deltalake package for Python. Compaction changes no answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use millstream::engine::{Append, Options, ProducerSequence, QueryLimits};
use millstream::lake::Maintenance;
use millstream::{Engine, Result};
use millstream_tests::program::wait_for;
use millstream_tests::python::{S3, python};

const SQL: &str = "\
CREATE TABLE events (user_id TEXT, amount BIGINT, event_time TIMESTAMP, WATERMARK FOR event_time) WITH (connector = 'ingest');
INSERT INTO raw_events SELECT user_id, amount, event_time FROM events;
CREATE TABLE by_user WITH (connector = 'lake') PARTITIONED BY (day(event_time), user_id);
INSERT INTO by_user SELECT user_id, amount, event_time FROM events;
INSERT INTO hourly SELECT w['start'] AS window_start, user_id, n, total FROM (
  SELECT tumble(INTERVAL '1 hour') AS w, user_id, count(*) AS n, sum(amount) AS total FROM events GROUP BY 1, user_id);";

/// 2024-01-01T00:00:00Z, nanoseconds.
const START: i64 = 1_704_067_200_000_000_000;
const HOUR: i64 = 3_600_000_000_000;
const BATCHES: i64 = 30;
const ROWS: i64 = 50;

/// Rows of one batch: two hours further on than the one before, so that the stream covers two days and a half.
fn batch(number: i64) -> RecordBatch {
    let ids = || number * ROWS..(number + 1) * ROWS;
    let user = |i: i64| (i % 11 != 0).then(|| format!("user-{}", i % 5));
    RecordBatch::try_from_iter_with_nullable([
        ("user_id", Arc::new(ids().map(user).collect::<StringArray>()) as _, true),
        ("amount", Arc::new(ids().map(Some).collect::<Int64Array>()) as _, true),
        (
            "event_time",
            Arc::new(ids().map(|i| Some(START + number * 2 * HOUR + i)).collect::<TimestampNanosecondArray>()) as _,
            true,
        ),
    ])
    .unwrap()
}

async fn write(engine: &Engine) -> Result<()> {
    engine.execute(SQL, "test.sql").await?;
    engine.start().await?;
    for number in 0..BATCHES {
        let sequence = Some(ProducerSequence { epoch: 1, sequence: number as u64 + 1 });
        let (table, producer) = ("events".to_string(), "p".to_string());
        engine.append(Append { table, producer, sequence, batch: batch(number), rejected: Vec::new() }).await?;
        // Many commits of few rows, as a slow stream makes them.
        if number % 3 == 0 {
            engine.flush().await?;
        }
    }
    // Closes every window.
    engine.promise("events", "p", START + 1_000 * HOUR).await?;
    wait_for("the promise closes the last window", || {
        let hourly = engine.status().pipelines.into_iter().find(|p| p.name == "hourly")?;
        (hourly.rows_out == BATCHES as u64 * 6).then_some(())
    });
    engine.flush().await
}

const READ: &str = r#"
import sys, json, duckdb, deltalake
url, options = sys.argv[1], json.loads(sys.argv[2])
storage = {k: v for k, v in options.items()} or None
c = duckdb.connect()
if options:
    import pyarrow.fs
    host = options["aws_endpoint"].split("//")[1]
    fs = pyarrow.fs.S3FileSystem(access_key="test", secret_key="test", endpoint_override=host, scheme="http", region="us-east-1")
    import pyarrow.parquet as pq, os, tempfile
for name, query in [
    ("raw_events", "SELECT count(*), sum(amount), count(user_id), min(epoch_us(event_time)), max(epoch_us(event_time)), count(DISTINCT day) FROM t WHERE day = CAST(event_time AS DATE)"),
    ("hourly", "SELECT count(*), sum(n), sum(total), count(DISTINCT window_start), min(n), max(n) FROM t WHERE day = CAST(window_start AS DATE)"),
    ("by_user", "SELECT count(*), sum(amount), count(user_id), count(DISTINCT user_id), sum(amount) FILTER (WHERE user_id = 'user-1') FROM t WHERE day = CAST(event_time AS DATE)"),
]:
    table = deltalake.DeltaTable(url + "/" + name, storage_options=storage)
    files = table.file_uris()
    if options:
        local = tempfile.mkdtemp()
        copies = []
        for f in files:
            copy = os.path.join(local, f.split("//")[1])
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            with fs.open_input_stream(f.split("//")[1]) as source, open(copy, "wb") as target:
                target.write(source.read())
            copies.append(copy)
        files = copies
    t = c.read_parquet(files, hive_partitioning=True)
    print(name, "duckdb", c.execute(query).fetchone(), len(files))
    t = table.to_pyarrow_table()
    print(name, "deltalake", c.execute(query).fetchone(), table.schema().fields[-1].name, table.metadata().partition_columns)
"#;

/// What both readers must see, in their words, and how many files there are.
fn check(url: &str, options: &BTreeMap<String, String>) -> (usize, usize) {
    let printed = python(READ, &[url, &serde_json::to_string(options).unwrap()]);
    let n = BATCHES * ROWS;
    let (sum, users) = (n * (n - 1) / 2, (0..n).filter(|i| i % 11 != 0).count());
    // Microseconds, as Delta keeps them.
    let (first, last) = (START / 1_000, (START + (BATCHES - 1) * 2 * HOUR + n - 1) / 1_000);
    let days = ((BATCHES - 1) * 2) / 24 + 1;
    let raw = format!("({n}, {sum}, {users}, {first}, {last}, {days})");
    let windows = BATCHES * 6;
    let lines: Vec<&str> = printed.lines().collect();
    let files = |line: &str, head: &str| -> usize {
        let rest = line.strip_prefix(head).unwrap_or_else(|| panic!("expected {head} in\n{printed}"));
        rest.trim().parse().unwrap()
    };
    let raw_files = files(lines[0], &format!("raw_events duckdb {raw}"));
    assert_eq!(lines[1], format!("raw_events deltalake {raw} day ['day']"));
    let (min, max) = least_and_most();
    let hourly = format!("({windows}, {n}, {sum}, {BATCHES}, {min}, {max})");
    let hourly_files = files(lines[2], &format!("hourly duckdb {hourly}"));
    assert_eq!(lines[3], format!("hourly deltalake {hourly} day ['day']"));
    let of_one: i64 = (0..n).filter(|i| i % 11 != 0 && i % 5 == 1).sum();
    let by_user = format!("({n}, {sum}, {users}, 5, {of_one})");
    files(lines[4], &format!("by_user duckdb {by_user}"));
    assert_eq!(lines[5], format!("by_user deltalake {by_user} day ['day', 'user_id']"));
    (raw_files, hourly_files)
}

/// The fewest and the most rows of one user (or of none) in a batch, which is a window.
fn least_and_most() -> (i64, i64) {
    let user = |i: i64| if i % 11 == 0 { 5 } else { i % 5 };
    let count = |b: i64, u: i64| (b * ROWS..(b + 1) * ROWS).filter(|i| user(*i) == u).count() as i64;
    let all: Vec<i64> = (0..BATCHES).flat_map(|b| (0..6).map(move |u| (b, u))).map(|(b, u)| count(b, u)).collect();
    (*all.iter().min().unwrap(), *all.iter().max().unwrap())
}

async fn sums(engine: &Engine) -> String {
    let sql = "SELECT (SELECT sum(amount) FROM raw_events) AS a, (SELECT sum(total) FROM hourly) AS b, (SELECT count(*) FROM hourly) AS c, \
               (SELECT sum(amount) FROM by_user WHERE user_id = 'user-1') AS d, (SELECT count(*) FROM by_user WHERE user_id IS NULL) AS e";
    let result = engine.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
    arrow::util::pretty::pretty_format_batches(&result.batches).unwrap().to_string()
}

fn round_trip(lake_url: Option<String>, lake_options: BTreeMap<String, String>) {
    let dir = tempfile::tempdir().unwrap();
    let url = lake_url.clone().unwrap_or_else(|| dir.path().join("lake").display().to_string());
    let options = Options {
        lake_url,
        lake_options: lake_options.clone(),
        checkpoint_interval: Duration::from_millis(50),
        ..Options::new(dir.path())
    };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (before, after) = tokio.block_on(async {
        let engine = Engine::open(options).await.unwrap();
        write(&engine).await.unwrap();
        let before = check(&url, &lake_options);
        let answer = sums(&engine).await;
        let policy = Maintenance { small_files_per_day_max: 1, ..Maintenance::default() };
        let reports = engine.maintain(&policy).await.unwrap();
        assert!(
            reports.iter().any(|(name, r)| name == "raw_events" && r.files_compacted > r.files_written),
            "{reports:?}"
        );
        let by_user = reports.iter().find(|(name, _)| name == "by_user").map(|(_, r)| r.files_written);
        assert!(by_user.is_some_and(|files| files > 6), "one file for each day and user is left: {reports:?}");
        assert_eq!(sums(&engine).await, answer, "compaction changes no answer");
        engine.close().await.unwrap();
        (before, check(&url, &lake_options))
    });
    assert!(after.0 < before.0, "{} files became {}", before.0, after.0);
}

#[test]
fn other_programs_read_the_tables_of_a_local_disk() {
    round_trip(None, BTreeMap::new());
}

#[test]
fn other_programs_read_the_tables_of_s3() {
    let s3 = S3::start("lake");
    round_trip(Some("s3://lake/tables".into()), s3.options());
}

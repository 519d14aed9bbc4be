//! Queries and rollups as an analyst sees them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use millstream::batch::{Batch, Functions, Rollup};
use millstream::lake::Lake;
use millstream::time::{DAY, ManualClock};
use millstream::{Error, QueryLimits};

use crate::lake::{SUNDAY, events, lines, schema};

/// A lake with three days of agent usage; the clock stands at noon of the fourth.
struct Bench {
    _dir: tempfile::TempDir,
    lake: Lake,
    batch: Batch,
    clock: ManualClock,
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap(), &BTreeMap::new()).await.unwrap();
    let clock = ManualClock::at(i64::from(SUNDAY + 3) * DAY + DAY / 2);
    let table = lake.table("agent_usage", schema()).await.unwrap();
    for (day, rows) in [(0, vec![("a", 1, 0.5), ("b", 2, 0.5)]), (1, vec![("a", 4, 1.0)]), (2, vec![("c", 8, 0.25)])] {
        table.append(&[events(SUNDAY + day, &rows)]).await.unwrap();
    }
    let batch = Batch::new(lake.clone(), Arc::new(clock.clone()), Functions::default()).unwrap();
    Bench { _dir: dir, lake, batch, clock }
}

impl Bench {
    async fn rows(&self, sql: &str) -> Vec<String> {
        lines(&self.batch.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap().batches)
    }

    async fn error(&self, sql: &str) -> String {
        self.batch.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap_err().to_string()
    }
}

fn usage_1d() -> Rollup {
    Rollup {
        name: "usage_1d".into(),
        sql: "SELECT agent, sum(tokens) AS tokens FROM agent_usage WHERE day = $day GROUP BY agent".into(),
        file: "sql/rollups/usage_1d.sql".into(),
    }
}

const USAGE: &str = "SELECT day, agent, tokens FROM usage_1d ORDER BY day, agent";

#[tokio::test(flavor = "multi_thread")]
async fn queries_read_tables_lists_and_plans() {
    let bench = bench().await;
    assert_eq!(
        bench.rows("SELECT agent, sum(tokens) FROM agent_usage GROUP BY agent ORDER BY 1").await,
        ["a 5", "b 2", "c 8"]
    );
    assert_eq!(bench.rows("WITH x AS (SELECT 1 AS n UNION ALL SELECT 2) SELECT max(n) FROM x;").await, ["2"]);
    assert_eq!(bench.rows("SELECT count(*) FROM millstream.public.agent_usage").await, ["4"]);
    bench.batch.rollup(&usage_1d(), SUNDAY).await.unwrap();
    assert_eq!(bench.rows("SELECT rollup, rows, error FROM system.rollup_runs").await, ["usage_1d 2 "]);
    let shown = bench.rows("SHOW TABLES").await;
    for table in ["millstream public agent_usage BASE TABLE", "millstream system rollup_runs BASE TABLE"] {
        assert!(shown.contains(&table.to_string()), "{shown:?}");
    }
    assert_eq!(bench.rows("DESCRIBE usage_1d").await, ["agent Utf8View YES", "tokens Int64 YES", "day Date32 YES"]);
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'usage_1d' ORDER BY 1";
    assert_eq!(bench.rows(columns).await, ["agent", "day", "tokens"]);
    assert!(bench.rows("EXPLAIN SELECT 1").await.join(" ").contains("Projection"));
    assert!(bench.rows("EXPLAIN ANALYZE SELECT count(*) FROM agent_usage").await.join(" ").contains("elapsed_compute"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_values_and_never_sql() {
    let bench = bench().await;
    let midnight = i64::from(SUNDAY + 1) * DAY;
    let parameters = BTreeMap::from([
        ("from".to_string(), ScalarValue::TimestampNanosecond(Some(midnight), None)),
        ("to".to_string(), ScalarValue::TimestampMillisecond(Some((midnight + DAY) / 1_000_000), Some("UTC".into()))),
        ("day".to_string(), ScalarValue::Date32(Some(SUNDAY))),
        ("agent".to_string(), ScalarValue::from("a' OR '1' = '1")),
        ("most".to_string(), ScalarValue::from(2i64)),
    ]);
    for (sql, expected) in [
        ("SELECT agent, tokens FROM agent_usage WHERE at >= $from AND at < $to", vec!["a 4"]),
        ("SELECT $day + INTERVAL '1 day' AS d, arrow_typeof($day)", vec!["2026-11-23 Date32"]),
        ("SELECT count(*) FROM agent_usage WHERE agent = $agent", vec!["0"]),
        ("SELECT tokens FROM agent_usage ORDER BY tokens LIMIT $most", vec!["1", "2"]),
    ] {
        let result = bench.batch.query(sql, &parameters, &QueryLimits::default()).await.unwrap();
        assert_eq!(lines(&result.batches), expected, "{sql}");
    }
    let error = bench.batch.query("SELECT $until", &parameters, &QueryLimits::default()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "parameter $until has no value\n  fix: give it one; known parameters: $agent, $day, $from, $most, $to"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_do_not_exist_are_answered_with_those_that_do() {
    let bench = bench().await;
    assert_eq!(
        bench.error("SELECT * FROM agent_usag").await,
        "there is no table 'agent_usag'\n  fix: did you mean 'agent_usage'?"
    );
    assert_eq!(bench.error("SELECT * FROM x").await, "there is no table 'x'\n  fix: tables: agent_usage");
    let error = bench.error("SELECT tokns FROM agent_usage").await;
    assert!(error.contains("Did you mean 'agent_usage.tokens'?"), "{error}");
    let error = bench.error("SELECT\n  tokens FRM agent_usage x y").await;
    assert!(error.contains("\n    tokens FRM agent_usage x y\n"), "{error}");
}

/// Every statement and the beginning of its error.
const REFUSED: &[(&str, &str)] = &[
    ("INSERT INTO agent_usage SELECT * FROM agent_usage", "INSERT is not allowed\n"),
    ("UPDATE agent_usage SET tokens = 0", "UPDATE is not allowed\n"),
    ("DELETE FROM agent_usage", "DELETE is not allowed\n"),
    ("TRUNCATE TABLE agent_usage", "TRUNCATE is not allowed\n"),
    ("MERGE INTO agent_usage USING agent_usage AS s ON true WHEN MATCHED THEN DELETE", "MERGE is not allowed\n"),
    ("DROP TABLE agent_usage", "DROP TABLE is not allowed\n"),
    ("CREATE TABLE t AS SELECT 1", "CREATE TABLE is not allowed\n"),
    ("CREATE VIEW v AS SELECT 1", "CREATE VIEW is not allowed\n"),
    ("CREATE SCHEMA s", "CREATE SCHEMA is not allowed\n"),
    ("CREATE DATABASE d", "CREATE DATABASE is not allowed\n"),
    ("CREATE FUNCTION f(int) RETURNS int RETURN $1", "CREATE FUNCTION is not allowed\n"),
    ("ALTER TABLE agent_usage ADD COLUMN x int", "ALTER TABLE is not allowed\n"),
    ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE is not allowed\n"),
    (
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'http://169.254.169.254/x'",
        "CREATE EXTERNAL TABLE is not allowed\n",
    ),
    ("COPY agent_usage TO '/tmp/stolen.csv'", "COPY is not allowed\n"),
    ("COPY (SELECT 1) TO 's3://bucket/x.parquet'", "COPY is not allowed\n"),
    ("EXPLAIN COPY agent_usage TO '/tmp/stolen.csv'", "COPY is not allowed\n"),
    ("EXPLAIN ANALYZE INSERT INTO agent_usage SELECT * FROM agent_usage", "INSERT is not allowed\n"),
    ("SET datafusion.execution.batch_size = 1", "SET is not allowed\n"),
    ("RESET datafusion.execution.batch_size", "RESET is not allowed\n"),
    ("SHOW ALL", "SHOW is not allowed\n"),
    ("CALL system()", "CALL is not allowed\n"),
    ("PREPARE p AS SELECT 1", "PREPARE is not allowed\n"),
    ("EXECUTE p", "EXECUTE is not allowed\n"),
    ("DEALLOCATE p", "DEALLOCATE is not allowed\n"),
    ("START TRANSACTION", "START is not allowed\n"),
    ("COMMIT", "COMMIT is not allowed\n"),
    ("ROLLBACK", "ROLLBACK is not allowed\n"),
    ("USE other", "USE is not allowed\n"),
    ("GRANT SELECT ON agent_usage TO x", "GRANT is not allowed\n"),
    ("SELECT 1; SELECT 2", "several statements in one query\n"),
    ("SELECT 1; DROP TABLE agent_usage", "several statements in one query\n"),
    ("", "the query is empty\n"),
    ("-- nothing", "the query is empty\n"),
    ("SELECT * FROM '/etc/passwd'", "there is no table '/etc/passwd'\n"),
    ("SELECT * FROM '../agent_usage/_delta_log/00000000000000000000.json'", "there is no table '../agent_usage/"),
    ("SELECT * FROM \"http://169.254.169.254/latest\"", "there is no table 'http://169.254.169.254/latest'\n"),
    ("SELECT * FROM 's3://bucket/x.parquet'", "there is no table 's3://bucket/x.parquet'\n"),
    ("SELECT * FROM read_csv('/etc/passwd')", "table function 'read_csv' not found"),
    ("SELECT * FROM read_parquet('/tmp/x.parquet')", "table function 'read_parquet' not found"),
    ("SELECT * FROM parquet_metadata('/tmp/x.parquet')", "table function 'parquet_metadata' not found"),
    ("SELECT * INTO stolen FROM agent_usage", "DDL not supported: CreateMemoryTable\n"),
    ("WITH x AS (INSERT INTO agent_usage SELECT * FROM agent_usage RETURNING 1) SELECT * FROM x", ""),
    ("SELECT load_extension('x')", "Invalid function 'load_extension'"),
    ("SELECT pg_read_file('/etc/passwd')", "Invalid function 'pg_read_file'"),
];

#[tokio::test(flavor = "multi_thread")]
async fn queries_do_nothing_but_read_tables() {
    let bench = bench().await;
    let mut wrong = Vec::new();
    for (sql, expected) in REFUSED {
        match bench.batch.query(sql, &BTreeMap::new(), &QueryLimits::default()).await {
            Ok(_) => wrong.push(format!("{sql}\n  was allowed")),
            Err(Error::Query(e)) if e.to_string().starts_with(expected) => {}
            Err(e) => wrong.push(format!("{sql}\n  expected {expected:?}\n  but said {:?}", e.to_string())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        bench
            .error("DROP TABLE agent_usage")
            .await
            .ends_with("\n  fix: queries only read; write SELECT, WITH, EXPLAIN, SHOW TABLES or DESCRIBE")
    );
    assert_eq!(bench.rows("SELECT count(*) FROM agent_usage").await, ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_and_deep_texts_are_refused_before_they_are_parsed() {
    let bench = bench().await;
    let long = format!("SELECT '{}'", "x".repeat(65_536));
    assert_eq!(
        bench.error(&long).await,
        "limit: the query has 65545 bytes, more than 65536; shorten it (try again in 0 ms)"
    );
    let deep = format!("SELECT {}1{}", "(".repeat(3_000), ")".repeat(3_000));
    assert!(bench.error(&deep).await.starts_with("limit: the query nests 3000 parentheses, more than 40;"));
    let chain = format!("SELECT 1{}", " + 1".repeat(2_000));
    assert!(bench.error(&chain).await.starts_with("limit: the query has 2000 operators, more than 1000;"));
    let unions = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1_001));
    assert!(bench.error(&unions).await.starts_with("limit: the query has 1001 operators"));

    // With an error at the bottom each level would take the parser twice as long.
    let cases = format!("SELECT {}){}", "CASE WHEN true THEN ".repeat(30), " END".repeat(30));
    assert_eq!(
        bench.error(&cases).await,
        "limit: the query nests CASE, CAST, subqueries and the like 30 deep, more than 10; use WITH to flatten it \
         (try again in 0 ms)"
    );

    // What is within the limits runs.
    assert_eq!(bench.rows(&format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(10), " END".repeat(10))).await, ["1"]);
    assert_eq!(bench.rows(&format!("SELECT {}1{}", "CAST(".repeat(10), " AS INT)".repeat(10))).await, ["1"]);
    let tables = format!("SELECT count(*) FROM {}agent_usage{}", "(SELECT * FROM ".repeat(20), ")".repeat(20));
    assert_eq!(bench.rows(&tables).await, ["4"]);
    assert_eq!(bench.rows(&format!("SELECT 1{} AS n", " + 1".repeat(999))).await, ["1000"]);
    assert_eq!(bench.rows(&format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40))).await, ["1"]);
    let filter = " OR tokens = 3".repeat(300);
    assert_eq!(bench.rows(&format!("SELECT count(*) FROM agent_usage WHERE tokens = 1{filter}")).await, ["1"]);
}

const TEN_BILLION: &str = "SELECT count(*) FROM range(100000) a(x) CROSS JOIN range(100000) b(y) WHERE x * y % 7 = 8";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_time_is_up() {
    let bench = bench().await;
    for sql in [TEN_BILLION, "SELECT sum(a.value + b.value) FROM range(100000) a, range(100000) b"] {
        let limits = QueryLimits { timeout: Duration::from_millis(500), ..QueryLimits::default() };
        let started = Instant::now();
        let error = bench.batch.query(sql, &BTreeMap::new(), &limits).await.unwrap_err();
        let took = started.elapsed();
        assert!(took < Duration::from_millis(750), "{took:?}: {sql}");
        assert_eq!(
            error.to_string(),
            "limit: the query took longer than 500ms and was cancelled; narrow it to fewer days (try again in 1000 ms)"
        );
    }
    // The threads are free again: the cancelled query gave way.
    let limits = QueryLimits { timeout: Duration::from_secs(2), ..QueryLimits::default() };
    let result = bench.batch.query("SELECT count(*) FROM agent_usage", &BTreeMap::new(), &limits).await.unwrap();
    assert_eq!(lines(&result.batches), ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_memory_is_used_up() {
    let bench = bench().await;
    let limits = QueryLimits { memory_bytes_max: 4 << 20, ..QueryLimits::default() };
    for sql in [
        "SELECT array_agg(value) FROM range(10000000)",
        "SELECT count(*) FROM range(3000000) a JOIN range(3000000) b ON a.value = b.value",
        "SELECT repeat('x', 1000) || value FROM range(1000000)",
    ] {
        let error = bench.batch.query(sql, &BTreeMap::new(), &limits).await.unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{sql}: {error:?}");
        let error = error.to_string();
        assert!(error.starts_with("limit: the query needs more memory than it may use ("), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_cut_at_its_limit_and_says_so() {
    let bench = bench().await;
    for (rows_max, sql, rows, truncated) in [
        (3, "SELECT * FROM agent_usage", 3, true),
        (4, "SELECT * FROM agent_usage", 4, false),
        (10, "SELECT * FROM range(100000)", 10, true),
        (0, "SELECT * FROM agent_usage", 0, true),
    ] {
        let limits = QueryLimits { rows_max, ..QueryLimits::default() };
        let result = bench.batch.query(sql, &BTreeMap::new(), &limits).await.unwrap();
        let found: usize = result.batches.iter().map(|b| b.num_rows()).sum();
        assert_eq!((found, result.truncated), (rows, truncated), "{rows_max}: {sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_all_rows_and_ends_in_time() {
    let bench = bench().await;
    let limits = QueryLimits { rows_max: 1, ..QueryLimits::default() };
    let stream = bench.batch.query_stream("SELECT * FROM range(100000)", &BTreeMap::new(), &limits).await.unwrap();
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 100_000);

    let limits = QueryLimits { timeout: Duration::from_millis(500), ..QueryLimits::default() };
    let started = Instant::now();
    let stream = bench.batch.query_stream(TEN_BILLION, &BTreeMap::new(), &limits).await.unwrap();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_millis(750), "{:?}", started.elapsed());
    assert!(error.contains("took longer than 500ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_run_twice_changes_nothing() {
    let bench = bench().await;
    let run = bench.batch.rollup(&usage_1d(), SUNDAY).await.unwrap();
    assert_eq!((run.rows, run.error, run.input_versions), (2, None, BTreeMap::from([("agent_usage".to_string(), 3)])));
    assert_eq!(bench.rows(USAGE).await, ["2026-11-22 a 1", "2026-11-22 b 2"]);
    let table = bench.lake.existing("usage_1d").await.unwrap().unwrap();
    let version = table.version().await.unwrap();
    bench.clock.set(i64::from(SUNDAY + 3) * DAY + DAY / 2 + 1_000_000);
    bench.batch.rollup(&usage_1d(), SUNDAY).await.unwrap();
    assert_eq!(bench.rows(USAGE).await, ["2026-11-22 a 1", "2026-11-22 b 2"]);
    assert_eq!(table.version().await.unwrap(), version, "equal rows are not written again");
    let runs =
        "SELECT rollup, day_run, started_at, rows, input_versions, error, day FROM system.rollup_runs ORDER BY 3";
    assert_eq!(
        bench.rows(runs).await,
        [
            "usage_1d 2026-11-22 2026-11-25T12:00:00Z 2 {\"agent_usage\":3}  2026-11-25",
            "usage_1d 2026-11-22 2026-11-25T12:00:00.001Z 2 {\"agent_usage\":3}  2026-11-25"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_with_late_rows_is_due_again_and_no_other() {
    let bench = bench().await;
    let rollup = usage_1d();
    let through = SUNDAY + 2;
    assert_eq!(bench.batch.rollup_days_due(&rollup, through).await.unwrap(), (SUNDAY..=through).collect());
    for day in SUNDAY..=through {
        bench.batch.rollup(&rollup, day).await.unwrap();
    }
    assert!(bench.batch.rollup_days_due(&rollup, through).await.unwrap().is_empty());

    let late = [events(SUNDAY + 1, &[("late", 16, 0.0)])];
    bench.lake.existing("agent_usage").await.unwrap().unwrap().append(&late).await.unwrap();
    assert_eq!(bench.batch.rollup_days_due(&rollup, through).await.unwrap(), [SUNDAY + 1].into());
    bench.batch.rollup(&rollup, SUNDAY + 1).await.unwrap();
    assert!(bench.batch.rollup_days_due(&rollup, through).await.unwrap().is_empty());
    assert_eq!(
        bench.rows(USAGE).await,
        ["2026-11-22 a 1", "2026-11-22 b 2", "2026-11-23 a 4", "2026-11-23 late 16", "2026-11-24 c 8"]
    );
    // A day without rows is not due until it has some; a rollup of a table that is not there has nothing to do.
    assert!(bench.batch.rollup_days_due(&rollup, through + 1).await.unwrap().is_empty());
    let new = [events(through + 1, &[("d", 32, 0.0)])];
    bench.lake.existing("agent_usage").await.unwrap().unwrap().append(&new).await.unwrap();
    assert_eq!(bench.batch.rollup_days_due(&rollup, through + 1).await.unwrap(), [through + 1].into());
    let missing = Rollup { sql: "SELECT 1 AS n FROM nothing_yet WHERE day = $day".into(), ..rollup };
    assert!(bench.batch.rollup_days_due(&missing, through).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rollup_is_recorded_and_leaves_the_day_as_it_was() {
    let bench = bench().await;
    bench.batch.rollup(&usage_1d(), SUNDAY).await.unwrap();
    for (sql, message) in [
        (
            "SELECT agent, tokens / 0 AS tokens FROM agent_usage WHERE day = $day",
            "EXECUTION: Arrow error: Divide by zero error",
        ),
        ("SELECT agnt FROM agent_usage", "sql/rollups/usage_1d.sql: No field named agnt."),
        (
            "SELECT agent, tokens, day FROM agent_usage ORDER BY day",
            "sql/rollups/usage_1d.sql: row 3 of the result has day 2026-11-23, not 2026-11-22; select the rows of $day only",
        ),
    ] {
        let rollup = Rollup { sql: sql.into(), ..usage_1d() };
        let error = bench.batch.rollup(&rollup, SUNDAY).await.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        let recorded = format!("SELECT count(*) FROM system.rollup_runs WHERE error = '{}'", error.replace('\'', "''"));
        assert_eq!(bench.rows(&recorded).await, ["1"], "{error}");
    }
    assert_eq!(bench.rows(USAGE).await, ["2026-11-22 a 1", "2026-11-22 b 2"]);
    assert_eq!(bench.batch.rollup_days_due(&usage_1d(), SUNDAY).await.unwrap().len(), 0, "its last good run counts");
}

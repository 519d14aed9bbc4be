//! Data directories of every format that was released, and programs whose other pipelines change.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int64Type;
use millstream::time::SECOND;
use millstream::{Append, Engine, Options, QueryLimits};
use millstream_tests::{reopened, root};

const SOURCE: &str = "
CREATE TABLE clicks (id BIGINT, user BIGINT, t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '3 seconds')
  WITH (connector = 'ingest', future_skew = INTERVAL '10000 days', idle_timeout = INTERVAL '10000 days');
";
const RAW: &str = "INSERT INTO raw SELECT * FROM clicks;";
const WINDOWS: &str = "INSERT INTO windows SELECT w['start'] AS start, user, n FROM
  (SELECT tumble(INTERVAL '10 seconds') AS w, user, count(*) AS n FROM clicks GROUP BY 1, 2);";
const SESSIONS: &str = "INSERT INTO sessions SELECT user, n, ids FROM
  (SELECT session(INTERVAL '4 seconds') AS w, user, count(*) AS n, sum(id) AS ids FROM clicks GROUP BY 1, 2);";
const PAIRS: &str = "INSERT INTO pairs SELECT a.id AS a, b.id AS b FROM clicks a JOIN clicks b
  ON a.user = b.user AND b.t > a.t AND b.t <= a.t + INTERVAL '5 seconds';";

const SEEN: &str = "INSERT INTO seen SELECT DISTINCT user, id % 7 AS rest FROM clicks;";

/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200 * SECOND;

async fn open(dir: &Path, pipelines: &[&str]) -> millstream::Result<Engine> {
    open_with(dir, pipelines, None).await
}

async fn open_with(dir: &Path, pipelines: &[&str], state_spill_at: Option<usize>) -> millstream::Result<Engine> {
    let interval = Duration::from_secs(3_600);
    let options = Options { checkpoint_interval: interval, state_spill_at, ..Options::new(dir) };
    let engine = reopened(async || Engine::open(options.clone()).await).await?;
    engine.execute(&format!("{SOURCE}{}", pipelines.join("\n")), "upgrade.sql").await?;
    engine.start().await?;
    Ok(engine)
}

/// Row `id`: three users take turns, with a pause now and then.
fn time(id: i64) -> i64 {
    START + (id + 6 * (id / 20)) * SECOND
}

async fn append(engine: &Engine, ids: std::ops::Range<i64>) {
    for id in ids {
        let number = |v: i64| Arc::new(Int64Array::from(vec![v])) as ArrayRef;
        let t = Arc::new(TimestampNanosecondArray::from(vec![time(id)])) as ArrayRef;
        let schema = engine.table("clicks").unwrap().schema;
        let batch = RecordBatch::try_new(schema, vec![number(id), number(id % 3), t]).unwrap();
        let (table, producer) = ("clicks".to_string(), "p".to_string());
        engine.append(Append { table, producer, sequence: None, batch, rejected: Vec::new() }).await.unwrap();
    }
}

async fn numbers(engine: &Engine, sql: &str) -> Vec<Vec<i64>> {
    let answer = engine.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
    let row = |b: &RecordBatch, i: usize| b.columns().iter().map(|c| c.as_primitive::<Int64Type>().value(i)).collect();
    answer.batches.iter().flat_map(|b| (0..b.num_rows()).map(|i| row(b, i)).collect::<Vec<_>>()).collect()
}

/// The tables are what rows `0..end` give, computed here.
async fn check(engine: &Engine, end: i64) {
    engine.promise("clicks", "p", START + 10_000 * SECOND).await.unwrap();
    engine.flush().await.unwrap();
    assert_eq!(numbers(engine, "SELECT count(*), count(DISTINCT id), max(id) FROM raw").await, [[end, end, end - 1]]);
    let mut windows = BTreeMap::<(i64, i64), i64>::new();
    let mut sessions = BTreeMap::<i64, Vec<(i64, i64, i64)>>::new();
    let mut pairs = Vec::new();
    for id in 0..end {
        *windows.entry((time(id).div_euclid(10 * SECOND) * 10, id % 3)).or_default() += 1;
        let own = sessions.entry(id % 3).or_default();
        match own.last_mut() {
            Some((last, n, ids)) if time(id) < *last + 4 * SECOND => (*last, *n, *ids) = (time(id), *n + 1, *ids + id),
            _ => own.push((time(id), 1, id)),
        }
        let partners = (0..id).filter(|a| a % 3 == id % 3 && time(*a) < time(id) && time(id) <= time(*a) + 5 * SECOND);
        pairs.extend(partners.map(|a| vec![a, id]));
    }
    pairs.sort();
    let windows: Vec<Vec<i64>> = windows.into_iter().map(|((start, user), n)| vec![start, user, n]).collect();
    let found = "SELECT CAST(start AS BIGINT) / 1000000 AS s, user, n FROM windows ORDER BY 1, 2";
    assert_eq!(numbers(engine, found).await, windows);
    let all = sessions.into_iter().flat_map(|(user, own)| own.into_iter().map(move |(_, n, ids)| vec![user, n, ids]));
    let mut sessions: Vec<Vec<i64>> = all.collect();
    sessions.sort_by_key(|s| (s[0], s[2]));
    assert_eq!(numbers(engine, "SELECT user, n, ids FROM sessions ORDER BY user, ids").await, sessions);
    assert_eq!(numbers(engine, "SELECT a, b FROM pairs ORDER BY a, b").await, pairs);
}

/// Rows in a fixture that its newest checkpoint covers, and all of them.
const COVERED: i64 = 50;
const ROWS: i64 = 64;

fn fixtures() -> PathBuf {
    root().join("tests/fixtures/data")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// How the fixtures are made: once for each format, by the program that has it.
#[test]
#[ignore = "writes tests/fixtures/data/new"]
fn a_fixture_of_this_format() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let dir = fixtures().join("new");
        // From format 2 on checkpoints may have state that went out of memory.
        // From format 3 on, integers by key may be narrow.
        let engine = open_with(&dir, &[RAW, WINDOWS, SESSIONS, PAIRS, SEEN], Some(0)).await.unwrap();
        append(&engine, 0..COVERED).await;
        engine.flush().await.unwrap();
        append(&engine, COVERED..ROWS).await;
        // Dropped, not closed: there is a log to be read.
    });
}

#[test]
fn data_of_every_released_format_goes_on() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut formats: Vec<PathBuf> = std::fs::read_dir(fixtures()).unwrap().map(|e| e.unwrap().path()).collect();
    formats.sort();
    assert!(!formats.is_empty());
    for format in formats {
        let dir = tempfile::tempdir().unwrap();
        copy(&format, dir.path());
        let has_seen = format.file_name().is_some_and(|name| name >= OsStr::new("format-3"));
        let pipelines = [RAW, WINDOWS, SESSIONS, PAIRS, SEEN];
        let pipelines = if has_seen { &pipelines[..] } else { &pipelines[..4] };
        runtime.block_on(async {
            let engine = open(dir.path(), pipelines).await.unwrap();
            append(&engine, ROWS..ROWS + 30).await;
            check(&engine, ROWS + 30).await;
            if has_seen {
                let twice = "SELECT count(*), count(DISTINCT user * 7 + rest) FROM seen";
                assert_eq!(numbers(&engine, twice).await, [[21, 21]]);
            }
            engine.close().await.unwrap();
        });
    }
}

#[test]
fn another_format_is_refused_with_the_way_out() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let format = fixtures().join("format-1");
    let refused = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        copy(&format, dir.path());
        change(dir.path());
        runtime.block_on(async { open(dir.path(), &[RAW, WINDOWS, SESSIONS, PAIRS]).await.unwrap_err().to_string() })
    };
    let manifest = refused(&|dir| {
        for entry in std::fs::read_dir(dir.join("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let json = text.lines().next().unwrap().replace("{\"version\":1,", "{\"version\":9,");
            std::fs::write(&path, format!("{json}\n{:08x}\n", crc32fast::hash(json.as_bytes()))).unwrap();
        }
    });
    assert!(
        manifest.contains("layout version 9, but this program knows 1 to 3; use the program that wrote it, or"),
        "{manifest}"
    );
    let log = refused(&|dir| {
        let mut files = std::fs::read_dir(dir.join("log")).unwrap().map(|e| e.unwrap().path());
        let path = files.find(|p| p.extension().is_some_and(|e| e == "log")).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&bytes[16..24]);
        bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
    });
    assert!(
        log.contains("is written in format 9, and this program reads format 1; use the program that wrote it"),
        "{log}"
    );
}

/// State belongs to a pipeline by its name and its canonical plan: what else is in the files does not matter.
#[test]
fn pipelines_that_come_and_go_leave_the_state_of_others() {
    let dir = tempfile::tempdir().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let other = "CREATE VIEW some AS SELECT * FROM clicks WHERE user = 1;
                     INSERT INTO other SELECT w['start'] AS start, n FROM
                       (SELECT hop(INTERVAL '5 seconds', INTERVAL '20 seconds') AS w, count(*) AS n FROM some GROUP BY 1);";
        let commented = format!("-- The same, written differently.\n{}", WINDOWS.replace("AS n FROM clicks", "AS n\n   FROM   clicks"));
        let programs: [Vec<&str>; 5] = [
            vec![RAW, WINDOWS, SESSIONS, PAIRS],
            vec![other, PAIRS, SESSIONS, WINDOWS, RAW],
            vec![SESSIONS, RAW, other, &commented, PAIRS],
            vec![PAIRS, WINDOWS, RAW, SESSIONS],
            vec![RAW, other, WINDOWS, PAIRS, SESSIONS],
        ];
        let mut id = 0;
        for program in programs {
            let engine = open(dir.path(), &program).await.unwrap();
            append(&engine, id..id + 17).await;
            id += 17;
            engine.close().await.unwrap();
        }
        let engine = open(dir.path(), &[RAW, WINDOWS, SESSIONS, PAIRS]).await.unwrap();
        check(&engine, id).await;
        engine.close().await.unwrap();
    });
}

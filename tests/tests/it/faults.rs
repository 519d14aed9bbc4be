//! The real server when the machine around it fails: a full disk, an S3 server that is slow, refuses, loses answers and
//! goes away, a clock that jumps, a second server on the same directory or tables.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int64Type;
use millstream::time::{DAY, ManualClock, SECOND};
use millstream::{Append, Engine, Options, ProducerSequence, QueryLimits};
use millstream_tests::program::{Server, http, millstream, wait_for};
use millstream_tests::proxy::{Mood, Proxy};
use millstream_tests::python::S3;

const PIPELINES: [(&str, &str); 3] = [
    (
        "sources.sql",
        "CREATE TABLE clicks (i BIGINT, pad TEXT, event_time TIMESTAMP, WATERMARK FOR event_time AS event_time)
         WITH (connector = 'ingest');",
    ),
    ("raw.sql", "INSERT INTO raw SELECT i, pad FROM clicks;"),
    (
        "windows.sql",
        "INSERT INTO windows SELECT n, ids FROM
         (SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS n, sum(i) AS ids FROM clicks GROUP BY 1);",
    ),
];
/// 2024-01-01T00:00:00Z.
const START_MS: i64 = 1_704_067_200_000;

/// One batch of a row with this much padding; rows are a second apart.
fn row(i: u64, pad: usize) -> String {
    // Not compressible: the tables would be small else.
    let mut random = millstream_tests::random::Random(i);
    let pad: String = std::iter::repeat_with(|| format!("{:016x}", random.bits())).take(pad / 16).collect();
    let time = START_MS + i as i64 * 1_000;
    format!(r#"{{"i":{i},"pad":"{pad}","event_time":{time}}}"#)
}

/// The raw table has `1..=last` once each, and the windows that have closed are right.
fn check(server: &Server, last: u64) {
    let raw = server.sql("SELECT count(*), count(DISTINCT i), min(i), max(i) FROM raw");
    assert_eq!(raw, [[last.to_string(), last.to_string(), "1".into(), last.to_string()]]);
    let mut expected = BTreeMap::<u64, (u64, u64)>::new();
    for i in 1..=last {
        let window = expected.entry(i / 10).or_default();
        *window = (window.0 + 1, window.1 + i);
    }
    expected.pop_last();
    let expected: Vec<Vec<String>> =
        expected.into_values().map(|(n, ids)| vec![n.to_string(), ids.to_string()]).collect();
    assert_eq!(server.sql("SELECT n, ids FROM windows ORDER BY ids"), expected);
}

/// A file system of its own in memory; taken away with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed, and says so.
    fn mount(place: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(place).unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place).output();
        if mounted.as_ref().is_ok_and(|o| o.status.success()) {
            return Some(Self(place.to_path_buf()));
        }
        eprintln!("left out: a small file system cannot be mounted here ({mounted:?}); the simulator fills its disk");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

/// Writes a file until there is no page left.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

#[test]
fn a_full_disk_refuses_batches_by_name_and_goes_on_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("data"), 24) else { return };
    // Log, checkpoints and tables are on it.
    let mut server = Server::new(dir.path(), "checkpoint_interval = '200ms'", &PIPELINES);
    server.start();
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 16 << 20]).unwrap();
    let (mut i, mut refusals) = (0, 0);
    while refusals < 3 {
        let (status, receipt) = server.post("clicks", "p", i + 1, &row(i + 1, 100_000));
        match status {
            200 => i += 1,
            _ => {
                refusals += 1;
                let text = receipt.to_string();
                assert_eq!(status, 503, "{text}");
                assert!(text.contains("nothing was taken: free some space and send again"), "{text}");
            }
        }
        assert!(i < 1_000, "the disk does not fill");
    }
    // What was taken and is in no table yet waits for space, and the server with it; reading goes on.
    fill(&disk.0.join("brim"));
    wait_for("a write of the pipelines waits", || {
        let (status, _) = server.post("clicks", "p", i + 1, &row(i + 1, 16));
        i += u64::from(status == 200);
        server.said().contains("cannot write to table").then_some(())
    });
    assert_eq!(http(server.http, "GET", "/healthz", "", "").unwrap().0, 200, "{}", server.said());
    let key = format!("Bearer {}", server.key);
    let asked = http(server.http, "POST", "/api/v1/sql", &key, r#"{"sql": "SELECT count(*) AS n FROM raw"}"#).unwrap();
    assert_eq!(asked.0, 200, "{}", asked.1);
    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(disk.0.join("brim")).unwrap();
    for _ in 0..20 {
        let (status, receipt) = wait_for("a batch is taken again", || {
            Some(server.post("clicks", "p", i + 1, &row(i + 1, 1_000))).filter(|(status, _)| *status == 200)
        });
        assert_eq!(status, 200, "{receipt}");
        i += 1;
    }
    server.settle();
    // What was refused left nothing that a recovery could stumble over.
    server.kill();
    server.start();
    server.settle();
    server.stop();
    check(&server, i);
}

#[test]
fn tables_on_a_store_that_fails_in_every_way_are_exact_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = S3::start("lake");
    let proxy = Proxy::before(s3.port);
    let mut settings = "checkpoint_interval = '200ms'\nlake.url = 's3://lake/prod'".to_string();
    for (key, value) in s3.options() {
        let value = if key == "aws_endpoint" { format!("http://127.0.0.1:{}", proxy.port) } else { value };
        settings += &format!("\nlake.options.{key} = '{value}'");
    }
    let mut server = Server::new(dir.path(), &settings, &PIPELINES);
    server.start();
    let mut i = 0;
    for mood in [Mood::Slow, Mood::Refuses, Mood::LosesAnswers, Mood::Gone, Mood::LosesAnswers, Mood::Refuses] {
        proxy.set(mood);
        let before = proxy.disturbed();
        // The log is on the local disk: batches are acknowledged whatever the store does.
        for _ in 0..15 {
            i += 1;
            let (status, receipt) = server.post("clicks", "p", i, &row(i, 100));
            assert_eq!(status, 200, "{mood:?}: {receipt}");
        }
        wait_for("the store is disturbed", || (proxy.disturbed() > before + 3).then_some(()));
        if mood == Mood::LosesAnswers {
            // Killed while a commit's outcome is unknown.
            server.kill();
            proxy.set(Mood::Clear);
            server.start();
        }
        proxy.set(Mood::Clear);
        server.settle();
    }
    server.stop();
    check(&server, i);
}

#[test]
fn a_second_server_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake").display().to_string();
    let settings = format!("lake.url = '{lake}'");
    let mut first = Server::new(&dir.path().join("first"), &settings, &PIPELINES);
    first.start();
    let refused = |place: &str, settings: &str, expected: &str| {
        let place = dir.path().join(place);
        let second = Server::new(&place, settings, &PIPELINES);
        let output = millstream(&["serve"], &place);
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
        drop(second);
    };
    let (status, receipt) = first.post("clicks", "p", 1, &row(1, 16));
    assert_eq!(status, 200, "{receipt}");
    refused("second", &settings, "is written by another engine");
    // The same data directory from another configuration.
    let data = dir.path().join("first/data");
    let place = dir.path().join("third");
    std::fs::create_dir_all(place.join("pipelines")).unwrap();
    for (name, sql) in PIPELINES {
        std::fs::write(place.join("pipelines").join(name), sql).unwrap();
    }
    let config = format!(
        "data_dir = '{}'\n{settings}\n[http]\nlisten = '127.0.0.1:0'\n[ingest]\nlisten = '127.0.0.1:0'\n",
        data.display()
    );
    std::fs::write(place.join("millstream.toml"), config).unwrap();
    let output = millstream(&["serve"], &place);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("first/data is in use by another process; stop that process"), "{said}");
    // The first one is not disturbed.
    let (status, receipt) = first.post("clicks", "p", 2, &row(2, 16));
    assert_eq!(status, 200, "{receipt}");
    first.settle();
    first.stop();
    assert_eq!(first.sql("SELECT count(*) FROM raw"), [["2"]]);
}

async fn append(engine: &Engine, sequence: u64, event_time: i64) -> u64 {
    let number = Arc::new(Int64Array::from(vec![sequence as i64])) as ArrayRef;
    let time = Arc::new(TimestampNanosecondArray::from(vec![event_time])) as ArrayRef;
    let batch = RecordBatch::try_new(engine.table("clicks").unwrap().schema, vec![number, time]).unwrap();
    let at = Some(ProducerSequence { epoch: 1, sequence });
    let (table, producer) = ("clicks".to_string(), "p".to_string());
    engine.append(Append { table, producer, sequence: at, batch, rejected: Vec::new() }).await.unwrap().accepted
}

/// An hour and 400 days, forwards and backwards, with restarts between: watermarks never go back, no row is lost or comes
/// twice, windows are of event time.
#[test]
fn a_clock_that_jumps_changes_no_row() {
    const SQL: &str = "
        CREATE TABLE clicks (i BIGINT, t TIMESTAMP, WATERMARK FOR t AS t) WITH (connector = 'ingest', future_skew = INTERVAL '2000 days');
        INSERT INTO raw SELECT * FROM clicks;
        INSERT INTO windows SELECT n FROM (SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS n FROM clicks GROUP BY 1);";
    let dir = tempfile::tempdir().unwrap();
    let start = START_MS * 1_000_000;
    let clock = ManualClock::at(start);
    let hour = 3_600 * SECOND;
    let jumps = [0, hour, -hour, 400 * DAY, -400 * DAY, 1_000 * DAY, 0];
    let mut i = 0;
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut watermark = i64::MIN;
        for jump in jumps {
            clock.set(start + jump);
            let options = Options {
                clock: Arc::new(clock.clone()),
                checkpoint_interval: Duration::from_millis(50),
                ..Options::new(dir.path())
            };
            let engine = Engine::open(options).await.unwrap();
            engine.execute(SQL, "clock.sql").await.unwrap();
            engine.start().await.unwrap();
            for n in 0..20 {
                // The clock also moves while rows come in.
                clock.set(start + jump + if n % 2 == 0 { hour } else { -hour });
                i += 1;
                assert_eq!(append(&engine, i, start + i as i64 * SECOND).await, 1);
            }
            engine.flush().await.unwrap();
            let now = engine.status().pipelines.iter().map(|p| p.watermark).min().unwrap();
            assert!(now >= watermark, "the watermark went back from {watermark} to {now} after a jump of {jump}");
            watermark = now;
            let sql = "SELECT count(*), count(DISTINCT i), (SELECT sum(n) FROM windows) FROM raw";
            let answer = engine.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
            let value = |c: usize| answer.batches[0].column(c).as_primitive::<Int64Type>().value(0);
            let closed = (i as i64 / 10) * 10 - 1;
            assert_eq!((value(0), value(1), value(2)), (i as i64, i as i64, closed), "after a jump of {jump}");
            engine.close().await.unwrap();
        }
    });
}

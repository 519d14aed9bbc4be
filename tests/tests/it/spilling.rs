//! State that does not fit into its memory goes to disk: the rows are those of DuckDB, the memory is as it was told, and a kill
//! in the middle changes nothing.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use millstream_tests::program::{binary, wait_for};
use millstream_tests::python::python;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// Of state, in memory.
const BUDGET: u64 = 64 << 20;

/// What a run takes beside its state: batches on their way, and rows for the table that wait for their file.
const BESIDE: u64 = 160 << 20;

const ROWS_A_BATCH: i64 = 65_536;

/// `MILLSTREAM_KEYS` says how many; in ten million there are more than a gigabyte of state.
fn keys() -> i64 {
    std::env::var("MILLSTREAM_KEYS").map_or(2_000_000, |text| text.parse().expect("a number of keys"))
}

/// Each key comes twice, far apart, all within an hour; then there is an hour with one row.
fn write_rows(path: &Path, keys: i64) {
    let batch = |from: i64, to: i64| {
        let k: ArrayRef = Arc::new(Int64Array::from_iter_values((from..to).map(|i| i * 7_919 % keys)));
        let v: ArrayRef = Arc::new(Int64Array::from_iter_values((from..to).map(|i| i % 1_000)));
        let time =
            |i: i64| 1_704_067_200_000_000 + if i == 2 * keys { 7_200_000_000 } else { i * 3_599_000_000 / (2 * keys) };
        let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values((from..to).map(time)));
        RecordBatch::try_from_iter([("ts", ts), ("k", k), ("v", v)]).unwrap()
    };
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROWS_A_BATCH as usize)).build();
    let first = batch(0, 1);
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), first.schema(), Some(properties)).unwrap();
    let mut from = 0;
    while from <= 2 * keys {
        let to = (from + ROWS_A_BATCH).min(2 * keys + 1);
        writer.write(&batch(from, to)).unwrap();
        from = to;
    }
    writer.close().unwrap();
}

const SOURCE: &str = "CREATE TABLE t (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts)
  WITH (connector = 'single_file', path = 't.parquet', format = 'parquet', type = 'source');\n";

/// `millstream run` that is watched.
struct Run {
    child: Child,
    memory_peak: u64,
}

impl Run {
    fn start(dir: &Path, sql: &str, bytes_max: u64) -> Self {
        std::fs::write(dir.join("run.sql"), format!("{SOURCE}{sql}")).unwrap();
        let stderr = File::create(dir.join("stderr.log")).unwrap();
        let bytes_max = bytes_max.to_string();
        let mut command = Command::new(binary());
        command.args(["run", "-p", "2", "--state-dir", "state", "--checkpoint-interval", "100ms"]);
        command.args(["--state-bytes-max", &bytes_max, "run.sql"]);
        let child = command.current_dir(dir).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Self { child, memory_peak: 0 }
    }

    fn look(&mut self) -> Option<bool> {
        let ended = self.child.try_wait().unwrap().map(|status| status.success());
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        self.memory_peak = self.memory_peak.max(kilobytes << 10);
        ended
    }

    /// The most memory that it ever had.
    fn end(mut self, dir: &Path) -> u64 {
        let ended = loop {
            match self.look() {
                Some(ended) => break ended,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        assert!(ended, "{}", std::fs::read_to_string(dir.join("stderr.log")).unwrap());
        self.memory_peak
    }

    /// Kills it once a checkpoint names spilled state.
    fn kill_when_spilled(mut self, dir: &Path) -> u64 {
        let manifests = dir.join("state/checkpoints");
        wait_for("a checkpoint with spilled state", || {
            assert_eq!(self.look(), None, "{}", std::fs::read_to_string(dir.join("stderr.log")).unwrap());
            let files = std::fs::read_dir(&manifests).ok()?.map_while(Result::ok);
            let mut texts = files.filter_map(|f| std::fs::read_to_string(f.path()).ok());
            texts.any(|text| text.contains("\"spilled\":true")).then_some(())
        });
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.memory_peak
    }
}

const SAME: &str = "
import sys, duckdb, deltalake
table, rows, expected = sys.argv[1:4]
duckdb.sql('SET enable_progress_bar = false')
files = deltalake.DeltaTable(table).file_uris()
duckdb.sql(f\"CREATE VIEW t AS SELECT * FROM read_parquet('{rows}')\")
duckdb.sql(f\"CREATE TABLE expected AS {expected}\")
names = ', '.join(duckdb.sql('SELECT * FROM expected LIMIT 0').columns)
duckdb.sql(f\"CREATE TABLE ours AS SELECT {names} FROM read_parquet({files})\")
print(duckdb.sql('SELECT count(*) FROM ours').fetchone()[0],
      duckdb.sql('SELECT count(*) FROM expected').fetchone()[0],
      duckdb.sql('SELECT count(*) FROM ((SELECT * FROM ours EXCEPT ALL SELECT * FROM expected) UNION ALL (SELECT * FROM expected EXCEPT ALL SELECT * FROM ours))').fetchone()[0])
";

/// The rows of the table `o`, and that they are those of DuckDB.
fn rows_as_duckdb_has_them(dir: &Path, expected: &str) -> u64 {
    let path = |name: &str| dir.join(name).display().to_string();
    let printed = python(SAME, &[&path("state/lake/o"), &path("t.parquet"), expected]);
    let numbers: Vec<u64> = printed.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [ours, theirs, different] = numbers[..] else { panic!("{printed}") };
    assert_eq!((ours, different), (theirs, 0), "{printed}");
    ours
}

/// Runs it once undisturbed and once with a kill; gives the most memory that either ever had.
fn runs(name: &str, sql: &str, expected: &str, keys: i64, budget: u64) -> u64 {
    let mut peak = 0;
    for killed in [false, true] {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        write_rows(&dir.join("t.parquet"), keys);
        if killed {
            peak = peak.max(Run::start(dir, sql, budget).kill_when_spilled(dir));
        }
        let started = std::time::Instant::now();
        peak = peak.max(Run::start(dir, sql, budget).end(dir));
        let took = started.elapsed().as_secs_f64();
        let rows = rows_as_duckdb_has_them(dir, expected);
        assert!(!has_spilled_files(dir), "closed windows leave nothing");
        println!("{name}: {rows} rows as DuckDB has them, killed: {killed}, {took:.1} s, {} MiB at most", peak >> 20);
    }
    peak
}

fn has_spilled_files(dir: &Path) -> bool {
    let manifests = std::fs::read_dir(dir.join("state/checkpoints")).unwrap().map_while(Result::ok);
    let newest = manifests.map(|f| f.path()).max().unwrap();
    std::fs::read_to_string(newest).unwrap().contains("\"spilled\":true")
}

#[test]
fn windows_that_do_not_fit_into_memory_go_to_disk_and_are_exact() {
    let keys = keys();
    let windows = "INSERT INTO o SELECT k, n, s FROM
      (SELECT tumble(INTERVAL '1 hour') AS w, k, count(*) AS n, sum(v) AS s FROM t GROUP BY 1, 2);";
    let small = {
        let dir = tempfile::tempdir().unwrap();
        write_rows(&dir.path().join("t.parquet"), 1_000);
        Run::start(dir.path(), windows, BUDGET).end(dir.path())
    };
    let expected = "SELECT k, count(*) AS n, sum(v)::BIGINT AS s FROM t GROUP BY date_trunc('hour', ts), k";
    let peak = runs("tumbling", windows, expected, keys, BUDGET);
    let most = small + BUDGET + BUDGET / 7 + BESIDE;
    println!(
        "{} keys, {} MiB for state, {} MiB at most, {} MiB with a thousand keys",
        keys,
        BUDGET >> 20,
        peak >> 20,
        small >> 20
    );
    assert!(peak <= most, "{} MiB are more than {} MiB", peak >> 20, most >> 20);
}

/// Hopping windows joined with such of which one key has nine rows of ten.
#[test]
fn joins_of_windows_go_to_disk_with_them() {
    let sql = "INSERT INTO o SELECT a.k AS k, a.n AS n, b.m AS m FROM
      (SELECT hop(INTERVAL '15 minutes', INTERVAL '30 minutes') AS w, k, count(*) AS n FROM t GROUP BY 1, 2) a JOIN
      (SELECT hop(INTERVAL '15 minutes', INTERVAL '30 minutes') AS w, CASE WHEN k % 10 = 0 THEN k ELSE 0 END AS k,
              count(DISTINCT v) AS m FROM t GROUP BY 1, 2) b ON a.w = b.w AND a.k = b.k;";
    let windows = "SELECT *, CASE WHEN k % 10 = 0 THEN k ELSE 0 END AS skewed,
      unnest([time_bucket(INTERVAL '15 minutes', ts), time_bucket(INTERVAL '15 minutes', ts) - INTERVAL '15 minutes']) AS w FROM t";
    let expected = format!(
        "SELECT a.k AS k, n, m FROM (SELECT w, k, count(*) AS n FROM ({windows}) GROUP BY 1, 2) a
         JOIN (SELECT w, skewed, count(DISTINCT v) AS m FROM ({windows}) GROUP BY 1, 2) b ON a.w = b.w AND a.k = b.skewed"
    );
    runs("hopping, joined", sql, &expected, keys() / 8, 4 << 20);
}

//! `millstream run` into files, killed and started again: JSON, gzip, CSV, Parquet and Avro must hold what an undisturbed run writes.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::read::MultiGzDecoder;
use millstream_tests::program::{binary, millstream, wait_for};
use millstream_tests::python::python;
use millstream_tests::random::{Random, hash, seeds};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const ROWS: u64 = 60_000;
const KILLS: u64 = 6;

const SQL: &str = "\
CREATE TABLE events (i BIGINT, name TEXT, amount BIGINT, event_time TIMESTAMP,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 second')
WITH (connector = 'single_file', format = 'json', path = 'events.json', rate_limit = $rate);
CREATE TABLE copies (i BIGINT, name TEXT, event_time TIMESTAMP)
WITH (connector = 'single_file', format = 'json', path = 'copies.json');
CREATE TABLE windows (window_start TIMESTAMP, name TEXT, n BIGINT, total BIGINT)
WITH (connector = 'single_file', format = 'csv', path = 'windows.csv');
CREATE TABLE sessions (name TEXT, first_event TIMESTAMP, last_event TIMESTAMP, n BIGINT)
WITH (connector = 'single_file', format = 'parquet', path = 'sessions.parquet');
CREATE TABLE packed WITH (connector = 'single_file', format = 'json', path = 'packed.json.gz');
CREATE TABLE totals WITH (connector = 'single_file', format = 'avro', path = 'totals.avro');
INSERT INTO packed SELECT i, name FROM events;
INSERT INTO totals SELECT name, count(*) AS n, max(i) AS last FROM events GROUP BY tumble(INTERVAL '7 seconds'), name;
INSERT INTO copies SELECT i, name, event_time FROM events;
INSERT INTO windows SELECT w['start'], name, n, total FROM (
  SELECT tumble(INTERVAL '10 seconds') AS w, name, count(*) AS n, sum(amount) AS total FROM events GROUP BY 1, name);
INSERT INTO sessions SELECT name, min(event_time), max(event_time), count(*) FROM events
  GROUP BY session(INTERVAL '3 seconds'), name;
";

fn write_input(dir: &Path, seed: u64) {
    let row = |i: u64| {
        let h = hash(&[seed, i]);
        let time_ms = 1_704_067_200_000 + i * 7 + h % 900;
        let (name, amount) = ((i / 500) % 9, (h >> 20) % 1_000);
        format!("{{\"i\":{i},\"name\":\"name, \\\"{name}\\\"\",\"amount\":{amount},\"event_time\":{time_ms}}}\n")
    };
    std::fs::write(dir.join("events.json"), (0..ROWS).map(row).collect::<String>()).unwrap();
}

fn newest_checkpoint(dir: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(dir.join("state/checkpoints")) else { return 0 };
    let number = |name: &str| name.strip_suffix(".json").and_then(|n| n.parse().ok());
    files.flatten().filter_map(|f| number(&f.file_name().to_string_lossy())).max().unwrap_or(0)
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    lines.sort();
    lines
}

fn parquet_rows(path: &Path) -> Vec<String> {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut csv = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(false).build(&mut csv);
    for batch in reader {
        writer.write(&batch.unwrap()).unwrap();
    }
    drop(writer);
    let mut rows: Vec<String> = String::from_utf8(csv).unwrap().lines().map(str::to_string).collect();
    rows.sort();
    rows
}

fn gzip_lines(path: &Path) -> Vec<String> {
    let mut text = String::new();
    MultiGzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    lines.sort();
    lines
}

fn avro_rows(path: &Path) -> Vec<String> {
    let script = "import fastavro, sys\nfor row in fastavro.reader(open(sys.argv[1], 'rb')): print(row)";
    let mut rows: Vec<String> = python(script, &[&path.display().to_string()]).lines().map(str::to_string).collect();
    rows.sort();
    rows
}

fn outputs(dir: &Path) -> [(&'static str, Vec<String>); 5] {
    [
        ("copies.json", lines(&dir.join("copies.json"))),
        ("windows.csv", lines(&dir.join("windows.csv"))),
        ("packed.json.gz", gzip_lines(&dir.join("packed.json.gz"))),
        ("totals.avro", avro_rows(&dir.join("totals.avro"))),
        ("sessions.parquet", parquet_rows(&dir.join("sessions.parquet"))),
    ]
}

fn prepare(seed: u64, rate: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_input(dir.path(), seed);
    std::fs::write(dir.path().join("p.sql"), SQL.replace("$rate", rate)).unwrap();
    dir
}

/// Runs to the end with kills in between; gives their number.
fn run_with_kills(dir: &Path, random: &mut Random) -> u64 {
    let mut kills = 0;
    loop {
        let args = ["run", "-p", "2", "--state-dir", "state", "--checkpoint-interval", "100ms", "p.sql"];
        let log = File::create(dir.join("stderr.log")).unwrap();
        let mut child =
            Command::new(binary()).args(args).current_dir(dir).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let target = if kills < KILLS { newest_checkpoint(dir) + 1 + random.below(4) } else { u64::MAX };
        let ended = wait_for("a checkpoint or the end", || match child.try_wait().unwrap() {
            Some(status) => Some(Some(status)),
            None => (newest_checkpoint(dir) >= target).then_some(None),
        });
        if let Some(status) = ended {
            assert!(status.success(), "{}", std::fs::read_to_string(dir.join("stderr.log")).unwrap());
            return kills;
        }
        child.kill().and_then(|()| child.wait()).unwrap();
        kills += 1;
    }
}

#[test]
fn files_are_whole_after_kills() {
    for seed in seeds(2) {
        eprintln!("MILLSTREAM_SEED={seed}");
        let undisturbed = prepare(seed, "1000000000");
        let output = millstream(&["run", "p.sql"], undisturbed.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let disturbed = prepare(seed, "15000");
        let kills = run_with_kills(disturbed.path(), &mut Random(seed));
        assert!(kills >= KILLS / 2, "only {kills} kills before the end");
        let expected = outputs(undisturbed.path());
        assert_eq!(expected[0].1.len(), ROWS as usize);
        for ((name, expected), (_, found)) in expected.iter().zip(outputs(disturbed.path())) {
            let differs = expected.iter().zip(&found).find(|(a, b)| a != b);
            assert_eq!(expected.len(), found.len(), "{name}, MILLSTREAM_SEED={seed}: first difference {differs:?}");
            assert_eq!(differs, None, "{name}, MILLSTREAM_SEED={seed}");
        }
        let left: Vec<_> = std::fs::read_dir(disturbed.path()).unwrap().flatten().map(|f| f.file_name()).collect();
        assert!(!left.iter().any(|f| f.to_string_lossy().contains(".part-")), "parts are removed: {left:?}");
        eprintln!("kills: {kills}, lost 0, doubled 0");
    }
}

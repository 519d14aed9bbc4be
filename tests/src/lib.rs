//! What the end-to-end tests share: the real data and its answers, comparing tables as people read them, the program
//! as a process, Python as an independent reader.

pub mod postgres;
pub mod program;
pub mod proxy;
pub mod python;
pub mod queries;
pub mod random;
pub mod script;
pub mod sim;
pub mod sources;
pub mod streams;

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::engine::{RunOptions, RunSummary, run_file};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in a folder of the checkout").to_path_buf()
}

/// The folder of real data beside the checkout; `None` in a user's clone, and the test says so.
pub fn data() -> Option<PathBuf> {
    let dir = root().join("../shared/data");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("left out: {} is not there", dir.display());
    None
}

/// Opens a data directory that this process had open before. Another test's process inherits the lock between its fork and
/// its exec, so for a moment it seems to be held still.
pub async fn reopened<T>(open: impl AsyncFn() -> millstream::Result<T>) -> millstream::Result<T> {
    for _ in 0..100 {
        match open().await {
            Err(e) if e.to_string().contains("in use by another process") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => return opened,
        }
    }
    open().await
}

/// A table as text, one vector a row.
pub type Table = Vec<Vec<String>>;

/// Reads a CSV file: header and rows.
pub fn read_csv(path: &Path) -> (Vec<String>, Table) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = parse_csv(&text).into_iter();
    (lines.next().unwrap_or_default(), lines.collect())
}

/// The records of CSV text, the header among them.
pub fn parse_csv(text: &str) -> Table {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

/// A value in one spelling: timestamps with a blank and without trailing zeros, integers without `.0`.
fn normal(value: &str) -> String {
    let is_time =
        value.len() >= 19 && value.as_bytes().get(4) == Some(&b'-') && value.as_bytes().get(13) == Some(&b':');
    if is_time {
        let v = value.replace('T', " ");
        let v = v.trim_end_matches('Z').trim_end_matches("+00:00");
        return if v.contains('.') { v.trim_end_matches('0').trim_end_matches('.').to_string() } else { v.to_string() };
    }
    value.to_string()
}

fn equal(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0),
        _ => false,
    }
}

/// Asserts that two tables hold the same rows in any order; floats to one part in a million.
pub fn assert_same_rows(what: &str, ours: Table, theirs: Table) {
    let sorted = |t: Table| {
        let mut t: Table = t.into_iter().map(|r| r.iter().map(|v| normal(v)).collect()).collect();
        t.sort();
        t
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b));
        assert!(same, "{what}: row {i} differs: ours {a:?}, theirs {b:?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: number of rows");
}

/// Runs SQL with `$dir` replaced by a fresh directory and `$data` by the real data.
pub fn run(sql: &str, dir: &Path, options: &RunOptions) -> millstream::Result<RunSummary> {
    let data = root().join("../shared/data");
    let sql = sql.replace("$dir", &dir.display().to_string()).replace("$data", &data.display().to_string());
    run_file(&sql, "test.sql", options)
}

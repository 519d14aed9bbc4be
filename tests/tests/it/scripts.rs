//! Every script of `tests/pipelines`, run in every way that must not matter.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_tests::script::read::Script;
use millstream_tests::script::{check, check_file};
use millstream_tests::sources::files;

/// The scripts, or those whose names contain `MILLSTREAM_SCRIPT`.
fn scripts() -> Vec<PathBuf> {
    let wanted = std::env::var("MILLSTREAM_SCRIPT").unwrap_or_default();
    let mut all = files(&["tests/pipelines"], "test");
    all.retain(|path| path.file_name().is_some_and(|n| n.to_string_lossy().contains(&wanted)));
    assert!(!all.is_empty(), "no script has '{wanted}' in its name");
    all
}

#[test]
fn scripts_give_their_rows_in_every_way() {
    let complete = std::env::var_os("MILLSTREAM_COMPLETE").is_some();
    let (scripts, next, problems) = (scripts(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        // A run waits for its own threads most of the time.
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(path) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = check_file(path, complete);
                    problems.lock().unwrap().extend(found);
                }
            });
        }
    });
    let mut problems = problems.into_inner().unwrap();
    problems.sort();
    let advice = "`make complete` rewrites what is expected; MILLSTREAM_SCRIPT=name runs some scripts";
    assert!(problems.is_empty(), "\n{}\n\n{advice}", problems.join("\n\n"));
}

const COUNTS: &str = "\
# Counts rows.
CREATE TABLE t (ts TIMESTAMP, k TEXT, WATERMARK FOR ts) WITH (connector = 'ingest');
INSERT INTO o SELECT k, count(*) AS n FROM t GROUP BY tumble(INTERVAL '10 seconds'), k;
>> t
ts        k
00:00:01  a
00:00:02  a
00:00:03  b
<< o
k  n
a  2
b  1
";

fn problems(text: &str) -> String {
    check(&Script::read("x.test", text).unwrap()).join("\n")
}

#[test]
fn a_wrong_row_is_found() {
    assert_eq!(problems(COUNTS), "");
    let wrong = "x.test, one row a batch, 1 workers: line 9: o does not hold what is expected
    expected | actual
    k  n     | k  n
  ! a  1     |
  !          | a  2
    b  1     | b  1";
    assert_eq!(problems(&COUNTS.replace("a  2\nb", "a  1\nb")), wrong);
    let missing = problems(&COUNTS.replace("b  1\n", ""));
    assert!(missing.contains("  !          | b  1"), "{missing}");
    let doubled = problems(&COUNTS.replace("b  1\n", "b  1\nb  1\n"));
    assert!(doubled.contains("  ! b  1     |"), "{doubled}");
}

//! Which rows are late, and what that does to windows and sessions: random streams with delays too small for their
//! disorder, against a model that handles one row after the other.

use std::collections::BTreeMap;

use millstream::engine::RunOptions;
use millstream_tests::random::{Random, seeds};
use millstream_tests::streams::{Row, source, stream, write};
use millstream_tests::{Table, read_csv, run};

const SEEDS: u64 = 40;
const SECOND_MS: i64 = 1_000;

/// What a query over windows gives: its rows, and the ids of late rows, both sorted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    rows: Vec<Vec<i64>>,
    late: Vec<i64>,
}

/// The watermark before each row: the greatest time before it, less the delay.
fn watermarks(rows: &[Row], delay_ms: i64) -> Vec<i64> {
    let mut watermark = i64::MIN;
    let before = |r: &Row| {
        let before = watermark;
        watermark = watermark.max(r.time_ms - delay_ms);
        before
    };
    rows.iter().map(before).collect()
}

/// `start, n, sum of ids` of hopping windows; a row is late once for every window that has closed before it.
fn hop(rows: &[Row], delay_ms: i64, slide_ms: i64, width_ms: i64) -> Answer {
    let (mut windows, mut late) = (BTreeMap::<i64, (i64, i64)>::new(), Vec::new());
    for (row, watermark) in rows.iter().zip(watermarks(rows, delay_ms)) {
        let mut start = row.time_ms.div_euclid(slide_ms) * slide_ms;
        while start + width_ms > row.time_ms {
            if start + width_ms <= watermark {
                late.push(row.id);
            } else {
                let (n, ids) = windows.entry(start).or_default();
                (*n, *ids) = (*n + 1, *ids + row.id);
            }
            start -= slide_ms;
        }
    }
    late.sort_unstable();
    Answer { rows: windows.into_iter().map(|(start, (n, ids))| vec![start, n, ids]).collect(), late }
}

#[derive(Clone, Copy)]
struct Session {
    first: i64,
    last: i64,
    n: i64,
    ids: i64,
}

/// `first, last, n, sum of ids` of sessions per key; a row that touches no open session and whose own would have closed
/// already is late.
fn sessions(rows: &[Row], delay_ms: i64, gap_ms: i64) -> Answer {
    let (mut open, mut late) = (BTreeMap::<Option<String>, Vec<Session>>::new(), Vec::new());
    for (row, watermark) in rows.iter().zip(watermarks(rows, delay_ms)) {
        let all = open.entry(row.key.clone()).or_default();
        let touches = |s: &Session| {
            row.time_ms < s.last + gap_ms && s.first < row.time_ms + gap_ms && s.last + gap_ms > watermark
        };
        let touched: Vec<Session> = all.iter().copied().filter(touches).collect();
        if touched.is_empty() && row.time_ms + gap_ms <= watermark {
            late.push(row.id);
            continue;
        }
        all.retain(|s| !touches(s));
        let own = Session { first: row.time_ms, last: row.time_ms, n: 1, ids: row.id };
        all.push(touched.into_iter().fold(own, |a, b| Session {
            first: a.first.min(b.first),
            last: a.last.max(b.last),
            n: a.n + b.n,
            ids: a.ids + b.ids,
        }));
    }
    let mut rows: Vec<Vec<i64>> = open.values().flatten().map(|s| vec![s.first, s.last, s.n, s.ids]).collect();
    rows.sort_unstable();
    late.sort_unstable();
    Answer { rows, late }
}

fn numbers(rows: Table) -> Vec<Vec<i64>> {
    let mut rows: Vec<Vec<i64>> = rows.iter().map(|r| r.iter().map(|v| v.parse().unwrap()).collect()).collect();
    rows.sort_unstable();
    rows
}

const MS: &str = "AS BIGINT) / 1000000";

#[test]
fn late_rows_are_those_of_the_model() {
    let mut late_rows = 0;
    for seed in seeds(SEEDS) {
        let mut random = Random(seed);
        let dir = tempfile::tempdir().unwrap();
        let format = ["json", "csv", "parquet"][seed as usize % 3];
        let (n, disorder_ms) = (1 + random.below(1_500), random.below(60_000));
        let rows = stream(&mut random, n, disorder_ms);
        write(dir.path(), "t", format, &rows);
        let delay_s = random.below(20) as i64;
        let (slide_s, width_s) = [(10, 10), (5, 20), (7, 20), (1, 3)][random.below(4) as usize];
        let gap_s = 1 + random.below(10) as i64;
        let mut sql = source("t", "t", format, &format!("{delay_s} seconds"));
        for name in ["windows", "windows__late", "sessions", "sessions__late"] {
            sql += &format!(
                "CREATE TABLE {name} WITH (connector = 'single_file', format = 'csv', path = '$dir/{name}.csv');\n"
            );
        }
        sql += &format!(
            "INSERT INTO windows SELECT CAST(w['start'] {MS}, n, ids FROM (SELECT
               hop(INTERVAL '{slide_s} seconds', INTERVAL '{width_s} seconds') AS w, count(*) AS n, sum(id) AS ids FROM t GROUP BY 1);
             INSERT INTO sessions SELECT CAST(a {MS}, CAST(b {MS}, n, ids FROM (SELECT
               session(INTERVAL '{gap_s} seconds') AS w, k, min(ts) AS a, max(ts) AS b, count(*) AS n, sum(id) AS ids
               FROM t GROUP BY 1, k);"
        );
        let expected = [
            ("windows", hop(&rows, delay_s * SECOND_MS, slide_s * SECOND_MS, width_s * SECOND_MS)),
            ("sessions", sessions(&rows, delay_s * SECOND_MS, gap_s * SECOND_MS)),
        ];
        for workers in [1, 2, 4] {
            let summary = run(&sql, dir.path(), &RunOptions { workers, ..RunOptions::default() }).unwrap();
            for (name, expected) in &expected {
                let what = format!("{name}, {workers} workers, MILLSTREAM_SEED={seed}");
                let found = numbers(read_csv(&dir.path().join(format!("{name}.csv"))).1);
                assert!(found == expected.rows, "{what}: {found:?} but the model has {:?}", expected.rows);
                assert_eq!(late_ids(dir.path(), name), expected.late, "{what}");
            }
            let late: usize = expected.iter().map(|(_, e)| e.late.len()).sum();
            assert_eq!(summary.rows_late, late as u64, "{workers} workers, MILLSTREAM_SEED={seed}");
        }
        late_rows += expected.iter().map(|(_, e)| e.late.len()).sum::<usize>();
    }
    eprintln!("{late_rows} late rows");
    assert!(late_rows > 0 || std::env::var_os("MILLSTREAM_SEED").is_some());
}

fn late_ids(dir: &std::path::Path, name: &str) -> Vec<i64> {
    let path = dir.join(format!("{name}__late.csv"));
    if !path.exists() {
        return Vec::new();
    }
    let (header, rows) = read_csv(&path);
    let id = header.iter().position(|h| h == "id").expect("late rows keep their columns");
    let mut ids: Vec<i64> = rows.iter().map(|r| r[id].parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

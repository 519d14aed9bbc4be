//! Random queries over random streams (disorder, duplicates, nulls, ties) give what DuckDB gives, with one, two and four
//! workers. What changes is added up: rows that came less rows that were taken back. A failure is made as small as it
//! gets and kept as a script in `tests/pipelines`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use millstream::engine::RunOptions;
use millstream_tests::python::python;
use millstream_tests::queries::{Query, query};
use millstream_tests::random::{Random, seeds};
use millstream_tests::streams::{Row, source, stream, write};
use millstream_tests::{Table, assert_same_rows, read_csv, root, run};

const SEEDS: u64 = 100;
const QUERIES_PER_SEED: usize = 4;

/// So many failures are made smaller.
const SHRUNK: usize = 3;

/// Tries at making a failure smaller.
const SHRINKS: usize = 60;

const DUCKDB: &str = r#"
import sys, os, json, duckdb
columns = {"id": "BIGINT", "k": "VARCHAR", "v": "BIGINT", "f": "DOUBLE", "ts": "TIMESTAMP"}
for case in sorted(os.listdir(sys.argv[1])):
    case = os.path.join(sys.argv[1], case)
    c = duckdb.connect(config={"threads": 1})
    c.execute("CREATE MACRO tumble_of(ts, s) AS make_timestamp((epoch_us(ts) // (s * 1000000::BIGINT)) * (s * 1000000::BIGINT))")
    for name in ("t", "t2"):
        c.execute(f"CREATE TABLE {name} AS SELECT id, k, v, f, ts FROM read_parquet('{case}/{name}.parquet')")
    c.execute("CREATE TABLE d AS SELECT DISTINCT * FROM t2")
    for name, query in json.load(open(f"{case}/queries.json")).items():
        try:
            c.execute(f"COPY ({query}) TO '{case}/{name}.expected.csv' (HEADER, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%f')")
        except Exception as e:
            raise SystemExit(f"{case} {query}\n{e}")
"#;

/// Two streams and some queries over them.
struct Case {
    t: Vec<Row>,
    t2: Vec<Row>,
    queries: Vec<Query>,
}

impl Case {
    fn of(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
        let mut rows = || {
            let (rows, disorder_ms) = (1 + random.below(150), random.below(20_000));
            stream(&mut random, rows, disorder_ms)
        };
        let (t, t2) = (rows(), rows());
        Self { t, t2, queries: (0..QUERIES_PER_SEED).map(|_| query(&mut random)).collect() }
    }

    fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        write(dir, "t", "parquet", &self.t);
        write(dir, "t2", "parquet", &self.t2);
        let queries: BTreeMap<String, &str> =
            self.queries.iter().enumerate().map(|(i, q)| (format!("q{i}"), q.duckdb.as_str())).collect();
        std::fs::write(dir.join("queries.json"), serde_json::json!(queries).to_string()).unwrap();
    }

    /// Runs all queries and compares them with what DuckDB has left in `dir`.
    fn compare(&self, dir: &Path, what: &str, workers: usize) {
        let mut sql = source("t", "t", "parquet", "30 days") + &source("t2", "t2", "parquet", "30 days");
        sql.push_str(
            "CREATE TEMPORARY TABLE d (id BIGINT PRIMARY KEY, k TEXT, v BIGINT, f DOUBLE, ts TIMESTAMP) \
             WITH (connector = 'single_file', format = 'parquet', path = '$dir/t2.parquet');\n",
        );
        for (i, q) in self.queries.iter().enumerate() {
            let _ = std::fs::remove_file(dir.join(format!("q{i}.json")));
            let options = format!("connector = 'single_file', format = 'debezium_json', path = '$dir/q{i}.json'");
            // Names in the order of the columns, for JSON objects have none.
            let (header, _) = read_csv(&dir.join(format!("q{i}.expected.csv")));
            let names: Vec<String> = (0..header.len()).map(|n| format!("c{n}")).collect();
            let named = format!("SELECT * FROM ({}) AS q({})", q.ours, names.join(", "));
            let _ = write!(sql, "CREATE TABLE q{i} WITH ({options});\nINSERT INTO q{i} {named}{};\n", q.emit);
        }
        let what = format!("{what}, {workers} workers");
        let summary = run(&sql, dir, &RunOptions { workers, ..RunOptions::default() })
            .unwrap_or_else(|e| panic!("{what}: {e}\n{sql}"));
        assert_eq!((summary.rows_late, summary.rows_rejected), (0, 0), "{what}");
        for (i, q) in self.queries.iter().enumerate() {
            let (header, theirs) = read_csv(&dir.join(format!("q{i}.expected.csv")));
            assert_same_rows(
                &format!("{what}, {}", q.ours),
                net(&dir.join(format!("q{i}.json")), header.len()),
                theirs,
            );
        }
    }
}

/// What a file of changes of rows with so many columns adds up to. Null columns are left out of its objects.
fn net(path: &Path, columns: usize) -> Table {
    let text = std::fs::read_to_string(path).unwrap();
    let mut counts: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for line in text.lines() {
        let change: serde_json::Value = serde_json::from_str(line).unwrap();
        for (side, sign) in [("before", -1), ("after", 1)] {
            if let Some(row) = change[side].as_object() {
                let cells = (0..columns).map(|n| row.get(&format!("c{n}")).map(cell).unwrap_or_default());
                *counts.entry(cells.collect()).or_default() += sign;
            }
        }
    }
    let gone: Vec<_> = counts.iter().filter(|(_, n)| **n < 0).collect();
    assert!(gone.is_empty(), "{}: taken back more often than it came: {gone:?}", path.display());
    counts.into_iter().flat_map(|(row, n)| vec![row; n as usize]).collect()
}

fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Why one query over some rows gives something else than DuckDB, if it does.
fn failure(case: &Case) -> Option<String> {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("case");
    case.write(&dir);
    python(DUCKDB, &[&root.path().display().to_string()]);
    let failed = |workers| catch_unwind(AssertUnwindSafe(|| case.compare(&dir, "smaller", workers))).err();
    let why = failed(1).or_else(|| failed(2))?;
    Some(why.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// The failing query of a case with as few rows as a bounded search finds, as a script.
fn smaller(case: &Case, seed: u64) -> String {
    let alone = |q: &Query| Case { t: case.t.clone(), t2: case.t2.clone(), queries: vec![q.clone()] };
    let Some(mut small) = case.queries.iter().map(alone).find(|c| failure(c).is_some()) else {
        return "the failure does not come again with one query alone".into();
    };
    let mut tries = 0;
    for second in [false, true] {
        let mut piece = if second { small.t2.len() } else { small.t.len() }.div_ceil(2);
        while piece > 0 && tries < SHRINKS {
            let mut from = 0;
            while from < if second { small.t2.len() } else { small.t.len() } && tries < SHRINKS {
                let mut fewer = Case { t: small.t.clone(), t2: small.t2.clone(), queries: small.queries.clone() };
                let rows = if second { &mut fewer.t2 } else { &mut fewer.t };
                rows.drain(from..(from + piece).min(rows.len()));
                tries += 1;
                match failure(&fewer) {
                    Some(_) => small = fewer,
                    None => from += piece,
                }
            }
            piece /= 2;
        }
    }
    let path = root().join(format!("tests/pipelines/found_{seed}.test"));
    std::fs::write(&path, script(&small, seed)).unwrap();
    format!("{}\nkept as {}", failure(&small).unwrap_or_default(), path.display())
}

fn script(case: &Case, seed: u64) -> String {
    let mut text = format!("# Found by the random query of seed {seed}: write here what it shows.\n");
    for name in ["t", "t2"] {
        let _ = writeln!(
            text,
            "CREATE TABLE {name} (id BIGINT, k TEXT, v BIGINT, f DOUBLE, ts TIMESTAMP,\n  \
             WATERMARK FOR ts AS ts - INTERVAL '30 days') WITH (connector = 'ingest');"
        );
    }
    let looks_up = case.queries.iter().any(|q| q.ours.contains(" d "));
    if looks_up {
        let _ = writeln!(
            text,
            "CREATE TEMPORARY TABLE d (id BIGINT PRIMARY KEY, k TEXT, v BIGINT, f DOUBLE, ts TIMESTAMP)\n  \
             WITH (connector = 'single_file', format = 'json', path = '$dir/d.json');"
        );
    }
    let _ = writeln!(text, "CREATE TABLE q WITH (connector = 'lake', format = 'debezium_json');");
    for q in &case.queries {
        let _ = writeln!(text, "INSERT INTO q {}{};", q.ours, q.emit);
    }
    let shown = |v: Option<String>| v.unwrap_or_else(|| "null".into());
    for (name, rows) in [("t", &case.t), ("t2", &case.t2)] {
        let _ = writeln!(text, "\n>> {name}\nid k v f ts");
        for r in rows {
            let (v, f) = (shown(r.value.map(|v| v.to_string())), shown(r.float.map(|f| f.to_string())));
            let _ = writeln!(text, "{} {} {v} {f} {}", r.id, shown(r.key.clone()), r.time_text());
        }
    }
    let _ = writeln!(text, "\n<< q");
    if looks_up {
        let _ = writeln!(text, "\n== file d.json");
        for r in &case.t2 {
            let row = serde_json::json!({"id": r.id, "k": r.key, "v": r.value, "f": r.float, "ts": r.time_text()});
            let _ = writeln!(text, "{row}");
        }
    }
    text
}

#[test]
fn random_queries_give_what_duckdb_gives() {
    let root = tempfile::tempdir().unwrap();
    let cases: Vec<(u64, Case)> = seeds(SEEDS).into_iter().map(|seed| (seed, Case::of(seed))).collect();
    for (seed, case) in &cases {
        case.write(&root.path().join(format!("{seed:05}")));
    }
    python(DUCKDB, &[&root.path().display().to_string()]);
    let mut failed: Vec<(u64, String)> = Vec::new();
    for (seed, case) in &cases {
        let dir = root.path().join(format!("{seed:05}"));
        let what = format!("MILLSTREAM_SEED={seed}");
        let all = || [1, 2, 4].into_iter().for_each(|workers| case.compare(&dir, &what, workers));
        if let Err(why) = catch_unwind(AssertUnwindSafe(all)) {
            let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
            let small = if failed.len() < SHRUNK { smaller(case, *seed) } else { String::new() };
            failed.push((*seed, format!("{why}\n{small}")));
        }
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    let told: Vec<&str> = failed.iter().map(|(_, why)| why.as_str()).collect();
    assert!(failed.is_empty(), "{} of {} seeds fail: {seeds:?}\n{}", failed.len(), cases.len(), told.join("\n\n"));
}

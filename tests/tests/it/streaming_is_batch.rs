//! Streaming SQL gives what a batch database gives for the same rows: random streams (disorder, duplicates, nulls, ties),
//! in every file format, with one, two and four workers, against DuckDB.

use std::path::Path;

use millstream::engine::RunOptions;
use millstream_tests::python::python;
use millstream_tests::random::{Random, seeds};
use millstream_tests::streams::{source, stream, write};
use millstream_tests::{assert_same_rows, read_csv, run};

const SEEDS: u64 = 60;
const QUERIES_PER_SEED: usize = 4;
const FORMATS: [&str; 3] = ["json", "csv", "parquet"];

/// A query in our SQL and in DuckDB's, over `t` and `t2`. DuckDB has the macros `tumble_of(ts, seconds)` and the views
/// `hop_10_60`, `hop_7_20` (with `w`) and `sessions` (with `w`, the number of the session of a key).
struct Query {
    ours: &'static str,
    duckdb: &'static str,
}

const QUERIES: [Query; 13] = [
    Query {
        ours: "SELECT w['start'], k, n, a, b, c, d FROM (
                 SELECT tumble(INTERVAL '10 seconds') AS w, k, count(*) AS n, sum(v) AS a, min(v) AS b, max(f) AS c,
                        count(DISTINCT v) AS d FROM t GROUP BY 1, k)",
        duckdb: "SELECT tumble_of(ts, 10) AS w, k, count(*), sum(v), min(v), max(f), count(DISTINCT v) FROM t GROUP BY w, k",
    },
    Query {
        ours:
            "SELECT w['start'], w['end'], n, a, s FROM (
                 SELECT tumble(INTERVAL '1 minute') AS w, count(v) AS n, avg(f) AS a, stddev(f) AS s FROM t GROUP BY 1)",
        duckdb: "SELECT tumble_of(ts, 60) AS w, w + INTERVAL 1 minute, count(v), avg(f), stddev(f) FROM t GROUP BY w",
    },
    Query {
        ours: "SELECT w['start'], k, n, a FROM (SELECT hop(INTERVAL '10 seconds', INTERVAL '1 minute') AS w, k,
                 count(*) AS n, sum(f) AS a FROM t GROUP BY 1, k)",
        duckdb: "SELECT w, k, count(*), sum(f) FROM hop_10_60 GROUP BY w, k",
    },
    Query {
        ours: "SELECT w['start'], w['end'], n, a, b FROM (SELECT hop(INTERVAL '7 seconds', INTERVAL '20 seconds') AS w,
                 count(*) AS n, min(f) AS a, count(DISTINCT k) AS b FROM t GROUP BY 1)",
        duckdb: "SELECT w, w + INTERVAL 20 second, count(*), min(f), count(DISTINCT k) FROM hop_7_20 GROUP BY w",
    },
    Query {
        ours: "SELECT w['start'], k, n, a FROM (SELECT hop(INTERVAL '7 seconds', INTERVAL '20 seconds') AS w, k,
                 count(*) AS n, percentile_disc(v, 0.9) AS a FROM t GROUP BY 1, k)",
        duckdb: "SELECT w, k, count(*), quantile_disc(v, 0.9) FROM hop_7_20 GROUP BY w, k",
    },
    Query {
        ours: "SELECT a, k, b, n, s FROM (SELECT session(INTERVAL '5 seconds') AS w, k, min(ts) AS a, max(ts) AS b,
                 count(*) AS n, sum(v) AS s FROM t GROUP BY 1, k)",
        duckdb: "SELECT min(ts), k, max(ts), count(*), sum(v) FROM sessions GROUP BY k, w",
    },
    Query {
        ours: "SELECT w['start'], k, w['end'], n FROM (SELECT session(INTERVAL '5 seconds') AS w, k,
                 percentile_disc(f, 0.5) AS n FROM t WHERE v > 0 OR v IS NULL GROUP BY 1, k)",
        duckdb: "SELECT min(ts), k, max(ts) + INTERVAL 5 second, quantile_disc(f, 0.5) FROM (
                   SELECT *, sum(starts) OVER (PARTITION BY k ORDER BY ts, rn) AS w FROM (
                     SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k ORDER BY ts, rn) < INTERVAL 5 second
                                    THEN 0 ELSE 1 END AS starts FROM t WHERE v > 0 OR v IS NULL)) GROUP BY k, w",
    },
    Query {
        ours: "SELECT w['start'], k, a, b, c FROM (
                 SELECT tumble(INTERVAL '30 seconds') AS w, k, count(*) FILTER (WHERE v > 50) AS a,
                        sum(v) FILTER (WHERE f < 600) AS b, count(f) AS c FROM t GROUP BY 1, k HAVING count(*) > 2)",
        duckdb:
            "SELECT tumble_of(ts, 30) AS w, k, count(*) FILTER (WHERE v > 50), sum(v) FILTER (WHERE f < 600), count(f)
                 FROM t GROUP BY w, k HAVING count(*) > 2",
    },
    Query {
        ours: "SELECT w['start'], g, a, b * 2 + 1 FROM (
                 SELECT tumble(INTERVAL '20 seconds') AS w, coalesce(upper(k), '?') AS g, sum(v * 2 + 1) AS a,
                        sum(CASE WHEN v % 2 = 0 THEN 1 ELSE 0 END) AS b FROM t WHERE f IS NOT NULL GROUP BY 1, 2)",
        duckdb: "SELECT tumble_of(ts, 20) AS w, coalesce(upper(k), '?') AS g, sum(v * 2 + 1),
                        sum(CASE WHEN v % 2 = 0 THEN 1 ELSE 0 END) * 2 + 1 FROM t WHERE f IS NOT NULL GROUP BY w, g",
    },
    Query {
        ours:
            "SELECT w['start'], k, n, a FROM (SELECT tumble(INTERVAL '10 seconds') AS w, k, count(*) AS n, sum(v) AS a
                 FROM (SELECT k, v FROM t UNION ALL SELECT k, v + 1 FROM t2) GROUP BY 1, k)",
        duckdb: "SELECT tumble_of(ts, 10) AS w, k, count(*), sum(v)
                 FROM (SELECT ts, k, v FROM t UNION ALL SELECT ts, k, v + 1 FROM t2) GROUP BY w, k",
    },
    Query {
        ours:
            "SELECT w['start'], k, n, a FROM (SELECT tumble(INTERVAL '1 minute') AS w, k, count(*) AS n, var_pop(f) AS a
                 FROM big GROUP BY 1, k)",
        duckdb: "SELECT tumble_of(ts, 60) AS w, k, count(*), var_pop(f) FROM t WHERE v > 20 GROUP BY w, k",
    },
    Query {
        ours:
            "SELECT w['start'], k, abs(CAST(a AS BIGINT) - b) <= 2 + b / 20 FROM (SELECT tumble(INTERVAL '1 hour') AS w,
                 k, approx_distinct(id) AS a, count(DISTINCT id) AS b FROM t GROUP BY 1, k)",
        duckdb: "SELECT tumble_of(ts, 3600) AS w, k, true FROM t GROUP BY w, k",
    },
    Query {
        ours: "SELECT id, k, v + 1, f * 2, ts FROM t WHERE v BETWEEN 0 AND 60 AND k LIKE '%1'",
        duckdb: "SELECT id, k, v + 1, f * 2, ts FROM t WHERE v BETWEEN 0 AND 60 AND k LIKE '%1'",
    },
];

const DUCKDB: &str = r#"
import sys, os, json, duckdb
root = sys.argv[1]
columns = {"id": "BIGINT", "k": "VARCHAR", "v": "BIGINT", "f": "DOUBLE", "ts": "TIMESTAMP"}
readers = {
    "json": f"read_json('FILE', format='newline_delimited', columns={columns})",
    "csv": f"read_csv('FILE', header=true, columns={columns})",
    "parquet": "read_parquet('FILE')",
}
sessions = """CREATE OR REPLACE VIEW sessions AS SELECT *, sum(starts) OVER (PARTITION BY k ORDER BY ts, rn) AS w FROM (
  SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k ORDER BY ts, rn) < INTERVAL 5 second THEN 0 ELSE 1 END AS starts
  FROM t)"""
hop = """CREATE OR REPLACE VIEW hop_{0}_{1} AS SELECT t.*, make_timestamp(start) AS w FROM t,
  LATERAL (SELECT unnest(range(((epoch_us(ts) - {1}000000) // {0}000000 + 1) * {0}000000, epoch_us(ts) + 1, {0}000000)) AS start)"""
for case in sorted(os.listdir(root)):
    case = os.path.join(root, case)
    c = duckdb.connect()
    c.execute("CREATE MACRO tumble_of(ts, s) AS make_timestamp((epoch_us(ts) // (s * 1000000::BIGINT)) * (s * 1000000::BIGINT))")
    task = json.load(open(os.path.join(case, "task.json")))
    for name in ("t", "t2"):
        file = os.path.join(case, f"{name}.{task['format']}")
        c.execute(f"CREATE TABLE {name} AS SELECT row_number() OVER () AS rn, id, k, v, f, ts FROM " + readers[task["format"]].replace("FILE", file))
    for view in (sessions, hop.format(10, 60), hop.format(7, 20)):
        c.execute(view)
    for name, query in task["queries"].items():
        c.execute(f"COPY ({query}) TO '{case}/{name}.expected.csv' (HEADER, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%f')")
"#;

/// The queries of a seed, all of them in turn.
fn chosen(seed: u64) -> Vec<usize> {
    (0..QUERIES_PER_SEED).map(|i| (seed as usize * QUERIES_PER_SEED + i) % QUERIES.len()).collect()
}

fn prepare(dir: &Path, seed: u64) {
    let mut random = Random(seed);
    let format = FORMATS[seed as usize % 3];
    for name in ["t", "t2"] {
        let (rows, disorder_ms) = (1 + random.below(1_500), random.below(20_000));
        write(dir, name, format, &stream(&mut random, rows, disorder_ms));
    }
    let queries: serde_json::Map<String, serde_json::Value> =
        chosen(seed).into_iter().map(|q| (format!("q{q}"), QUERIES[q].duckdb.into())).collect();
    let task = serde_json::json!({ "format": format, "queries": queries });
    std::fs::write(dir.join("task.json"), task.to_string()).unwrap();
}

fn compare(dir: &Path, seed: u64, workers: usize) {
    let format = FORMATS[seed as usize % 3];
    let mut sql = source("t", "t", format, "30 days") + &source("t2", "t2", format, "30 days");
    sql += "CREATE VIEW big AS SELECT k, f FROM t WHERE v > 20;\n";
    for q in chosen(seed) {
        let ours = QUERIES[q].ours;
        sql +=
            &format!("CREATE TABLE q{q} WITH (connector = 'single_file', format = 'csv', path = '$dir/q{q}.csv');\n");
        sql += &format!("INSERT INTO q{q} {ours};\n");
    }
    let what = format!("MILLSTREAM_SEED={seed}, {workers} workers");
    let summary =
        run(&sql, dir, &RunOptions { workers, ..RunOptions::default() }).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!((summary.rows_late, summary.rows_rejected), (0, 0), "{what}");
    for q in chosen(seed) {
        let (_, ours) = read_csv(&dir.join(format!("q{q}.csv")));
        let (_, theirs) = read_csv(&dir.join(format!("q{q}.expected.csv")));
        assert_same_rows(&format!("{what}, {}", QUERIES[q].ours), ours, theirs);
    }
}

#[test]
fn streams_give_what_duckdb_gives() {
    let seeds = seeds(SEEDS);
    let root = tempfile::tempdir().unwrap();
    let dir = |seed: &u64| root.path().join(format!("{seed:04}"));
    for seed in &seeds {
        std::fs::create_dir(dir(seed)).unwrap();
        prepare(&dir(seed), *seed);
    }
    python(DUCKDB, &[&root.path().display().to_string()]);
    for seed in &seeds {
        for workers in [1, 2, 4] {
            compare(&dir(seed), *seed, workers);
        }
    }
}

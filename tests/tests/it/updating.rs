//! Results that change give in the end what a batch gives: random streams with nulls, duplicates and disorder, row by row
//! and in batches, with one, two and four workers, with and without crashes.

use std::fmt::Write as _;

use millstream_tests::random::{Random, seeds};
use millstream_tests::script::check;
use millstream_tests::script::read::Script;

const SEEDS: u64 = 2;
const ROWS: u64 = 40;

/// Aggregates of rows that are never taken back, and of results that are.
const QUERIES: [&str; 16] = [
    "SELECT k, count(*) AS n, count(v) AS c, sum(v) AS s, avg(v) AS a, min(v) AS lo, max(v) AS hi FROM t GROUP BY k",
    "SELECT count(*) AS n, sum(f) AS s, avg(f) AS a, stddev(f) AS d, max(k) AS m FROM t",
    "SELECT k, v, count(*) AS n FROM t GROUP BY k, v",
    "SELECT v, count(DISTINCT k) AS d, count(DISTINCT k) FILTER (WHERE f > 2) AS e, sum(DISTINCT f) AS s FROM t GROUP BY v",
    "SELECT k, median(v) AS m, count(*) FILTER (WHERE v > 2) AS n, bool_and(v > 0) AS b FROM t GROUP BY k",
    "SELECT k, sum(v) AS s FROM t GROUP BY k HAVING count(*) % 2 = 0",
    "SELECT DISTINCT k, v FROM t",
    "SELECT k FROM t UNION SELECT upper(k) FROM t WHERE v > 2",
    "SELECT n, count(*) AS keys, sum(s) AS s, avg(s) AS a, count(s) AS c FROM
       (SELECT k, v, count(*) AS n, sum(v) AS s FROM t GROUP BY k, v) GROUP BY n",
    "SELECT k, min(s) AS lo, max(s) AS hi, count(DISTINCT s) AS d, sum(DISTINCT s) AS e FROM
       (SELECT k, v, sum(v) AS s FROM t GROUP BY k, v) GROUP BY k",
    "SELECT sum(a) AS s, avg(a) AS a, median(a) AS m, count(a) FILTER (WHERE a > 2) AS n FROM
       (SELECT k, avg(f) AS a FROM t GROUP BY k)",
    "SELECT DISTINCT n FROM (SELECT v, count(*) AS n FROM t GROUP BY v)",
    "SELECT count(*) AS n, sum(s) AS s, max(s) AS m FROM (SELECT k, sum(v) AS s FROM t GROUP BY k HAVING sum(v) < 6)",
    "SELECT x, count(*) AS n FROM (SELECT n, max(s) AS x FROM
       (SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k) GROUP BY n) GROUP BY x",
    "SELECT k, max(n) AS hi, sum(n) AS s FROM (SELECT k, count(*) AS n FROM t GROUP BY k
       UNION ALL SELECT k, sum(v) AS n FROM t GROUP BY k) GROUP BY k",
    "SELECT g, sum(s) AS s, count(*) AS n FROM (SELECT coalesce(k, 'none') AS g, v, min(v * 2) AS s FROM t GROUP BY 1, 2)
       GROUP BY g",
];

fn script(seed: u64) -> String {
    let mut random = Random(seed);
    let mut text = String::from("# Random rows.\nCREATE TABLE t (ts TIMESTAMP, k TEXT, v BIGINT, f DOUBLE, ");
    text.push_str("WATERMARK FOR ts AS ts - INTERVAL '1 hour') WITH (connector = 'ingest');\n");
    for (i, query) in QUERIES.iter().enumerate() {
        let _ = writeln!(text, "CREATE TABLE o{i} WITH (connector = 'lake', format = 'debezium_json');");
        let _ = writeln!(text, "INSERT INTO o{i} {query};");
    }
    text.push_str("CREATE TABLE total WITH (connector = 'lake', format = 'debezium_json');\n");
    text.push_str("INSERT INTO total SELECT count(*) AS n FROM t;\n");
    for i in 0..ROWS {
        if i % 10 == 0 {
            text.push_str(if i > 0 { "checkpoint\n\n" } else { "\n" });
            text.push_str(">> t\nts k v f\n");
        }
        let mut cell = |n: u64, from: u64, null: u64| match random.one_in(null) {
            true => "null".to_string(),
            false => (from + random.below(n)).to_string(),
        };
        let (v, f, second) = (cell(5, 0, 6), cell(6, 0, 5), cell(50, 10, u64::MAX));
        let k = ["a", "b", "c", "null"][random.below(4) as usize];
        let _ = writeln!(text, "00:00:{second} {k} {v} {f}");
    }
    let _ = writeln!(text, "\n<< total\nn\n{ROWS}");
    text
}

#[test]
fn results_that_change_give_what_a_batch_gives() {
    for seed in seeds(SEEDS) {
        let text = script(seed);
        let script = Script::read("random", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let problems = check(&script);
        assert!(problems.is_empty(), "MILLSTREAM_SEED={seed}\n{}\n{text}", problems.join("\n"));
    }
}

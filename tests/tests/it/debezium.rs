//! Queries over tables of changes give what they give over the table that the changes amount to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millstream_tests::random::{Random, seeds};
use millstream_tests::script::compare::difference;
use millstream_tests::script::play::{Outcome, Run, Stage, play};
use millstream_tests::script::read::Script;

const SEEDS: u64 = 3;
const CHANGES: u64 = 60;

const QUERIES: [&str; 7] = [
    "SELECT k, count(*) AS n, sum(v) AS s, min(v) AS lo, max(v) AS hi, count(DISTINCT v) AS d FROM t GROUP BY k",
    "SELECT count(*) AS n, avg(v) AS a FROM t WHERE v > 1",
    "SELECT DISTINCT k, v FROM t",
    "SELECT a.id AS x, b.id AS y, a.v + b.v AS s FROM t AS a JOIN t AS b ON a.k = b.k",
    "SELECT a.id AS x, b.id AS y FROM t AS a LEFT JOIN (SELECT * FROM t WHERE v = 2) AS b ON a.k = b.k",
    "SELECT n, count(*) AS keys FROM (SELECT k, count(*) AS n FROM t GROUP BY k) GROUP BY n",
    "SELECT id FROM t WHERE k IN (SELECT k FROM t WHERE v = 3)",
];

type Row = (String, String);

fn json(id: u64, (k, v): &Row) -> String {
    let k = if k == "null" { k.clone() } else { format!("\"{k}\"") };
    format!("{{\"id\":{id},\"k\":{k},\"v\":{v}}}")
}

/// A script of random changes, and one of the rows that they leave.
fn scripts(seed: u64) -> (String, String) {
    let mut random = Random(seed);
    let (mut changes, mut table) = (String::new(), BTreeMap::<u64, Row>::new());
    for i in 0..CHANGES {
        if i % 12 == 0 {
            changes.push_str(if i > 0 { "checkpoint\n\n>> t\nbefore after op\n" } else { "\n>> t\nbefore after op\n" });
        }
        let id = random.below(12);
        let k = ["a", "b", "c", "null"][random.below(4) as usize].to_string();
        let v = if random.one_in(6) { "null".into() } else { random.below(5).to_string() };
        let before = table.get(&id).map_or("null".into(), |row| json(id, row));
        let (after, op) = match (table.contains_key(&id), random.one_in(3)) {
            (true, true) => ("null".into(), "d"),
            (true, false) => (json(id, &(k.clone(), v.clone())), "u"),
            (false, snapshot) => (json(id, &(k.clone(), v.clone())), if snapshot { "r" } else { "c" }),
        };
        let _ = writeln!(changes, "{before} {after} {op}");
        match op {
            "d" => table.remove(&id),
            _ => table.insert(id, (k, v)),
        };
    }
    let mut rows = String::from("\n>> t\nid k v\n");
    for (id, (k, v)) in &table {
        let _ = writeln!(rows, "{id} {k} {v}");
    }
    let text = |format: &str, steps: &str| {
        let mut text = format!(
            "# Random changes.\nCREATE TABLE t (id BIGINT PRIMARY KEY, k TEXT, v BIGINT) WITH (connector = 'ingest'{format});\n"
        );
        for (i, query) in QUERIES.iter().enumerate() {
            let _ = writeln!(
                text,
                "CREATE TABLE o{i} WITH (connector = 'lake', format = 'debezium_json');\nINSERT INTO o{i} {query};"
            );
        }
        text + steps + "\n<< o0\n"
    };
    (text(", format = 'debezium_json'", &changes), text("", &rows))
}

#[test]
fn changes_give_what_the_table_gives() {
    for seed in seeds(SEEDS) {
        let (changes, table) = scripts(seed);
        let read = |text: &str| Script::read("changes", text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let rows = |script: &Script, run: &Run, stage: &Stage| match play(script, run, stage) {
            Ok(Outcome::Rows(rows)) => rows,
            Ok(Outcome::Failed(e)) | Err(e) => panic!("MILLSTREAM_SEED={seed} {run}: {e}\n{changes}"),
        };
        let mut expected = rows(&read(&table), &Run::first(), &Stage::default());
        expected.retain(|name, _| name.starts_with('o'));
        let (script, stage) = (read(&changes), Stage::default());
        for run in Run::all(&script) {
            let mut given = rows(&script, &run, &stage);
            assert!(given.get("t__rejected").is_none_or(|t| t.rows(&["code".into()]).unwrap().is_empty()));
            given.retain(|name, _| name.starts_with('o') && !name.contains("__"));
            expected.retain(|name, _| !name.contains("__"));
            let problems = difference(&expected, "the table", &given, "its changes");
            assert!(problems.is_empty(), "MILLSTREAM_SEED={seed} {run}\n{}\n{changes}", problems.join("\n"));
        }
    }
}

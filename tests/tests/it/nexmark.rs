//! The Nexmark queries give what DuckDB gives for the same events, with one and two workers.

use std::fs;
use std::path::Path;

use millstream::engine::RunOptions;
use millstream_tests::python::python;
use millstream_tests::{root, run};

/// Sixteen minutes around midnight: many windows, two days, auctions that end while others run.
const SOURCE: &str = "events = 20000, event_rate = 20, seed = 1, first_event_time = '2026-01-01T23:50:00Z'";

/// Queries that are refused by name so far.
const NOT_YET: [&str; 0] = [];

/// Loads the events, asks DuckDB, and compares with our files: JSON lines, changes folded into the rows that are left.
const COMPARE: &str = r#"
import collections, datetime, decimal, json, sys, duckdb
task = json.load(open(sys.argv[1] + "/task.json"))
db = duckdb.connect()
for table in ("person", "auction", "bid"):
    times = "datetime::TIMESTAMP AS datetime" + (", expires::TIMESTAMP AS expires" if table == "auction" else "")
    db.execute(f"CREATE TABLE {table} AS SELECT * REPLACE ({times}) FROM '{sys.argv[1]}/{table}.parquet'")
db.execute(f"CREATE TABLE side_input AS SELECT * FROM '{sys.argv[1]}/side_input.csv'")

def normal(value):
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, str) and len(value) >= 19 and value[4] == "-" and value[10] == "T":
        return datetime.datetime.fromisoformat(value).isoformat()
    if isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool):
        return "%.9g" % value
    return value

def rows(path, names, updating):
    left = collections.Counter()
    key = lambda row: tuple(normal(row.get(n)) for n in names)
    for line in open(path):
        row = json.loads(line)
        if not updating:
            left[key(row)] += 1
            continue
        if row.get("before") is not None:
            left[key(row["before"])] -= 1
        if row.get("after") is not None:
            left[key(row["after"])] += 1
    return {row: n for row, n in left.items() if n != 0}

wrong = False
for query in task:
    answer = db.execute(query["sql"])
    names = [c[0] for c in answer.description]
    theirs = dict(collections.Counter(tuple(normal(v) for v in row) for row in answer.fetchall()))
    if not theirs:
        print(f"{query['name']}: DuckDB finds no row: the events do not test it")
        wrong = True
    for path in query["files"]:
        ours = rows(path, names, query["updating"])
        if ours != theirs:
            wrong = True
            print(f"{path}: {sum(ours.values())} rows, DuckDB has {sum(theirs.values())}")
            print("  only ours:  ", list((r, n) for r, n in ours.items() if theirs.get(r) != n)[:2])
            print("  only DuckDB:", list((r, n) for r, n in theirs.items() if ours.get(r) != n)[:2])
print("wrong" if wrong else "all equal")
"#;

fn text(name: &str) -> Option<String> {
    fs::read_to_string(root().join("benches/nexmark").join(name)).ok()
}

fn export(dir: &Path) {
    let mut sql = text("tables.sql").unwrap().replace("$source", SOURCE);
    for table in ["person", "auction", "bid"] {
        sql += &format!(
            "CREATE TABLE {table}_file WITH (connector = 'single_file', format = 'parquet', path = '$dir/{table}.parquet');
             INSERT INTO {table}_file SELECT * FROM {table};\n"
        );
    }
    let summary = run(&sql, dir, &RunOptions::default()).unwrap();
    assert_eq!(summary.rows_out, 20_000);
    let side: String = (0..10_000).map(|key| format!("{key},value-{key}\n")).collect();
    fs::write(dir.join("side_input.csv"), format!("key,value\n{side}")).unwrap();
}

#[test]
fn queries_give_what_duckdb_gives() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    export(dir);
    let (mut tasks, mut wrong) = (Vec::new(), Vec::new());
    for query in (0..=22).map(|n| format!("q{n}")) {
        let ours = text(&format!("{query}.sql")).unwrap();
        let updating = ours.contains("\n-- Result: updating\n");
        let format = if updating { "debezium_json" } else { "json" };
        let mut files = Vec::new();
        for workers in [1, 2] {
            let path = dir.join(format!("{query}.{workers}.json")).display().to_string();
            let sink = format!("connector = 'single_file', format = '{format}', path = '{path}'");
            let sql = text("tables.sql").unwrap() + &ours;
            let sql = sql.replace("$source", SOURCE).replace("$sink", &sink).replace("$side", "$dir");
            let result = run(&sql, dir, &RunOptions { workers, ..RunOptions::default() });
            if NOT_YET.contains(&query.as_str()) {
                let error = result.expect_err("it runs now: take it out of NOT_YET").to_string();
                assert!(error.contains("not"), "{query}: {error}");
                continue;
            }
            match result {
                Ok(summary) if (summary.rows_late, summary.rows_rejected) == (0, 0) => files.push(path),
                Ok(summary) => wrong.push(format!("{query}, {workers} workers: {summary:?}")),
                Err(e) => wrong.push(format!("{query}, {workers} workers: {e}")),
            }
        }
        let batch = text(&format!("{query}.duckdb.sql"));
        let batch = batch.unwrap_or_else(|| ours.split_once(&format!("INSERT INTO {query}\n")).unwrap().1.to_string());
        tasks.push(serde_json::json!({ "name": query, "sql": batch, "updating": updating, "files": files }));
    }
    fs::write(dir.join("task.json"), serde_json::Value::from(tasks).to_string()).unwrap();
    let said = python(COMPARE, &[&dir.display().to_string()]);
    assert!(wrong.is_empty() && said == "all equal\n", "{}\n{said}", wrong.join("\n"));
}

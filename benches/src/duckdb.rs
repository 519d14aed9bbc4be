//! The same question to DuckDB, through its Python package: rows are handed over once as Arrow IPC and loaded into
//! DuckDB's own tables, outside the clock.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;

use crate::{Cost, RUNS};

/// Loads the tables, runs each query once uncounted and then `runs` times, prints `name, wall, cpu` or `name, error`.
const SCRIPT: &str = r#"
import json, sys, time, duckdb, pyarrow as pa
folder, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
task = json.load(open(folder + "/task.json"))
db = duckdb.connect()
db.execute(f"SET threads = {threads}")
db.execute("SET enable_progress_bar = false")
for table in task["tables"]:
    rows = pa.ipc.open_file(f"{folder}/{table}.arrow").read_all()
    db.execute(f"CREATE TABLE {table} AS SELECT * FROM rows")
    del rows
for name, sql in task["queries"].items():
    try:
        wall, cpu = [], []
        for run in range(runs + 1):
            w, c = time.perf_counter(), time.process_time()
            db.execute(sql).to_arrow_table()
            if run > 0:
                wall.append(time.perf_counter() - w)
                cpu.append(time.process_time() - c)
        print(name, sorted(wall)[runs // 2], sum(cpu) / runs, sep="\t")
    except Exception as e:
        print(name, "error", str(e).splitlines()[0], sep="\t")
"#;

/// The interpreter with duckdb and pyarrow that `make python` installs, if it is there.
fn interpreter() -> Option<PathBuf> {
    let given = std::env::var_os("MILLSTREAM_PYTHON").map(PathBuf::from);
    let path = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"));
    path.exists().then_some(path)
}

/// What each query costs DuckDB, by name. Queries that it cannot answer are told and left out.
pub fn costs(
    tables: &[(&str, SchemaRef, Vec<RecordBatch>)],
    queries: &BTreeMap<String, String>,
    threads: usize,
) -> Result<BTreeMap<String, Cost>, Box<dyn Error>> {
    let Some(python) = interpreter() else {
        println!("no DuckDB: run `make python` for its figures");
        return Ok(BTreeMap::new());
    };
    let folder = tempfile::tempdir()?;
    for (name, schema, batches) in tables {
        let mut writer = FileWriter::try_new(File::create(folder.path().join(format!("{name}.arrow")))?, schema)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
    }
    let names: Vec<&str> = tables.iter().map(|t| t.0).collect();
    let task = serde_json::json!({ "tables": names, "queries": queries });
    std::fs::write(folder.path().join("task.json"), task.to_string())?;
    let arguments = [folder.path().display().to_string(), threads.to_string(), RUNS.to_string()];
    let output = Command::new(python).args(["-c", SCRIPT]).args(arguments).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let mut costs = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            [name, "error", why] => println!("DuckDB: {name}: {why}"),
            [name, wall, cpu] => {
                costs.insert((*name).to_string(), Cost { wall_s: wall.parse()?, cpu_s: cpu.parse()? });
            }
            _ => return Err(format!("DuckDB said: {line}").into()),
        }
    }
    Ok(costs)
}

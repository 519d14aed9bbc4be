//! What must not grow: the cost of an event with the number of events before it, memory with event time, and throughput
//! lost to a checkpoint every second with 1,000,000 keys of state.
//!
//! `target/debug/growth [rows,rows,...] [chart.svg]`, 1,000,000 and 10,000,000 by default. Rows are made as they are read.
//! The chart is of the memory during the longest run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use millstream::runtime::Runtime;
use millstream::sql::plan::Plan;
use millstream::sql::program::Program;
use millstream_benches::events::{Events, TABLE};
use millstream_benches::{Cost, measure, resident_mb, sides};
use millstream_report::{ChartKind, ChartSpec, Theme};

const KEYS: u64 = 10_000;

/// Rows for which two runs are compared, with checkpoints and without.
const CHECKPOINT_ROWS: usize = 10_000_000;

/// Ten seconds of rows are joined with the rows of the ten seconds before: 100,000 rows are kept on each side.
const GROWTH: [(&str, &str); 3] = [
    ("tumble", "SELECT tumble(INTERVAL '10 seconds') AS w, key, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2"),
    (
        "join with TTL",
        "SET updating_ttl = INTERVAL '10 seconds';
         SELECT a.key, a.v, b.v AS other FROM events AS a JOIN events AS b ON a.key = b.key AND a.v = b.v",
    ),
    (
        "updating with TTL",
        "SET updating_ttl = INTERVAL '10 seconds';
         SELECT key, v % 10 AS d, count(*) AS n FROM events GROUP BY 1, 2",
    ),
];

const CHECKPOINTED: [(&str, &str); 3] = [
    ("tumble", "SELECT tumble(INTERVAL '100 seconds') AS w, key, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2"),
    ("session", "SELECT session(INTERVAL '10 seconds') AS w, key, count(*) AS n FROM events GROUP BY 1, 2"),
    ("updating", "SELECT key, count(*) AS n, sum(v) AS s FROM events GROUP BY key"),
];

fn planned(sql: &str) -> (Program, Plan) {
    let mut program = Program::default();
    program.execute(&format!("{TABLE}{sql}"), "growth").expect("the query plans");
    let plan = &program.pipelines["stdout"].plan;
    let plan = plan.inputs().first().filter(|input| input.properties().updating).unwrap_or(plan).clone();
    (program, plan)
}

/// Runs to the end; the cost, and the memory at each tenth of the rows.
fn run(runtime: &Runtime, rows: usize) -> (Cost, Vec<f64>) {
    let done = AtomicBool::new(false);
    let (memory, cost) = measure(|| {
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut memory, mut next) = (Vec::new(), 1);
                while !done.load(Ordering::Relaxed) {
                    while runtime.sum(|c| &c.rows_in) as usize * 10 >= next * rows && memory.len() < 10 {
                        memory.push(resident_mb());
                        next += 1;
                    }
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                memory
            });
            runtime.join().expect("runs");
            done.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            watcher.join().expect("watches")
        })
    });
    (cost, memory)
}

/// The memory of each operator at each tenth of `rows`.
fn draw(path: &Path, rows: usize, memory: &[(&str, Vec<f64>)]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || memory.iter().flat_map(|(name, mb)| mb.iter().enumerate().map(move |(i, mb)| (*name, i + 1, *mb)));
    let at = |tenth: usize| (tenth * rows) as f64 / 1e7;
    let columns: [(&str, ArrayRef); 3] = [
        ("million rows", Arc::new(Float64Array::from_iter_values(points().map(|p| at(p.1))))),
        ("operator", Arc::new(StringArray::from(points().map(|p| p.0).collect::<Vec<&str>>()))),
        ("MB", Arc::new(Float64Array::from_iter_values(points().map(|p| p.2)))),
    ];
    let chart = ChartSpec {
        title: "Memory of the process while rows are read".into(),
        series: Some("operator".into()),
        unit: "MB".into(),
        ..ChartSpec::new(ChartKind::Line, vec![RecordBatch::try_from_iter(columns)?], "million rows", "MB")
    };
    Ok(std::fs::write(path, chart.to_svg(Theme::Print)?)?)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let sizes: Vec<usize> =
        arguments.next().map_or(vec![1_000_000, 10_000_000], |a| a.split(',').filter_map(|n| n.parse().ok()).collect());
    let chart = arguments.next();
    let mut longest = Vec::new();
    println!("| operator | rows | M rows/s | CPU-s/M | MB resident at each tenth |\n|---|---|---|---|---|");
    for (name, sql) in GROWTH {
        let (program, plan) = planned(sql);
        for rows in &sizes {
            let source = |_: &str| Box::new(Events::new(*rows, KEYS)) as _;
            let runtime = sides::start(&program, &plan, source, 1, None).expect("starts");
            let (cost, memory) = run(&runtime, *rows);
            let millions = *rows as f64 / 1e6;
            let shown: Vec<String> = memory.iter().map(|mb| format!("{mb:.0}")).collect();
            println!(
                "| {name} | {rows} | {:.2} | {:.3} | {} |",
                millions / cost.wall_s,
                cost.cpu_s / millions,
                shown.join(" ")
            );
            if sizes.iter().all(|other| other <= rows) {
                longest.push((name, memory));
            }
        }
    }
    if let (Some(path), Some(rows)) = (chart, sizes.iter().max()) {
        draw(Path::new(&path), *rows, &longest).expect("the chart is written");
    }
    checkpoints();
}

/// The number of the newest checkpoint in a folder.
fn newest(folder: &Path) -> Option<u64> {
    let names =
        std::fs::read_dir(folder.join("checkpoints")).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).max()
}

/// What a checkpoint every second costs.
fn checkpoints() {
    println!(
        "\n| 1,000,000 keys | M rows/s | with checkpoints | CPU-s/M | with checkpoints | more CPU | checkpoints | CPU-ms each | one a second, of a busy core |\n|---|---|---|---|---|---|---|---|---|"
    );
    for (name, sql) in CHECKPOINTED {
        let (program, plan) = planned(sql);
        let cost = |dir: Option<&Path>| {
            let source = |_: &str| Box::new(Events::new(CHECKPOINT_ROWS, 1_000_000)) as _;
            let runtime = sides::start(&program, &plan, source, 1, dir).expect("starts");
            run(&runtime, CHECKPOINT_ROWS).0
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        cost(None);
        let (without, with) = (cost(None), cost(Some(folder.path())));
        let millions = CHECKPOINT_ROWS as f64 / 1e6;
        let checkpoints = newest(folder.path()).expect("a checkpoint was taken");
        let each = (with.cpu_s - without.cpu_s) / checkpoints as f64;
        println!(
            "| {name} | {:.2} | {:.2} | {:.3} | {:.3} | {:.1} % | {checkpoints} | {:.0} | {:.1} % |",
            millions / without.wall_s,
            millions / with.wall_s,
            without.cpu_s / millions,
            with.cpu_s / millions,
            (with.cpu_s / without.cpu_s - 1.0) * 100.0,
            each * 1e3,
            each / (without.cpu_s / without.wall_s).max(1.0) * 100.0,
        );
    }
}

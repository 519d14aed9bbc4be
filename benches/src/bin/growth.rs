//! What must not grow: the cost of an event with the number of events before it, memory with event time, and throughput
//! lost to a checkpoint every second with 1,000,000 keys of state.
//!
//! `target/debug/growth [most rows]`, 10,000,000 by default: a tenth of it, and all of it. Rows are made as they are read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millstream::runtime::Runtime;
use millstream::sql::plan::Plan;
use millstream::sql::program::Program;
use millstream_benches::events::{Events, TABLE};
use millstream_benches::{Cost, cpu_s, resident_mb, sides};

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
    let (cpu, wall) = (cpu_s(), Instant::now());
    let done = AtomicBool::new(false);
    let memory = std::thread::scope(|scope| {
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
    });
    (Cost { wall_s: wall.elapsed().as_secs_f64(), cpu_s: cpu_s() - cpu }, memory)
}

fn main() {
    let most: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(10_000_000);
    println!("{:<20}{:>12}{:>12}{:>12}  MB resident at each tenth", "operator", "rows", "M rows/s", "CPU-s/M");
    for (name, sql) in GROWTH {
        let (program, plan) = planned(sql);
        for rows in [most / 10, most] {
            let source = |_: &str| Box::new(Events::new(rows, KEYS)) as _;
            let runtime = sides::start(&program, &plan, source, 1, None).expect("starts");
            let (cost, memory) = run(&runtime, rows);
            let millions = rows as f64 / 1e6;
            let memory: Vec<String> = memory.iter().map(|mb| format!("{mb:.0}")).collect();
            println!(
                "{name:<20}{rows:>12}{:>12.2}{:>12.3}  {}",
                millions / cost.wall_s,
                cost.cpu_s / millions,
                memory.join(" ")
            );
        }
    }
    println!(
        "\n{:<20}{:>12}{:>14}{:>14}{:>12}",
        "1,000,000 keys", "M rows/s", "checkpointed", "CPU-s/M", "checkpointed"
    );
    for (name, sql) in CHECKPOINTED {
        let (program, plan) = planned(sql);
        let cost = |dir: Option<&std::path::Path>| {
            let source = |_: &str| Box::new(Events::new(CHECKPOINT_ROWS, 1_000_000)) as _;
            let runtime = sides::start(&program, &plan, source, 1, dir).expect("starts");
            run(&runtime, CHECKPOINT_ROWS).0
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        cost(None);
        let (without, with) = (cost(None), cost(Some(folder.path())));
        let millions = CHECKPOINT_ROWS as f64 / 1e6;
        println!(
            "{name:<20}{:>12.2}{:>14.2}{:>14.3}{:>12.3}",
            millions / without.wall_s,
            millions / with.wall_s,
            without.cpu_s / millions,
            with.cpu_s / millions
        );
    }
}

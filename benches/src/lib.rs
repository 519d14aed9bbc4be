//! Benchmarks: binaries in `src/bin`, each printing ratios against baselines taken in the same run.

pub mod duckdb;
pub mod events;
pub mod peers;
pub mod server;
pub mod sides;

use std::time::Instant;

use cpu_time::ProcessTime;

/// As in the binary that users run; a DataFusion batch has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs of each measurement, after one that does not count.
pub const RUNS: usize = 3;

/// Wall and CPU time of some work.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Wall seconds.
    pub wall_s: f64,
    /// User and system seconds of the whole process.
    pub cpu_s: f64,
}

/// Runs `work` and measures it.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (cpu, wall) = (ProcessTime::now(), Instant::now());
    let result = work();
    (result, Cost { wall_s: wall.elapsed().as_secs_f64(), cpu_s: cpu.elapsed().as_secs_f64() })
}

/// Runs `work` once uncounted, then [`RUNS`] times: the medians.
pub fn repeat(mut work: impl FnMut()) -> Cost {
    work();
    let costs: Vec<Cost> = (0..RUNS).map(|_| measure(&mut work).1).collect();
    let median = |of: fn(&Cost) -> f64| {
        let mut all: Vec<f64> = costs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[RUNS / 2]
    };
    Cost { wall_s: median(|c| c.wall_s), cpu_s: median(|c| c.cpu_s) }
}

/// CPU seconds of a process so far, from `/proc` (ticks of 10 ms).
pub fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |s| s.1);
    let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Resident memory of this process in MB.
pub fn resident_mb() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / 1e6
}

/// The head of a Markdown table of [`line`]s, with further columns.
pub fn head(first: &str, further: &[&str]) {
    let columns = [
        first,
        "threads",
        "M rows/s",
        "CPU-s/M",
        "DataFusion",
        "DuckDB",
        "x DataFusion",
        "x DataFusion, wall",
        "x DuckDB",
    ];
    let columns: Vec<&str> = columns.iter().chain(further).copied().collect();
    println!("| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
}

/// A row of the table: what a million rows cost us, a DataFusion batch and DuckDB in CPU-seconds, and how many times as
/// much as we they need.
pub fn line(name: &str, threads: usize, rows: usize, ours: Cost, batch: Option<Cost>, duckdb: Option<Cost>) -> String {
    let millions = rows as f64 / 1e6;
    let cpu = |c: Option<Cost>| c.map_or(String::new(), |c| format!("{:.3}", c.cpu_s / millions));
    let ratio =
        |of: fn(&Cost) -> f64, c: Option<Cost>| c.map_or(String::new(), |c| format!("{:.2}", of(&c) / of(&ours)));
    format!(
        "| {name} | {threads} | {:.2} | {:.3} | {} | {} | {} | {} | {} |",
        millions / ours.wall_s,
        ours.cpu_s / millions,
        cpu(batch),
        cpu(duckdb),
        ratio(|c| c.cpu_s, batch),
        ratio(|c| c.wall_s, batch),
        ratio(|c| c.cpu_s, duckdb),
    )
}

//! Benchmarks: binaries in `src/bin`, each printing ratios against baselines taken in the same run.

pub mod duckdb;
pub mod events;
pub mod sides;

use std::time::Instant;

/// As in the `millstream` binary, for both sides of each comparison.
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
    let (cpu, wall) = (cpu_s(), Instant::now());
    let result = work();
    (result, Cost { wall_s: wall.elapsed().as_secs_f64(), cpu_s: cpu_s() - cpu })
}

/// Runs `work` once uncounted, then [`RUNS`] times: the median wall time, and the mean of the CPU time, whose clock
/// ticks at 10 ms.
pub fn repeat(mut work: impl FnMut()) -> Cost {
    work();
    let mut costs: Vec<Cost> = (0..RUNS).map(|_| measure(&mut work).1).collect();
    costs.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
    let cpu_s = costs.iter().map(|c| c.cpu_s).sum::<f64>() / RUNS as f64;
    Cost { wall_s: costs[RUNS / 2].wall_s, cpu_s }
}

/// CPU seconds of this process so far, from `/proc/self/stat` (ticks of 10 ms).
pub fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
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

/// The head of a table of [`line`]s.
pub fn head(first: &str) {
    println!(
        "{first:<34}{:>8}{:>10}{:>12}{:>12}{:>12}{:>10}{:>9}",
        "threads", "M rows/s", "stream CPU", "batch CPU", "DuckDB CPU", "x batch", "x DuckDB"
    );
}

/// A row of the table: what a million rows cost us, a DataFusion batch and DuckDB; how many times as fast as each we are.
pub fn line(name: &str, threads: usize, rows: usize, ours: Cost, batch: Option<Cost>, duckdb: Option<Cost>) -> String {
    let millions = rows as f64 / 1e6;
    let cpu = |c: Option<Cost>| c.map_or("-".to_string(), |c| format!("{:.3}", c.cpu_s / millions));
    let ratio = |c: Option<Cost>| c.map_or("-".to_string(), |c| format!("{:.2}", c.wall_s / ours.wall_s));
    format!(
        "{name:<34}{threads:>8}{:>10.2}{:>12}{:>12}{:>12}{:>10}{:>9}",
        millions / ours.wall_s,
        cpu(Some(ours)),
        cpu(batch),
        cpu(duckdb),
        ratio(batch),
        ratio(duckdb)
    )
}

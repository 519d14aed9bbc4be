//! Benchmarks: binaries in `src/bin`, each printing ratios against a baseline taken in the same run.

use std::time::Instant;

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

/// CPU seconds of this process so far, from `/proc/self/stat` (ticks of 10 ms).
pub fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |s| s.1);
    let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// The cost with the median wall time.
pub fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
    costs[costs.len() / 2]
}

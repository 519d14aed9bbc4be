//! `millstream run` on three rows is done at once and in little memory, so that it fits beside anything. Most of the memory is
//! code that was read from the disk.

use std::fs;

use millstream_tests::program::binary;
use millstream_tests::python::python;

/// Runs the program seven times; prints the greatest memory of all in KiB, and the least CPU time of one in milliseconds:
/// what the machine does besides makes that no less.
const MEASURE: &str = r#"
import resource, subprocess, sys
least = 1e9
for run in range(7):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run([sys.argv[1], "run", "q.sql"], cwd=sys.argv[2], capture_output=True, text=True, check=True)
    assert len(said.stdout.splitlines()) == 3, said
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, round(least * 1000))
"#;

#[test]
fn three_rows_take_little_memory_and_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let rows = ["00:00:01\",\"k\":\"a\"", "00:00:02\",\"k\":\"b\"", "00:00:12\",\"k\":\"a\""];
    let lines: String = rows.iter().map(|row| format!("{{\"ts\":\"2026-01-01T{row},\"v\":1}}\n")).collect();
    fs::write(dir.path().join("in.json"), lines).unwrap();
    let sql = "CREATE TABLE events (ts TIMESTAMP, k TEXT, v BIGINT, WATERMARK FOR ts AS ts) \
               WITH (connector = 'single_file', path = 'in.json', format = 'json'); \
               SELECT tumble(INTERVAL '10 seconds') AS w, k, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2;";
    fs::write(dir.path().join("q.sql"), sql).unwrap();
    let said = python(MEASURE, &[&binary().display().to_string(), &dir.path().display().to_string()]);
    let figures: Vec<u64> = said.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let [memory, cpu] = figures[..] else { panic!("two figures, not {said}") };
    println!("{memory} KiB, {cpu} ms of CPU");
    assert!(memory < 64 * 1024, "{memory} KiB resident for three rows");
    assert!(cpu < 100, "{cpu} ms of CPU for three rows");
}

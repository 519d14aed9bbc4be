//! What the log writes and reads in a second.

use super::*;

/// Run by hand: `cargo test --workspace --lib -- --ignored --nocapture log_throughput`.
#[test]
#[ignore = "prints a measurement, checks nothing"]
fn log_throughput() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_disk(dir.path(), never_fatal());
    let ids: Vec<String> = (0..500).map(|n| format!("{n:0128}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let batch = rows(&ids);
    for (what, event_id) in [("sequenced", false), ("by event id", true)] {
        let before = log.metrics();
        let started = std::time::Instant::now();
        let mut in_flight = std::collections::VecDeque::new();
        let batches = 4_000;
        for n in 0..batches {
            let sequence = (!event_id).then_some(Sequence { epoch: 1, sequence: n + 1 });
            let batch = if event_id {
                let unique: Int64Array = (0..500).map(|row| Some((n * 500 + row) as i64)).collect();
                RecordBatch::try_new(
                    Arc::new(arrow::datatypes::Schema::new(vec![
                        arrow::datatypes::Field::new("unique", arrow::datatypes::DataType::Int64, true),
                        arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Utf8, true),
                    ])),
                    vec![Arc::new(unique), batch.column(0).clone()],
                )
                .unwrap()
            } else {
                batch.clone()
            };
            let new =
                NewEntry { table: "t".into(), producer: "p".into(), sequence, event_id: event_id.then_some(0), batch };
            in_flight.push_back(log.append(new).unwrap());
            if in_flight.len() == 8 {
                in_flight.pop_front().unwrap().wait().unwrap();
            }
        }
        in_flight.into_iter().for_each(|one| {
            one.wait().unwrap();
        });
        let seconds = started.elapsed().as_secs_f64();
        let after = log.metrics();
        println!(
            "{what}: {:.0} rows/s, {:.0} MB/s, {:.1} batches per sync, {:.2} ms per sync",
            batches as f64 * 500.0 / seconds,
            (after.bytes - before.bytes) as f64 / seconds / 1e6,
            batches as f64 / (after.groups - before.groups) as f64,
            seconds * 1e3 / (after.groups - before.groups) as f64,
        );
    }
    let started = std::time::Instant::now();
    let reader = |log: &Arc<Log>| {
        let mut reader = log.reader(0).unwrap();
        let mut sum = 0;
        while reader.position() < log.end() {
            let entry = reader.next(Duration::ZERO).unwrap().unwrap();
            let LogBody::Rows(batch) = entry.body else { continue };
            sum += batch
                .columns()
                .iter()
                .filter_map(|c| c.as_primitive_opt::<Int64Type>())
                .map(|c| c.value(0))
                .sum::<i64>();
        }
        sum
    };
    let sum = reader(&log);
    println!("read back: {:.0} MB/s ({sum})", log.metrics().bytes as f64 / started.elapsed().as_secs_f64() / 1e6);
    let bytes = log.metrics().bytes;
    drop(log);
    let started = std::time::Instant::now();
    drop(open_disk(dir.path(), never_fatal()));
    println!("reopen: {:.0} MB/s", bytes as f64 / started.elapsed().as_secs_f64() / 1e6);
}

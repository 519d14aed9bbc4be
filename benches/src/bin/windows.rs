//! Windowed aggregates over in-memory batches, as a ratio to the same query as a DataFusion batch in the same run.
//!
//! `cargo run -p millstream-benches --bin windows [rows]`; one million rows is 100 s of event time at 10,000 events a
//! second. The ratio is throughput: above 1, the stream is faster than the batch. CPU-seconds are of the whole process.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream::connectors::blackhole::Blackhole;
use millstream::connectors::{Read, Source};
use millstream::runtime::pipeline::{PipelineSpec, Target};
use millstream::runtime::sources::{Input, SourceSpec};
use millstream::runtime::{Runtime, Setup};
use millstream::sql::program::Program;
use millstream::time::{SECOND, SystemClock};
use millstream_benches::{Cost, measure, median};

const ROWS_PER_BATCH: usize = 8192;
const RUNS: usize = 3;

const QUERIES: [(&str, &str, &str); 4] = [
    (
        "tumble 10 s",
        "SELECT tumble(INTERVAL '10 seconds') AS w, key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY 1, 2",
        "SELECT date_bin(INTERVAL '10 seconds', ts) AS w, key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY 1, 2",
    ),
    (
        "hop 10 s / 2 s",
        "SELECT hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS w, key, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2",
        "SELECT w, key, count(*) AS n, sum(v) AS s FROM (
           SELECT date_bin(INTERVAL '2 seconds', ts) AS w, key, v FROM events
           UNION ALL SELECT date_bin(INTERVAL '2 seconds', ts) - INTERVAL '2 seconds', key, v FROM events
           UNION ALL SELECT date_bin(INTERVAL '2 seconds', ts) - INTERVAL '4 seconds', key, v FROM events
           UNION ALL SELECT date_bin(INTERVAL '2 seconds', ts) - INTERVAL '6 seconds', key, v FROM events
           UNION ALL SELECT date_bin(INTERVAL '2 seconds', ts) - INTERVAL '8 seconds', key, v FROM events
         ) GROUP BY 1, 2",
    ),
    (
        "updating",
        "SELECT key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY key",
        "SELECT key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY key",
    ),
    ("session 10 s", "SELECT session(INTERVAL '10 seconds') AS w, key, count(*) AS n FROM events GROUP BY 1, 2", ""),
];

struct Memory(std::vec::IntoIter<RecordBatch>);

impl Source for Memory {
    fn read(&mut self) -> millstream::Result<Read> {
        Ok(Read { batch: self.0.next(), rejected: Vec::new() })
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("key", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
    ]))
}

/// 10,000 events a second of event time, keys by a seeded generator (SplitMix64).
fn batches(rows: usize, keys: u64) -> Vec<RecordBatch> {
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..rows.div_ceil(ROWS_PER_BATCH))
        .map(|b| {
            let from = b * ROWS_PER_BATCH;
            let n = ROWS_PER_BATCH.min(rows - from);
            let ts: Vec<i64> = (from..from + n).map(|i| 1_700_000_000 * SECOND + i as i64 * 100_000).collect();
            let key: Vec<i64> = (0..n).map(|_| (random() % keys) as i64).collect();
            let v: Vec<i64> = (0..n).map(|_| (random() % 1000) as i64).collect();
            let columns: Vec<arrow::array::ArrayRef> = vec![
                Arc::new(TimestampNanosecondArray::from(ts)),
                Arc::new(Int64Array::from(key)),
                Arc::new(Int64Array::from(v)),
            ];
            RecordBatch::try_new(schema(), columns).expect("columns fit")
        })
        .collect()
}

fn stream(sql: &str, batches: &[RecordBatch], workers: usize) -> u64 {
    let mut program = Program::default();
    let table = "CREATE TABLE events (ts TIMESTAMP NOT NULL, key BIGINT NOT NULL, v BIGINT NOT NULL, WATERMARK FOR ts) \
                 WITH (connector = 'single_file', path = '-', format = 'json'); \
                 ";
    program.execute(&format!("{table}{sql}"), "bench").expect("the query plans");
    let source = Box::new(Memory(Vec::from(batches).into_iter()));
    let sources = vec![SourceSpec {
        table: program.catalog.tables["events"].clone(),
        input: Input::Bounded { source, rate_limit: None, fail_on_bad_data: false },
        rejected: None,
    }];
    // Changes are measured as the operator sends them, without the shape that sinks give them.
    let plan = &program.pipelines["stdout"].plan;
    let plan = plan.inputs().first().filter(|input| input.properties().updating).unwrap_or(plan).clone();
    let pipelines = vec![PipelineSpec {
        name: "sink".into(),
        plan,
        target: Target { sink: Box::new(Blackhole), commit: None },
        sides: millstream::runtime::sides::Sides::default(),
    }];
    let setup = Setup {
        sources,
        pipelines,
        workers,
        interval: None,
        checkpoints: None,
        restored: None,
        log: None,
        clock: Arc::new(SystemClock),
        inline: false,
    };
    let runtime = Runtime::start(setup).expect("starts");
    runtime.join().expect("runs");
    runtime.sum(|c| &c.rows_out)
}

fn batch(sql: &str, batches: &[RecordBatch], partitions: usize) -> u64 {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(partitions).build().expect("starts");
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    let per = batches.len().div_ceil(partitions);
    let parts = batches.chunks(per).map(<[RecordBatch]>::to_vec).collect();
    context.register_table("events", Arc::new(MemTable::try_new(schema(), parts).expect("fits"))).expect("registers");
    tokio.block_on(async {
        let rows = context.sql(sql).await.expect("plans").collect().await.expect("runs");
        rows.iter().map(|b| b.num_rows() as u64).sum()
    })
}

fn main() {
    let rows: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(5_000_000);
    println!("{rows} rows, medians of {RUNS}; ratio = batch wall / stream wall; CPU-s per million rows");
    println!(
        "{:<16}{:>10}{:>9}{:>12}{:>12}{:>12}{:>12}{:>8}",
        "query", "keys", "threads", "stream M/s", "batch M/s", "stream CPU", "batch CPU", "ratio"
    );
    for keys in [100, 10_000, 1_000_000] {
        let data = batches(rows, keys);
        for (name, ours, theirs) in QUERIES {
            for threads in [1, 2] {
                let (mut a, mut b) = (Vec::<Cost>::new(), Vec::<Cost>::new());
                // Once uncounted: the first run reads the program from disk.
                stream(ours, &data, threads);
                for _ in 0..RUNS {
                    let (n, cost) = measure(|| stream(ours, &data, threads));
                    a.push(cost);
                    if !theirs.is_empty() {
                        let (m, cost) = measure(|| batch(theirs, &data, threads));
                        b.push(cost);
                        assert!(n == m || name == "updating", "{name}: rows of the stream and of the batch");
                    }
                }
                let millions = rows as f64 / 1e6;
                let a = median(a);
                let ours = format!("{name:<16}{keys:>10}{threads:>9}{:>12.2}", millions / a.wall_s);
                if b.is_empty() {
                    println!("{ours}{:>12}{:>12.3}{:>12}{:>8}", "-", a.cpu_s / millions, "-", "-");
                } else {
                    let b = median(b);
                    println!(
                        "{ours}{:>12.2}{:>12.3}{:>12.3}{:>8.2}",
                        millions / b.wall_s,
                        a.cpu_s / millions,
                        b.cpu_s / millions,
                        b.wall_s / a.wall_s
                    );
                }
            }
        }
    }
}

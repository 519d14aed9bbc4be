//! The Nexmark queries over in-memory events: events a second and CPU-seconds per million rows read, beside the same
//! question as a DataFusion batch over the same rows in the same run, and the best streaming peer.
//!
//! `cargo run --bin nexmark [events] [queries]`, such as `nexmark 2000000 q0,q5,q12`. Ratio: batch wall / stream wall;
//! above 1, the stream is faster. Generating the events is measured by itself first and is in no other figure.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream::connectors::blackhole::Blackhole;
use millstream::connectors::{Connector, Read, Source};
use millstream::engine::{RunOptions, run_file};
use millstream::runtime::pipeline::{PipelineSpec, Target};
use millstream::runtime::sides::Sides;
use millstream::runtime::sources::{Input, SourceSpec};
use millstream::runtime::{Runtime, Setup};
use millstream::sql::program::Program;
use millstream::time::SystemClock;
use millstream_benches::{Cost, measure, median};

const RUNS: usize = 3;
const TABLES: [&str; 3] = ["person", "auction", "bid"];

/// CPU-seconds per million rows of the best streaming peer, on this class of machine, two cores, input from files.
const PEERS: [(&str, f64, &str); 13] = [
    ("q0", 0.32, "clink"),
    ("q1", 0.85, "Flink"),
    ("q2", 0.165, "clink"),
    ("q4", 8.0, "Flink"),
    ("q5", 1.71, "clink"),
    ("q7", 15.0, "Flink"),
    ("q8", 2.27, "clink"),
    ("q11", 0.40, "clink"),
    ("q12", 0.36, "clink"),
    ("q15", 11.4, "clink"),
    ("q17", 8.9, "Flink"),
    ("q18", 8.4, "Flink"),
    ("q19", 9.9, "clink"),
];

/// Batch forms where a query's own text is none: windows, and what DataFusion writes otherwise.
const BATCH: [(&str, &str); 5] = [
    (
        "q5",
        "WITH p AS (SELECT auction, date_bin(INTERVAL '2 seconds', datetime) AS pane, count(*) AS c FROM bid GROUP BY 1, 2),
         w AS (SELECT auction, pane - o.x AS ws, sum(c) AS num FROM p, (VALUES (INTERVAL '0 seconds'),
           (INTERVAL '2 seconds'), (INTERVAL '4 seconds'), (INTERVAL '6 seconds'), (INTERVAL '8 seconds')) AS o(x)
           GROUP BY 1, 2),
         m AS (SELECT ws, max(num) AS mx FROM w GROUP BY 1)
         SELECT w.auction, w.num, w.ws FROM w JOIN m ON w.ws = m.ws WHERE w.num = m.mx",
    ),
    (
        "q7",
        "WITH m AS (SELECT date_bin(INTERVAL '10 seconds', datetime) AS ws, max(price) AS mx FROM bid GROUP BY 1)
         SELECT b.auction, b.price, b.bidder, b.datetime, b.extra
         FROM (SELECT *, date_bin(INTERVAL '10 seconds', datetime) AS ws FROM bid) AS b
         JOIN m ON b.ws = m.ws AND b.price = m.mx",
    ),
    (
        "q8",
        "SELECT p.id, p.name, p.ws
         FROM (SELECT id, name, date_bin(INTERVAL '10 seconds', datetime) AS ws FROM person GROUP BY 1, 2, 3) AS p
         JOIN (SELECT seller, date_bin(INTERVAL '10 seconds', datetime) AS ws FROM auction GROUP BY 1, 2) AS a
         ON p.id = a.seller AND p.ws = a.ws",
    ),
    (
        "q11",
        "WITH g AS (SELECT bidder, datetime AS t, CASE WHEN datetime - lag(datetime) OVER (PARTITION BY bidder
           ORDER BY datetime) < INTERVAL '10 seconds' THEN 0 ELSE 1 END AS nw FROM bid),
         s AS (SELECT bidder, t, sum(nw) OVER (PARTITION BY bidder ORDER BY t) AS sid FROM g)
         SELECT bidder, sid, count(*), min(t), max(t) FROM s GROUP BY 1, 2",
    ),
    (
        "q12",
        "SELECT bidder, date_bin(INTERVAL '10 seconds', datetime) AS ws, count(*) AS bids FROM bid GROUP BY 1, 2",
    ),
];

/// Queries without a batch form of one statement.
const NO_BATCH: [&str; 1] = ["q13"];

struct Memory(std::vec::IntoIter<RecordBatch>);

impl Source for Memory {
    fn read(&mut self) -> millstream::Result<Read> {
        Ok(Read { batch: self.0.next(), rejected: Vec::new() })
    }
}

struct Events {
    tables: Vec<(&'static str, SchemaRef, Vec<RecordBatch>)>,
}

impl Events {
    fn of(&self, table: &str) -> &(&'static str, SchemaRef, Vec<RecordBatch>) {
        self.tables.iter().find(|t| t.0 == table).expect("one of three tables")
    }

    fn rows(&self, table: &str) -> usize {
        self.of(table).2.iter().map(RecordBatch::num_rows).sum()
    }
}

fn text(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("{}/nexmark/{name}", env!("CARGO_MANIFEST_DIR"))).ok()
}

fn tables(events: u64) -> String {
    text("tables.sql").expect("tables.sql is there").replace("$source", &format!("events = {events}"))
}

fn generate(events: u64) -> Events {
    let mut program = Program::default();
    program.execute(&tables(events), "tables.sql").expect("tables are declared");
    let all = TABLES.map(|name| {
        let table = &program.catalog.tables[name];
        let Connector::Nexmark(options) = &table.connector else { panic!("a Nexmark table") };
        let mut source = options.open(table.arriving.clone()).expect("opens");
        let batches = std::iter::from_fn(|| source.read().expect("reads").batch).collect();
        (name, table.arriving.clone(), batches)
    });
    Events { tables: all.into() }
}

fn program(query: &str, events: u64, side: &str) -> millstream::Result<Program> {
    let sql = tables(events) + &text(&format!("{query}.sql")).expect("the query is there");
    let declared = |sink: &str| {
        let mut program = Program::default();
        program.execute(&sql.replace("$sink", sink).replace("$side", side), query).map(|()| program)
    };
    // Results that change need a sink that takes changes; making them is part of the work.
    declared("connector = 'blackhole'").or_else(|_| declared("connector = 'blackhole', format = 'debezium_json'"))
}

/// A run over the events in memory; rows out, or why not.
fn stream(program: &Program, query: &str, events: &Events, workers: usize) -> millstream::Result<u64> {
    let plan = program.pipelines[query].plan.clone();
    let sources = plan
        .sources()
        .iter()
        .map(|name| SourceSpec {
            table: program.catalog.tables[name].clone(),
            input: Input::Bounded {
                source: Box::new(Memory(events.of(name).2.clone().into_iter())),
                rate_limit: None,
                fail_on_bad_data: false,
            },
            rejected: None,
        })
        .collect();
    let target = Target { sink: Box::new(Blackhole), commit: None };
    let runtime = Runtime::start(Setup {
        sources,
        pipelines: vec![PipelineSpec { name: query.into(), plan, target, sides: Sides::default() }],
        workers,
        interval: None,
        checkpoints: None,
        restored: None,
        log: None,
        clock: Arc::new(SystemClock),
        inline: false,
    })?;
    runtime.join()?;
    Ok(runtime.sum(|c| &c.rows_out))
}

fn batch(sql: &str, events: &Events, partitions: usize) -> Result<usize, String> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(partitions).build().expect("starts");
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    for (name, schema, batches) in &events.tables {
        let parts = batches.chunks(batches.len().div_ceil(partitions)).map(<[RecordBatch]>::to_vec).collect();
        let table = MemTable::try_new(schema.clone(), parts).expect("fits");
        context.register_table(*name, Arc::new(table)).expect("registers");
    }
    tokio.block_on(async {
        let rows = context.sql(sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
        Ok(rows.iter().map(RecordBatch::num_rows).sum())
    })
}

/// The batch's cost, if it has a form; a query's own text where no other is given.
fn batch_cost(query: &str, events: &Events, partitions: usize) -> Option<Cost> {
    if NO_BATCH.contains(&query) {
        return None;
    }
    let given = BATCH.iter().find(|(q, _)| *q == query).map(|(_, sql)| sql.to_string());
    let own = || text(&format!("{query}.sql"))?.split_once(&format!("INSERT INTO {query}\n")).map(|s| s.1.to_string());
    let sql = given.or_else(own)?;
    let sql = sql.trim().trim_end_matches(';');
    if let Err(e) = batch(sql, events, partitions) {
        println!("{query}: no batch: {}", e.lines().next().unwrap_or_default());
        return None;
    }
    Some(median((0..RUNS).map(|_| measure(|| batch(sql, events, partitions)).1).collect()))
}

fn print_generation(events: u64) {
    println!("generation, one thread: all columns of a table");
    for table in TABLES {
        let sql = format!(
            "{} CREATE TABLE sink WITH (connector = 'blackhole'); INSERT INTO sink SELECT * FROM {table};",
            tables(events)
        );
        let (summary, cost) = measure(|| run_file(&sql, "generation", &RunOptions::default()).expect("runs"));
        let millions = summary.rows_out as f64 / 1e6;
        println!(
            "  {table:<10}{:>10.2} M events/s{:>10.3} CPU-s per million rows",
            events as f64 / 1e6 / cost.wall_s,
            cost.cpu_s / millions
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let count: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(1_000_000);
    let wanted: Option<Vec<String>> = args.next().map(|a| a.split(',').map(str::to_string).collect());
    let side = std::env::temp_dir().join(format!("millstream-nexmark-{}", std::process::id()));
    std::fs::create_dir_all(&side).expect("a temporary folder");
    let lines: String = (0..10_000).map(|key| format!("{key},value-{key}\n")).collect();
    std::fs::write(side.join("side_input.csv"), format!("key,value\n{lines}")).expect("a temporary file");
    let side_path = side.display().to_string();

    print_generation(count);
    let started = Instant::now();
    let events = generate(count);
    println!("{count} events in memory after {:.1} s; medians of {RUNS}", started.elapsed().as_secs_f64());
    println!(
        "{:<6}{:>8}{:>12}{:>12}{:>12}{:>12}{:>8}{:>14}",
        "query", "threads", "stream M/s", "batch M/s", "stream CPU", "batch CPU", "ratio", "best peer CPU"
    );
    for query in (0..=22).map(|n| format!("q{n}")).filter(|q| wanted.as_ref().is_none_or(|w| w.contains(q))) {
        let program = match program(&query, count, &side_path) {
            Ok(program) => program,
            Err(e) => {
                println!("{query}: {}", e.to_string().lines().next().unwrap_or_default());
                continue;
            }
        };
        let rows: usize = program.pipelines[&query].plan.sources().iter().map(|t| events.rows(t)).sum();
        let millions = rows as f64 / 1e6;
        for threads in [1, 2] {
            // Once uncounted: the first run reads the program from disk.
            if let Err(e) = stream(&program, &query, &events, threads) {
                println!("{query}: {}", e.to_string().lines().next().unwrap_or_default());
                break;
            }
            let ours = (0..RUNS).map(|_| measure(|| stream(&program, &query, &events, threads)).1).collect();
            let ours = median(ours);
            let theirs = batch_cost(&query, &events, threads);
            let peer = PEERS.iter().find(|p| p.0 == query);
            let peer = peer.map_or("-".to_string(), |(_, cost, name)| format!("{cost} {name}"));
            let (rate, cost, ratio) = match theirs {
                Some(b) => (
                    format!("{:.2}", millions / b.wall_s),
                    format!("{:.3}", b.cpu_s / millions),
                    format!("{:.2}", b.wall_s / ours.wall_s),
                ),
                None => ("-".into(), "-".into(), "-".into()),
            };
            println!(
                "{query:<6}{threads:>8}{:>12.2}{rate:>12}{:>12.3}{cost:>12}{ratio:>8}{peer:>14}",
                millions / ours.wall_s,
                ours.cpu_s / millions
            );
        }
    }
    let _left = std::fs::remove_dir_all(side);
}

//! The Nexmark queries over in-memory events: events a second and CPU-seconds per million rows read, beside the same
//! question as a DataFusion batch and to DuckDB over the same rows in the same run, and what other engines cost on files.
//!
//! `target/debug/nexmark [events] [queries] [threads]`, such as `nexmark 2000000 q0,q5,q12 1,2`. Ratios are of CPU time
//! but for one column: above 1, the stream is cheaper. Generating the events is measured by itself first and is in no other figure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use millstream::connectors::Connector;
use millstream::engine::{RunOptions, run_file};
use millstream::operators::join::lookup::LookupSource;
use millstream::sql::program::Program;
use millstream_benches::sides::{Table, batch, stream};
use millstream_benches::{RUNS, duckdb, head, line, measure, peers, repeat};

const TABLES: [&str; 3] = ["person", "auction", "bid"];

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

fn text(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("{}/nexmark/{name}", env!("CARGO_MANIFEST_DIR"))).ok()
}

fn tables(events: u64) -> String {
    text("tables.sql").expect("tables.sql is there").replace("$source", &format!("events = {events}"))
}

/// The events of the three tables, and the side input of q13.
fn generate(events: u64) -> Vec<Table> {
    let mut program = Program::default();
    program.execute(&tables(events), "tables.sql").expect("tables are declared");
    let read = |name: &'static str| {
        let table = &program.catalog.tables[name];
        let Connector::Nexmark(options) = &table.connector else { panic!("a Nexmark table") };
        let mut source = options.open(table.arriving.clone()).expect("opens");
        let batches = std::iter::from_fn(|| source.read().expect("reads").batch).collect();
        (name, table.arriving.clone(), batches)
    };
    let mut all: Vec<Table> = TABLES.into_iter().map(read).collect();
    let field = |name: &str, t| Field::new(name, t, true);
    let schema = Arc::new(Schema::new(vec![field("key", DataType::Int64), field("value", DataType::Utf8)]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..10_000)),
        Arc::new(StringArray::from_iter_values((0..10_000).map(|key| format!("value-{key}")))),
    ];
    let side = RecordBatch::try_new(schema.clone(), columns).expect("columns fit");
    all.push(("side_input", schema, vec![side]));
    all
}

fn program(query: &str, events: u64, side: &RecordBatch) -> millstream::Result<Program> {
    let sql = tables(events) + &text(&format!("{query}.sql")).expect("the query is there");
    let declared = |sink: &str| {
        let mut program = Program::default();
        program.execute(&sql.replace("$sink", sink).replace("$side", "/nowhere"), query).map(|()| program)
    };
    // Results that change need a sink that takes changes; making them is part of the work.
    let program = declared("connector = 'blackhole'")
        .or_else(|_| declared("connector = 'blackhole', format = 'debezium_json'"))?;
    for lookup in program.pipelines[query].plan.lookups() {
        let side = side.clone();
        lookup.connect(LookupSource { schema: side.schema(), ttl: None, fetch: Box::new(move || Ok(side.clone())) });
    }
    Ok(program)
}

/// A query as a batch: the text given for that engine, else what follows `INSERT INTO`.
fn as_batch(query: &str, given: Option<String>) -> String {
    let own = || {
        let sql = text(&format!("{query}.sql")).expect("the query is there");
        sql.split_once(&format!("INSERT INTO {query}\n")).map_or(sql.clone(), |s| s.1.to_string())
    };
    given.unwrap_or_else(own).trim().trim_end_matches(';').to_string()
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
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1_000_000);
    let wanted: Option<Vec<String>> =
        arguments.next().filter(|a| a != "all").map(|a| a.split(',').map(str::to_string).collect());
    let threads: Vec<usize> =
        arguments.next().map_or(vec![1], |a| a.split(',').filter_map(|n| n.parse().ok()).collect());
    let queries: Vec<String> =
        (0..=22).map(|n| format!("q{n}")).filter(|q| wanted.as_ref().is_none_or(|w| w.contains(q))).collect();

    print_generation(count);
    let started = Instant::now();
    let events = generate(count);
    println!("{count} events in memory after {:.1} s; medians of {RUNS}", started.elapsed().as_secs_f64());
    head("query", &["best streaming peer", "best batch on files"]);
    for threads in threads {
        let asked: BTreeMap<String, String> =
            queries.iter().map(|q| (q.clone(), as_batch(q, text(&format!("{q}.duckdb.sql"))))).collect();
        let duckdb = duckdb::costs(&events, &asked, threads).unwrap_or_else(|e| {
            println!("DuckDB: {e}");
            BTreeMap::new()
        });
        for query in &queries {
            print_query(query, count, &events, threads, duckdb.get(query).copied());
        }
    }
}

fn print_query(query: &str, count: u64, events: &[Table], threads: usize, duckdb: Option<millstream_benches::Cost>) {
    let side = events.iter().find(|t| t.0 == "side_input").map(|t| t.2[0].clone()).expect("generated");
    let program = program(query, count, &side).expect("the query plans");
    let plan = &program.pipelines[query].plan;
    let read = |name: &String| {
        events.iter().filter(|t| t.0 == name).flat_map(|t| &t.2).map(RecordBatch::num_rows).sum::<usize>()
    };
    let rows = plan.sources().iter().map(read).sum();
    let ours = repeat(|| {
        stream(&program, plan, events, threads).expect("the stream runs");
    });
    let given = BATCH.iter().find(|(q, _)| *q == query).map(|(_, sql)| sql.to_string());
    let sql = as_batch(query, given);
    let theirs = match batch(&sql, events, threads) {
        Ok(_) => Some(repeat(|| {
            batch(&sql, events, threads).expect("it has run before");
        })),
        Err(e) => {
            println!("{query}: no DataFusion batch: {e}");
            None
        }
    };
    println!("{}{}", line(query, threads, rows, ours, theirs, duckdb), peers::cells(&peers::NEXMARK, query));
}

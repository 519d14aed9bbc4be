//! Loads the ingest service: events a second, and CPU-seconds per million events.
//!
//! ```text
//! ingest_load                                 decoders alone; then the server in this process without a log, and with one
//! ingest_load --endpoint URL --key KEY        a server that runs elsewhere (its CPU time is not known here)
//! options: --events N (2000000)  --batch-rows N (500)  --connections N (4)  --in-flight N (32)
//! ```
//!
//! The server has a runtime of its own, whose threads' CPU time is read from /proc: the client's is not counted.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::ipc::writer::StreamWriter;
use millstream::time::{Clock, SystemClock};
use millstream::{Ack, Append, Engine, Options, TableInfo};
use millstream_proto::envelope::EventBatch;
use millstream_proto::v1::{ApiEvent, ApiEvents, ArrowRows, JsonRows};
use millstream_server::ingest::client::{self, Client};
use millstream_server::ingest::decode::Decoder;
use millstream_server::ingest::{IngestConfig, Sink, ipc, json, schema_of, serve};
use millstream_server::keys::{Keys, Role};
use prost::Message;
use tokio::runtime::{Builder, Runtime};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Different batches that are sent in turn.
const PAYLOADS: usize = 40;

/// Takes everything and keeps nothing: the server without its log.
struct Blackhole(TableInfo);

impl Sink for Blackhole {
    async fn append(&self, rows: Append) -> millstream::Result<Ack> {
        Ok(Ack { offset: 0, accepted: rows.batch.num_rows() as u64, duplicates: 0, future: Vec::new() })
    }

    fn table(&self, name: &str) -> Option<TableInfo> {
        (name == self.0.name).then(|| self.0.clone())
    }

    fn tables(&self) -> Vec<TableInfo> {
        vec![self.0.clone()]
    }
}

struct Load {
    events: usize,
    batch_rows: usize,
    connections: usize,
    in_flight: usize,
    endpoint: Option<String>,
    key: String,
}

fn main() -> Outcome {
    let load = arguments()?;
    let rows = typed(&load);
    let bytes: usize = rows.iter().map(|batch| batch.api.as_ref().map_or(0, |rows| rows.len())).sum();
    println!("{} bytes an event, {} events a batch", bytes / (PAYLOADS * load.batch_rows), load.batch_rows);
    let arrow = arrow(&rows)?;
    if let Some(endpoint) = &load.endpoint {
        report("rows", &load, drive(&load, endpoint, &load.key, &rows)?, None);
        report("Arrow IPC", &load, drive(&load, endpoint, &load.key, &arrow)?, None);
        return Ok(());
    }
    decoders(&load, &rows, &arrow)?;
    for (name, payloads) in [("rows, no log", &rows), ("Arrow IPC, no log", &arrow)] {
        let sink = Arc::new(Blackhole(table()?));
        with_server(name, &load, payloads, |_| Ok(sink))?;
    }
    for (name, payloads) in [("rows, durable", &rows), ("Arrow IPC, durable", &arrow)] {
        let outcome = with_server(name, &load, payloads, |runtime| {
            let dir = tempfile::tempdir()?.keep();
            let engine = runtime.block_on(engine(&dir))?;
            Ok(Arc::new(engine))
        });
        if let Err(e) = outcome {
            println!("{name}: {e}");
        }
    }
    Ok(())
}

fn arguments() -> Outcome<Load> {
    let mut load =
        Load { events: 2_000_000, batch_rows: 500, connections: 4, in_flight: 32, endpoint: None, key: String::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--events" => load.events = value.parse()?,
            "--batch-rows" => load.batch_rows = value.parse()?,
            "--connections" => load.connections = value.parse()?,
            "--in-flight" => load.in_flight = value.parse()?,
            "--endpoint" => load.endpoint = Some(value),
            "--key" => load.key = value,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(load)
}

fn table() -> Outcome<TableInfo> {
    let schema = schema_of("ApiEvent")?;
    Ok(TableInfo {
        name: "api_events".into(),
        schema,
        connector: "ingest".into(),
        event_time: Some("event_time".into()),
    })
}

async fn engine(dir: &std::path::Path) -> millstream::Result<Engine> {
    let engine = Engine::open(Options::new(dir)).await?;
    engine.register_message("ApiEvent", schema_of("ApiEvent")?)?;
    let sql = "CREATE TABLE api_events (WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds') \
               WITH (connector = 'ingest', message = 'ApiEvent')";
    engine.execute(sql, "ingest_load").await?;
    engine.start().await?;
    Ok(engine)
}

/// Batches of typed events as producers send them.
fn typed(load: &Load) -> Vec<EventBatch> {
    let batch = |p: usize| {
        let events = (0..load.batch_rows).map(|i| event(p * load.batch_rows + i)).collect();
        EventBatch { api: Some(ApiEvents { events }.encode_to_vec().into()), ..EventBatch::default() }
    };
    (0..PAYLOADS).map(batch).collect()
}

/// An API request of about 142 bytes.
fn event(i: usize) -> ApiEvent {
    ApiEvent {
        event_id: format!("0192a1b2-c3d4-7e5f-8a9b-{i:012x}"),
        event_time: Some(prost_types::Timestamp { seconds: 1_790_000_000 + (i / 500) as i64, nanos: 123_456_000 }),
        user_id: format!("user{:05}", i * 7 % 20_000),
        account_id: format!("org{:03}", i % 300),
        source_version: "2.14.1".into(),
        route: ["/v1/completions", "/v1/users/{id}", "/v1/agents"][i % 3].into(),
        method: ["GET", "POST"][i % 2].into(),
        status_code: Some([200, 200, 200, 404, 500][i % 5]),
        latency_ms: Some(1.5 + (i % 997) as f64 / 3.0),
        service: "gateway".into(),
        tier: ["free", "pro", "team"][i % 3].into(),
        country: ["DE", "US", "JP", "BR"][i % 4].into(),
        ..ApiEvent::default()
    }
}

/// The same batches as Arrow IPC.
fn arrow(rows: &[EventBatch]) -> Outcome<Vec<EventBatch>> {
    let decoder = Decoder::new("ApiEvent", &schema_of("ApiEvent")?, Some("event_time"))?;
    let mut batches = Vec::new();
    for batch in rows {
        let decoded = decoder.decode(batch.api.as_ref().ok_or("no rows")?, 1_000_000)?;
        let mut writer = StreamWriter::try_new(Vec::new(), decoder.schema())?;
        writer.write(&decoded.batch)?;
        let rows = ArrowRows { table: "api_events".into(), ipc_stream: writer.into_inner()?.into() };
        batches.push(EventBatch { arrow: Some(rows.encode_to_vec().into()), ..EventBatch::default() });
    }
    Ok(batches)
}

/// The CPU time of each decoder alone, on one thread.
fn decoders(load: &Load, rows: &[EventBatch], arrow: &[EventBatch]) -> Outcome {
    let table = table()?;
    let decoder = Decoder::new("ApiEvent", &table.schema, Some("event_time"))?;
    let lists: Vec<_> = rows.iter().filter_map(|batch| batch.api.clone()).collect();
    measure("prost structs", load, |i| Ok(ApiEvents::decode(lists[i].clone())?.events.len()))?;
    measure("rows to columns", load, |i| Ok(decoder.decode(&lists[i], 1_000_000)?.batch.num_rows()))?;
    let streams: Vec<_> = arrow.iter().filter_map(|batch| ArrowRows::decode(batch.arrow.clone()?).ok()).collect();
    measure("Arrow IPC", load, |i| {
        Ok(ipc::decode(&table, streams[i].ipc_stream.clone(), 1_000_000)?.batch.num_rows())
    })?;
    let mut texts = Vec::new();
    for list in &lists {
        let batch = decoder.decode(list, 1_000_000)?.batch;
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        writer.write(&batch)?;
        writer.finish()?;
        let text = writer.into_inner();
        let rows = text.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).map(|row| row.to_vec().into());
        texts.push(JsonRows { table: "api_events".into(), rows: rows.collect() });
    }
    measure("JSON", load, |i| Ok(json::decode(&table, &texts[i].rows, 1_000_000)?.batch.num_rows()))
}

fn measure(name: &str, load: &Load, mut decode: impl FnMut(usize) -> Outcome<usize>) -> Outcome {
    let rounds = (load.events / load.batch_rows).max(PAYLOADS);
    let before = cpu_of("")?;
    for i in 0..rounds {
        let rows = decode(i % PAYLOADS)?;
        if rows != load.batch_rows {
            return Err(format!("{name}: {rows} rows of {} decoded", load.batch_rows).into());
        }
    }
    let cpu = cpu_of("")? - before;
    println!("decode {name:<18} {:>6.3} CPU-s per million", per_million(cpu, rounds * load.batch_rows));
    Ok(())
}

/// Runs a server in this process and loads it.
fn with_server<S: Sink>(
    name: &str,
    load: &Load,
    payloads: &[EventBatch],
    sink: impl FnOnce(&Runtime) -> Outcome<Arc<S>>,
) -> Outcome {
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("server").enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let keys = Arc::new(Keys::open(dir.path(), Arc::new(SystemClock))?);
    let key = keys.create("load", Role::Producer, None)?;
    let sink = sink(&runtime)?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let config = IngestConfig { message_bytes_max: 16 << 20, ..IngestConfig::default() };
    runtime.spawn(serve(sink, keys, config, listener, Default::default(), std::future::pending()));
    let before = cpu_of("server")?;
    let elapsed = drive(load, &endpoint, &key, payloads)?;
    report(name, load, elapsed, Some(cpu_of("server")? - before));
    // Its threads must be gone before the next server's are measured.
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(())
}

/// Sends all events over all connections; the time until the last receipt.
fn drive(load: &Load, endpoint: &str, key: &str, payloads: &[EventBatch]) -> Outcome<Duration> {
    let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("producer").enable_all().build()?;
    let batches = load.events / load.batch_rows / load.connections;
    // A new epoch on each run, so that a server that knows the producers takes them.
    let epoch = SystemClock.now() as u64;
    let started = Instant::now();
    let producers: Vec<_> = (0..load.connections)
        .map(|n| {
            let mut options = client::Options::new(endpoint, key, format!("load{n}"), epoch);
            options.in_flight_max = load.in_flight;
            let payloads = payloads.to_vec();
            runtime.spawn(async move {
                let mut client = Client::start(options, |_| {})?;
                for i in 0..batches {
                    if !client.send_encoded(payloads[i % payloads.len()].clone()).await {
                        break;
                    }
                }
                client.finish().await
            })
        })
        .collect();
    let mut accepted = 0;
    for producer in producers {
        accepted += runtime.block_on(producer)??.accepted;
    }
    let sent = (batches * load.connections * load.batch_rows) as u64;
    if accepted != sent {
        return Err(format!("{accepted} of {sent} events were accepted").into());
    }
    Ok(started.elapsed())
}

fn report(name: &str, load: &Load, elapsed: Duration, cpu: Option<Duration>) {
    let rate = load.events as f64 / elapsed.as_secs_f64();
    print!("{name:<20} {:>9.0} events/s", rate);
    if let Some(cpu) = cpu {
        print!("  {:>6.3} CPU-s per million on the server", per_million(cpu, load.events));
    }
    println!();
}

fn per_million(cpu: Duration, events: usize) -> f64 {
    cpu.as_secs_f64() / events as f64 * 1e6
}

/// CPU time of this process's threads whose names begin so; dead threads are not counted.
fn cpu_of(name: &str) -> Outcome<Duration> {
    let mut total = HashMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        let (Ok(comm), Ok(stat)) =
            (std::fs::read_to_string(path.join("comm")), std::fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        if comm.starts_with(name) {
            let nanos: u64 = stat.split_whitespace().next().ok_or("schedstat is empty")?.parse()?;
            total.insert(path, Duration::from_nanos(nanos));
        }
    }
    Ok(total.values().sum())
}

//! Exactly once from gRPC to Delta: the real server under load, killed at random moments and started again. At the end
//! the raw table, windows, sessions and late rows must be those of a server that nobody disturbed, computed here from
//! what was sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use millstream_proto::v1::JsonRows;
use millstream_proto::v1::event_batch::Events;
use millstream_server::ingest::client::{Client, Options, Totals};
use millstream_tests::Table;
use millstream_tests::program::{PATIENCE, Server};
use millstream_tests::random::{Random, hash, seeds};
use tokio::task::JoinHandle;

const RUNS: u64 = 5;
/// However many seeds are asked for.
const RUNS_MAX: usize = 20;
const KILLS_PER_RUN: u64 = 10;
/// Producers of `clicks`, whose events are never late. `orders` has one more, whose events often are.
const CLICKERS: u64 = 4;
const ROWS_PER_BATCH: u64 = 20;
/// 2024-01-01T00:00:00Z, milliseconds.
const START_MS: i64 = 1_704_067_200_000;
/// The last batch of every producer is a month later and closes every window before it.
const END_MS: i64 = START_MS + 31 * 86_400_000;
const DELAY_MS: i64 = 1_000;
const CLICK_WINDOW_MS: i64 = 10_000;
const ORDER_WINDOW_MS: i64 = 5_000;
const GAP_MS: i64 = 5_000;

const SOURCES: &str = "\
CREATE TABLE clicks (producer BIGINT, i BIGINT, user_id BIGINT, amount BIGINT, event_time TIMESTAMP,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 second') WITH (connector = 'ingest');
CREATE TABLE orders (producer BIGINT, i BIGINT, user_id BIGINT, amount BIGINT, event_time TIMESTAMP,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 second') WITH (connector = 'ingest');
";
const PIPELINES: [(&str, &str); 4] = [
    ("raw_clicks.sql", "INSERT INTO raw_clicks SELECT producer, i, amount, event_time FROM clicks;"),
    (
        "click_windows.sql",
        "INSERT INTO click_windows
         SELECT w['start'] AS window_start, CAST(w['start'] AS BIGINT) / 1000000 AS start_ms, user_id, n, total
         FROM (SELECT tumble(INTERVAL '10 seconds') AS w, user_id, count(*) AS n, sum(amount) AS total
               FROM clicks GROUP BY 1, user_id);",
    ),
    (
        "click_sessions.sql",
        "INSERT INTO click_sessions
         SELECT first_event, CAST(first_event AS BIGINT) / 1000000 AS first_ms,
                CAST(last_event AS BIGINT) / 1000000 AS last_ms, user_id, n, total
         FROM (SELECT session(INTERVAL '5 seconds') AS w, user_id, min(event_time) AS first_event,
                      max(event_time) AS last_event, count(*) AS n, sum(amount) AS total
               FROM clicks GROUP BY 1, user_id);",
    ),
    (
        "order_windows.sql",
        "INSERT INTO order_windows
         SELECT w['start'] AS window_start, CAST(w['start'] AS BIGINT) / 1000000 AS start_ms, n, ids
         FROM (SELECT tumble(INTERVAL '5 seconds') AS w, count(*) AS n, sum(i) AS ids FROM orders GROUP BY 1);",
    ),
];

/// State of a given size.
const BALLAST: [(&str, &str); 2] = [
    (
        "ballast.sql",
        "CREATE TABLE ballast (key BIGINT, payload TEXT, event_time TIMESTAMP, WATERMARK FOR event_time)
         WITH (connector = 'ingest');",
    ),
    (
        "ballast_windows.sql",
        "INSERT INTO ballast_windows SELECT key, n, payload FROM
         (SELECT tumble(INTERVAL '1 day') AS w, key, count(*) AS n, max(payload) AS payload FROM ballast GROUP BY 1, 2);",
    ),
];
const BALLAST_BATCH: u64 = 3_000;

struct Event {
    user: u64,
    amount: i64,
    time_ms: i64,
}

/// Event `i` of a producer. The first batch of each is at one time, so that no producer comes too late for the others.
fn event(seed: u64, producer: u64, i: u64) -> Event {
    let h = hash(&[seed, producer, i]);
    let (user, amount) = ((i / 40) % 8, (h % 1_000) as i64);
    let time_ms = match i {
        0..ROWS_PER_BATCH => START_MS,
        _ if producer < CLICKERS => START_MS + i as i64 * 37 + (h >> 16) as i64 % 900,
        _ if h.is_multiple_of(7) => START_MS + (i as i64 * 100 - (h >> 16) as i64 % 30_000).max(0),
        _ => START_MS + i as i64 * 100 - (h >> 16) as i64 % 500,
    };
    Event { user, amount, time_ms }
}

fn batch(seed: u64, producer: u64, number: u64, last: bool) -> Events {
    let row = |i: u64| {
        let Event { user, amount, time_ms } = event(seed, producer, i);
        let time_ms = if last { END_MS } else { time_ms };
        format!(r#"{{"producer":{producer},"i":{i},"user_id":{user},"amount":{amount},"event_time":{time_ms}}}"#).into()
    };
    let table = if producer < CLICKERS { "clicks" } else { "orders" };
    let first = number * ROWS_PER_BATCH;
    Events::Json(JsonRows { table: table.into(), rows: (first..first + ROWS_PER_BATCH).map(row).collect() })
}

/// Sends until told to stop; then a last batch that closes the windows. Gives the batches before the last one.
async fn produce(
    seed: u64,
    producer: u64,
    options: Options,
    acks: Sender<()>,
    stop: Arc<AtomicBool>,
    first_acks: Arc<tokio::sync::Barrier>,
) -> (u64, Totals) {
    let mut acknowledged = 0;
    let (first_ack, first_acked) = tokio::sync::oneshot::channel();
    let mut first_ack = Some(first_ack);
    let on_ack = move |ack: &millstream_proto::v1::Ack| {
        acknowledged += 1;
        assert_eq!(ack.sequence, acknowledged, "receipts come in order");
        assert_eq!((ack.accepted + ack.duplicates, ack.rejected_rows), (ROWS_PER_BATCH, 0));
        if let Some(first) = first_ack.take() {
            let _ = first.send(());
        }
        let _ = acks.send(());
    };
    let mut client = Client::start(options, on_ack).unwrap();
    assert!(client.send(batch(seed, producer, 0, false)).await);
    first_acked.await.unwrap();
    first_acks.wait().await;
    let mut batches = 1;
    while !stop.load(Ordering::Relaxed) {
        assert!(client.send(batch(seed, producer, batches, false)).await, "producer {producer} stopped");
        batches += 1;
    }
    assert!(client.send(batch(seed, producer, batches, true)).await);
    (batches, client.finish().await.unwrap())
}

fn table<const N: usize>(rows: impl IntoIterator<Item = [i64; N]>) -> Vec<Vec<i64>> {
    let mut rows: Vec<Vec<i64>> = rows.into_iter().map(|r| r.to_vec()).collect();
    rows.sort_unstable();
    rows
}

fn numbers(rows: Table) -> Vec<Vec<i64>> {
    let mut rows: Vec<Vec<i64>> = rows.into_iter().map(|r| r.iter().map(|v| v.parse().unwrap()).collect()).collect();
    rows.sort_unstable();
    rows
}

/// Compares, and counts what is missing and what is there too often.
fn compare(what: &str, seed: u64, ours: Table, expected: Vec<Vec<i64>>) {
    let ours = numbers(ours);
    let mut balance: BTreeMap<&Vec<i64>, i64> = BTreeMap::new();
    ours.iter().for_each(|r| *balance.entry(r).or_default() += 1);
    expected.iter().for_each(|r| *balance.entry(r).or_default() -= 1);
    let wrong = |sign: i64| balance.iter().filter(move |(_, n)| **n * sign > 0);
    let (lost, doubled) = (wrong(-1).count(), wrong(1).count());
    let examples: Vec<_> = wrong(-1).take(3).chain(wrong(1).take(3)).collect();
    assert!(lost + doubled == 0, "{what}, MILLSTREAM_SEED={seed}: lost {lost}, doubled {doubled}: {examples:?}");
    assert!(!expected.is_empty(), "{what}: a comparison of nothing");
}

fn tumbled(events: &[Event], width_ms: i64) -> Vec<Vec<i64>> {
    let mut windows: BTreeMap<(i64, u64), (i64, i64)> = BTreeMap::new();
    for e in events {
        let (n, total) = windows.entry((e.time_ms.div_euclid(width_ms) * width_ms, e.user)).or_default();
        (*n, *total) = (*n + 1, *total + e.amount);
    }
    table(windows.into_iter().map(|((start, user), (n, total))| [start, user as i64, n, total]))
}

fn sessions(events: &mut [Event]) -> Vec<Vec<i64>> {
    events.sort_by_key(|e| (e.user, e.time_ms));
    let mut found: Vec<[i64; 5]> = Vec::new();
    for e in events {
        match found.last_mut() {
            Some([_, last, user, n, total]) if *user == e.user as i64 && e.time_ms < *last + GAP_MS => {
                (*last, *n, *total) = (e.time_ms, *n + 1, *total + e.amount);
            }
            _ => found.push([e.time_ms, e.time_ms, e.user as i64, 1, e.amount]),
        }
    }
    table(found)
}

/// The windows of `orders` and its late rows, by the rule: late is what belongs to a window that the events before it
/// have closed.
fn orders(seed: u64, sent: u64) -> (Vec<Vec<i64>>, Vec<Vec<i64>>) {
    let (mut windows, mut late) = (BTreeMap::<i64, (i64, i64)>::new(), Vec::new());
    let mut watermark = i64::MIN;
    for i in 0..sent {
        let time = event(seed, CLICKERS, i).time_ms;
        let start = time.div_euclid(ORDER_WINDOW_MS) * ORDER_WINDOW_MS;
        if start + ORDER_WINDOW_MS <= watermark {
            late.push([i as i64]);
        } else {
            let (n, ids) = windows.entry(start).or_default();
            (*n, *ids) = (*n + 1, *ids + i as i64);
        }
        watermark = watermark.max(time - DELAY_MS);
    }
    (table(windows.into_iter().map(|(start, (n, ids))| [start, n, ids])), table(late))
}

fn check(seed: u64, server: &Server, batches: &[u64]) -> usize {
    let all = |producer: u64, n: u64| (0..n * ROWS_PER_BATCH).map(move |i| event(seed, producer, i));
    let clicks = || batches.iter().take(CLICKERS as usize).enumerate();
    let raw = clicks().flat_map(|(p, n)| (0..(n + 1) * ROWS_PER_BATCH).map(move |i| (p as u64, i)));
    let raw = table(raw.map(|(p, i)| [p as i64, i as i64, event(seed, p, i).amount]));
    let rows = raw.len();
    compare("raw", seed, server.sql("SELECT producer, i, amount FROM raw_clicks"), raw);
    let mut events: Vec<Event> = clicks().flat_map(|(p, n)| all(p as u64, *n)).collect();
    let windows = server.sql("SELECT start_ms, user_id, n, total FROM click_windows");
    compare("windows", seed, windows, tumbled(&events, CLICK_WINDOW_MS));
    let found = server.sql("SELECT first_ms, last_ms, user_id, n, total FROM click_sessions");
    compare("sessions", seed, found, sessions(&mut events));
    let (windows, late) = orders(seed, batches[CLICKERS as usize] * ROWS_PER_BATCH);
    compare("order windows", seed, server.sql("SELECT start_ms, n, ids FROM order_windows"), windows);
    compare("late rows", seed, server.sql("SELECT i FROM order_windows__late"), late);
    assert!(server.sql("SELECT * FROM click_windows__late").is_empty(), "no click is late");
    rows
}

fn wait_for_acks(acks: &Receiver<()>, n: u64) {
    for _ in 0..n {
        acks.recv_timeout(PATIENCE).expect("a receipt within a minute");
    }
}

type Producers = Vec<JoinHandle<(u64, Totals)>>;

fn start_producers(seed: u64, server: &Server, acks: &Sender<()>, stop: &Arc<AtomicBool>) -> Producers {
    let first_acks = Arc::new(tokio::sync::Barrier::new(CLICKERS as usize + 1));
    let start = |producer: u64| {
        let endpoint = format!("http://127.0.0.1:{}", server.grpc);
        let mut options = Options::new(endpoint, server.key.clone(), format!("producer-{producer}"), 1);
        options.in_flight_max = 4;
        tokio::spawn(produce(seed, producer, options, acks.clone(), stop.clone(), first_acks.clone()))
    };
    (0..=CLICKERS).map(start).collect()
}

/// `MILLSTREAM_STATE_MIB` says how much state lies beside what the producers send: none by default.
fn ballast_rows() -> u64 {
    let mib = std::env::var("MILLSTREAM_STATE_MIB").map_or(0, |text| text.parse::<u64>().expect("a number of MiB"));
    mib << 10
}

/// Rows of a kibibyte, each with a key of its own, in a window that stays open.
fn fill(server: &Server, rows: u64) {
    let row = |i: u64| format!(r#"{{"key":{i},"payload":"{i:01024}","event_time":{START_MS}}}"#);
    for from in (0..rows).step_by(BALLAST_BATCH as usize) {
        let batch: Vec<String> = (from..rows.min(from + BALLAST_BATCH)).map(row).collect();
        let (status, receipt) = server.post("ballast", "filler", from / BALLAST_BATCH + 1, &batch.join("\n"));
        assert_eq!(status, 200, "{receipt}");
    }
    server.settle_within(PATIENCE * 10);
}

/// Closes the window of the ballast; `check_fill` compares it then.
fn empty(server: &Server, rows: u64) {
    let last = format!(r#"{{"key":0,"payload":"","event_time":{END_MS}}}"#);
    let (status, receipt) = server.post("ballast", "filler", rows.div_ceil(BALLAST_BATCH) + 1, &last);
    assert_eq!(status, 200, "{receipt}");
}

fn check_fill(server: &Server, rows: u64) {
    let found = server.sql(
        "SELECT count(*), count(DISTINCT key), sum(key), min(n), max(n), sum(CAST(CAST(substr(payload, 1015) AS BIGINT) = key AS INT))
         FROM ballast_windows",
    );
    let (n, sum) = (rows.to_string(), (rows * (rows - 1) / 2).to_string());
    assert_eq!(found, [[n.clone(), n.clone(), sum, "1".into(), "1".into(), n]]);
}

/// One server, `KILLS_PER_RUN` kills; gives the raw rows, and the times from a kill to the first batch that is taken.
fn run(seed: u64) -> (usize, Vec<Duration>) {
    let dir = tempfile::tempdir().unwrap();
    let mut files = vec![("sources.sql", SOURCES)];
    files.extend(PIPELINES);
    let ballast = ballast_rows();
    if ballast > 0 {
        files.extend(BALLAST);
    }
    let mut server = Server::new(dir.path(), "checkpoint_interval = '200ms'", &files);
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (acks, acked) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let mut random = Random(seed);
    server.start();
    fill(&server, ballast);
    let producers = tokio.block_on(async { start_producers(seed, &server, &acks, &stop) });
    let (mut kills, mut killed_at, mut outages) = (0, None, Vec::new());
    while kills < KILLS_PER_RUN {
        // Some kills hit a server that has just come back, some one that is still recovering.
        let after = if random.one_in(5) { 0 } else { 1 + random.below(300) };
        if after > 0 {
            wait_for_acks(&acked, 1);
            outages.extend(killed_at.map(|at: Instant| at.elapsed()));
            wait_for_acks(&acked, after - 1);
        }
        killed_at = Some(Instant::now());
        server.kill();
        kills += 1;
        while kills < KILLS_PER_RUN && random.one_in(4) {
            server.begin();
            server.kill();
            kills += 1;
        }
        acked.try_iter().for_each(drop);
        server.start();
    }
    wait_for_acks(&acked, 20);
    stop.store(true, Ordering::Relaxed);
    let outcomes = tokio.block_on(async {
        let mut outcomes = Vec::new();
        for producer in producers {
            outcomes.push(producer.await.unwrap());
        }
        outcomes
    });
    for (batches, totals) in &outcomes {
        assert_eq!(totals.batches, batches + 1, "every batch has its receipt");
        assert_eq!(totals.accepted + totals.duplicates, totals.batches * ROWS_PER_BATCH);
    }
    if ballast > 0 {
        empty(&server, ballast);
    }
    server.settle_within(PATIENCE * 10);
    server.stop();
    if ballast > 0 {
        check_fill(&server, ballast);
    }
    let batches: Vec<u64> = outcomes.iter().map(|(batches, _)| *batches).collect();
    (check(seed, &server, &batches), outages)
}

#[test]
fn nothing_is_lost_or_doubled_by_kills() {
    let seeds: Vec<u64> = seeds(RUNS).into_iter().take(RUNS_MAX).collect();
    let (mut rows, mut outages) = (0, Vec::new());
    for seed in &seeds {
        eprintln!("MILLSTREAM_SEED={seed}");
        let (own, times) = run(*seed);
        rows += own;
        outages.extend(times);
    }
    outages.sort_unstable();
    let (median, worst) = (outages[outages.len() / 2], outages[outages.len() - 1]);
    eprintln!(
        "kills: {}, rows: {rows}, lost 0, doubled 0; from kill to first batch taken: median {} ms, worst {} ms",
        seeds.len() as u64 * KILLS_PER_RUN,
        median.as_millis(),
        worst.as_millis()
    );
}

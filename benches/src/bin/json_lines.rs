//! Whole runs over JSON lines, as `millstream run` makes them: CPU-seconds per million rows, beside what other engines
//! cost on such files.
//!
//! `target/debug/json_lines [events]`, 2,000,000 by default. The files are written first, to a temporary folder, from the
//! Nexmark generator: bids of 7 fields, and events of a product of 13 fields made of bids.

use millstream::engine::{RunOptions, RunSummary, run_file};
use millstream_benches::peers::{JSON_LINES, cells};
use millstream_benches::repeat;

const BID: &str = "auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT NOT NULL, url TEXT \
                   NOT NULL, datetime TIMESTAMP NOT NULL, extra TEXT NOT NULL, \
                   WATERMARK FOR datetime AS datetime - INTERVAL '2 seconds'";

const EVENT: &str = "event_id TEXT, ts TIMESTAMP NOT NULL, user_id TEXT, session_id TEXT, event_type TEXT, agent_id TEXT, \
                     feature TEXT, duration_ms BIGINT, tokens BIGINT, status TEXT, latency_ms DOUBLE, country TEXT, tier TEXT, \
                     WATERMARK FOR ts AS ts - INTERVAL '2 seconds'";

/// Events as an IDE plugin sends them: 32 digits of id, 24 kinds, 40 agents.
const MADE: &str = "SELECT md5(concat(auction, '-', bidder, '-', price)) AS event_id, datetime AS ts,
  concat('u_', lpad(CAST(bidder % 6000 AS TEXT), 6, '0')) AS user_id,
  concat('s_', lpad(CAST(auction % 100000 AS TEXT), 8, '0')) AS session_id,
  concat('ide.event_kind_', CAST(price % 24 AS TEXT)) AS event_type,
  concat('agent-', lpad(CAST(bidder % 40 AS TEXT), 3, '0')) AS agent_id,
  concat('feature_', lpad(CAST(price % 16 AS TEXT), 2, '0')) AS feature,
  price % 1000 AS duration_ms, price % 4000 AS tokens, 'ok' AS status,
  CAST(price % 20000 AS DOUBLE) / 100.0 AS latency_ms, 'US' AS country, 'free' AS tier FROM bid";

const QUERIES: [(&str, &str, &str); 3] = [
    ("q0", "bid", "SELECT * FROM bid"),
    (
        "q12",
        "bid",
        "SELECT bidder, tumble(INTERVAL '10 seconds') AS w, count(*) AS n FROM bid GROUP BY bidder, tumble(INTERVAL '10 seconds')",
    ),
    (
        "a1",
        "event",
        "SELECT tumble(INTERVAL '1 minute') AS w, event_type, agent_id, count(*) AS n, avg(latency_ms) AS a, \
         approx_percentile_cont(latency_ms, 0.95) AS p FROM event GROUP BY tumble(INTERVAL '1 minute'), event_type, agent_id",
    ),
];

fn run(sql: &str) -> RunSummary {
    run_file(sql, "json_lines", &RunOptions::default()).expect("runs")
}

fn main() {
    let events: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(2_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |table: &str| {
        let path = folder.path().join(format!("{table}.json"));
        format!("WITH (connector = 'single_file', format = 'json', path = '{}')", path.display())
    };
    let bids = format!("CREATE TABLE bid WITH (connector = 'nexmark', table = 'bid', events = {events});");
    run(&format!("{bids} CREATE TABLE sink {}; INSERT INTO sink SELECT * FROM bid;", file("bid")));
    run(&format!("{bids} CREATE TABLE sink {}; INSERT INTO sink {MADE};", file("event")));
    println!("| query | M rows/s | CPU-s/M | MB/s | best streaming peer | best batch |\n|---|---|---|---|---|---|");
    for (name, table, query) in QUERIES {
        let columns = if table == "bid" { BID } else { EVENT };
        let sql = format!(
            "CREATE TABLE {table} ({columns}) {}; CREATE TABLE sink WITH (connector = 'blackhole'); INSERT INTO sink {query};",
            file(table)
        );
        let mut rows = 0;
        let cost = repeat(|| rows = run(&sql).rows_in);
        let bytes = std::fs::metadata(folder.path().join(format!("{table}.json"))).expect("the file is there").len();
        let millions = rows as f64 / 1e6;
        println!(
            "| {name} | {:.2} | {:.3} | {:.0} |{}",
            millions / cost.wall_s,
            cost.cpu_s / millions,
            bytes as f64 / 1e6 / cost.wall_s,
            cells(&JSON_LINES, name)
        );
    }
}

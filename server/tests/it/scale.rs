//! What pages cost, in work and not in time: queries planned, files opened, rows gone through. A page that went through raw events
//! would take seconds with millions of them; here it fails a test with thousands.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type};
use millstream::{QueryLimits, Work};
use millstream_server::generate::Shape;
use millstream_server::range::show_day;
use serde_json::{Value, json};

use crate::metrics::Asked;

/// Five weeks of sixty users.
const SHAPE: Shape = Shape { seed: 5, users: 60, first_day: 20_486, days: 35, events_per_user: 40 };

/// Pages, and the most different questions that one asks of the tables.
const PAGES: [(&str, u64); 9] = [
    ("/", 40),
    ("/users", 40),
    ("/agents", 30),
    ("/agents/agent-01", 30),
    ("/business", 40),
    ("/system", 30),
    ("/pipelines", 3),
    ("/reports", 3),
    ("/catalogue", 3),
];

/// Tables that grow by each event; what grows by each day, customer or bill may be read.
const EVENTS: [&str; 5] =
    ["raw_ide_events", "raw_agent_events", "raw_workflow_events", "raw_api_events", "api_latency_10s"];

impl Asked {
    fn work(&self) -> Work {
        self.server.engine.work()
    }

    /// Loads a page and tells what it took.
    async fn cost(&self, page: &str, zone: &str) -> Work {
        self.cost_of(&format!("{page}?range=30d&tz={zone}")).await
    }

    async fn all(&self, sql: &str) -> RecordBatch {
        let answer = self.server.engine.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
        concat_batches(&answer.schema, &answer.batches).unwrap()
    }

    async fn cost_of(&self, page: &str) -> Work {
        let before = self.work();
        let answer = self.get(page).await;
        let status = answer.status();
        let html = answer.text().await.unwrap();
        assert!(status.is_success(), "{page}: {status}");
        assert!(!html.contains("could not be drawn") && !html.contains("cannot be read"), "{page}: {html}");
        let after = self.work();
        let scanned = |(table, rows): (&String, &u64)| {
            (table.clone(), rows - before.rows_scanned.get(table).copied().unwrap_or_default())
        };
        let rows_scanned: BTreeMap<String, u64> =
            after.rows_scanned.iter().map(scanned).filter(|(_, rows)| *rows > 0).collect();
        Work { plans: after.plans - before.plans, files_opened: after.files_opened - before.files_opened, rows_scanned }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cost_by_the_day_and_not_by_the_event() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::start(dir.path(), SHAPE).await;
    for (page, plans_max) in PAGES {
        let first = asked.cost(page, "UTC").await;
        println!("{page}: {first:?}");
        assert!(first.plans <= plans_max, "{page}: {} queries planned, {plans_max} allowed", first.plans);
        for table in EVENTS {
            assert!(!first.rows_scanned.contains_key(table), "{page} goes through {table}: {:?}", first.rows_scanned);
        }
        assert_eq!(asked.cost(page, "UTC").await, Work::default(), "{page}: nothing is new, so nothing is to be done");
        // Another zone makes every answer another one; what it is made of is in memory, but for the days that its ends cut through.
        let elsewhere = asked.cost(page, "Asia/Kathmandu").await;
        assert!(elsewhere.files_opened <= 20, "{page}: {} files opened: they are decoded once", elsewhere.files_opened);
        assert!(elsewhere.plans <= plans_max, "{page}: {} queries planned", elsewhere.plans);
    }
    asked.server.stop().await.unwrap();
}

/// Whole days are read from rollups; of a day that the ends of the time cut through, events may be read.
#[tokio::test(flavor = "multi_thread")]
async fn reports_cost_by_the_day_and_not_by_the_event() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::start(dir.path(), SHAPE).await;
    let mut events = BTreeMap::new();
    for table in EVENTS {
        let count = asked.all(&format!("SELECT count(*) FROM {table}")).await;
        events.insert(table, count.column(0).as_primitive::<Int64Type>().value(0) as u64);
    }
    for report in ["weekly", "monthly_business", "agent_publisher", "platform"] {
        let path = format!("/reports/{report}/pdf");
        let first = asked.cost(&path, "UTC").await;
        println!("{report}: {first:?}");
        for table in EVENTS {
            assert!(!first.rows_scanned.contains_key(table), "{report} goes through {table}: {:?}", first.rows_scanned);
        }
        let elsewhere = asked.cost(&path, "Asia/Kathmandu").await;
        for table in EVENTS {
            let rows = elsewhere.rows_scanned.get(table).copied().unwrap_or_default();
            assert!(rows * 5 < events[table], "{report}: {rows} of {} rows of {table} for two ends", events[table]);
        }
    }
    let day = |number: i32| show_day(SHAPE.first_day + number);
    let hours = asked.cost_of(&format!("/api/v1/metrics/api_p95?from={}&to={}", day(2), day(32))).await;
    assert!(!hours.rows_scanned.contains_key("raw_api_events"), "{hours:?}");
    // Two hours are cut through: their days are gone through, and they are as if there were no rollup.
    let (from, to) = (format!("{}T09:20:00Z", day(2)), format!("{}T14:45:00Z", day(32)));
    let path = format!("/api/v1/metrics/api_p95?from={from}&to={to}");
    let cut = asked.cost_of(&path).await.rows_scanned["raw_api_events"];
    assert!(cut * 5 < events["raw_api_events"], "{cut} rows for two hours");
    let sql = format!(
        "SELECT date_trunc('hour', event_time) AS hour, percentile_disc(latency_ms, 0.95) AS latency_p95_ms, count(*) AS requests \
         FROM raw_api_events WHERE event_time >= '{from}' AND event_time < '{to}' GROUP BY 1 ORDER BY 1"
    );
    let whole = asked.all(&sql).await;
    let answer: Value = serde_json::from_str(&asked.get(&path).await.text().await.unwrap()).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), whole.num_rows());
    let p95 = whole.column(1).as_primitive::<Float64Type>();
    let requests = whole.column(2).as_primitive::<Int64Type>();
    for (row, (p95, requests)) in rows.iter().zip(p95.values().iter().zip(requests.values())) {
        assert_eq!((&row["latency_p95_ms"], &row["requests"]), (&json!(p95), &json!(requests)), "{row}");
    }
    asked.server.stop().await.unwrap();
}

/// As after a night: one day's rollups are new. The other days stay in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_day_opens_its_files_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::start(dir.path(), SHAPE).await;
    let first = asked.cost("/users", "UTC").await;
    assert!(first.files_opened > 70, "some of each day: {first:?}");
    let rollups = millstream_server::schedule::rollups(&asked.rollups).unwrap();
    let user_days = rollups.iter().find(|rollup| rollup.name == "user_days").unwrap();
    // The same rows under another order of columns are another file.
    let changed = millstream::Rollup {
        sql: format!("SELECT *, 1 AS checked FROM ({}) AS told", user_days.sql.trim_end().trim_end_matches(';')),
        ..user_days.clone()
    };
    asked.server.engine.rollup(&changed, SHAPE.first_day + 20).await.unwrap();
    let after = asked.cost("/users", "UTC").await;
    // The run's record, and the day's file: once for each set of columns that is asked for at the same time.
    assert!((1..=8).contains(&after.files_opened), "{after:?}");
    asked.server.stop().await.unwrap();
}

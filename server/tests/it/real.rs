//! Metrics over events that real programs and people made, against answers that DuckDB gave. They need `../shared/data`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDateTime;
use flate2::read::MultiGzDecoder;
use millstream::time::{DAY, EventTime, ManualClock, SECOND};
use millstream_proto::v1::{IdeEvent, MarketplaceEvent, PaymentEvent, SubscriptionEvent, SubscriptionStatus};
use millstream_server::demo::real::{Files, streams};
use millstream_server::demo::stream::{Manner, Stream, Target, timestamp};
use millstream_server::keys::Role;
use millstream_server::range::{Range, parse_time};
use millstream_server::serve::Server;
use millstream_server::tables::Tables;
use millstream_server::{report, schedule};
use serde_json::{Value, json};

use crate::metrics::{config, near};

fn data() -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.is_dir() {
        eprintln!("left out: there is no {}", data.display());
        return None;
    }
    Some(data)
}

/// The stored answer to a question, by the names of its columns.
fn answer(data: &Path, name: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(data.join("answers").join(format!("{name}.csv"))).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

/// The lines of a file, the first of which names its columns.
fn lines(data: &Path, name: &str) -> csv::Reader<BufReader<MultiGzDecoder<std::fs::File>>> {
    let file = std::fs::File::open(data.join(name)).unwrap();
    csv::Reader::from_reader(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(file)))
}

fn time(text: &str, format: &str) -> EventTime {
    let time = NaiveDateTime::parse_from_str(text, format).unwrap_or_else(|e| panic!("{text}: {e}"));
    time.and_utc().timestamp_nanos_opt().unwrap()
}

/// A server that has taken some streams.
struct Fed {
    server: Server,
    client: reqwest::Client,
    key: String,
}

impl Fed {
    /// Sends the streams, promises that nothing follows for `quiet_days`, and runs the rollups that are named.
    async fn start(dir: &Path, streams: &[Stream], quiet_days: i64, rollups: &[&str]) -> Self {
        let last = streams.iter().map(|stream| stream.last).max().unwrap();
        let end = last + quiet_days * DAY;
        let config = config(dir);
        let folder = config.sql.rollups.clone();
        let server = Server::start(config, Arc::new(ManualClock::at(end))).await.unwrap();
        let key = server.keys.create("admin", Role::Admin, None).unwrap();
        let endpoint = format!("http://{}", server.grpc_address);
        let target = Target { endpoint, key: key.clone(), acknowledged: Arc::default() };
        for stream in streams {
            server.engine.promise(stream.table, &stream.producer, stream.first - DAY).await.unwrap();
        }
        for stream in streams {
            let receipts = stream.send(&target).await.unwrap();
            assert_eq!((receipts.accepted, receipts.rejected), (stream.rows, 0), "{}", stream.producer);
        }
        for stream in streams {
            server.engine.promise(stream.table, &stream.producer, end).await.unwrap();
        }
        server.engine.flush().await.unwrap();
        for rollup in schedule::rollups(&folder).unwrap() {
            let days = server.engine.rollup_days_due(&rollup, i32::MAX).await.unwrap();
            // A rollup that is not asked about has its table, of one day.
            let wanted = if rollups.contains(&rollup.name.as_str()) { usize::MAX } else { 1 };
            let days: Vec<i32> = days.into_iter().take(wanted).collect();
            let runs = server.engine.rollup_days(&rollup, &days).await.unwrap();
            runs.into_iter().for_each(|run| drop(run.unwrap()));
        }
        Self { server, client: reqwest::Client::new(), key }
    }

    async fn rows(&self, metric: &str, query: &str) -> Vec<Value> {
        let url = format!("http://{}/api/v1/metrics/{metric}?{query}", self.server.http_address);
        let text = self.client.get(&url).bearer_auth(&self.key).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"));
        assert!(answer["truncated"] == json!(false), "{url}: {text}");
        answer["rows"].as_array().unwrap_or_else(|| panic!("{url}: {text}")).clone()
    }

    /// One column by another, as text.
    async fn by(&self, metric: &str, query: &str, key: &str, value: &str) -> BTreeMap<String, String> {
        let rows = self.rows(metric, query).await;
        rows.iter().map(|row| (row[key].as_str().unwrap().to_string(), row[value].to_string())).collect()
    }
}

impl Fed {
    /// The headline figures of a report over days, the last not included.
    async fn figures(&self, dir: &Path, report: &str, from: &str, to: &str) -> BTreeMap<String, f64> {
        let range = Range { from: parse_time(from).unwrap(), to: parse_time(to).unwrap() };
        let tables = Tables::Running(self.server.engine.clone());
        let now = range.to + DAY;
        let answers = report::run(&tables, &config(dir), report, range, chrono_tz::UTC, now).await.unwrap();
        let kpis = answers.document("").unwrap().kpis;
        kpis.into_iter().filter_map(|kpi| Some((kpi.label, kpi.value?))).collect()
    }
}

fn two(rows: &[BTreeMap<String, String>], key: &str, value: &str) -> BTreeMap<String, String> {
    rows.iter().map(|row| (row[key].clone(), row[value].clone())).collect()
}

/// Fourteen months of sixty developers in their editors. A feature is the part of a message before its first dot.
fn developers(data: &Path) -> Vec<Stream> {
    let file = std::fs::File::open(data.join("ide_abb_open.csv.gz")).unwrap();
    let mut developers: BTreeMap<String, Vec<IdeEvent>> = BTreeMap::new();
    let reader = BufReader::with_capacity(1 << 20, MultiGzDecoder::new(file));
    for (number, line) in reader.lines().enumerate().skip(1) {
        let line = line.unwrap();
        let mut fields = line.splitn(3, ',');
        let (at, developer, message) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        developers.entry(developer.to_string()).or_default().push(IdeEvent {
            event_id: format!("ide-{number}"),
            event_time: timestamp(time(at, "%Y-%m-%d %H:%M:%S")),
            user_id: developer.to_string(),
            name: message.trim_matches('"').split('.').next().unwrap().to_string(),
            ..IdeEvent::default()
        });
    }
    developers.into_iter().map(|(name, events)| Stream::new(name, Manner::Steady, events)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_sessions_retention_and_features_of_a_real_editor_log() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let rollups = ["user_days", "user_first_seen", "feature_days", "feature_users"];
    let fed = Fed::start(dir.path(), &developers(&data), 40, &rollups).await;
    let all = "from=2013-10-01&to=2014-12-04";
    // The metric has zeros for no day: only days with users are rows.
    let dau = fed.by("dau", all, "period", "users").await;
    assert_eq!(dau, two(&answer(&data, "ide_abb__dau"), "d", "dau"));
    let months = fed.by("mau_calendar", all, "period", "users").await;
    let months: BTreeMap<String, String> = months.into_iter().map(|(m, n)| (m[..7].to_string(), n)).collect();
    assert_eq!(months, two(&answer(&data, "ide_abb__mau_calendar_month"), "mth", "mau"));
    let stored = &answer(&data, "ide_abb__retention_exact_day")[0];
    for row in fed.rows("retention", all).await {
        assert_eq!(row["cohort_users"].to_string(), stored["cohort"], "{row}");
        assert_eq!(row["returned_on"].to_string(), stored[&format!("d{}", row["n"])], "{row}");
    }
    // The answer has sessions of any length; ours end after a day at the latest, and the rest is one of its own.
    const LONGEST_S: u64 = 86_400;
    let sessions_of = answer(&data, "ide_abb__sessions_gap30m");
    let cut = |d: u64| {
        std::iter::repeat_n(LONGEST_S, (d.max(1) - 1) as usize / LONGEST_S as usize)
            .chain([d - (d.max(1) - 1) / LONGEST_S * LONGEST_S])
    };
    let mut durations: Vec<u64> = sessions_of.iter().flat_map(|s| cut(s["duration_s"].parse().unwrap())).collect();
    durations.sort_unstable();
    let quantile = |q: f64| (durations[(durations.len() as f64 * q).ceil() as usize - 1] * 1_000) as f64;
    let stored = &answer(&data, "ide_abb__session_summary")[0];
    assert_eq!(sessions_of.len().to_string(), stored["sessions"]);
    let total_s = stored["avg_s"].parse::<f64>().unwrap() * sessions_of.len() as f64;
    let sessions = &fed.rows("sessions", &format!("{all}&interval=all")).await[0];
    assert_eq!(sessions["sessions"], durations.len());
    near(&sessions["duration_mean_ms"], total_s * 1e3 / durations.len() as f64, 1e-12, "mean");
    near(&sessions["duration_p50_ms"], quantile(0.5), 0.0, "median");
    near(&sessions["duration_p90_ms"], quantile(0.9), 0.0, "p90");
    assert_eq!(sessions["bounces"], sessions_of.iter().filter(|s| s["n"] == "1").count());
    let features = fed.rows("feature_adoption", all).await;
    let stored = answer(&data, "ide_abb__feature_adoption");
    let ours = |row: &&Value| row["uses"].as_u64().unwrap() >= 100;
    let ours: BTreeMap<String, (String, String)> = features
        .iter()
        .filter(ours)
        .map(|r| (r["feature"].as_str().unwrap().to_string(), (r["users"].to_string(), r["uses"].to_string())))
        .collect();
    let theirs = stored.iter().map(|r| (r["feature"].clone(), (r["users"].clone(), r["n"].clone()))).collect();
    assert_eq!(ours, theirs);
    assert!(features.iter().all(|row| row["active_users"] == 60));
    let funnel = fed.rows("adoption_funnel", all).await;
    assert_eq!(funnel[0]["users"], 60, "the first step is everybody");
    fed.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_cost_and_outcomes_of_a_real_agent() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut telemetry = streams(&data, Files::Small).unwrap();
    telemetry.retain(|stream| stream.producer == "aider-telemetry");
    let fed = Fed::start(dir.path(), &telemetry, 2, &["user_days", "agent_usage_15m", "agent_usage_cube"]).await;
    let all = "from=2024-08-13&to=2025-02-28";
    let mut stored = two(&answer(&data, "ai_aider__dau"), "d", "dau");
    stored.retain(|_, users| users != "0");
    assert_eq!(fed.by("dau", all, "period", "users").await, stored);
    let executions = &fed.rows("agent_executions", &format!("{all}&interval=all")).await[0];
    let rates = &answer(&data, "ai_aider__send_success_rate")[0];
    assert_eq!(executions["successes"].to_string(), rates["completed"]);
    assert_eq!(executions["failures"].to_string(), rates["failed"]);
    let calls = fed.by("agent_executions", all, "period", "successes").await;
    let days = answer(&data, "ai_aider__tokens_by_day");
    let tokens = fed.rows("agent_tokens", all).await;
    let of_day: BTreeMap<&str, &Value> = tokens.iter().map(|row| (row["period"].as_str().unwrap(), row)).collect();
    for day in &days {
        let ours = of_day[day["d"].as_str()];
        assert_eq!(calls[&day["d"]], day["calls"], "{day:?}");
        let sum = ours["tokens_input"].as_u64().unwrap() + ours["tokens_output"].as_u64().unwrap();
        assert_eq!(sum.to_string(), day["total_tokens"], "{day:?}");
        near(&ours["cost_usd"], day["cost"].parse().unwrap(), 1e-6, &day["d"]);
    }
    let models = fed.rows("agent_tokens", &format!("{all}&interval=all&breakdown=model")).await;
    let of_model: BTreeMap<&str, &Value> = models.iter().map(|r| (r["breakdown"].as_str().unwrap(), r)).collect();
    for model in answer(&data, "ai_aider__tokens_by_model") {
        let name = if model["model"].is_empty() { "unknown" } else { &model["model"] };
        let ours = of_model[name];
        assert_eq!(ours["tokens_input"].to_string(), model["prompt_tokens"], "{name}");
        assert_eq!(ours["tokens_output"].to_string(), model["completion_tokens"], "{name}");
        near(&ours["cost_usd"], model["cost"].parse().unwrap_or(0.0), 1e-6, name);
    }
    let figures = fed.figures(dir.path(), "weekly", "2024-08-13", "2025-02-28").await;
    let sum = |column: &str| days.iter().map(|day| day[column].parse::<f64>().unwrap()).sum::<f64>();
    let (completed, failed) = (rates["completed"].parse::<f64>().unwrap(), rates["failed"].parse::<f64>().unwrap());
    near(&json!(figures["Agent executions"]), completed + failed, 0.0, "executions of the report");
    near(&json!(figures["Success"]), 100.0 * completed / (completed + failed), 1e-12, "success of the report");
    near(&json!(figures["Tokens"]), sum("total_tokens"), 0.0, "tokens of the report");
    near(&json!(figures["Cost"]), sum("cost"), 1e-6, "cost of the report");
    fed.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_of_real_spans_within_the_bound_that_is_told() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut spans = streams(&data, Files::All).unwrap();
    spans.retain(|stream| stream.table == "api_events");
    let fed =
        Fed::start(dir.path(), &spans, 2, &["api_usage_15m", "api_latency_daily", "api_latency_total_daily"]).await;
    let all = "from=2022-08-22&to=2022-08-23";
    let stored = answer(&data, "api_nezha__by_operation");
    let services: BTreeSet<&str> = stored.iter().map(|row| row["service"].as_str()).collect();
    let mut routes: BTreeMap<&str, usize> = BTreeMap::new();
    stored.iter().for_each(|row| *routes.entry(&row["OperationName"]).or_default() += 1);
    for service in services {
        let query = format!("{all}&interval=all&breakdown=route&service={service}");
        let ours = fed.rows("api_latency", &query).await;
        let theirs: Vec<_> = stored.iter().filter(|row| row["service"] == service).collect();
        assert_eq!(ours.len(), theirs.len(), "{service}");
        for row in theirs {
            let mine = ours.iter().find(|o| o["breakdown"] == row["OperationName"].as_str()).unwrap();
            let what = format!("{service} {}", row["OperationName"]);
            assert_eq!(mine["requests"].to_string(), row["n"], "{what}");
            let ms = |name: &str| row[name].parse::<f64>().unwrap() / 1e3;
            near(&mine["latency_max_ms"], ms("max_us"), 1e-12, &what);
            for (column, name) in
                [("latency_p50_ms", "p50_us"), ("latency_p95_ms", "p95_us"), ("latency_p99_ms", "p99_us")]
            {
                let value = mine[column].as_f64().unwrap();
                assert!((value - ms(name)).abs() <= 0.01 * ms(name), "{what}, {column}: {value}, exactly {}", ms(name));
            }
        }
    }
    // At night they are exact; a route that several services have is all of theirs together.
    let exact = fed.rows("api_latency_exact", &format!("{all}&breakdown=route")).await;
    assert_eq!(exact.len(), routes.len());
    for row in stored.iter().filter(|row| routes[row["OperationName"].as_str()] == 1) {
        let ours = exact.iter().find(|o| o["breakdown"] == row["OperationName"].as_str()).unwrap();
        for (column, name) in [("latency_p50_ms", "p50_us"), ("latency_p95_ms", "p95_us"), ("latency_p99_ms", "p99_us")]
        {
            near(&ours[column], row[name].parse::<f64>().unwrap() / 1e3, 1e-12, &row["OperationName"]);
        }
    }
    fed.server.stop().await.unwrap();
}

/// January's downloads of plugins, one event each, spread over the day before the snapshot that counted them.
fn installs(data: &Path) -> Stream {
    let mut counted: BTreeMap<String, Option<i64>> = BTreeMap::new();
    let mut events = Vec::new();
    for row in lines(data, "market_obsidian_downloads_open.csv.gz").records() {
        let row = row.unwrap();
        let at = time(&row[0], "%Y-%m-%dT%H:%M:%SZ");
        if !row[0].starts_with("2023-01") {
            break;
        }
        // Some snapshots have no count for a plugin.
        let downloads = row[2].parse::<i64>().ok();
        let before = counted.insert(row[1].to_string(), downloads).flatten();
        for number in 0..downloads.zip(before).map_or(0, |(downloads, before)| downloads - before) {
            events.push(MarketplaceEvent {
                event_id: format!("{}-{}-{number}", &row[1], &row[0][..10]),
                // Between the minute of the snapshot and midnight: the day of the count.
                event_time: timestamp(at + number % 3_600 * SECOND),
                anonymous_id: format!("installation-{}", events.len()),
                name: "installed".to_string(),
                agent: row[1].to_string(),
                ..MarketplaceEvent::default()
            });
        }
    }
    events.sort_by_key(|event| event.event_time.as_ref().map(|at| (at.seconds, at.nanos)));
    Stream::new("downloads", Manner::Steady, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn installs_of_a_real_market() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let fed = Fed::start(dir.path(), &[installs(&data)], 2, &["agent_installs"]).await;
    let all = "from=2023-01-01&to=2023-02-01";
    let ours = fed.by("installs", all, "period", "installs").await;
    let stored = answer(&data, "market_obsidian__daily_installs");
    let stored = stored.iter().filter(|row| row["snapshot_at"].starts_with("2023-01") && !row["installs"].is_empty());
    let stored: BTreeMap<String, String> =
        stored.map(|row| (row["snapshot_at"][..10].to_string(), row["installs"].clone())).collect();
    assert_eq!(ours, stored);
    let ours = fed.rows("installs", &format!("{all}&interval=month&breakdown=agent")).await;
    let ours: Vec<(&str, String)> =
        ours.iter().map(|row| (row["breakdown"].as_str().unwrap(), row["installs"].to_string())).take(20).collect();
    let stored = answer(&data, "market_obsidian__month_top20");
    let top = stored.iter().filter(|row| row["mth"] == "2023-01");
    assert_eq!(ours, top.map(|row| (row["plugin_id"].as_str(), row["installs"].clone())).collect::<Vec<_>>());
    fed.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ratings_of_a_real_market() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut reviews = streams(&data, Files::All).unwrap();
    reviews.retain(|stream| stream.table == "marketplace_events");
    let fed = Fed::start(dir.path(), &reviews, 2, &[]).await;
    let all = "from=2003-05-01&to=2007-02-01";
    let totals = &answer(&data, "market_reviews__totals")[0];
    let ours = &fed.rows("ratings", &format!("{all}&interval=all")).await[0];
    assert_eq!(
        (ours["reviews"].to_string(), ours["reviewers"].to_string()),
        (totals["n"].clone(), totals["reviewers"].clone())
    );
    near(&ours["rating_mean"], totals["avg_rating"].parse().unwrap(), 1e-12, "mean");
    let ours = fed.by("ratings", &format!("{all}&interval=all&breakdown=rating"), "breakdown", "reviews").await;
    assert_eq!(ours, two(&answer(&data, "market_reviews__ratings"), "rating", "n"));
    let days = fed.rows("ratings", all).await;
    let stored = answer(&data, "market_reviews__daily");
    assert_eq!(days.len(), stored.len());
    for (ours, theirs) in days.iter().zip(&stored) {
        assert_eq!(
            (ours["period"].as_str().unwrap(), ours["reviews"].to_string()),
            (theirs["d"].as_str(), theirs["n"].clone())
        );
        near(&ours["rating_mean"], theirs["avg_rating"].parse().unwrap(), 1e-8, &theirs["d"]);
    }
    let vendors = fed.rows("ratings", &format!("{all}&interval=all&breakdown=publisher")).await;
    let of_vendor: BTreeMap<&str, &Value> = vendors.iter().map(|r| (r["breakdown"].as_str().unwrap(), r)).collect();
    for vendor in answer(&data, "market_reviews__top_vendors") {
        let ours = of_vendor[vendor["vendorId"].as_str()];
        assert_eq!(
            (ours["reviews"].to_string(), ours["reviewers"].to_string()),
            (vendor["n"].clone(), vendor["reviewers"].clone())
        );
        near(&ours["rating_mean"], vendor["avg_rating"].parse().unwrap(), 1e-8, &vendor["vendorId"]);
    }
    fed.server.stop().await.unwrap();
}

/// Customers of a telephone company as subscriptions: each began so many months before the first of May, 2026, and those who
/// left did so on the 15th of April.
fn subscriptions(data: &Path) -> Stream {
    let end = time("2026-05-01 00:00:00", "%Y-%m-%d %H:%M:%S");
    let mut events = Vec::new();
    for row in lines(data, "biz_telco_churn_FICTIONAL.csv.gz").into_deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        let months: i64 = row["tenure"].parse().unwrap();
        let cents = (row["MonthlyCharges"].parse::<f64>().unwrap() * 100.0).round() as i64;
        let event = |name: &str, at: EventTime, status: SubscriptionStatus| SubscriptionEvent {
            event_id: format!("{}-{name}", row["customerID"]),
            event_time: timestamp(at),
            account_id: row["customerID"].clone(),
            subscription_id: row["customerID"].clone(),
            name: name.to_string(),
            tier: row["Contract"].clone(),
            status: status.into(),
            seats: Some(1),
            unit_price_minor: Some(cents),
            currency: "USD".to_string(),
            billing_interval: "month".to_string(),
            ..SubscriptionEvent::default()
        };
        events.push(event("started", end - (months * 30 + 45) * DAY, SubscriptionStatus::Active));
        if row["Churn"] == "Yes" {
            events.push(event("cancelled", end - 16 * DAY, SubscriptionStatus::Cancelled));
        }
    }
    events.sort_by_key(|event| event.event_time.as_ref().map(|at| at.seconds));
    Stream::new("subscriptions", Manner::Steady, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn recurring_revenue_and_churn_of_a_customer_list() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let fed = Fed::start(dir.path(), &[subscriptions(&data)], 30, &[]).await;
    let april = "from=2026-04-01&to=2026-05-01&interval=month";
    let tiers = fed.rows("tier_distribution", april).await;
    let stored = answer(&data, "biz_telco_FICTIONAL__by_tier");
    assert_eq!(tiers.len(), stored.len());
    for (ours, theirs) in tiers.iter().zip(&stored) {
        let stayed = theirs["n"].parse::<u64>().unwrap() - theirs["churned"].parse::<u64>().unwrap();
        assert_eq!(
            (ours["tier"].as_str().unwrap(), ours["accounts"].as_u64().unwrap()),
            (theirs["Contract"].as_str(), stayed)
        );
        near(&ours["mrr_minor"], theirs["mrr_active"].parse::<f64>().unwrap() * 100.0, 1e-12, &theirs["Contract"]);
    }
    let totals = &answer(&data, "biz_telco_FICTIONAL__totals")[0];
    let churn = &fed.rows("churn", april).await[0];
    assert_eq!(churn["customers_churned"].to_string(), totals["churned"]);
    near(&churn["customer_churn_rate"], totals["churn_rate"].parse().unwrap(), 1e-8, "churn");
    let mrr = &fed.rows("mrr", april).await[0];
    near(&mrr["mrr_minor"], totals["mrr_active"].parse::<f64>().unwrap() * 100.0, 1e-12, "MRR");
    let figures = fed.figures(dir.path(), "monthly_business", "2026-04-01", "2026-05-01").await;
    let total = |name: &str| totals[name].parse::<f64>().unwrap();
    near(&json!(figures["MRR"]), total("mrr_active"), 1e-12, "MRR of the report");
    near(&json!(figures["Customer churn"]), 100.0 * total("churn_rate"), 1e-6, "churn of the report");
    fed.server.stop().await.unwrap();
}

/// The retail log's lines as payments, in ten-thousandths of a pound, which is what its prices need.
fn payments(data: &Path) -> Stream {
    let line = |(number, row): (usize, Result<csv::StringRecord, csv::Error>)| {
        let row = row.unwrap();
        let quantity: i64 = row[3].parse().unwrap();
        let price = (row[5].parse::<f64>().unwrap() * 1e4).round() as i64;
        PaymentEvent {
            event_id: format!("line-{number}"),
            event_time: timestamp(time(&row[4], "%Y-%m-%d %H:%M:%S")),
            account_id: row[6].to_string(),
            amount_minor: Some(quantity * price),
            currency: "GBP".to_string(),
            ..PaymentEvent::default()
        }
    };
    let events = lines(data, "biz_online_retail_open.csv.gz").records().enumerate().map(line).collect();
    Stream::new("till", Manner::Steady, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn revenue_cohorts_and_customers_of_a_real_shop() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let fed = Fed::start(dir.path(), &[payments(&data)], 2, &[]).await;
    let all = "from=2010-12-01&to=2011-07-01&filter=currency:GBP";
    let pounds = |text: &str| text.parse::<f64>().unwrap() * 1e4;
    for (interval, name, key) in [("day", "daily_revenue", "d"), ("month", "monthly_revenue", "mth")] {
        let ours = fed.rows("revenue", &format!("{all}&interval={interval}")).await;
        let theirs = answer(&data, &format!("biz_retail__{name}"));
        assert_eq!(ours.len(), theirs.len(), "{interval}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(ours["period"].as_str().unwrap().starts_with(&theirs[key]), "{ours} {theirs:?}");
            near(&ours["net_minor"], pounds(&theirs["revenue"]), 1e-12, &theirs[key]);
            assert_eq!(ours["customers"].to_string(), theirs["customers"], "{ours}");
        }
    }
    let cohorts = fed.rows("revenue_cohorts", all).await;
    let stored = answer(&data, "biz_retail__cohort_retention_monthly");
    assert_eq!(cohorts.len(), stored.len());
    for (ours, theirs) in cohorts.iter().zip(&stored) {
        let ours =
            [ours["cohort"].as_str().unwrap()[..7].to_string(), ours["n"].to_string(), ours["accounts"].to_string()];
        assert_eq!(ours.to_vec(), ["cohort", "month_n", "customers"].map(|name| theirs[name].clone()).to_vec());
    }
    let top = fed.rows("top_customers", all).await;
    for (ours, theirs) in top.iter().zip(answer(&data, "biz_retail__ltv_top100")) {
        near(&ours["net_minor"], pounds(&theirs["ltv"]), 1e-12, &theirs["cust"]);
        assert_eq!(ours["account_id"], theirs["cust"].as_str());
    }
    let figures = fed.figures(dir.path(), "monthly_business", "2011-01-01", "2011-02-01").await;
    let months = answer(&data, "biz_retail__monthly_revenue");
    let january = months.iter().find(|month| month["mth"].starts_with("2011-01")).unwrap();
    // The till counts in ten-thousandths, a hundred times what a report takes for pence.
    near(&json!(figures["Net revenue"]), pounds(&january["revenue"]) / 100.0, 1e-12, "net revenue of the report");
    fed.server.stop().await.unwrap();
}

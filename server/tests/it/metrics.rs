//! Every metric against the truth of a made-up platform, over HTTP, from a running server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream::Engine;
use millstream::time::{DAY, ManualClock};
use millstream_server::config::Config;
use millstream_server::generate::send::{Target, send};
use millstream_server::generate::{Kind, Shape, Truth, World};
use millstream_server::keys::Role;
use millstream_server::range::{parse_day, show_day};
use millstream_server::schedule;
use millstream_server::serve::Server;
use serde_json::{Value, json};

/// Forty days of forty users, from Monday, 2026-02-02; the seed decides everything.
const SHAPE: Shape = Shape { seed: 20_260_202, users: 40, first_day: 20_486, days: 40, events_per_user: 12 };

/// A server that has taken a made-up platform, and the truth about it.
pub struct Asked {
    pub server: Server,
    pub client: reqwest::Client,
    pub key: String,
    pub truth: Truth,
    /// The folder of rollups.
    pub rollups: PathBuf,
    range: String,
}

pub fn config(dir: &Path) -> Config {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = "checkpoint_interval = '200ms'\n[http]\nlisten = '127.0.0.1:0'\n[ingest]\nlisten = '127.0.0.1:0'\n\
                [rollups]\nrecheck_interval = '1h'\n";
    let mut config = Config::parse(text, &root.join("millstream.toml")).unwrap();
    config.data_dir = PathBuf::from(dir);
    config
}

/// Runs the rollups of a folder on all days that are due.
pub async fn roll_up(engine: &Engine, rollups: &Path) {
    for rollup in schedule::rollups(rollups).unwrap() {
        let due: Vec<i32> = engine.rollup_days_due(&rollup, i32::MAX).await.unwrap().into_iter().collect();
        engine.rollup_days(&rollup, &due).await.unwrap().into_iter().for_each(|run| drop(run.unwrap()));
    }
}

impl Asked {
    /// Everything sent and rolled up.
    pub async fn start(dir: &Path, shape: Shape) -> Self {
        let asked = Self::start_without_rollups(dir, shape).await;
        roll_up(&asked.server.engine, &asked.rollups).await;
        asked
    }

    pub async fn start_without_rollups(dir: &Path, shape: Shape) -> Self {
        let end = (i64::from(shape.first_day) + i64::from(shape.days)) * DAY;
        let config = config(dir);
        let rollups = config.sql.rollups.clone();
        let server = Server::start(config, Arc::new(ManualClock::at(end))).await.unwrap();
        let key = server.keys.create("admin", Role::Admin, None).unwrap();
        let target = Target { endpoint: format!("http://{}", server.grpc_address), key: key.clone(), rate: None };
        let mut world = World::new(shape);
        let totals = send(&mut world, &target, |_| ()).await.unwrap();
        assert_eq!((totals.duplicates, totals.rejected), (0, 0));
        server.engine.flush().await.unwrap();
        let range = format!("from={}&to={}", show_day(shape.first_day), show_day(shape.first_day + shape.days as i32));
        Self { server, client: reqwest::Client::new(), key, truth: world.truth, rollups, range }
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.server.http_address);
        self.client.get(url).bearer_auth(&self.key).send().await.unwrap()
    }

    async fn answer(&self, metric: &str, more: &str) -> Value {
        let path = format!("/api/v1/metrics/{metric}?{}{more}", self.range);
        let text = self.get(&path).await.text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"));
        assert!(answer["rows"].is_array(), "{path}: {text}");
        answer
    }

    pub async fn rows(&self, metric: &str, more: &str) -> Vec<Value> {
        self.answer(metric, more).await["rows"].as_array().unwrap().clone()
    }

    /// One column by another, both as the answer has them.
    pub async fn series(&self, metric: &str, more: &str, key: &str, value: &str) -> BTreeMap<String, Value> {
        let rows = self.rows(metric, more).await;
        rows.iter().map(|row| (row[key].as_str().unwrap().to_string(), row[value].clone())).collect()
    }

    /// What the truth says of each day.
    fn days(&self, of: impl Fn(usize) -> Value) -> BTreeMap<String, Value> {
        let day = |number: usize| show_day(SHAPE.first_day + number as i32);
        (0..SHAPE.days as usize).map(|number| (day(number), of(number))).collect()
    }
}

#[track_caller]
pub fn near(ours: &Value, truth: f64, tolerance: f64, what: &str) {
    let ours = ours.as_f64().unwrap_or_else(|| panic!("{what}: {ours} is no number"));
    assert!((ours - truth).abs() <= tolerance * truth.abs().max(1.0), "{what}: {ours}, in truth {truth}");
}

fn exact(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((q * values.len() as f64).ceil() as usize).max(1) - 1]
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::start(dir.path(), SHAPE).await;
    users(&asked).await;
    zones(&asked).await;
    adoption(&asked).await;
    agents(&asked).await;
    business(&asked).await;
    platform(&asked).await;
    api(&asked).await;
    rollups_are_repeatable(&asked).await;
    asked.server.stop().await.unwrap();
}

async fn users(asked: &Asked) {
    let truth = &asked.truth;
    let count = |from: usize, to: usize| json!(truth.active_users(from, to).len());
    assert_eq!(asked.series("dau", "", "period", "users").await, asked.days(|n| count(n, n + 1)));
    assert_eq!(
        asked.series("wau", "", "period", "users").await,
        asked.days(|n| count((n + 1).saturating_sub(7), n + 1))
    );
    assert_eq!(
        asked.series("mau", "", "period", "users").await,
        asked.days(|n| count((n + 1).saturating_sub(30), n + 1))
    );
    let all = asked.rows("active_users", "&interval=all").await;
    assert_eq!((&all[0]["period"], &all[0]["users"]), (&json!("all"), &count(0, 40)));
    let weeks = asked.series("active_users", "&interval=week", "period", "users").await;
    assert_eq!(weeks["2026-02-09"], count(7, 14));
    let months = asked.series("mau_calendar", "", "period", "users").await;
    assert_eq!((&months["2026-02-01"], &months["2026-03-01"]), (&count(0, 27), &count(27, 40)));
    let tiers = asked.rows("dau", "&breakdown=tier").await;
    let paid: u64 = tiers.iter().filter(|r| r["period"] == "2026-03-02").map(|r| r["users"].as_u64().unwrap()).sum();
    assert_eq!(json!(paid), count(28, 29), "everybody has one plan on a day");

    let first: BTreeMap<u32, usize> =
        (0..40).rev().flat_map(|n| truth.days[n].active.iter().map(move |user| (*user, n))).collect();
    let new = |n: usize| first.values().filter(|day| **day == n).count();
    let new_users = asked.series("new_users", "", "period", "users").await;
    assert_eq!(new_users, asked.days(|n| json!(new(n))).into_iter().filter(|(_, n)| *n != 0).collect());
    for row in asked.rows("lifecycle", "").await {
        let n = (parse_day(row["period"].as_str().unwrap()).unwrap() - SHAPE.first_day) as usize;
        let today = &truth.days[n].active;
        let before = n.checked_sub(1).map_or_else(BTreeSet::new, |n| truth.days[n].active.clone());
        let returning = today.intersection(&before).count();
        assert_eq!(row["new"], new(n), "{row}");
        assert_eq!(row["returning"], returning, "{row}");
        assert_eq!(row["resurrecting"], today.len() - new(n) - returning, "{row}");
        assert_eq!(row["dormant"], before.difference(today).count(), "{row}");
    }
    for row in asked.rows("retention", "").await {
        let n = row["n"].as_u64().unwrap() as usize;
        let cohort: Vec<(&u32, &usize)> = first.iter().filter(|(_, day)| **day + n < 39).collect();
        let on = cohort.iter().filter(|(user, day)| truth.days[**day + n].active.contains(*user)).count();
        let later = |user: &u32, from: usize| (from..40).any(|day| truth.days[day].active.contains(user));
        let after = cohort.iter().filter(|(user, day)| later(user, **day + n)).count();
        assert_eq!(row["cohort_users"], cohort.len(), "the last day is not complete: {row}");
        assert_eq!((&row["returned_on"], &row["returned_on_or_after"]), (&json!(on), &json!(after)), "{row}");
    }
    let cohorts = asked.rows("retention_cohorts", "&interval=week").await;
    let zero: u64 = cohorts.iter().filter(|r| r["n"] == 0).map(|r| r["returned_on"].as_u64().unwrap()).sum();
    assert_eq!(zero as usize, first.len(), "all are there in their first week");
    for pair in cohorts.windows(2).filter(|pair| pair[0]["cohort"] == pair[1]["cohort"]) {
        let users = |row: &Value| row["returned_on_or_after"].as_u64().unwrap();
        assert!(users(&pair[0]) >= users(&pair[1]), "never more come later: {pair:?}");
    }
    let ratio = asked.series("stickiness", "", "period", "ratio").await;
    near(
        &ratio["2026-03-03"],
        truth.days[29].active.len() as f64 / truth.active_users(0, 30).len() as f64,
        1e-12,
        "ratio",
    );
    let days: u64 = asked
        .rows("stickiness_histogram", "")
        .await
        .iter()
        .map(|r| r["days_active"].as_u64().unwrap() * r["users"].as_u64().unwrap())
        .sum();
    assert_eq!(days as usize, truth.days.iter().map(|day| day.active.len()).sum::<usize>());
    let countries = asked.rows("users_by_country", "").await;
    let listed = |row: &&Value| row["country"] != "unknown";
    let users: u64 = countries.iter().filter(listed).map(|r| r["users"].as_u64().unwrap()).sum();
    assert_eq!(users as usize, first.len(), "each lives in one country");
}

/// Days of any zone come out of rollups of UTC days as they do out of every single event.
async fn zones(asked: &Asked) {
    for tz in [
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
    ] {
        let sql = format!(
            "SELECT CAST(local_day(event_time, '{tz}') AS TEXT) AS day, count(DISTINCT coalesce(e.user_id, i.user_id)) AS users \
             FROM (SELECT user_id, anonymous_id, event_time FROM raw_ide_events WHERE name <> 'heartbeat' \
               UNION ALL SELECT user_id, anonymous_id, event_time FROM raw_agent_events \
               UNION ALL SELECT user_id, anonymous_id, event_time FROM raw_workflow_events \
               UNION ALL SELECT user_id, anonymous_id, event_time FROM raw_marketplace_events) AS e \
             LEFT JOIN identities AS i ON i.anonymous_id = e.anonymous_id \
             GROUP BY 1 HAVING CAST(local_day(min(event_time), '{tz}') AS TEXT) BETWEEN '2026-02-10' AND '2026-03-11' ORDER BY 1"
        );
        let raw = asked.server.engine.query(&sql, &BTreeMap::new(), &millstream::QueryLimits::default()).await.unwrap();
        let text = millstream_server::format::csv(&raw.schema, &raw.batches).unwrap();
        let path = format!("/api/v1/metrics/dau?tz={tz}&from=2026-02-10&to=2026-03-12&format=csv");
        let ours = asked.get(&path).await.text().await.unwrap();
        let ours = ours.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
        let ours: Vec<String> = ours.map(|cells| format!("{},{}", cells[0], cells[3])).collect();
        assert_eq!(ours, text.lines().skip(1).map(str::to_string).collect::<Vec<_>>(), "{tz}");
        assert_eq!(ours.len(), 30, "{tz}");
    }
}

async fn adoption(asked: &Asked) {
    let mut uses: BTreeMap<String, u64> = BTreeMap::new();
    let mut users: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for ((user, feature), count) in asked.truth.days.iter().flat_map(|day| &day.uses) {
        *uses.entry(feature.clone()).or_default() += count;
        users.entry(feature.clone()).or_default().insert(*user);
    }
    let rows = asked.rows("feature_adoption", "").await;
    assert_eq!(rows.len(), uses.len());
    let active = asked.truth.active_users(0, 40).len();
    for row in &rows {
        let feature = row["feature"].as_str().unwrap();
        assert_eq!(row["uses"], uses[feature], "{row}");
        assert_eq!(row["users"], users[feature].len(), "{row}");
        assert_eq!(row["active_users"], active, "{row}");
    }
    let funnel = asked.rows("adoption_funnel", "").await;
    let of = |names: &[&str]| names.iter().flat_map(|n| users[*n].iter().copied()).collect::<BTreeSet<u32>>();
    let helped = of(&["completion_accepted", "agent_asked", "agent run"]);
    let ran: BTreeSet<u32> = helped.intersection(&users["agent run"]).copied().collect();
    let steps = [active, helped.len(), ran.len(), ran.intersection(&users["workflow run"]).count()];
    assert_eq!(funnel.iter().map(|r| r["users"].as_u64().unwrap() as usize).collect::<Vec<_>>(), steps);
}

async fn agents(asked: &Asked) {
    let days = &asked.truth.days;
    let total = |n: usize| days[n].executions.values().sum::<u64>();
    let mut busy = asked.days(|n| json!(total(n)));
    busy.retain(|_, executions| *executions != 0);
    assert_eq!(asked.series("agent_executions", "", "period", "executions").await, busy);
    let hours = asked.rows("agent_executions", "&interval=hour").await;
    let sum: u64 = hours.iter().map(|r| r["executions"].as_u64().unwrap()).sum();
    assert_eq!(sum, (0..40).map(total).sum::<u64>());
    let one = &asked.rows("agent_executions", "&interval=all").await[0];
    let status = |name: &str| days.iter().map(|day| day.executions.get(name).copied().unwrap_or(0)).sum::<u64>();
    assert_eq!(one["successes"], status("ok"));
    assert_eq!(one["failures"], status("error") + status("timeout"));
    assert_eq!(one["cancelled"], status("cancelled"));
    near(
        &one["success_rate"],
        status("ok") as f64 / (status("ok") + status("error") + status("timeout")) as f64,
        1e-12,
        "rate",
    );
    for row in asked.rows("agent_tokens", "").await {
        let day = &days[(parse_day(row["period"].as_str().unwrap()).unwrap() - SHAPE.first_day) as usize];
        assert_eq!(
            (&row["tokens_input"], &row["tokens_output"]),
            (&json!(day.tokens.0), &json!(day.tokens.1)),
            "{row}"
        );
        near(&row["cost_usd"], day.cost_micros as f64 / 1e6, 1e-9, "the producer's cost");
        near(&row["cost_list_usd"], day.cost_list_usd, 1e-6, "the cost at the price valid then");
    }
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    days.iter().flat_map(|day| &day.failures).for_each(|(class, n)| *failures.entry(class.clone()).or_default() += n);
    let classes = asked.series("agent_failures", "", "error_class", "failures").await;
    assert_eq!(classes, failures.into_iter().map(|(class, n)| (class, json!(n))).collect());
    let mut durations: Vec<f64> = days.iter().flat_map(|day| day.durations_ms.clone()).collect();
    let row = &asked.rows("agent_duration", "&interval=all").await[0];
    near(&row["duration_mean_ms"], durations.iter().sum::<f64>() / durations.len() as f64, 1e-9, "mean");
    for (column, q) in [("duration_p50_ms", 0.5), ("duration_p95_ms", 0.95), ("duration_p99_ms", 0.99)] {
        near(&row[column], exact(&mut durations, q), 0.01, column);
    }
    let mut popular: BTreeMap<String, (BTreeSet<u32>, u64)> = BTreeMap::new();
    for day in days {
        for (agent, users) in &day.agent_users {
            popular.entry(format!("agent-{agent:02}")).or_default().0.extend(users);
        }
        day.agents.iter().for_each(|(agent, n)| popular.entry(agent.clone()).or_default().1 += n);
    }
    for row in asked.rows("agent_popular", "").await {
        let (users, executions) = &popular[row["agent"].as_str().unwrap()];
        assert_eq!((&row["users"], &row["executions"]), (&json!(users.len()), &json!(executions)), "{row}");
    }
    trending(asked).await;
}

async fn trending(asked: &Asked) {
    let rows = asked.rows("agent_trending", "&installers_min=1").await;
    assert!(!rows.is_empty());
    for row in &rows {
        let agent: u64 = row["agent"].as_str().unwrap().trim_start_matches("agent-").parse().unwrap();
        let installers = |from: usize, to: usize| {
            let days = &asked.truth.days[from..to];
            days.iter()
                .flat_map(|d| d.installs.keys())
                .filter(|(a, _)| *a == agent)
                .map(|(_, who)| *who)
                .collect::<Vec<_>>()
        };
        let (last, before) = (installers(33, 40), installers(5, 33));
        assert_eq!(row["installs_7d"], last.len(), "{row}");
        assert_eq!(row["installs_prev_28d"], before.len(), "{row}");
        let unique = last.iter().collect::<BTreeSet<_>>().len();
        let score = (last.len() as f64 + 1.0) / (before.len() as f64 / 4.0 + 1.0) * (unique as f64).ln_1p();
        near(&row["score"], score, 1e-12, "score");
    }
}

async fn business(asked: &Asked) {
    for (place, currency) in ["USD", "EUR"].into_iter().enumerate() {
        let filter = format!("&interval=day&filter=currency:{currency}");
        let mut start = 0.0;
        for row in asked.rows("mrr_movements", &filter).await {
            let day =
                &asked.truth.days[(parse_day(row["period"].as_str().unwrap()).unwrap() - SHAPE.first_day) as usize];
            assert_eq!(row["difference_minor"], 0.0, "the identity holds: {row}");
            near(&row["start_minor"], start, 1e-9, "start");
            start = day.mrr[place].0 as f64 / 1e6;
            near(&row["end_minor"], start, 1e-9, "end");
            for (kind, column) in [
                (Kind::New, "new_minor"),
                (Kind::Expansion, "expansion_minor"),
                (Kind::Contraction, "contraction_minor"),
                (Kind::Churn, "churn_minor"),
                (Kind::Reactivation, "reactivation_minor"),
            ] {
                let truth = day.movements[place].get(&kind).copied().unwrap_or(0) as f64 / 1e6;
                near(&row[column], truth, 1e-9, column);
            }
        }
        let customers = asked.series("mrr", &filter, "period", "customers").await;
        for (day, ours) in customers {
            let number = (parse_day(&day).unwrap() - SHAPE.first_day) as usize;
            assert_eq!(ours, asked.truth.days[number].mrr[place].1, "{day}");
        }
        let net = |from: usize, to: usize| {
            let payments = asked.truth.days[from..to].iter().flat_map(|day| &day.payments[place]);
            payments.map(|(_, minor)| *minor).sum::<i64>() as f64
        };
        let months = asked
            .series("revenue", &format!("&interval=month&filter=currency:{currency}"), "period", "net_minor")
            .await;
        // A month without a payment has no row.
        let of = |month: &str| months.get(month).and_then(Value::as_f64).unwrap_or(0.0);
        assert_eq!((of("2026-02-01"), of("2026-03-01")), (net(0, 27), net(27, 40)), "{currency}: {months:?}");
        let top = asked.rows("top_customers", &format!("&filter=currency:{currency}")).await;
        assert_eq!(top.iter().map(|row| row["net_minor"].as_f64().unwrap()).sum::<f64>(), net(0, 40));
        let cohorts = asked.rows("revenue_cohorts", &format!("&filter=currency:{currency}")).await;
        assert_eq!(cohorts.iter().map(|row| row["net_minor"].as_f64().unwrap()).sum::<f64>(), net(0, 40));
        let segments = asked.rows("customer_segments", &format!("&filter=currency:{currency}")).await;
        assert_eq!(segments.iter().map(|row| row["accounts"].as_u64().unwrap()).sum::<u64>() as usize, top.len());
    }
    let tiers = asked.rows("tier_distribution", "&interval=day").await;
    for (number, day) in asked.truth.days.iter().enumerate() {
        let period = show_day(SHAPE.first_day + number as i32);
        for (tier, truth) in ["free", "team", "enterprise"].into_iter().zip(day.tiers) {
            let rows = tiers.iter().filter(|r| r["period"] == period.as_str() && r["tier"] == tier);
            assert_eq!(rows.map(|r| r["accounts"].as_u64().unwrap()).sum::<u64>(), truth, "{period} {tier}");
        }
    }
    let ltv = asked.rows("ltv", "").await;
    assert!(
        ltv.iter().all(|row| row["ltv_minor"].is_null() != row["reason"].is_null()),
        "a number or a reason: {ltv:?}"
    );
    let funnel = asked.rows("tier_funnel", "").await;
    assert!(funnel[0]["accounts"].as_u64().unwrap() > funnel[1]["accounts"].as_u64().unwrap(), "{funnel:?}");
}

async fn platform(asked: &Asked) {
    let days = &asked.truth.days;
    let requests = |n: usize| days[n].requests.values().sum::<u64>();
    // A day without a request has no row.
    let busy = |of: &dyn Fn(usize) -> u64| -> BTreeMap<String, Value> {
        let all = asked.days(|n| if requests(n) > 0 { json!(of(n)) } else { Value::Null });
        all.into_iter().filter(|(_, value)| !value.is_null()).collect()
    };
    assert_eq!(asked.series("api_errors", "", "period", "requests").await, busy(&requests));
    let errors = |n: usize| days[n].requests.iter().filter(|(code, _)| **code >= 500).map(|(_, n)| n).sum::<u64>();
    assert_eq!(asked.series("api_errors", "", "period", "errors").await, busy(&errors));
    let mut routes: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (route, latencies) in days.iter().flat_map(|day| &day.latencies_ms) {
        routes.entry(route.clone()).or_default().extend(latencies);
    }
    let latency = asked.answer("api_latency", "&interval=all&breakdown=route").await;
    assert_eq!((&latency["exact"], &latency["error_bound"]), (&json!(false), &json!(0.01)));
    for row in latency["rows"].as_array().unwrap() {
        let values = routes.get_mut(row["breakdown"].as_str().unwrap()).unwrap();
        assert_eq!(row["requests"], values.len());
        for (column, q) in [("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95), ("latency_p99_ms", 0.99)] {
            near(&row[column], exact(values, q), 0.01, column);
        }
    }
    let of = |row: &Value| &days[(parse_day(row["day"].as_str().unwrap()).unwrap() - SHAPE.first_day) as usize];
    for row in asked.rows("api_latency_exact", "&breakdown=route").await {
        let mut values = of(&row).latencies_ms[row["breakdown"].as_str().unwrap()].clone();
        assert_eq!(row["latency_p95_ms"], exact(&mut values, 0.95), "{row}");
    }
    for row in asked.rows("api_latency_exact", "").await {
        let mut values: Vec<f64> = of(&row).latencies_ms.values().flatten().copied().collect();
        assert_eq!((&row["breakdown"], &row["requests"]), (&json!("all"), &json!(values.len())), "{row}");
        for (column, q) in [("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95), ("latency_p99_ms", 0.99)] {
            assert_eq!(row[column], exact(&mut values, q), "{column}: {row}");
        }
    }
    live(asked).await;
    for (day, usd) in asked.series("infra_cost", "", "period", "effective_usd").await {
        let number = (parse_day(&day).unwrap() - SHAPE.first_day) as usize;
        near(&usd, days[number].infra_micros as f64 / 1e6, 1e-9, &day);
    }
    let allocated: f64 =
        asked.rows("infra_cost_allocation", "").await.iter().map(|r| r["cost_usd"].as_f64().unwrap()).sum();
    near(
        &json!(allocated),
        days.iter().map(|d| d.infra_micros).sum::<i64>() as f64 / 1e6,
        1e-9,
        "all of the cost is somebody's",
    );
    let storage = &asked.rows("storage", "").await[0];
    near(&storage["growth_bytes_per_day"], 1e9, 1e-6, "growth");
    near(&storage["days_to_full"], 500.0 - 2.0 - 89.0, 1e-6, "days to full");
    let incidents = asked.rows("incidents", "&filter=source:reported").await;
    assert_eq!(incidents.len() as u64, asked.truth.incidents);
    assert!(incidents.iter().all(|row| row["duration_ms"] == 7_200_000.0), "{incidents:?}");
}

/// What the stream says of each minute and route is what the requests say, within the bound that is told.
async fn live(asked: &Asked) {
    for breakdown in ["route", "service"] {
        // The newest minutes are still open; the last row is of the newest that is closed.
        let answer = asked.answer("api_latency_live", &format!("&minutes=1440&breakdown={breakdown}")).await;
        assert_eq!((&answer["exact"], &answer["error_bound"]), (&json!(false), &json!(0.01)));
        let newest =
            answer["rows"].as_array().unwrap().last().unwrap()["minute"].as_str().unwrap().trim_end_matches('Z');
        let sql = format!(
            "SELECT date_trunc('minute', event_time) AS minute, {breakdown} AS breakdown, count(*) AS requests, \
             percentile_disc(latency_ms, 0.5) AS p50, percentile_disc(latency_ms, 0.95) AS p95, percentile_disc(latency_ms, 0.99) AS p99 \
             FROM raw_api_events WHERE date_trunc('minute', event_time) > TIMESTAMP '{newest}' - INTERVAL '1440 minutes' \
             AND date_trunc('minute', event_time) <= TIMESTAMP '{newest}' GROUP BY 1, 2 ORDER BY 1, 2"
        );
        let raw = asked.server.engine.query(&sql, &BTreeMap::new(), &millstream::QueryLimits::default()).await.unwrap();
        let truth = millstream_server::format::csv(&raw.schema, &raw.batches).unwrap();
        let truth: Vec<Vec<&str>> = truth.lines().skip(1).map(|line| line.split(',').collect()).collect();
        let rows = answer["rows"].as_array().unwrap();
        assert!(truth.len() > 20, "{truth:?}");
        assert_eq!(rows.len(), truth.len(), "{breakdown}");
        for (row, truth) in rows.iter().zip(truth) {
            assert_eq!(
                (&row["breakdown"], row["requests"].to_string()),
                (&json!(truth[1]), truth[2].to_string()),
                "{row}"
            );
            for (column, exact) in ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"].into_iter().zip(&truth[3..]) {
                let (ours, exact) = (row[column].as_f64().unwrap(), exact.parse::<f64>().unwrap());
                assert!((ours - exact).abs() <= 0.01 * exact, "{column}: {row}, exactly {exact}");
            }
        }
    }
}

async fn api(asked: &Asked) {
    let path = format!("/api/v1/metrics/dau?{}", asked.range);
    let first = asked.get(&path).await;
    let etag = first.headers()["etag"].to_str().unwrap().to_string();
    let url = format!("http://{}{path}", asked.server.http_address);
    let again = asked.client.get(&url).bearer_auth(&asked.key).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    let mut periods = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = asked.answer("dau", &format!("&limit=7{cursor}")).await;
        periods.extend(page["rows"].as_array().unwrap().iter().map(|row| row["period"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(periods.len(), 40, "every row once: {periods:?}");
    let from = show_day(SHAPE.first_day);
    let to = show_day(SHAPE.first_day + 40);
    let body = json!({ "queries": [
        { "metric": "active_users", "from": from, "to": to, "interval": "all" },
        { "metric": "nope" },
        { "metric": "agent_executions", "from": from, "to": to, "interval": "all", "filters": { "agent": "agent-01" } },
    ] });
    let url = format!("http://{}/api/v1/metrics/query", asked.server.http_address);
    let post = asked.client.post(url).bearer_auth(&asked.key).header("content-type", "application/json");
    let answers: Value =
        serde_json::from_str(&post.body(body.to_string()).send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(answers["answers"][0]["rows"][0]["users"], asked.truth.active_users(0, 40).len());
    assert_eq!(answers["answers"][1]["status"], 404);
    let agent: u64 = asked.truth.days.iter().filter_map(|day| day.agents.get("agent-01")).sum();
    assert_eq!(answers["answers"][2]["rows"][0]["executions"], agent);
    let csv = asked.get(&format!("{path}&format=csv")).await.text().await.unwrap();
    assert!(csv.starts_with("period,period_start,breakdown,users,complete\r\n2026-02-02,"), "{csv}");
}

/// A rollup that runs again writes the same rows, and what its sketches say is the same byte by byte.
async fn rollups_are_repeatable(asked: &Asked) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/rollups");
    let day = SHAPE.first_day + 10;
    let limits = millstream::QueryLimits::default();
    for rollup in schedule::rollups(&root).unwrap() {
        let sql = format!("SELECT * FROM {} WHERE day = DATE '{}'", rollup.name, show_day(day));
        let before = asked.server.engine.query(&sql, &BTreeMap::new(), &limits).await.unwrap();
        asked.server.engine.rollup(&rollup, day).await.unwrap();
        let after = asked.server.engine.query(&sql, &BTreeMap::new(), &limits).await.unwrap();
        let rows = |r: &millstream::QueryResult| {
            format!("{:?}", arrow::compute::concat_batches(&r.schema, &r.batches).unwrap())
        };
        assert_eq!(rows(&before), rows(&after), "{}", rollup.name);
    }
}

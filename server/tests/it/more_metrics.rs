//! More of the metrics against the truth: by each one's own hours, by use, upgrades, the cut of sessions; and the SQL behind every metric,
//! which runs by itself and gives the same rows.

use std::collections::{BTreeMap, BTreeSet};

use millstream::time::{DAY, SECOND};
use millstream_server::generate::Shape;
use millstream_server::metric::Metric;
use millstream_server::range::{parse_day, show_day};
use serde_json::{Value, json};

use crate::http::Running;
use crate::metrics::{Asked, config, near};

const SHAPE: Shape = Shape { seed: 20_261_201, users: 40, first_day: 20_486, days: 40, events_per_user: 12 };

#[tokio::test(flavor = "multi_thread")]
async fn more_metrics_tell_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::start(dir.path(), SHAPE).await;
    own_hours(&asked).await;
    upgrades(&asked).await;
    by_use(&asked).await;
    margin(&asked).await;
    twins(&asked, dir.path()).await;
    asked.server.stop().await.unwrap();
}

/// Everybody signs in on the day when first seen, so no installation is anonymous for ever; who comes back in which stretch of 24 hours
/// is computed from the time of every event.
async fn own_hours(asked: &Asked) {
    assert_eq!(asked.rows("anonymous_users", "&interval=all").await, Vec::<Value>::new());
    let sql = "SELECT coalesce(e.user_id, i.user_id) AS person, CAST(CAST(event_time AS TIMESTAMP) AS BIGINT) AS at \
               FROM (SELECT user_id, anonymous_id, event_time FROM raw_ide_events WHERE name <> 'heartbeat' \
                 UNION ALL SELECT user_id, anonymous_id, event_time FROM raw_agent_events \
                 UNION ALL SELECT user_id, anonymous_id, event_time FROM raw_workflow_events \
                 UNION ALL SELECT user_id, anonymous_id, event_time FROM raw_marketplace_events) AS e \
               LEFT JOIN identities AS i ON i.anonymous_id = e.anonymous_id";
    let limits = millstream::QueryLimits::default();
    let raw = asked.server.engine.query(sql, &BTreeMap::new(), &limits).await.unwrap();
    let text = millstream_server::format::csv(&raw.schema, &raw.batches).unwrap();
    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let (person, at) = line.split_once(',').unwrap();
        times.entry(person.to_string()).or_default().push(at.parse().unwrap());
    }
    // The last day is not complete before its end has passed.
    let end = (i64::from(SHAPE.first_day) + 39) * DAY;
    let rows = asked.rows("retention_24h", "").await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in rows {
        let n = row["n"].as_i64().unwrap();
        let firsts = times.values().map(|at| (*at.iter().min().unwrap(), at));
        let cohort: Vec<_> = firsts.filter(|(first, _)| first + (n + 1) * DAY <= end).collect();
        let returned =
            cohort.iter().filter(|(first, at)| at.iter().any(|at| (at - first).div_euclid(DAY) == n)).count();
        assert_eq!((&row["cohort_users"], &row["returned"]), (&json!(cohort.len()), &json!(returned)), "{row}");
        assert!(returned > 0, "nobody came back: {row}");
    }
}

fn height(tier: &str) -> Option<usize> {
    ["free", "team", "enterprise"].iter().position(|known| *known == tier)
}

async fn upgrades(asked: &Asked) {
    let days = &asked.truth.days;
    let rows = asked.rows("tier_conversion", "&interval=week").await;
    let mut compared = 0;
    for row in &rows {
        let start = (parse_day(row["period"].as_str().unwrap()).unwrap() - SHAPE.first_day) as usize;
        let tier = row["tier"].as_str().unwrap();
        let on: BTreeSet<u32> = days[start - 1]
            .accounts
            .iter()
            .filter(|(_, (plan, _))| *plan == tier)
            .map(|(account, _)| *account)
            .collect();
        let higher = |account: &&u32| {
            days[start..(start + 7).min(40)].iter().any(|day| height(day.accounts[*account].0) > height(tier))
        };
        assert_eq!(row["accounts_start"], on.len(), "{row}");
        assert_eq!(row["upgraded"], on.iter().filter(higher).count(), "{row}");
        compared += on.iter().filter(higher).count();
    }
    assert!(compared > 0, "nobody upgraded: {rows:?}");
}

async fn by_use(asked: &Asked) {
    let last = asked.truth.days.last().unwrap();
    let active: BTreeSet<u32> = asked.truth.active_users(0, 40).iter().map(|user| user / 5).collect();
    let paying = active.iter().filter(|account| last.accounts[account].1 > 0).count();
    let rows = asked.rows("usage_segments", "").await;
    let sum = |rows: &[Value], column: &str| rows.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>() as usize;
    assert_eq!((sum(&rows, "accounts"), sum(&rows, "paying")), (active.len(), paying), "{rows:?}");
    let shares: f64 = rows.iter().map(|row| row["share"].as_f64().unwrap()).sum();
    near(&json!(shares), 1.0, 1e-12, "shares");
    let tiers = asked.rows("usage_segments", "&breakdown=tier").await;
    for tier in ["free", "team", "enterprise"] {
        let rows: Vec<Value> = tiers.iter().filter(|row| row["breakdown"] == tier).cloned().collect();
        let truth = active.iter().filter(|account| last.accounts[account].0 == tier).count();
        assert_eq!(sum(&rows, "accounts"), truth, "{tier}");
    }
}

async fn margin(asked: &Asked) {
    let (whole, half) = (asked.rows("ltv", "").await, asked.rows("ltv", "&gross_margin=0.5").await);
    for (whole, half) in whole.iter().zip(half) {
        match whole["ltv_minor"].as_f64() {
            Some(ltv) => near(&half["ltv_minor"], ltv / 2.0, 1e-12, "half of it"),
            None => assert!(half["ltv_minor"].is_null()),
        }
    }
    let funnel = asked.rows("tier_funnel", "&window_days=1").await;
    assert_eq!(funnel[1]["open"], 0, "a day has passed for all: {funnel:?}");
    let funnel = asked.rows("tier_funnel", "").await;
    let (free, team) = (funnel[0]["accounts"].as_u64().unwrap(), funnel[1]["accounts"].as_u64().unwrap());
    assert!(funnel[1]["open"].as_u64().unwrap() <= free - team, "{funnel:?}");
}

/// Whoever copies the SQL of a number gets the number.
async fn twins(asked: &Asked, dir: &std::path::Path) {
    let range = format!("from={}&to={}", show_day(SHAPE.first_day), show_day(SHAPE.first_day + 40));
    let metrics = Metric::list(&config(dir)).unwrap();
    assert!(metrics.len() >= 50, "{}", metrics.len());
    for metric in metrics {
        let name = &metric.file.name;
        let breakdowns = metric.breakdowns.iter().map(|breakdown| format!("&breakdown={breakdown}"));
        let weeks = if metric.intervals.iter().any(|i| i == "week") { "&interval=week" } else { "" };
        for more in [String::new(), format!("&tz=America/St_Johns{weeks}")].into_iter().chain(breakdowns) {
            let path = format!("/api/v1/metrics/{name}?{range}{more}");
            let answer = asked.get(&format!("{path}&format=csv")).await.text().await.unwrap();
            let response = asked.get(&format!("{path}&format=sql")).await;
            assert_eq!(response.headers()["content-type"], "application/sql");
            let sql = response.text().await.unwrap();
            assert!(sql.starts_with("-- ") && !sql.contains("$interval"), "{sql}");
            let url = format!("http://{}/api/v1/sql?format=csv", asked.server.http_address);
            let post = asked.client.post(url).bearer_auth(&asked.key).header("content-type", "application/json");
            let rows = post.body(json!({ "sql": sql }).to_string()).send().await.unwrap().text().await.unwrap();
            assert_eq!(rows, answer, "{path}\n{sql}");
        }
    }
}

/// Fifty hours of work without a pause are sessions of 24, 24 and 2 hours.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_cut_after_24_hours() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let start = i64::from(parse_day("2026-11-18").unwrap()) * DAY;
    let event = |user: &str, number: i64, at: i64| {
        let time = millstream::time::show(start + at);
        json!({ "event_id": format!("{user}{number}"), "event_time": time, "user_id": user, "name": "file_edited" })
            .to_string()
    };
    let minute = 60 * SECOND;
    let mut rows: Vec<String> = (0..=150).map(|n| event("ada", n, n * 20 * minute)).collect();
    rows.push(event("bo", 0, 5 * minute));
    rows.push(event("bo", 1, 6 * minute));
    // Later than all of them by more than a session's silence.
    rows.push(event("cy", 0, 60 * 60 * minute));
    rows.sort_by_key(|row| serde_json::from_str::<Value>(row).unwrap()["event_time"].as_str().unwrap().to_string());
    for part in rows.chunks(60) {
        assert_eq!(running.ingest("/api/v1/ingest/ide_events", part.join("\n")).await.status, 200);
    }
    running.server.engine.flush().await.unwrap();
    let answer = running.get("/api/v1/metrics/sessions?from=2026-11-18&to=2026-11-21").await.json();
    let rows: Vec<Value> = answer["rows"].as_array().unwrap().clone();
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["period"].as_str().unwrap(),
                row["sessions"].as_u64().unwrap(),
                row["duration_p90_ms"].as_f64().unwrap(),
            )
        })
        .collect();
    let hours = |n: f64| n * 3_600_000.0;
    // Ada's begin at midnight, so that two of them end with the first moment of a day.
    let expected = [("2026-11-18", 1, 60_000.0), ("2026-11-19", 1, hours(24.0)), ("2026-11-20", 2, hours(24.0))];
    assert_eq!(seen, expected, "{answer}");
    running.server.stop().await.unwrap();
}

/// Whoever is written into the list is in no count of users, for all of the past.
#[tokio::test(flavor = "multi_thread")]
async fn the_people_of_the_list_are_no_users() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::http::config_with(&dir.path().join("data"), "");
    let views = dir.path().join("views");
    std::fs::create_dir(&views).unwrap();
    for file in std::fs::read_dir(&config.sql.views).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), views.join(file.file_name())).unwrap();
    }
    std::fs::write(views.join("excluded_people.sql"), "SELECT 'robot' AS person").unwrap();
    config.sql.views = views;
    let rollups = millstream_server::schedule::rollups(&config.sql.rollups).unwrap();
    let running = Running::start_with(config).await;
    let event = |user: &str, minute: u32| {
        json!({ "event_id": format!("{user}{minute}"), "event_time": format!("2026-11-20T09:{minute:02}:00Z"), "user_id": user,
                "name": "file_edited" })
        .to_string()
    };
    let rows: Vec<String> = (0..5).flat_map(|n| ["ada", "robot"].map(|user| event(user, n))).collect();
    assert_eq!(running.ingest("/api/v1/ingest/ide_events", rows.join("\n")).await.status, 200);
    running.server.engine.flush().await.unwrap();
    let read = ["user_days", "user_first_seen", "feature_days", "feature_users"];
    for rollup in rollups.iter().filter(|r| read.contains(&r.name.as_str())) {
        running.server.engine.rollup(rollup, parse_day("2026-11-20").unwrap()).await.unwrap();
    }
    for (metric, column) in
        [("dau", "users"), ("new_users", "users"), ("feature_adoption", "active_users"), ("adoption_funnel", "users")]
    {
        let answer = running.get(&format!("/api/v1/metrics/{metric}?from=2026-11-20&to=2026-11-21")).await.json();
        assert_eq!(answer["rows"][0][column], 1, "{metric}: {answer}");
    }
    let all = running.sql("SELECT count(DISTINCT user_id) AS users FROM raw_ide_events").await.json();
    assert_eq!(all["rows"][0]["users"], 2, "the events are kept");
    running.server.stop().await.unwrap();
}

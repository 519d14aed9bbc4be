//! What must hold of metrics whatever the data: identities, time zones, what a late event changes.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use millstream::QueryLimits;
use millstream::time::{DAY, EventTime, SECOND};
use millstream_proto::v1::Status;
use millstream_server::demo::stream::Typed;
use millstream_server::generate::{Kind, Shape, World};
use millstream_server::range::{parse_day, show_day};
use millstream_server::schedule;
use serde_json::{Value, json};

use crate::metrics::{Asked, near};

/// Two years of sixty accounts in two currencies: what moved the recurring revenue of a month is what it changed by, and what
/// the simulation says, in every month and currency; in every other kind of period and zone the identity holds too.
#[tokio::test(flavor = "multi_thread")]
async fn recurring_revenue_adds_up_over_two_years() {
    let dir = tempfile::tempdir().unwrap();
    // From the first of January, 2024, a leap year.
    let shape = Shape { seed: 20_240_101, users: 300, first_day: 19_723, days: 731, events_per_user: 1 };
    let asked = Asked::start_without_rollups(dir.path(), shape).await;
    let month = |day: usize| show_day(shape.first_day + day as i32)[..7].to_string();
    let mut months = 0;
    for (place, currency) in ["USD", "EUR"].into_iter().enumerate() {
        let mut start = 0.0;
        for row in asked.rows("mrr_movements", &format!("&interval=month&filter=currency:{currency}")).await {
            let name = row["period"].as_str().unwrap()[..7].to_string();
            let days: Vec<_> =
                asked.truth.days.iter().enumerate().filter(|(n, _)| month(*n) == name).map(|(_, day)| day).collect();
            assert_eq!(row["difference_minor"], 0.0, "{row}");
            assert_eq!(row["start_minor"], start, "a month begins as the one before ended: {row}");
            for (kind, column) in [
                (Kind::New, "new_minor"),
                (Kind::Expansion, "expansion_minor"),
                (Kind::Contraction, "contraction_minor"),
                (Kind::Churn, "churn_minor"),
                (Kind::Reactivation, "reactivation_minor"),
            ] {
                let micros: i64 = days.iter().filter_map(|day| day.movements[place].get(&kind)).sum();
                near(&row[column], micros as f64 / 1e6, 1e-9, &format!("{currency} {name} {column}"));
            }
            near(&row["end_minor"], days.last().unwrap().mrr[place].0 as f64 / 1e6, 1e-9, &name);
            start = row["end_minor"].as_f64().unwrap();
            months += 1;
        }
    }
    assert_eq!(months, 48);
    for interval in ["day", "week", "quarter", "year", "month"] {
        for zone in ["UTC", "America/St_Johns", "Pacific/Kiritimati"] {
            let rows = asked.rows("mrr_movements", &format!("&interval={interval}&tz={zone}")).await;
            assert!(rows.len() >= 4, "{interval} {zone}");
            assert!(rows.iter().all(|row| row["difference_minor"] == 0.0), "{interval} {zone}");
        }
    }
    asked.server.stop().await.unwrap();
}

/// Rows of a rollup by day, as text.
async fn rows_by_day(asked: &Asked, table: &str) -> BTreeMap<String, Vec<String>> {
    let sql = format!("SELECT * FROM {table}");
    let limits = QueryLimits { rows_max: 1_000_000, ..QueryLimits::default() };
    let result = asked.server.engine.query(&sql, &BTreeMap::new(), &limits).await.unwrap();
    let place = result.schema.index_of("day").unwrap();
    let text = millstream_server::format::csv(&result.schema, &result.batches).unwrap();
    let mut days: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in csv::ReaderBuilder::new().from_reader(text.as_bytes()).records() {
        let record = record.unwrap();
        days.entry(record[place].to_string()).or_default().push(format!("{record:?}"));
    }
    days.values_mut().for_each(|rows| rows.sort());
    days
}

fn changed<T: PartialEq>(before: &BTreeMap<String, T>, after: &BTreeMap<String, T>) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// One event that comes ten days after its time: the rollups of its day are due again, and its day changes, no other; of the
/// trailing counts those days whose window it is in.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_changes_its_day_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { seed: 20_260_301, users: 12, first_day: 20_513, days: 40, events_per_user: 5 };
    let asked = Asked::start(dir.path(), shape).await;
    let rollups = schedule::rollups(&asked.rollups).unwrap();
    for rollup in &rollups {
        // What the server's own schedule began with is done once more.
        let due: Vec<i32> = asked.server.engine.rollup_days_due(rollup, i32::MAX).await.unwrap().into_iter().collect();
        asked.server.engine.rollup_days(rollup, &due).await.unwrap();
        let due = asked.server.engine.rollup_days_due(rollup, i32::MAX).await.unwrap();
        assert!(due.is_empty(), "{} is done: {due:?}", rollup.name);
    }
    let mut tables = BTreeMap::new();
    for rollup in &rollups {
        tables.insert(rollup.name.clone(), rows_by_day(&asked, &rollup.name).await);
    }
    // Somebody who was seen earlier, and not within 30 days before or after: only then do all trailing counts of the day change.
    let late = 25;
    let day = show_day(shape.first_day + late);
    let users =
        asked.truth.days[..late as usize].iter().flat_map(|day| &day.active).copied().collect::<BTreeSet<u32>>();
    let user = users.into_iter().find(|user| !asked.truth.days[late as usize].active.contains(user)).unwrap();
    let mut metrics = BTreeMap::new();
    for metric in ["dau", "wau", "mau", "new_users", "agent_executions"] {
        let value = if metric == "agent_executions" { "executions" } else { "users" };
        metrics.insert(metric, (value, asked.series(metric, "", "period", value).await));
    }
    let row = json!({ "event_id": "late", "event_time": format!("{day}T12:00:00Z"), "user_id": format!("user-{user:05}"),
                      "name": "file_edited", "tier": "free", "country": "DE", "editor": "vscode" });
    let url = format!("http://{}/api/v1/ingest/ide_events", asked.server.http_address);
    let answer = asked.client.post(url).bearer_auth(&asked.key).body(row.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    asked.server.engine.flush().await.unwrap();
    for rollup in &rollups {
        let due = asked.server.engine.rollup_days_due(rollup, i32::MAX).await.unwrap();
        let due: Vec<String> = due.into_iter().map(show_day).collect();
        match rollup.name.as_str() {
            "user_days" | "feature_days" | "feature_users" => {
                assert_eq!(due, std::slice::from_ref(&day), "{}", rollup.name)
            }
            // What was before decides who is new: all later days are looked at again, none before.
            "user_first_seen" | "feature_first_use" => {
                assert_eq!(due.first(), Some(&day), "{}", rollup.name);
                let busy = (late..40).filter(|n| !asked.truth.days[*n as usize].active.is_empty());
                assert!(busy.map(|n| show_day(shape.first_day + n)).all(|day| due.contains(&day)), "{due:?}");
            }
            _ => assert_eq!(due, Vec::<String>::new(), "{}", rollup.name),
        }
        for day in &due {
            asked.server.engine.rollup(rollup, parse_day(day).unwrap()).await.unwrap();
        }
        let changed = changed(&tables[&rollup.name], &rows_by_day(&asked, &rollup.name).await);
        let adopted = rollup.name == "feature_first_use";
        match rollup.name.as_str() {
            "user_days" | "feature_days" | "feature_users" => {
                assert_eq!(changed, std::slice::from_ref(&day), "{}", rollup.name)
            }
            _ if adopted => assert!(changed.iter().all(|d| *d >= day), "{changed:?}"),
            _ => assert!(changed.is_empty(), "{}: {changed:?}", rollup.name),
        }
    }
    for (metric, (value, before)) in metrics {
        let changed = changed(&before, &asked.series(metric, "", "period", value).await);
        let active =
            |from: i32, to: i32| (from.max(0)..to.min(40)).any(|n| asked.truth.days[n as usize].active.contains(&user));
        let window = match metric {
            "dau" => 1,
            "wau" => 7,
            "mau" => 30,
            _ => 0,
        };
        // A day's trailing count changes where the user was not in its window already.
        let expected: Vec<String> = (late..late + window)
            .filter(|n| *n < 40 && !active(n + 1 - window, n + 1))
            .map(|n| show_day(shape.first_day + n))
            .collect();
        assert_eq!(changed, expected, "{metric}");
    }
    asked.server.stop().await.unwrap();
}

/// One event that matters for the reference: when, whose, and what.
struct Happened {
    at: EventTime,
    user: Option<String>,
    what: What,
}

#[derive(PartialEq, Eq)]
enum What {
    Activity,
    Execution,
    Request,
    Payment(i64),
}

/// The person of an id, signed in or out: both end in the user's number.
fn person(user: &str, installation: &str) -> String {
    let id = if user.is_empty() { installation } else { user };
    id.rsplit('-').next().unwrap().to_string()
}

fn happenings(shape: Shape) -> Vec<Happened> {
    let mut all = Vec::new();
    let mut world = World::new(shape);
    while let Some(day) = world.next_day() {
        let mut add =
            |at: Option<EventTime>, user: Option<String>, what| all.push(Happened { at: at.unwrap(), user, what });
        for e in day.ide.iter().filter(|e| e.name != "heartbeat") {
            add(e.time(), Some(person(&e.user_id, &e.anonymous_id)), What::Activity);
        }
        for e in &day.agent {
            add(e.time(), Some(person(&e.user_id, "")), What::Activity);
            if e.status() != Status::Started {
                add(e.time(), None, What::Execution);
            }
        }
        day.workflow.iter().for_each(|e| add(e.time(), Some(person(&e.user_id, "")), What::Activity));
        day.marketplace.iter().for_each(|e| add(e.time(), Some(person(&e.user_id, "")), What::Activity));
        day.api.iter().for_each(|e| add(e.time(), None, What::Request));
        day.payment.iter().for_each(|e| add(e.time(), None, What::Payment(e.amount_minor.unwrap())));
    }
    all
}

/// What each metric should say in a zone, from the events alone: the local date of every single one.
struct Reference {
    active: BTreeMap<NaiveDate, BTreeSet<String>>,
    first: BTreeMap<String, NaiveDate>,
    executions: BTreeMap<NaiveDate, u64>,
    requests: BTreeMap<NaiveDate, u64>,
    paid: BTreeMap<NaiveDate, i64>,
}

impl Reference {
    fn of(events: &[Happened], zone: Tz) -> Self {
        let mut reference = Self {
            active: BTreeMap::new(),
            first: BTreeMap::new(),
            executions: BTreeMap::new(),
            requests: BTreeMap::new(),
            paid: BTreeMap::new(),
        };
        for event in events {
            let date = DateTime::from_timestamp_nanos(event.at).with_timezone(&zone).date_naive();
            match event.what {
                What::Activity => {
                    let user = event.user.clone().unwrap();
                    reference.first.entry(user.clone()).and_modify(|d| *d = date.min(*d)).or_insert(date);
                    reference.active.entry(date).or_default().insert(user);
                }
                What::Execution => *reference.executions.entry(date).or_default() += 1,
                What::Request => *reference.requests.entry(date).or_default() += 1,
                What::Payment(minor) => *reference.paid.entry(date).or_default() += minor,
            }
        }
        reference
    }

    fn active(&self, from: NaiveDate, to: NaiveDate) -> BTreeSet<&String> {
        self.active.range(from..=to).flat_map(|(_, users)| users).collect()
    }
}

/// Every zone has the same days as one of these: zones with the same offset in every hour of the time are asked once.
fn kinds_of_zones(from: EventTime, to: EventTime) -> BTreeMap<Vec<i32>, Vec<Tz>> {
    let mut kinds: BTreeMap<Vec<i32>, Vec<Tz>> = BTreeMap::new();
    for zone in TZ_VARIANTS {
        let hours = (from..to).step_by(3_600 * SECOND as usize);
        let offset = |at: EventTime| {
            zone.offset_from_utc_datetime(&DateTime::from_timestamp_nanos(at).naive_utc()).fix().local_minus_utc()
        };
        kinds.entry(hours.map(offset).collect()).or_default().push(zone);
    }
    kinds
}

/// Forty days over which the clocks of America, Europe, the Levant, Australia and the Pacific change: what metrics say from
/// rollups of UTC days and quarter hours is what counting every single event by its local date says, in all zones there are.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_every_time_zone() {
    let dir = tempfile::tempdir().unwrap();
    // From Sunday, the first of March, 2026.
    let shape = Shape { seed: 20_260_301, users: 14, first_day: 20_513, days: 40, events_per_user: 5 };
    let asked = Asked::start(dir.path(), shape).await;
    let events = happenings(shape);
    let start = i64::from(shape.first_day) * DAY;
    let kinds = kinds_of_zones(start - DAY, start + 41 * DAY);
    let zones: usize = kinds.values().map(Vec::len).sum();
    let changing = kinds.iter().filter(|(offsets, _)| offsets.windows(2).any(|pair| pair[0] != pair[1]));
    let changing: usize = changing.map(|(_, zones)| zones.len()).sum();
    assert!(zones > 550 && changing > 150, "{zones} zones, {changing} with a change");
    // The days in the middle: at the edges a zone has parts of days.
    let (from, to) = (NaiveDate::from_ymd_opt(2026, 3, 2).unwrap(), NaiveDate::from_ymd_opt(2026, 4, 8).unwrap());
    for zone in kinds.values().map(|zones| zones[0]) {
        in_zone(&asked, &Reference::of(&events, zone), zone, (from, to)).await;
    }
    asked.server.stop().await.unwrap();
}

async fn in_zone(asked: &Asked, reference: &Reference, zone: Tz, (from, to): (NaiveDate, NaiveDate)) {
    let name = zone.name().replace('+', "%2B");
    let days: Vec<NaiveDate> = from.iter_days().take_while(|day| *day < to).collect();
    let get = async |metric: &str, more: &str| {
        let path = format!("/api/v1/metrics/{metric}?from={from}&to={to}&tz={name}{more}");
        let text = asked.get(&path).await.text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"));
        answer["rows"].as_array().unwrap_or_else(|| panic!("{path}: {text}")).clone()
    };
    let ours = |rows: &[Value], column: &str| -> BTreeMap<String, u64> {
        let pair = |row: &Value| (row["period"].as_str().unwrap().to_string(), row[column].as_u64().unwrap_or(0));
        rows.iter().map(pair).filter(|(_, n)| *n > 0).collect()
    };
    let expected = |of: &dyn Fn(NaiveDate) -> usize| -> BTreeMap<String, u64> {
        days.iter().map(|day| (day.to_string(), of(*day) as u64)).filter(|(_, n)| *n > 0).collect()
    };
    let trailing = |day: NaiveDate, n: u64| reference.active(day - chrono::Days::new(n - 1), day).len();
    let stickiness = get("stickiness", "").await;
    for (column, width) in [("dau", 1), ("wau", 7), ("mau", 30)] {
        assert_eq!(ours(&stickiness, column), expected(&|day| trailing(day, width)), "{zone} {column}");
    }
    assert_eq!(ours(&get("dau", "").await, "users"), expected(&|day| trailing(day, 1)), "{zone} dau");
    let new = |day: NaiveDate| reference.first.values().filter(|first| **first == day).count();
    assert_eq!(ours(&get("new_users", "").await, "users"), expected(&new), "{zone} new_users");
    let lifecycle = get("lifecycle", "").await;
    let yesterday = |day: NaiveDate| reference.active(day - chrono::Days::new(1), day - chrono::Days::new(1));
    let both = |day: NaiveDate| reference.active(day, day).intersection(&yesterday(day)).count();
    assert_eq!(ours(&lifecycle, "new"), expected(&new), "{zone} lifecycle");
    assert_eq!(ours(&lifecycle, "returning"), expected(&both), "{zone} lifecycle");
    let gone = |day: NaiveDate| yesterday(day).difference(&reference.active(day, day)).count();
    assert_eq!(ours(&lifecycle, "dormant"), expected(&gone), "{zone} lifecycle");
    let weeks = get("active_users", "&interval=week").await;
    for row in &weeks {
        let monday: NaiveDate = row["period"].as_str().unwrap().parse().unwrap();
        assert_eq!(monday.weekday(), chrono::Weekday::Mon, "{zone}");
        let sunday = (monday + chrono::Days::new(6)).min(to - chrono::Days::new(1));
        assert_eq!(row["users"], reference.active(monday.max(from), sunday).len(), "{zone} {row}");
    }
    assert_eq!(weeks.len(), 6, "{zone}");
    for row in get("retention", "").await {
        let n = row["n"].as_u64().unwrap();
        let cohort: Vec<(&String, &NaiveDate)> =
            reference.first.iter().filter(|(_, first)| **first >= from && **first < to).collect();
        // Days of the zone that have passed whole.
        let passed =
            |first: NaiveDate| first + chrono::Days::new(n + 1) <= NaiveDate::from_ymd_opt(2026, 4, 9).unwrap();
        let cohort: Vec<_> = cohort.into_iter().filter(|(_, first)| passed(**first)).collect();
        let on = |(user, first): &&(&String, &NaiveDate)| {
            let day = **first + chrono::Days::new(n);
            reference.active(day, day).contains(*user)
        };
        assert_eq!(row["cohort_users"], cohort.len(), "{zone} {row}");
        assert_eq!(row["returned_on"], cohort.iter().filter(on).count(), "{zone} {row}");
    }
    let count = |of: &BTreeMap<NaiveDate, u64>, day: NaiveDate| of.get(&day).copied().unwrap_or(0) as usize;
    let executions = get("agent_executions", "").await;
    assert_eq!(
        ours(&executions, "executions"),
        expected(&|day| count(&reference.executions, day)),
        "{zone} executions"
    );
    let requests = get("api_errors", "").await;
    assert_eq!(ours(&requests, "requests"), expected(&|day| count(&reference.requests, day)), "{zone} requests");
    let mut paid: BTreeMap<String, i64> = BTreeMap::new();
    for row in get("revenue", "&interval=day").await {
        *paid.entry(row["period"].as_str().unwrap().to_string()).or_default() +=
            row["net_minor"].as_f64().unwrap() as i64;
    }
    let truth = reference.paid.range(from..to).map(|(day, minor)| (day.to_string(), *minor));
    assert_eq!(paid, truth.collect(), "{zone} revenue");
}

//! Every headline figure of every report against the truth of a made-up platform.

use std::collections::{BTreeMap, BTreeSet};

use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use millstream::QueryResult;
use millstream::time::DAY;
use millstream_report::Kpi;
use millstream_server::generate::{Shape, Truth, billing_currency};
use millstream_server::range::Range;
use millstream_server::report;
use millstream_server::tables::Tables;

use crate::metrics::{Asked, config};

/// Sixty days of sixty users; the reports are about the last thirty.
const SHAPE: Shape = Shape { seed: 20_261_127, users: 60, first_day: 20_486, days: 60, events_per_user: 12 };
const HOUR: i64 = DAY / 24;
const FROM: usize = 30;
const TO: usize = 60;

struct Made {
    kpis: BTreeMap<String, Kpi>,
    definition: String,
    pdf: Vec<u8>,
}

impl Made {
    async fn of(asked: &Asked, dir: &std::path::Path, name: &str) -> Self {
        let at = |day: usize| (i64::from(SHAPE.first_day) + day as i64) * DAY;
        let range = Range { from: at(FROM), to: at(TO) };
        let tables = Tables::Running(asked.server.engine.clone());
        let answers = report::run(&tables, &config(dir), name, range, chrono_tz::UTC, at(TO)).await.unwrap();
        let document = answers.document("Acme").unwrap();
        let kpis = document.kpis.iter().map(|kpi| (kpi.label.clone(), kpi.clone())).collect();
        Self { kpis, definition: document.kpi_definition, pdf: answers.pdf("Acme").unwrap() }
    }

    /// The figure is the truth, within a part of it, and so is its change against the thirty days before.
    #[track_caller]
    fn tells(&mut self, label: &str, bound: f64, truth: f64, before: Option<f64>) {
        let known: Vec<_> = self.kpis.keys().cloned().collect();
        let kpi = self.kpis.remove(label).unwrap_or_else(|| panic!("no {label} in {known:?}"));
        let value = kpi.value.unwrap_or_else(|| panic!("{label} has no value"));
        assert!((value - truth).abs() <= bound * truth.abs().max(1.0) + 1e-9, "{label}: {value}, in truth {truth}");
        if let Some(before) = before.filter(|b| *b != 0.0) {
            let change = (truth - before) / before.abs();
            let ours = kpi.change.unwrap_or_else(|| panic!("{label} has no change"));
            assert!((ours - change).abs() <= 3.0 * bound + 1e-9, "{label}: change {ours}, in truth {change}");
        }
        assert_eq!(kpi.trend.len(), 30, "{label}: a value for each day");
    }

    /// Nothing is printed that was not compared.
    #[track_caller]
    fn is_done(&self) {
        assert!(self.kpis.is_empty(), "not compared: {:?}", self.kpis.keys());
        assert!(!self.definition.is_empty() && self.pdf.starts_with(b"%PDF"));
    }
}

/// What the truth adds up to over days.
struct Sums<'a>(&'a Truth);

impl Sums<'_> {
    fn of(&self, days: (usize, usize), each: impl Fn(usize) -> f64) -> f64 {
        (days.0..days.1).map(each).sum()
    }

    fn active(&self, (from, to): (usize, usize)) -> f64 {
        self.0.active_users(from, to).len() as f64
    }

    fn new_users(&self, (from, to): (usize, usize)) -> f64 {
        let before = self.0.active_users(0, from);
        self.0.active_users(from, to).difference(&before).count() as f64
    }

    fn runs(&self, days: (usize, usize), statuses: &[&str]) -> f64 {
        self.of(days, |n| {
            statuses.iter().map(|s| self.0.days[n].executions.get(*s).copied().unwrap_or(0)).sum::<u64>() as f64
        })
    }

    fn success(&self, days: (usize, usize)) -> f64 {
        100.0 * self.runs(days, &["ok"]) / self.runs(days, &["ok", "error", "timeout"])
    }

    fn requests(&self, days: (usize, usize), from_code: i64) -> f64 {
        let count = |n: usize| {
            self.0.days[n].requests.iter().filter(|(code, _)| **code >= from_code).map(|(_, n)| n).sum::<u64>()
        };
        self.of(days, |n| count(n) as f64)
    }

    fn latency(&self, (from, to): (usize, usize), q: f64) -> f64 {
        let mut all: Vec<f64> =
            self.0.days[from..to].iter().flat_map(|day| day.latencies_ms.values().flatten().copied()).collect();
        all.sort_by(f64::total_cmp);
        all[(q * all.len() as f64).ceil() as usize - 1]
    }

    fn market(&self, days: (usize, usize), name: &str) -> f64 {
        self.of(days, |n| self.0.days[n].market.get(name).copied().unwrap_or(0) as f64)
    }

    fn stars(&self, (from, to): (usize, usize)) -> f64 {
        let (stars, reviews) =
            self.0.days[from..to].iter().fold((0, 0), |sum, day| (sum.0 + day.stars.0, sum.1 + day.stars.1));
        stars as f64 / reviews as f64
    }

    fn sales(&self, days: (usize, usize)) -> f64 {
        self.of(days, |n| self.0.days[n].sales_cents as f64 / 100.0)
    }

    fn infrastructure(&self, days: (usize, usize)) -> f64 {
        self.of(days, |n| self.0.days[n].infra_micros as f64 / 1e6)
    }

    /// The accounts that pay in a currency at the end of a day.
    fn paying(&self, day: usize, currency: &str) -> BTreeSet<u32> {
        let accounts = self.0.days[day].accounts.iter();
        accounts.filter(|(a, (_, mrr))| *mrr > 0 && billing_currency(**a) == currency).map(|(a, _)| *a).collect()
    }
}

const NOW: (usize, usize) = (FROM, TO);
const BEFORE: (usize, usize) = (0, FROM);

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_of_every_report_is_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::start(dir.path(), SHAPE).await;
    let truth = asked.truth.clone();
    let sums = Sums(&truth);
    let both = |of: &dyn Fn((usize, usize)) -> f64| (of(NOW), Some(of(BEFORE)));

    let mut weekly = Made::of(&asked, dir.path(), "weekly").await;
    let mut tell = |label: &str, bound: f64, (now, before): (f64, Option<f64>)| weekly.tells(label, bound, now, before);
    tell("Active users", 0.0, both(&|d| sums.active(d)));
    tell("New users", 0.0, both(&|d| sums.new_users(d)));
    tell("Agent executions", 0.0, both(&|d| sums.runs(d, &["ok", "error", "timeout", "cancelled"])));
    tell("Success", 0.0, both(&|d| sums.success(d)));
    tell("Tokens", 0.0, both(&|d| sums.of(d, |n| (truth.days[n].tokens.0 + truth.days[n].tokens.1) as f64)));
    tell("Cost", 0.0, both(&|d| sums.of(d, |n| truth.days[n].cost_micros as f64 / 1e6)));
    tell("API requests", 0.0, both(&|d| sums.requests(d, 0)));
    tell("API p95", 0.01, both(&|d| sums.latency(d, 0.95)));
    weekly.is_done();

    let mut monthly = Made::of(&asked, dir.path(), "monthly_business").await;
    for (place, currency) in ["USD", "EUR"].into_iter().enumerate() {
        let net = |days: (usize, usize)| {
            sums.of(days, |n| truth.days[n].payments[place].iter().map(|(_, m)| m).sum::<i64>() as f64 / 100.0)
        };
        let mrr = |day: usize| truth.days[day].mrr[place].0 as f64 / 1e8;
        let (at_start, at_end) = (sums.paying(FROM - 1, currency), sums.paying(TO - 1, currency));
        let churned = at_start.difference(&at_end).count() as f64;
        let mut tell = |label: &str, now: f64, before: Option<f64>| {
            monthly.tells(&format!("{label}, {currency}"), 1e-9, now, before)
        };
        tell("MRR", mrr(TO - 1), Some(mrr(FROM - 1)));
        tell("Net revenue", net(NOW), Some(net(BEFORE)));
        tell("Paying customers", at_end.len() as f64, Some(at_start.len() as f64));
        tell("Customer churn", 100.0 * churned / at_start.len() as f64, None);
        assert!(mrr(TO - 1) > 0.0 && net(NOW) > 0.0, "a platform that sells nothing proves nothing");
    }
    let mut tell = |label: &str, (now, before): (f64, Option<f64>)| monthly.tells(label, 1e-9, now, before);
    tell("Active users", both(&|d| sums.active(d)));
    tell("New users", both(&|d| sums.new_users(d)));
    tell("Marketplace net", both(&|d| sums.sales(d)));
    tell("Infrastructure cost", both(&|d| sums.infrastructure(d)));
    monthly.is_done();
    assert!(sums.sales(NOW) > 0.0, "agents were sold");

    let mut publisher = Made::of(&asked, dir.path(), "agent_publisher").await;
    let users = |(from, to): (usize, usize)| {
        truth.days[from..to].iter().flat_map(|d| d.agent_users.values().flatten()).collect::<BTreeSet<_>>().len() as f64
    };
    let mut tell = |label: &str, (now, before): (f64, Option<f64>)| publisher.tells(label, 1e-9, now, before);
    tell("Executions", both(&|d| sums.runs(d, &["ok", "error", "timeout", "cancelled"])));
    tell("Success", both(&|d| sums.success(d)));
    tell("Users", both(&users));
    tell("Installs", both(&|d| sums.of(d, |n| truth.days[n].installs.len() as f64)));
    tell("Views", both(&|d| sums.market(d, "viewed")));
    tell("Rating", both(&|d| sums.stars(d)));
    tell("Purchases", both(&|d| sums.market(d, "purchased")));
    tell("Net", both(&|d| sums.sales(d)));
    publisher.is_done();

    let mut platform = Made::of(&asked, dir.path(), "platform").await;
    let mut tell =
        |label: &str, bound: f64, (now, before): (f64, Option<f64>)| platform.tells(label, bound, now, before);
    tell("Requests", 0.0, both(&|d| sums.requests(d, 0)));
    tell("Latency p50", 0.01, both(&|d| sums.latency(d, 0.5)));
    tell("Latency p95", 0.01, both(&|d| sums.latency(d, 0.95)));
    tell("Latency p99", 0.01, both(&|d| sums.latency(d, 0.99)));
    tell("Errors", 1e-9, both(&|d| 100.0 * sums.requests(d, 500) / sums.requests(d, 0)));
    // One day in twenty has one, the seventh first.
    let incidents = |(from, to): (usize, usize)| (from..to).filter(|n| n % 20 == 7).count() as f64;
    tell("Incidents", 0.0, both(&incidents));
    tell("Infrastructure cost", 1e-9, both(&|d| sums.infrastructure(d)));
    // A gigabyte a day on top of 52 of 500.
    tell("Storage used", 1e-9, both(&|(_, to)| 100.0 * (51 + to) as f64 / 500.0));
    platform.is_done();
    asked.server.stop().await.unwrap();
}

/// The points of a small line come from one query; each is what the section says of that day alone. Days may begin at any time.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_line_has_the_figures_of_each_day_alone() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::start(dir.path(), Shape { days: 12, ..SHAPE }).await;
    let tables = Tables::Running(asked.server.engine.clone());
    let config = config(dir.path());
    let begin = i64::from(SHAPE.first_day) * DAY;
    let mut figures = BTreeSet::new();
    for (name, cut) in report::list(&config.sql.reports).unwrap().iter().flat_map(|name| [(name, 0), (name, 13 * HOUR)])
    {
        let day = |number: i64| begin + number * DAY + cut;
        let now = day(11);
        let range = Range { from: day(5), to: day(10) };
        let zone = chrono_tz::America::New_York;
        let answers = report::run(&tables, &config, name, range, zone, now).await.unwrap();
        for answer in answers.sections.iter().filter(|answer| answer.previous.is_some()) {
            assert_eq!(answer.trend.len(), 5, "{name}: days");
            let alone = |from: i64, to: i64| {
                let (tables, config, section) = (&tables, &config, (name.as_str(), answer.file.name.as_str()));
                async move { rows(&report::section(tables, config, section, Range { from, to }, zone, now).await.unwrap()) }
            };
            for (number, point) in (5..).zip(&answer.trend) {
                assert_eq!(
                    rows(point),
                    alone(day(number), day(number + 1)).await,
                    "{name}, day {number}, cut at {cut}"
                );
                figures.extend(point.schema.fields().iter().map(|field| field.name().clone()));
            }
            assert_eq!(rows(&answer.result), alone(range.from, range.to).await, "{name}, cut at {cut}");
            let before = answer.previous.as_ref().unwrap();
            assert_eq!(rows(before), alone(range.previous().from, range.from).await, "{name}, before, cut at {cut}");
        }
    }
    assert!(figures.len() >= 25 && !figures.contains("piece"), "{figures:?}");
    let own = dir.path().join("reports/own");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("10_headline.sql"), "SELECT count(*) AS events, $step AS step FROM raw_ide_events")
        .unwrap();
    let mut config = config.clone();
    config.sql.reports = dir.path().join("reports");
    let range = Range { from: begin, to: begin + 5 * DAY };
    let error =
        report::run(&tables, &config, "own", range, chrono_tz::UTC, begin + 5 * DAY).await.unwrap_err().to_string();
    let fix = "fix: select date_bin($step, at, $from) AS piece, or take it from report_pieces";
    assert!(
        error.contains("own/10_headline.sql names $step, or a view that does, and has no column `piece`")
            && error.contains(fix),
        "{error}"
    );
    asked.server.stop().await.unwrap();
}

fn rows(answer: &QueryResult) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let shown = pretty_format_batches_with_options(&answer.batches, &options).unwrap();
    shown.to_string().lines().map(str::to_string).collect()
}

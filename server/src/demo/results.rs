//! What came of the events: tables on the screen, metrics over HTTP, the report's files, and their checks.

use std::collections::BTreeMap;
use std::path::Path;

use millstream::time::{EventTime, day_of};
use millstream::{Engine, Error, Result};

use super::check::{Check, Rows, answer, grouped, late_rows, number_of, rows_of, rows_of_csv};
use super::platform::{DAY_NUMBER, Truth};
use super::real::IDE_MONTH;
use super::story::Steps;
use super::stream::{Receipts, Stream};
use crate::cli::print;
use crate::config::Config;
use crate::format::{self, Format};
use crate::range::{Range, show_day};
use crate::report;
use crate::serve::Server;
use crate::tables::Tables;

/// Lines of a metric that are shown.
const METRIC_LINES_SHOWN: usize = 8;

/// What is shown of the tables: a heading and a query.
const SHOWN: [(&str, &str); 3] = [
    (
        "Agents by tokens (agent_usage_daily, a nightly rollup)",
        "SELECT coalesce(agent, 'unnamed') AS agent, sum(executions) AS executions, \
           round(100.0 * sum(successes) / nullif(sum(successes + failures), 0), 1) AS success_percent, \
           sum(tokens_input + tokens_output) AS tokens, round(sum(cost_usd), 2) AS cost_usd \
         FROM agent_usage_daily GROUP BY 1 ORDER BY tokens DESC LIMIT 6",
    ),
    (
        "Slowest 10 seconds of a route (api_latency_10s, streaming SQL)",
        "SELECT window_start, route, requests, errors, latency_p50_ms, latency_p95_ms FROM api_latency_10s \
         WHERE requests >= 3 ORDER BY latency_p95_ms DESC, window_start, route LIMIT 6",
    ),
    (
        "Longest sessions in the editor (user_sessions, streaming SQL)",
        "SELECT user_id, first_event, round(duration_ms / 60000.0, 1) AS minutes, events FROM user_sessions \
         ORDER BY duration_ms DESC, user_id LIMIT 6",
    ),
];

/// Windowed pipelines, what they count, and a query of how much there is to count.
const FATES: [(&str, &str, &str); 3] = [
    ("agent_usage_1m", "executions", "SELECT sum(executions) FROM agent_usage_daily"),
    ("api_latency_10s", "requests", "SELECT count(*) FROM raw_api_events"),
    ("user_sessions", "events", "SELECT count(user_id) FROM raw_ide_events"),
];

/// Someone who asks the server over HTTP.
#[derive(Debug)]
pub struct Analyst {
    client: reqwest::Client,
    base: String,
    key: String,
    range: Range,
}

impl Analyst {
    /// An analyst with a key, who asks about a range of time.
    pub fn new(server: &Server, key: &str, range: Range) -> Self {
        let base = format!("http://{}", server.http_address);
        Self { client: reqwest::Client::new(), base, key: key.to_string(), range }
    }

    /// The path of a metric.
    fn path(&self, metric: &str) -> String {
        let (from, to) = (show_day(day_of(self.range.from)), show_day(day_of(self.range.to)));
        format!("/api/v1/metrics/{metric}?from={from}&to={to}&format=csv")
    }

    /// A metric as CSV.
    async fn metric(&self, metric: &str) -> Result<String> {
        let url = format!("{}{}", self.base, self.path(metric));
        let failed = |e: reqwest::Error| Error::Storage(format!("GET {url}: {e}"));
        let response = self.client.get(&url).bearer_auth(&self.key).send().await.map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        if !status.is_success() {
            return Err(Error::Storage(format!("GET {url}: {status}: {text}")));
        }
        Ok(text)
    }

    /// Some columns of a metric.
    async fn columns(&self, metric: &str, names: &[&str]) -> Result<Rows> {
        let (header, rows) = rows_of_csv(&self.metric(metric).await?)?;
        let places: Vec<usize> = names.iter().filter_map(|name| header.iter().position(|h| h == name)).collect();
        let chosen = |row: Vec<String>| places.iter().filter_map(|at| row.get(*at).cloned()).collect();
        Ok(rows.into_iter().map(chosen).collect())
    }
}

/// Writes the weekly report as PDF and CSV.
pub async fn write_report(
    server: &Server,
    config: &Config,
    out: &Path,
    range: Range,
    now: EventTime,
    steps: &mut Steps,
) -> Result<()> {
    let tables = Tables::Running(server.engine.clone());
    let answers = report::run(&tables, config, "weekly", range, chrono_tz::UTC, now).await?;
    std::fs::create_dir_all(out).map_err(|e| Error::file(out, "create", e))?;
    let pdf = out.join(format!("{}.pdf", answers.file_name()));
    report::save(&answers, &config.reports.organisation, true, Some(&pdf))?;
    let csv = report::save(&answers, &config.reports.organisation, false, Some(&out.join(answers.file_name())))?;
    steps.done("wrote the weekly report:")?;
    print(format!("          {}\n", pdf.display()).as_bytes())?;
    let folder = csv.first().and_then(|path| path.parent()).unwrap_or(out);
    print(format!("          {}/ ({} CSV files)\n", folder.display(), csv.len()).as_bytes())
}

/// Prints a few tables, and metrics as an analyst gets them.
pub async fn show(engine: &Engine, analyst: &Analyst, steps: &mut Steps) -> Result<()> {
    steps.heading("What came of it")?;
    for (heading, sql) in SHOWN {
        let result = engine.query(sql, &BTreeMap::new(), &millstream::QueryLimits::default()).await?;
        if result.batches.iter().all(|batch| batch.num_rows() == 0) {
            continue;
        }
        let mut text = format!("{heading}\n").into_bytes();
        format::write(Format::Table, &result.schema, &result.batches, &mut text)?;
        text.push(b'\n');
        print(&text)?;
    }
    for metric in ["dau", "api_p95"] {
        let text = analyst.metric(metric).await?;
        let lines: Vec<&str> = text.lines().collect();
        let mut shown = format!("GET {}{}\n", analyst.base, analyst.path(metric));
        for line in lines.iter().take(METRIC_LINES_SHOWN) {
            shown.push_str(&format!("  {line}\n"));
        }
        if lines.len() > METRIC_LINES_SHOWN {
            shown.push_str(&format!("  ... and {} rows more\n", lines.len() - METRIC_LINES_SHOWN));
        }
        shown.push('\n');
        print(shown.as_bytes())?;
    }
    steps.done("asked the tables, and the metrics over HTTP")
}

/// Nothing lost, nothing doubled: every row sent has one fate.
pub async fn delivery_checks(
    engine: &Engine,
    streams: &[Stream],
    late: &Option<Stream>,
    receipts: &BTreeMap<&'static str, Receipts>,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (table, receipt) in receipts {
        let Receipts { sent, accepted, duplicates, rejected } = *receipt;
        checks.push(Check::number(
            format!(
                "{table}: accepted {} + duplicates {} + refused {} = sent",
                grouped(accepted),
                grouped(duplicates),
                grouped(rejected)
            ),
            accepted + duplicates + rejected,
            sent,
        ));
        let given = streams.iter().chain(late).filter(|stream| stream.table == *table);
        let given: u64 = given.map(|stream| stream.rows).sum();
        let stored = number_of(engine, &format!("SELECT count(*) FROM raw_{table}")).await?;
        checks.push(Check::number(format!("raw_{table}: every event once"), stored, given - rejected));
    }
    let all = || streams.iter().chain(late);
    let resent = all().map(Stream::resent).sum();
    let duplicates = receipts.values().map(|receipt| receipt.duplicates).sum();
    checks.push(Check::number("rows that were sent again, all recognised", duplicates, resent));
    for (pipeline, counted, expected) in FATES {
        let late = late_rows(engine, pipeline).await?;
        let on_time = number_of(engine, &format!("SELECT sum({counted}) FROM {pipeline}")).await?;
        let expected = number_of(engine, expected).await?;
        let what = format!("{pipeline}: on time {} + late {} = all", grouped(on_time), grouped(late));
        checks.push(Check::number(what, on_time + late, expected));
    }
    Ok(checks)
}

/// Compares the tables with what the platform's generator knows.
pub async fn platform_checks(
    engine: &Engine,
    analyst: &Analyst,
    truth: &Truth,
    refused: u64,
    commits: u64,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let by_agent = truth.agents.iter().map(|(agent, used)| {
        let numbers = [used.executions, used.successes, used.tokens_input, used.tokens_output];
        let mut row = vec![agent.clone()];
        row.extend(numbers.map(|n| n.to_string()));
        row.push((used.cost_micros as f64 / 1e6).to_string());
        row
    });
    let sql = "SELECT agent, sum(executions), sum(successes), sum(tokens_input), sum(tokens_output), sum(cost_usd) \
        FROM agent_usage_daily GROUP BY agent";
    checks.push(Check::rows(
        "tokens and cost per agent, by the rollup",
        rows_of(engine, sql).await?,
        by_agent.collect(),
    ));
    let by_minute = truth.minutes.iter().map(|((minute, agent, model), used)| {
        let mut row = vec![minute.to_string(), agent.clone(), model.clone()];
        row.extend([used.executions, used.successes, used.tokens_input, used.tokens_output].map(|n| n.to_string()));
        row
    });
    let sql = "SELECT CAST(date_part('epoch', window_start) AS BIGINT) / 60, agent, model, executions, successes, tokens_input, \
        tokens_output FROM agent_usage_1m";
    checks.push(Check::rows(
        "every minute, agent and model, by the pipeline",
        rows_of(engine, sql).await?,
        by_minute.collect(),
    ));
    checks.push(Check::number("events without a time, all refused", refused, truth.rejected));
    let late = late_rows(engine, "agent_usage_1m").await?;
    checks.push(Check::number("late agent events, all in agent_usage_1m__late", late, truth.late));
    let windows = number_of(engine, "SELECT count(*) FROM api_latency_10s").await?;
    checks.push(Check::number("10-second windows and routes of the API", windows, truth.api_windows));
    let p95 = rows_of(engine, "SELECT percentile_disc(latency_ms, 0.95) FROM raw_api_events").await?;
    checks.push(Check::rows("exact p95 of all requests", p95, vec![vec![truth.latency_p95_ms.to_string()]]));
    let sessions = number_of(engine, "SELECT count(*) FROM user_sessions").await?;
    checks.push(Check::number("sessions in the editor, by the pipeline", sessions, truth.sessions));
    let rolled_up = number_of(engine, "SELECT sum(sessions) FROM user_sessions_daily").await?;
    checks.push(Check::number("sessions in the editor, by the rollup", rolled_up, truth.sessions));
    let expected = vec![vec![show_day(DAY_NUMBER), truth.active_users.to_string()]];
    checks.push(Check::rows(
        "daily active users, over HTTP",
        analyst.columns("dau", &["period", "users"]).await?,
        expected,
    ));
    let found = number_of(engine, "SELECT count(*) FROM raw_workflow_events WHERE workflow = 'git'").await?;
    checks.push(Check::number("commits of this clone", found, commits));
    Ok(checks)
}

/// The metric of daily active users over HTTP against the editor log's stored answer.
pub async fn real_metric_check(analyst: &Analyst, dir: &Path) -> Result<Check> {
    let mut expected = answer(dir, "ide_abb__dau", &["d", "dau"])?;
    let mut told = analyst.columns("dau", &["period", "users"]).await?;
    // Other files' people are active in other months.
    for rows in [&mut expected, &mut told] {
        rows.retain(|row| row.first().is_some_and(|day| day.starts_with(IDE_MONTH)));
    }
    Ok(Check::rows("editor log: daily active users, over HTTP", told, expected))
}

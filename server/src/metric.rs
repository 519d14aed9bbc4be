//! Metrics: one SQL file = one metric. What the HTTP face, the pages and the reports ask goes through [`ask`].
//!
//! The SQL decides what can be asked: `$interval IN ('day', ...)` lists the intervals (the first is the default),
//! `CASE $breakdown WHEN 'tier' ...` the breakdowns, and a parameter that is tested for NULL is optional. The server gives
//! `$from`, `$to`, `$tz`, `$interval`, `$breakdown`, `$complete_through` and `$now`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use millstream::sql::calendar::{Calendar, Interval, zone};
use millstream::sql::sketch::RELATIVE_ERROR;
use millstream::time::{EventTime, show};
use millstream::{Error, QueryResult, Result};
use sha2::{Digest, Sha256};

use crate::catalog::{self, SqlFile};
use crate::complete;
use crate::config::Config;
use crate::range::{Range, parse_day, parse_time};
use crate::tables::Tables;
use crate::twin;

/// Parameters that the server gives.
const GIVEN: [&str; 7] = ["from", "to", "tz", "interval", "breakdown", "complete_through", "now"];

/// Memory of remembered answers.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// One metric, as its file says.
#[derive(Debug, Clone)]
pub struct Metric {
    /// The file.
    pub file: SqlFile,
    /// The intervals that it can be asked for, the default first; none if it has no periods of choice.
    pub intervals: Vec<String>,
    /// What it can be broken down by.
    pub breakdowns: Vec<String>,
    /// Its own parameters, and whether one must be given.
    pub parameters: BTreeMap<String, bool>,
    /// The relative error of its approximate columns; `None` where all are exact.
    pub error_bound: Option<f64>,
    /// The parameters that the SQL needs, those of its views included.
    needed: BTreeSet<String>,
}

impl Metric {
    /// Every metric that ships, sorted by name.
    pub fn list(config: &Config) -> Result<Vec<Self>> {
        let views = catalog::list(&config.sql.views)?;
        Ok(catalog::list(&config.sql.metrics)?.into_iter().map(|file| Self::of(file, &views)).collect())
    }

    /// The metric of a name.
    ///
    /// *Errors*: `Config` for a name that no file has.
    pub fn find(config: &Config, name: &str) -> Result<Self> {
        Ok(Self::of(catalog::find(&config.sql.metrics, "metric", name)?, &catalog::list(&config.sql.views)?))
    }

    fn of(file: SqlFile, views: &[SqlFile]) -> Self {
        let texts = catalog::with_views(&file, views);
        let needed: BTreeSet<String> = texts.iter().flat_map(|text| text.parameters()).collect();
        let optional = |name: &str| {
            texts
                .iter()
                .any(|t| t.sql.contains(&format!("${name} IS NULL")) || t.sql.contains(&format!("coalesce(${name},")))
        };
        let own = needed.iter().filter(|name| !GIVEN.contains(&name.as_str()));
        let parameters = own.map(|name| (name.clone(), !optional(name))).collect();
        let sketched = texts.iter().any(|text| text.mentions("sketch_percentile"));
        let intervals = intervals(&file.sql);
        let breakdowns =
            texts.iter().map(|text| breakdowns(&text.sql)).find(|known| !known.is_empty()).unwrap_or_default();
        Self { intervals, breakdowns, parameters, error_bound: sketched.then_some(RELATIVE_ERROR), needed, file }
    }
}

/// The names in the text's `$interval IN ('...', ...)`.
fn intervals(sql: &str) -> Vec<String> {
    let list = sql.split_once("$interval IN (").and_then(|(_, rest)| rest.split_once(')'));
    list.map_or_else(Vec::new, |(list, _)| quoted(list))
}

/// The names in a text's `CASE $breakdown WHEN '...' THEN ... END`.
fn breakdowns(sql: &str) -> Vec<String> {
    let Some((_, rest)) = sql.split_once("CASE $breakdown") else { return Vec::new() };
    let (cases, _) = rest.split_once("AS breakdown").unwrap_or((rest, ""));
    cases.split("WHEN ").skip(1).filter_map(|case| quoted(case).into_iter().next()).collect()
}

fn quoted(text: &str) -> Vec<String> {
    text.split('\'').skip(1).step_by(2).map(str::to_string).collect()
}

/// What somebody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The metric.
    pub metric: String,
    /// RFC 3339, or a day of the time zone; inclusive.
    pub from: Option<String>,
    /// As `from`; exclusive.
    pub to: Option<String>,
    /// An IANA name; else the project's.
    pub tz: Option<String>,
    /// Hour, day, week, ...; else the metric's first.
    pub interval: Option<String>,
    /// What to break down by.
    pub breakdown: Option<String>,
    /// Own parameters of the metric, or values that columns of the answer must have.
    pub filters: BTreeMap<String, String>,
}

/// What a metric answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The metric.
    pub metric: Metric,
    /// The rows.
    pub result: Arc<QueryResult>,
    /// The time asked about.
    pub range: Range,
    /// The time zone of its days.
    pub tz: String,
    /// The length of its periods.
    pub interval: Option<String>,
    /// The moment before which nothing is expected to change; `None` where nothing has arrived.
    pub complete_through: Option<EventTime>,
    /// Changes when the answer may have changed.
    pub etag: String,
}

impl Answer {
    /// Whether all of the time asked about is complete.
    pub fn complete(&self) -> bool {
        self.complete_through.is_some_and(|through| through >= self.range.to)
    }
}

/// Why a question has no answer.
#[derive(Debug)]
pub enum Refusal {
    /// There is no such metric.
    Unknown(String),
    /// Something in the question is wrong, and the text says what to write instead.
    Question(String),
    /// Answering failed.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A question whose words have been understood.
#[derive(Debug)]
pub struct Prepared {
    /// Everything but the rows.
    pub answer: Answer,
    sql: String,
    values: BTreeMap<String, ScalarValue>,
    columns: BTreeMap<String, String>,
}

/// Understands a question and tells the version of its answer, without computing it.
pub async fn prepare(
    tables: &Tables,
    config: &Config,
    now: EventTime,
    question: &Question,
) -> Result<Prepared, Refusal> {
    let name = &question.metric;
    if !catalog::is_name(name) || !config.sql.metrics.join(format!("{name}.sql")).is_file() {
        return Err(Refusal::Unknown(format!("no metric `{name}`; GET /api/v1/metrics lists them")));
    }
    let metric = Metric::find(config, name)?;
    let tz = question.tz.clone().unwrap_or_else(|| config.time_zone.clone());
    let mut calendar = Calendar::new(zone(&tz).map_err(Refusal::Question)?);
    let interval = interval_of(&metric, question.interval.as_deref()).map_err(Refusal::Question)?;
    let length =
        interval.as_deref().map_or(Ok(Interval::Day), |text| named(text, config)).map_err(Refusal::Question)?;
    let range = range_of(&mut calendar, question, length, now).map_err(Refusal::Question)?;
    let breakdown = breakdown_of(&metric, question.breakdown.as_deref()).map_err(Refusal::Question)?;
    let complete_through = complete::through(tables, config, &metric.file, now).await?;
    // Only whole periods are told to be complete, so the answer changes only when a period ends.
    let step = if length == Interval::All { Interval::Day } else { length };
    let closed = complete_through.map_or(0, |through| calendar.start(through, step));
    let timestamp = |at| ScalarValue::TimestampNanosecond(Some(at), None);
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_string()));
    let mut values = range.parameters();
    values.insert("tz".into(), text(&tz));
    values.insert("interval".into(), text(&word(interval.as_deref().unwrap_or("day"), config)));
    values.insert("breakdown".into(), text(&breakdown));
    values.insert("complete_through".into(), timestamp(closed));
    values.insert("now".into(), timestamp(calendar.end(now, Interval::Day)));
    let columns = bind(&metric, &question.filters, &mut values).map_err(Refusal::Question)?;
    values.retain(|name, _| metric.needed.contains(name));
    // A week that begins on another day has another name than the list in the SQL knows.
    let asked = format!("'{}' IN (", interval.as_deref().unwrap_or("day"));
    let sql = metric.file.sql.replace("$interval IN (", &asked);
    let etag = version(tables, &sql, &values, &columns).await?;
    let result = Arc::new(QueryResult {
        schema: Arc::new(arrow::datatypes::Schema::empty()),
        batches: Vec::new(),
        truncated: false,
    });
    let answer = Answer { metric, result, range, tz, interval, complete_through, etag };
    Ok(Prepared { answer, sql, values, columns })
}

impl Prepared {
    /// The query as an analyst would type it: it runs by itself.
    pub fn twin(&self, config: &Config) -> Result<String> {
        let views = catalog::list(&config.sql.views)?;
        Ok(twin::text(&self.answer.metric.file, &self.sql, &views, &self.values, &self.columns))
    }

    /// Computes the rows, or remembers them.
    pub async fn run(self, tables: &Tables, config: &Config, cache: &Cache) -> Result<Answer, Refusal> {
        let mut answer = self.answer;
        let turn = cache.turn(&answer.etag);
        // Whoever asks the same at the same time waits for the first and takes its answer.
        let _turn = turn.lock().await;
        if let Some(known) = cache.get(&answer.etag) {
            answer.result = known;
            return Ok(answer);
        }
        let result = tables.query(&self.sql, &self.values, &config.query_limits()).await?;
        let result = matching(result, &self.columns).map_err(Refusal::Question)?;
        answer.result = Arc::new(result);
        cache.put(&answer.etag, &answer.result);
        Ok(answer)
    }
}

/// Answers one question.
pub async fn ask(
    tables: &Tables,
    config: &Config,
    now: EventTime,
    cache: &Cache,
    question: &Question,
) -> Result<Answer, Refusal> {
    prepare(tables, config, now, question).await?.run(tables, config, cache).await
}

fn interval_of(metric: &Metric, asked: Option<&str>) -> Result<Option<String>, String> {
    let Some(asked) = asked else { return Ok(metric.intervals.first().cloned()) };
    if metric.intervals.iter().any(|known| known == asked) {
        return Ok(Some(asked.to_string()));
    }
    let name = &metric.file.name;
    if metric.intervals.is_empty() {
        return Err(format!("the metric {name} has no intervals to choose from; leave `interval` out"));
    }
    Err(format!("the metric {name} has no interval `{asked}`; it has: {}", metric.intervals.join(", ")))
}

fn breakdown_of(metric: &Metric, asked: Option<&str>) -> Result<String, String> {
    let asked = asked.unwrap_or("");
    if asked.is_empty() || metric.breakdowns.iter().any(|known| known == asked) {
        return Ok(asked.to_string());
    }
    let name = &metric.file.name;
    if metric.breakdowns.is_empty() {
        return Err(format!("the metric {name} cannot be broken down; leave `breakdown` out"));
    }
    Err(format!("the metric {name} has no breakdown `{asked}`; it has: {}", metric.breakdowns.join(", ")))
}

/// The interval as the calendar's functions know it: weeks begin as the project says.
pub fn word(interval: &str, config: &Config) -> String {
    if interval == "week" { format!("week_{}", config.week_start) } else { interval.to_string() }
}

fn named(interval: &str, config: &Config) -> Result<Interval, String> {
    Interval::parse(&word(interval, config))
}

fn moment(calendar: &mut Calendar, text: &str) -> Result<EventTime, String> {
    match parse_day(text) {
        Ok(day) => Ok(calendar.day_start(i64::from(day))),
        Err(_) => parse_time(text),
    }
}

/// What is not given: up to the end of today, and back as far as a chart of such periods shows.
fn range_of(calendar: &mut Calendar, question: &Question, interval: Interval, now: EventTime) -> Result<Range, String> {
    let to = match &question.to {
        Some(text) => moment(calendar, text)?,
        None => calendar.end(now, Interval::Day),
    };
    let from = match &question.from {
        Some(text) => moment(calendar, text)?,
        None => {
            let last = calendar.day(to.saturating_sub(1));
            let (days, step) = match interval {
                Interval::Hour | Interval::Day | Interval::All => (6, Interval::Day),
                Interval::Week(_) => (83, interval),
                Interval::Month | Interval::Quarter => (334, interval),
                Interval::Year => (1_461, interval),
            };
            let start = calendar.day_start(last - days);
            calendar.start(start, step)
        }
    };
    if from >= to {
        return Err(format!("`from` ({}) is not before `to` ({}); swap or change them", show(from), show(to)));
    }
    Ok(Range { from, to })
}

/// Puts the metric's own parameters among the values; what is left must be columns of the answer.
fn bind(
    metric: &Metric,
    given: &BTreeMap<String, String>,
    values: &mut BTreeMap<String, ScalarValue>,
) -> Result<BTreeMap<String, String>, String> {
    for (name, required) in &metric.parameters {
        match given.get(name) {
            Some(text) => values.insert(name.clone(), scalar(text)),
            None if *required => {
                let metric = &metric.file.name;
                return Err(format!("the metric {metric} needs the parameter `{name}`; add ?{name}=... to the URL"));
            }
            None => values.insert(name.clone(), ScalarValue::Null),
        };
    }
    Ok(given
        .iter()
        .filter(|(name, _)| !metric.parameters.contains_key(*name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect())
}

/// A number if the text is exactly how that number is written, else text: `007` is a name.
fn scalar(text: &str) -> ScalarValue {
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) if number.to_string() == text => ScalarValue::Int64(Some(number)),
        (_, Ok(number)) if number.to_string() == text => ScalarValue::Float64(Some(number)),
        _ => ScalarValue::Utf8(Some(text.to_string())),
    }
}

/// The rows whose columns have the values asked for.
fn matching(result: QueryResult, columns: &BTreeMap<String, String>) -> Result<QueryResult, String> {
    if columns.is_empty() {
        return Ok(result);
    }
    let names: Vec<&str> = result.schema.fields().iter().map(|f| f.name().as_str()).collect();
    if let Some(name) = columns.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("there is no parameter or column `{name}`; the columns are: {}", names.join(", ")));
    }
    let mut batches = Vec::with_capacity(result.batches.len());
    for batch in &result.batches {
        let mut keep = vec![true; batch.num_rows()];
        for (name, value) in columns {
            let Some(column) = batch.column_by_name(name) else { continue };
            let texts =
                cast(column, &DataType::Utf8).map_err(|e| format!("the column `{name}` cannot be compared: {e}"))?;
            for (keep, text) in keep.iter_mut().zip(texts.as_string::<i32>()) {
                *keep &= text == Some(value);
            }
        }
        batches.push(filter_record_batch(batch, &BooleanArray::from(keep)).map_err(|e| e.to_string())?);
    }
    batches.retain(|batch| batch.num_rows() > 0);
    Ok(QueryResult { batches, ..result })
}

/// A name of everything that the answer depends on: the SQL, the values, and the version of each table.
async fn version(
    tables: &Tables,
    sql: &str,
    values: &BTreeMap<String, ScalarValue>,
    columns: &BTreeMap<String, String>,
) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(format!("{sql}\0{values:?}\0{columns:?}"));
    for name in tables.tables_read(sql)? {
        let version = match tables.lake().existing(&name).await? {
            Some(table) => table.version().await?,
            None => -1,
        };
        hash.update(format!("\0{name} {version}"));
    }
    let mut text = String::new();
    for byte in hash.finalize().iter().take(16) {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Answers whose tables have not changed since.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    answers: BTreeMap<String, (Arc<QueryResult>, usize, u64)>,
    bytes: usize,
    uses: u64,
    /// By what is being asked.
    turns: BTreeMap<String, Weak<tokio::sync::Mutex<()>>>,
}

impl Cache {
    /// The turn of those who ask the same: one of them has it at a time.
    fn turn(&self, etag: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = known.turns.entry(etag.to_string()).or_default();
        turn.upgrade().unwrap_or_else(|| {
            let new = Arc::default();
            *turn = Arc::downgrade(&new);
            new
        })
    }

    fn get(&self, etag: &str) -> Option<Arc<QueryResult>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.uses += 1;
        let uses = known.uses;
        let (result, _, used) = known.answers.get_mut(etag)?;
        *used = uses;
        Some(result.clone())
    }

    fn put(&self, etag: &str, result: &Arc<QueryResult>) {
        let bytes = result.batches.iter().map(|batch| batch.get_array_memory_size()).sum::<usize>() + 1_024;
        if bytes > CACHE_BYTES_MAX / 4 {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.uses += 1;
        let uses = known.uses;
        if let Some((_, old, _)) = known.answers.insert(etag.to_string(), (result.clone(), bytes, uses)) {
            known.bytes -= old;
        }
        known.bytes += bytes;
        while known.bytes > CACHE_BYTES_MAX {
            let oldest = known.answers.iter().min_by_key(|(_, (_, _, used))| *used).map(|(etag, _)| etag.clone());
            let Some((_, bytes, _)) = oldest.and_then(|etag| known.answers.remove(&etag)) else { break };
            known.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn metric(sql: &str) -> Metric {
        let path = PathBuf::from("/srv/project/sql/metrics/m.sql");
        let view = SqlFile::of("v".into(), path.clone(), "SELECT $deep".into());
        Metric::of(SqlFile::of("m".into(), path, sql.into()), &[view])
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn the_sql_says_what_can_be_asked() {
        let m = metric(
            "SELECT CASE $breakdown WHEN 'tier' THEN tier WHEN 'os' THEN coalesce(os, 'x') ELSE 'all' END AS breakdown \
             FROM v WHERE $interval IN ('month', 'day') AND ($tier IS NULL OR tier = $tier) AND n = coalesce($n, 3) AND a = $agent",
        );
        assert_eq!(m.intervals, ["month", "day"]);
        assert_eq!(m.breakdowns, ["tier", "os"]);
        let own = [("agent", true), ("deep", true), ("n", false), ("tier", false)].map(|(n, r)| (n.to_string(), r));
        assert_eq!(m.parameters, BTreeMap::from(own), "those of the view too");
        assert_eq!(interval_of(&m, None).unwrap().as_deref(), Some("month"));
        assert_eq!(
            interval_of(&m, Some("hour")).unwrap_err(),
            "the metric m has no interval `hour`; it has: month, day"
        );
        assert_eq!(breakdown_of(&m, Some("x")).unwrap_err(), "the metric m has no breakdown `x`; it has: tier, os");
    }

    #[test]
    fn parameters_are_bound_by_name() {
        let m = metric("SELECT 1 WHERE a = $agent AND n = $n");
        let mut values = BTreeMap::new();
        let rest = bind(&m, &given(&[("agent", "007"), ("n", "7"), ("column", "x")]), &mut values).unwrap();
        assert_eq!(values["agent"], ScalarValue::Utf8(Some("007".into())));
        assert_eq!(values["n"], ScalarValue::Int64(Some(7)));
        assert_eq!(rest, given(&[("column", "x")]));
        let error = bind(&m, &given(&[("n", "7")]), &mut values).unwrap_err();
        assert_eq!(error, "the metric m needs the parameter `agent`; add ?agent=... to the URL");
    }

    #[test]
    fn ranges_begin_and_end_with_local_days() {
        let mut berlin = Calendar::new(zone("Europe/Berlin").unwrap());
        let now = parse_time("2026-11-23T12:00:00Z").unwrap();
        let question =
            Question { from: Some("2026-03-29".into()), to: Some("2026-03-30".into()), ..Question::default() };
        let range = range_of(&mut berlin, &question, Interval::Day, now).unwrap();
        assert_eq!((range.to - range.from) / 3_600_000_000_000, 23, "clocks go forward");
        let week = range_of(&mut berlin, &Question::default(), Interval::Day, now).unwrap();
        assert_eq!(
            (show(week.from).as_str(), show(week.to).as_str()),
            ("2026-11-16T23:00:00.000Z", "2026-11-23T23:00:00.000Z")
        );
        let months = range_of(&mut berlin, &Question::default(), Interval::Month, now).unwrap();
        assert_eq!(show(months.from), "2025-11-30T23:00:00.000Z", "whole months");
    }
}

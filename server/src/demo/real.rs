//! Real files as producers: the folder that `--data` names.
//!
//! Lines are numbered into the events' ids, so that rows that the file has twice stay two rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use chrono::NaiveDateTime;
use flate2::read::MultiGzDecoder;
use millstream::time::{EventTime, SECOND};
use millstream::{Error, Result};
use millstream_proto::v1::{AgentEvent, ApiEvent, IdeEvent, MarketplaceEvent, Status, WorkflowEvent};
use serde::Deserialize;

use super::stream::{Manner, Stream, timestamp};

const AIDER: &str = "ai_aider_analytics_open.jsonl.gz";
const PI: &str = "ai_pi_agent_session_open.jsonl.gz";
const NEZHA: &str = "api_spans_nezha_onlineboutique.csv.gz";
const ABB: &str = "ide_abb_open.csv.gz";
const COMMITS: &str = "workflow_commits_rust-analyzer.csv.gz";
const REVIEWS: &str = "market_reviews_open.csv.gz";

/// The month of the editor log: the whole log is 14 months of 1.7 million events, which no demo needs.
pub const IDE_MONTH: &str = "2014-03";

/// Which files to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Every file.
    All,
    /// The AI telemetry, the agent session and the commits alone.
    Small,
}

/// Reads the files, each as one producer (the editor log as one per developer).
pub fn streams(dir: &Path, files: Files) -> Result<Vec<Stream>> {
    let mut streams = vec![aider(dir)?, pi(dir)?, commits(dir)?];
    if files == Files::All {
        streams.push(nezha(dir)?);
        streams.push(reviews(dir)?);
        streams.extend(developers(dir)?);
    }
    Ok(streams)
}

fn open(dir: &Path, name: &str) -> Result<(PathBuf, BufReader<impl Read>)> {
    let path = dir.join(name);
    let file = File::open(&path).map_err(|e| Error::file(&path, "read", e))?;
    Ok((path, BufReader::with_capacity(1 << 20, MultiGzDecoder::new(file))))
}

fn wrong(path: &Path, line: usize, e: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("{}, line {line}: {e}", path.display()))
}

/// Each line of a JSON lines file, with its number.
fn json_lines<T: serde::de::DeserializeOwned>(dir: &Path, name: &str, mut each: impl FnMut(usize, T)) -> Result<()> {
    let (path, reader) = open(dir, name)?;
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(|e| wrong(&path, index + 1, e))?;
        each(index + 1, serde_json::from_str(&line).map_err(|e| wrong(&path, index + 1, e))?);
    }
    Ok(())
}

/// Each row of a CSV file with its number; `each` says what is wrong with a row.
fn csv_rows<T: serde::de::DeserializeOwned>(
    dir: &Path,
    name: &str,
    mut each: impl FnMut(usize, T) -> Result<(), String>,
) -> Result<()> {
    let (path, reader) = open(dir, name)?;
    for (index, row) in csv::Reader::from_reader(reader).into_deserialize().enumerate() {
        each(index + 1, row.map_err(|e| wrong(&path, index + 2, e))?).map_err(|e| wrong(&path, index + 2, e))?;
    }
    Ok(())
}

fn time_of(text: &str, format: &str) -> Result<EventTime, String> {
    let time = NaiveDateTime::parse_from_str(text, format).map_err(|e| format!("time `{text}`: {e}"))?;
    time.and_utc().timestamp_nanos_opt().ok_or_else(|| format!("time `{text}` is out of range"))
}

#[derive(Deserialize)]
struct AiderLine {
    event: String,
    #[serde(default)]
    properties: AiderProperties,
    user_id: Option<String>,
    time: i64,
}

#[derive(Deserialize, Default)]
struct AiderProperties {
    main_model: Option<String>,
    prompt_tokens: Option<i64>,
    completion_tokens: Option<i64>,
    cost: Option<f64>,
    aider_version: Option<String>,
}

/// Telemetry of an AI coding tool: one execution per answer of a model.
fn aider(dir: &Path) -> Result<Stream> {
    let mut events = Vec::new();
    json_lines(dir, AIDER, |number, line: AiderLine| {
        let status = match line.event.as_str() {
            "message_send_starting" => Status::Started,
            "message_send" => Status::Ok,
            "message_send_exception" => Status::Error,
            _ => Status::Unspecified,
        };
        events.push(AgentEvent {
            event_id: format!("aider-{number}"),
            event_time: timestamp(line.time.saturating_mul(SECOND)),
            user_id: line.user_id.unwrap_or_default(),
            name: line.event,
            agent: "aider".to_string(),
            agent_version: line.properties.aider_version.unwrap_or_default(),
            model: line.properties.main_model.unwrap_or_default(),
            tokens_input: line.properties.prompt_tokens,
            tokens_output: line.properties.completion_tokens,
            cost_usd: line.properties.cost,
            status: status.into(),
            ..AgentEvent::default()
        });
    })?;
    Ok(Stream::new("aider-telemetry", Manner::Restarts, events))
}

#[derive(Deserialize)]
struct PiLine {
    timestamp: String,
    session_id: Option<String>,
    role: Option<String>,
    model: Option<String>,
    usage: Option<PiUsage>,
    stop_reason: Option<String>,
    tool_name: Option<String>,
    is_error: Option<bool>,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PiUsage {
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    cost: PiCost,
}

#[derive(Deserialize)]
struct PiCost {
    total: f64,
}

/// One run of a coding agent: its messages and calls of tools.
fn pi(dir: &Path) -> Result<Stream> {
    let mut events = Vec::new();
    let mut failed = None;
    json_lines(dir, PI, |number, line: PiLine| {
        let time = chrono::DateTime::parse_from_rfc3339(&line.timestamp).ok().and_then(|t| t.timestamp_nanos_opt());
        let Some(time) = time else {
            failed.get_or_insert(number);
            return;
        };
        let status = match (line.role.as_deref(), line.stop_reason.as_deref(), line.is_error) {
            (Some("assistant"), Some("aborted"), _) => Status::Cancelled,
            (Some("assistant"), Some("error"), _) | (Some("toolResult"), _, Some(true)) => Status::Error,
            (Some("assistant" | "toolResult"), _, _) => Status::Ok,
            _ => Status::Unspecified,
        };
        let usage = line.usage;
        let tokens = |of: fn(&PiUsage) -> i64| usage.as_ref().map(of);
        events.push(AgentEvent {
            event_id: format!("pi-{number}"),
            event_time: timestamp(time),
            session_id: line.session_id.unwrap_or_default(),
            name: line.role.unwrap_or(line.kind),
            agent: "pi".to_string(),
            model: line.model.unwrap_or_default(),
            tokens_input: tokens(|u| u.input),
            tokens_output: tokens(|u| u.output),
            tokens_cache_read: tokens(|u| u.cache_read),
            tokens_cache_write: tokens(|u| u.cache_write),
            cost_usd: usage.as_ref().map(|u| u.cost.total),
            tool: line.tool_name.unwrap_or_default(),
            status: status.into(),
            ..AgentEvent::default()
        });
    })?;
    match failed {
        Some(line) => Err(wrong(&dir.join(PI), line, "the timestamp is not RFC 3339")),
        None => Ok(Stream::new("pi-session", Manner::Restarts, events)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Span {
    #[serde(rename = "TraceID")]
    trace: String,
    #[serde(rename = "SpanID")]
    span: String,
    #[serde(rename = "ParentID")]
    parent: String,
    pod_name: String,
    operation_name: String,
    start_time_unix_nano: i64,
    duration: f64,
}

/// Spans of a shop's services, in the order of the file: up to 110 seconds out of order, more than the sources allow.
fn nezha(dir: &Path) -> Result<Stream> {
    let mut events = Vec::new();
    csv_rows(dir, NEZHA, |number, span: Span| {
        // frontend-579b9bff58-t2dbm: the service, then the pod.
        let service = span.pod_name.rsplitn(3, '-').nth(2).unwrap_or(&span.pod_name).to_string();
        events.push(ApiEvent {
            event_id: format!("span-{number}"),
            event_time: timestamp(span.start_time_unix_nano),
            route: span.operation_name,
            latency_ms: Some(span.duration / 1e3),
            service,
            trace_id: span.trace,
            span_id: span.span,
            parent_span_id: if span.parent == "root" { String::new() } else { span.parent },
            ..ApiEvent::default()
        });
        Ok(())
    })?;
    Ok(Stream::new("span-collector", Manner::Steady, events))
}

/// One month of what developers did in their editors, one producer per developer.
fn developers(dir: &Path) -> Result<Vec<Stream>> {
    let (path, reader) = open(dir, ABB)?;
    let mut developers: BTreeMap<String, Vec<IdeEvent>> = BTreeMap::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(|e| wrong(&path, index + 1, e))?;
        if !line.starts_with(IDE_MONTH) {
            continue;
        }
        let mut fields = line.splitn(3, ',');
        let (Some(time), Some(developer), Some(message)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(wrong(&path, index + 1, "three columns are expected"));
        };
        let time = time_of(time, "%Y-%m-%d %H:%M:%S").map_err(|e| wrong(&path, index + 1, e))?;
        developers.entry(developer.to_string()).or_default().push(IdeEvent {
            event_id: format!("ide-log-{}", index + 1),
            event_time: timestamp(time),
            user_id: developer.to_string(),
            name: message.trim_matches('"').to_string(),
            editor: "visual-studio".to_string(),
            ..IdeEvent::default()
        });
    }
    let stream = |(name, events)| Stream::new(format!("developer-{name}"), Manner::Steady, events);
    Ok(developers.into_iter().map(stream).collect())
}

#[derive(Deserialize)]
struct Commit {
    commit: String,
    author_ts: i64,
    author: String,
    n_parents: u32,
}

/// Commits in the order in which they came to the main line; the events' times are when they were written.
fn commits(dir: &Path) -> Result<Stream> {
    let mut events = Vec::new();
    csv_rows(dir, COMMITS, |_, row: Commit| {
        events.push(WorkflowEvent {
            event_id: row.commit.clone(),
            event_time: timestamp(row.author_ts.saturating_mul(SECOND)),
            user_id: row.author,
            name: "commit".to_string(),
            workflow: "rust-analyzer".to_string(),
            run_id: row.commit,
            status: Status::Ok.into(),
            properties: [("parents".to_string(), row.n_parents.to_string())].into(),
            ..WorkflowEvent::default()
        });
        Ok(())
    })?;
    Ok(Stream::new("rust-analyzer-commits", Manner::Steady, events))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    reviewer_id: String,
    vendor_id: String,
    rating: i64,
    date: String,
}

/// Reviews of vendors, by time: the file is ordered by reviewer.
fn reviews(dir: &Path) -> Result<Stream> {
    let mut events = Vec::new();
    csv_rows(dir, REVIEWS, |number, row: Review| {
        let time = time_of(&row.date, "%Y-%m-%d %H:%M")?;
        events.push((
            time,
            MarketplaceEvent {
                event_id: format!("review-{number}"),
                event_time: timestamp(time),
                user_id: row.reviewer_id,
                name: "reviewed".to_string(),
                publisher_id: row.vendor_id,
                rating: Some(row.rating),
                ..MarketplaceEvent::default()
            },
        ));
        Ok(())
    })?;
    events.sort_by_key(|(time, _)| *time);
    let events = events.into_iter().map(|(_, event)| event).collect();
    Ok(Stream::new("vendor-reviews", Manner::Restarts, events))
}

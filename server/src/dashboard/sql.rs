//! SQL: an editor with the schema beside it, results as table and chart, errors under their place, and a live tail.
//!
//! A chart's link brings the query behind it. It works without a script: the form is posted and the page comes back with the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use axum::body::{Body, Bytes};
use axum::extract::{Form, Query, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::StreamExt;
use futures::stream::{iter, unfold};
use maud::{Markup, PreEscaped, html};
use millstream::{Error, QueryLimits, QueryResult, Result};
use millstream_report::CsvWriter;
use millstream_report::chart::full;
use serde::Deserialize;

use super::access::url_encoded;
use super::ask::twin;
use super::export::{SPREADSHEET, attachment, question};
use super::period::Choice;
use super::shell::Page;
use super::table::table;
use crate::adapt::report_error;
use crate::catalog;
use crate::chart;
use crate::http::{App, Problem};
use crate::tables::Tables;

/// Rows shown on the page; the CSV has all.
const ROWS_MAX: usize = 500;
/// Rows of a CSV that are text at a time.
const CHUNK_ROWS: usize = 512;
/// How long a CSV of everything may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3600);
const EXAMPLE: &str = "SELECT *\nFROM system.rollup_runs\nLIMIT 20";

/// The form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Given {
    sql: String,
    tail: String,
    metric: String,
}

/// `GET /sql`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(mut given): Query<Given>,
    Query(choice): Query<Choice>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    // From a chart: the query behind it.
    if !given.metric.is_empty() {
        let question = question(&app, &choice, &query.unwrap_or_default())?;
        given.sql = twin(&app, &given.metric, &question)
            .await?
            .ok_or_else(|| Problem::not_found(format!("no metric `{}`; GET /catalogue lists them", given.metric)))?;
    }
    render(&app, &headers, &given, None).await
}

/// `POST /sql`.
pub async fn run(State(app): State<Arc<App>>, headers: HeaderMap, Form(given): Form<Given>) -> Result<Markup, Problem> {
    let started = Instant::now();
    let limits = QueryLimits { rows_max: ROWS_MAX, ..app.config.query_limits() };
    let answer = app.engine.query(&given.sql, &BTreeMap::new(), &limits).await;
    app.counters.query(answer.is_ok());
    let answer = html! { (answered(&given.sql, answer, started.elapsed())) };
    render(&app, &headers, &given, Some(answer)).await
}

/// `POST /sql/csv`: every row, as it is computed; no more than a batch is held, and few rows of it as text.
pub async fn csv(State(app): State<Arc<App>>, Form(given): Form<Given>) -> Result<Response, Problem> {
    let limits = QueryLimits { rows_max: usize::MAX, timeout: EXPORT_TIMEOUT, ..app.config.query_limits() };
    let stream = app.engine.query_stream(&given.sql, &BTreeMap::new(), &limits).await;
    app.counters.query(stream.is_ok());
    let stream = stream?;
    let writer = CsvWriter::new(Vec::new(), &stream.schema(), SPREADSHEET).map_err(report_error)?;
    let pieces = Box::pin(stream.flat_map(|batch| iter(pieces(batch))));
    let chunks = unfold(Some((pieces, writer)), |state| async move {
        let (mut pieces, mut writer) = state?;
        let batch = match pieces.next().await {
            // The head of a CSV without rows.
            None if writer.get_mut().is_empty() => return None,
            None => return Some((Ok(Bytes::from(std::mem::take(writer.get_mut()))), None)),
            Some(batch) => batch,
        };
        let written = batch.map_err(Error::from).and_then(|batch| writer.write(&batch).map_err(report_error));
        match written {
            Ok(()) => Some((Ok(Bytes::from(std::mem::take(writer.get_mut()))), Some((pieces, writer)))),
            // The connection breaks off: a CSV that ends early must not look whole.
            Err(error) => Some((Err(std::io::Error::other(error.to_string())), None)),
        }
    });
    Ok(attachment("query.csv", Body::from_stream(chunks)))
}

/// A batch by few rows at a time.
fn pieces<E>(batch: std::result::Result<RecordBatch, E>) -> Vec<std::result::Result<RecordBatch, E>> {
    let batch = match batch {
        Ok(batch) => batch,
        Err(error) => return vec![Err(error)],
    };
    let rows = batch.num_rows();
    (0..rows).step_by(CHUNK_ROWS).map(|start| Ok(batch.slice(start, CHUNK_ROWS.min(rows - start)))).collect()
}

async fn render(app: &Arc<App>, headers: &HeaderMap, given: &Given, answer: Option<Markup>) -> Result<Markup, Problem> {
    let stored = Tables::Running(app.engine.clone()).list().await?;
    let sql = match given.sql.trim() {
        "" => stored.iter().find(|(name, _)| name.starts_with("raw_")).map_or(EXAMPLE.to_string(), |(name, _)| {
            format!("SELECT day, count(*) AS events\nFROM {name}\nGROUP BY day\nORDER BY day")
        }),
        _ => given.sql.clone(),
    };
    let lines = sql.lines().count().clamp(9, 28);
    let content = html! {
        div.sql {
            (schema(&stored, &views(app).await?))
            div {
                form.card method="post" action="/sql" {
                    label for="sql" { "Query" span.muted { " one SELECT; read-only. Ctrl+Enter runs it." } }
                    textarea #sql name="sql" rows=(lines) spellcheck="false" autocapitalize="off" autocomplete="off" data-editor { (sql) }
                    div.actions {
                        button.primary { "Run" }
                        button formaction="/sql/csv" { "Download CSV" }
                    }
                }
                @if let Some(answer) = answer { (answer) }
                (tail(&stored, &given.tail))
            }
        }
    };
    let about = "Ask anything of the tables. Results come with a chart where their shape has one.";
    let page = Page { path: "/sql", title: "SQL", about, period: None, breakdowns: &[] };
    Ok(page.render(app, headers, content))
}

/// The shared definitions that need no parameters, with their columns; one whose tables are not there yet is left out.
async fn views(app: &App) -> Result<Vec<(String, SchemaRef)>> {
    let mut views = Vec::new();
    for name in catalog::plain_views(&app.config.sql.views)? {
        let sql = format!("SELECT * FROM {name}");
        let described = app.engine.batch().describe(&sql, &BTreeMap::new(), &app.config.query_limits()).await;
        views.extend(described.ok().map(|described| (name, described.schema)));
    }
    Ok(views)
}

fn schema(stored: &[(String, SchemaRef)], views: &[(String, SchemaRef)]) -> Markup {
    let (aside, tables): (Vec<_>, Vec<_>) =
        stored.iter().partition(|(name, _)| name.ends_with("__late") || name.ends_with("__rejected"));
    html! {
        aside.card.schema aria-label="Tables" {
            h2 { "Tables" }
            @if stored.is_empty() { p.muted { "No table has rows yet." } }
            input type="search" placeholder="Find a table or column" aria-label="Find a table or column" data-schema-filter hidden;
            @for (name, schema) in &tables { (columns(name, schema, true)) }
            @if !views.is_empty() { h2 { "Definitions" } }
            @for (name, schema) in views { (columns(name, schema, false)) }
            @if !aside.is_empty() { h2 { "Late and rejected rows" } }
            @for (name, schema) in &aside { (columns(name, schema, true)) }
        }
    }
}

fn columns(name: &str, schema: &SchemaRef, stored: bool) -> Markup {
    html! {
        details data-table=(name) {
            summary { code { (name) } }
            ul { @for field in schema.fields() {
                li { button.quiet type="button" data-insert=(field.name()) { code { (field.name()) } } " " span.muted { (short(&field.data_type().to_string())) } }
            } }
            p {
                a href={ "/sql?sql=" (url_encoded(&format!("SELECT *\nFROM {name}\nLIMIT 20"))) } { "First rows" }
                @if stored { " · " a href={ "/sql?tail=" (name) } { "Live tail" } }
            }
        }
    }
}

/// `Timestamp(µs)` instead of Arrow's longer words.
fn short(data_type: &str) -> String {
    data_type
        .replace("Utf8View", "text")
        .replace("Utf8", "text")
        .replace("Timestamp(µs, \"UTC\")", "timestamp")
        .to_lowercase()
}

fn answered(sql: &str, answer: Result<QueryResult>, took: Duration) -> Markup {
    let shown = answer.and_then(|answer| {
        let rows = arrow::compute::concat_batches(&answer.schema, &answer.batches)?;
        Ok((results(&rows, answer.truncated, took)?, rows.num_rows()))
    });
    html! {
        section.card #result aria-label="Result" {
            @match shown {
                Ok((results, _)) => (results),
                Err(error) => (trouble(sql, &error)),
            }
        }
    }
}

fn results(rows: &RecordBatch, truncated: bool, took: Duration) -> Result<Markup> {
    let svg = chart::svg("Result", "", &rows.schema(), std::slice::from_ref(rows)).ok().flatten();
    Ok(html! {
        header.card-head {
            h2 { (full(rows.num_rows() as f64)) @if rows.num_rows() == 1 { " row" } @else { " rows" } }
            span.muted { (took.as_millis()) " ms" }
        }
        @if truncated { p.tag { "These are the first " (ROWS_MAX) "; the CSV has all." } }
        @if let Some(svg) = svg { figure.chart tabindex="0" aria-label="Result, chart" { (PreEscaped(svg)) } }
        (table("Result", rows, ROWS_MAX)?)
    })
}

/// What is wrong, with the line of the query and a mark under the place.
fn trouble(sql: &str, error: &Error) -> Markup {
    let place = match error {
        Error::Query(e) => e.place,
        _ => None,
    };
    let marked = place.and_then(|(line, column)| {
        let text = sql.lines().nth((line as usize).saturating_sub(1))?;
        Some((line, text.to_string(), " ".repeat((column as usize).saturating_sub(1))))
    });
    html! {
        div.alert role="alert" {
            strong { "The query did not run." }
            p { (error.to_string()) }
            @if let Some((line, text, indent)) = marked {
                pre { code { (line) " | " (text) "\n" (" ".repeat(line.to_string().len())) " | " (indent) "^" } }
            }
        }
    }
}

fn tail(stored: &[(String, SchemaRef)], chosen: &str) -> Markup {
    html! {
        section.card aria-label="Live tail" {
            header.card-head { h2 { "Live tail" } }
            form.actions method="get" action="/sql" {
                label { "Table " select name="tail" {
                    option value="" { "choose one" }
                    @for (name, _) in stored { option value=(name) selected[name == chosen] { (name) } }
                } }
                button { "Follow" }
            }
            @if chosen.is_empty() {
                p.muted { "Rows appear as checkpoints commit them." }
            } @else {
                div.wide.tail tabindex="0" role="log" aria-label={ "Newest rows of " (chosen) } data-tail={ "/sql/tail?table=" (chosen) } {
                    p.muted { "Waiting for the next commit of " code { (chosen) } "…" }
                }
            }
        }
    }
}

//! Pipelines: what runs, how far it is, what it holds, what was late or rejected and why, and the checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use axum::extract::State;
use axum::http::HeaderMap;
use futures::future::join_all;
use maud::{Markup, html};
use millstream::time::{EventTime, WATERMARK_MAX, WATERMARK_MIN};
use millstream::{PipelineStatus, Result, Status};
use millstream_report::chart::full;

use super::access::url_encoded;
use super::graph::{draw, edges, watermark};
use super::shell::Page;
use super::table::{Format, bytes, table};
use crate::http::{App, Problem};

/// Late or rejected rows that are shown of one table.
const ROWS_MAX: usize = 20;

/// `GET /pipelines`.
pub async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Markup, Problem> {
    let status = app.engine.status();
    let edges = edges(&app)?;
    let names = app.engine.lake().names().await?;
    let named = |endings: &'static [&'static str]| {
        names.iter().filter(move |name| endings.iter().any(|end| name.ends_with(end)))
    };
    let (late, rejected) = tokio::join!(
        join_all(named(&["__late"]).map(|name| kept(&app, name))),
        join_all(named(&["__rejected"]).map(|name| kept(&app, name))),
    );
    let now = app.clock.now();
    let content = html! {
        (positions(&app, &status))
        section.card.wide-card aria-label="Graph" {
            header.card-head { h2 { "What flows into what" } }
            @if edges.is_empty() { (none()) } @else { (draw(&edges, &status)) }
        }
        section.card.wide-card aria-label="Progress" data-live="/live" {
            header.card-head { h2 { "Progress" } }
            (progress(&status, now))
        }
        (rows("Late rows", "Each missed a window that had closed; the raw tables have them all the same.", late))
        (rows("Rejected rows", "Each has its reason and its bytes; nothing is dropped silently.", rejected))
        section.card.wide-card aria-label="Plan" {
            header.card-head { h2 { "How pipelines run" } }
            details { summary { "Operator trees" } pre { code { (app.engine.explain()) } } }
        }
    };
    let about = "What runs all the time: how far it is, what it holds, and what it could not use.";
    let page = Page { path: "/pipelines", title: "Pipelines", about, period: None, breakdowns: &[] };
    Ok(page.render(&app, &headers, html! { div.cards { (content) } }))
}

fn none() -> Markup {
    html! { div.state { p { strong { "No pipeline is defined." } } p { "Put a file with INSERT INTO … SELECT … into " code { "pipelines/" } " and start again." } } }
}

/// Checkpoint and log, as figures.
fn positions(app: &App, status: &Status) -> Markup {
    let waiting = status.log_end.saturating_sub(status.log_read);
    let open = status.log_end.saturating_sub(status.log_checkpointed);
    let figure = |label: &str, field: &str, value: String, said: String| {
        html! { div.figure { span.label { (label) } span.value data-field=(field) { (value) } span.change { span.muted { (said) } } } }
    };
    html! {
        section.figures.wide-card aria-label="Positions" data-live="/live" {
            (figure("Newest checkpoint", "checkpoint", status.checkpoint.to_string(), format!("every {} s", app.config.checkpoint_interval.as_secs_f64())))
            (figure("Entries in the log", "log_end", full(status.log_end as f64), "acknowledged and durable".into()))
            (figure("Waiting to be read", "log_waiting", full(waiting as f64), "in the log, not yet in a pipeline".into()))
            (figure("Since the checkpoint", "log_open", full(open as f64), "read again after a crash".into()))
            (figure("Rejected rows", "rejected", full(status.rows_rejected as f64), "since the start".into()))
            (figure("Ahead of the clock", "future", full(status.rows_future as f64), "kept; they move no watermark".into()))
        }
    }
}

fn progress(status: &Status, now: EventTime) -> Markup {
    let aside = |p: &&PipelineStatus| p.name.ends_with("__rejected");
    let (working, aside) = (status.pipelines.iter().filter(|p| !aside(p)), status.pipelines.iter().filter(aside));
    html! {
        div.wide tabindex="0" role="region" aria-label="Progress of each pipeline" {
            table {
                caption.unseen { "Progress of each pipeline" }
                thead { tr {
                    th scope="col" { "Pipeline" }
                    @for head in ["Rows in", "Rows out", "Rows/s", "Late", "State", "Lag"] { th.number scope="col" { (head) } }
                    th scope="col" { "Watermark, UTC" }
                } }
                tbody { @for p in working.chain(aside) { (row(p, now)) } }
            }
        }
    }
}

fn row(p: &PipelineStatus, now: EventTime) -> Markup {
    let known = p.watermark != WATERMARK_MIN && p.watermark != WATERMARK_MAX;
    let lag = known.then(|| Format::Milliseconds.text(now.saturating_sub(p.watermark) as f64 / 1e6));
    html! {
        tr id={ "pipeline-" (p.name) } data-pipeline=(p.name) {
            th scope="row" { code { (p.name) } }
            td.number data-cell="in" { (full(p.rows_in as f64)) }
            td.number data-cell="out" { (full(p.rows_out as f64)) }
            td.number data-cell="rate" { "–" }
            td.number data-cell="late" { (full(p.rows_late as f64)) }
            td.number data-cell="state" { (bytes(p.state_bytes as f64)) }
            td.number data-cell="lag" { (lag.unwrap_or_else(|| "–".into())) }
            td data-cell="watermark" { (watermark(p.watermark)) }
        }
    }
}

/// What is shown of a rejected row.
const REJECTED: &str = "received_at, code, message, CAST(raw AS VARCHAR) AS raw";

/// The column by which rows came, of a table of late or rejected rows.
fn came(table: &str) -> &'static str {
    if table.ends_with("__rejected") { "received_at" } else { "late_watermark" }
}

/// The rows that came last of a table of late or rejected rows, and how many there are.
async fn kept(app: &App, name: &str) -> (String, Result<(u64, RecordBatch)>) {
    let answer = async {
        if let Some(table) = app.engine.lake().existing(name).await?
            && table.days().await?.is_empty()
        {
            return Ok((0, RecordBatch::new_empty(table.schema())));
        }
        let limits = app.config.query_limits();
        let none = BTreeMap::new();
        let count = app.engine.query(&format!("SELECT count(*) AS n FROM \"{name}\""), &none, &limits).await?;
        let n = arrow::compute::concat_batches(&count.schema, &count.batches)?;
        let n = super::ask::numbers(&n, "n").into_iter().flatten().next().unwrap_or(0.0) as u64;
        let newest =
            |columns: &str| format!("SELECT {columns} FROM \"{name}\" ORDER BY {} DESC LIMIT {ROWS_MAX}", came(name));
        let readable = if name.ends_with("__rejected") { REJECTED } else { "*" };
        let rows = match app.engine.query(&newest(readable), &none, &limits).await {
            Ok(rows) => rows,
            // Bytes that are no text are shown as they are kept.
            Err(_) => app.engine.query(&newest("*"), &none, &limits).await?,
        };
        Ok((n, arrow::compute::concat_batches(&rows.schema, &rows.batches)?))
    };
    (name.to_string(), answer.await)
}

/// Where all rows of such a table are.
fn all(table: &str) -> String {
    let sql = format!("SELECT *\nFROM {table}\nORDER BY {} DESC", came(table));
    format!("/sql?sql={}", url_encoded(&sql))
}

fn rows(title: &str, about: &str, tables: Vec<(String, Result<(u64, RecordBatch)>)>) -> Markup {
    let filled = tables.iter().any(|(_, answer)| answer.as_ref().is_ok_and(|(n, _)| *n > 0));
    html! {
        section.card.wide-card aria-label=(title) {
            header.card-head { h2 { (title) } }
            p.muted { (about) }
            @if !filled { p.state { strong { "None." } } }
            @for (name, answer) in &tables {
                @match answer {
                    Ok((0, _)) => {}
                    Ok((n, rows)) => details {
                        summary { code { (name) } " " span.tag { (full(*n as f64)) } }
                        @match table(name, rows, ROWS_MAX) { Ok(table) => (table), Err(error) => p.alert { (error.to_string()) } }
                        @if *n as usize > rows.num_rows() {
                            p.muted { "These " (rows.num_rows()) " came last, of " (full(*n as f64)) ". " a href=(all(name)) { "All of them, by SQL" } }
                        }
                    },
                    Err(error) => p.alert role="alert" { code { (name) } ": " (error.to_string()) },
                }
            }
        }
    }
}

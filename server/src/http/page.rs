//! `GET /`: what runs here, at a glance. Rendered on the server, without a script.

use std::fmt::Write;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use millstream::time::{EventTime, WATERMARK_MAX, WATERMARK_MIN, show};
use serde::Deserialize;

use super::gate::authorize_local;
use super::metric::run;
use super::{App, Problem};
use crate::catalog::{self, SqlFile};
use crate::chart;
use crate::range::{Range, parse_time, show_day};
use crate::tables::Tables;

/// No script, no foreign source; styles only of the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2933; --muted: #5f6b7a; --line: #e6e9ee; --ground: #fff; --card: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --muted: #9aa5b1; --line: #323f4b; --ground: #12181f; --card: #1b232c; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .75rem; } h3 { font-size: 1rem; margin: 0; }
.muted, small { color: var(--muted); }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 32rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; min-width: 0; }
.card svg { width: 100%; height: auto; display: block; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font: 13px ui-monospace, 'SF Mono', Menlo, Consolas, monospace; }
td.columns { white-space: normal; color: var(--muted); }
form { margin: .5rem 0 0; } input, button { font: inherit; }
";

/// The time that the charts show.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice {
    from: String,
    to: String,
}

/// The page.
pub async fn index(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorize_local(&app, &headers)?;
    let range = choose_range(&app, &choice).map_err(Problem::bad_request)?;
    let mut metrics = String::new();
    for file in catalog::list(&app.config.sql.metrics)? {
        metrics.push_str(&card(&app, &file, range).await);
    }
    let stored = Tables::Running(app.engine.clone()).list().await?;
    let mut response = Html(page(&app, range, &metrics, &stored)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The last week; if all data is older (a replay), the last week of the data.
fn choose_range(app: &App, choice: &Choice) -> Result<Range, String> {
    let time = |text: &str| (!text.is_empty()).then(|| parse_time(text)).transpose();
    let (from, to) = (time(&choice.from)?, time(&choice.to)?);
    let now = app.clock.now();
    let newest = app.engine.status().pipelines.iter().map(|p| p.watermark).filter(|w| *w < WATERMARK_MAX).max();
    let week = Range::or_last_week(None, None, now)?;
    let end = match newest {
        Some(newest) if newest != WATERMARK_MIN && newest < week.from => newest,
        _ => now,
    };
    Range::or_last_week(from, to, end)
}

/// One metric: its chart, or what is wrong with it. One bad metric must not hide the others.
async fn card(app: &App, file: &SqlFile, range: Range) -> String {
    let needed: Vec<String> = file.parameters().into_iter().filter(|name| name != "from" && name != "to").collect();
    let drawing = if needed.is_empty() {
        let mut parameters = range.parameters();
        let known = file.parameters();
        parameters.retain(|name, _| known.contains(name));
        match run(app, file, &parameters).await {
            Ok(result) => chart::svg(&file.title, &file.definition, &result.schema, &result.batches)
                .map(|svg| svg.unwrap_or_else(|| "<p class=muted>This metric has no chart.</p>".to_string())),
            Err(error) => Err(error),
        }
        .unwrap_or_else(|error| format!("<pre class=muted>{}</pre>", escape(&error.to_string())))
    } else {
        format!("<p class=muted>Needs the parameters {}.</p>", escape(&needed.join(", ")))
    };
    let about = file.definition.split("\n\n").next().unwrap_or("").replace('\n', " ");
    format!(
        "<article class=card><h3>{}</h3>{drawing}<small>{}</small><br><code>GET /api/v1/metrics/{}</code></article>\n",
        escape(&file.title),
        escape(&about),
        escape(&file.name)
    )
}

fn page(app: &App, range: Range, metrics: &str, stored: &[(String, SchemaRef)]) -> String {
    let day = |time: EventTime| show_day(millstream::time::day_of(time));
    let (first, last) = (day(range.from), day(range.to.saturating_sub(1)));
    let status = app.engine.status();
    let failure = status.failure.as_deref().map_or_else(String::new, |f| {
        format!("<p role=alert><strong>The pipelines have stopped:</strong> {}</p>\n", escape(f))
    });
    let mut pipelines = String::new();
    for p in &status.pipelines {
        // Writing to a String cannot fail.
        let _ = writeln!(
            pipelines,
            "<tr><td><code>{}</code><td class=number>{}<td class=number>{}<td class=number>{}<td>{}",
            escape(&p.name),
            p.rows_in,
            p.rows_out,
            p.rows_late,
            show(p.watermark)
        );
    }
    let mut tables = String::new();
    for (name, schema) in stored {
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (name, columns) = (escape(name), escape(&columns.join(", ")));
        let _ = writeln!(tables, "<tr><td><code>{name}</code><td class=columns>{columns}");
    }
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content=\"width=device-width\">\n\
         <title>Millstream</title>\n<style>{STYLE}{}</style>\n\
         <h1>Millstream</h1>\n<p class=muted>{first} to {last}, UTC. Checkpoint {}; {} of {} log entries are in the tables.</p>\n{failure}\
         <form>From <input name=from type=date value={first}> to <input name=to type=date value={}> \
         <button>Show</button></form>\n\
         <h2>Metrics</h2>\n<div class=cards>\n{metrics}</div>\n\
         <h2>Pipelines</h2>\n<div class=wide><table><tr><th>Pipeline<th class=number>Rows in<th class=number>Rows out\
         <th class=number>Late<th>Watermark\n{pipelines}</table></div>\n\
         <h2>Tables</h2>\n<div class=wide><table><tr><th>Table<th>Columns\n{tables}</table></div>\n",
        millstream_report::chart::page_css(),
        status.checkpoint,
        status.log_checkpointed,
        status.log_end,
        day(range.to),
    )
}

/// Text as HTML.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files_and_producers_are_text() {
        assert_eq!(
            escape("<script>alert('&\"')</script>"),
            "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;"
        );
    }
}

//! Metrics: every file of sql/metrics, and each by itself, drawn by the shape of its answer: a new file has a page at once.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use maud::{Markup, PreEscaped, html};
use millstream_report::{ChartSpec, Theme};

use super::ask::{Question, ask, on_clocks_of};
use super::period::{Choice, Period};
use super::shell::Page;
use super::table::table;
use crate::adapt::report_error;
use crate::catalog::{self, SqlFile};
use crate::chart;
use crate::http::{App, Problem};

const ROWS_MAX: usize = 500;

/// `GET /catalogue`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let period = choice.resolve(&app, "7d", app.zone())?;
    let files = catalog::list(&app.config.sql.metrics)?;
    let content = html! {
        div.cards.small {
            @for file in &files {
                a.card.entry href={ "/catalogue/" (file.name) "?" (period.query(&[("by", "")])) } {
                    h2 { (file.title) }
                    p.muted { (first_paragraph(file)) }
                    code { (file.name) }
                }
            }
        }
        @if files.is_empty() { div.state { p { strong { "No metric is installed." } } p { "A file with one SELECT in " code { "sql/metrics/" } " is a metric." } } }
    };
    let about = "One SQL file is one metric, one page and one URL of the API.";
    let page = Page { path: "/catalogue", title: "Metrics", about, period: Some(&period), breakdowns: &[] };
    Ok(page.render(&app, &headers, content))
}

fn first_paragraph(file: &SqlFile) -> String {
    file.definition.split("\n\n").next().unwrap_or("").replace('\n', " ")
}

/// `GET /catalogue/{metric}`.
pub async fn one(
    State(app): State<Arc<App>>,
    Path(metric): Path<String>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    if !catalog::is_name(&metric) || !app.config.sql.metrics.join(format!("{metric}.sql")).is_file() {
        return Err(Problem::not_found(format!("no metric `{metric}`; GET /catalogue lists them")));
    }
    let file = catalog::find(&app.config.sql.metrics, "metric", &metric)?;
    let period = choice.resolve(&app, "30d", app.zone())?;
    let content = html! {
        nav.crumbs aria-label="Where you are" { a href={ "/catalogue?" (period.query(&[("by", "")])) } { "Metrics" } " / " span aria-current="page" { (file.title) } }
        div.cards {
            section.card.wide-card aria-label=(file.title) {
                header.card-head { h2 { (file.title) }  nav aria-label="Export" { a href={ "/sql?metric=" (file.name) "&" (period.query(&[])) } title="The query, to run and to change" { "SQL" } a href={ "/chart/" (file.name) "?" (period.query(&[])) } download { "CSV" } } }
                (drawn(&app, &file, &period).await)
            }
            section.card.wide-card aria-label="Definition" {
                header.card-head { h2 { "Definition" } }
                @for paragraph in file.definition.split("\n\n") { p { (paragraph.replace('\n', " ")) } }
                p { code { "GET /api/v1/metrics/" (file.name) } }
                details { summary { "SQL" } pre { code { (file.sql) } } }
            }
        }
    };
    let page = Page { path: "/catalogue", title: &file.title, about: "", period: Some(&period), breakdowns: &[] };
    Ok(page.render(&app, &headers, content))
}

async fn drawn(app: &App, file: &SqlFile, period: &Period) -> Markup {
    let by = (!period.by.is_empty()).then(|| period.by.clone());
    let rows = match ask(app, &file.name, &Question { by, ..Question::of(period) }).await {
        Ok(Some(answer)) => answer.rows,
        Ok(None) => return html! {},
        Err(error) => return html! { p.alert role="alert" { (error.to_string()) } },
    };
    let svg = svg(&file.title, &rows, period).ok().flatten();
    html! {
        @if rows.num_rows() == 0 { div.state { p { strong { "No rows in this period." } } } }
        @else {
            @if let Some(svg) = svg { figure.chart tabindex="0" aria-label=(file.title) { (PreEscaped(svg)) } }
            @match table(&file.title, &rows, ROWS_MAX) { Ok(table) => (table), Err(error) => p.alert { (error.to_string()) } }
        }
    }
}

/// Periods begin on the clocks of the page, as their labels in the table say.
fn svg(title: &str, rows: &RecordBatch, period: &Period) -> millstream::Result<Option<String>> {
    if rows.column_by_name("period_start").is_none() {
        return chart::svg(title, "", &rows.schema(), std::slice::from_ref(rows));
    }
    let rows = on_clocks_of(rows, "period_start", period.zone, 0)?;
    let spec = chart::spec(title, "", &rows.schema(), std::slice::from_ref(&rows));
    let spec = spec.map(|spec| ChartSpec { clocks: period.zone.name().to_string(), ..spec });
    spec.map(|spec| spec.to_svg(Theme::Page)).transpose().map_err(report_error)
}

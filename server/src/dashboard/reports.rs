//! Reports: make one now, see what was made and sent, and send one by hand.

use std::sync::Arc;

use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use millstream::{Error, Result};
use millstream_report::CsvWriter;
use serde::Deserialize;

use super::export::{SPREADSHEET, attachment};
use super::period::{Choice, Period};
use super::shell::Page;
use super::table::{bytes, moment};
use super::{access, graph};
use crate::adapt::report_error;
use crate::http::{App, Problem};
use crate::report;
use crate::sending::{self, Kept, Order, Scheduled, Trigger};
use crate::tables::Tables;

/// Runs that are shown.
const RUNS_MAX: usize = 50;
/// Addresses of one sending by hand.
const ADDRESSES_MAX: usize = 20;

/// The form of "send now".
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    to: String,
    range: String,
    tz: String,
    from: String,
    until: String,
}

/// `GET /reports`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let period = choice.resolve(&app, "7d", app.zone())?;
    let names = report::list(&app.config.sql.reports)?;
    let runs = sending::history(app.engine.lake(), RUNS_MAX).await?;
    let content = html! {
        div.cards {
            @for name in &names { (card(&app, name, &period)?) }
            @if names.is_empty() { div.state { p { strong { "No report is installed." } } p { "A folder of numbered SELECTs in " code { "sql/reports/" } " is a report." } } }
            (schedules(&app))
            (history(&runs))
        }
    };
    let about = "Made for the time chosen above: as PDF now, or by e-mail. Scheduled ones are made for the last full day, week or month.";
    let page = Page { path: "/reports", title: "Reports", about, period: Some(&period), breakdowns: &[] };
    Ok(page.render(&app, &headers, content))
}

fn title(name: &str) -> String {
    crate::label::capitalised(&crate::chart::words(name))
}

fn card(app: &App, name: &str, period: &Period) -> Result<Markup> {
    let sections = report::sections(&app.config.sql.reports, name)?;
    Ok(html! {
        section.card aria-label=(title(name)) {
            header.card-head { h2 { (title(name)) } nav aria-label={ (title(name)) ": PDF" } { a href={ "/reports/" (name) "/pdf?" (period.query(&[])) } { "PDF of " (period.words()) } } }
            ul.sections aria-label="Sections, as CSV" { @for section in &sections {
                li { a href={ "/reports/" (name) "/csv/" (section.name) "?" (period.query(&[])) } download title="CSV" { (section.title) } }
            } }
            form.actions method="post" action={ "/reports/" (name) "/send" } {
                @for (field, value) in fields(period) { input type="hidden" name=(field) value=(value); }
                label { "Send to " input type="text" name="to" placeholder="ada@example.com, …" aria-label="Mail addresses, with commas between; empty only keeps it"; }
                button { "Send now" }
            }
        }
    })
}

/// The choice of time, for a form.
fn fields(period: &Period) -> Vec<(&'static str, String)> {
    vec![
        ("from", millstream::time::show(period.range.from)),
        ("until", millstream::time::show(period.range.to)),
        ("tz", period.zone.name().to_string()),
    ]
}

fn schedules(app: &App) -> Markup {
    let all = &app.config.reports.schedule;
    let now = app.clock.now();
    let next = |s: &Scheduled| s.next(now).map_or("never".to_string(), graph::watermark);
    html! {
        section.card.wide-card aria-label="Schedules" {
            header.card-head { h2 { "Schedules" } }
            @if all.is_empty() {
                div.state { p { strong { "No report is scheduled." } } p { "In " code { "millstream.toml" } ":" }
                    pre { code { "[[reports.schedule]]\nreport = \"weekly\"\ncron = \"0 7 * * 1\"\ntime_zone = \"Europe/Berlin\"\nto = [\"ada@example.com\"]" } } }
            } @else {
                div.wide { table {
                    thead { tr { @for head in ["Report", "Cron", "Time zone", "Covers", "Next, UTC", "To"] { th scope="col" { (head) } } } }
                    tbody { @for s in all { tr {
                        td { (title(&s.report)) } td { code { (s.cron) } } td { (s.time_zone.as_deref().unwrap_or("UTC")) }
                        td { (format!("{:?}", s.covers()).to_lowercase()) } td { (next(s)) } td { (s.to.join(", ")) }
                    } } }
                } }
            }
        }
    }
}

fn history(runs: &[Kept]) -> Markup {
    html! {
        section.card.wide-card #history aria-label="History" {
            header.card-head { h2 { "History" } }
            @if runs.is_empty() { p.state { strong { "Nothing was made yet." } " Scheduled reports and those sent by hand are kept beside the tables." } }
            @else { div.wide { table {
                thead { tr { @for head in ["Made, UTC", "Report", "About", "By", "Files", "Sent"] { th scope="col" { (head) } } } }
                tbody { @for run in runs { (row(run)) } }
            } } }
        }
    }
}

fn row(run: &Kept) -> Markup {
    let day = |text: &str| moment(text).chars().take(16).collect::<String>();
    html! {
        tr {
            td { (moment(&run.generated_at)) }
            th scope="row" { (title(&run.report)) }
            td { (day(&run.from)) " – " (day(&run.to)) }
            td { (run.trigger) }
            td {
                @if let Some(error) = &run.error { span.worse title=(error) { "failed: " (error.chars().take(80).collect::<String>()) } }
                @for file in &run.files {
                    a href={ "/reports/" (run.report) "/runs/" (run.run) "/" (file.name) } title={ (file.name) ", " (bytes(file.bytes as f64)) } { (file_label(&file.name)) } " "
                }
            }
            td {
                @if run.recipients.is_empty() { span.muted { "kept only" } }
                @for recipient in &run.recipients {
                    @match (&recipient.sent_at, &recipient.error) {
                        (Some(at), _) => span.better title={ "at " (moment(at)) } { "✓ " (recipient.address) " " },
                        (None, Some(error)) => span.worse title=(error) { "✗ " (recipient.address) " " },
                        (None, None) => span.muted { (recipient.address) " " },
                    }
                }
            }
        }
    }
}

/// `PDF`, and of a section's rows what they are about: ten links that all say CSV tell nobody which to take.
fn file_label(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((section, "csv")) => {
            crate::chart::words(section.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_'))
        }
        _ => name.rsplit('.').next().unwrap_or(name).to_uppercase(),
    }
}

/// `GET /reports/{report}/pdf`.
pub async fn pdf(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(choice): Query<Choice>,
) -> Result<Response, Problem> {
    known(&app, &name)?;
    let period = choice.resolve(&app, "7d", app.zone())?;
    let tables = Tables::Running(app.engine.clone());
    let answers = report::run(&tables, &app.config, &name, period.range, period.zone, app.clock.now()).await?;
    let (file, organisation) = (format!("{}.pdf", answers.file_name()), app.config.reports.organisation.clone());
    // Setting pages is work for a thread of its own.
    let bytes = tokio::task::spawn_blocking(move || answers.pdf(&organisation)).await;
    let bytes = bytes.map_err(|e| millstream::Error::Bug(format!("setting a report panicked: {e}")))??;
    let headers = [
        (header::CONTENT_TYPE, "application/pdf".to_string()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{file}\"")),
    ];
    Ok((headers, bytes).into_response())
}

/// `GET /reports/{report}/csv/{section}`.
pub async fn csv(
    State(app): State<Arc<App>>,
    Path((name, section)): Path<(String, String)>,
    Query(choice): Query<Choice>,
) -> Result<Response, Problem> {
    known(&app, &name)?;
    let period = choice.resolve(&app, "7d", app.zone())?;
    let tables = Tables::Running(app.engine.clone());
    let answer =
        report::section(&tables, &app.config, (&name, &section), period.range, period.zone, app.clock.now()).await;
    let answer = answer.map_err(|error| match error {
        Error::Config(detail) => Problem::not_found(detail),
        error => error.into(),
    })?;
    let mut writer = CsvWriter::new(Vec::new(), &answer.schema, SPREADSHEET).map_err(report_error)?;
    for batch in &answer.batches {
        writer.write(batch).map_err(report_error)?;
    }
    let (_, bytes) = writer.finish().map_err(report_error)?;
    Ok(attachment(&format!("{name}_{section}.csv"), bytes))
}

fn known(app: &App, name: &str) -> Result<(), Problem> {
    let names = report::list(&app.config.sql.reports)?;
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    Err(Problem::not_found(format!("no report `{name}`; there are: {}", names.join(", "))))
}

/// `POST /reports/{report}/send`.
pub async fn send(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Form(wanted): Form<Wanted>,
) -> Result<Redirect, Problem> {
    known(&app, &name)?;
    let to: Vec<String> = wanted.to.split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_string).collect();
    if to.len() > ADDRESSES_MAX {
        return Err(Problem::bad_request(format!("{} addresses; at most {ADDRESSES_MAX} at a time", to.len())));
    }
    let choice = Choice::of(&wanted.range, &wanted.from, &wanted.until, &wanted.tz);
    let period = choice.resolve(&app, "7d", app.zone())?;
    let who = access::signed_in(&app, &headers).unwrap_or_else(|| "by hand".into());
    let order = Order { report: name, trigger: Trigger::ByHand(who), range: period.range, zone: period.zone, to };
    let tables = Tables::Running(app.engine.clone());
    sending::make(&tables, &app.config, app.clock.now(), &order, None).await?;
    Ok(Redirect::to("/reports#history"))
}

/// `GET /reports/{report}/runs/{run}/{file}`.
pub async fn file(
    State(app): State<Arc<App>>,
    Path((name, run, file)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let Some(bytes) = sending::read(app.engine.lake(), &name, &run, &file).await? else {
        return Err(Problem::not_found(format!("no file `{file}` of that run; GET /reports lists the runs")));
    };
    let media_type = if file.ends_with(".pdf") { "application/pdf" } else { "text/csv; charset=utf-8" };
    let kind = if file.ends_with(".pdf") { "inline" } else { "attachment" };
    let plain: String = file.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).collect();
    let headers = [
        (header::CONTENT_TYPE, media_type.to_string()),
        (header::CONTENT_DISPOSITION, format!("{kind}; filename=\"{plain}\"")),
    ];
    Ok((headers, bytes).into_response())
}

//! Overview: is everything well, how are we doing, what is rising, what happens right now.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use futures::future::join_all;
use maud::{Markup, html};
use millstream::Status;
use millstream::time::{WATERMARK_MAX, WATERMARK_MIN};
use millstream_report::Better;
use millstream_report::chart::full;

use super::agents::TOKENS_BY_AGENT;
use super::business::currencies;
use super::figure::Figure;
use super::panel::{Draw, Panel};
use super::period::{Choice, Period};
use super::shell::Page;
use crate::http::{App, Problem};

const FIGURES: [Figure; 8] = [
    Figure::whole("Active users", "active_users", "users", Better::Higher, "/users"),
    Figure::whole("New users", "new_users", "users", Better::Higher, "/users"),
    Figure::whole("Agent executions", "agent_executions", "executions", Better::Higher, "/agents"),
    Figure::whole("Success rate", "agent_executions", "success_rate", Better::Higher, "/agents"),
    Figure::whole("Agent cost", "agent_tokens", "cost_usd", Better::Neither, "/agents"),
    Figure::last("MRR", "mrr", "mrr_minor", Better::Higher, "/business"),
    Figure::whole("API p95", "api_latency", "latency_p95_ms", Better::Lower, "/system"),
    Figure::whole("API errors", "api_errors", "error_rate", Better::Lower, "/system"),
];

const PANELS: [Panel; 6] = [
    // As the figure asks it, so that one answer serves both.
    Panel::new("Daily active users", "active_users", Draw::Line(&["users"]), "ide_events").interval("day"),
    Panel::new(
        "Agent executions",
        "agent_executions",
        Draw::Stacked(&["successes", "cancelled", "failures"], &[]),
        "agent_events",
    ),
    Panel::new("API latency, p95", "api_latency", Draw::Line(&["latency_p95_ms"]), "api_events"),
    Panel::new("API errors", "api_errors", Draw::Bars("error_rate"), "api_events"),
    TOKENS_BY_AGENT,
    Panel::new("Trending agents", "agent_trending", Draw::Ranking("agent", "score"), "marketplace_events")
        .needs("An agent trends when at least ten different installers took it within a week.")
        .link("/agents/"),
];

const ACTIVITY: Panel = Panel::new("Recent activity", "recent_activity", Draw::Table, "marketplace_events").wide();

/// `GET /`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let mut period = choice.resolve(&app, "7d", app.zone())?;
    if period.currency.is_empty() {
        period.currency = currencies(&app, &period).await.into_iter().next().unwrap_or_default();
    }
    let (figures, panels, activity) = tokio::join!(
        join_all(FIGURES.iter().map(|figure| figure.render(&app, &period, &[]))),
        join_all(PANELS.iter().map(|panel| panel.render(&app, &period, &[]))),
        ACTIVITY.render(&app, &period, &[]),
    );
    let content = html! {
        (health(&app, &period))
        section.figures aria-label="Key figures" { @for figure in figures { (figure) } }
        div.cards { @for panel in panels { (panel) } (activity) }
    };
    let page = Page { path: "/", title: "Overview", about: "", period: Some(&period), breakdowns: &[] };
    Ok(page.render(&app, &headers, content))
}

/// One line that says whether to worry; its numbers are live.
fn health(app: &App, period: &Period) -> Markup {
    let status = app.engine.status();
    let (mood, words) = verdict(&status);
    let newest = status
        .pipelines
        .iter()
        .filter(|p| !p.name.ends_with("__rejected"))
        .map(|p| p.watermark)
        .filter(|w| *w < WATERMARK_MAX && *w != WATERMARK_MIN)
        .max();
    let late: u64 = status.pipelines.iter().map(|p| p.rows_late).sum();
    html! {
        section.health class=(mood) aria-label="Health" data-live="/live" data-zone=(period.zone.name()) {
            p.verdict { span.dot aria-hidden="true" {} strong data-field="health" { (words) } }
            dl {
                div { dt { "Pipelines" } dd { (status.pipelines.len()) } }
                div { dt { "Newest event" } dd data-field="newest" { (newest.map_or("none yet".into(), |w| period.local(w).format("%-d %b %H:%M:%S").to_string())) } }
                div { dt { "Rows per second" } dd data-field="rate" { "–" } }
                div { dt { "Late" } dd data-field="late" { (full(late as f64)) } }
                div { dt { "Rejected" } dd data-field="rejected" { (full(status.rows_rejected as f64)) } }
                div { dt { "Checkpoint" } dd data-field="checkpoint" { (status.checkpoint) } }
            }
        }
    }
}

/// Health in a word for colours and in words for people.
pub fn verdict(status: &Status) -> (&'static str, &'static str) {
    let behind = status.log_end.saturating_sub(status.log_read);
    match (&status.failure, status.pipelines.is_empty(), behind) {
        (Some(_), ..) => ("bad", "Pipelines have stopped"),
        (None, true, _) => ("idle", "No pipeline is defined"),
        (None, false, behind) if behind > 10_000 => ("slow", "Catching up"),
        _ => ("good", "All pipelines are running"),
    }
}

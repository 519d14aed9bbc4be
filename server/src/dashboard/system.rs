//! System performance: latency, errors, incidents, cost, storage.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use maud::Markup;
use millstream_report::Better;

use super::figure::Figure;
use super::panel::{Draw, Panel};
use super::period::Choice;
use super::sections::{Section, render};
use super::shell::Page;
use crate::http::{App, Problem};

const BY: &[&str] = &["route", "method", "status_class", "service"];

const FIGURES: [Figure; 5] = [
    Figure::whole("Requests", "api_errors", "requests", Better::Neither, "#panel-api_errors"),
    Figure::whole("Latency, p50", "api_latency", "latency_p50_ms", Better::Lower, "#panel-api_latency"),
    Figure::whole("Latency, p95", "api_latency", "latency_p95_ms", Better::Lower, "#panel-api_latency"),
    Figure::whole("Latency, p99", "api_latency", "latency_p99_ms", Better::Lower, "#panel-api_latency"),
    Figure::whole("Error rate", "api_errors", "error_rate", Better::Lower, "#panel-api_errors"),
];

/// The last hour as the stream has it; a page that is open gets it anew as minutes close.
const LIVE: Panel = Panel::new(
    "The last hour, live",
    "api_latency_live",
    Draw::Line(&["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"]),
    "api_events",
)
.by(BY)
.refreshed("/system/live")
.wide();

const SECTIONS: [Section; 4] = [
    Section {
        title: "Latency",
        panels: &[
            LIVE,
            Panel::new(
                "Latency of the API",
                "api_latency",
                Draw::Line(&["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"]),
                "api_events",
            )
            .wide(),
            Panel::new(
                "p95 by route",
                "api_latency",
                Draw::Heat("period_start", "breakdown", "latency_p95_ms"),
                "api_events",
            )
            .follow()
            .always_by("route")
            .wide(),
            Panel::new(
                "Days, exact",
                "api_latency_exact",
                Draw::Line(&["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"]),
                "api_events",
            )
            .wide(),
        ],
    },
    Section {
        title: "Errors and incidents",
        panels: &[
            Panel::new("Error rate", "api_errors", Draw::Line(&["error_rate"]), "api_events").by(BY),
            Panel::new("Requests", "api_errors", Draw::Line(&["requests"]), "api_events").by(BY),
            Panel::new("Error budget", "error_budget", Draw::Table, "api_events").wide(),
            Panel::new("Incidents", "incidents", Draw::Table, "incident_events").wide(),
        ],
    },
    Section {
        title: "Cost",
        panels: &[
            Panel::new("Infrastructure cost", "infra_cost", Draw::Bars("effective_usd"), "cost_events")
                .always_by("service"),
            Panel::new("Who causes it", "infra_cost_allocation", Draw::Ranking("owner", "cost_usd"), "cost_events"),
        ],
    },
    Section {
        title: "Storage",
        panels: &[
            Panel::new("Stores", "storage", Draw::Table, "storage_events"),
            Panel::new(
                "Stored bytes",
                "storage_history",
                Draw::Line(&["live_bytes", "unreferenced_bytes"]),
                "storage_events",
            )
            .split("store"),
        ],
    },
];

/// `GET /system`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let period = choice.resolve(&app, "7d", app.zone())?;
    let content = render(&app, &period, &FIGURES, &SECTIONS, &[]).await;
    let about = "How fast the platform answers, what fails, what it costs and what it keeps.";
    let page = Page { path: "/system", title: "System", about, period: Some(&period), breakdowns: BY };
    Ok(page.render(&app, &headers, content))
}

/// `GET /system/live`: the panel of the last hour by itself.
pub async fn live(State(app): State<Arc<App>>, Query(choice): Query<Choice>) -> Result<Markup, Problem> {
    let period = choice.resolve(&app, "7d", app.zone())?;
    Ok(LIVE.render(&app, &period, &[]).await)
}

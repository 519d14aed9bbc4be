//! Agent analytics: which are used, how well they work, what they cost; and one agent by itself.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use maud::{Markup, html};
use millstream_report::Better;

use super::figure::Figure;
use super::panel::{Draw, Panel};
use super::period::Choice;
use super::sections::{Section, render};
use super::shell::Page;
use crate::http::{App, Problem};

const BY: &[&str] = &["agent", "model"];
const ONE_BY: &[&str] = &["model"];

const FIGURES: [Figure; 5] = [
    Figure::whole("Executions", "agent_executions", "executions", Better::Higher, "#panel-agent_executions"),
    Figure::whole("Success rate", "agent_executions", "success_rate", Better::Higher, "#panel-agent_executions"),
    Figure::whole("Time, p95", "agent_duration", "duration_p95_ms", Better::Lower, "#panel-agent_duration"),
    Figure::whole("Tokens read", "agent_tokens", "tokens_input", Better::Neither, "#panel-agent_tokens"),
    Figure::whole("Cost", "agent_tokens", "cost_usd", Better::Neither, "#panel-agent_tokens"),
];

const EXECUTIONS: Panel = Panel::new(
    "Executions by outcome",
    "agent_executions",
    Draw::Stacked(&["successes", "cancelled", "failures"], &[]),
    "agent_events",
);
const DURATION: Panel = Panel::new(
    "Execution time",
    "agent_duration",
    Draw::Line(&["duration_p50_ms", "duration_p95_ms", "duration_p99_ms"]),
    "agent_events",
);
const TOKENS: Panel = Panel::new(
    "Tokens by kind",
    "agent_tokens",
    Draw::Stacked(&["tokens_input", "tokens_output", "tokens_cache_read", "tokens_cache_write"], &[]),
    "agent_events",
);

/// Of rollups, as what is beside it: `tokens_per_agent` goes through every minute to be live.
pub const TOKENS_BY_AGENT: Panel =
    Panel::new("Tokens per agent", "agent_tokens", Draw::Ranking("breakdown", "tokens"), "agent_events")
        .always_by("agent")
        .interval("all")
        .link("/agents/");

const INSTALLS: Panel = Panel::new("Installs", "installs", Draw::Bars("installs"), "marketplace_events");
const RATINGS: Panel = Panel::new("Mean rating", "ratings", Draw::Line(&["rating_mean"]), "marketplace_events");

const SECTIONS: [Section; 4] = [
    Section {
        title: "Popular",
        panels: &[
            Panel::new("Most used agents", "agent_popular", Draw::Ranking("agent", "users"), "agent_events")
                .link("/agents/")
                .wide(),
            Panel::new("Trending", "agent_trending", Draw::Ranking("agent", "score"), "marketplace_events")
                .needs("An agent trends when at least ten different installers took it within a week.")
                .link("/agents/"),
            TOKENS_BY_AGENT,
            INSTALLS,
            RATINGS,
        ],
    },
    Section { title: "Performance", panels: &[EXECUTIONS, DURATION] },
    Section {
        title: "Tokens and cost",
        panels: &[TOKENS, Panel::new("Cost", "agent_tokens", Draw::Line(&["cost_usd"]), "agent_events").by(BY)],
    },
    Section {
        title: "Errors",
        panels: &[
            Panel::new("Failure rate", "agent_executions", Draw::Line(&["failure_rate"]), "agent_events").by(BY),
            Panel::new("Failures by class", "agent_failures", Draw::Ranking("error_class", "failures"), "agent_events"),
        ],
    },
];

const ONE: [Section; 4] = [
    Section { title: "Performance", panels: &[EXECUTIONS.by(ONE_BY), DURATION.by(ONE_BY)] },
    Section {
        title: "Tokens and cost",
        panels: &[TOKENS, Panel::new("Cost", "agent_tokens", Draw::Line(&["cost_usd"]), "agent_events").by(ONE_BY)],
    },
    Section {
        title: "Models and failures",
        panels: &[
            Panel::new("Executions by model", "agent_executions", Draw::Bars("executions"), "agent_events")
                .always_by("model"),
            Panel::new("Failures by class", "agent_failures", Draw::Ranking("error_class", "failures"), "agent_events"),
        ],
    },
    Section { title: "In the marketplace", panels: &[INSTALLS, RATINGS] },
];

/// `GET /agents`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let period = choice.resolve(&app, "7d", app.zone())?;
    let content = render(&app, &period, &FIGURES, &SECTIONS, &[]).await;
    let about = "Which agents people use, how well they work, and what they cost. A name leads to its own page.";
    let page = Page { path: "/agents", title: "Agents", about, period: Some(&period), breakdowns: BY };
    Ok(page.render(&app, &headers, content))
}

/// `GET /agents/{agent}`.
pub async fn one(
    State(app): State<Arc<App>>,
    Path(agent): Path<String>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let period = choice.resolve(&app, "7d", app.zone())?;
    let content = render(&app, &period, &FIGURES, &ONE, &[("agent", agent.as_str())]).await;
    let content = html! {
        nav.crumbs aria-label="Where you are" { a href={ "/agents?" (period.query(&[])) } { "Agents" } " / " span aria-current="page" { (agent) } }
        (content)
    };
    let page = Page { path: "/agents", title: &agent, about: "One agent.", period: Some(&period), breakdowns: ONE_BY };
    Ok(page.render(&app, &headers, content))
}

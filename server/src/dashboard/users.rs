//! User analytics: growth, lifecycle, retention, adoption, sessions, countries.

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

const BY: &[&str] = &["tier", "country", "editor"];

const FIGURES: [Figure; 6] = [
    Figure::whole("Active users", "active_users", "users", Better::Higher, "#panel-active_users"),
    Figure::whole("New users", "new_users", "users", Better::Higher, "#panel-new_users"),
    Figure::closed("Monthly active", "stickiness", "mau", Better::Higher, "#panel-stickiness"),
    Figure::closed("Stickiness", "stickiness", "ratio", Better::Higher, "#panel-stickiness"),
    Figure::whole("Sessions", "sessions", "sessions", Better::Higher, "#panel-sessions"),
    Figure::whole("Median session", "sessions", "duration_p50_ms", Better::Higher, "#panel-sessions"),
];

const SECTIONS: [Section; 4] = [
    Section {
        title: "Growth",
        panels: &[
            Panel::new("Active users", "active_users", Draw::Line(&["users"]), "ide_events").by(BY).wide(),
            Panel::new("New users", "new_users", Draw::Bars("users"), "ide_events").by(BY),
            Panel::new(
                "Lifecycle",
                "lifecycle",
                Draw::Stacked(&["new", "returning", "resurrecting"], &["dormant"]),
                "ide_events",
            ),
            Panel::new("Daily, weekly, monthly active", "stickiness", Draw::Line(&["dau", "wau", "mau"]), "ide_events")
                .interval("day"),
            Panel::new("Days active", "stickiness_histogram", Draw::Columns("days_active", "users"), "ide_events"),
        ],
    },
    Section {
        title: "Retention",
        panels: &[
            Panel::new(
                "Who comes back: cohorts by week",
                "retention_cohorts",
                Draw::Heat("n", "cohort", "rate_on"),
                "ide_events",
            )
            .interval("week")
            .wide(),
            Panel::new("Day 1, 7 and 30", "retention", Draw::Table, "ide_events"),
            Panel::new("By each one’s own 24 hours", "retention_24h", Draw::Table, "ide_events"),
            Panel::new("Sessions", "sessions", Draw::Line(&["duration_p50_ms", "duration_p90_ms"]), "ide_events")
                .wide(),
        ],
    },
    Section {
        title: "Adoption",
        panels: &[
            Panel::new("Adoption funnel", "adoption_funnel", Draw::Funnel("name", "users"), "ide_events"),
            Panel::new("Features", "feature_adoption", Draw::Ranking("feature", "adoption"), "ide_events"),
        ],
    },
    Section {
        title: "Where",
        panels: &[Panel::new("Countries", "users_by_country", Draw::Map("country", "users"), "ide_events").wide()],
    },
];

/// `GET /users`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let period = choice.resolve(&app, "30d", app.zone())?;
    let content = render(&app, &period, &FIGURES, &SECTIONS, &[]).await;
    let about = "Who uses the platform, who comes back, and what they use.";
    let page = Page { path: "/users", title: "Users", about, period: Some(&period), breakdowns: BY };
    Ok(page.render(&app, &headers, content))
}

//! The review queue, reports, and the audit log.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use super::encoded;
use super::layout::{go, notice, page};
use crate::accounts::audit::{self, Filter};
use crate::accounts::{Caller, Role};
use crate::api::{Asked, Sent};
use crate::app::App;
use crate::clock::shown;
use crate::problem::Result;
use crate::publish::{self, Decision};
use crate::reviews;

/// What the page before did.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Done {
    done: Option<String>,
}

/// What waits.
pub async fn show(State(app): State<Arc<App>>, caller: Caller, Asked(asked): Asked<Done>) -> Result<Response> {
    let waiting = publish::waiting(&app, &caller).await?;
    let reports = reviews::reports(&app, &caller).await?;
    let body = html! {
        (notice(asked.done.as_deref()))
        h1 { "Review queue" }
        @if waiting.is_empty() { div.panel { p { "Nothing waits." } } }
        @for w in &waiting {
            article.panel {
                div.bar { h2 { (w.agent) " " (w.version) } span.small.soft { "by " (w.submitted_by) ", " (shown(w.created_at)) } }
                p { b { (w.manifest.title) } ": " (w.manifest.summary) }
                dl.facts {
                    dt { "Checks" } dd { span class=(if w.scan_state == "passed" { "good" } else { "warn" }) { (w.scan_state) }
                        @for f in &w.findings { br; span.warn { (f) } } }
                    dt { "May" } dd { @if w.manifest.permissions.is_empty() { "nothing" } @else { (w.manifest.permissions.join(", ")) } }
                    dt { "Runs" } dd { code { (w.manifest.entrypoint) } " on " (w.manifest.runtime.kind) " " (w.manifest.runtime.version) }
                    dt { "Licence" } dd { (w.manifest.license) }
                    dt { "Package" } dd { a href={ "/api/v1/queue/" (w.id) "/package" } { "Read it" } ", " (w.size_bytes) " bytes, " code { (w.sha256) } }
                }
                form.spaced method="post" action={ "/queue/" (w.id) } {
                    label { span { "Reason: the publisher reads it" } input name="reason" maxlength="2000"; }
                    div.actions {
                        button name="approve" value="true" { "Approve" }
                        button.danger name="approve" value="false" { "Refuse" }
                    }
                }
            }
        }
        h2 { "Reports" }
        @if reports.is_empty() { p.soft { "None." } }
        @for r in &reports {
            div.panel {
                p { b { (r.subject) } ": " (r.shown) }
                p.soft { "Reported " (shown(r.created_at)) ": " (r.reason) }
                form.actions method="post" action={ "/reports/" (r.id) } {
                    button.danger name="uphold" value="true" { @if r.subject == "review" { "Hide the review" } @else { "Uphold" } }
                    button.plain name="uphold" value="false" { "Dismiss" }
                }
            }
        }
    };
    Ok(page(Some(&caller), "Review queue", body))
}

/// The buttons Approve and Refuse.
pub async fn decide(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    Sent(decision): Sent<Decision>,
) -> Result<Response> {
    publish::decide(&app, &caller, &id, &decision).await?;
    Ok(go("/queue?done=decided"))
}

/// The buttons below a report.
pub async fn decide_report(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    Sent(verdict): Sent<crate::api::Verdict>,
) -> Result<Response> {
    reviews::decide(&app, &caller, &id, verdict.uphold).await?;
    Ok(go("/queue?done=saved"))
}

/// Who did what that others may ask about.
pub async fn audit(State(app): State<Arc<App>>, caller: Caller, Asked(asked): Asked<Filter>) -> Result<Response> {
    caller.needs_session()?;
    caller.needs_role(Role::Admin)?;
    let (entries, next) = audit::newest(&app, &asked).await?;
    let field = |name: &str, label: &str, value: &str, hint: &str| {
        html! { label { span { (label) } input name=(name) value=(value) placeholder=(hint) maxlength="200"; } }
    };
    let older = next.map(|before| {
        let of = |name: &str, value: &str| format!("{name}={}", encoded(value));
        [of("who", &asked.who), of("action", &asked.action), of("subject", &asked.subject), of("before", &before)]
            .join("&")
    });
    let body = html! {
        h1 { "Audit log" }
        form.panel.filters action="/audit" {
            (field("who", "Who", &asked.who, "a handle"))
            (field("action", "Action begins with", &asked.action, "version."))
            (field("subject", "To what begins with", &asked.subject, "namespace/name"))
            div.actions { button { "Show" } a href="/audit" { "All" } }
        }
        @if entries.is_empty() { p.soft { "Nothing fits." } } @else {
            div.panel.scroll tabindex="0" role="region" aria-label="Audit log" { table.log {
                thead { tr { th { "When (UTC)" } th { "Who" } th { "What" } th { "To what" } th { "Why, or how" } } }
                tbody { @for e in &entries {
                    tr { td.when { (shown(e.at)) } td { (e.who) } td { code { (e.action) } } td { (e.subject) } td { (e.detail) } }
                } }
            } }
        }
        @if let Some(query) = older { p { a rel="next" href={ "/audit?" (query) } { "Older" } } }
    };
    Ok(page(Some(&caller), "Audit log", body))
}

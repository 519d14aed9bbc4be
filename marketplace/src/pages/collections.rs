//! Collections.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::html;

use super::layout::{card, page};
use crate::accounts::{Caller, MaybeCaller};
use crate::app::App;
use crate::catalogue::collection;
use crate::problem::Result;

/// Those of the house.
pub async fn list(State(app): State<Arc<App>>, MaybeCaller(caller): MaybeCaller) -> Result<Response> {
    let all = collection::list(&app, None).await?;
    let body = html! {
        h1 { "Collections" }
        p.soft { "Agents that belong together, chosen by the house." }
        @if all.is_empty() { div.panel { p { "There are none yet." } } }
        ul.grid { @for c in &all {
            li.card { h3 { a href={ "/collections/" (c.owner) "/" (c.slug) } { (c.title) } } p { (c.description) }
                div.facts { span { (c.count) " agents" } span { "by " (c.owner) } } }
        } }
    };
    Ok(page(caller.as_ref(), "Collections", body))
}

/// One.
pub async fn show(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    MaybeCaller(caller): MaybeCaller,
) -> Result<Response> {
    let (c, items) = collection::get(&app, &owner, &slug).await?;
    let body = html! {
        h1 { (c.title) }
        p.soft { (c.description) }
        p.small.soft { "by " (c.owner) @if c.curated { " · chosen by the house" } }
        @if caller.is_some() && !items.is_empty() {
            form method="post" action={ "/collections/" (owner) "/" (slug) "/install" } { button { "Install all" } }
        }
        h2 { (items.len()) " agents" }
        ul.grid { @for item in &items { (card(&item.agent)) } }
        @for item in items.iter().filter(|i| !i.note.is_empty()) {
            p.small { b { (item.agent.title) } ": " (item.note) }
        }
    };
    Ok(page(caller.as_ref(), &c.title, body))
}

/// The button Install all.
pub async fn install(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    caller: Caller,
) -> Result<Response> {
    let (offers, failures) = collection::install_all(&app, &caller, &owner, &slug).await?;
    app.catalogue.refresh().await?;
    let body = html! {
        h1 { "Install all" }
        ul { @for offer in &offers { li { a href={ "/agents/" (offer.agent) } { (offer.agent) } " " (offer.version) ": "
            (offer.outcome.replace('_', " ")) } } }
        @for (agent, problem) in &failures { div.notice.bad { b { (agent) } ": " (problem.detail()) } }
        p { a href={ "/collections/" (owner) "/" (slug) } { "Back to the collection" } }
    };
    Ok(page(Some(&caller), "Install all", body))
}

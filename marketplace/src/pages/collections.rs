//! Collections.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use super::layout::{card, count, go, notice, page};
use crate::accounts::{Caller, MaybeCaller};
use crate::api::{Asked, Sent};
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
        h2.unseen { "All of them" }
        ul.grid { @for c in &all {
            li.card { h3 { a href={ "/collections/" (c.owner) "/" (c.slug) } { (c.title) } } p { (c.description) }
                div.facts { span { (c.count) " agents" } span { "by " (c.owner) } } }
        } }
    };
    Ok(page(caller.as_ref(), "Collections", body))
}

/// What the page before did.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Done {
    done: Option<String>,
}

/// One.
pub async fn show(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    MaybeCaller(caller): MaybeCaller,
    Asked(asked): Asked<Done>,
) -> Result<Response> {
    let (c, items) = collection::get(&app, &owner, &slug).await?;
    let follows = match &caller {
        Some(caller) => collection::followed(&app, caller).await?.iter().any(|f| f.id == c.id),
        None => false,
    };
    let address = format!("/collections/{owner}/{slug}");
    let body = html! {
        (notice(asked.done.as_deref()))
        h1 { (c.title) }
        p.soft { (c.description) }
        p.small.soft { "by " (c.owner) @if c.curated { " · chosen by the house" }
            @if c.followers > 0 { " · followed by " (count(c.followers)) } }
        @if caller.is_some() {
            div.actions {
                @if !items.is_empty() { form method="post" action={ (address) "/install" } { button { "Install all" } } }
                form method="post" action={ (address) "/follow" } {
                    @if follows { button.plain name="follow" value="false" { "Follow no longer" } }
                    @else { button.plain name="follow" value="true" { "Follow" } }
                }
            }
        }
        h2 { (items.len()) " agents" }
        ul.grid { @for item in &items { (card(&item.agent)) } }
        @for item in items.iter().filter(|i| !i.note.is_empty()) {
            p.small { b { (item.agent.title) } ": " (item.note) }
        }
    };
    Ok(page(caller.as_ref(), &c.title, body))
}

/// What the button Follow sends.
#[derive(Debug, Deserialize)]
pub struct Follow {
    follow: bool,
}

/// The button Follow.
pub async fn follow(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    caller: Caller,
    Sent(form): Sent<Follow>,
) -> Result<Response> {
    collection::follow(&app, &caller, &owner, &slug, form.follow).await?;
    let done = if form.follow { "followed" } else { "unfollowed" };
    Ok(go(&format!("/collections/{owner}/{slug}?done={done}")))
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

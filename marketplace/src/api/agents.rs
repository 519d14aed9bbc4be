//! Browse, search, one agent, and what its owner may change.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Asked, Sent};
use crate::accounts::{Address, Caller, Limit, MaybeCaller};
use crate::app::App;
use crate::catalogue::{CATEGORIES, agent, version};
use crate::events::Event;
use crate::problem::{Problem, Result};
use crate::search::{Page, Query};

/// Browse and search.
#[utoipa::path(get, path = "/api/v1/agents", tag = "catalogue", params(Query),
    responses((status = 200, body = Page), (status = "4XX", body = Problem)))]
pub async fn search(
    State(app): State<Arc<App>>,
    MaybeCaller(caller): MaybeCaller,
    Address(address): Address,
    Asked(query): Asked<Query>,
) -> Result<Json<Page>> {
    app.limits.take(Limit::Read, &address)?;
    let page = app.catalogue.search(&query)?;
    searched(&app, caller.as_ref(), &address, &query, page.total);
    Ok(Json(page))
}

/// Notes that somebody searched; paging on is the same search.
pub fn searched(app: &App, caller: Option<&Caller>, address: &str, query: &Query, found: usize) {
    if query.q.trim().is_empty() || query.seek.is_some() {
        return;
    }
    let event = Event::new("searched", app.clock.now_ms()).with("found", found.to_string());
    let event = Event {
        search_text: query.q.trim().to_lowercase(),
        category: query.category.clone().unwrap_or_default(),
        ..who(app, event, caller, address)
    };
    app.views.add(event);
}

/// Whose event it is: the account's, or an address's of this day.
pub fn who(app: &App, event: Event, caller: Option<&Caller>, address: &str) -> Event {
    match caller {
        Some(caller) => event.by(&caller.account),
        None => {
            // The key is secret, so nobody can find the address by trying all of them.
            let day = crate::clock::date(app.clock.now_ms());
            let text = format!("{day} {address} {}", app.signer.sign_address(&day, 0));
            let anonymous = crate::secret::sha256_hex(text.as_bytes()).chars().take(20).collect();
            Event { anonymous, ..event }
        }
    }
}

/// A category with how many agents it has.
#[derive(Debug, Serialize, ToSchema)]
pub struct CategoryCount {
    slug: &'static str,
    title: &'static str,
    description: &'static str,
    agents: usize,
}

/// The ten categories.
#[utoipa::path(get, path = "/api/v1/categories", tag = "catalogue", responses((status = 200, body = [CategoryCount])))]
pub async fn categories(State(app): State<Arc<App>>) -> Result<Json<Vec<CategoryCount>>> {
    let page = app.catalogue.search(&Query { per_page: Some(1), ..Query::default() })?;
    let count = |slug: &str| page.facets.categories.get(slug).copied().unwrap_or_default();
    let all = CATEGORIES.iter().map(|c| CategoryCount {
        slug: c.slug,
        title: c.title,
        description: c.description,
        agents: count(c.slug),
    });
    Ok(Json(all.collect()))
}

/// One agent.
#[utoipa::path(get, path = "/api/v1/agents/{namespace}/{name}", tag = "catalogue",
    responses((status = 200, body = agent::Details), (status = "4XX", body = Problem)))]
pub async fn details(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    MaybeCaller(caller): MaybeCaller,
    Address(address): Address,
) -> Result<Json<agent::Details>> {
    app.limits.take(Limit::Read, &address)?;
    let details = agent::details(&app, &namespace, &name).await?;
    let event = Event::new("viewed", app.clock.now_ms()).about(&details.card);
    app.views.add(who(&app, event, caller.as_ref(), &address));
    Ok(Json(details))
}

/// Change what an agent's page says, without a new version.
#[utoipa::path(patch, path = "/api/v1/agents/{namespace}/{name}", tag = "publishing", request_body = agent::Edit,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["publish"]), ("session" = [])))]
pub async fn edit(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(edit): Sent<agent::Edit>,
) -> Result<axum::http::StatusCode> {
    agent::edit(&app, &caller, &namespace, &name, &edit).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Why something is done.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Reason {
    /// Read by those it concerns.
    pub reason: String,
}

/// Take an agent out of the catalogue (moderators).
#[utoipa::path(delete, path = "/api/v1/agents/{namespace}/{name}", tag = "moderation", request_body = Reason,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["moderate"]), ("session" = [])))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(why): Sent<Reason>,
) -> Result<axum::http::StatusCode> {
    agent::remove(&app, &caller, &namespace, &name, &why.reason).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Withdraw a version: who has it keeps it, nobody gets it anew.
#[utoipa::path(post, path = "/api/v1/agents/{namespace}/{name}/versions/{version}/yank", tag = "publishing",
    request_body = Reason, responses((status = 204), (status = "4XX", body = Problem)),
    security(("token" = ["publish"]), ("session" = [])))]
pub async fn yank(
    State(app): State<Arc<App>>,
    Path((namespace, name, version)): Path<(String, String, String)>,
    caller: Caller,
    Sent(why): Sent<Reason>,
) -> Result<axum::http::StatusCode> {
    version::yank(&app, &caller, (&namespace, &name, &version), Some(&why.reason)).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Offer a withdrawn version again.
#[utoipa::path(delete, path = "/api/v1/agents/{namespace}/{name}/versions/{version}/yank", tag = "publishing",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["publish"]), ("session" = [])))]
pub async fn unyank(
    State(app): State<Arc<App>>,
    Path((namespace, name, version)): Path<(String, String, String)>,
    caller: Caller,
) -> Result<axum::http::StatusCode> {
    version::yank(&app, &caller, (&namespace, &name, &version), None).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

//! Collections.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Asked, Sent};
use crate::accounts::Caller;
use crate::app::App;
use crate::catalogue::collection::{self, Collection, Item, NewCollection};
use crate::installs::Offer;
use crate::problem::{Problem, Result};

/// Whose.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Of {
    /// An account's handle; those of the house when absent.
    pub owner: Option<String>,
}

/// Collections of the house, or of an account.
#[utoipa::path(get, path = "/api/v1/collections", tag = "collections", params(Of),
    responses((status = 200, body = [Collection])))]
pub async fn list(State(app): State<Arc<App>>, Asked(of): Asked<Of>) -> Result<Json<Vec<Collection>>> {
    Ok(Json(collection::list(&app, of.owner.as_deref()).await?))
}

/// Make a collection, or put this one in place of the one with its slug.
#[utoipa::path(put, path = "/api/v1/collections", tag = "collections", request_body = NewCollection,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn put(State(app): State<Arc<App>>, caller: Caller, Sent(new): Sent<NewCollection>) -> Result<StatusCode> {
    collection::put(&app, &caller, &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A collection with its agents.
#[derive(Debug, Serialize, ToSchema)]
pub struct Full {
    #[serde(flatten)]
    collection: Collection,
    agents: Vec<Item>,
}

/// One collection.
#[utoipa::path(get, path = "/api/v1/collections/{owner}/{slug}", tag = "collections",
    responses((status = 200, body = Full), (status = "4XX", body = Problem)))]
pub async fn get(State(app): State<Arc<App>>, Path((owner, slug)): Path<(String, String)>) -> Result<Json<Full>> {
    let (collection, agents) = collection::get(&app, &owner, &slug).await?;
    Ok(Json(Full { collection, agents }))
}

/// Delete a collection of one's own.
#[utoipa::path(delete, path = "/api/v1/collections/{owner}/{slug}", tag = "collections",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn delete(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    caller: Caller,
) -> Result<StatusCode> {
    collection::delete(&app, &caller, &owner, &slug).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came of installing a collection.
#[derive(Debug, Serialize, ToSchema)]
pub struct All {
    installed: Vec<Offer>,
    failed: Vec<Failed>,
}

/// An agent that was not installed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failed {
    agent: String,
    detail: String,
}

/// Install every agent of a collection.
#[utoipa::path(post, path = "/api/v1/collections/{owner}/{slug}/install", tag = "collections",
    responses((status = 200, body = All), (status = "4XX", body = Problem)),
    security(("token" = ["install"]), ("session" = [])))]
pub async fn install(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    caller: Caller,
) -> Result<Json<All>> {
    let (installed, failures) = collection::install_all(&app, &caller, &owner, &slug).await?;
    app.catalogue.refresh().await?;
    let failed = failures.into_iter().map(|(agent, p)| Failed { agent, detail: p.detail().to_string() }).collect();
    Ok(Json(All { installed, failed }))
}

/// Follow a collection: a letter tells when it grows.
#[utoipa::path(put, path = "/api/v1/collections/{owner}/{slug}/follow", tag = "collections",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn follow(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    caller: Caller,
) -> Result<StatusCode> {
    collection::follow(&app, &caller, &owner, &slug, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follow a collection no longer.
#[utoipa::path(delete, path = "/api/v1/collections/{owner}/{slug}/follow", tag = "collections",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn unfollow(
    State(app): State<Arc<App>>,
    Path((owner, slug)): Path<(String, String)>,
    caller: Caller,
) -> Result<StatusCode> {
    collection::follow(&app, &caller, &owner, &slug, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Collections that the account follows.
#[utoipa::path(get, path = "/api/v1/follows", tag = "collections",
    responses((status = 200, body = [Collection]), (status = "4XX", body = Problem)),
    security(("token" = ["read"]), ("session" = [])))]
pub async fn follows(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Collection>>> {
    Ok(Json(collection::followed(&app, &caller).await?))
}

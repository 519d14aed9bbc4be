//! Reviews, replies, votes, reports.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::agents::Reason;
use super::{Asked, Sent};
use crate::accounts::{Caller, MaybeCaller};
use crate::app::App;
use crate::problem::{Problem, Result};
use crate::reviews::{self, NewReview, Review};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// The last id of the page before.
    pub after: Option<String>,
}

/// Reviews of an agent, the most helpful first, 20 a page.
#[utoipa::path(get, path = "/api/v1/agents/{namespace}/{name}/reviews", tag = "reviews", params(After),
    responses((status = 200, body = [Review]), (status = "4XX", body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    MaybeCaller(caller): MaybeCaller,
    Asked(page): Asked<After>,
) -> Result<Json<Vec<Review>>> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    Ok(Json(reviews::list(&app, &card, caller.as_ref(), page.after.as_deref()).await?))
}

/// The id of what was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Made {
    id: String,
}

/// Write the account's review, or change it. Only after an install.
#[utoipa::path(put, path = "/api/v1/agents/{namespace}/{name}/reviews", tag = "reviews", request_body = NewReview,
    responses((status = 200, body = Made), (status = "4XX", body = Problem)),
    security(("token" = ["review"]), ("session" = [])))]
pub async fn write(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(new): Sent<NewReview>,
) -> Result<Json<Made>> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    Ok(Json(Made { id: reviews::write(&app, &caller, &card, &new).await? }))
}

/// Delete the account's review.
#[utoipa::path(delete, path = "/api/v1/agents/{namespace}/{name}/reviews", tag = "reviews",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn delete(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
) -> Result<StatusCode> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    reviews::delete(&app, &caller, &card).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a publisher answers.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Reply {
    /// Plain text; empty takes the reply back.
    pub text: String,
}

/// Answer a review of an agent of one's own.
#[utoipa::path(put, path = "/api/v1/reviews/{id}/reply", tag = "reviews", request_body = Reply,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["publish"]), ("session" = [])))]
pub async fn reply(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    Sent(reply): Sent<Reply>,
) -> Result<StatusCode> {
    reviews::reply(&app, &caller, &id, &reply.text).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say that a review helps.
#[utoipa::path(put, path = "/api/v1/reviews/{id}/vote", tag = "reviews",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn vote(State(app): State<Arc<App>>, Path(id): Path<String>, caller: Caller) -> Result<StatusCode> {
    reviews::vote(&app, &caller, &id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take the vote back.
#[utoipa::path(delete, path = "/api/v1/reviews/{id}/vote", tag = "reviews",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn unvote(State(app): State<Arc<App>>, Path(id): Path<String>, caller: Caller) -> Result<StatusCode> {
    reviews::vote(&app, &caller, &id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask moderators to look at a review or an agent.
#[utoipa::path(post, path = "/api/v1/reports/{subject}/{id}", tag = "reviews", request_body = Reason,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["review"]), ("session" = [])))]
pub async fn report(
    State(app): State<Arc<App>>,
    Path((subject, id)): Path<(String, String)>,
    caller: Caller,
    Sent(why): Sent<Reason>,
) -> Result<StatusCode> {
    reviews::report(&app, &caller, &subject, &id, &why.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

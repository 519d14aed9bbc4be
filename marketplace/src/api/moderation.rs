//! The review queue, reports, roles, the audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Asked, Sent};
use crate::accounts::{self, Caller, Role, audit as log};
use crate::app::App;
use crate::problem::{Problem, Result};
use crate::publish::{self, Decision, Waiting};
use crate::reviews::{self, Report};

/// Versions that wait, oldest first.
#[utoipa::path(get, path = "/api/v1/queue", tag = "moderation",
    responses((status = 200, body = [Waiting]), (status = "4XX", body = Problem)),
    security(("token" = ["moderate"]), ("session" = [])))]
pub async fn queue(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Waiting>>> {
    Ok(Json(publish::waiting(&app, &caller).await?))
}

/// The package of a version that waits: a .tar.gz, as it was sent in.
#[utoipa::path(get, path = "/api/v1/queue/{id}/package", tag = "moderation",
    responses((status = 200, body = Vec<u8>, content_type = "application/gzip"), (status = "4XX", body = Problem)),
    security(("token" = ["moderate"]), ("session" = [])))]
pub async fn package(State(app): State<Arc<App>>, Path(id): Path<String>, caller: Caller) -> Result<Response> {
    let bytes = publish::waiting_package(&app, &caller, &id).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/gzip".to_string()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"package.tar.gz\"".to_string()),
        (header::CACHE_CONTROL, "private, no-store".to_string()),
    ];
    Ok((headers, bytes).into_response())
}

/// Approve or refuse a version.
#[utoipa::path(post, path = "/api/v1/queue/{id}", tag = "moderation", request_body = Decision,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["moderate"]), ("session" = [])))]
pub async fn decide(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    Sent(decision): Sent<Decision>,
) -> Result<StatusCode> {
    publish::decide(&app, &caller, &id, &decision).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reports that wait.
#[utoipa::path(get, path = "/api/v1/reports", tag = "moderation",
    responses((status = 200, body = [Report]), (status = "4XX", body = Problem)),
    security(("token" = ["moderate"]), ("session" = [])))]
pub async fn reports(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Report>>> {
    Ok(Json(reviews::reports(&app, &caller).await?))
}

/// What a moderator thinks of a report.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Verdict {
    /// Hide the review.
    pub uphold: bool,
}

/// Decide on a report.
#[utoipa::path(post, path = "/api/v1/reports/{id}", tag = "moderation", request_body = Verdict,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["moderate"]), ("session" = [])))]
pub async fn decide_report(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    Sent(verdict): Sent<Verdict>,
) -> Result<StatusCode> {
    reviews::decide(&app, &caller, &id, verdict.uphold).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The newest 100 lines of the audit log that fit; `before` with the id of the last gives the next page (admins).
#[utoipa::path(get, path = "/api/v1/audit", tag = "moderation", params(log::Filter),
    responses((status = 200, body = [log::Entry]), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn audit(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(filter): Asked<log::Filter>,
) -> Result<Json<Vec<log::Entry>>> {
    caller.needs_session()?;
    caller.needs_role(Role::Admin)?;
    Ok(Json(log::newest(&app, &filter).await?.0))
}

/// A role to give.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewRole {
    /// consumer, publisher, moderator or admin.
    pub role: Role,
}

/// Give an account a role (admins).
#[utoipa::path(put, path = "/api/v1/accounts/{handle}/role", tag = "moderation", request_body = NewRole,
    responses((status = 204), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn grant(
    State(app): State<Arc<App>>,
    Path(handle): Path<String>,
    caller: Caller,
    Sent(new): Sent<NewRole>,
) -> Result<StatusCode> {
    caller.needs_session()?;
    caller.needs_role(Role::Admin)?;
    accounts::grant(&app, &caller.account.id, &handle, new.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Publishing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Sent;
use crate::accounts::Caller;
use crate::app::App;
use crate::catalogue::{agent, version};
use crate::problem::{Problem, Result};
use crate::publish::{self, Submitted};

/// Send in a version: a .tar.gz with an agent.json at its top. It is listed once a moderator approves it.
#[utoipa::path(post, path = "/api/v1/publish", tag = "publishing",
    request_body(content = Vec<u8>, content_type = "application/gzip"),
    responses((status = 201, body = Submitted), (status = "4XX", body = Problem)),
    security(("token" = ["publish"]), ("session" = [])))]
pub async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    package: Result<bytes::Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Submitted>)> {
    let max = app.config.uploads.package_bytes_max;
    let package = package.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::too_large(format!("the package has more than {max} bytes; at most {max} bytes are taken"))
        }
        _ => Problem::invalid(format!("the upload: {}", e.body_text())),
    })?;
    Ok((StatusCode::CREATED, Json(publish::submit(&app, &caller, package).await?)))
}

/// What the account sent in, newest first.
#[utoipa::path(get, path = "/api/v1/submissions", tag = "publishing",
    responses((status = 200, body = [version::Submission]), (status = "4XX", body = Problem)),
    security(("token" = ["publish"]), ("session" = [])))]
pub async fn submissions(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<version::Submission>>> {
    Ok(Json(version::submissions(&app, &caller).await?))
}

/// The account's namespaces.
#[utoipa::path(get, path = "/api/v1/namespaces", tag = "publishing",
    responses((status = 200, body = [String]), (status = "4XX", body = Problem)),
    security(("token" = ["publish"]), ("session" = [])))]
pub async fn namespaces(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<String>>> {
    caller.needs(crate::accounts::Scope::Publish)?;
    Ok(Json(agent::namespaces(&app, &caller).await?))
}

/// A namespace to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewNamespace {
    /// 2 to 39 lower-case letters, digits and single hyphens.
    pub name: String,
}

/// Make a namespace.
#[utoipa::path(post, path = "/api/v1/namespaces", tag = "publishing", request_body = NewNamespace,
    responses((status = 201), (status = "4XX", body = Problem)), security(("token" = ["publish"]), ("session" = [])))]
pub async fn new_namespace(
    State(app): State<Arc<App>>,
    caller: Caller,
    Sent(new): Sent<NewNamespace>,
) -> Result<StatusCode> {
    agent::create_namespace(&app, &caller, &new.name).await?;
    Ok(StatusCode::CREATED)
}

//! Install, roll back, remove; what the account has.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Sent;
use crate::accounts::Caller;
use crate::app::App;
use crate::installs::{self, Installed, Offer, Update, Wanted};
use crate::problem::{Problem, Result};

/// Install an agent, or change the version that the account has. Asking again changes nothing and answers the same.
#[utoipa::path(post, path = "/api/v1/agents/{namespace}/{name}/install", tag = "installs", request_body = Option<Wanted>,
    responses((status = 200, body = Offer), (status = 402, body = Problem), (status = "4XX", body = Problem)),
    security(("token" = ["install"]), ("session" = [])))]
pub async fn install(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    body: bytes::Bytes,
) -> Result<Json<Offer>> {
    let wanted = if body.is_empty() {
        Wanted::default()
    } else {
        serde_json::from_slice(&body).map_err(|e| Problem::invalid(format!("the body: {e}")))?
    };
    let card = app.catalogue.now().named(&namespace, &name)?;
    let offer = installs::install(&app, &caller, &card, &wanted).await?;
    app.catalogue.refresh().await?;
    Ok(Json(offer))
}

/// Remove an agent from the account.
#[utoipa::path(delete, path = "/api/v1/agents/{namespace}/{name}/install", tag = "installs",
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["install"]), ("session" = [])))]
pub async fn uninstall(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
) -> Result<StatusCode> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    installs::uninstall(&app, &caller, &card).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Back {
    /// A version that the account had; the one before when absent.
    pub version: Option<String>,
}

/// Go back to a version that the account had.
#[utoipa::path(post, path = "/api/v1/agents/{namespace}/{name}/rollback", tag = "installs", request_body = Back,
    responses((status = 200, body = Offer), (status = "4XX", body = Problem)),
    security(("token" = ["install"]), ("session" = [])))]
pub async fn rollback(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(back): Sent<Back>,
) -> Result<Json<Offer>> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    Ok(Json(installs::rollback(&app, &caller, &card, back.version.as_deref()).await?))
}

/// What the account has.
#[utoipa::path(get, path = "/api/v1/installs", tag = "installs",
    responses((status = 200, body = [Installed]), (status = "4XX", body = Problem)),
    security(("token" = ["read"]), ("session" = [])))]
pub async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Installed>>> {
    Ok(Json(installs::list(&app, &caller).await?))
}

/// Newer versions of what the account has.
#[utoipa::path(get, path = "/api/v1/updates", tag = "installs",
    responses((status = 200, body = [Update]), (status = "4XX", body = Problem)),
    security(("token" = ["read"]), ("session" = [])))]
pub async fn updates(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Update>>> {
    Ok(Json(installs::updates(&app, &caller).await?))
}

/// A public key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// As signatures name it.
    keyid: String,
    /// ed25519.
    algorithm: &'static str,
    /// 32 bytes, in base64.
    public_key: String,
}

/// The public key that signs manifests.
#[utoipa::path(get, path = "/api/v1/keys/{keyid}", tag = "installs",
    responses((status = 200, body = Key), (status = "4XX", body = Problem)))]
pub async fn key(State(app): State<Arc<App>>, Path(keyid): Path<String>) -> Result<Json<Key>> {
    if keyid != app.signer.key_id() {
        return Err(Problem::not_found(format!("no key {keyid}; the present one is {}", app.signer.key_id())));
    }
    Ok(Json(Key { keyid, algorithm: "ed25519", public_key: app.signer.public_key() }))
}

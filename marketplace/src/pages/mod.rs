//! Pages, rendered here: they work without scripts, with a keyboard, on a phone, in light and dark.

mod account;
mod agent;
mod browse;
mod collections;
mod errors;
mod layout;
mod moderation;
mod oidc;
mod publishing;
mod selling;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::{get, post};

pub use self::errors::{dress, encoded, not_found, policy};
use crate::app::App;

/// All pages; `uploads_max` bounds the body of an upload.
pub fn router(uploads_max: usize) -> Router<Arc<App>> {
    Router::new()
        .route("/", get(browse::home))
        .route("/search", get(browse::search))
        .route("/categories/{slug}", get(browse::category))
        .route("/agents/{namespace}/{name}", get(agent::show))
        .route("/agents/{namespace}/{name}/install", post(agent::install))
        .route("/agents/{namespace}/{name}/rollback", post(agent::rollback))
        .route("/agents/{namespace}/{name}/uninstall", post(agent::uninstall))
        .route("/agents/{namespace}/{name}/review", post(agent::review))
        .route("/agents/{namespace}/{name}/review/delete", post(agent::delete_review))
        .route("/agents/{namespace}/{name}/report", post(agent::report))
        .route("/agents/{namespace}/{name}/remove", post(agent::remove))
        .route("/reviews/{id}/{verb}", post(agent::on_review))
        .route("/collections", get(collections::list))
        .route("/collections/{owner}/{slug}", get(collections::show))
        .route("/collections/{owner}/{slug}/install", post(collections::install))
        .route("/collections/{owner}/{slug}/follow", post(collections::follow))
        .route("/sign-in", get(account::sign_in_form).post(account::sign_in))
        .route("/sign-in/oidc", get(oidc::begin))
        .route(crate::oidc::CALLBACK, get(oidc::finish))
        .route("/sign-up", get(account::sign_up_form).post(account::sign_up))
        .route("/sign-out", post(account::sign_out))
        .route("/account", get(account::show))
        .route("/account/tokens", post(account::new_token))
        .route("/account/tokens/{id}/revoke", post(account::revoke_token))
        .route("/account/password", post(account::change_password))
        .route("/account/publisher", post(account::become_publisher))
        .route("/account/collections", post(account::collect))
        .route("/publish", get(publishing::form).post(publishing::upload))
        .route("/publish/agents/{namespace}/{name}", get(publishing::manage).post(publishing::edit))
        .route("/publish/agents/{namespace}/{name}/yank", post(publishing::yank))
        .route("/publish/namespaces", post(publishing::namespace))
        .route("/queue", get(moderation::show))
        .route("/queue/{id}", post(moderation::decide))
        .route("/reports/{id}", post(moderation::decide_report))
        .route("/audit", get(moderation::audit))
        .merge(selling::router())
        .route("/assets/market.css", get(|| asset("text/css", include_str!("../../assets/market.css"))))
        .route("/assets/market.js", get(|| asset("text/javascript", include_str!("../../assets/market.js"))))
        .layer(DefaultBodyLimit::max(uploads_max))
}

async fn asset(kind: &'static str, text: &'static str) -> impl axum::response::IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=300")], text)
}

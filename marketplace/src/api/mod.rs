//! The API under `/api/v1`, its OpenAPI description, and the MCP registry's read-only subtree.
//!
//! Routes and their description come from the same lines, so they cannot drift apart; a test pins the description.

mod account;
mod agents;
mod collections;
mod extract;
mod installs;
mod moderation;
mod payments;
mod publish;
mod registry;
mod reviews;

use std::sync::Arc;

use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::account::session_cookie;
pub use self::agents::{Reason, searched, who};
pub use self::extract::{Asked, Sent};
pub use self::moderation::Verdict;
pub use self::payments::{NewRefund, NewSeats, webhook};
pub use self::publish::NewNamespace;
pub use self::registry::router as registry_router;
use crate::app::App;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Marketplace for AI agents",
        description = "Find, install, review and publish agents. Errors are `application/problem+json` (RFC 9457): \
                       `detail` says what to do. Calls that change something take `Authorization: Bearer mkt_...`; \
                       tokens are made under /account."
    ),
    modifiers(&Keys)
)]
struct Description;

struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let cookie = ApiKey::Cookie(ApiKeyValue::new(crate::accounts::SESSION_COOKIE));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    }
}

/// The routes, and what they are.
pub fn router() -> (Router<Arc<App>>, utoipa::openapi::OpenApi) {
    let (router, description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(agents::search))
        .routes(routes!(agents::categories))
        .routes(routes!(agents::details, agents::edit, agents::remove))
        .routes(routes!(agents::yank, agents::unyank))
        .routes(routes!(installs::install, installs::uninstall))
        .routes(routes!(installs::rollback))
        .routes(routes!(installs::list))
        .routes(routes!(installs::updates))
        .routes(routes!(installs::key))
        .routes(routes!(reviews::list, reviews::write, reviews::delete))
        .routes(routes!(reviews::reply))
        .routes(routes!(reviews::vote, reviews::unvote))
        .routes(routes!(reviews::report))
        .routes(routes!(collections::list, collections::put))
        .routes(routes!(collections::get, collections::delete))
        .routes(routes!(collections::install))
        .routes(routes!(collections::follow, collections::unfollow))
        .routes(routes!(collections::follows))
        .routes(routes!(account::me))
        .routes(routes!(account::sign_up))
        .routes(routes!(account::sign_in, account::sign_out))
        .routes(routes!(account::become_publisher))
        .routes(routes!(account::change_password))
        .routes(routes!(account::tokens, account::new_token))
        .routes(routes!(account::revoke_token))
        .routes(routes!(publish::upload))
        .routes(routes!(publish::submissions))
        .routes(routes!(publish::namespaces, publish::new_namespace))
        .routes(routes!(moderation::queue))
        .routes(routes!(moderation::decide))
        .routes(routes!(moderation::package))
        .routes(routes!(moderation::reports))
        .routes(routes!(moderation::decide_report))
        .routes(routes!(moderation::audit))
        .routes(routes!(moderation::grant))
        .merge(payments::routes())
        .split_for_parts();
    let served = description.clone();
    let router = router.route(
        "/api/openapi.json",
        get(move || {
            let served = served.clone();
            async move { Json(served).into_response() }
        }),
    );
    (router, description)
}

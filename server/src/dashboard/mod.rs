//! The dashboard: pages for people, rendered on the server, one file per page.
//!
//! ```text
//! URL -> access (who may read) -> period (which time) -> ask (metrics, all at once) -> panel, figure, table -> shell -> HTML
//! ```
//!
//! A page is a list of panels; a panel names a metric and how it is drawn. Templates are maud's: HTML that the compiler
//! checks, in which every value is escaped unless it is markup already. There is no framework in the browser: pages are
//! whole without a script, and one script of ours adds hover, zoom and live figures. Nothing comes from another host.

mod access;
mod agents;
pub(crate) mod ask;
mod assets;
mod business;
mod catalogue;
mod export;
mod figure;
mod gaps;
mod graph;
mod live;
mod overview;
mod panel;
mod period;
mod pipelines;
mod reports;
mod sections;
mod shape;
mod shell;
mod sql;
mod system;
mod table;
mod tail;
mod users;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};

pub use self::live::READERS_MAX;
use crate::http::App;

/// Every page and what pages load.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let inside = Router::new()
        .route("/", get(overview::page))
        .route("/users", get(users::page))
        .route("/agents", get(agents::page))
        .route("/agents/{agent}", get(agents::one))
        .route("/business", get(business::page))
        .route("/system", get(system::page))
        .route("/system/live", get(system::live))
        .route("/pipelines", get(pipelines::page))
        .route("/sql", get(sql::page).post(sql::run))
        .route("/sql/csv", post(sql::csv))
        .route("/sql/tail", get(tail::rows))
        .route("/reports", get(reports::page))
        .route("/reports/{report}/pdf", get(reports::pdf))
        .route("/reports/{report}/csv/{section}", get(reports::csv))
        .route("/reports/{report}/send", post(reports::send))
        .route("/reports/{report}/runs/{run}/{file}", get(reports::file))
        .route("/catalogue", get(catalogue::page))
        .route("/catalogue/{metric}", get(catalogue::one))
        .route("/chart/{metric}", get(export::csv))
        .route("/live", get(live::status))
        .route("/sign-out", post(access::sign_out))
        .layer(middleware::from_fn_with_state(app.clone(), access::require));
    let open = Router::new()
        .route("/sign-in", get(access::form).post(access::sign_in))
        .route("/assets/{name}", get(assets::file));
    inside.merge(open).layer(middleware::from_fn(shell::headers))
}

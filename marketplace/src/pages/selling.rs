//! Prices, buying, the publisher's dashboard.

use std::sync::Arc;

use axum::Router;
use maud::{Markup, html};

use crate::accounts::Caller;
use crate::app::App;
use crate::problem::Result;
use crate::search::Card;

/// Its pages.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}

/// The price of an agent, and the form of a new one.
pub async fn price_panel(_app: &App, _caller: &Caller, card: &Card) -> Result<Markup> {
    Ok(html! { div.panel { h2 { "Price" } p { (card.price.shown()) } } })
}

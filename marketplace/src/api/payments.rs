//! Prices, buying, seats, revenue, usage.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Sent;
use crate::accounts::Caller;
use crate::app::App;
use crate::payments::{self, Checkout, NewPrice, Order, Revenue, Seats};
use crate::problem::{Problem, Result};
use crate::usage::{self, AgentUsage};

/// Its routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(set_price))
        .routes(routes!(buy))
        .routes(routes!(seats, buy_seats))
        .routes(routes!(give_seat, take_seat))
        .routes(routes!(orders))
        .routes(routes!(refund))
        .routes(routes!(cancel))
        .routes(routes!(onboard))
        .routes(routes!(revenue))
        .routes(routes!(usage_of))
}

/// `POST /webhooks/stripe`: not part of the described API.
pub async fn webhook(State(app): State<Arc<App>>, headers: HeaderMap, body: bytes::Bytes) -> Result<StatusCode> {
    let signature = headers.get("stripe-signature").and_then(|v| v.to_str().ok());
    payments::receive(&app, signature, &body).await?;
    Ok(StatusCode::OK)
}

/// Set what an agent costs from now on. Who bought it at another price keeps it.
#[utoipa::path(put, path = "/api/v1/agents/{namespace}/{name}/price", tag = "payments", request_body = NewPrice,
    responses((status = 204), (status = "4XX", body = Problem)), security(("token" = ["publish"]), ("session" = [])))]
pub async fn set_price(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(new): Sent<NewPrice>,
) -> Result<StatusCode> {
    payments::set_price(&app, &caller, &namespace, &name, &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begin to buy an agent. It can be installed once the payment is told by Stripe.
#[utoipa::path(post, path = "/api/v1/agents/{namespace}/{name}/buy", tag = "payments",
    responses((status = 200, body = Checkout), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn buy(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
) -> Result<Json<Checkout>> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    Ok(Json(payments::buy(&app, &caller, &card).await?))
}

/// What the account pays for, and who has it.
#[utoipa::path(get, path = "/api/v1/seats", tag = "payments",
    responses((status = 200, body = Seats), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn seats(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Seats>> {
    caller.needs_session()?;
    Ok(Json(payments::seats(&app, &caller).await?))
}

/// Seats to be bought.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewSeats {
    /// team or enterprise.
    pub tier: String,
    /// 1 to 1000.
    pub seats: i64,
}

/// Begin to buy seats of a tier.
#[utoipa::path(post, path = "/api/v1/seats", tag = "payments", request_body = NewSeats,
    responses((status = 200, body = Checkout), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn buy_seats(
    State(app): State<Arc<App>>,
    caller: Caller,
    Sent(new): Sent<NewSeats>,
) -> Result<Json<Checkout>> {
    Ok(Json(payments::buy_seats(&app, &caller, &new.tier, new.seats).await?))
}

/// Give an account a seat.
#[utoipa::path(put, path = "/api/v1/seats/{handle}", tag = "payments",
    responses((status = 204), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn give_seat(State(app): State<Arc<App>>, Path(handle): Path<String>, caller: Caller) -> Result<StatusCode> {
    payments::give_seat(&app, &caller, &handle).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a seat back.
#[utoipa::path(delete, path = "/api/v1/seats/{handle}", tag = "payments",
    responses((status = 204), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn take_seat(State(app): State<Arc<App>>, Path(handle): Path<String>, caller: Caller) -> Result<StatusCode> {
    payments::take_seat(&app, &caller, &handle).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The account's orders, newest first.
#[utoipa::path(get, path = "/api/v1/orders", tag = "payments",
    responses((status = 200, body = [Order]), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn orders(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Order>>> {
    caller.needs_session()?;
    Ok(Json(payments::orders(&app, &caller).await?))
}

/// How much to pay back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewRefund {
    /// In the currency's smallest unit; all when absent.
    pub amount_minor: Option<i64>,
}

/// Pay back an order (its publisher, moderators).
#[utoipa::path(post, path = "/api/v1/orders/{id}/refund", tag = "payments", request_body = NewRefund,
    responses((status = 202), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn refund(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    Sent(new): Sent<NewRefund>,
) -> Result<StatusCode> {
    payments::refund(&app, &caller, &id, new.amount_minor).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Cancel a subscription. It ends with what is paid.
#[utoipa::path(post, path = "/api/v1/orders/{id}/cancel", tag = "payments",
    responses((status = 202), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>, caller: Caller) -> Result<StatusCode> {
    payments::cancel(&app, &caller, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Where to go on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Link {
    url: String,
}

/// Begin to connect an account that sales are paid to.
#[utoipa::path(post, path = "/api/v1/payouts/connect", tag = "payments",
    responses((status = 200, body = Link), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn onboard(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Link>> {
    Ok(Json(Link { url: payments::onboard(&app, &caller).await? }))
}

/// What the account earned, by currency.
#[utoipa::path(get, path = "/api/v1/revenue", tag = "payments",
    responses((status = 200, body = [Revenue]), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn revenue(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Revenue>>> {
    Ok(Json(payments::revenue(&app, &caller).await?))
}

/// How the account's agents were used in the last 30 days, per version, from Millstream's tables.
#[utoipa::path(get, path = "/api/v1/usage", tag = "payments",
    responses((status = 200, body = [AgentUsage]), (status = "4XX", body = Problem)),
    security(("token" = ["publish"]), ("session" = [])))]
pub async fn usage_of(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<AgentUsage>>> {
    Ok(Json(usage::of(&app, &caller).await?))
}

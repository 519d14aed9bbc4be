//! Signing up, in and out; tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Sent;
use crate::accounts::{
    self, Account, Address, Caller, NewPassword, NewToken, SESSION_COOKIE, Scope, SignIn, SignUp, Token,
};
use crate::app::App;
use crate::catalogue::agent;
use crate::problem::{Problem, Result};

/// The header that keeps a session's cookie, or takes it away.
pub fn session_cookie(app: &App, secret: Option<&str>) -> HeaderValue {
    let secure = if app.public_url().starts_with("https:") { "; Secure" } else { "" };
    let (value, age) = secret.map_or(("", 0), |s| (s, 30 * 86_400));
    let text = format!("{SESSION_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Who the caller is.
#[utoipa::path(get, path = "/api/v1/account", tag = "account",
    responses((status = 200, body = Account), (status = "4XX", body = Problem)),
    security(("token" = ["read"]), ("session" = [])))]
pub async fn me(caller: Caller) -> Result<Json<Account>> {
    caller.needs(Scope::Read)?;
    Ok(Json(caller.account))
}

/// Make an account.
#[utoipa::path(post, path = "/api/v1/accounts", tag = "account", request_body = SignUp,
    responses((status = 201, body = Account), (status = "4XX", body = Problem)))]
pub async fn sign_up(
    State(app): State<Arc<App>>,
    Address(address): Address,
    Sent(new): Sent<SignUp>,
) -> Result<(StatusCode, Json<Account>)> {
    Ok((StatusCode::CREATED, Json(accounts::sign_up(&app, &address, &new).await?)))
}

/// Open a session; its secret comes as a cookie.
#[utoipa::path(post, path = "/api/v1/session", tag = "account", request_body = SignIn,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub async fn sign_in(
    State(app): State<Arc<App>>,
    Address(address): Address,
    Sent(who): Sent<SignIn>,
) -> Result<Response> {
    let secret = accounts::sign_in(&app, &address, &who).await?;
    Ok(([(header::SET_COOKIE, session_cookie(&app, Some(&secret)))], StatusCode::NO_CONTENT).into_response())
}

/// End the session.
#[utoipa::path(delete, path = "/api/v1/session", tag = "account", responses((status = 204)), security(("session" = [])))]
pub async fn sign_out(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response> {
    accounts::sign_out(&app, &headers).await?;
    Ok(([(header::SET_COOKIE, session_cookie(&app, None))], StatusCode::NO_CONTENT).into_response())
}

/// Become a publisher, with the namespace of the account's handle.
#[utoipa::path(post, path = "/api/v1/account/publisher", tag = "account",
    responses((status = 204), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn become_publisher(State(app): State<Arc<App>>, caller: Caller) -> Result<StatusCode> {
    agent::become_publisher(&app, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change the password; other sessions end, tokens stay.
#[utoipa::path(put, path = "/api/v1/account/password", tag = "account", request_body = NewPassword,
    responses((status = 204), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn change_password(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    caller: Caller,
    Sent(change): Sent<NewPassword>,
) -> Result<StatusCode> {
    let session = accounts::cookie(&headers, SESSION_COOKIE).unwrap_or_default();
    accounts::change_password(&app, &caller, &session, &change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The account's tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "account",
    responses((status = 200, body = [Token]), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn tokens(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Token>>> {
    caller.needs_session()?;
    Ok(Json(accounts::list_tokens(&app, &caller).await?))
}

/// Make a token; its secret is in this answer and never again.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "account", request_body = NewToken,
    responses((status = 201, body = Token), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn new_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    Sent(new): Sent<NewToken>,
) -> Result<(StatusCode, Json<Token>)> {
    Ok((StatusCode::CREATED, Json(accounts::issue_token(&app, &caller, &new).await?)))
}

/// Revoke a token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "account",
    responses((status = 204), (status = "4XX", body = Problem)), security(("session" = [])))]
pub async fn revoke_token(State(app): State<Arc<App>>, Path(id): Path<String>, caller: Caller) -> Result<StatusCode> {
    caller.needs_session()?;
    accounts::revoke_token(&app, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

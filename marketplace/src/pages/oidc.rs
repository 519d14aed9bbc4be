//! To the provider of identities and back.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Deserialize;

use super::account::own_path;
use super::layout::go;
use crate::accounts::{Address, Limit, MaybeCaller, cookie};
use crate::api::{Asked, session_cookie};
use crate::app::App;
use crate::oidc::{self, COOKIE, PATIENCE_S, Returned};
use crate::problem::Result;

/// Where to go on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Next {
    next: String,
}

/// The header that keeps what a sign-in began with, or takes it away. `Lax`: it must come along when the provider sends the
/// browser back.
fn begun_cookie(app: &App, value: &str) -> HeaderValue {
    let secure = if app.public_url().starts_with("https:") { "; Secure" } else { "" };
    let age = if value.is_empty() { 0 } else { PATIENCE_S };
    let text = format!("{COOKIE}={value}; Path=/sign-in/oidc; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Sends the browser to the provider.
pub async fn begin(
    State(app): State<Arc<App>>,
    Address(address): Address,
    Asked(asked): Asked<Next>,
) -> Result<Response> {
    app.limits.take(Limit::SignInAddress, &address)?;
    let (to, begun) = oidc::begin(&app, own_path(&asked.next)).await?;
    Ok(([(header::SET_COOKIE, begun_cookie(&app, &begun))], go(&to)).into_response())
}

/// Takes the browser back.
pub async fn finish(
    State(app): State<Arc<App>>,
    MaybeCaller(caller): MaybeCaller,
    Address(address): Address,
    headers: HeaderMap,
    Asked(returned): Asked<Returned>,
) -> Result<Response> {
    let begun = cookie(&headers, COOKIE);
    let finished = oidc::finish(&app, &address, caller.as_ref(), begun.as_deref(), &returned).await;
    let over = (header::SET_COOKIE, begun_cookie(&app, ""));
    Ok(match finished {
        Ok((next, Some(session))) => {
            let session = (header::SET_COOKIE, session_cookie(&app, Some(&session)));
            (AppendHeaders([over, session]), go(own_path(&next))).into_response()
        }
        Ok((next, None)) => (AppendHeaders([over]), go(own_path(&next))).into_response(),
        Err(problem) => (AppendHeaders([over]), problem).into_response(),
    })
}

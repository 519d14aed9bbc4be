//! Who makes a request: by the session's cookie or by a token.
//!
//! Forged requests: a browser sends cookies along with requests that another site makes. So whatever changes something and
//! carries a cookie must prove that it comes from a page of ours, by `Sec-Fetch-Site` or `Origin`, which no page can forge
//! and all browsers send. [`same_origin`] asks that of every request in one place; no form can forget it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Account, Limit, Role, Scope};
use crate::app::App;
use crate::db;
use crate::problem::{Problem, Result};
use crate::secret;

/// The cookie of a session.
pub const SESSION_COOKIE: &str = "market_session";

/// An account on the line.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose.
    pub account: Account,
    /// What the token may be used for; none for a session, which may be used for everything.
    scopes: Option<Vec<String>>,
}

impl Caller {
    /// As if the account had signed in: for commands on the server's own machine.
    pub fn local(account: Account) -> Self {
        Self { account, scopes: None }
    }

    /// May the request do what `scope` is for?
    pub fn needs(&self, scope: Scope) -> Result<()> {
        match &self.scopes {
            Some(scopes) if !scopes.iter().any(|s| s == scope.name()) => Err(Problem::forbidden(format!(
                "the token has not the scope '{}'; make one that has it under /account",
                scope.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Has the account the role?
    pub fn needs_role(&self, role: Role) -> Result<()> {
        if self.account.role >= role {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "this needs the role {}; your account is a {}",
            role.name(),
            self.account.role.name()
        )))
    }

    /// Was it a person in a browser?
    pub fn needs_session(&self) -> Result<()> {
        match self.scopes {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden("a token cannot do this; sign in in a browser")),
        }
    }
}

/// The caller, if there is one.
#[derive(Debug, Clone)]
pub struct MaybeCaller(pub Option<Caller>);

/// Where a request comes from: what limits on strangers count by.
#[derive(Debug, Clone)]
pub struct Address(pub String);

/// One cookie of a request.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let pairs = all.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
}

async fn by_session(app: &App, secret: &str) -> Result<Option<Caller>> {
    let sql = format!(
        "SELECT {} FROM sessions s JOIN accounts a ON a.id = s.account_id
         WHERE s.token_sha256 = $1 AND s.expires_at > $2 AND a.disabled_at IS NULL",
        Account::COLUMNS
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(secret::sha256_hex(secret.as_bytes()))
        .bind(app.clock.now_ms())
        .fetch_optional(app.db.read())
        .await?;
    row.map(|row| Ok(Caller { account: Account::of(&row)?, scopes: None })).transpose()
}

async fn by_token(app: &App, secret: &str) -> Result<Caller> {
    let sql = format!(
        "SELECT t.scopes, {} FROM tokens t JOIN accounts a ON a.id = t.account_id
         WHERE t.token_sha256 = $1 AND t.expires_at > $2 AND t.revoked_at IS NULL AND a.disabled_at IS NULL",
        Account::COLUMNS
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(secret::sha256_hex(secret.as_bytes()))
        .bind(app.clock.now_ms())
        .fetch_optional(app.db.read())
        .await?;
    let unknown = || Problem::unauthenticated("the token is unknown, expired or revoked; make one under /account");
    let row = row.ok_or_else(unknown)?;
    Ok(Caller { account: Account::of(&row)?, scopes: Some(db::list(&row, "scopes")?) })
}

async fn caller_of(app: &App, parts: &Parts) -> Result<Option<Caller>> {
    let headers = &parts.headers;
    // A token that is sent must be good: falling back to a cookie would hide the mistake.
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let bearer = authorization.to_str().ok().and_then(|v| v.strip_prefix("Bearer "));
        let token = bearer.ok_or_else(|| Problem::unauthenticated("write 'Authorization: Bearer mkt_...'"))?;
        let caller = by_token(app, token.trim()).await;
        if caller.as_ref().is_err_and(|problem| problem.kind() == "unauthenticated") {
            app.limits.take(Limit::Token, &address_of(app, parts))?;
        }
        return caller.map(Some);
    }
    match cookie(headers, SESSION_COOKIE) {
        Some(secret) => by_session(app, &secret).await,
        None => Ok(None),
    }
}

impl FromRequestParts<Arc<App>> for MaybeCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        caller_of(app, parts).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let caller = caller_of(app, parts).await?;
        caller.ok_or_else(|| Problem::unauthenticated("this needs an account; sign in at /sign-in or send a token"))
    }
}

impl FromRequestParts<Arc<App>> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> std::result::Result<Self, Self::Rejection> {
        Ok(Self(address_of(app, parts)))
    }
}

fn address_of(app: &App, parts: &Parts) -> String {
    let forwarded = parts.headers.get("x-forwarded-for").and_then(|v| v.to_str().ok());
    // The last is what our own proxy saw; those before it are the client's claims.
    let forwarded = forwarded.and_then(|v| v.rsplit(',').next()).map(|v| v.trim().to_string());
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip().to_string());
    let address = if app.config.behind_proxy { forwarded.or(peer) } else { peer };
    address.unwrap_or_else(|| "unknown".to_string())
}

/// Refuses what another site made a browser send.
pub async fn same_origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // Who sends a token or a signature is no browser that was tricked.
    let with_secret = headers.contains_key(header::AUTHORIZATION) || headers.contains_key("stripe-signature");
    if safe || with_secret || ours(&app, headers) {
        return next.run(request).await;
    }
    Problem::forbidden("this request does not come from a page of this marketplace; open the page and try again there")
        .into_response()
}

fn ours(app: &App, headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let site = header("sec-fetch-site");
    let host_of = |url: &str| url.split("://").nth(1).map(|rest| rest.split('/').next().unwrap_or(rest).to_string());
    let origin = header("origin").map(|o| host_of(o).unwrap_or_default());
    let own_host = |host: &str| Some(host) == header("host") || Some(host.to_string()) == host_of(&app.public_url());
    match (site, origin) {
        (Some("same-origin"), _) => true,
        (Some(_), _) => false,
        (None, Some(host)) => own_host(&host),
        // No browser: harmless unless it carries somebody's cookie.
        (None, None) => cookie(headers, SESSION_COOKIE).is_none(),
    }
}

//! One sign-in: begun here, finished after the provider sent the browser back.

use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::provider::Provider;
use super::token::Claims;
use crate::accounts::{self, Caller, Limit, audit};
use crate::app::App;
use crate::clock::SECOND_MS;
use crate::db;
use crate::problem::{Problem, Result};
use crate::secret;

/// The cookie of a sign-in that has begun.
pub const COOKIE: &str = "market_oidc";
/// Where the provider sends browsers back to.
pub const CALLBACK: &str = "/sign-in/oidc/callback";
/// How long somebody may stay at the provider.
pub const PATIENCE_S: i64 = 600;

/// What must come back as it was sent.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    state: String,
    nonce: String,
    verifier: String,
    next: String,
    at_ms: i64,
}

/// What the provider sends a browser back with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Returned {
    code: String,
    state: String,
    error: String,
}

fn provider(app: &App) -> Result<&Provider> {
    app.oidc.as_ref().ok_or_else(|| Problem::not_found("signing in with another account is not set up on this server"))
}

/// Begins a sign-in: (where to send the browser, what its cookie holds).
pub async fn begin(app: &App, next: &str) -> Result<(String, String)> {
    let begun = Begun {
        state: secret::random("")?,
        nonce: secret::random("")?,
        verifier: secret::random("")?,
        next: next.to_string(),
        at_ms: app.clock.now_ms(),
    };
    let back = format!("{}{CALLBACK}", app.public_url());
    let challenge = secret::base64_url(&secret::sha256(begun.verifier.as_bytes()));
    let address = provider(app)?.address(&app.clock, &back, &begun.state, &begun.nonce, &challenge).await?;
    Ok((address, secret::base64_url(&serde_json::to_vec(&begun)?)))
}

/// Finishes a sign-in: (where to go on, the new session's secret unless there was one).
///
/// *Errors*: 400 for what did not begin in this browser, 403 for who may not in, 409 where the address has an account.
pub async fn finish(
    app: &App,
    address: &str,
    caller: Option<&Caller>,
    cookie: Option<&str>,
    returned: &Returned,
) -> Result<(String, Option<String>)> {
    app.limits.take(Limit::SignInAddress, address)?;
    let provider = provider(app)?;
    let begun: Option<Begun> =
        cookie.and_then(secret::unbase64_url).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let fresh = |b: &Begun| (0..=PATIENCE_S * SECOND_MS).contains(&(app.clock.now_ms() - b.at_ms));
    let begun = begun
        .filter(|b| b.state == returned.state && fresh(b))
        .ok_or_else(|| Problem::invalid("this sign-in did not begin in this browser, or too long ago; begin again"))?;
    if !returned.error.is_empty() {
        let why = returned.error.chars().filter(|c| c.is_ascii_graphic()).take(60).collect::<String>();
        return Err(Problem::forbidden(format!("{} did not sign you in: {why}", provider.name())));
    }
    let back = format!("{}{CALLBACK}", app.public_url());
    let claims = provider.claims(&app.clock, &returned.code, &back, &begun.verifier, &begun.nonce).await?;
    match (known(app, provider, &claims).await?, caller) {
        (Some(account), Some(caller)) if account == caller.account.id => Ok((begun.next, None)),
        (Some(_), Some(_)) => Err(Problem::conflict(format!(
            "this account at {} is connected to another account here; sign out first to use that",
            provider.name()
        ))),
        (None, Some(caller)) => {
            connect(app, provider, &claims, &caller.account.id).await?;
            Ok((begun.next, None))
        }
        (Some(account), None) => Ok((begun.next, Some(accounts::open_session(app, &account).await?))),
        (None, None) => {
            let account = sign_up(app, provider, &claims).await?;
            Ok((begun.next, Some(accounts::open_session(app, &account).await?)))
        }
    }
}

/// The account that an identity is connected to.
async fn known(app: &App, provider: &Provider, claims: &Claims) -> Result<Option<String>> {
    let row = sqlx::query(
        "SELECT i.account_id, a.disabled_at FROM identities i JOIN accounts a ON a.id = i.account_id
         WHERE i.issuer = $1 AND i.subject = $2",
    )
    .bind(provider.issuer())
    .bind(&claims.sub)
    .fetch_optional(app.db.read())
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<Option<i64>, _>("disabled_at")?.is_some() {
        return Err(Problem::forbidden("this account is disabled; write to the people who run this marketplace"));
    }
    db::text(&row, "account_id").map(Some)
}

async fn connect(app: &App, provider: &Provider, claims: &Claims, account: &str) -> Result<()> {
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    sqlx::query("INSERT INTO identities (issuer, subject, account_id, created_at) VALUES ($1, $2, $3, $4)")
        .bind(provider.issuer())
        .bind(&claims.sub)
        .bind(account)
        .bind(now)
        .execute(tx.on())
        .await
        .map_err(|e| match db::is_duplicate(&e) {
            true => Problem::conflict("this sign-in was finished already; sign in again"),
            false => e.into(),
        })?;
    audit::write(&mut tx, now, account, "identity.connected", account, provider.issuer()).await?;
    tx.commit().await
}

/// A new account for who never was here.
async fn sign_up(app: &App, provider: &Provider, claims: &Claims) -> Result<String> {
    let name = provider.name();
    let email = claims.proven_email().ok_or_else(|| {
        Problem::forbidden(format!("{name} did not prove your e-mail address; prove it there, or sign up here"))
    })?;
    let wanted = claims.preferred_username.as_deref().or(email.split('@').next()).unwrap_or_default();
    let display_name = claims.name.clone().unwrap_or_default();
    let account = accounts::sign_up_elsewhere(app, &email, wanted, &display_name).await.map_err(|problem| {
        if problem.kind() != "conflict" {
            return problem;
        }
        Problem::conflict(format!(
            "{email} has an account here; sign in with its password, then connect {name} under /account"
        ))
    })?;
    connect(app, provider, claims, &account.id).await?;
    Ok(account.id)
}

/// Is the caller's account connected to one at the provider?
pub async fn is_connected(app: &App, caller: &Caller) -> Result<bool> {
    let Some(provider) = &app.oidc else { return Ok(false) };
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM identities WHERE account_id = $1 AND issuer = $2")
        .bind(&caller.account.id)
        .bind(provider.issuer())
        .fetch_one(app.db.read())
        .await?;
    Ok(count > 0)
}

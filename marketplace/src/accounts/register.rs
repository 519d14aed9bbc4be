//! Signing up, in and out, and giving roles.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{Account, Limit, Role, audit, caller};
use crate::app::App;
use crate::clock::DAY_MS;
use crate::db;
use crate::problem::{Problem, Result};
use crate::secret;

const SESSION_MS: i64 = 30 * DAY_MS;

/// What a new account says of itself.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct SignUp {
    /// 2 to 39 lower-case letters, digits and single hyphens.
    pub handle: String,
    /// Where letters go.
    pub email: String,
    /// 10 characters or more.
    pub password: String,
    /// The name on pages; the handle when absent.
    #[serde(default)]
    pub display_name: String,
}

/// Who wants in.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct SignIn {
    /// The account's address.
    pub email: String,
    /// Its password.
    pub password: String,
}

/// Is `name` fit for an address? For handles, namespaces and agents alike.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = (2..=39).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if fits {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "{what} '{name}' cannot be used; write 2 to 39 lower-case letters, digits and single hyphens between them"
    )))
}

fn check_email(email: &str) -> Result<()> {
    if email.len() <= 254 && email.parse::<lettre::Address>().is_ok() {
        return Ok(());
    }
    Err(Problem::invalid(format!("'{email}' is not an e-mail address; write name@example.org")))
}

/// Makes an account, with the namespace of its handle.
pub async fn sign_up(app: &App, address: &str, new: &SignUp) -> Result<Account> {
    app.limits.take(Limit::SignUp, address)?;
    check_name("handle", &new.handle)?;
    let email = new.email.trim().to_lowercase();
    check_email(&email)?;
    if new.display_name.chars().count() > 80 {
        return Err(Problem::invalid("the display name is longer than 80 characters; shorten it"));
    }
    let name = if new.display_name.trim().is_empty() { &new.handle } else { new.display_name.trim() };
    let hash = app.passwords.hash(&new.password).await?;
    insert(app, &new.handle, &email, name, &hash).await
}

async fn insert(app: &App, handle: &str, email: &str, display_name: &str, hash: &str) -> Result<Account> {
    let (id, now) = (db::new_id(), app.clock.now_ms());
    let mut tx = app.db.begin().await?;
    sqlx::query(
        "INSERT INTO accounts (id, handle, email, display_name, password_hash, role, tier, created_at)
         VALUES ($1, $2, $3, $4, $5, 'consumer', 'free', $6)",
    )
    .bind(&id)
    .bind(handle)
    .bind(email)
    .bind(display_name)
    .bind(hash)
    .bind(now)
    .execute(tx.on())
    .await
    .map_err(|e| match db::is_duplicate(&e) {
        true => Problem::conflict("this handle or e-mail address has an account; choose another, or sign in"),
        false => e.into(),
    })?;
    audit::write(&mut tx, now, &id, "account.created", handle, "").await?;
    tx.commit().await?;
    by_handle(app, handle).await
}

/// Makes an account for somebody whom a provider of identities knows: without a password, with a free handle near `wanted`.
///
/// *Errors*: 409 where the address has an account.
pub async fn sign_up_elsewhere(app: &App, email: &str, wanted: &str, display_name: &str) -> Result<Account> {
    check_email(email)?;
    let (taken,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM accounts WHERE email = $1").bind(email).fetch_one(app.db.read()).await?;
    if taken > 0 {
        return Err(Problem::conflict("this e-mail address has an account"));
    }
    let handle = free_handle(app, wanted).await?;
    let name: String = display_name.trim().chars().filter(|c| !c.is_control()).take(80).collect();
    let name = if name.is_empty() { handle.clone() } else { name };
    // No password fits an empty hash.
    insert(app, &handle, email, &name, "").await
}

/// A handle that nobody has, as near to `wanted` as the rules allow.
async fn free_handle(app: &App, wanted: &str) -> Result<String> {
    let plain = wanted.to_lowercase();
    let parts = plain.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty());
    let mut base: String = parts.collect::<Vec<_>>().join("-").chars().take(30).collect();
    base = base.trim_end_matches('-').to_string();
    if base.len() < 2 {
        base = "member".to_string();
    }
    let rows: Vec<(String,)> = sqlx::query_as("SELECT handle FROM accounts WHERE handle = $1 OR handle LIKE $2")
        .bind(&base)
        .bind(format!("{base}-%"))
        .fetch_all(app.db.read())
        .await?;
    let taken: std::collections::HashSet<String> = rows.into_iter().map(|(handle,)| handle).collect();
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let mut all = std::iter::once(base.clone()).chain(numbered);
    all.find(|handle| !taken.contains(handle)).ok_or_else(|| Problem::internal("no handle is free"))
}

/// The account of a handle.
pub async fn by_handle(app: &App, handle: &str) -> Result<Account> {
    let sql = format!("SELECT {} FROM accounts a WHERE a.handle = $1 AND a.disabled_at IS NULL", Account::COLUMNS);
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(handle).fetch_optional(app.db.read()).await?;
    Account::of(&row.ok_or_else(|| Problem::not_found(format!("no account '{handle}'")))?)
}

/// Checks a password and opens a session; gives the cookie's secret.
pub async fn sign_in(app: &App, address: &str, who: &SignIn) -> Result<String> {
    let email = who.email.trim().to_lowercase();
    app.limits.take(Limit::SignInAddress, address)?;
    // Before the password is looked at: guessing on must not become cheaper by being wrong.
    app.limits.check(Limit::SignInAccount, &email)?;
    let found: Option<(String, String)> =
        sqlx::query_as("SELECT id, password_hash FROM accounts WHERE email = $1 AND disabled_at IS NULL")
            .bind(&email)
            .fetch_optional(app.db.read())
            .await?;
    let hash = found.as_ref().map(|(_, hash)| hash.as_str());
    let fits = app.passwords.fits(&who.password, hash).await?;
    let account = found.as_ref().map(|(id, _)| id.clone());
    let Some((id, _)) = found.filter(|_| fits) else {
        app.limits.take(Limit::SignInAccount, &email)?;
        if let Some(account) = account {
            let mut tx = app.db.begin().await?;
            audit::write(&mut tx, app.clock.now_ms(), &account, "session.refused", &account, address).await?;
            tx.commit().await?;
        }
        return Err(Problem::unauthenticated("e-mail address and password do not fit; check both"));
    };
    open_session(app, &id).await
}

/// Opens a session of an account that has proven who it is; gives the cookie's secret.
pub async fn open_session(app: &App, account: &str) -> Result<String> {
    let (secret, now) = (secret::random("")?, app.clock.now_ms());
    let mut tx = app.db.begin().await?;
    sqlx::query("DELETE FROM sessions WHERE account_id = $1 AND expires_at < $2")
        .bind(account)
        .bind(now)
        .execute(tx.on())
        .await?;
    sqlx::query("INSERT INTO sessions (token_sha256, account_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(secret::sha256_hex(secret.as_bytes()))
        .bind(account)
        .bind(now)
        .bind(now + SESSION_MS)
        .execute(tx.on())
        .await?;
    audit::write(&mut tx, now, account, "session.opened", account, "").await?;
    tx.commit().await?;
    Ok(secret)
}

/// Ends the session of a request's cookie.
pub async fn sign_out(app: &App, headers: &axum::http::HeaderMap) -> Result<()> {
    let Some(secret) = caller::cookie(headers, caller::SESSION_COOKIE) else { return Ok(()) };
    let mut tx = app.db.begin().await?;
    let ended: Option<(String,)> = sqlx::query_as("DELETE FROM sessions WHERE token_sha256 = $1 RETURNING account_id")
        .bind(secret::sha256_hex(secret.as_bytes()))
        .fetch_optional(tx.on())
        .await?;
    if let Some((account,)) = ended {
        audit::write(&mut tx, app.clock.now_ms(), &account, "session.closed", &account, "").await?;
    }
    tx.commit().await
}

/// Gives an account a role; `by` is who decided.
pub async fn grant(app: &App, by: &str, handle: &str, role: Role) -> Result<()> {
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let done = sqlx::query("UPDATE accounts SET role = $1 WHERE handle = $2")
        .bind(role.name())
        .bind(handle)
        .execute(tx.on())
        .await?;
    if done.rows_affected() == 0 {
        return Err(Problem::not_found(format!("no account '{handle}'")));
    }
    audit::write(&mut tx, now, by, "role.granted", handle, role.name()).await?;
    tx.commit().await
}

//! Changing a password.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{Caller, Limit, audit};
use crate::app::App;
use crate::problem::{Problem, Result};
use crate::secret;

/// A password in place of another.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewPassword {
    /// The one that is to go.
    pub current: String,
    /// 10 characters or more.
    pub new: String,
}

/// Changes the caller's password and ends its sessions, but for the one whose cookie is `session`; tokens stay.
///
/// *Errors*: 403 where the current password is another, 409 for an account that has none.
pub async fn change_password(app: &App, caller: &Caller, session: &str, change: &NewPassword) -> Result<()> {
    caller.needs_session()?;
    let account = &caller.account;
    app.limits.check(Limit::SignInAccount, &account.email)?;
    let (hash,): (String,) = sqlx::query_as("SELECT password_hash FROM accounts WHERE id = $1")
        .bind(&account.id)
        .fetch_one(app.db.read())
        .await?;
    if hash.is_empty() {
        return Err(Problem::conflict("the account has no password: it is signed in to elsewhere"));
    }
    if !app.passwords.fits(&change.current, Some(&hash)).await? {
        app.limits.take(Limit::SignInAccount, &account.email)?;
        return Err(Problem::forbidden("the current password is another; check it"));
    }
    replace(app, &account.id, &account.handle, session, &change.new).await
}

/// Gives an account a password and ends all its sessions; `by` is who decided.
///
/// *Errors*: 404 for no account.
pub async fn set_password(app: &App, by: &str, handle: &str, new: &str) -> Result<()> {
    replace(app, by, handle, "", new).await
}

async fn replace(app: &App, by: &str, handle: &str, session: &str, new: &str) -> Result<()> {
    let hash = app.passwords.hash(new).await?;
    let mut tx = app.db.begin().await?;
    let account: Option<(String,)> =
        sqlx::query_as("UPDATE accounts SET password_hash = $1 WHERE handle = $2 RETURNING id")
            .bind(&hash)
            .bind(handle)
            .fetch_optional(tx.on())
            .await?;
    let (account,) = account.ok_or_else(|| Problem::not_found(format!("no account '{handle}'")))?;
    sqlx::query("DELETE FROM sessions WHERE account_id = $1 AND token_sha256 <> $2")
        .bind(&account)
        .bind(secret::sha256_hex(session.as_bytes()))
        .execute(tx.on())
        .await?;
    audit::write(&mut tx, app.clock.now_ms(), by, "password.changed", handle, "").await?;
    tx.commit().await
}

//! API tokens: shown once, kept as a hash, for some scopes and for some time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Caller, Scope, audit};
use crate::app::App;
use crate::clock::DAY_MS;
use crate::db;
use crate::problem::{Problem, Result};
use crate::secret;

/// What every token begins with, so that leak scanners can tell it.
pub const PREFIX: &str = "mkt_";

const DAYS_MAX: i64 = 365;
const TOKENS_MAX: i64 = 50;

/// A token to be made.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// 1 to 365.
    pub days: i64,
}

/// What is known of a token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Token {
    /// Stable.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// From then on it is refused.
    pub expires_at: i64,
    /// The token itself, in the answer to its making and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Makes a token. Only a session may: a token must not be able to make itself wider or longer.
pub async fn issue(app: &App, caller: &Caller, new: &NewToken) -> Result<Token> {
    caller.needs_session()?;
    if new.name.trim().is_empty() || new.name.len() > 80 || new.scopes.is_empty() {
        return Err(Problem::invalid("a token needs a name of at most 80 bytes and one scope or more"));
    }
    if !(1..=DAYS_MAX).contains(&new.days) {
        return Err(Problem::invalid(format!("days is {}; use 1 to {DAYS_MAX}", new.days)));
    }
    let (id, now, secret) = (db::new_id(), app.clock.now_ms(), secret::random(PREFIX)?);
    let scopes: Vec<String> = new.scopes.iter().map(|s| s.name().to_string()).collect();
    let mut tx = app.db.begin().await?;
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM tokens WHERE account_id = $1 AND revoked_at IS NULL")
        .bind(&caller.account.id)
        .fetch_one(tx.on())
        .await?;
    if count >= TOKENS_MAX {
        return Err(Problem::conflict(format!("there are {count} tokens; revoke one first")));
    }
    sqlx::query(
        "INSERT INTO tokens (id, account_id, name, token_sha256, scopes, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&id)
    .bind(&caller.account.id)
    .bind(new.name.trim())
    .bind(secret::sha256_hex(secret.as_bytes()))
    .bind(serde_json::to_string(&scopes)?)
    .bind(now)
    .bind(now + new.days * DAY_MS)
    .execute(tx.on())
    .await?;
    audit::write(&mut tx, now, &caller.account.id, "token.issued", &id, &scopes.join(" ")).await?;
    tx.commit().await?;
    let (name, expires_at) = (new.name.trim().to_string(), now + new.days * DAY_MS);
    Ok(Token { id, name, scopes, created_at: now, expires_at, secret: Some(secret) })
}

/// The account's tokens that are not revoked.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<Token>> {
    let rows = sqlx::query(
        "SELECT id, name, scopes, created_at, expires_at FROM tokens
         WHERE account_id = $1 AND revoked_at IS NULL ORDER BY id",
    )
    .bind(&caller.account.id)
    .fetch_all(app.db.read())
    .await?;
    let token = |row: &sqlx::any::AnyRow| {
        Ok(Token {
            id: db::text(row, "id")?,
            name: db::text(row, "name")?,
            scopes: db::list(row, "scopes")?,
            created_at: db::number(row, "created_at")?,
            expires_at: db::number(row, "expires_at")?,
            secret: None,
        })
    };
    rows.iter().map(token).collect()
}

/// Makes a token of the account useless.
pub async fn revoke(app: &App, caller: &Caller, id: &str) -> Result<()> {
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let done =
        sqlx::query("UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND account_id = $3 AND revoked_at IS NULL")
            .bind(now)
            .bind(id)
            .bind(&caller.account.id)
            .execute(tx.on())
            .await?;
    if done.rows_affected() == 0 {
        return Err(Problem::not_found(format!("you have no token {id}")));
    }
    audit::write(&mut tx, now, &caller.account.id, "token.revoked", id, "").await?;
    tx.commit().await
}

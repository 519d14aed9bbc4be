//! Platform tiers: an account that pays for seats gives them to accounts, itself first.

use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::{Caller, audit, by_handle};
use crate::app::App;
use crate::db::Tx;
use crate::problem::{Problem, Result};

/// What an account pays for, and who has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Seats {
    /// free, team or enterprise.
    pub tier: String,
    /// How many are paid.
    pub seats: i64,
    /// Who has one, by handle.
    pub given_to: Vec<String>,
}

/// (tier, seats) that an account pays for now.
async fn paid(tx: &mut Tx, owner: &str) -> Result<(String, i64)> {
    let row: Option<(String, i64)> = sqlx::query_as(
        "SELECT o.tier, s.seats FROM orders o JOIN subscriptions s ON s.id = o.subscription
         WHERE o.account_id = $1 AND o.tier IS NOT NULL AND s.status IN ('active', 'trialing', 'past_due')
           AND o.state NOT IN ('lost', 'disputed')
         ORDER BY o.tier, s.seats DESC LIMIT 1",
    )
    .bind(owner)
    .fetch_optional(tx.on())
    .await?;
    Ok(row.unwrap_or_else(|| ("free".to_string(), 0)))
}

/// Gives those who have a seat the tier, and takes it from those for whom none is left: the newest go first.
pub(super) async fn settle(app: &App, tx: &mut Tx, owner: &str) -> Result<()> {
    let (tier, count) = paid(tx, owner).await?;
    if count > 0 {
        sqlx::query(
            "INSERT INTO seats (owner_id, account_id, created_at) VALUES ($1, $1, $2)
             ON CONFLICT (owner_id, account_id) DO NOTHING",
        )
        .bind(owner)
        .bind(app.clock.now_ms())
        .execute(tx.on())
        .await?;
    }
    let members: Vec<(String,)> = sqlx::query_as(
        "SELECT account_id FROM seats WHERE owner_id = $1 ORDER BY CASE WHEN account_id = $1 THEN 0 ELSE 1 END,
         created_at, account_id",
    )
    .bind(owner)
    .fetch_all(tx.on())
    .await?;
    for (index, (member,)) in members.iter().enumerate() {
        let has = (index as i64) < count;
        if !has {
            sqlx::query("DELETE FROM seats WHERE owner_id = $1 AND account_id = $2")
                .bind(owner)
                .bind(member)
                .execute(tx.on())
                .await?;
        }
        let tier = if has { tier.as_str() } else { "free" };
        sqlx::query("UPDATE accounts SET tier = $1 WHERE id = $2").bind(tier).bind(member).execute(tx.on()).await?;
    }
    Ok(())
}

/// What the caller pays for, and who has it.
pub async fn seats(app: &App, caller: &Caller) -> Result<Seats> {
    let mut tx = app.db.begin().await?;
    let (tier, seats) = paid(&mut tx, &caller.account.id).await?;
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT a.handle FROM seats s JOIN accounts a ON a.id = s.account_id WHERE s.owner_id = $1 ORDER BY a.handle",
    )
    .bind(&caller.account.id)
    .fetch_all(tx.on())
    .await?;
    Ok(Seats { tier, seats, given_to: rows.into_iter().map(|(handle,)| handle).collect() })
}

/// Gives an account one of the caller's seats.
pub async fn give(app: &App, caller: &Caller, handle: &str) -> Result<()> {
    caller.needs_session()?;
    let member = by_handle(app, handle).await?;
    let mut tx = app.db.begin().await?;
    let (_, count) = paid(&mut tx, &caller.account.id).await?;
    let (given,): (i64,) = sqlx::query_as("SELECT count(*) FROM seats WHERE owner_id = $1 AND account_id <> $2")
        .bind(&caller.account.id)
        .bind(&member.id)
        .fetch_one(tx.on())
        .await?;
    if given >= count {
        return Err(Problem::conflict(format!("all {count} seats are given; buy more or take one back")));
    }
    let elsewhere: Option<(String,)> =
        sqlx::query_as("SELECT owner_id FROM seats WHERE account_id = $1 AND owner_id <> $2")
            .bind(&member.id)
            .bind(&caller.account.id)
            .fetch_optional(tx.on())
            .await?;
    if elsewhere.is_some() {
        return Err(Problem::conflict(format!("{handle} has a seat of another account")));
    }
    sqlx::query(
        "INSERT INTO seats (owner_id, account_id, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (owner_id, account_id) DO NOTHING",
    )
    .bind(&caller.account.id)
    .bind(&member.id)
    .bind(app.clock.now_ms())
    .execute(tx.on())
    .await?;
    settle(app, &mut tx, &caller.account.id).await?;
    audit::write(&mut tx, app.clock.now_ms(), &caller.account.id, "seat.given", handle, "").await?;
    tx.commit().await
}

/// Takes a seat back.
pub async fn take(app: &App, caller: &Caller, handle: &str) -> Result<()> {
    caller.needs_session()?;
    let member = by_handle(app, handle).await?;
    let mut tx = app.db.begin().await?;
    let done = sqlx::query("DELETE FROM seats WHERE owner_id = $1 AND account_id = $2")
        .bind(&caller.account.id)
        .bind(&member.id)
        .execute(tx.on())
        .await?;
    if done.rows_affected() == 0 {
        return Err(Problem::not_found(format!("{handle} has none of your seats")));
    }
    sqlx::query("UPDATE accounts SET tier = 'free' WHERE id = $1").bind(&member.id).execute(tx.on()).await?;
    audit::write(&mut tx, app.clock.now_ms(), &caller.account.id, "seat.taken", handle, "").await?;
    tx.commit().await
}

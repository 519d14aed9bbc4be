//! The audit log: who did what that others may ask about, written in the transaction that did it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::db::{self, Tx};
use crate::problem::Result;

/// One line.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Entry {
    /// Milliseconds since 1970.
    pub at: i64,
    /// Who.
    pub account_id: String,
    /// What: `version.approved`, `role.granted`, ...
    pub action: String,
    /// To what.
    pub subject: String,
    /// Why, or how.
    pub detail: String,
}

/// Writes one line.
pub async fn write(tx: &mut Tx, now: i64, account: &str, action: &str, subject: &str, detail: &str) -> Result<()> {
    sqlx::query("INSERT INTO audit (id, at, account_id, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(db::new_id())
        .bind(now)
        .bind(account)
        .bind(action)
        .bind(subject)
        .bind(detail)
        .execute(tx.on())
        .await?;
    Ok(())
}

/// The newest lines.
pub async fn newest(app: &App, limit: i64) -> Result<Vec<Entry>> {
    let rows = sqlx::query("SELECT at, account_id, action, subject, detail FROM audit ORDER BY id DESC LIMIT $1")
        .bind(limit)
        .fetch_all(app.db.read())
        .await?;
    let entry = |row: &sqlx::any::AnyRow| {
        Ok(Entry {
            at: db::number(row, "at")?,
            account_id: db::text(row, "account_id")?,
            action: db::text(row, "action")?,
            subject: db::text(row, "subject")?,
            detail: db::text(row, "detail")?,
        })
    };
    rows.iter().map(entry).collect()
}

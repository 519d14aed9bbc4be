//! The audit log: who did what that others may ask about, written in the transaction that did it.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::db::{self, Tx};
use crate::problem::Result;

/// Lines of an answer.
const PAGE: usize = 100;

/// One line.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Entry {
    /// Stable; later lines have greater ones.
    pub id: String,
    /// Milliseconds since 1970.
    pub at: i64,
    /// Who: the account's handle, or what acted for nobody, such as `command line`.
    pub who: String,
    /// Who: the account's id.
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

/// Which lines.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct Filter {
    /// Of this account, by its handle.
    pub who: String,
    /// What begins so: `version.approved`, or `version.` for all about versions.
    pub action: String,
    /// To what begins so: `acme/`, or `acme/linter` for all its versions.
    pub subject: String,
    /// Older than the line with this id: the next page.
    pub before: String,
}

/// The newest 100 lines that fit, and the id to ask for more with.
pub async fn newest(app: &App, filter: &Filter) -> Result<(Vec<Entry>, Option<String>)> {
    // A pattern for what begins so.
    let begins = |text: &str| format!("{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    let rows = sqlx::query(
        "SELECT u.id, u.at, COALESCE(a.handle, u.account_id) AS who, u.account_id, u.action, u.subject, u.detail
         FROM audit u LEFT JOIN accounts a ON a.id = u.account_id
         WHERE ($1 = '' OR a.handle = $1 OR u.account_id = $1) AND u.action LIKE $2 ESCAPE '\\'
           AND u.subject LIKE $3 ESCAPE '\\' AND ($4 = '' OR u.id < $4)
         ORDER BY u.id DESC LIMIT $5",
    )
    .bind(&filter.who)
    .bind(begins(&filter.action))
    .bind(begins(&filter.subject))
    .bind(&filter.before)
    .bind(PAGE as i64 + 1)
    .fetch_all(app.db.read())
    .await?;
    let entry = |row: &sqlx::any::AnyRow| {
        Ok(Entry {
            id: db::text(row, "id")?,
            at: db::number(row, "at")?,
            who: db::text(row, "who")?,
            account_id: db::text(row, "account_id")?,
            action: db::text(row, "action")?,
            subject: db::text(row, "subject")?,
            detail: db::text(row, "detail")?,
        })
    };
    let mut entries: Vec<Entry> = rows.iter().map(entry).collect::<Result<_>>()?;
    let more = entries.len() > PAGE;
    entries.truncate(PAGE);
    let next = entries.last().filter(|_| more).map(|e| e.id.clone());
    Ok((entries, next))
}

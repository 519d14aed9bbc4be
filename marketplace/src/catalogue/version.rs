//! Versions: they never change, but can be withdrawn with a reason.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::agent::owned;
use crate::accounts::{Caller, Limit, Scope, audit};
use crate::app::App;
use crate::db::{self, Tx};
use crate::problem::{Problem, Result};
use crate::publish::{Manifest, Runtime};

/// A published version.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Version {
    /// Semantic version.
    pub version: String,
    /// latest or pre.
    pub channel: String,
    /// Milliseconds since 1970.
    pub published_at: i64,
    /// Why it was withdrawn, if it was.
    pub yank_reason: Option<String>,
    /// Of the package.
    pub sha256: String,
    /// Of the package.
    pub size_bytes: i64,
    /// What it may be allowed.
    pub permissions: Vec<String>,
    /// What runs it.
    pub runtime: Runtime,
}

impl Version {
    /// The version as a number.
    pub fn semver(&self) -> Option<semver::Version> {
        self.version.parse().ok()
    }
}

/// A version as its publisher sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Submission {
    /// `namespace/name`.
    pub agent: String,
    /// Semantic version.
    pub version: String,
    /// started, validating, scanning, rejected, quarantined, passed, errored.
    pub scan_state: String,
    /// waiting, approved or refused.
    pub review_state: String,
    /// The moderator's words.
    pub reason: String,
    /// What the checks found.
    pub findings: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

#[derive(Deserialize)]
struct Stored {
    manifest: Manifest,
}

/// All versions of an agent that were published.
pub async fn published(app: &App, agent: &str) -> Result<Vec<Version>> {
    let rows = sqlx::query(
        "SELECT version, channel, published_at, yank_reason, sha256, size_bytes, manifest FROM versions
         WHERE agent_id = $1 AND published_at IS NOT NULL",
    )
    .bind(agent)
    .fetch_all(app.db.read())
    .await?;
    let version = |row: &sqlx::any::AnyRow| {
        let stored: Stored = serde_json::from_str(&db::text(row, "manifest")?)?;
        Ok(Version {
            version: db::text(row, "version")?,
            channel: db::text(row, "channel")?,
            published_at: db::number(row, "published_at")?,
            yank_reason: db::text_or_null(row, "yank_reason")?,
            sha256: db::text(row, "sha256")?,
            size_bytes: db::number(row, "size_bytes")?,
            permissions: stored.manifest.permissions,
            runtime: stored.manifest.runtime,
        })
    };
    rows.iter().map(version).collect()
}

/// What the caller sent in, newest first.
pub async fn submissions(app: &App, caller: &Caller) -> Result<Vec<Submission>> {
    caller.needs(Scope::Publish)?;
    let rows = sqlx::query(
        "SELECT g.namespace, g.name, v.version, v.scan_state, v.review_state, v.reason, v.findings, v.created_at
         FROM versions v JOIN agents g ON g.id = v.agent_id JOIN namespaces n ON n.name = g.namespace
         WHERE n.owner_id = $1 ORDER BY v.created_at DESC, v.id DESC LIMIT 200",
    )
    .bind(&caller.account.id)
    .fetch_all(app.db.read())
    .await?;
    let one = |row: &sqlx::any::AnyRow| {
        Ok(Submission {
            agent: format!("{}/{}", db::text(row, "namespace")?, db::text(row, "name")?),
            version: db::text(row, "version")?,
            scan_state: db::text(row, "scan_state")?,
            review_state: db::text(row, "review_state")?,
            reason: db::text(row, "reason")?,
            findings: db::list(row, "findings")?,
            created_at: db::number(row, "created_at")?,
        })
    };
    rows.iter().map(one).collect()
}

/// Withdraws a version: who has it keeps it, nobody gets it anew. `reason` none: offers it again.
pub async fn yank(
    app: &App,
    caller: &Caller,
    (namespace, name, version): (&str, &str, &str),
    reason: Option<&str>,
) -> Result<()> {
    app.limits.take(Limit::Write, &caller.account.id)?;
    if reason.is_some_and(|r| r.trim().is_empty() || r.len() > 500) {
        return Err(Problem::invalid("say why in 1 to 500 bytes: who has the version reads it"));
    }
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let agent = owned(app, &mut tx, caller, namespace, name).await?;
    let done = sqlx::query(
        "UPDATE versions SET yanked_at = $1, yank_reason = $2
         WHERE agent_id = $3 AND version = $4 AND published_at IS NOT NULL",
    )
    .bind(reason.map(|_| now))
    .bind(reason)
    .bind(&agent)
    .bind(version)
    .execute(tx.on())
    .await?;
    if done.rows_affected() == 0 {
        return Err(Problem::not_found(format!("{namespace}/{name} has no published version {version}")));
    }
    set_latest(&mut tx, &agent, now).await?;
    let action = if reason.is_some() { "version.yanked" } else { "version.unyanked" };
    let subject = format!("{namespace}/{name}@{version}");
    audit::write(&mut tx, now, &caller.account.id, action, &subject, reason.unwrap_or_default()).await?;
    tx.commit().await?;
    app.catalogue.refresh().await?;
    Ok(())
}

/// The newest version that is offered: of the channel latest, or of `pre` if there is no other.
async fn set_latest(tx: &mut Tx, agent: &str, now: i64) -> Result<()> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT version FROM versions WHERE agent_id = $1 AND published_at IS NOT NULL AND yanked_at IS NULL",
    )
    .bind(agent)
    .fetch_all(tx.on())
    .await?;
    let numbers = rows.iter().filter_map(|(v,)| v.parse::<semver::Version>().ok());
    let newest = numbers.max_by_key(|v| (v.pre.is_empty(), v.clone())).map(|v| v.to_string());
    sqlx::query("UPDATE agents SET latest_version = $1, changed_at = $2 WHERE id = $3")
        .bind(newest)
        .bind(now)
        .bind(agent)
        .execute(tx.on())
        .await?;
    Ok(())
}

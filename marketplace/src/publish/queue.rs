//! The review queue: a person decides on every version, with a reason that the publisher reads.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use utoipa::ToSchema;

use super::Manifest;
use crate::accounts::{Caller, Role, Scope, audit};
use crate::app::App;
use crate::db::{self, Tx};
use crate::events::{Event, record};
use crate::mail;
use crate::problem::{Problem, Result};

/// A version that waits.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Waiting {
    /// Of the version.
    pub id: String,
    /// `namespace/name`.
    pub agent: String,
    /// The version.
    pub version: String,
    /// Who sent it.
    pub submitted_by: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// passed or quarantined.
    pub scan_state: String,
    /// What to look at.
    pub findings: Vec<String>,
    /// What the package says of itself.
    pub manifest: Manifest,
    /// Of the package.
    pub sha256: String,
    /// Of the package.
    pub size_bytes: i64,
}

/// What a moderator decides.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct Decision {
    /// Listed if so, else refused.
    pub approve: bool,
    /// Why; needed to refuse, and to approve what has findings.
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Deserialize)]
struct Stored {
    manifest: Manifest,
    readme: String,
}

/// Everything that waits, oldest first.
pub async fn waiting(app: &App, caller: &Caller) -> Result<Vec<Waiting>> {
    caller.needs(Scope::Moderate)?;
    caller.needs_role(Role::Moderator)?;
    let rows = sqlx::query(
        "SELECT v.id, g.namespace, g.name, v.version, o.handle, v.created_at, v.scan_state, v.findings, v.manifest,
         v.sha256, v.size_bytes
         FROM versions v JOIN agents g ON g.id = v.agent_id JOIN accounts o ON o.id = v.submitted_by
         WHERE v.review_state = 'waiting' AND v.scan_state IN ('passed', 'quarantined') ORDER BY v.created_at LIMIT 200",
    )
    .fetch_all(app.db.read())
    .await?;
    let one = |row: &sqlx::any::AnyRow| {
        let stored: Stored = serde_json::from_str(&db::text(row, "manifest")?)?;
        Ok(Waiting {
            id: db::text(row, "id")?,
            agent: format!("{}/{}", db::text(row, "namespace")?, db::text(row, "name")?),
            version: db::text(row, "version")?,
            submitted_by: db::text(row, "handle")?,
            created_at: db::number(row, "created_at")?,
            scan_state: db::text(row, "scan_state")?,
            findings: db::list(row, "findings")?,
            manifest: stored.manifest,
            sha256: db::text(row, "sha256")?,
            size_bytes: db::number(row, "size_bytes")?,
        })
    };
    rows.iter().map(one).collect()
}

/// The package of a version that waits, for the moderator to read.
pub async fn waiting_package(app: &App, caller: &Caller, id: &str) -> Result<bytes::Bytes> {
    caller.needs(Scope::Moderate)?;
    caller.needs_role(Role::Moderator)?;
    let row: Option<(String, i64)> = sqlx::query_as(
        "SELECT sha256, size_bytes FROM versions
         WHERE id = $1 AND review_state = 'waiting' AND scan_state IN ('passed', 'quarantined')",
    )
    .bind(id)
    .fetch_optional(app.db.read())
    .await?;
    let (sha256, size) = row.ok_or_else(|| Problem::not_found(format!("no version {id} waits")))?;
    app.packages.get(&sha256, 0..size.cast_unsigned()).await
}

/// Decides on the version `id`.
///
/// *Errors*: 400 without a reason where one is needed, 404, 409 if another decided meanwhile.
pub async fn decide(app: &App, caller: &Caller, id: &str, decision: &Decision) -> Result<()> {
    decide_unlisted(app, caller, id, decision).await?;
    app.catalogue.refresh().await?;
    Ok(())
}

/// As [`decide`]; lists show it within a second.
pub async fn decide_unlisted(app: &App, caller: &Caller, id: &str, decision: &Decision) -> Result<()> {
    caller.needs(Scope::Moderate)?;
    caller.needs_role(Role::Moderator)?;
    let now = app.clock.now_ms();
    let reason = decision.reason.trim();
    let mut tx = app.db.begin().await?;
    let sql = format!(
        "SELECT v.agent_id, v.version, v.manifest, v.review_state, v.scan_state, v.channel, v.submitted_by, g.namespace,
         g.name, g.latest_version FROM versions v JOIN agents g ON g.id = v.agent_id WHERE v.id = $1{}",
        app.db.for_update()
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(tx.on()).await?;
    let row = row.ok_or_else(|| Problem::not_found(format!("no version {id}")))?;
    let scan_state = db::text(&row, "scan_state")?;
    if db::text(&row, "review_state")? != "waiting" || !["passed", "quarantined"].contains(&scan_state.as_str()) {
        return Err(Problem::conflict("this version does not wait for a decision; load the queue again"));
    }
    if db::text(&row, "submitted_by")? == caller.account.id && caller.account.role != Role::Admin {
        return Err(Problem::forbidden("nobody decides on versions of their own; leave it to another moderator"));
    }
    if reason.is_empty() && (!decision.approve || scan_state == "quarantined") {
        return Err(Problem::invalid("say why: the publisher reads the reason"));
    }
    if reason.len() > 2_000 {
        return Err(Problem::invalid("the reason is longer than 2,000 bytes; shorten it"));
    }
    let state = if decision.approve { "approved" } else { "refused" };
    sqlx::query(
        "UPDATE versions SET review_state = $1, reason = $2, decided_by = $3, decided_at = $4, published_at = $5
         WHERE id = $6",
    )
    .bind(state)
    .bind(reason)
    .bind(&caller.account.id)
    .bind(now)
    .bind(decision.approve.then_some(now))
    .bind(id)
    .execute(tx.on())
    .await?;
    let agent = format!("{}/{}", db::text(&row, "namespace")?, db::text(&row, "name")?);
    let version = db::text(&row, "version")?;
    if decision.approve {
        list(&mut tx, &row, now).await?;
        let event = Event {
            user: db::text(&row, "submitted_by")?,
            publisher: db::text(&row, "submitted_by")?,
            agent: agent.clone(),
            version: version.clone(),
            ..Event::new("published", now)
        };
        record(&mut tx, &event).await?;
    }
    audit::write(&mut tx, now, &caller.account.id, &format!("version.{state}"), &format!("{agent}@{version}"), reason)
        .await?;
    let url = format!("{}/agents/{agent}", app.public_url());
    let text = match decision.approve {
        true => format!("{agent} {version} is published: {url}\n\n{reason}\n"),
        false => {
            format!("{agent} {version} was not published. The reason:\n\n{reason}\n\nMend it and send it again.\n")
        }
    };
    mail::queue_for(&mut tx, now, &db::text(&row, "submitted_by")?, &format!("{agent} {version}: {state}"), &text)
        .await?;
    tx.commit().await
}

/// Lists the agent; what its page says comes from the newest version of the channel latest.
async fn list(tx: &mut Tx, row: &sqlx::any::AnyRow, now: i64) -> Result<()> {
    let agent: String = row.try_get("agent_id")?;
    let version: semver::Version = db::text(row, "version")?.parse().map_err(|e| Problem::internal(format!("{e}")))?;
    let newest = db::text_or_null(row, "latest_version")?.and_then(|v| v.parse::<semver::Version>().ok());
    let newer = match &newest {
        None => true,
        // A pre-release is what an agent shows only until its first release.
        Some(newest) => version > *newest && (version.pre.is_empty() || !newest.pre.is_empty()),
    };
    if newer {
        let Stored { manifest: m, readme } = serde_json::from_str(&db::text(row, "manifest")?)?;
        sqlx::query(
            "UPDATE agents SET title = $1, summary = $2, readme = $3, license = $4, repository = $5, categories = $6,
             tags = $7, screenshots = $8, latest_version = $9 WHERE id = $10",
        )
        .bind(&m.title)
        .bind(&m.summary)
        .bind(readme)
        .bind(&m.license)
        .bind(&m.repository)
        .bind(serde_json::to_string(&m.categories)?)
        .bind(serde_json::to_string(&m.tags)?)
        .bind(serde_json::to_string(&m.screenshots)?)
        .bind(&m.version)
        .bind(&agent)
        .execute(tx.on())
        .await?;
    }
    sqlx::query(
        "UPDATE agents SET state = 'listed', changed_at = $1, published_at = COALESCE(published_at, $1) WHERE id = $2",
    )
    .bind(now)
    .bind(&agent)
    .execute(tx.on())
    .await?;
    Ok(())
}

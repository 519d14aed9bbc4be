//! Install, upgrade, roll back, remove.
//!
//! An account has one version of an agent. Asking for what it has already changes nothing and gives the same answer. Each
//! change is one transaction: what the account has, its history, the agent's count of installers, the event.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use super::signer::{Envelope, Promise};
use crate::accounts::{Caller, Limit, Scope};
use crate::app::App;
use crate::db::{self, Tx};
use crate::events::{Event, record};
use crate::payments;
use crate::problem::{Problem, Result};
use crate::publish::Manifest;
use crate::search::Card;

/// How long the address of a package that is not free is good.
const ADDRESS_MS: i64 = 3_600_000;

/// What to install.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// A version; the newest of the channel when absent.
    pub version: Option<String>,
    /// latest (when absent) or pre.
    pub channel: Option<String>,
}

/// What the account has now, and how to get it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Offer {
    /// `namespace/name`.
    pub agent: String,
    /// The version.
    pub version: String,
    /// installed, upgraded, rolled_back, or unchanged if the account had it.
    pub outcome: String,
    /// What the package must be, signed.
    pub manifest: Envelope,
    /// Where the package is; any cache may have it.
    pub download_url: String,
    /// Where the key is that signed.
    pub key_url: String,
}

/// One agent that an account has.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Installed {
    /// The agent.
    pub agent: Arc<Card>,
    /// What the account has.
    pub version: String,
    /// Milliseconds since 1970.
    pub changed_at: i64,
    /// Versions that it had and can go back to, newest first.
    pub rollback_to: Vec<String>,
    /// The newest, if it is newer.
    pub update_to: Option<String>,
}

/// A newer version of what an account has.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Update {
    /// `namespace/name`.
    pub agent: String,
    /// What the account has.
    pub from: String,
    /// What there is.
    pub to: String,
    /// What the new one may do that the old one may not.
    pub new_permissions: Vec<String>,
    /// Why the old one was withdrawn, if it was.
    pub yank_reason: Option<String>,
}

struct Version {
    version: String,
    sha256: String,
    size_bytes: i64,
    manifest: Manifest,
}

#[derive(Deserialize)]
struct Stored {
    manifest: Manifest,
}

impl Version {
    const SELECT: &'static str = "SELECT version, sha256, size_bytes, manifest FROM versions
         WHERE agent_id = $1 AND published_at IS NOT NULL AND yanked_at IS NULL";

    fn of(row: &AnyRow) -> Result<Self> {
        let stored: Stored = serde_json::from_str(&db::text(row, "manifest")?)?;
        Ok(Self {
            version: db::text(row, "version")?,
            sha256: db::text(row, "sha256")?,
            size_bytes: db::number(row, "size_bytes")?,
            manifest: stored.manifest,
        })
    }
}

/// The version that `wanted` means.
async fn wanted_version(app: &App, card: &Card, wanted: &Wanted) -> Result<Version> {
    let full = card.full_name();
    if let Some(version) = &wanted.version {
        let sql = format!("{} AND version = $2", Version::SELECT);
        let row =
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&card.id).bind(version).fetch_optional(app.db.read()).await?;
        let missing = || Problem::not_found(format!("{full} has no version {version} that can be installed"));
        return Version::of(&row.ok_or_else(missing)?);
    }
    let channel = wanted.channel.as_deref().unwrap_or("latest");
    if !["latest", "pre"].contains(&channel) {
        return Err(Problem::invalid(format!("channel is '{channel}'; use latest or pre")));
    }
    let rows = sqlx::query(sqlx::AssertSqlSafe(Version::SELECT)).bind(&card.id).fetch_all(app.db.read()).await?;
    let mut newest: Option<(semver::Version, Version)> = None;
    for row in &rows {
        let version = Version::of(row)?;
        let Ok(number) = version.version.parse::<semver::Version>() else { continue };
        let fits = channel == "pre" || number.pre.is_empty();
        if fits && newest.as_ref().is_none_or(|(best, _)| number > *best) {
            newest = Some((number, version));
        }
    }
    let missing = || Problem::not_found(format!("{full} has no version in the channel {channel}; name a version"));
    newest.map(|(_, version)| version).ok_or_else(missing)
}

/// Installs an agent, or changes the version that the account has.
///
/// *Errors*: 402 if it must be bought first, 404.
pub async fn install(app: &App, caller: &Caller, card: &Card, wanted: &Wanted) -> Result<Offer> {
    caller.needs(Scope::Install)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    payments::check_entitled(app, &caller.account, card).await?;
    let version = wanted_version(app, card, wanted).await?;
    change(app, caller, card, version, false).await
}

/// Goes back to a version that the account had; without one, to the one before.
///
/// *Errors*: 404 and 409 if there is none.
pub async fn rollback(app: &App, caller: &Caller, card: &Card, version: Option<&str>) -> Result<Offer> {
    caller.needs(Scope::Install)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    payments::check_entitled(app, &caller.account, card).await?;
    let had = rollback_versions(app, &caller.account.id, &card.id).await?;
    let full = card.full_name();
    let to = match version {
        None => had
            .first()
            .cloned()
            .ok_or_else(|| Problem::conflict(format!("you had no other version of {full} that is still offered")))?,
        Some(version) if had.iter().any(|v| v == version) => version.to_string(),
        Some(version) => {
            return Err(Problem::not_found(format!(
                "you never had {full} {version}, or it was withdrawn; you can go back to: {}",
                if had.is_empty() { "none".to_string() } else { had.join(", ") }
            )));
        }
    };
    let wanted = Wanted { version: Some(to), channel: None };
    let version = wanted_version(app, card, &wanted).await?;
    change(app, caller, card, version, true).await
}

async fn change(app: &App, caller: &Caller, card: &Card, version: Version, back: bool) -> Result<Offer> {
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let (outcome, first) = set_version(&mut tx, app, &caller.account.id, &card.id, &version.version, back, now).await?;
    if outcome != "unchanged" {
        note(&mut tx, &caller.account.id, &card.id, &version.version, outcome, now).await?;
        if first {
            sqlx::query("UPDATE agents SET installs = installs + 1, changed_at = $1 WHERE id = $2")
                .bind(now)
                .bind(&card.id)
                .execute(tx.on())
                .await?;
        }
        let event = Event { version: version.version.clone(), ..Event::new(outcome, now) };
        record(&mut tx, &event.by(&caller.account).about(card)).await?;
    }
    tx.commit().await?;
    let manifest = app.signer.sign(&Promise {
        agent: card.full_name(),
        version: version.version.clone(),
        sha256: version.sha256.clone(),
        size_bytes: version.size_bytes,
        entrypoint: version.manifest.entrypoint,
        runtime: version.manifest.runtime.kind,
        permissions: version.manifest.permissions,
    })?;
    let url = app.public_url();
    let mut download_url = format!("{url}/packages/{}.tar.gz", version.sha256);
    if card.price.kind != "free" {
        let until = now + ADDRESS_MS;
        download_url.push_str(&format!("?until={until}&sig={}", app.signer.sign_address(&version.sha256, until)));
    }
    Ok(Offer {
        agent: card.full_name(),
        version: version.version,
        outcome: outcome.to_string(),
        manifest,
        download_url,
        key_url: format!("{url}/api/v1/keys/{}", app.signer.key_id()),
    })
}

/// (what happened, is it the account's first install of the agent).
async fn set_version(
    tx: &mut Tx,
    app: &App,
    account: &str,
    agent: &str,
    version: &str,
    back: bool,
    now: i64,
) -> Result<(&'static str, bool)> {
    let sql =
        format!("SELECT version, state FROM installs WHERE account_id = $1 AND agent_id = $2{}", app.db.for_update());
    let had: Option<(String, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(account).bind(agent).fetch_optional(tx.on()).await?;
    let outcome = match &had {
        Some((had, state)) if had == version && state == "installed" => return Ok(("unchanged", false)),
        Some((_, state)) if state == "installed" && back => "rolled_back",
        Some((had, state)) if state == "installed" => {
            let older = matches!((version.parse::<semver::Version>(), had.parse::<semver::Version>()),
                (Ok(new), Ok(old)) if new < old);
            if older { "rolled_back" } else { "upgraded" }
        }
        _ => "installed",
    };
    // Two first installs at once: the second waits for the first, then finds nothing to do.
    let done = sqlx::query(
        "INSERT INTO installs (account_id, agent_id, version, state, first_at, changed_at)
         VALUES ($1, $2, $3, 'installed', $4, $4)
         ON CONFLICT (account_id, agent_id) DO UPDATE SET version = $3, state = 'installed', changed_at = $4
         WHERE installs.version <> $3 OR installs.state <> 'installed'",
    )
    .bind(account)
    .bind(agent)
    .bind(version)
    .bind(now)
    .execute(tx.on())
    .await?;
    if done.rows_affected() == 0 {
        return Ok(("unchanged", false));
    }
    Ok((outcome, had.is_none()))
}

async fn note(tx: &mut Tx, account: &str, agent: &str, version: &str, action: &str, now: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO install_history (id, account_id, agent_id, version, action, at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(db::new_id())
    .bind(account)
    .bind(agent)
    .bind(version)
    .bind(action)
    .bind(now)
    .execute(tx.on())
    .await?;
    Ok(())
}

/// Removes an agent; removing what is not there changes nothing.
pub async fn uninstall(app: &App, caller: &Caller, card: &Card) -> Result<()> {
    caller.needs(Scope::Install)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let had: Option<(String,)> = sqlx::query_as(
        "UPDATE installs SET state = 'uninstalled', changed_at = $1
         WHERE account_id = $2 AND agent_id = $3 AND state = 'installed' RETURNING version",
    )
    .bind(now)
    .bind(&caller.account.id)
    .bind(&card.id)
    .fetch_optional(tx.on())
    .await?;
    if let Some((version,)) = had {
        note(&mut tx, &caller.account.id, &card.id, &version, "uninstalled", now).await?;
        let event = Event { version, ..Event::new("uninstalled", now) };
        record(&mut tx, &event.by(&caller.account).about(card)).await?;
    }
    tx.commit().await
}

/// Versions that the account had of an agent and that are still offered, the newest change first, without the present one.
async fn rollback_versions(app: &App, account: &str, agent: &str) -> Result<Vec<String>> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT h.version FROM install_history h
         JOIN versions v ON v.agent_id = h.agent_id AND v.version = h.version AND v.yanked_at IS NULL
         WHERE h.account_id = $1 AND h.agent_id = $2
           AND h.version NOT IN (SELECT i.version FROM installs i
             WHERE i.account_id = $1 AND i.agent_id = $2 AND i.state = 'installed')
         GROUP BY h.version ORDER BY max(h.id) DESC",
    )
    .bind(account)
    .bind(agent)
    .fetch_all(app.db.read())
    .await?;
    Ok(rows.into_iter().map(|(version,)| version).collect())
}

/// Everything that the account has.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<Installed>> {
    caller.needs(Scope::Read)?;
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT agent_id, version, changed_at FROM installs
         WHERE account_id = $1 AND state = 'installed' ORDER BY changed_at DESC, agent_id",
    )
    .bind(&caller.account.id)
    .fetch_all(app.db.read())
    .await?;
    let snapshot = app.catalogue.now();
    let mut all = Vec::new();
    for (agent, version, changed_at) in rows {
        // One that a moderator removed is no longer offered.
        let Some(card) = snapshot.with_id(&agent) else { continue };
        let rollback_to = rollback_versions(app, &caller.account.id, &agent).await?;
        let update_to = Some(card.latest_version.clone()).filter(|new| is_newer(new, &version));
        all.push(Installed { agent: card, version, changed_at, rollback_to, update_to });
    }
    Ok(all)
}

/// What the account has of one agent, if it has it.
pub async fn one(app: &App, account: &str, card: &Arc<Card>) -> Result<Option<Installed>> {
    let row: Option<(String, i64)> = sqlx::query_as(
        "SELECT version, changed_at FROM installs WHERE account_id = $1 AND agent_id = $2 AND state = 'installed'",
    )
    .bind(account)
    .bind(&card.id)
    .fetch_optional(app.db.read())
    .await?;
    let Some((version, changed_at)) = row else { return Ok(None) };
    let rollback_to = rollback_versions(app, account, &card.id).await?;
    let update_to = Some(card.latest_version.clone()).filter(|new| is_newer(new, &version));
    Ok(Some(Installed { agent: card.clone(), version, changed_at, rollback_to, update_to }))
}

fn is_newer(new: &str, old: &str) -> bool {
    matches!((new.parse::<semver::Version>(), old.parse::<semver::Version>()), (Ok(new), Ok(old)) if new > old)
}

/// Newer versions of what the account has, with what they want to be allowed in addition.
pub async fn updates(app: &App, caller: &Caller) -> Result<Vec<Update>> {
    let mut all = Vec::new();
    for installed in list(app, caller).await? {
        let Some(to) = installed.update_to else { continue };
        let of = |version: String| version_facts(app, &installed.agent.id, version);
        let (old, yank_reason) = of(installed.version.clone()).await?;
        let (new, _) = of(to.clone()).await?;
        let new_permissions = new.into_iter().filter(|p| !old.contains(p)).collect();
        let agent = installed.agent.full_name();
        all.push(Update { agent, from: installed.version, to, new_permissions, yank_reason });
    }
    Ok(all)
}

async fn version_facts(app: &App, agent: &str, version: String) -> Result<(Vec<String>, Option<String>)> {
    let row: Option<(String, Option<String>)> =
        sqlx::query_as("SELECT manifest, yank_reason FROM versions WHERE agent_id = $1 AND version = $2")
            .bind(agent)
            .bind(version)
            .fetch_optional(app.db.read())
            .await?;
    let Some((manifest, yank_reason)) = row else { return Ok((Vec::new(), None)) };
    let stored: Stored = serde_json::from_str(&manifest)?;
    Ok((stored.manifest.permissions, yank_reason))
}

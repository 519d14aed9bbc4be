//! One agent: everything that its page shows, and what its owner may change without a new version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{readme_html, version};
use crate::accounts::{Caller, Limit, Role, Scope, audit, check_name};
use crate::app::App;
use crate::db::{self, Tx};
use crate::problem::{Problem, Result};
use crate::publish::{Runtime, check_links, check_tags};
use crate::search::Card;

/// Everything that an agent's page shows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Details {
    /// As in lists.
    #[serde(flatten)]
    pub card: Arc<Card>,
    /// The readme as safe HTML.
    pub readme_html: String,
    /// SPDX identifier.
    pub license: String,
    /// https address of the source, or nothing.
    pub repository: String,
    /// https addresses of pictures.
    pub screenshots: Vec<String>,
    /// Published versions, newest first.
    pub versions: Vec<version::Version>,
    /// What the newest version may be allowed.
    pub permissions: Vec<String>,
    /// What runs the newest version.
    pub runtime: Option<Runtime>,
    /// Visible reviews with 1, 2, 3, 4, 5 stars.
    pub histogram: [i64; 5],
    /// Accounts that have it now.
    pub active_installs: i64,
}

/// What may change without a new version; what is absent stays.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Edit {
    /// At most 80 characters.
    pub title: Option<String>,
    /// 10 to 200 characters.
    pub summary: Option<String>,
    /// Markdown, at most 256 KiB.
    pub readme: Option<String>,
    /// At most ten.
    pub tags: Option<Vec<String>>,
    /// https address.
    pub repository: Option<String>,
    /// At most eight https addresses.
    pub screenshots: Option<Vec<String>>,
}

/// Reads everything about an agent.
pub async fn details(app: &App, namespace: &str, name: &str) -> Result<Details> {
    let card = app.catalogue.now().named(namespace, name)?;
    let row = sqlx::query("SELECT readme, license, repository, screenshots FROM agents WHERE id = $1")
        .bind(&card.id)
        .fetch_one(app.db.read())
        .await?;
    let mut versions = version::published(app, &card.id).await?;
    versions.sort_by_key(|v| std::cmp::Reverse(v.semver()));
    let latest = versions.iter().find(|v| v.version == card.latest_version);
    let stars: Vec<(i64, i64)> =
        sqlx::query_as("SELECT stars, count(*) FROM reviews WHERE agent_id = $1 AND state = 'visible' GROUP BY stars")
            .bind(&card.id)
            .fetch_all(app.db.read())
            .await?;
    let mut histogram = [0; 5];
    for (stars, count) in stars {
        if let Some(slot) = usize::try_from(stars - 1).ok().and_then(|i| histogram.get_mut(i)) {
            *slot = count;
        }
    }
    let (active_installs,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM installs WHERE agent_id = $1 AND state = 'installed'")
            .bind(&card.id)
            .fetch_one(app.db.read())
            .await?;
    Ok(Details {
        readme_html: readme_html(&db::text(&row, "readme")?),
        license: db::text(&row, "license")?,
        repository: db::text(&row, "repository")?,
        screenshots: db::list(&row, "screenshots")?,
        permissions: latest.map(|v| v.permissions.clone()).unwrap_or_default(),
        runtime: latest.map(|v| v.runtime.clone()),
        versions,
        histogram,
        active_installs,
        card,
    })
}

/// The agent's id, if it is the caller's to change.
///
/// *Errors*: 404 for one that is not there and one that is not the caller's alike.
pub async fn owned(app: &App, tx: &mut Tx, caller: &Caller, namespace: &str, name: &str) -> Result<String> {
    caller.needs(Scope::Publish)?;
    let sql = format!(
        "SELECT a.id FROM agents a JOIN namespaces n ON n.name = a.namespace
         WHERE a.namespace = $1 AND a.name = $2 AND n.owner_id = $3 AND a.state <> 'removed'{}",
        if app.db.for_update().is_empty() { "" } else { " FOR UPDATE OF a" }
    );
    let id: Option<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(namespace)
        .bind(name)
        .bind(&caller.account.id)
        .fetch_optional(tx.on())
        .await?;
    id.map(|(id,)| id).ok_or_else(|| Problem::not_found(format!("you have no agent '{namespace}/{name}'")))
}

/// Changes what an agent's page says.
pub async fn edit(app: &App, caller: &Caller, namespace: &str, name: &str, edit: &Edit) -> Result<()> {
    app.limits.take(Limit::Write, &caller.account.id)?;
    let length = |what: &str, text: &Option<String>, min: usize, max: usize| match text {
        Some(t) if !(min..=max).contains(&t.trim().chars().count()) => {
            Err(Problem::invalid(format!("{what} has {} characters; use {min} to {max}", t.chars().count())))
        }
        _ => Ok(()),
    };
    length("title", &edit.title, 1, 80)?;
    length("summary", &edit.summary, 10, 200)?;
    length("readme", &edit.readme, 0, 256 << 10)?;
    check_tags(edit.tags.as_deref().unwrap_or_default())?;
    check_links(edit.repository.as_deref().unwrap_or_default(), edit.screenshots.as_deref().unwrap_or_default())?;
    let json = |list: &Option<Vec<String>>| list.as_ref().map(serde_json::to_string).transpose();
    let mut tx = app.db.begin().await?;
    let id = owned(app, &mut tx, caller, namespace, name).await?;
    let now = app.clock.now_ms();
    sqlx::query(
        "UPDATE agents SET title = COALESCE($1, title), summary = COALESCE($2, summary), readme = COALESCE($3, readme),
         tags = COALESCE($4, tags), repository = COALESCE($5, repository), screenshots = COALESCE($6, screenshots),
         changed_at = $7 WHERE id = $8",
    )
    .bind(edit.title.as_ref().map(|t| t.trim().to_string()))
    .bind(edit.summary.as_ref().map(|t| t.trim().to_string()))
    .bind(edit.readme.clone())
    .bind(json(&edit.tags)?)
    .bind(edit.repository.clone())
    .bind(json(&edit.screenshots)?)
    .bind(now)
    .bind(&id)
    .execute(tx.on())
    .await?;
    audit::write(&mut tx, now, &caller.account.id, "agent.edited", &format!("{namespace}/{name}"), "").await?;
    tx.commit().await?;
    app.catalogue.refresh().await?;
    Ok(())
}

/// Makes the caller a publisher, with the namespace of the account's handle.
pub async fn become_publisher(app: &App, caller: &Caller) -> Result<()> {
    caller.needs_session()?;
    if caller.account.role == Role::Consumer {
        crate::accounts::grant(app, &caller.account.id, &caller.account.handle, Role::Publisher).await?;
    }
    match create_namespace_named(app, caller, &caller.account.handle).await {
        // Asking twice changes nothing.
        Err(problem) if problem.kind() == "conflict" => Ok(()),
        other => other,
    }
}

/// Makes a namespace of the caller's.
pub async fn create_namespace(app: &App, caller: &Caller, name: &str) -> Result<()> {
    caller.needs(Scope::Publish)?;
    caller.needs_role(Role::Publisher)?;
    // The name of an account is kept for it.
    if name != caller.account.handle && crate::accounts::by_handle(app, name).await.is_ok() {
        return Err(Problem::forbidden(format!("'{name}' is an account's name; it is kept for that account")));
    }
    create_namespace_named(app, caller, name).await
}

async fn create_namespace_named(app: &App, caller: &Caller, name: &str) -> Result<()> {
    check_name("namespace", name)?;
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM namespaces WHERE owner_id = $1")
        .bind(&caller.account.id)
        .fetch_one(tx.on())
        .await?;
    if count >= 20 {
        return Err(Problem::forbidden(format!("you have {count} namespaces; no more are given")));
    }
    let done = sqlx::query(
        "INSERT INTO namespaces (name, owner_id, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(&caller.account.id)
    .bind(now)
    .execute(tx.on())
    .await?;
    if done.rows_affected() == 0 {
        return Err(Problem::conflict(format!("the namespace '{name}' is taken; choose another")));
    }
    audit::write(&mut tx, now, &caller.account.id, "namespace.created", name, "").await?;
    tx.commit().await
}

/// The caller's namespaces.
pub async fn namespaces(app: &App, caller: &Caller) -> Result<Vec<String>> {
    let rows: Vec<(String,)> = sqlx::query_as("SELECT name FROM namespaces WHERE owner_id = $1 ORDER BY name")
        .bind(&caller.account.id)
        .fetch_all(app.db.read())
        .await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// Takes an agent out of the catalogue: nobody finds or installs it any more.
pub async fn remove(app: &App, caller: &Caller, namespace: &str, name: &str, reason: &str) -> Result<()> {
    caller.needs(Scope::Moderate)?;
    caller.needs_role(Role::Moderator)?;
    if reason.trim().is_empty() {
        return Err(Problem::invalid("say why: the publisher reads the reason"));
    }
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let owner: Option<(String,)> = sqlx::query_as(
        "UPDATE agents SET state = 'removed', changed_at = $1 WHERE namespace = $2 AND name = $3 AND state <> 'removed'
         RETURNING (SELECT owner_id FROM namespaces n WHERE n.name = agents.namespace)",
    )
    .bind(now)
    .bind(namespace)
    .bind(name)
    .fetch_optional(tx.on())
    .await?;
    let (owner,) = owner.ok_or_else(|| Problem::not_found(format!("no agent '{namespace}/{name}'")))?;
    let subject = format!("{namespace}/{name}");
    audit::write(&mut tx, now, &caller.account.id, "agent.removed", &subject, reason).await?;
    let text = format!("{subject} was taken out of the catalogue. The reason:\n\n{reason}\n");
    crate::mail::queue_for(&mut tx, now, &owner, &format!("{subject} was removed"), &text).await?;
    tx.commit().await?;
    app.catalogue.refresh().await?;
    Ok(())
}

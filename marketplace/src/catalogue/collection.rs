//! Collections: agents that belong together, chosen by the house or by anyone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::{Caller, Limit, Role, Scope, audit, check_name};
use crate::app::App;
use crate::clock::DAY_MS;
use crate::db::{self, Tx};
use crate::installs::{Offer, Wanted, install};
use crate::mail;
use crate::problem::{Problem, Result};
use crate::search::Card;

const ITEMS_MAX: usize = 50;

/// A collection without its agents.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Collection {
    /// Stable.
    pub id: String,
    /// Whose: an account's handle.
    pub owner: String,
    /// In addresses.
    pub slug: String,
    /// On pages.
    pub title: String,
    /// A few sentences.
    pub description: String,
    /// Chosen by the house.
    pub curated: bool,
    /// Agents in it.
    pub count: i64,
    /// Accounts that are told when it grows.
    pub followers: i64,
}

/// One agent of a collection.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Item {
    /// The agent.
    pub agent: Arc<Card>,
    /// Why it is in.
    pub note: String,
}

/// A collection to be made, or in place of the one with its slug.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct NewCollection {
    /// In addresses.
    pub slug: String,
    /// On pages, 1 to 80 characters.
    pub title: String,
    /// At most 1,000 characters.
    #[serde(default)]
    pub description: String,
    /// Show it to all as chosen by the house; needs the role moderator.
    #[serde(default)]
    pub curated: bool,
    /// In this order.
    pub agents: Vec<NewItem>,
}

/// One agent of a collection to be made.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct NewItem {
    /// `namespace/name`.
    pub agent: String,
    /// Why it is in, at most 200 characters.
    #[serde(default)]
    pub note: String,
}

const SELECT: &str = "SELECT c.id, a.handle, c.slug, c.title, c.description, c.curated,
    (SELECT count(*) FROM collection_items i WHERE i.collection_id = c.id) AS item_count,
    (SELECT count(*) FROM collection_follows f WHERE f.collection_id = c.id) AS followers
    FROM collections c JOIN accounts a ON a.id = c.owner_id";

fn of(row: &sqlx::any::AnyRow) -> Result<Collection> {
    Ok(Collection {
        id: db::text(row, "id")?,
        owner: db::text(row, "handle")?,
        slug: db::text(row, "slug")?,
        title: db::text(row, "title")?,
        description: db::text(row, "description")?,
        curated: db::number(row, "curated")? != 0,
        count: db::number(row, "item_count")?,
        followers: db::number(row, "followers")?,
    })
}

/// Collections of the house, and of `owner` if one is named.
pub async fn list(app: &App, owner: Option<&str>) -> Result<Vec<Collection>> {
    let sql = format!("{SELECT} WHERE (c.curated = 1 AND $1 = '') OR a.handle = $1 ORDER BY c.title, c.id LIMIT 200");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(owner.unwrap_or_default()).fetch_all(app.db.read()).await?;
    rows.iter().map(of).collect()
}

/// One collection with its agents.
pub async fn get(app: &App, owner: &str, slug: &str) -> Result<(Collection, Vec<Item>)> {
    let sql = format!("{SELECT} WHERE a.handle = $1 AND c.slug = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(owner).bind(slug).fetch_optional(app.db.read()).await?;
    let collection = of(&row.ok_or_else(|| Problem::not_found(format!("no collection '{owner}/{slug}'")))?)?;
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT agent_id, note FROM collection_items WHERE collection_id = $1 ORDER BY position")
            .bind(&collection.id)
            .fetch_all(app.db.read())
            .await?;
    let snapshot = app.catalogue.now();
    let item = |(id, note): (String, String)| Some(Item { agent: snapshot.with_id(&id)?, note });
    Ok((collection, rows.into_iter().filter_map(item).collect()))
}

/// Makes a collection, or puts `new` in place of the caller's of that slug.
pub async fn put(app: &App, caller: &Caller, new: &NewCollection) -> Result<()> {
    caller.needs(Scope::Review)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    if new.curated {
        caller.needs_role(Role::Moderator)?;
    }
    check_name("slug", &new.slug)?;
    let title = new.title.trim();
    if title.is_empty() || title.chars().count() > 80 || new.description.chars().count() > 1_000 {
        return Err(Problem::invalid(
            "a collection needs a title of 1 to 80 characters; the description has at most 1,000",
        ));
    }
    if new.agents.len() > ITEMS_MAX {
        return Err(Problem::invalid(format!("{} agents; a collection has at most {ITEMS_MAX}", new.agents.len())));
    }
    let snapshot = app.catalogue.now();
    let mut ids: Vec<(String, &str)> = Vec::new();
    for item in &new.agents {
        let (namespace, name) = item.agent.split_once('/').unwrap_or(("", item.agent.as_str()));
        let card = snapshot.named(namespace, name)?;
        if item.note.chars().count() > 200 || ids.iter().any(|(id, _)| *id == card.id) {
            return Err(Problem::invalid(format!("'{}' is there twice or its note is longer than 200", item.agent)));
        }
        ids.push((card.id.clone(), &item.note));
    }
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let (id,): (String,) = sqlx::query_as(
        "INSERT INTO collections (id, owner_id, slug, title, description, curated, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (owner_id, slug) DO UPDATE SET title = $4, description = $5, curated = $6 RETURNING id",
    )
    .bind(db::new_id())
    .bind(&caller.account.id)
    .bind(&new.slug)
    .bind(title)
    .bind(new.description.trim())
    .bind(i64::from(new.curated))
    .bind(now)
    .fetch_one(tx.on())
    .await?;
    let before: Vec<(String,)> = sqlx::query_as("SELECT agent_id FROM collection_items WHERE collection_id = $1")
        .bind(&id)
        .fetch_all(tx.on())
        .await?;
    sqlx::query("DELETE FROM collection_items WHERE collection_id = $1").bind(&id).execute(tx.on()).await?;
    for (position, (agent, note)) in ids.iter().enumerate() {
        sqlx::query("INSERT INTO collection_items (collection_id, agent_id, position, note) VALUES ($1, $2, $3, $4)")
            .bind(&id)
            .bind(agent)
            .bind(position as i64)
            .bind(*note)
            .execute(tx.on())
            .await?;
    }
    let added = ids.iter().map(|(id, _)| id).filter(|id| !before.iter().any(|(old,)| old == *id));
    let added: Vec<String> = added.filter_map(|id| snapshot.with_id(id)).map(|card| card.full_name()).collect();
    let address = format!("{}/collections/{}/{}", app.public_url(), caller.account.handle, new.slug);
    tell_followers(&mut tx, now, &id, title, &address, &added).await?;
    let subject = format!("{}/{}", caller.account.handle, new.slug);
    audit::write(&mut tx, now, &caller.account.id, "collection.saved", &subject, "").await?;
    tx.commit().await
}

/// Writes to those who follow a collection what is new in it: one letter a day at most.
async fn tell_followers(
    tx: &mut Tx,
    now: i64,
    collection: &str,
    title: &str,
    address: &str,
    added: &[String],
) -> Result<()> {
    if added.is_empty() {
        return Ok(());
    }
    let followers: Vec<(String,)> = sqlx::query_as(
        "UPDATE collection_follows SET told_at = $1 WHERE collection_id = $2 AND told_at <= $3 RETURNING account_id",
    )
    .bind(now)
    .bind(collection)
    .bind(now - DAY_MS)
    .fetch_all(tx.on())
    .await?;
    let text = format!(
        "New in the collection {title}:\n\n{}\n\n{address}\n\nOn that page you can stop following it.\n",
        added.join("\n")
    );
    for (follower,) in followers {
        mail::queue_for(tx, now, &follower, &format!("New in {title}"), &text).await?;
    }
    Ok(())
}

/// Follows a collection, or no longer; saying so twice changes nothing.
pub async fn follow(app: &App, caller: &Caller, owner: &str, slug: &str, follow: bool) -> Result<()> {
    caller.needs(Scope::Review)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    let (collection, _) = get(app, owner, slug).await?;
    let statement = if follow {
        "INSERT INTO collection_follows (collection_id, account_id, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (collection_id, account_id) DO NOTHING"
    } else {
        "DELETE FROM collection_follows WHERE collection_id = $1 AND account_id = $2 AND created_at <= $3"
    };
    let mut tx = app.db.begin().await?;
    sqlx::query(statement)
        .bind(&collection.id)
        .bind(&caller.account.id)
        .bind(app.clock.now_ms())
        .execute(tx.on())
        .await?;
    tx.commit().await
}

/// Collections that the caller follows.
pub async fn followed(app: &App, caller: &Caller) -> Result<Vec<Collection>> {
    caller.needs(Scope::Read)?;
    let sql = format!(
        "{SELECT} JOIN collection_follows f ON f.collection_id = c.id WHERE f.account_id = $1 ORDER BY c.title, c.id LIMIT 200"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&caller.account.id).fetch_all(app.db.read()).await?;
    rows.iter().map(of).collect()
}

/// Deletes a collection of the caller's.
pub async fn delete(app: &App, caller: &Caller, owner: &str, slug: &str) -> Result<()> {
    caller.needs(Scope::Review)?;
    let missing = || Problem::not_found(format!("you have no collection '{owner}/{slug}'"));
    if owner != caller.account.handle {
        return Err(missing());
    }
    let mut tx = app.db.begin().await?;
    let id: Option<(String,)> = sqlx::query_as("SELECT id FROM collections WHERE owner_id = $1 AND slug = $2")
        .bind(&caller.account.id)
        .bind(slug)
        .fetch_optional(tx.on())
        .await?;
    let (id,) = id.ok_or_else(missing)?;
    sqlx::query("DELETE FROM collection_items WHERE collection_id = $1").bind(&id).execute(tx.on()).await?;
    sqlx::query("DELETE FROM collection_follows WHERE collection_id = $1").bind(&id).execute(tx.on()).await?;
    sqlx::query("DELETE FROM collections WHERE id = $1").bind(&id).execute(tx.on()).await?;
    let subject = format!("{}/{slug}", caller.account.handle);
    audit::write(&mut tx, app.clock.now_ms(), &caller.account.id, "collection.deleted", &subject, "").await?;
    tx.commit().await
}

/// Installs every agent of a collection; what cannot be installed is told with the reason and hinders nothing.
pub async fn install_all(
    app: &App,
    caller: &Caller,
    owner: &str,
    slug: &str,
) -> Result<(Vec<Offer>, Vec<(String, Problem)>)> {
    caller.needs(Scope::Install)?;
    let (_, items) = get(app, owner, slug).await?;
    let (mut offers, mut failures) = (Vec::new(), Vec::new());
    for item in items {
        match install(app, caller, &item.agent, &Wanted::default()).await {
            Ok(offer) => offers.push(offer),
            Err(problem) => failures.push((item.agent.full_name(), problem)),
        }
    }
    Ok((offers, failures))
}

//! Reviews: by who installed the agent, one each, about the version they have; replies, votes, reports, moderation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::{Caller, Limit, Role, Scope, audit};
use crate::app::App;
use crate::db::{self, Tx};
use crate::events::{Event, record};
use crate::problem::{Problem, Result};
use crate::search::Card;

const TEXT_CHARS_MAX: usize = 5_000;

/// A review.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Review {
    /// Stable.
    pub id: String,
    /// The author's name on pages.
    pub author: String,
    /// 1 to 5.
    pub stars: i64,
    /// Plain text.
    pub text: String,
    /// What the author had then.
    pub version: String,
    /// The publisher's answer.
    pub reply: Option<String>,
    /// Accounts that found it helpful.
    pub helpful: i64,
    /// visible, or hidden: moderators see it.
    pub state: String,
    /// Milliseconds since 1970.
    pub edited_at: i64,
    /// It is the caller's own.
    pub own: bool,
}

/// What somebody thinks.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct NewReview {
    /// 1 to 5.
    pub stars: i64,
    /// Plain text, at most 5,000 characters; stars alone are fine.
    #[serde(default)]
    pub text: String,
}

/// Something that a moderator should look at.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Report {
    /// Stable.
    pub id: String,
    /// review or agent.
    pub subject: String,
    /// Of the review or agent.
    pub subject_id: String,
    /// Why.
    pub reason: String,
    /// The review's text, or the agent's name.
    pub shown: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// Reviews of an agent, the most helpful first; `after` is the last id of the page before.
pub async fn list(app: &App, card: &Card, caller: Option<&Caller>, after: Option<&str>) -> Result<Vec<Review>> {
    let me = caller.map(|c| c.account.id.as_str()).unwrap_or_default();
    let moderator = caller.is_some_and(|c| c.account.role >= Role::Moderator);
    let rows = sqlx::query(
        "SELECT r.id, a.display_name, r.account_id, r.stars, r.text, r.version, r.reply, r.helpful, r.state, r.edited_at
         FROM reviews r JOIN accounts a ON a.id = r.account_id
         WHERE r.agent_id = $1 AND (r.state = 'visible' OR (r.state = 'hidden' AND ($2 = 1 OR r.account_id = $3)))
           AND ($4 = '' OR (r.helpful, r.id) < (SELECT l.helpful, l.id FROM reviews l WHERE l.id = $4))
         ORDER BY r.helpful DESC, r.id DESC LIMIT 20",
    )
    .bind(&card.id)
    .bind(i64::from(moderator))
    .bind(me)
    .bind(after.unwrap_or_default())
    .fetch_all(app.db.read())
    .await?;
    let review = |row: &sqlx::any::AnyRow| {
        Ok(Review {
            id: db::text(row, "id")?,
            author: db::text(row, "display_name")?,
            stars: db::number(row, "stars")?,
            text: db::text(row, "text")?,
            version: db::text(row, "version")?,
            reply: db::text_or_null(row, "reply")?,
            helpful: db::number(row, "helpful")?,
            state: db::text(row, "state")?,
            edited_at: db::number(row, "edited_at")?,
            own: db::text(row, "account_id")? == me,
        })
    };
    rows.iter().map(review).collect()
}

/// Writes the caller's review of an agent, or changes it.
///
/// *Errors*: 403 without an install, and for one's own agent; 400.
pub async fn write(app: &App, caller: &Caller, card: &Card, new: &NewReview) -> Result<String> {
    caller.needs(Scope::Review)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    if !(1..=5).contains(&new.stars) {
        return Err(Problem::invalid(format!("stars is {}; use 1 to 5", new.stars)));
    }
    let text = new.text.trim();
    if text.chars().count() > TEXT_CHARS_MAX {
        return Err(Problem::invalid(format!("the review is longer than {TEXT_CHARS_MAX} characters; shorten it")));
    }
    if card.publisher_id == caller.account.id {
        return Err(Problem::forbidden("nobody reviews agents of their own"));
    }
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let installed: Option<(String,)> =
        sqlx::query_as("SELECT version FROM installs WHERE account_id = $1 AND agent_id = $2")
            .bind(&caller.account.id)
            .bind(&card.id)
            .fetch_optional(tx.on())
            .await?;
    let (version,) = installed.ok_or_else(|| Problem::forbidden("install the agent first, then review it"))?;
    let old = of_author(app, &mut tx, card, &caller.account.id).await?;
    if old.as_ref().is_some_and(|(_, _, state)| state == "hidden") {
        return Err(Problem::forbidden("a moderator hid your review of this agent; it cannot be changed"));
    }
    let id = old.as_ref().map_or_else(db::new_id, |(id, _, _)| id.clone());
    sqlx::query(
        "INSERT INTO reviews (id, agent_id, account_id, version, stars, text, state, created_at, edited_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'visible', $7, $7)
         ON CONFLICT (agent_id, account_id) DO UPDATE SET version = $4, stars = $5, text = $6, state = 'visible',
           edited_at = $7",
    )
    .bind(&id)
    .bind(&card.id)
    .bind(&caller.account.id)
    .bind(&version)
    .bind(new.stars)
    .bind(text)
    .bind(now)
    .execute(tx.on())
    .await?;
    let before = old.filter(|(_, _, state)| state == "visible").map(|(_, stars, _)| stars);
    let (count, stars) = (i64::from(before.is_none()), new.stars - before.unwrap_or_default());
    count_stars(&mut tx, &card.id, count, stars, now).await?;
    let event = Event { version, stars: Some(new.stars), ..Event::new("reviewed", now) };
    record(&mut tx, &event.by(&caller.account).about(card)).await?;
    let subject = format!("{} {id}", card.full_name());
    audit::write(&mut tx, now, &caller.account.id, "review.written", &subject, &new.stars.to_string()).await?;
    tx.commit().await?;
    app.catalogue.refresh().await?;
    Ok(id)
}

async fn of_author(app: &App, tx: &mut Tx, card: &Card, author: &str) -> Result<Option<(String, i64, String)>> {
    let sql =
        format!("SELECT id, stars, state FROM reviews WHERE agent_id = $1 AND account_id = $2{}", app.db.for_update());
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(&card.id).bind(author).fetch_optional(tx.on()).await?)
}

async fn count_stars(tx: &mut Tx, agent: &str, count: i64, stars: i64, now: i64) -> Result<()> {
    sqlx::query(
        "UPDATE agents SET review_count = review_count + $1, stars_sum = stars_sum + $2, changed_at = $3 WHERE id = $4",
    )
    .bind(count)
    .bind(stars)
    .bind(now)
    .bind(agent)
    .execute(tx.on())
    .await?;
    Ok(())
}

/// Deletes the caller's review of an agent.
pub async fn delete(app: &App, caller: &Caller, card: &Card) -> Result<()> {
    caller.needs(Scope::Review)?;
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let stars: Option<(i64,)> = sqlx::query_as(
        "UPDATE reviews SET state = 'deleted', edited_at = $1
         WHERE agent_id = $2 AND account_id = $3 AND state = 'visible' RETURNING stars",
    )
    .bind(now)
    .bind(&card.id)
    .bind(&caller.account.id)
    .fetch_optional(tx.on())
    .await?;
    let (stars,) = stars.ok_or_else(|| Problem::not_found("you have no review of this agent"))?;
    count_stars(&mut tx, &card.id, -1, -stars, now).await?;
    audit::write(&mut tx, now, &caller.account.id, "review.deleted", &card.full_name(), "").await?;
    tx.commit().await?;
    app.catalogue.refresh().await?;
    Ok(())
}

/// The publisher's answer to a review; an empty one takes it back.
pub async fn reply(app: &App, caller: &Caller, review: &str, text: &str) -> Result<()> {
    caller.needs(Scope::Publish)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    if text.chars().count() > TEXT_CHARS_MAX {
        return Err(Problem::invalid(format!("the reply is longer than {TEXT_CHARS_MAX} characters; shorten it")));
    }
    let mut tx = app.db.begin().await?;
    let done = sqlx::query(
        "UPDATE reviews SET reply = $1, replied_at = $2 WHERE id = $3 AND state = 'visible' AND agent_id IN
         (SELECT g.id FROM agents g JOIN namespaces n ON n.name = g.namespace WHERE n.owner_id = $4)",
    )
    .bind(Some(text.trim()).filter(|t| !t.is_empty()))
    .bind(app.clock.now_ms())
    .bind(review)
    .bind(&caller.account.id)
    .execute(tx.on())
    .await?;
    if done.rows_affected() == 0 {
        return Err(Problem::not_found(format!("no review {review} of an agent of yours")));
    }
    audit::write(&mut tx, app.clock.now_ms(), &caller.account.id, "review.replied", review, "").await?;
    tx.commit().await
}

/// Says that a review helps, or no longer; saying so twice counts once.
pub async fn vote(app: &App, caller: &Caller, review: &str, helpful: bool) -> Result<()> {
    caller.needs(Scope::Review)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    let mut tx = app.db.begin().await?;
    let author: Option<(String,)> =
        sqlx::query_as("SELECT account_id FROM reviews WHERE id = $1 AND state = 'visible'")
            .bind(review)
            .fetch_optional(tx.on())
            .await?;
    let (author,) = author.ok_or_else(|| Problem::not_found(format!("no review {review}")))?;
    if author == caller.account.id {
        return Err(Problem::forbidden("nobody votes for a review of their own"));
    }
    let statement = if helpful {
        "INSERT INTO review_votes (review_id, account_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM review_votes WHERE review_id = $1 AND account_id = $2"
    };
    let done = sqlx::query(statement).bind(review).bind(&caller.account.id).execute(tx.on()).await?;
    let by = done.rows_affected().cast_signed() * if helpful { 1 } else { -1 };
    sqlx::query("UPDATE reviews SET helpful = helpful + $1 WHERE id = $2")
        .bind(by)
        .bind(review)
        .execute(tx.on())
        .await?;
    tx.commit().await
}

/// Asks moderators to look at a review or an agent.
pub async fn report(app: &App, caller: &Caller, subject: &str, id: &str, reason: &str) -> Result<()> {
    caller.needs(Scope::Review)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    if reason.trim().is_empty() || reason.chars().count() > 1_000 {
        return Err(Problem::invalid("say why in 1 to 1,000 characters"));
    }
    let known = match subject {
        "review" => "SELECT count(*) FROM reviews WHERE id = $1 AND state = 'visible'",
        "agent" => "SELECT count(*) FROM agents WHERE id = $1 AND state = 'listed'",
        other => return Err(Problem::invalid(format!("'{other}' cannot be reported; review or agent can"))),
    };
    let mut tx = app.db.begin().await?;
    let (count,): (i64,) = sqlx::query_as(known).bind(id).fetch_one(tx.on()).await?;
    if count == 0 {
        return Err(Problem::not_found(format!("no {subject} {id}")));
    }
    sqlx::query(
        "INSERT INTO reports (id, subject, subject_id, account_id, reason, state, created_at)
         VALUES ($1, $2, $3, $4, $5, 'open', $6) ON CONFLICT (subject, subject_id, account_id) DO NOTHING",
    )
    .bind(db::new_id())
    .bind(subject)
    .bind(id)
    .bind(&caller.account.id)
    .bind(reason.trim())
    .bind(app.clock.now_ms())
    .execute(tx.on())
    .await?;
    audit::write(&mut tx, app.clock.now_ms(), &caller.account.id, "report.made", &format!("{subject} {id}"), "")
        .await?;
    tx.commit().await
}

/// Reports that wait, oldest first.
pub async fn reports(app: &App, caller: &Caller) -> Result<Vec<Report>> {
    caller.needs(Scope::Moderate)?;
    caller.needs_role(Role::Moderator)?;
    let rows = sqlx::query(
        "SELECT p.id, p.subject, p.subject_id, p.reason, p.created_at,
           COALESCE(r.text, g.namespace || '/' || g.name, '') AS shown
         FROM reports p LEFT JOIN reviews r ON p.subject = 'review' AND r.id = p.subject_id
           LEFT JOIN agents g ON p.subject = 'agent' AND g.id = p.subject_id
         WHERE p.state = 'open' ORDER BY p.id LIMIT 200",
    )
    .fetch_all(app.db.read())
    .await?;
    let report = |row: &sqlx::any::AnyRow| {
        Ok(Report {
            id: db::text(row, "id")?,
            subject: db::text(row, "subject")?,
            subject_id: db::text(row, "subject_id")?,
            reason: db::text(row, "reason")?,
            shown: db::text(row, "shown")?,
            created_at: db::number(row, "created_at")?,
        })
    };
    rows.iter().map(report).collect()
}

/// Decides on a report: `uphold` hides the review. An agent is taken out by its own call.
pub async fn decide(app: &App, caller: &Caller, report: &str, uphold: bool) -> Result<()> {
    caller.needs(Scope::Moderate)?;
    caller.needs_role(Role::Moderator)?;
    let now = app.clock.now_ms();
    let state = if uphold { "upheld" } else { "dismissed" };
    let mut tx = app.db.begin().await?;
    let subject: Option<(String, String)> = sqlx::query_as(
        "UPDATE reports SET state = $1, decided_by = $2, decided_at = $3 WHERE id = $4 AND state = 'open'
         RETURNING subject, subject_id",
    )
    .bind(state)
    .bind(&caller.account.id)
    .bind(now)
    .bind(report)
    .fetch_optional(tx.on())
    .await?;
    let (subject, id) = subject.ok_or_else(|| Problem::not_found(format!("no open report {report}")))?;
    if uphold && subject == "review" {
        let hidden: Option<(String, i64)> = sqlx::query_as(
            "UPDATE reviews SET state = 'hidden' WHERE id = $1 AND state = 'visible' RETURNING agent_id, stars",
        )
        .bind(&id)
        .fetch_optional(tx.on())
        .await?;
        if let Some((agent, stars)) = hidden {
            count_stars(&mut tx, &agent, -1, -stars, now).await?;
        }
    }
    audit::write(&mut tx, now, &caller.account.id, &format!("report.{state}"), &format!("{subject} {id}"), "").await?;
    tx.commit().await?;
    app.catalogue.refresh().await?;
    Ok(())
}

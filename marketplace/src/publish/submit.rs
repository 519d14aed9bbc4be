//! Uploads: each becomes a version that waits for a decision, or is rejected with the reason.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Contents, look_alike, name_key, read_package};
use crate::accounts::{Caller, Limit, Role, Scope, audit};
use crate::app::App;
use crate::clock::DAY_MS;
use crate::db::{self, Tx};
use crate::problem::{Problem, Result};
use crate::secret;

/// What became of an upload.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Submitted {
    /// `namespace/name`.
    pub agent: String,
    /// Its version.
    pub version: String,
    /// passed or quarantined.
    pub scan_state: String,
    /// waiting.
    pub review_state: String,
    /// What a moderator will look at.
    pub findings: Vec<String>,
    /// Of the package.
    pub sha256: String,
}

/// Takes an upload.
///
/// *Errors*: 400 and 413 for a package that cannot be taken, 403 for another's namespace, 409 for a version that was
/// published, 429.
pub async fn submit(app: &App, caller: &Caller, package: bytes::Bytes) -> Result<Submitted> {
    caller.needs(Scope::Publish)?;
    caller.needs_role(Role::Publisher)?;
    app.limits.take(Limit::Upload, &caller.account.id)?;
    let (bounds, archive) = (app.config.uploads.clone(), package.clone());
    let contents = tokio::task::spawn_blocking(move || read_package(&archive, &bounds))
        .await
        .map_err(|e| Problem::internal(format!("reading a package: {e}")))??;
    let sha256 = secret::sha256_hex(&package);
    let (namespace, name) = contents.manifest.full_name()?;
    let upload = Upload { app, caller, contents: &contents, namespace, name, sha256: &sha256, bytes: package.len() };
    let id = upload.begin().await?;
    // Before the row says that it passed: a version never points to a package that is not there.
    app.packages.put(&sha256, package.clone()).await?;
    let findings = upload.findings(app);
    let scan_state = if findings.is_empty() { "passed" } else { "quarantined" };
    upload.end(&id, scan_state, &findings).await?;
    Ok(Submitted {
        agent: contents.manifest.name.clone(),
        version: contents.manifest.version.clone(),
        scan_state: scan_state.to_string(),
        review_state: "waiting".to_string(),
        findings,
        sha256,
    })
}

struct Upload<'a> {
    app: &'a App,
    caller: &'a Caller,
    contents: &'a Contents,
    namespace: &'a str,
    name: &'a str,
    sha256: &'a str,
    bytes: usize,
}

impl Upload<'_> {
    /// Makes the version's row, in the state `scanning`, and the agent's where it is the first.
    async fn begin(&self) -> Result<String> {
        let now = self.app.clock.now_ms();
        let mut tx = self.app.db.begin().await?;
        self.check_owner(&mut tx).await?;
        self.check_daily(&mut tx, now).await?;
        let agent = self.agent(&mut tx, now).await?;
        let old: Option<(String, String, String)> =
            sqlx::query_as("SELECT id, review_state, scan_state FROM versions WHERE agent_id = $1 AND version = $2")
                .bind(&agent)
                .bind(&self.contents.manifest.version)
                .fetch_optional(tx.on())
                .await?;
        if let Some((id, review, _)) = &old {
            if review != "refused" {
                let version = &self.contents.manifest.version;
                return Err(Problem::conflict(format!(
                    "version {version} of {}/{} is there already, and versions never change; raise the version",
                    self.namespace, self.name
                )));
            }
            sqlx::query("DELETE FROM versions WHERE id = $1").bind(id).execute(tx.on()).await?;
        }
        let id = db::new_id();
        let channel = if self.contents.manifest.semver()?.pre.is_empty() { "latest" } else { "pre" };
        let stored = serde_json::json!({ "manifest": self.contents.manifest, "readme": self.contents.readme });
        sqlx::query(
            "INSERT INTO versions (id, agent_id, version, channel, manifest, sha256, size_bytes, scan_state, review_state,
             submitted_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'scanning', 'waiting', $8, $9)",
        )
        .bind(&id)
        .bind(&agent)
        .bind(&self.contents.manifest.version)
        .bind(channel)
        .bind(stored.to_string())
        .bind(self.sha256)
        .bind(self.bytes as i64)
        .bind(&self.caller.account.id)
        .bind(now)
        .execute(tx.on())
        .await?;
        tx.commit().await?;
        Ok(id)
    }

    async fn check_owner(&self, tx: &mut Tx) -> Result<()> {
        let owner: Option<(String,)> = sqlx::query_as("SELECT owner_id FROM namespaces WHERE name = $1")
            .bind(self.namespace)
            .fetch_optional(tx.on())
            .await?;
        match owner {
            Some((owner,)) if owner == self.caller.account.id => Ok(()),
            _ => Err(Problem::forbidden(format!(
                "the namespace '{}' is not yours; create it under /publish or choose one of yours",
                self.namespace
            ))),
        }
    }

    async fn check_daily(&self, tx: &mut Tx, now: i64) -> Result<()> {
        let (today,): (i64,) =
            sqlx::query_as("SELECT count(*) FROM versions WHERE submitted_by = $1 AND created_at > $2")
                .bind(&self.caller.account.id)
                .bind(now - DAY_MS)
                .fetch_one(tx.on())
                .await?;
        let max = self.app.config.uploads.versions_per_day_max;
        if today < max {
            return Ok(());
        }
        Err(Problem::too_many(format!("{today} versions in a day; at most {max} are taken"), 3_600))
    }

    async fn agent(&self, tx: &mut Tx, now: i64) -> Result<String> {
        let known: Option<(String, String)> =
            sqlx::query_as("SELECT id, state FROM agents WHERE namespace = $1 AND name = $2")
                .bind(self.namespace)
                .bind(self.name)
                .fetch_optional(tx.on())
                .await?;
        match known {
            Some((_, state)) if state == "removed" => {
                Err(Problem::forbidden("this agent was removed by a moderator; write to them"))
            }
            Some((id, _)) => Ok(id),
            None => {
                let id = db::new_id();
                let m = &self.contents.manifest;
                sqlx::query(
                    "INSERT INTO agents (id, namespace, name, name_key, title, summary, readme, license, repository,
                     categories, tags, screenshots, state, created_at, changed_at)
                     VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, $9, $10, $11, 'draft', $12, $12)",
                )
                .bind(&id)
                .bind(self.namespace)
                .bind(self.name)
                .bind(name_key(self.name))
                .bind(&m.title)
                .bind(&m.summary)
                .bind(&m.license)
                .bind(&m.repository)
                .bind(serde_json::to_string(&m.categories)?)
                .bind(serde_json::to_string(&m.tags)?)
                .bind(serde_json::to_string(&m.screenshots)?)
                .bind(now)
                .execute(tx.on())
                .await?;
                Ok(id)
            }
        }
    }

    fn findings(&self, app: &App) -> Vec<String> {
        let mut findings = self.contents.findings.clone();
        let alike = look_alike(&app.catalogue.now(), &self.caller.account.id, self.name);
        if !alike.is_empty() {
            findings.push(format!("the name could be taken for {}", alike.join(", ")));
        }
        findings
    }

    async fn end(&self, id: &str, scan_state: &str, findings: &[String]) -> Result<()> {
        let now = self.app.clock.now_ms();
        let mut tx = self.app.db.begin().await?;
        sqlx::query("UPDATE versions SET scan_state = $1, findings = $2 WHERE id = $3")
            .bind(scan_state)
            .bind(serde_json::to_string(findings)?)
            .bind(id)
            .execute(tx.on())
            .await?;
        let subject = format!("{}@{}", self.contents.manifest.name, self.contents.manifest.version);
        audit::write(&mut tx, now, &self.caller.account.id, "version.submitted", &subject, scan_state).await?;
        tx.commit().await
    }
}

/// Marks uploads that a crash left half done: their publisher may send them again.
pub async fn abandon_unfinished(app: &App) -> Result<()> {
    let mut tx = app.db.begin().await?;
    sqlx::query(
        "UPDATE versions SET scan_state = 'errored', review_state = 'refused', reason = 'the server stopped; send it again'
         WHERE scan_state IN ('started', 'validating', 'scanning') AND created_at < $1",
    )
    .bind(app.clock.now_ms() - DAY_MS / 24)
    .execute(tx.on())
    .await?;
    tx.commit().await
}

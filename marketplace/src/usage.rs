//! How agents are used: asked of Millstream's SQL endpoint, joined with what the marketplace itself knows.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::accounts::{Caller, Role, Scope};
use crate::app::App;
use crate::clock::{DAY_MS, rfc3339};
use crate::config::Millstream;
use crate::problem::{Problem, Result};

const DAYS: i64 = 30;

/// A Millstream server to ask.
#[derive(Debug)]
pub struct Usage {
    client: reqwest::Client,
    url: String,
    key: String,
}

impl Usage {
    /// None without `millstream.metrics_url`.
    pub fn new(config: &Millstream) -> Option<Self> {
        let url = config.metrics_url.as_ref()?.trim_end_matches('/').to_string();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().ok()?;
        Some(Self { client, url, key: config.metrics_key.clone() })
    }

    /// Rows of one statement over Millstream's tables; `$names` of it are in `parameters`.
    pub async fn rows(&self, sql: &str, parameters: Value) -> Result<Vec<Value>> {
        let failed = |e: &dyn std::fmt::Display| Problem::unavailable(format!("usage comes from Millstream, and {e}"));
        let body = json!({ "sql": sql, "parameters": parameters }).to_string();
        let request = self.client.post(format!("{}/api/v1/sql", self.url)).bearer_auth(&self.key);
        let response = request.header("content-type", "application/json").body(body).send().await;
        let response = response.map_err(|_| failed(&"it does not answer now"))?;
        let status = response.status();
        let text = response.text().await.map_err(|e| failed(&e))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if !status.is_success() {
            tracing::warn!(%status, text, "Millstream refused a question about usage");
            return Err(failed(&value.get("detail").and_then(Value::as_str).unwrap_or("it refused the question")));
        }
        let rows = value.get("rows").and_then(Value::as_array).cloned();
        rows.ok_or_else(|| failed(&"its answer has no rows"))
    }
}

/// How one version of an agent was used in the last 30 days.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AgentUsage {
    /// `namespace/name`.
    pub agent: String,
    /// The version.
    pub version: String,
    /// Accounts that have it now.
    pub active_installs: i64,
    /// Of those who installed it more than 7 days ago: the part that still has the agent, 0 to 1.
    pub retained_7d: Option<f64>,
    /// Executions.
    pub executions: i64,
    /// The part of them that ended well, 0 to 1.
    pub success: Option<f64>,
    /// The time that 95 of 100 executions did not exceed.
    pub duration_p95_ms: Option<f64>,
    /// Sent to and written by language models.
    pub tokens: i64,
}

const EXECUTIONS: &str = "SELECT agent, coalesce(agent_version, '') AS version, count(*) AS executions,
      avg(CASE WHEN status = 'ok' THEN 1.0 ELSE 0.0 END) AS success,
      percentile_disc(duration_ms, 0.95) AS duration_p95_ms,
      sum(coalesce(tokens_input, 0) + coalesce(tokens_output, 0)) AS tokens
    FROM raw_agent_events
    WHERE day >= CAST($from AS DATE) AND event_time >= $from AND name = 'run' AND status <> 'started'
    GROUP BY 1, 2 LIMIT 10000";

/// How the caller's agents were used.
///
/// *Errors*: 503 if Millstream does not answer or is not set up.
pub async fn of(app: &App, caller: &Caller) -> Result<Vec<AgentUsage>> {
    let (all, without) = known(app, caller).await?;
    without.map_or(Ok(all), Err)
}

/// As [`of`], with what the marketplace itself knows if Millstream does not answer, and why it does not.
pub async fn known(app: &App, caller: &Caller) -> Result<(Vec<AgentUsage>, Option<Problem>)> {
    caller.needs(Scope::Publish)?;
    caller.needs_role(Role::Publisher)?;
    let mut all = installed(app, caller).await?;
    let without = executions(app, &mut all).await.err();
    Ok((all, without))
}

async fn executions(app: &App, all: &mut [AgentUsage]) -> Result<()> {
    let usage = app.usage.as_ref();
    let usage = usage.ok_or_else(|| Problem::unavailable("usage comes from Millstream, which is not set up here"))?;
    let from = rfc3339(app.clock.now_ms() - DAYS * DAY_MS);
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_f64);
    for row in usage.rows(EXECUTIONS, json!({ "from": from })).await? {
        let of = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        // Only of the caller's own: the question is about all agents.
        if let Some(one) = all.iter_mut().find(|u| u.agent == of("agent") && u.version == of("version")) {
            one.executions = number(&row, "executions").unwrap_or_default() as i64;
            one.success = number(&row, "success");
            one.duration_p95_ms = number(&row, "duration_p95_ms");
            one.tokens = number(&row, "tokens").unwrap_or_default() as i64;
        }
    }
    Ok(())
}

/// Published versions of the caller's agents, with who has them.
async fn installed(app: &App, caller: &Caller) -> Result<Vec<AgentUsage>> {
    let week_ago = app.clock.now_ms() - 7 * DAY_MS;
    let rows: Vec<(String, String, String, i64, i64, i64)> = sqlx::query_as(
        "SELECT g.namespace, g.name, v.version,
           (SELECT count(*) FROM installs i WHERE i.agent_id = g.id AND i.version = v.version AND i.state = 'installed'),
           (SELECT count(*) FROM installs i WHERE i.agent_id = g.id AND i.first_at < $2),
           (SELECT count(*) FROM installs i WHERE i.agent_id = g.id AND i.first_at < $2 AND i.state = 'installed')
         FROM agents g JOIN namespaces n ON n.name = g.namespace JOIN versions v ON v.agent_id = g.id
         WHERE n.owner_id = $1 AND g.state = 'listed' AND v.published_at IS NOT NULL
         ORDER BY g.namespace, g.name, v.published_at DESC LIMIT 500",
    )
    .bind(&caller.account.id)
    .bind(week_ago)
    .fetch_all(app.db.read())
    .await?;
    let one =
        |(namespace, name, version, active_installs, old, kept): (String, String, String, i64, i64, i64)| AgentUsage {
            agent: format!("{namespace}/{name}"),
            version,
            active_installs,
            retained_7d: (old > 0).then(|| kept as f64 / old as f64),
            executions: 0,
            success: None,
            duration_p95_ms: None,
            tokens: 0,
        };
    Ok(rows.into_iter().map(one).collect())
}

//! How agents are used: asked of Millstream's metrics API.

use std::time::Duration;

use crate::config::Millstream;
use crate::problem::{Problem, Result};

/// A metrics API.
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

    /// Rows of one read-only statement over Millstream's tables.
    pub async fn sql(&self, sql: &str) -> Result<Vec<serde_json::Value>> {
        let failed = |e: &dyn std::fmt::Display| Problem::unavailable(format!("Millstream's metrics: {e}"));
        let body = serde_json::json!({ "sql": sql }).to_string();
        let request = self.client.post(format!("{}/api/v1/sql", self.url)).bearer_auth(&self.key);
        let request =
            request.header("content-type", "application/json").header("accept", "application/json").body(body);
        let response = request.send().await.map_err(|e| failed(&e))?;
        let (status, text) = (response.status(), response.text().await.map_err(|e| failed(&e))?);
        if !status.is_success() {
            return Err(failed(&format!("{status}: {text}")));
        }
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let rows = value.get("rows").or(Some(&value)).and_then(|v| v.as_array()).cloned();
        rows.ok_or_else(|| failed(&"the answer has no rows"))
    }
}

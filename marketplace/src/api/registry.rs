//! The MCP registry's read-only subtree, `/v0.1/servers`: clients of that registry find our agents without knowing us.
//!
//! Source: the registry's OpenAPI, v0.1. Errors have its form, `{"error": "..."}`.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::catalogue::agent;
use crate::catalogue::version::Version;
use crate::clock::rfc3339;
use crate::problem::Problem;
use crate::search::{self, Card, Sort};

const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";
const OFFICIAL: &str = "io.modelcontextprotocol.registry/official";

/// Its routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v0.1/servers", get(list))
        .route("/v0.1/servers/{name}/versions", get(versions))
        .route("/v0.1/servers/{name}/versions/{version}", get(version))
}

struct Failure(Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0.status(), Json(json!({ "error": self.0.detail() }))).into_response()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listing {
    search: String,
    cursor: Option<String>,
    limit: Option<usize>,
    updated_since: Option<String>,
}

async fn list(State(app): State<Arc<App>>, Query(asked): Query<Listing>) -> Result<Json<Value>, Failure> {
    let since = asked.updated_since.as_deref().map(chrono::DateTime::parse_from_rfc3339).transpose();
    let since = since.map_err(|e| Problem::invalid(format!("updated_since: {e}; write 2026-01-31T00:00:00Z")))?;
    let query = search::Query {
        q: asked.search,
        sort: Some(Sort::Newest),
        seek: asked.cursor.filter(|c| !c.is_empty()),
        per_page: Some(asked.limit.unwrap_or(30).clamp(1, 100)),
        ..search::Query::default()
    };
    let page = app.catalogue.search(&query)?;
    let cards = page.agents.iter().map(|hit| &hit.card);
    let cards = cards.filter(|c| since.is_none_or(|s| c.changed_at >= s.timestamp_millis()));
    let servers: Vec<Value> = cards.map(|card| entry(&app, card, None, true)).collect();
    let count = servers.len();
    Ok(Json(json!({ "servers": servers, "metadata": { "count": count, "nextCursor": page.next } })))
}

async fn versions(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    let details = named(&app, &name).await?;
    let latest = &details.card.latest_version;
    let entries = details.versions.iter().map(|v| entry(&app, &details.card, Some(v), v.version == *latest));
    let servers: Vec<Value> = entries.collect();
    let count = servers.len();
    Ok(Json(json!({ "servers": servers, "metadata": { "count": count } })))
}

async fn version(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let details = named(&app, &name).await?;
    let wanted = if version == "latest" { &details.card.latest_version } else { &version };
    match details.versions.iter().find(|v| v.version == *wanted) {
        Some(v) => {
            Ok(Json(entry(&app, &details.card, Some(v), *wanted == details.card.latest_version)).into_response())
        }
        None => {
            let detail = json!({ "error": format!("Server {name} has no version {version}") });
            Ok((StatusCode::NOT_FOUND, Json(detail)).into_response())
        }
    }
}

fn server_name(app: &App, card: &Card) -> String {
    format!("{}.{}/{}", app.config.registry_prefix, card.namespace, card.name)
}

async fn named(app: &App, name: &str) -> Result<agent::Details, Failure> {
    let prefix = format!("{}.", app.config.registry_prefix);
    let own = name.strip_prefix(&prefix).and_then(|rest| rest.split_once('/'));
    let (namespace, short) = own.ok_or_else(|| Problem::not_found(format!("Server {name} not found")))?;
    Ok(agent::details(app, namespace, short).await?)
}

fn entry(app: &App, card: &Card, version: Option<&Version>, latest: bool) -> Value {
    let url = app.public_url();
    let number = version.map_or(card.latest_version.as_str(), |v| v.version.as_str());
    let mut server = json!({
        "$schema": SCHEMA,
        "name": server_name(app, card),
        "title": card.title,
        "description": card.summary,
        "version": number,
        "websiteUrl": format!("{url}/agents/{}", card.full_name()),
        "_meta": { "io.modelcontextprotocol.registry/publisher-provided": {
            "categories": card.categories, "rating": card.rating, "installs": card.installs, "price": card.price } },
    });
    if let (Some(v), Some(object)) = (version, server.as_object_mut()) {
        object.insert(
            "packages".to_string(),
            json!([{
                "registryType": "mcpb",
                "identifier": format!("{url}/packages/{}.tar.gz", v.sha256),
                "version": v.version,
                "fileSha256": v.sha256,
                "transport": { "type": "stdio" },
            }]),
        );
    }
    let yanked = version.is_some_and(|v| v.yank_reason.is_some());
    json!({
        "server": server,
        "_meta": { OFFICIAL: {
            "status": if yanked { "deprecated" } else { "active" },
            "publishedAt": rfc3339(version.map_or(card.published_at, |v| v.published_at)),
            "updatedAt": rfc3339(card.changed_at),
            "isLatest": latest,
        } },
    })
}

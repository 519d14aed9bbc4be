//! `GET /api/v1/openapi.json`: what the HTTP face takes and gives, in OpenAPI 3.1, made from the metrics' files.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::{App, Problem};
use crate::metric::Metric;

/// The document. It needs no key: it tells what the files say and no number.
pub async fn document(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    Ok(Json(describe(&Metric::list(&app.config)?)))
}

fn describe(metrics: &[Metric]) -> Value {
    let mut paths = Map::new();
    paths.insert(
        "/api/v1/metrics".into(),
        json!({ "get": {
        "operationId": "listMetrics",
        "summary": "Every metric, with what it can be asked",
        "responses": answers("The catalogue", &json!({ "application/json": { "schema": { "type": "object" } } })),
    } }),
    );
    paths.insert("/api/v1/metrics/query".into(), json!({ "post": {
        "operationId": "queryMetrics",
        "summary": "One question, or several at once",
        "requestBody": { "required": true, "content": { "application/json": { "schema": { "oneOf": [
            reference("Question"),
            { "type": "object", "required": ["queries"], "properties": { "queries": { "type": "array", "maxItems": 50, "items": reference("Question") } } },
        ] } } } },
        "responses": answers("The answer, or one per question", &json!({ "application/json": { "schema": { "oneOf": [
            reference("Answer"),
            { "type": "object", "properties": { "answers": { "type": "array", "items": { "oneOf": [reference("Answer"), reference("Problem")] } } } },
        ] } } })),
    } }));
    for metric in metrics {
        paths.insert(format!("/api/v1/metrics/{}", metric.file.name), json!({ "get": of_metric(metric) }));
    }
    paths.insert("/api/v1/sql".into(), json!({ "post": {
        "operationId": "querySql",
        "summary": "One read-only query",
        "parameters": [parameter("format", json!({ "type": "string", "enum": ["json", "csv", "arrow"] }), "The form of the answer", false)],
        "requestBody": { "required": true, "content": { "application/json": { "schema": {
            "type": "object", "required": ["sql"], "additionalProperties": false,
            "properties": { "sql": { "type": "string" }, "parameters": { "type": "object" } },
        } } } },
        "responses": answers("The rows", &rows()),
    } }));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Millstream", "version": "1", "description": "Metrics and SQL over the tables of a Millstream server." },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": { "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } }, "schemas": schemas() },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn rows() -> Value {
    let binary = json!({ "schema": { "type": "string", "format": "binary" } });
    json!({
        "application/json": { "schema": reference("Answer") },
        "text/csv": { "schema": { "type": "string" } },
        "application/vnd.apache.arrow.stream": binary,
    })
}

fn answers(what: &str, content: &Value) -> Value {
    let problem = json!({ "description": "What is wrong, and the fix", "content": { "application/problem+json": { "schema": reference("Problem") } } });
    json!({ "200": { "description": what, "content": content }, "4XX": problem, "5XX": problem })
}

fn parameter(name: &str, schema: Value, description: &str, required: bool) -> Value {
    json!({ "name": name, "in": "query", "required": required, "description": description, "schema": schema })
}

fn of_metric(metric: &Metric) -> Value {
    let text = || json!({ "type": "string" });
    let mut parameters = vec![
        parameter("from", text(), "RFC 3339, or a day of the time zone; inclusive", false),
        parameter("to", text(), "As from; exclusive", false),
        parameter("tz", text(), "IANA name of the time zone; the project's if absent", false),
    ];
    if !metric.intervals.is_empty() {
        let first = metric.intervals.first();
        let schema = json!({ "type": "string", "enum": metric.intervals, "default": first });
        parameters.push(parameter("interval", schema, "The length of a period", false));
    }
    if !metric.breakdowns.is_empty() {
        let schema = json!({ "type": "string", "enum": metric.breakdowns });
        parameters.push(parameter("breakdown", schema, "One row per value of it", false));
    }
    for (name, required) in &metric.parameters {
        parameters.push(parameter(name, text(), "A parameter of the metric's SQL", *required));
    }
    parameters.extend([
        parameter(
            "filter",
            json!({ "type": "array", "items": text() }),
            "name:value, of a parameter or a column",
            false,
        ),
        parameter("limit", json!({ "type": "integer", "minimum": 1 }), "Rows of a page", false),
        parameter("cursor", text(), "The `next` of the page before", false),
        parameter(
            "format",
            json!({ "type": "string", "enum": ["json", "csv", "arrow"] }),
            "The form of the answer",
            false,
        ),
    ]);
    let mut responses = answers("The rows", &rows());
    if let Some(map) = responses.as_object_mut() {
        map.insert("304".into(), json!({ "description": "The answer with the ETag of If-None-Match is still right" }));
    }
    json!({
        "operationId": metric.file.name,
        "summary": metric.file.title,
        "description": metric.file.definition,
        "parameters": parameters,
        "responses": responses,
    })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let time = json!({ "type": ["string", "null"], "format": "date-time" });
    json!({
        "Question": { "type": "object", "required": ["metric"], "additionalProperties": false, "properties": {
            "metric": text, "from": text, "to": text, "tz": text, "interval": text, "breakdown": text,
            "filters": { "type": "object" },
        } },
        "Answer": { "type": "object", "properties": {
            "metric": text, "title": text, "from": time, "to": time, "time_zone": text,
            "interval": { "type": ["string", "null"] },
            "complete_through": time, "complete": { "type": "boolean" },
            "exact": { "type": "boolean" }, "error_bound": { "type": ["number", "null"] },
            "columns": { "type": "array", "items": { "type": "object", "properties": { "name": text, "type": text } } },
            "row_count": { "type": "integer" }, "truncated": { "type": "boolean" },
            "next": { "type": ["string", "null"] },
            "rows": { "type": "array", "items": { "type": "object" } },
        } },
        "Problem": { "type": "object", "required": ["type", "title", "status", "detail"], "properties": {
            "type": text, "title": text, "status": { "type": "integer" }, "detail": text,
        } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    /// `MILLSTREAM_COMPLETE=1` writes the document anew; review the difference: clients are made from it.
    #[test]
    fn the_document_is_the_one_that_clients_know() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let config = Config::parse("", &root.join("millstream.toml")).unwrap();
        let text = serde_json::to_string_pretty(&describe(&Metric::list(&config).unwrap())).unwrap() + "\n";
        let path = root.join("docs/openapi.json");
        if std::env::var_os("MILLSTREAM_COMPLETE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == known, "docs/openapi.json is not what the server says; run with MILLSTREAM_COMPLETE=1");
    }
}

//! The metrics API: `GET /api/v1/metrics`, `GET /api/v1/metrics/{name}`, `POST /api/v1/metrics/query`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream::time::show;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{self, Wanted};
use super::gate::{authorize, body};
use super::sql::require_json;
use super::{App, Problem, page_of_rows};
use crate::catalog::SqlFile;
use crate::keys::Role;
use crate::metric::{self, Answer, Metric, Question, Refusal};
use crate::tables::Tables;

/// Questions in one request.
const QUERIES_MAX: usize = 50;

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(detail) => Self::not_found(detail),
            Refusal::Question(detail) => Self::bad_request(detail),
            Refusal::Failed(error) => error.into(),
        }
    }
}

/// Every metric, with what it can be asked.
pub async fn catalogue(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    authorize(&app, &headers, &[Role::Analyst])?;
    let metrics: Vec<Value> = Metric::list(&app.config)?.iter().map(describe).collect();
    Ok(Json(json!({ "metrics": metrics, "time_zone": app.config.time_zone, "week_start": app.config.week_start })))
}

fn describe(metric: &Metric) -> Value {
    let file = &metric.file;
    let own = metric.parameters.iter().map(|(name, required)| json!({ "name": name, "required": required }));
    json!({
        "name": file.name,
        "title": file.title,
        "description": file.definition,
        "url": format!("/api/v1/metrics/{}", file.name),
        "intervals": metric.intervals,
        "breakdowns": metric.breakdowns,
        "parameters": own.collect::<Vec<_>>(),
        "exact": metric.error_bound.is_none(),
        "error_bound": metric.error_bound,
        "sql_file": shown_path(file),
    })
}

/// The last three parts of the path: `sql/metrics/dau.sql` wherever the server keeps it.
fn shown_path(file: &SqlFile) -> String {
    let parts: Vec<_> = file.path.iter().map(|part| part.to_string_lossy()).collect();
    parts.iter().skip(parts.len().saturating_sub(3)).map(AsRef::as_ref).collect::<Vec<&str>>().join("/")
}

/// How the answer is wanted, beside the question.
#[derive(Debug, Default)]
struct Manner {
    format: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Parts the parameters of a URL.
fn parse(name: String, pairs: Vec<(String, String)>) -> Result<(Question, Manner), Problem> {
    let mut question = Question { metric: name, ..Question::default() };
    let mut manner = Manner::default();
    for (key, value) in pairs {
        match key.as_str() {
            "from" => question.from = Some(value),
            "to" => question.to = Some(value),
            "tz" => question.tz = Some(value),
            "interval" => question.interval = Some(value),
            "breakdown" => question.breakdown = Some(value),
            "format" => manner.format = Some(value),
            "cursor" => manner.cursor = Some(value),
            "limit" => manner.limit = Some(limit(&value)?),
            "filter" => {
                let Some((name, value)) = value.split_once(':') else {
                    return Err(Problem::bad_request(format!(
                        "the filter `{value}` has no colon; write filter=name:value"
                    )));
                };
                question.filters.insert(name.to_string(), value.to_string());
            }
            _ => {
                question.filters.insert(key, value);
            }
        }
    }
    Ok((question, manner))
}

fn limit(text: &str) -> Result<usize, Problem> {
    let number = text.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| Problem::bad_request(format!("`{text}` is no limit; write a whole number of rows from 1 on")))
}

/// The rows of one metric.
pub async fn answer(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorize(&app, &headers, &[Role::Analyst])?;
    let (question, manner) = parse(name, pairs)?;
    let tables = Tables::Running(app.engine.clone());
    if manner.format.as_deref() == Some("sql") {
        let prepared = metric::prepare(&tables, &app.config, app.clock.now(), &question).await?;
        return Ok(([(header::CONTENT_TYPE, "application/sql")], prepared.twin(&app.config)?).into_response());
    }
    let wanted = Wanted::of(manner.format.as_deref(), &headers)?;
    let prepared = metric::prepare(&tables, &app.config, app.clock.now(), &question).await?;
    // Another format or page of the same answer is another body.
    let etag = format!(
        "\"{}-{wanted:?}-{:?}-{}\"",
        prepared.answer.etag,
        manner.limit.unwrap_or(0),
        manner.cursor.as_deref().unwrap_or("")
    );
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or("");
    if known.split(',').any(|known| known.trim() == etag || known.trim() == "*") {
        return Ok(with_etag(StatusCode::NOT_MODIFIED.into_response(), &etag));
    }
    let answered = prepared.run(&tables, &app.config, &app.answers).await;
    app.counters.query(answered.is_ok());
    let answered = answered?;
    let page =
        page_of_rows::page(&answered.result, manner.limit, manner.cursor.as_deref()).map_err(Problem::bad_request)?;
    let mut about = about(&answered, app.clock.now());
    about.insert("next".into(), page.next.clone().into());
    let mut response = answer::write(&page.rows, wanted, about)?;
    // CSV and Arrow have no room for it beside the rows.
    for (name, value) in [("x-complete-through", answered.complete_through.map(show)), ("x-next-cursor", page.next)] {
        if let Some(Ok(value)) = value.map(|value| value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(with_etag(response, &etag))
}

fn with_etag(mut response: Response, etag: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// What is known of an answer beside its rows.
pub fn about(answer: &Answer, now: i64) -> Map<String, Value> {
    let metric = &answer.metric;
    let value = json!({
        "metric": metric.file.name,
        "title": metric.file.title,
        "from": show(answer.range.from),
        "to": show(answer.range.to),
        "time_zone": answer.tz,
        "interval": answer.interval,
        "complete_through": answer.complete_through.map(show),
        "complete": answer.complete(),
        "exact": metric.error_bound.is_none(),
        "error_bound": metric.error_bound,
        "sql_file": shown_path(&metric.file),
        "generated_at": show(now),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// One question of a body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    metric: String,
    from: Option<String>,
    to: Option<String>,
    tz: Option<String>,
    interval: Option<String>,
    breakdown: Option<String>,
    #[serde(default)]
    filters: BTreeMap<String, Value>,
}

/// The body: one question or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Body {
    Several { queries: Vec<Asked> },
    One(Asked),
}

impl From<Asked> for Question {
    fn from(asked: Asked) -> Self {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Self {
            metric: asked.metric,
            from: asked.from,
            to: asked.to,
            tz: asked.tz,
            interval: asked.interval,
            breakdown: asked.breakdown,
            filters: asked.filters.into_iter().map(|(name, value)| (name, text(value))).collect(),
        }
    }
}

/// Several questions at once; each has its answer or its own problem, in the order asked.
pub async fn query(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    authorize(&app, request.headers(), &[Role::Analyst])?;
    require_json(request.headers())?;
    let bytes = body(&app, request).await?;
    let asked: Body = serde_json::from_slice(&bytes).map_err(|e| {
        let form = "{\"metric\": \"dau\", \"from\": ..., \"filters\": {}} or {\"queries\": [...]}";
        Problem::bad_request(format!("the body is not {form}: {e}"))
    })?;
    let tables = Tables::Running(app.engine.clone());
    match asked {
        Body::One(one) => Ok(Json(ask(&app, &tables, one.into()).await?).into_response()),
        Body::Several { queries } if queries.len() > QUERIES_MAX => {
            Err(Problem::bad_request(format!("{} queries in one request; send {QUERIES_MAX} at most", queries.len())))
        }
        Body::Several { queries } => {
            let mut answers = Vec::with_capacity(queries.len());
            for one in queries {
                answers.push(match ask(&app, &tables, one.into()).await {
                    Ok(answer) => answer,
                    Err(problem) => problem.to_json(),
                });
            }
            Ok(Json(json!({ "answers": answers })).into_response())
        }
    }
}

async fn ask(app: &App, tables: &Tables, question: Question) -> Result<Value, Problem> {
    let answered = metric::ask(tables, &app.config, app.clock.now(), &app.answers, &question).await;
    app.counters.query(answered.is_ok());
    let answered = answered?;
    let bytes = answer::json(&answered.result, about(&answered, app.clock.now()))?;
    serde_json::from_slice(&bytes).map_err(|e| millstream::Error::Bug(format!("an answer that is no JSON: {e}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parted_from_the_rest() {
        let pairs = [("filter", "tier:team"), ("agent", "coder"), ("tz", "UTC"), ("limit", "10")];
        let pairs = pairs.map(|(k, v)| (k.to_string(), v.to_string())).to_vec();
        let (question, manner) = parse("dau".into(), pairs).unwrap();
        assert_eq!(question.filters["tier"], "team");
        assert_eq!(question.filters["agent"], "coder");
        assert_eq!((question.tz.as_deref(), manner.limit), (Some("UTC"), Some(10)));
        let problem = parse("dau".into(), vec![("filter".into(), "tier".into())]).unwrap_err();
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
    }
}

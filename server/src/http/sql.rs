//! `POST /api/v1/sql`: one read-only query.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use datafusion::scalar::ScalarValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{self, Wanted};
use super::gate::{authorize, body};
use super::{App, Problem};
use crate::keys::Role;

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
}

/// Parameters of the URL.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    format: Option<String>,
}

/// Answers one query.
pub async fn query(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    request: Request,
) -> Result<Response, Problem> {
    authorize(&app, request.headers(), &[Role::Analyst])?;
    let wanted = Wanted::of(choice.format.as_deref(), request.headers())?;
    require_json(request.headers())?;
    let bytes = body(&app, request).await?;
    let question: Question = serde_json::from_slice(&bytes).map_err(|e| {
        Problem::bad_request(format!("the body is not {{\"sql\": \"SELECT ...\", \"parameters\": {{}}}}: {e}"))
    })?;
    let mut values = BTreeMap::new();
    for (name, value) in &question.parameters {
        values.insert(name.clone(), scalar(name, value).map_err(Problem::bad_request)?);
    }
    let result = app.engine.query(&question.sql, &values, &app.config.query_limits()).await;
    app.counters.query(result.is_ok());
    answer::write(&result?, wanted, Map::new())
}

/// A page of another site can post a form or text without asking, but not JSON.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if media_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let detail = format!("the body's type is `{media_type}`; send Content-Type: application/json");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Wrong type of body", detail))
}

fn scalar(name: &str, value: &Value) -> Result<ScalarValue, String> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(b) => Ok(ScalarValue::Boolean(Some(*b))),
        Value::String(s) => Ok(ScalarValue::Utf8(Some(s.clone()))),
        Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Ok(ScalarValue::Int64(Some(n))),
            (_, Some(n), _) => Ok(ScalarValue::UInt64(Some(n))),
            (_, _, n) => Ok(ScalarValue::Float64(n)),
        },
        Value::Array(_) | Value::Object(_) => {
            Err(format!("the parameter `{name}` is an array or an object; write text, a number, true, false or null"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_values_become_sql_values() {
        assert_eq!(scalar("a", &json!(1)), Ok(ScalarValue::Int64(Some(1))));
        assert_eq!(scalar("a", &json!(18446744073709551615u64)), Ok(ScalarValue::UInt64(Some(u64::MAX))));
        assert_eq!(scalar("a", &json!(1.5)), Ok(ScalarValue::Float64(Some(1.5))));
        assert_eq!(scalar("a", &json!("x")), Ok(ScalarValue::Utf8(Some("x".into()))));
        assert!(scalar("a", &json!([1])).unwrap_err().starts_with("the parameter `a` is an array"));
    }
}

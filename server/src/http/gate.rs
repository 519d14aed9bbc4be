//! What every request passes: the bound on requests at a time, the time-out, the count; and keys, where a handler asks.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{App, Problem};
use crate::keys::{KeyId, Role};

/// Bounds, counts and times one request.
pub async fn pass(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let method = request.method().as_str().to_string();
    let route = route_of(request.uri().path());
    let limit = app.config.http.request_timeout;
    let answer = async {
        let _permit = match route {
            "/healthz" => None,
            _ => app.permits.acquire().await.ok(),
        };
        next.run(request).await
    };
    let mut response = match tokio::time::timeout(limit, answer).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("no answer within {} ms (http.request_timeout); try again later", limit.as_millis());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "The request took too long", detail)
                .into_response()
        }
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    app.counters.request(&method, route, response.status().as_u16(), started.elapsed());
    response
}

/// The route's pattern, for counting.
fn route_of(path: &str) -> &'static str {
    match path {
        "/" | "/users" | "/agents" | "/business" | "/system" | "/pipelines" | "/catalogue" | "/reports" => "page",
        "/sql" | "/sql/csv" => "/sql",
        "/healthz" => "/healthz",
        "/metrics" => "/metrics",
        "/api/v1/metrics" => "/api/v1/metrics",
        "/api/v1/sql" => "/api/v1/sql",
        "/v1/batch" => "/v1/batch",
        "/v1/logs" => "/v1/logs",
        "/v1/traces" => "/v1/traces",
        "/v1/metrics" => "/v1/metrics",
        "/batch/" | "/batch" => "/batch/",
        _ if path.starts_with("/api/v1/metrics/") => "/api/v1/metrics/{name}",
        _ if path.starts_with("/api/v1/ingest/") => "/api/v1/ingest/{table}",
        _ if path.starts_with("/api/v1/cloudevents/") => "/api/v1/cloudevents/{table}",
        _ => "other",
    }
}

/// Refuses a request without a key that has one of `roles`. An admin may do everything.
pub fn authorize(app: &App, headers: &HeaderMap, roles: &[Role]) -> Result<KeyId, Problem> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    app.keys.authenticate(header, roles).map_err(Problem::from)
}

/// Pages for the person at this machine: open where HTTP listens on loopback only, else for analysts.
///
/// A forwarded request or a foreign Host came through a proxy or a rebound DNS name, so it is not from this machine.
pub fn authorize_local(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let forwarded = headers.contains_key(header::FORWARDED) || headers.contains_key("x-forwarded-for");
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]" | "");
    if app.config.http.listen.ip().is_loopback() && local && !forwarded {
        return Ok(());
    }
    authorize(app, headers, &[Role::Analyst]).map(|_| ())
}

/// The whole body, within `http.request_bytes_max`.
pub async fn body(app: &App, request: Request) -> Result<Bytes, Problem> {
    let max = app.config.http.request_bytes_max;
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let too_large = || {
        let detail = format!("the body is over {max} bytes (http.request_bytes_max); send fewer rows at a time");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body", "The body is too large", detail)
    };
    if declared.is_some_and(|bytes| bytes > max) {
        return Err(too_large());
    }
    axum::body::to_bytes(request.into_body(), max).await.map_err(|e| {
        let over = std::error::Error::source(&e).is_some_and(|s| s.to_string().contains("length limit"));
        if over { too_large() } else { Problem::bad_request(format!("the body ended early: {e}; send it again")) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_clients_do_not_become_labels() {
        assert_eq!(route_of("/api/v1/metrics/dau"), "/api/v1/metrics/{name}");
        assert_eq!(route_of("/wp-login.php"), "other");
    }
}

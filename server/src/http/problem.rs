//! Errors over HTTP: `application/problem+json` (RFC 9457), with the fix in `detail` as on the command line.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream::Error;
use serde_json::{Map, Value, json};

use crate::keys::Denied;

/// One error on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    more: Map<String, Value>,
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// An error of the request itself; `kind` is a stable word for programs.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), more: Map::new(), retry_after_ms: None }
    }

    /// 400: something in the request is wrong, and `detail` tells what to write instead.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request is wrong", detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", detail)
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, with the fix.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Adds a member for programs.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_string(), value.into());
        self
    }

    /// The body of the answer.
    pub fn to_json(&self) -> Value {
        let mut body = self.more.clone();
        body.insert("type".into(), format!("urn:millstream:error:{}", self.kind).into());
        body.insert("title".into(), self.title.into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.clone().into());
        json!(body)
    }

    /// When to try again.
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Query(e) => {
                let mut problem = Self::new(StatusCode::BAD_REQUEST, "query", "The SQL is wrong", detail);
                if let Some((line, column)) = e.place {
                    problem = problem.with("line", line).with("column", column);
                }
                if let Some(fix) = e.fix {
                    problem = problem.with("fix", fix);
                }
                problem
            }
            Error::Event { code, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "event", "The data is wrong", detail).with("code", code)
            }
            Error::Limit { retry_after_ms, .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let problem = Self::new(status, "limit", "A limit was reached", detail);
                Self { retry_after_ms: Some(retry_after_ms), ..problem }
            }
            Error::Stopped(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", "The server is stopping", detail)
            }
            Error::Storage(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage", "Storage failed; try again later", detail)
            }
            Error::Config(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "configuration", "The server is set up wrongly", detail)
            }
            Error::Corrupt(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "corrupt", "Stored data is damaged", detail)
            }
            Error::Bug(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "A bug in the server", detail),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated(m) => Self::new(StatusCode::UNAUTHORIZED, "key", "A valid API key is needed", m),
            Denied::Forbidden(m) => Self::new(StatusCode::FORBIDDEN, "role", "The key's role does not allow this", m),
            Denied::TooMany { message, retry_after_ms } => Error::Limit { message, retry_after_ms }.into(),
            Denied::Storage(m) => Error::Storage(m).into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(status = self.status.as_u16(), kind = self.kind, detail = self.detail, "request failed");
        }
        let mut response = (self.status, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(ms) = self.retry_after_ms {
            // Whole seconds, rounded up: the header knows no less.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"millstream\""));
        }
        response
    }
}

//! Errors as pages, and headers that all pages have.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;

use super::layout::{go, page};
use crate::app::{App, REQUEST_TIMEOUT};
use crate::payments::Stripe;
use crate::problem::Problem;

/// No scripts but ours, no frames, no forms to elsewhere but Stripe's pages: a browser asks the policy also about the address
/// that a form is sent on to.
pub fn policy(stripe: Option<&Stripe>) -> HeaderValue {
    let pages = stripe.map(Stripe::pages).unwrap_or_default();
    let text = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' https: data:; connect-src 'self'; \
         form-action 'self' {pages}; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// For paths that are not there.
pub async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(format!("no page {}; start at /", uri.path()))
}

/// Bounds the time of a request, adds safe headers, and shows problems to people as pages.
pub async fn dress(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_string();
    let for_programs = ["/api/", "/v0.1/", "/packages/", "/webhooks/"].iter().any(|p| path.starts_with(p));
    let accepts = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let html_wanted = accepts.contains("text/html") && !for_programs;
    let from = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let get = request.method() == Method::GET;
    let response = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("this took too long; try again later").into_response(),
    };
    let problem = response.extensions().get::<Problem>().cloned().filter(|_| html_wanted);
    let mut response = match problem {
        Some(problem) => shown(&problem, &response, get, &from),
        None => response,
    };
    let headers = response.headers_mut();
    let mut add = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    add(header::REFERRER_POLICY, "same-origin");
    if !for_programs {
        add(header::CACHE_CONTROL, "no-cache, private");
        headers.insert(header::CONTENT_SECURITY_POLICY, app.policy.clone());
    }
    response
}

fn shown(problem: &Problem, response: &Response, get: bool, from: &str) -> Response {
    if problem.status() == StatusCode::UNAUTHORIZED && get && !from.starts_with("/sign-in") {
        return go(&format!("/sign-in?next={}", encoded(from)));
    }
    let mut page = page(
        None,
        problem.title(),
        html! {
            h1 { (problem.title()) }
            div.notice.bad role="alert" { (problem.detail()) }
            p { a href="/" { "Home" } " · " a href="/sign-in" { "Sign in" } }
        },
    );
    *page.status_mut() = problem.status();
    if let Some(wait) = response.headers().get(header::RETRY_AFTER) {
        page.headers_mut().insert(header::RETRY_AFTER, wait.clone());
    }
    page
}

/// Text for the value of a query's parameter.
pub fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

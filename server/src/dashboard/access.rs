//! Who may read the pages: the person at this machine, as today, or whoever signed in with an API key.
//!
//! The key is in a cookie that no script can read and no other site's form can send along: `HttpOnly`, `SameSite=Lax`, and
//! `Secure` under TLS. Only POST changes anything, and a POST from another origin is refused whatever it carries.

use std::sync::Arc;

use axum::extract::{Form, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::shell;
use crate::http::{App, Problem, authorize_local};
use crate::keys::{Denied, KeyId, Role};

const COOKIE: &str = "millstream_key";
/// A month: then the key is asked for again.
const COOKIE_SECONDS: u32 = 30 * 24 * 3600;

/// The form, and where to go after it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SignIn {
    key: String,
    next: String,
}

/// Lets a reader pass, sends a browser to the form, and refuses a program with a problem.
pub async fn require(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Err(problem) = same_origin(request.method(), request.headers()) {
        return problem.into_response();
    }
    let Err(problem) = admit(&app, request.headers()) else { return next.run(request).await };
    let headers = request.headers();
    let page = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|a| a.contains("text/html"));
    if request.method() != Method::GET || !page || problem.status() == StatusCode::FORBIDDEN {
        return problem.into_response();
    }
    let place = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let query: String = url_encoded(place);
    Redirect::to(&format!("/sign-in?next={query}")).into_response()
}

/// Same-machine access, an `Authorization` header, or the cookie.
pub fn admit(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    match key_of(headers) {
        Some(key) => authenticate(app, &key).map(|_| ()).map_err(Problem::from).or_else(|problem| {
            // A stale cookie must not lock out the person at the machine.
            authorize_local(app, headers).map_err(|_| problem)
        }),
        None => authorize_local(app, headers),
    }
}

/// The name of the key that a browser signed in with.
pub fn signed_in(app: &App, headers: &HeaderMap) -> Option<String> {
    authenticate(app, &key_of(headers)?).ok().map(|id| id.name)
}

fn authenticate(app: &App, key: &str) -> Result<KeyId, Denied> {
    app.keys.authenticate(Some(&format!("Bearer {key}")), &[Role::Analyst])
}

fn key_of(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    let mut pairs = cookies.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, key)| key.to_string())
}

/// Browsers tell where a POST comes from; programs, which do not, have no cookie that somebody else could use.
pub fn same_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let foreign = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) != text("host"),
        (None, None) => false,
    };
    if foreign {
        let detail = "the request comes from a page of another site; send it from the dashboard itself";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin", "A request from elsewhere", detail));
    }
    Ok(())
}

/// `GET /sign-in`.
pub async fn form(Query(given): Query<SignIn>) -> Markup {
    page(&given.next, None)
}

/// `POST /sign-in`.
pub async fn sign_in(State(app): State<Arc<App>>, headers: HeaderMap, Form(given): Form<SignIn>) -> Response {
    if let Err(problem) = same_origin(&Method::POST, &headers) {
        return problem.into_response();
    }
    let key = given.key.trim();
    let message = match authenticate(&app, key) {
        Ok(_) => {
            let secure = if app.config.http.tls_cert.is_some() { "; Secure" } else { "" };
            let cookie = format!("{COOKIE}={key}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}{secure}");
            return with_cookie(Redirect::to(local_path(&given.next)).into_response(), &cookie);
        }
        Err(Denied::Unauthenticated(m) | Denied::Forbidden(m) | Denied::Storage(m)) => m,
        Err(Denied::TooMany { message, .. }) => message,
    };
    (StatusCode::UNAUTHORIZED, page(&given.next, Some(&message))).into_response()
}

/// `POST /sign-out`.
pub async fn sign_out() -> Response {
    with_cookie(Redirect::to("/sign-in").into_response(), &format!("{COOKIE}=; Path=/; HttpOnly; Max-Age=0"))
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// A path of this server, never an address elsewhere.
fn local_path(next: &str) -> &str {
    let local = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.contains("/\t");
    if local && next.bytes().all(|b| b.is_ascii_graphic()) { next } else { "/" }
}

/// Text as the value of a query.
pub fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

fn page(next: &str, message: Option<&str>) -> Markup {
    let body = html! {
        main #main.sign-in {
            (shell::logo())
            h1 { "Sign in to Millstream" }
            p.muted { "Use an API key with the role analyst or admin. " code { "millstream keys create" } " makes one." }
            @if let Some(message) = message { p.alert role="alert" { (message) } }
            form method="post" action="/sign-in" {
                input type="hidden" name="next" value=(next);
                label for="key" { "API key" }
                input #key name="key" type="password" autocomplete="current-password" required autofocus
                    placeholder="millstream_…";
                button.primary { "Sign in" }
            }
        }
    };
    shell::document("Sign in", "", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_server_are_gone_to() {
        assert_eq!(local_path("/users?range=7d"), "/users?range=7d");
        for elsewhere in ["", "https://example.com", "//example.com", "/\\example.com", "/a\r\nb"] {
            assert_eq!(local_path(elsewhere), "/", "{elsewhere}");
        }
    }

    #[test]
    fn a_post_from_another_site_is_refused() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let post = |pairs| same_origin(&Method::POST, &headers(pairs)).is_ok();
        assert!(post(&[("sec-fetch-site", "same-origin")]));
        assert!(!post(&[("sec-fetch-site", "cross-site")]));
        assert!(post(&[("origin", "http://127.0.0.1:7070"), ("host", "127.0.0.1:7070")]));
        assert!(!post(&[("origin", "http://evil.example"), ("host", "127.0.0.1:7070")]));
        assert!(!post(&[("origin", "null"), ("host", "127.0.0.1:7070")]));
        assert!(post(&[]), "a program");
        assert!(same_origin(&Method::GET, &headers(&[("sec-fetch-site", "cross-site")])).is_ok());
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b; millstream_key=millstream_x; c=d"));
        assert_eq!(key_of(&headers), Some("millstream_x".to_string()));
        assert_eq!(url_encoded("/a?b=c d"), "%2Fa%3Fb%3Dc%20d");
    }
}

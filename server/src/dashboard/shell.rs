//! What every page has around its content: the document, the navigation, the choice of time, and the headers.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::period::{Period, SPANS};
use super::{access, assets};
use crate::http::App;

/// Scripts, styles, requests: ours alone, nothing inline. Charts carry presentation attributes, which this allows.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Path and name of each page, in the order of the navigation.
const PAGES: [(&str, &str); 9] = [
    ("/", "Overview"),
    ("/users", "Users"),
    ("/agents", "Agents"),
    ("/business", "Business"),
    ("/system", "System"),
    ("/pipelines", "Pipelines"),
    ("/sql", "SQL"),
    ("/reports", "Reports"),
    ("/catalogue", "Metrics"),
];

/// Puts the headers of pages on whatever has none.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("same-origin"));
    headers.entry(header::X_FRAME_OPTIONS).or_insert(HeaderValue::from_static("DENY"));
    response
}

/// A page in the making: what it is, and what the reader chose.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Its path, which marks it in the navigation.
    pub path: &'a str,
    /// Its heading.
    pub title: &'a str,
    /// A sentence below the heading.
    pub about: &'a str,
    /// The choice of time; pages without one have none.
    pub period: Option<&'a Period>,
    /// The breakdowns that are offered.
    pub breakdowns: &'a [&'a str],
}

impl Page<'_> {
    /// The whole document around `content`.
    pub fn render(&self, app: &App, headers: &HeaderMap, content: Markup) -> Markup {
        let who = access::signed_in(app, headers);
        let theme = theme(headers);
        let failure = app.engine.status().failure;
        let body = html! {
            a.skip href="#main" { "Skip to content" }
            div.frame {
                header.side {
                    a.brand href="/" { (logo()) span { "Millstream" } }
                    nav.pages aria-label="Pages" {
                        @for (path, name) in PAGES {
                            a href=(self.link(path)) aria-current=[(path == self.path).then_some("page")] { (name) }
                        }
                    }
                    div.side-foot {
                        button.quiet type="button" data-theme-switch hidden { "Light or dark" }
                        @if let Some(name) = who {
                            form method="post" action="/sign-out" { span.muted { (name) } " " button.quiet { "Sign out" } }
                        }
                    }
                }
                main #main {
                    div.page-head {
                        div { h1 { (self.title) } @if !self.about.is_empty() { p.muted { (self.about) } } }
                        @if let Some(period) = self.period { (self.time(period)) }
                    }
                    @if let Some(failure) = failure {
                        p.alert role="alert" { strong { "The pipelines have stopped. " } (failure) }
                    }
                    (content)
                }
            }
            div.tip role="status" aria-live="polite" hidden {}
        };
        document(self.title, &theme, body)
    }

    /// Going to another page keeps the time.
    fn link(&self, path: &str) -> String {
        match self.period {
            Some(period) if !matches!(path, "/pipelines" | "/sql" | "/reports") => {
                format!("{path}?{}", period.query(&[("by", "")]))
            }
            _ => path.to_string(),
        }
    }

    fn time(&self, period: &Period) -> Markup {
        let (first, last) = period.days();
        html! {
            div.time {
                nav.spans aria-label="Time" {
                    @for (span, name) in SPANS {
                        a href={ "?" (period.query(&[("range", span)])) } aria-current=[(period.span == span).then_some("true")] { (name) }
                    }
                }
                details.more {
                    summary { (period.words()) ", " (period.zone.name()) }
                    form.choice method="get" {
                        label { "From" input type="date" name="from" value=(first) required; }
                        label { "to, with" input type="date" name="to" value=(last) required; }
                        label { "Time zone" input name="tz" value=(period.zone.name()) list="zones" autocomplete="off"; }
                        datalist #zones { @for zone in chrono_tz::TZ_VARIANTS.iter().filter(|z| z.name().contains('/') || z.name() == "UTC") { option value=(zone.name()) {} } }
                        @if !self.breakdowns.is_empty() {
                            label { "Break down by" select name="by" {
                                option value="" { "nothing" }
                                @for by in self.breakdowns { option value=(by) selected[*by == period.by] { (crate::chart::words(by)) } }
                            } }
                        }
                        @if !period.currency.is_empty() { input type="hidden" name="currency" value=(period.currency); }
                        label.check { input type="checkbox" name="compare" value="1" checked[period.compare]; "Compare with the period before" }
                        button.primary { "Show" }
                    }
                }
            }
        }
    }
}

/// The document: head, style, script.
pub fn document(title: &str, theme: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[(!theme.is_empty()).then_some(theme)] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Millstream" }
                link rel="icon" type="image/svg+xml" href=(assets::url("icon.svg"));
                link rel="stylesheet" href=(assets::url("millstream.css"));
                script src=(assets::url("millstream.js")) defer {}
            }
            body { (body) }
        }
    }
}

/// What the reader chose with the switch: the script keeps it in a cookie, so that the first paint is right.
fn theme(headers: &HeaderMap) -> String {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut themes =
        cookies.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().strip_prefix("millstream_theme="));
    themes.next_back().filter(|t| matches!(*t, "light" | "dark")).unwrap_or_default().to_string()
}

/// The mark: a mill wheel's blades over water.
pub fn logo() -> Markup {
    PreEscaped(assets::ICON.to_string())
}

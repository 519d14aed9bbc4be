//! What all pages share.

use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{DOCTYPE, Markup, html};

use crate::accounts::{Caller, Role};
use crate::catalogue::Category;
use crate::search::Card;

/// A page.
pub fn page(caller: Option<&Caller>, title: &str, body: Markup) -> Response {
    page_with_search(caller, title, "", body)
}

/// A page whose search field holds `q`.
pub fn page_with_search(caller: Option<&Caller>, title: &str, q: &str, body: Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Agent marketplace" }
                link rel="stylesheet" href="/assets/market.css";
                link rel="icon" href="data:,";
                script src="/assets/market.js" defer {}
            }
            body {
                a.skip href="#content" { "Skip to content" }
                (top(caller, q))
                main #content { div.wrap { (body) } }
                footer { div.wrap {
                    a href="/search" { "All agents" }
                    a href="/collections" { "Collections" }
                    a href="/publish" { "Publish" }
                    a href="/api/openapi.json" { "API" }
                    a href="/v0.1/servers" { "MCP registry" }
                } }
            }
        }
    };
    Html(markup.into_string()).into_response()
}

fn top(caller: Option<&Caller>, q: &str) -> Markup {
    let role = caller.map(|c| c.account.role);
    html! {
        header.top { div.wrap {
            a.brand href="/" { "◆ Agent marketplace" }
            form action="/search" role="search" {
                input type="search" name="q" value=(q) placeholder="Search agents (press /)" aria-label="Search agents"
                    maxlength="200";
            }
            nav aria-label="Main" {
                a href="/search" { "Browse" }
                a href="/collections" { "Collections" }
                @if role >= Some(Role::Publisher) { a href="/publish" { "Publish" } a href="/dashboard" { "Dashboard" } }
                @if role >= Some(Role::Moderator) { a href="/queue" { "Queue" } }
                @if role >= Some(Role::Admin) { a href="/audit" { "Audit" } }
                @if let Some(caller) = caller {
                    a href="/account" { (caller.account.handle) }
                    form method="post" action="/sign-out" { button.link { "Sign out" } }
                } @else {
                    a href="/sign-in" { "Sign in" }
                    a.button href="/sign-up" { "Sign up" }
                }
            }
        } }
    }
}

/// Filled and empty stars, with words for who cannot see them.
pub fn stars(rating: f64) -> Markup {
    let full = rating.round().clamp(0.0, 5.0) as usize;
    html! {
        span.stars role="img" aria-label={ (format!("{rating:.1}")) " of 5 stars" } {
            (["", "★", "★★", "★★★", "★★★★", "★★★★★"].get(full).copied().unwrap_or_default())
            (["☆☆☆☆☆", "☆☆☆☆", "☆☆☆", "☆☆", "☆", ""].get(full).copied().unwrap_or_default())
        }
    }
}

/// A number with thin groups: 12 345.
pub fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    if n < 0 { format!("-{grouped}") } else { grouped }
}

/// An agent in a list.
pub fn card(card: &Card) -> Markup {
    html! {
        li.card {
            h3 { a href={ "/agents/" (card.full_name()) } { (card.title) } }
            span.small.soft { (card.namespace) "/" (card.name) }
            p { (card.summary) }
            div.facts {
                @if card.review_count > 0 {
                    span { (stars(card.rating)) " " (format!("{:.1}", card.rating)) " (" (count(card.review_count)) ")" }
                }
                span { (count(card.installs)) @if card.installs == 1 { " install" } @else { " installs" } }
                span.price { (card.price.shown()) }
            }
        }
    }
}

/// A category's sign.
pub fn icon(category: &Category) -> Markup {
    html! { svg.icon viewBox="0 0 24 24" aria-hidden="true" { path d=(category.icon) {} } }
}

/// Links to an agent's categories.
pub fn categories(card: &Card) -> Markup {
    let known = card.categories.iter().filter_map(|slug| Category::of(slug).ok());
    html! {
        ul.chips {
            @for c in known { li { a.chip href={ "/categories/" (c.slug) } { (c.title) } } }
            @for tag in &card.tags { li { a.chip href={ "/search?tag=" (tag) } { "#" (tag) } } }
        }
    }
}

/// What a form before this page did, by its `?done=`.
pub fn notice(done: Option<&str>) -> Markup {
    let text = match done.unwrap_or_default() {
        "installed" => "Installed.",
        "upgraded" => "Upgraded.",
        "rolled_back" => "Rolled back to an earlier version.",
        "unchanged" => "You have this version already.",
        "uninstalled" => "Removed from your account.",
        "reviewed" => "Thank you: your review is on the page.",
        "deleted" => "Deleted.",
        "saved" => "Saved.",
        "followed" => "You get a letter when something new is in it, once a day at most.",
        "unfollowed" => "You follow it no longer.",
        "cancelled" => "Cancelled: it ends with what is paid.",
        "voted" => "Thank you.",
        "reported" => "Thank you: a moderator will look at it.",
        "removed" => "It is out of the catalogue; its publisher gets a letter.",
        "decided" => "Decided; the publisher gets a letter.",
        "paid" => "Thank you for the payment.",
        _ => return html! {},
    };
    html! { div.notice role="status" { (text) } }
}

/// On to another page after a form.
pub fn go(to: &str) -> Response {
    Redirect::to(to).into_response()
}

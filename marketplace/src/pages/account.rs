//! Signing in and up; what an account has.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::errors::encoded;
use super::layout::{go, notice, page};
use crate::accounts::{
    self, Address, Caller, MaybeCaller, NewPassword, NewToken, Role, SESSION_COOKIE, Scope, SignIn, SignUp, Token,
};
use crate::api::{Asked, Sent, session_cookie};
use crate::app::App;
use crate::catalogue::collection::{self, NewCollection, NewItem};
use crate::catalogue::{agent, collection::Collection};
use crate::clock::date;
use crate::installs::{self, Installed, Update};
use crate::oidc;
use crate::problem::Result;

/// Where to go on, and what was done.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Next {
    next: String,
    done: Option<String>,
}

/// A path of ours, and nothing that a browser could take for another site.
pub(super) fn own_path(next: &str) -> &str {
    if next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') { next } else { "/" }
}

/// The form.
pub async fn sign_in_form(
    State(app): State<Arc<App>>,
    MaybeCaller(caller): MaybeCaller,
    Asked(asked): Asked<Next>,
) -> Response {
    page(caller.as_ref(), "Sign in", sign_in_body(&app, own_path(&asked.next), None))
}

fn sign_in_body(app: &App, next: &str, wrong: Option<&str>) -> Markup {
    html! {
        div.form {
            h1 { "Sign in" }
            @if let Some(wrong) = wrong { div.notice.bad role="alert" { (wrong) } }
            form method="post" action="/sign-in" {
                input type="hidden" name="next" value=(next);
                label { span { "E-mail" } input type="email" name="email" required autocomplete="username"; }
                label { span { "Password" } input type="password" name="password" required autocomplete="current-password"; }
                button { "Sign in" }
            }
            @if let Some(elsewhere) = &app.oidc {
                p.spaced { a.button.plain href={ "/sign-in/oidc?next=" (encoded(next)) } { "Sign in with " (elsewhere.name()) } }
            }
            p.small.soft { "No account yet? " a href={ "/sign-up?next=" (encoded(next)) } { "Sign up" } }
        }
    }
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub struct SignInForm {
    email: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Opens a session.
pub async fn sign_in(
    State(app): State<Arc<App>>,
    Address(address): Address,
    Sent(form): Sent<SignInForm>,
) -> Result<Response> {
    let who = SignIn { email: form.email, password: form.password };
    match accounts::sign_in(&app, &address, &who).await {
        Ok(secret) => {
            Ok(([(header::SET_COOKIE, session_cookie(&app, Some(&secret)))], go(own_path(&form.next))).into_response())
        }
        Err(problem) if problem.kind() == "unauthenticated" => {
            let mut page = page(None, "Sign in", sign_in_body(&app, own_path(&form.next), Some(problem.detail())));
            *page.status_mut() = problem.status();
            Ok(page)
        }
        Err(problem) => Err(problem),
    }
}

/// The form.
pub async fn sign_up_form(MaybeCaller(caller): MaybeCaller, Asked(asked): Asked<Next>) -> Response {
    page(caller.as_ref(), "Sign up", sign_up_body(own_path(&asked.next), None, None))
}

fn sign_up_body(next: &str, wrong: Option<&str>, old: Option<&SignUp>) -> Markup {
    let (handle, email) = old.map_or(("", ""), |o| (o.handle.as_str(), o.email.as_str()));
    html! {
        div.form {
            h1 { "Sign up" }
            @if let Some(wrong) = wrong { div.notice.bad role="alert" { (wrong) } }
            form method="post" action="/sign-up" {
                input type="hidden" name="next" value=(next);
                label { span { "Handle: lower-case letters, digits, hyphens" }
                    input name="handle" value=(handle) required minlength="2" maxlength="39" pattern="[a-z0-9\\-]+" autocomplete="username"; }
                label { span { "E-mail" } input type="email" name="email" value=(email) required autocomplete="email"; }
                label { span { "Password: 10 characters or more" }
                    input type="password" name="password" required minlength="10" autocomplete="new-password"; }
                button { "Sign up" }
            }
        }
    }
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub struct SignUpForm {
    #[serde(flatten)]
    new: SignUp,
    #[serde(default)]
    next: String,
}

/// Makes an account and opens its first session.
pub async fn sign_up(
    State(app): State<Arc<App>>,
    Address(address): Address,
    Sent(form): Sent<SignUpForm>,
) -> Result<Response> {
    let (next, new) = (own_path(&form.next), form.new);
    if let Err(problem) = accounts::sign_up(&app, &address, &new).await {
        if !["invalid", "conflict"].contains(&problem.kind()) {
            return Err(problem);
        }
        let mut page = page(None, "Sign up", sign_up_body(next, Some(problem.detail()), Some(&new)));
        *page.status_mut() = problem.status();
        return Ok(page);
    }
    let who = SignIn { email: new.email, password: new.password };
    let secret = accounts::sign_in(&app, &address, &who).await?;
    Ok(([(header::SET_COOKIE, session_cookie(&app, Some(&secret)))], go(next)).into_response())
}

/// Ends the session.
pub async fn sign_out(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response> {
    accounts::sign_out(&app, &headers).await?;
    Ok(([(header::SET_COOKIE, session_cookie(&app, None))], go("/")).into_response())
}

/// The account's page.
pub async fn show(State(app): State<Arc<App>>, caller: Caller, Asked(asked): Asked<Next>) -> Result<Response> {
    body(&app, &caller, asked.done.as_deref(), None).await
}

async fn body(app: &App, caller: &Caller, done: Option<&str>, made: Option<&Token>) -> Result<Response> {
    caller.needs_session()?;
    let installed = installs::list(app, caller).await?;
    let updates = installs::updates(app, caller).await?;
    let tokens = accounts::list_tokens(app, caller).await?;
    let collections = collection::list(app, Some(&caller.account.handle)).await?;
    let followed = collection::followed(app, caller).await?;
    let connected = oidc::is_connected(app, caller).await?;
    let account = &caller.account;
    let body = html! {
        (notice(done))
        h1 { (account.display_name) }
        p.soft { (account.email) " · " (account.role.name()) " · plan " (account.tier) " · "
            a href="/account/plan" { "Change plan" } }
        @if account.role == Role::Consumer {
            form method="post" action="/account/publisher" { button.plain { "Become a publisher" } }
        }
        @if let Some(elsewhere) = &app.oidc {
            @if connected { p.soft { "Connected with " (elsewhere.name()) "." } }
            @else { p { a href="/sign-in/oidc?next=/account" { "Connect " (elsewhere.name()) } } }
        }
        (installed_table(&installed, &updates))
        (collections_of(&account.handle, &collections, &installed))
        (followed_collections(&followed))
        (tokens_of(&tokens, made))
        (password(&account.email))
    };
    Ok(page(Some(caller), "Account", body))
}

fn installed_table(installed: &[Installed], updates: &[Update]) -> Markup {
    html! {
        h2 { "Installed" }
        @if installed.is_empty() { p.soft { "Nothing yet. " a href="/search" { "Browse agents" } } }
        @else { div.panel.scroll { table {
            thead { tr { th { "Agent" } th { "Version" } th { "Since" } th { "Update" } } }
            tbody { @for i in installed {
                @let update = updates.iter().find(|u| u.agent == i.agent.full_name());
                tr {
                    td { a href={ "/agents/" (i.agent.full_name()) } { (i.agent.title) } }
                    td { (i.version) }
                    td.soft { (date(i.changed_at)) }
                    td { @if let Some(u) = update {
                        form method="post" action={ "/agents/" (u.agent) "/install" } { button.plain { "Upgrade to " (u.to) } }
                        @if !u.new_permissions.is_empty() { span.small.warn { "new: " (u.new_permissions.join(", ")) } }
                        @if let Some(why) = &u.yank_reason { span.small.bad { "yours was withdrawn: " (why) } }
                    } }
                }
            } }
        } } }
    }
}

fn collections_of(handle: &str, collections: &[Collection], installed: &[Installed]) -> Markup {
    html! {
        h2 { "Collections" }
        @for c in collections { p { a href={ "/collections/" (handle) "/" (c.slug) } { (c.title) } " (" (c.count) ")" } }
        @if !installed.is_empty() {
            details.panel { summary { "Make a collection of what is installed" }
                form method="post" action="/account/collections" {
                    label { span { "Name in the address" } input name="slug" required pattern="[a-z0-9\\-]+"; }
                    label { span { "Title" } input name="title" required maxlength="80"; }
                    label { span { "Description" } textarea name="description" maxlength="1000" {} }
                    button { "Make collection" }
                }
            }
        }
    }
}

fn followed_collections(followed: &[Collection]) -> Markup {
    html! {
        @if !followed.is_empty() {
            h3 { "You follow" }
            ul { @for c in followed {
                li { a href={ "/collections/" (c.owner) "/" (c.slug) } { (c.title) } " (" (c.count) ") " span.soft { "by " (c.owner) } }
            } }
        }
    }
}

fn password(email: &str) -> Markup {
    html! {
        details.panel { summary { "Change password" }
            form method="post" action="/account/password" {
                // For who keeps passwords: whose it is.
                input type="text" name="email" value=(email) autocomplete="username" hidden;
                label { span { "Current password" } input type="password" name="current" required autocomplete="current-password"; }
                label { span { "New password, 10 characters or more" } input type="password" name="new" required minlength="10" autocomplete="new-password"; }
                p.small.soft { "Other browsers are signed out; tokens stay." }
                button { "Change password" }
            }
        }
    }
}

fn tokens_of(tokens: &[Token], made: Option<&Token>) -> Markup {
    html! {
        h2 #tokens { "API tokens" }
        @if let Some(secret) = made.and_then(|t| t.secret.as_ref()) {
            div.notice role="status" { "The new token, shown this once: " code { (secret) } }
        }
        div.panel {
            @if tokens.is_empty() { p.soft { "None. The command " code { "marketplace" } " and programs need one." } }
            @else { table { tbody { @for t in tokens { tr {
                td { (t.name) } td.soft { (t.scopes.join(", ")) } td.soft { "until " (date(t.expires_at)) }
                td { form method="post" action={ "/account/tokens/" (t.id) "/revoke" } { button.danger { "Revoke" } } }
            } } } } }
            form method="post" action="/account/tokens" {
                label { span { "Name" } input name="name" required maxlength="80"; }
                fieldset { legend.small.soft { "May" }
                    @for scope in ["read", "install", "review", "publish", "moderate"] {
                        label.inline { input type="checkbox" name=(scope) value="on" checked[scope == "install"]; (scope) }
                    }
                }
                label { span { "Days" } input type="number" name="days" value="90" min="1" max="365"; }
                button { "Make token" }
            }
        }
    }
}

/// What the form of a token sends: a name, days, and a field for each scope.
#[derive(Debug, Deserialize)]
pub struct TokenForm {
    name: String,
    days: i64,
    read: Option<String>,
    install: Option<String>,
    review: Option<String>,
    publish: Option<String>,
    moderate: Option<String>,
}

/// Makes a token and shows it once.
pub async fn new_token(State(app): State<Arc<App>>, caller: Caller, Sent(form): Sent<TokenForm>) -> Result<Response> {
    let chosen = [
        (Scope::Read, &form.read),
        (Scope::Install, &form.install),
        (Scope::Review, &form.review),
        (Scope::Publish, &form.publish),
        (Scope::Moderate, &form.moderate),
    ];
    let scopes = chosen.into_iter().filter(|(_, on)| on.is_some()).map(|(scope, _)| scope).collect();
    let token = accounts::issue_token(&app, &caller, &NewToken { name: form.name, scopes, days: form.days }).await?;
    body(&app, &caller, None, Some(&token)).await
}

/// The button Revoke.
pub async fn revoke_token(State(app): State<Arc<App>>, Path(id): Path<String>, caller: Caller) -> Result<Response> {
    caller.needs_session()?;
    accounts::revoke_token(&app, &caller, &id).await?;
    Ok(go("/account?done=deleted"))
}

/// The button Become a publisher.
pub async fn become_publisher(State(app): State<Arc<App>>, caller: Caller) -> Result<Response> {
    agent::become_publisher(&app, &caller).await?;
    Ok(go("/publish"))
}

/// The form Change password.
pub async fn change_password(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    caller: Caller,
    Sent(change): Sent<NewPassword>,
) -> Result<Response> {
    let session = accounts::cookie(&headers, SESSION_COOKIE).unwrap_or_default();
    accounts::change_password(&app, &caller, &session, &change).await?;
    Ok(go("/account?done=saved"))
}

/// What the form of a collection sends.
#[derive(Debug, Deserialize)]
pub struct CollectionForm {
    slug: String,
    title: String,
    #[serde(default)]
    description: String,
}

/// Makes a collection of what is installed.
pub async fn collect(
    State(app): State<Arc<App>>,
    caller: Caller,
    Sent(form): Sent<CollectionForm>,
) -> Result<Response> {
    let installed = installs::list(&app, &caller).await?;
    let agents = installed.iter().map(|i| NewItem { agent: i.agent.full_name(), note: String::new() }).collect();
    let new = NewCollection {
        slug: form.slug.clone(),
        title: form.title,
        description: form.description,
        curated: false,
        agents,
    };
    collection::put(&app, &caller, &new).await?;
    Ok(go(&format!("/collections/{}/{}", caller.account.handle, form.slug)))
}

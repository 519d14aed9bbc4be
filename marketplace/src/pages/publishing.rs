//! Publishing: upload, state of submissions, what an agent's page says, withdrawal of versions.

use std::sync::Arc;

use axum::extract::{Multipart, Path, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{go, notice, page};
use crate::accounts::{Caller, Role};
use crate::api::{Asked, Sent};
use crate::app::App;
use crate::catalogue::agent::{self, Edit};
use crate::catalogue::version::{self, Submission};
use crate::clock::shown;
use crate::problem::{Problem, Result};
use crate::publish::{self, Submitted};

/// What the page before did.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Done {
    done: Option<String>,
}

const EXAMPLE: &str = r#"{
  "name": "your-namespace/your-agent",
  "version": "1.0.0",
  "title": "Your agent",
  "summary": "One sentence that says what it does.",
  "license": "Apache-2.0",
  "categories": ["code-analysis-review"],
  "tags": ["review"],
  "entrypoint": "main.py",
  "runtime": { "kind": "python", "version": ">=3.11" },
  "permissions": ["files:read", "network:api.example.org"]
}"#;

/// The page with the form of an upload.
pub async fn form(State(app): State<Arc<App>>, caller: Caller, Asked(asked): Asked<Done>) -> Result<Response> {
    body(&app, &caller, asked.done.as_deref(), None).await
}

async fn body(app: &App, caller: &Caller, done: Option<&str>, sent: Option<&Submitted>) -> Result<Response> {
    if caller.account.role == Role::Consumer {
        let body = html! {
            h1 { "Publish" }
            p { "A publisher has a namespace and sends in agents. Each version is looked through by a person before it is listed." }
            form method="post" action="/account/publisher" { button { "Become a publisher" } }
        };
        return Ok(page(Some(caller), "Publish", body));
    }
    let namespaces = agent::namespaces(app, caller).await?;
    let submissions = version::submissions(app, caller).await?;
    let body = html! {
        (notice(done))
        h1 { "Publish" }
        @if let Some(sent) = sent {
            div.notice role="status" { b { (sent.agent) " " (sent.version) } " is in the queue. A moderator decides; you get a letter."
                @if !sent.findings.is_empty() { ul { @for f in &sent.findings { li.warn { (f) } } } } }
        }
        div.columns.right {
            div {
                div.panel {
                    h2 { "Send in a version" }
                    form method="post" action="/publish" enctype="multipart/form-data" {
                        label { span { "A .tar.gz with agent.json at its top" } input type="file" name="package" accept=".gz,.tgz" required; }
                        button { "Send in" }
                    }
                    details { summary { "agent.json" } pre { code { (EXAMPLE) } } }
                    p.small.soft { "Or from a program: " code { "curl -H 'Authorization: Bearer mkt_…' --data-binary @agent.tar.gz " (app.public_url()) "/api/v1/publish" } }
                }
                (submissions_of(&submissions))
            }
            aside {
                div.panel {
                    h2 { "Namespaces" }
                    ul { @for n in &namespaces { li { code { (n) } } } }
                    form method="post" action="/publish/namespaces" {
                        label { span { "Another one" } input name="name" required pattern="[a-z0-9\\-]+"; }
                        button.plain { "Make namespace" }
                    }
                }
            }
        }
    };
    Ok(page(Some(caller), "Publish", body))
}

fn submissions_of(submissions: &[Submission]) -> Markup {
    html! {
        h2 { "Sent in" }
        @if submissions.is_empty() { p.soft { "Nothing yet." } } @else { div.panel.scroll { table {
            thead { tr { th { "Agent" } th { "Version" } th { "Checks" } th { "Decision" } th { "When" } } }
            tbody { @for s in submissions { tr {
                td { a href={ "/publish/agents/" (s.agent) } { (s.agent) } }
                td { (s.version) }
                td { (s.scan_state) @for f in &s.findings { br; span.small.warn { (f) } } }
                td { span class=(if s.review_state == "approved" { "good" } else if s.review_state == "refused" { "bad" } else { "soft" }) { (s.review_state) }
                    @if !s.reason.is_empty() { br; span.small { (s.reason) } } }
                td.soft.small { (shown(s.created_at)) }
            } } }
        } } }
    }
}

/// Takes the form's file.
pub async fn upload(State(app): State<Arc<App>>, caller: Caller, mut form: Multipart) -> Result<Response> {
    let broken =
        |e: axum::extract::multipart::MultipartError| Problem::invalid(format!("the upload: {}", e.body_text()));
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() == Some("package") {
            let package = field.bytes().await.map_err(broken)?;
            let sent = publish::submit(&app, &caller, package).await?;
            return body(&app, &caller, None, Some(&sent)).await;
        }
    }
    Err(Problem::invalid("no file was chosen; choose a .tar.gz"))
}

/// The form of a namespace.
pub async fn namespace(
    State(app): State<Arc<App>>,
    caller: Caller,
    Sent(new): Sent<crate::api::NewNamespace>,
) -> Result<Response> {
    agent::create_namespace(&app, &caller, &new.name).await?;
    Ok(go("/publish?done=saved"))
}

/// What the owner may change of an agent.
pub async fn manage(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Asked(asked): Asked<Done>,
) -> Result<Response> {
    let details = agent::details(&app, &namespace, &name).await?;
    let mut tx = app.db.begin().await?;
    let id = agent::owned(&app, &mut tx, &caller, &namespace, &name).await?;
    let (readme,): (String,) =
        sqlx::query_as("SELECT readme FROM agents WHERE id = $1").bind(&id).fetch_one(tx.on()).await?;
    drop(tx);
    let card = &details.card;
    let base = format!("/publish/agents/{namespace}/{name}");
    let body = html! {
        (notice(asked.done.as_deref()))
        h1 { (card.title) }
        p { a href={ "/agents/" (card.full_name()) } { "Its page" } }
        div.columns.right {
            form.panel method="post" action=(base) {
                h2 { "What its page says" }
                label { span { "Title" } input name="title" value=(card.title) required maxlength="80"; }
                label { span { "Summary" } input name="summary" value=(card.summary) required maxlength="200"; }
                label { span { "Tags, with commas" } input name="tags" value=(card.tags.join(", ")); }
                label { span { "Source (https)" } input name="repository" value=(details.repository); }
                label { span { "Screenshots (https), one a line" } textarea name="screenshots" { (details.screenshots.join("\n")) } }
                label { span { "Readme, Markdown" } textarea name="readme" rows="14" { (readme) } }
                button { "Save" }
            }
            aside {
                (super::selling::price_panel(&app, &caller, card).await?)
                div.panel {
                    h2 { "Versions" }
                    @for v in &details.versions {
                        p { b { (v.version) } @if let Some(why) = &v.yank_reason { " " span.warn { "withdrawn: " (why) } } }
                        form.actions method="post" action={ (base) "/yank" } {
                            input type="hidden" name="version" value=(v.version);
                            @if v.yank_reason.is_none() {
                                input name="reason" placeholder="Why?" aria-label="Why?" required maxlength="500"; button.danger { "Withdraw" }
                            } @else { button.plain { "Offer again" } }
                        }
                    }
                }
            }
        }
    };
    Ok(page(Some(&caller), &card.title, body))
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub struct EditForm {
    title: String,
    summary: String,
    tags: String,
    repository: String,
    screenshots: String,
    readme: String,
}

/// Saves the form.
pub async fn edit(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(form): Sent<EditForm>,
) -> Result<Response> {
    let list = |text: &str, by: char| {
        Some(text.split(by).map(|t| t.trim().to_string()).filter(|t| !t.is_empty()).collect::<Vec<_>>())
    };
    let edit = Edit {
        title: Some(form.title),
        summary: Some(form.summary),
        readme: Some(form.readme),
        tags: list(&form.tags, ','),
        repository: Some(form.repository.trim().to_string()),
        screenshots: list(&form.screenshots, '\n'),
    };
    agent::edit(&app, &caller, &namespace, &name, &edit).await?;
    Ok(go(&format!("/publish/agents/{namespace}/{name}?done=saved")))
}

/// Which version, and why.
#[derive(Debug, Deserialize)]
pub struct YankForm {
    version: String,
    reason: Option<String>,
}

/// The forms Withdraw and Offer again.
pub async fn yank(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(form): Sent<YankForm>,
) -> Result<Response> {
    version::yank(&app, &caller, (&namespace, &name, &form.version), form.reason.as_deref()).await?;
    Ok(go(&format!("/publish/agents/{namespace}/{name}?done=saved")))
}

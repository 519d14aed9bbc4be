//! Its HTTP: calls as Stripe takes them, and two pages for people.

use std::collections::HashMap;
use std::future::Future;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use maud::{DOCTYPE, html};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{KEY, Sandbox, WEBHOOK_SECRET, number, signature};
use crate::clock::SECOND_MS;
use crate::problem::{Problem, Result};

/// What is refused, as Stripe says it.
struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "message": self.0.detail(), "type": "invalid_request_error" } });
        (self.0.status(), Json(body)).into_response()
    }
}

type Answer = std::result::Result<Json<Value>, Refused>;

impl Sandbox {
    /// Serves until `stop` comes.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let router = Router::new()
            .route("/pay/{session}", get(pay_page).post(pay))
            .route("/connect/{account}", get(connect_page).post(connect))
            .route("/v1/events", get(events))
            .route("/v1/{kind}", post(create))
            .route("/v1/{kind}/{id}", get(object).post(create_below))
            .with_state(self);
        let served = axum::serve(listener, router).with_graceful_shutdown(stop).await;
        served.map_err(|e| Problem::unavailable(format!("serving: {e}")))
    }

    /// Tells all that was not told yet: twice, the newest first, as may happen with Stripe.
    pub async fn tell_all(&self) -> Result<()> {
        let news = self.news();
        let (to, clock) = {
            let inside = self.inside();
            (inside.webhooks.clone(), inside.clock.clone())
        };
        let Some(url) = to else { return Ok(()) };
        let client = reqwest::Client::new();
        for event in news.iter().rev().chain(&news) {
            let body = event.to_string();
            let header = signature(WEBHOOK_SECRET, clock.now_ms() / SECOND_MS, body.as_bytes());
            let sent = client.post(&url).header("stripe-signature", header).body(body).send().await;
            let answer = sent.map_err(|e| Problem::unavailable(format!("{url}: {e}")))?;
            if !answer.status().is_success() {
                let text = answer.text().await.unwrap_or_default();
                return Err(Problem::unavailable(format!("{url} refused {}: {text}", event["type"])));
            }
        }
        Ok(())
    }

    /// What happened on a page is told when it is told.
    fn tell_soon(&self) {
        let sandbox = self.clone();
        tokio::spawn(async move {
            if let Err(problem) = sandbox.tell_all().await {
                tracing::warn!("a webhook was not taken: {problem}");
            }
        });
    }

    fn member(&self, id: &str, name: &str) -> Result<String> {
        Ok(self.inside().object(id)?[name].as_str().unwrap_or_default().to_string())
    }
}

async fn create(
    State(sandbox): State<Sandbox>,
    Path(path): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Vec<(String, String)>>,
) -> Answer {
    let mut inside = sandbox.inside();
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
    if inside.down {
        return Err(Problem::unavailable("down").into());
    }
    if header("authorization") != format!("Bearer {KEY}") {
        return Err(Problem::unauthenticated("Invalid API Key provided").into());
    }
    let (version, key) = (header("stripe-version"), header("idempotency-key"));
    if version != "2024-06-20" || key.is_empty() {
        return Err(Problem::invalid("every call names its version, and those that make something have a key").into());
    }
    let request = format!("{path} {fields:?}");
    if let Some((before, answer)) = inside.idempotency.get(&key) {
        if *before != request {
            let told =
                "Keys for idempotent requests can only be used with the same parameters they were first used with.";
            return Err(Problem::invalid(told).into());
        }
        return Ok(Json(answer.clone()));
    }
    let fields: HashMap<String, String> = fields.into_iter().collect();
    let answer = inside.create(&path, &fields)?;
    inside.idempotency.insert(key, (request, answer.clone()));
    Ok(Json(answer))
}

async fn create_below(
    state: State<Sandbox>,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
    form: Form<Vec<(String, String)>>,
) -> Answer {
    create(state, Path(format!("{kind}/{id}")), headers, form).await
}

async fn object(State(sandbox): State<Sandbox>, Path((_, id)): Path<(String, String)>) -> Answer {
    let inside = sandbox.inside();
    if inside.down {
        return Err(Problem::unavailable("down").into());
    }
    Ok(Json(inside.object(&id)?))
}

async fn events(State(sandbox): State<Sandbox>, Query(asked): Query<HashMap<String, String>>) -> Answer {
    let inside = sandbox.inside();
    let since: i64 = asked.get("created[gte]").and_then(|t| t.parse().ok()).unwrap_or_default();
    let limit: usize = asked.get("limit").and_then(|t| t.parse().ok()).unwrap_or(10);
    // Newest first, as Stripe does.
    let mut all: Vec<&Value> = inside.events.iter().rev().filter(|e| number(e, "/created") >= since).collect();
    if let Some(after) = asked.get("starting_after") {
        let at = all.iter().position(|e| e["id"] == **after).map_or(all.len(), |at| at + 1);
        all.drain(..at);
    }
    let has_more = all.len() > limit;
    all.truncate(limit);
    Ok(Json(json!({ "object": "list", "data": all, "has_more": has_more })))
}

fn page(head: &str, back: &str, button: &str) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; link rel="icon" href="data:,"; title { "Stripe" } }
            body {
                h1 { (head) }
                p { "This stands in for Stripe. No money moves." }
                form method="post" { button { (button) } }
                a href=(back) { "Back" }
            }
        }
    };
    Html(page.into_string())
}

async fn pay_page(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> std::result::Result<Html<String>, Refused> {
    let session = sandbox.inside().object(&id)?;
    let amount = number(&session, "/amount_total");
    let currency = session["currency"].as_str().unwrap_or_default();
    let head = format!("Pay {}", crate::search::money(amount, currency));
    Ok(page(&head, session["_back"].as_str().unwrap_or_default(), "Pay"))
}

async fn pay(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> std::result::Result<Redirect, Refused> {
    sandbox.pay(&id)?;
    sandbox.tell_soon();
    Ok(Redirect::to(&sandbox.member(&id, "success_url")?))
}

async fn connect_page(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> std::result::Result<Html<String>, Refused> {
    Ok(page("Payouts", &sandbox.member(&id, "_back")?, "Allow payouts"))
}

async fn connect(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> std::result::Result<Redirect, Refused> {
    sandbox.enable(&id)?;
    sandbox.tell_soon();
    Ok(Redirect::to(&sandbox.member(&id, "_back")?))
}

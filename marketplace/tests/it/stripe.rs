//! A Stripe that moves no money: the HTTP that we use of it, its signatures, idempotency keys and clock, and its webhooks in
//! whatever order, number and delay a test wants.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millstream_marketplace::clock::Clock;
use millstream_marketplace::config;
use millstream_marketplace::secret::hmac_hex;
use serde_json::{Value, json};

use crate::market::{Market, START_MS};

pub const WEBHOOK_SECRET: &str = "whsec_test";
const KEY: &str = "sk_test_1";

#[derive(Default)]
struct Inside {
    now_s: i64,
    made: u64,
    down: bool,
    /// key -> (path and body, answer)
    idempotency: HashMap<String, (String, Value)>,
    objects: BTreeMap<String, Value>,
    events: Vec<Value>,
    told: usize,
    calls: usize,
    /// Where people come from, for the addresses of its own pages.
    url: String,
    /// Whom what happens on its own pages is told to.
    told_to: Option<(String, Clock)>,
}

#[derive(Clone)]
pub struct Stripe {
    pub url: String,
    inside: Arc<Mutex<Inside>>,
}

type Shared = Arc<Mutex<Inside>>;

/// What is refused, and why.
struct Refused(u16, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        let body = json!({ "error": { "message": message, "type": "invalid_request_error" } });
        (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
    }
}

fn error(status: u16, message: &str) -> Refused {
    Refused(status, message.to_string())
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        match first {
            b'%' => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                rest = &tail[2..];
            }
            b'+' => {
                bytes.push(b' ');
                rest = tail;
            }
            other => {
                bytes.push(other);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

impl Inside {
    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_test{:06}", self.made)
    }

    fn event(&mut self, kind: &str, object: &Value, account: Option<&str>) {
        let id = self.id("evt");
        let mut event = json!({ "id": id, "object": "event", "type": kind, "created": self.now_s,
            "api_version": "2024-06-20", "livemode": false, "data": { "object": object } });
        if let Some(account) = account {
            event["account"] = json!(account);
        }
        self.events.push(event);
    }

    fn create(&mut self, path: &str, form: &HashMap<String, String>) -> Result<Value, Refused> {
        let field = |name: &str| form.get(name).cloned();
        let need = |name: &str| field(name).ok_or_else(|| error(400, &format!("Missing required param: {name}.")));
        match path {
            "checkout/sessions" => {
                let mode = need("mode")?;
                let amount: i64 = need("line_items[0][price_data][unit_amount]")?.parse().unwrap();
                let quantity: i64 = need("line_items[0][quantity]")?.parse().unwrap();
                for which in ["payment_intent_data", "subscription_data"] {
                    let to = field(&format!("{which}[transfer_data][destination]"));
                    if to.is_some_and(|to| self.objects[&to]["charges_enabled"] != true) {
                        return Err(error(400, "The destination account cannot take charges."));
                    }
                }
                let id = self.id("cs");
                let session = json!({ "id": id, "object": "checkout.session", "mode": mode, "status": "open",
                    "payment_status": "unpaid", "client_reference_id": field("client_reference_id"),
                    "amount_total": amount * quantity, "currency": need("line_items[0][price_data][currency]")?,
                    "success_url": need("success_url")?, "url": format!("{}/pay/{id}", self.url),
                    "_back": need("cancel_url")?,
                    "payment_intent": null, "subscription": null,
                    "_order": field("subscription_data[metadata][order_id]"), "_seats": quantity, "_unit": amount,
                    "_trial": field("subscription_data[trial_period_days]"), "_fee": field("payment_intent_data[application_fee_amount]") });
                self.objects.insert(id, session.clone());
                Ok(session)
            }
            "accounts" => {
                let id = self.id("acct");
                let account = json!({ "id": id, "object": "account", "type": need("type")?, "charges_enabled": false });
                self.objects.insert(id, account.clone());
                Ok(account)
            }
            "account_links" => {
                let account = need("account")?;
                let back = need("return_url")?;
                if let Some(object) = self.objects.get_mut(&account) {
                    object["_back"] = json!(back);
                }
                Ok(json!({ "object": "account_link", "url": format!("{}/connect/{account}", self.url) }))
            }
            "refunds" => {
                let intent = need("payment_intent")?;
                let amount: i64 = need("amount")?.parse().unwrap();
                let Some(mut charge) = self.objects.get(&intent).cloned() else {
                    return Err(error(404, &format!("No such payment_intent: '{intent}'")));
                };
                let refunded = charge["amount_refunded"].as_i64().unwrap() + amount;
                if refunded > charge["amount"].as_i64().unwrap() {
                    return Err(error(400, "Refund amount is greater than unrefunded amount on charge."));
                }
                charge["amount_refunded"] = json!(refunded);
                self.objects.insert(intent, charge.clone());
                self.event("charge.refunded", &charge, None);
                Ok(json!({ "id": self.id("re"), "object": "refund", "amount": amount, "status": "succeeded" }))
            }
            subscription if subscription.starts_with("subscriptions/") => {
                let id = subscription.trim_start_matches("subscriptions/");
                let ends = need("cancel_at_period_end")? == "true";
                if !self.objects.contains_key(id) {
                    return Err(error(404, &format!("No such subscription: '{id}'")));
                }
                self.change(id, |s| s["cancel_at_period_end"] = json!(ends), "customer.subscription.updated");
                Ok(self.objects[id].clone())
            }
            other => Err(error(404, &format!("Unrecognized request URL (POST: /v1/{other})."))),
        }
    }

    /// A payment that went through; its id.
    fn charge(&mut self, amount: i64, currency: &Value) -> String {
        let (intent, charge) = (self.id("pi"), self.id("ch"));
        let object = json!({ "id": charge, "object": "charge", "payment_intent": intent, "amount": amount,
            "amount_refunded": 0, "currency": currency });
        self.objects.insert(intent.clone(), object);
        intent
    }

    fn invoice(&mut self, subscription: &str, paid: bool) {
        let s = self.objects[subscription].clone();
        let amount = s["_unit"].as_i64().unwrap() * s["items"]["data"][0]["quantity"].as_i64().unwrap();
        let intent = if paid { json!(self.charge(amount, &s["currency"])) } else { Value::Null };
        let invoice = json!({ "id": self.id("in"), "object": "invoice", "subscription": subscription, "currency": s["currency"],
            "amount_paid": if paid { amount } else { 0 }, "payment_intent": intent });
        self.event(if paid { "invoice.paid" } else { "invoice.payment_failed" }, &invoice, None);
    }

    fn change(&mut self, subscription: &str, change: impl FnOnce(&mut Value), kind: &str) {
        let mut object = self.objects[subscription].clone();
        change(&mut object);
        self.objects.insert(subscription.to_string(), object.clone());
        self.event(kind, &object, None);
    }
}

async fn create(State(inside): State<Shared>, Path(path): Path<String>, headers: HeaderMap, body: String) -> Response {
    let mut inside = inside.lock().unwrap();
    inside.calls += 1;
    if inside.down {
        return error(503, "down").into_response();
    }
    let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_string()).unwrap_or_default();
    if header("authorization") != format!("Bearer {KEY}") {
        return error(401, "Invalid API Key provided").into_response();
    }
    assert_eq!(header("stripe-version"), "2024-06-20");
    let key = header("idempotency-key");
    assert!(!key.is_empty(), "every call that makes something has a key");
    let request = format!("{path} {body}");
    if let Some((before, answer)) = inside.idempotency.get(&key) {
        if *before != request {
            return error(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were first used with.",
            )
            .into_response();
        }
        return Json(answer.clone()).into_response();
    }
    let pairs = body.split('&').filter_map(|p| p.split_once('='));
    let form = pairs.map(|(n, v)| (decode(n), decode(v))).collect();
    match inside.create(&path, &form) {
        Ok(answer) => {
            inside.idempotency.insert(key, (request, answer.clone()));
            Json(answer).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn object(State(inside): State<Shared>, Path((kind, id)): Path<(String, String)>) -> Response {
    let inside = inside.lock().unwrap();
    match inside.objects.get(&id) {
        _ if inside.down => error(503, "down").into_response(),
        Some(object) => Json(object.clone()).into_response(),
        None => error(404, &format!("No such {kind}: '{id}'")).into_response(),
    }
}

async fn events(State(inside): State<Shared>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let inside = inside.lock().unwrap();
    let since: i64 = asked.get("created[gte]").map_or(0, |t| t.parse().unwrap());
    let limit: usize = asked.get("limit").map_or(10, |t| t.parse().unwrap());
    // Newest first, as Stripe does.
    let mut all: Vec<&Value> = inside.events.iter().rev().filter(|e| e["created"].as_i64().unwrap() >= since).collect();
    if let Some(after) = asked.get("starting_after") {
        let at = all.iter().position(|e| e["id"] == **after).unwrap();
        all.drain(..=at);
    }
    let has_more = all.len() > limit;
    all.truncate(limit);
    Json(json!({ "object": "list", "data": all, "has_more": has_more })).into_response()
}

fn own_page(head: &str, back: &str, button: &str) -> Html<String> {
    let form = format!("<form method=\"post\"><button>{button}</button></form><a href=\"{back}\">Back</a>");
    Html(format!(
        "<!DOCTYPE html><html lang=\"en\"><link rel=\"icon\" href=\"data:,\"><title>Stripe</title><h1>{head}</h1>{form}"
    ))
}

async fn pay_page(State(inside): State<Shared>, Path(session): Path<String>) -> Html<String> {
    let s = inside.lock().unwrap().objects[&session].clone();
    let amount = s["amount_total"].as_i64().unwrap() as f64 / 100.0;
    own_page(&format!("Pay {amount:.2} {}", s["currency"].as_str().unwrap()), s["_back"].as_str().unwrap(), "Pay")
}

async fn connect_page(State(inside): State<Shared>, Path(account): Path<String>) -> Html<String> {
    let a = inside.lock().unwrap().objects[&account].clone();
    own_page("Payouts", a["_back"].as_str().unwrap(), "Allow payouts")
}

impl Stripe {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside = Inside { now_s: START_MS / 1_000, url: url.clone(), ..Inside::default() };
        let stripe = Self { url, inside: Arc::new(Mutex::new(inside)) };
        let (pay, allow) = (stripe.clone(), stripe.clone());
        let router = Router::new()
            .route("/pay/{session}", get(pay_page).post(|Path(id): Path<String>| async move { pay.paid(&id) }))
            .route(
                "/connect/{account}",
                get(connect_page).post(|Path(id): Path<String>| async move { allow.allowed(&id) }),
            )
            .route("/v1/events", get(events))
            .route(
                "/v1/{kind}/{id}",
                get(object).post(
                    |state: State<Shared>, Path((a, b)): Path<(String, String)>, headers: HeaderMap, body: String| {
                        create(state, Path(format!("{a}/{b}")), headers, body)
                    },
                ),
            )
            .route("/v1/{kind}", post(create))
            .with_state(stripe.inside.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        stripe
    }

    /// From now on this marketplace is told what happens on the pages here: twice, the last first.
    pub fn tells(&self, market: &Market) {
        self.inside.lock().unwrap().told_to = Some((format!("{}/webhooks/stripe", market.url), market.clock.clone()));
    }

    /// Tells all that was not told yet.
    pub async fn tell_all(&self) {
        let news = self.news();
        let to = self.inside.lock().unwrap().told_to.clone();
        let Some((url, clock)) = to else { return };
        let client = reqwest::Client::new();
        for event in news.iter().rev().chain(&news) {
            let body = event.to_string();
            let header = signature(WEBHOOK_SECRET, clock.now_ms() / 1_000, body.as_bytes());
            let answer = client.post(&url).header("stripe-signature", header).body(body).send().await.unwrap();
            assert!(answer.status().is_success(), "{}: {}", event["type"], answer.text().await.unwrap());
        }
    }

    /// Somebody paid on the page: the webhooks come when they come.
    fn paid(&self, session: &str) -> Redirect {
        self.pay(session);
        let to = self.inside.lock().unwrap().objects[session]["success_url"].as_str().unwrap().to_string();
        let stripe = self.clone();
        tokio::spawn(async move { stripe.tell_all().await });
        Redirect::to(&to)
    }

    fn allowed(&self, account: &str) -> Redirect {
        self.enable(account);
        let to = self.inside.lock().unwrap().objects[account]["_back"].as_str().unwrap().to_string();
        let stripe = self.clone();
        tokio::spawn(async move { stripe.tell_all().await });
        Redirect::to(&to)
    }

    pub fn config(&self) -> config::Stripe {
        config::Stripe {
            secret_key: KEY.to_string(),
            webhook_secret: WEBHOOK_SECRET.to_string(),
            base_url: self.url.clone(),
        }
    }

    pub fn set_down(&self, down: bool) {
        self.inside.lock().unwrap().down = down;
    }

    pub fn count(&self, prefix: &str) -> usize {
        self.inside.lock().unwrap().objects.keys().filter(|k| k.starts_with(prefix)).count()
    }

    /// The session of a checkout's address.
    pub fn session_of(url: &str) -> String {
        url.rsplit('/').next().unwrap().to_string()
    }

    /// The buyer pays. Gives the payment (or the subscription).
    pub fn pay(&self, session: &str) -> String {
        let mut inside = self.inside.lock().unwrap();
        let mut s = inside.objects[session].clone();
        assert_eq!(s["status"], "open", "a session is paid once");
        s["status"] = json!("complete");
        s["payment_status"] = json!("paid");
        let made = if s["mode"] == "payment" {
            let intent = inside.charge(s["amount_total"].as_i64().unwrap(), &s["currency"]);
            s["payment_intent"] = json!(intent);
            intent
        } else {
            let id = inside.id("sub");
            let trial = s["_trial"].is_string();
            let subscription = json!({ "id": id, "object": "subscription", "currency": s["currency"], "_unit": s["_unit"],
                "status": if trial { "trialing" } else { "active" }, "metadata": { "order_id": s["_order"] },
                "items": { "data": [{ "quantity": s["_seats"] }] }, "cancel_at_period_end": false,
                "current_period_end": inside.now_s + 30 * 86_400 });
            inside.objects.insert(id.clone(), subscription.clone());
            s["subscription"] = json!(id);
            inside.event("customer.subscription.created", &subscription, None);
            if !trial {
                inside.invoice(&id, true);
            }
            id
        };
        inside.objects.insert(session.to_string(), s.clone());
        inside.event("checkout.session.completed", &s, None);
        made
    }

    pub fn abandon(&self, session: &str) {
        let mut inside = self.inside.lock().unwrap();
        let s = inside.objects[session].clone();
        inside.event("checkout.session.expired", &s, None);
    }

    /// A month is over.
    pub fn renew(&self, subscription: &str, paid: bool) {
        let mut inside = self.inside.lock().unwrap();
        inside.now_s += 30 * 86_400;
        let end = inside.now_s + 30 * 86_400;
        inside.invoice(subscription, paid);
        let status = if paid { "active" } else { "past_due" };
        let change = |s: &mut Value| {
            s["status"] = json!(status);
            s["current_period_end"] = json!(end);
        };
        inside.change(subscription, change, "customer.subscription.updated");
    }

    pub fn set_seats(&self, subscription: &str, seats: i64) {
        let change = |s: &mut Value| s["items"]["data"][0]["quantity"] = json!(seats);
        self.inside.lock().unwrap().change(subscription, change, "customer.subscription.updated");
    }

    pub fn cancel(&self, subscription: &str) {
        let change = |s: &mut Value| s["status"] = json!("canceled");
        self.inside.lock().unwrap().change(subscription, change, "customer.subscription.deleted");
    }

    /// As from Stripe's own dashboard.
    pub fn pay_back(&self, intent: &str, amount: i64) {
        let form =
            HashMap::from([("payment_intent".into(), intent.to_string()), ("amount".into(), amount.to_string())]);
        assert!(self.inside.lock().unwrap().create("refunds", &form).is_ok());
    }

    pub fn dispute(&self, intent: &str, status: &str) {
        let mut inside = self.inside.lock().unwrap();
        let object =
            json!({ "id": format!("dp_{intent}"), "object": "dispute", "payment_intent": intent, "status": status });
        let kind = if status == "needs_response" { "charge.dispute.created" } else { "charge.dispute.closed" };
        inside.event(kind, &object, None);
    }

    pub fn enable(&self, account: &str) {
        let change = |a: &mut Value| a["charges_enabled"] = json!(true);
        self.inside.lock().unwrap().change(account, change, "account.updated");
    }

    pub fn payout(&self, account: &str, amount: i64, outcome: &str) {
        let mut inside = self.inside.lock().unwrap();
        let id = inside.id("po");
        for status in ["pending", outcome] {
            let object = json!({ "id": id, "object": "payout", "amount": amount, "currency": "usd", "status": status });
            let kind = if status == "pending" { "payout.created".to_string() } else { format!("payout.{status}") };
            inside.event(&kind, &object, Some(account));
        }
    }

    /// Events that were not asked for yet.
    pub fn news(&self) -> Vec<Value> {
        let mut inside = self.inside.lock().unwrap();
        let news = inside.events[inside.told..].to_vec();
        inside.told = inside.events.len();
        news
    }
}

/// The header of a webhook.
pub fn signature(secret: &str, time_s: i64, body: &[u8]) -> String {
    let message = [format!("{time_s}.").as_bytes(), body].concat();
    format!("t={time_s},v1={}", hmac_hex(secret.as_bytes(), &message))
}

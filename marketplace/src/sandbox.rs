//! A Stripe that moves no money: the part of its HTTP that the marketplace uses, its signatures, idempotency keys and clock, pages to
//! pay at, and webhooks. For trying out how selling works before there is an account with Stripe, for the demo, and for tests.
//!
//! ```text
//! marketplace --/v1/...--> objects <--/pay, /connect-- somebody in a browser
//!                            |
//!                          events --signed webhooks--> marketplace
//! ```
//!
//! Everything is in memory and gone when it ends. Members of objects that begin with `_` are its own.

mod http;
mod make;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::clock::{Clock, DAY_MS, SECOND_MS};
use crate::config;
use crate::problem::{Problem, Result};
use crate::secret::hmac_hex;

/// Its secret key.
pub const KEY: &str = "sk_test_sandbox";
/// The secret of its webhooks.
pub const WEBHOOK_SECRET: &str = "whsec_sandbox";

/// What a month of a subscription is here.
const MONTH_S: i64 = 30 * DAY_MS / SECOND_MS;

/// All that it knows.
struct Inside {
    clock: Clock,
    /// How far its clock is ahead of `clock`: a month for each renewal.
    ahead_s: i64,
    made: u64,
    down: bool,
    /// key -> (path and body, answer)
    idempotency: HashMap<String, (String, Value)>,
    objects: BTreeMap<String, Value>,
    events: Vec<Value>,
    told: usize,
    /// Where people come from, for the addresses of its own pages.
    url: String,
    /// Whom what happens on its own pages is told to.
    webhooks: Option<String>,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct Sandbox(Arc<Mutex<Inside>>);

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sandbox({})", self.inside().url)
    }
}

impl Inside {
    fn now_s(&self) -> i64 {
        self.clock.now_ms() / SECOND_MS + self.ahead_s
    }

    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_test{:06}", self.made)
    }

    fn object(&self, id: &str) -> Result<Value> {
        self.objects.get(id).cloned().ok_or_else(|| Problem::not_found(format!("No such object: '{id}'")))
    }

    fn event(&mut self, kind: &str, object: &Value, account: Option<&str>) {
        let id = self.id("evt");
        let mut event = json!({ "id": id, "object": "event", "type": kind, "created": self.now_s(),
            "api_version": "2024-06-20", "livemode": false, "data": { "object": object } });
        if let Some(account) = account {
            event["account"] = json!(account);
        }
        self.events.push(event);
    }

    /// A payment that went through; its id.
    fn charge(&mut self, amount: i64, currency: &Value) -> String {
        let (intent, charge) = (self.id("pi"), self.id("ch"));
        let object = json!({ "id": charge, "object": "charge", "payment_intent": intent, "amount": amount,
            "amount_refunded": 0, "currency": currency });
        self.objects.insert(intent.clone(), object);
        intent
    }

    fn invoice(&mut self, subscription: &str, paid: bool) -> Result<()> {
        let s = self.object(subscription)?;
        let amount = number(&s, "/_unit") * number(&s, "/items/data/0/quantity");
        let intent = if paid { json!(self.charge(amount, &s["currency"])) } else { Value::Null };
        let invoice = json!({ "id": self.id("in"), "object": "invoice", "subscription": subscription,
            "currency": s["currency"], "amount_paid": if paid { amount } else { 0 }, "payment_intent": intent });
        self.event(if paid { "invoice.paid" } else { "invoice.payment_failed" }, &invoice, None);
        Ok(())
    }

    fn change(&mut self, id: &str, members: &[(&str, Value)], kind: &str) -> Result<Value> {
        let mut object = self.object(id)?;
        for (path, value) in members {
            if let Some(member) = object.pointer_mut(path) {
                *member = value.clone();
            }
        }
        self.objects.insert(id.to_string(), object.clone());
        self.event(kind, &object, None);
        Ok(object)
    }
}

impl Sandbox {
    /// One whose clock is `clock`; it is reached at `url`, see [`Sandbox::serve`].
    pub fn new(clock: Clock, url: &str) -> Self {
        let inside = Inside {
            clock,
            ahead_s: 0,
            made: 0,
            down: false,
            idempotency: HashMap::new(),
            objects: BTreeMap::new(),
            events: Vec::new(),
            told: 0,
            url: url.to_string(),
            webhooks: None,
        };
        Self(Arc::new(Mutex::new(inside)))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on webhooks of what happens on its pages go to this address, and `clock` is its clock.
    pub fn tells(&self, webhooks: &str, clock: Clock) {
        let mut inside = self.inside();
        (inside.webhooks, inside.clock) = (Some(webhooks.to_string()), clock);
    }

    /// What the marketplace must know of it.
    pub fn config(&self) -> config::Stripe {
        config::Stripe {
            secret_key: KEY.to_string(),
            webhook_secret: WEBHOOK_SECRET.to_string(),
            base_url: self.inside().url.clone(),
        }
    }

    /// While it is down, it answers 503.
    pub fn set_down(&self, down: bool) {
        self.inside().down = down;
    }

    /// How many objects there are whose id begins so.
    pub fn count(&self, prefix: &str) -> usize {
        self.inside().objects.keys().filter(|k| k.starts_with(prefix)).count()
    }

    /// The buyer pays. Gives the payment, or the subscription.
    ///
    /// *Errors*: 404 for a session that is not there, 409 for one that is not open any more.
    pub fn pay(&self, session: &str) -> Result<String> {
        let mut inside = self.inside();
        let mut s = inside.object(session)?;
        if s["status"] != "open" {
            return Err(Problem::conflict(format!("{session} is paid, or over")));
        }
        s["status"] = json!("complete");
        s["payment_status"] = json!("paid");
        let made = if s["mode"] == "payment" {
            let intent = inside.charge(number(&s, "/amount_total"), &s["currency"]);
            s["payment_intent"] = json!(intent);
            intent
        } else {
            let id = inside.id("sub");
            let trial = s["_trial"].is_string();
            let subscription = json!({ "id": id, "object": "subscription", "currency": s["currency"], "_unit": s["_unit"],
                "status": if trial { "trialing" } else { "active" }, "metadata": { "order_id": s["_order"] },
                "items": { "data": [{ "quantity": s["_seats"] }] }, "cancel_at_period_end": false,
                "current_period_end": inside.now_s() + MONTH_S });
            inside.objects.insert(id.clone(), subscription.clone());
            s["subscription"] = json!(id);
            inside.event("customer.subscription.created", &subscription, None);
            if !trial {
                inside.invoice(&id, true)?;
            }
            id
        };
        inside.objects.insert(session.to_string(), s.clone());
        inside.event("checkout.session.completed", &s, None);
        Ok(made)
    }

    /// The buyer never came back.
    pub fn abandon(&self, session: &str) -> Result<()> {
        let mut inside = self.inside();
        let s = inside.object(session)?;
        inside.event("checkout.session.expired", &s, None);
        Ok(())
    }

    /// A month is over.
    pub fn renew(&self, subscription: &str, paid: bool) -> Result<()> {
        let mut inside = self.inside();
        inside.ahead_s += MONTH_S;
        let end = inside.now_s() + MONTH_S;
        inside.invoice(subscription, paid)?;
        let status = if paid { "active" } else { "past_due" };
        let members = [("/status", json!(status)), ("/current_period_end", json!(end))];
        inside.change(subscription, &members, "customer.subscription.updated").map(drop)
    }

    /// Somebody bought seats, or gave some up.
    pub fn set_seats(&self, subscription: &str, seats: i64) -> Result<()> {
        let members = [("/items/data/0/quantity", json!(seats))];
        self.inside().change(subscription, &members, "customer.subscription.updated").map(drop)
    }

    /// The subscription is over.
    pub fn cancel(&self, subscription: &str) -> Result<()> {
        let members = [("/status", json!("canceled"))];
        self.inside().change(subscription, &members, "customer.subscription.deleted").map(drop)
    }

    /// Pays back, as from Stripe's own dashboard.
    pub fn pay_back(&self, intent: &str, amount: i64) -> Result<()> {
        let form = HashMap::from([
            ("payment_intent".to_string(), intent.to_string()),
            ("amount".to_string(), amount.to_string()),
        ]);
        self.inside().create("refunds", &form).map(drop)
    }

    /// The buyer's bank asks for the money back (`needs_response`), or has decided (`won`, `lost`).
    pub fn dispute(&self, intent: &str, status: &str) {
        let object =
            json!({ "id": format!("dp_{intent}"), "object": "dispute", "payment_intent": intent, "status": status });
        let kind = if status == "needs_response" { "charge.dispute.created" } else { "charge.dispute.closed" };
        self.inside().event(kind, &object, None);
    }

    /// An account may take charges from now on.
    pub fn enable(&self, account: &str) -> Result<()> {
        self.inside().change(account, &[("/charges_enabled", json!(true))], "account.updated").map(drop)
    }

    /// Money of a connected account goes to its bank; `outcome` is paid, failed or canceled.
    pub fn payout(&self, account: &str, amount: i64, outcome: &str) {
        let mut inside = self.inside();
        let id = inside.id("po");
        for status in ["pending", outcome] {
            let object = json!({ "id": id, "object": "payout", "amount": amount, "currency": "usd", "status": status });
            let kind = if status == "pending" { "payout.created".to_string() } else { format!("payout.{status}") };
            inside.event(&kind, &object, Some(account));
        }
    }

    /// Events that were not asked for yet.
    pub fn news(&self) -> Vec<Value> {
        let mut inside = self.inside();
        let news = inside.events.get(inside.told..).unwrap_or_default().to_vec();
        inside.told = inside.events.len();
        news
    }
}

/// The session of a checkout's address.
pub fn session_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// The header of a webhook.
pub fn signature(secret: &str, time_s: i64, body: &[u8]) -> String {
    let message = [format!("{time_s}.").as_bytes(), body].concat();
    format!("t={time_s},v1={}", hmac_hex(secret.as_bytes(), &message))
}

fn number(value: &Value, path: &str) -> i64 {
    value.pointer(path).and_then(Value::as_i64).unwrap_or_default()
}

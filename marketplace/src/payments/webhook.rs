//! What Stripe tells: checked, written down once, and everything that follows from it computed anew.
//!
//! Source: Stripe's rules for webhooks: the signature covers the raw body, 300 seconds of tolerance, events come more than once
//! and in any order.

use serde_json::Value;

use super::facts::{self, Payment};
use super::stripe::{number, text};
use crate::app::App;
use crate::clock::{DAY_MS, SECOND_MS};
use crate::db::Tx;
use crate::problem::{Problem, Result};
use crate::secret;

const TOLERANCE_S: i64 = 300;
/// What a server that was off for a weekend has missed.
const RECONCILED_MS: i64 = 3 * DAY_MS;

/// Takes one webhook: `signature` is its header `Stripe-Signature`, `body` just as it came.
///
/// *Errors*: 400 for a signature that does not hold; Stripe then tells it again.
pub async fn receive(app: &App, signature: Option<&str>, body: &[u8]) -> Result<()> {
    let stripe = app.stripe.as_ref().ok_or_else(|| Problem::not_found("selling is not set up on this server"))?;
    check(signature, body, stripe.webhook_secret(), app.clock.now_ms() / SECOND_MS)?;
    let event: Value = serde_json::from_slice(body).map_err(|e| Problem::invalid(format!("the event: {e}")))?;
    take(app, &event).await
}

fn check(signature: Option<&str>, body: &[u8], secret: &str, now_s: i64) -> Result<()> {
    let bad = |why: &str| Err(Problem::invalid(format!("the webhook's signature does not hold: {why}")));
    let Some(signature) = signature else { return bad("the header Stripe-Signature is missing") };
    let parts = || signature.split(',').filter_map(|p| p.trim().split_once('='));
    let time = parts().find(|(name, _)| *name == "t").map(|(_, t)| t);
    let Some(time) = time.filter(|t| t.bytes().all(|b| b.is_ascii_digit())) else { return bad("it has no time") };
    let Ok(seconds) = time.parse::<i64>() else { return bad("it has no time") };
    let mut message = format!("{time}.").into_bytes();
    message.extend_from_slice(body);
    // While a secret is changed there are two signatures; one that holds is enough.
    let holds = parts().any(|(name, v1)| name == "v1" && secret::hmac_fits(secret.as_bytes(), &message, v1));
    if !holds {
        return bad("another secret made it, or the body was changed");
    }
    if (now_s - seconds).abs() > TOLERANCE_S {
        return bad("it is older than 300 s, or this machine's clock is wrong");
    }
    Ok(())
}

/// Takes one event, however it came, once.
async fn take(app: &App, event: &Value) -> Result<()> {
    let missing = |what: &str| Problem::invalid(format!("the event has no {what}"));
    let id = text(event, "/id").ok_or_else(|| missing("id"))?;
    let kind = text(event, "/type").ok_or_else(|| missing("type"))?;
    let object = event.pointer("/data/object").ok_or_else(|| missing("data.object"))?;
    let stripe = app.stripe.as_ref().ok_or_else(|| Problem::not_found("selling is not set up on this server"))?;
    let known: Option<(String,)> =
        sqlx::query_as("SELECT id FROM stripe_events WHERE id = $1").bind(id).fetch_optional(app.db.read()).await?;
    if known.is_some() {
        return Ok(());
    }
    // Objects whose newest state counts are read from Stripe: events about them may be told late.
    let _reading = stripe.reading.lock().await;
    let current = match kind {
        k if k.starts_with("customer.subscription.") => read(app, "subscriptions", text(object, "/id")).await?,
        k if k.starts_with("invoice.") => read(app, "subscriptions", text(object, "/subscription")).await?,
        "account.updated" => read(app, "accounts", text(object, "/id")).await?,
        _ => None,
    };
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let first = sqlx::query(
        "INSERT INTO stripe_events (id, kind, created_at, received_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id)
    .bind(kind)
    .bind(number(event, "/created") * SECOND_MS)
    .bind(now)
    .execute(tx.on())
    .await?;
    if first.rows_affected() == 0 {
        return Ok(());
    }
    effect(app, &mut tx, kind, event, object, current.as_ref()).await?;
    tx.commit().await
}

async fn read(app: &App, what: &str, id: Option<&str>) -> Result<Option<Value>> {
    match (&app.stripe, id) {
        (Some(stripe), Some(id)) => stripe.get(&format!("{what}/{id}")).await.map(Some),
        _ => Ok(None),
    }
}

async fn effect(
    app: &App,
    tx: &mut Tx,
    kind: &str,
    event: &Value,
    object: &Value,
    current: Option<&Value>,
) -> Result<()> {
    match kind {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            facts::session(app, tx, object).await
        }
        "checkout.session.expired" => facts::expired(tx, object).await,
        "charge.refunded" => {
            let refunded_minor = number(object, "/amount_refunded");
            facts::payment(app, tx, text(object, "/payment_intent"), &Payment { refunded_minor, ..Payment::default() })
                .await
        }
        "charge.dispute.created" | "charge.dispute.updated" | "charge.dispute.closed" => {
            let dispute = match text(object, "/status") {
                Some("won" | "warning_closed") => "won",
                Some("lost") => "lost",
                _ => "open",
            };
            facts::payment(app, tx, text(object, "/payment_intent"), &Payment { dispute, ..Payment::default() }).await
        }
        "invoice.paid" => {
            if let Some(subscription) = current {
                facts::subscription(app, tx, subscription).await?;
            }
            facts::invoice(app, tx, object, current).await
        }
        "account.updated" => match current {
            Some(account) => facts::seller(tx, account).await,
            None => Ok(()),
        },
        "payout.created" | "payout.paid" | "payout.failed" | "payout.canceled" => {
            facts::payout(app, tx, event, object).await
        }
        _ => match current.filter(|_| kind.starts_with("customer.subscription.") || kind.starts_with("invoice.")) {
            Some(subscription) => facts::subscription(app, tx, subscription).await,
            None => Ok(()),
        },
    }
}

/// Reads the events of the last days from Stripe and takes those that no webhook told; gives how many there were.
pub async fn reconcile(app: &App) -> Result<usize> {
    let Some(stripe) = &app.stripe else { return Ok(0) };
    let since = (app.clock.now_ms() - RECONCILED_MS) / SECOND_MS;
    let (mut missed, mut after) = (0, String::new());
    loop {
        let page = stripe.get(&format!("events?limit=100&created[gte]={since}{after}")).await?;
        let events = page.pointer("/data").and_then(Value::as_array).cloned().unwrap_or_default();
        for event in &events {
            let id = text(event, "/id").unwrap_or_default();
            let known: Option<(String,)> = sqlx::query_as("SELECT id FROM stripe_events WHERE id = $1")
                .bind(id)
                .fetch_optional(app.db.read())
                .await?;
            if known.is_none() {
                take(app, event).await?;
                missed += 1;
            }
        }
        let last = events.last().and_then(|e| text(e, "/id"));
        match last.filter(|_| page.pointer("/has_more").and_then(Value::as_bool) == Some(true)) {
            Some(last) => after = format!("&starting_after={last}"),
            None => return Ok(missed),
        }
    }
}

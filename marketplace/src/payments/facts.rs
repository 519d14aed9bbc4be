//! Facts that Stripe told, and what follows from them.
//!
//! A payment's facts only grow (paid, paid back up to now, the state of a dispute), so their order does not matter; a
//! subscription is read anew each time. Entitlements, tiers and the ledger are functions of the facts, computed after each.

use serde_json::Value;

use super::ledger;
use super::seats;
use super::stripe::{number, text};
use crate::app::App;
use crate::clock::SECOND_MS;
use crate::db::Tx;
use crate::events::{Event, record};
use crate::problem::Result;

/// Something that was told about a payment; zero and empty say nothing.
#[derive(Debug, Default)]
pub(super) struct Payment<'a> {
    pub order: Option<&'a str>,
    pub paid_minor: i64,
    pub currency: &'a str,
    pub refunded_minor: i64,
    pub dispute: &'a str,
}

/// What is known of a payment before something new is.
struct Before {
    paid: i64,
    refunded: i64,
    dispute: String,
    order: Option<String>,
}

struct OrderRow {
    account: String,
    agent: Option<String>,
    tier: Option<String>,
    publisher: Option<String>,
}

fn stronger(old: &str, new: &str) -> String {
    let rank = |d: &str| match d {
        "open" => 1,
        "won" | "lost" => 2,
        _ => 0,
    };
    if rank(new) > rank(old) { new.to_string() } else { old.to_string() }
}

/// Takes something about the payment `intent`.
pub(super) async fn payment(app: &App, tx: &mut Tx, intent: Option<&str>, told: &Payment<'_>) -> Result<()> {
    let Some(intent) = intent else { return Ok(()) };
    let before = before(tx, intent).await?;
    let after_order = told.order.map(str::to_string).or(before.order.clone());
    let paid = before.paid.max(told.paid_minor);
    let refunded = before.refunded.max(told.refunded_minor);
    let dispute = stronger(&before.dispute, told.dispute);
    let currency = Some(told.currency).filter(|c| !c.is_empty());
    let now = app.clock.now_ms();
    sqlx::query(
        "UPDATE charges SET order_id = $1, paid_minor = $2, refunded_minor = $3, dispute = $4,
         currency = COALESCE($5, currency), paid_at = CASE WHEN $2 > 0 THEN COALESCE(paid_at, $6) ELSE paid_at END
         WHERE payment_intent = $7",
    )
    .bind(after_order.as_deref())
    .bind(paid)
    .bind(refunded)
    .bind(&dispute)
    .bind(currency)
    .bind(now)
    .bind(intent)
    .execute(tx.on())
    .await?;
    // Told before the order is known: it waits among the facts.
    let Some(order) = after_order else { return Ok(()) };
    let Some(row) = order_row(tx, &order).await? else { return Ok(()) };
    settle(app, tx, &order, &row).await?;
    ledger::settle(app, tx, intent).await?;
    // Told of a paid order: the sale, whenever each part came; and what was paid back since.
    let event = |name: &str, minor: i64| sale_event(app, &row, name, minor, told.currency, now);
    if paid > 0 && before.paid == 0 {
        record(tx, &event("purchased", paid)).await?;
    }
    let refunded_before = if before.paid == 0 { 0 } else { before.refunded };
    if paid > 0 && refunded > refunded_before {
        record(tx, &event("refunded", refunded_before - refunded)).await?;
    }
    Ok(())
}

async fn before(tx: &mut Tx, intent: &str) -> Result<Before> {
    sqlx::query("INSERT INTO charges (payment_intent) VALUES ($1) ON CONFLICT (payment_intent) DO NOTHING")
        .bind(intent)
        .execute(tx.on())
        .await?;
    // An update that changes nothing holds the row until the commit, on both databases.
    let (paid, refunded, dispute, order): (i64, i64, String, Option<String>) = sqlx::query_as(
        "UPDATE charges SET payment_intent = $1 WHERE payment_intent = $1
         RETURNING paid_minor, refunded_minor, dispute, order_id",
    )
    .bind(intent)
    .fetch_one(tx.on())
    .await?;
    Ok(Before { paid, refunded, dispute, order })
}

async fn order_row(tx: &mut Tx, order: &str) -> Result<Option<OrderRow>> {
    type Row = (String, Option<String>, Option<String>, Option<String>);
    let row: Option<Row> = sqlx::query_as("SELECT account_id, agent_id, tier, publisher_id FROM orders WHERE id = $1")
        .bind(order)
        .fetch_optional(tx.on())
        .await?;
    Ok(row.map(|(account, agent, tier, publisher)| OrderRow { account, agent, tier, publisher }))
}

fn sale_event(app: &App, row: &OrderRow, name: &str, minor: i64, currency: &str, now: i64) -> Event {
    let card = row.agent.as_ref().and_then(|id| app.catalogue.now().with_id(id));
    let event = Event {
        user: row.account.clone(),
        amount_minor: Some(minor),
        currency: if currency.is_empty() { "usd" } else { currency }.to_string(),
        tier: row.tier.clone().unwrap_or_default(),
        publisher: row.publisher.clone().unwrap_or_default(),
        ..Event::new(name, now)
    };
    match card {
        Some(card) => event.about(&card),
        None => event,
    }
}

/// A finished checkout.
pub(super) async fn session(app: &App, tx: &mut Tx, object: &Value) -> Result<()> {
    let Some(order) = text(object, "/client_reference_id") else { return Ok(()) };
    if text(object, "/mode") == Some("subscription") {
        // The subscription's own events tell the rest; they name the order too.
        return Ok(());
    }
    if text(object, "/payment_status") != Some("paid") {
        return Ok(());
    }
    let intent = text(object, "/payment_intent");
    sqlx::query("UPDATE orders SET payment_intent = $1 WHERE id = $2")
        .bind(intent)
        .bind(order)
        .execute(tx.on())
        .await?;
    let told = Payment {
        order: Some(order),
        paid_minor: number(object, "/amount_total"),
        currency: text(object, "/currency").unwrap_or("usd"),
        ..Payment::default()
    };
    payment(app, tx, intent, &told).await
}

/// A checkout that nobody finished.
pub(super) async fn expired(tx: &mut Tx, object: &Value) -> Result<()> {
    sqlx::query("UPDATE orders SET state = 'expired' WHERE id = $1 AND state = 'open'")
        .bind(text(object, "/client_reference_id").unwrap_or_default())
        .execute(tx.on())
        .await?;
    Ok(())
}

/// A month of a subscription that was paid.
pub(super) async fn invoice(app: &App, tx: &mut Tx, object: &Value, subscription: Option<&Value>) -> Result<()> {
    let order = subscription.and_then(|s| text(s, "/metadata/order_id"));
    let paid_minor = number(object, "/amount_paid");
    if paid_minor == 0 {
        return Ok(());
    }
    let told =
        Payment { order, paid_minor, currency: text(object, "/currency").unwrap_or("usd"), ..Payment::default() };
    // An invoice paid without a payment (from credit) is its own.
    payment(app, tx, text(object, "/payment_intent").or(text(object, "/id")), &told).await
}

/// A subscription as it is now.
pub(super) async fn subscription(app: &App, tx: &mut Tx, object: &Value) -> Result<()> {
    let (Some(id), Some(order)) = (text(object, "/id"), text(object, "/metadata/order_id")) else { return Ok(()) };
    let Some(row) = order_row(tx, order).await? else { return Ok(()) };
    let status = text(object, "/status").unwrap_or("incomplete");
    let seats = number(object, "/items/data/0/quantity").max(1);
    let old: Option<(String, i64)> = sqlx::query_as("SELECT status, seats FROM subscriptions WHERE id = $1")
        .bind(id)
        .fetch_optional(tx.on())
        .await?;
    let ends = object.pointer("/cancel_at_period_end").and_then(Value::as_bool).unwrap_or_default();
    sqlx::query(
        "INSERT INTO subscriptions (id, order_id, status, seats, period_end, as_of, ends)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (id) DO UPDATE SET status = $3, seats = $4, period_end = $5, as_of = $6, ends = $7",
    )
    .bind(id)
    .bind(order)
    .bind(status)
    .bind(seats)
    .bind(number(object, "/current_period_end") * SECOND_MS)
    .bind(app.clock.now_ms())
    .bind(i64::from(ends))
    .execute(tx.on())
    .await?;
    sqlx::query("UPDATE orders SET subscription = $1, seats = $2 WHERE id = $3")
        .bind(id)
        .bind(seats)
        .bind(order)
        .execute(tx.on())
        .await?;
    settle(app, tx, order, &row).await?;
    if old.as_ref() != Some(&(status.to_string(), seats)) {
        let event = sale_event(app, &row, "subscription_changed", 0, "", app.clock.now_ms());
        let event = Event { amount_minor: None, ..event }.with("status", status).with("seats", seats.to_string());
        record(tx, &event).await?;
    }
    Ok(())
}

/// Whether a seller can take money.
pub(super) async fn seller(tx: &mut Tx, object: &Value) -> Result<()> {
    let enabled = object.pointer("/charges_enabled").and_then(Value::as_bool).unwrap_or_default();
    sqlx::query("UPDATE accounts SET charges_enabled = $1 WHERE connect_account = $2")
        .bind(i64::from(enabled))
        .bind(text(object, "/id").unwrap_or_default())
        .execute(tx.on())
        .await?;
    Ok(())
}

/// Money on its way to a seller's bank. A payout that was paid can still fail; one that failed stays so.
pub(super) async fn payout(app: &App, tx: &mut Tx, event: &Value, object: &Value) -> Result<()> {
    let Some(id) = text(object, "/id") else { return Ok(()) };
    let publisher: Option<(String,)> = sqlx::query_as("SELECT id FROM accounts WHERE connect_account = $1")
        .bind(text(event, "/account").unwrap_or_default())
        .fetch_optional(tx.on())
        .await?;
    let Some((publisher,)) = publisher else { return Ok(()) };
    let state = match text(object, "/status") {
        Some("paid") => "paid",
        Some("failed" | "canceled") => "failed",
        _ => "pending",
    };
    let currency = text(object, "/currency").unwrap_or("usd");
    let now = app.clock.now_ms();
    let changed = sqlx::query(
        "INSERT INTO payouts (id, publisher_id, amount_minor, currency, state, as_of) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET state = $5, as_of = $6
         WHERE payouts.state <> $5 AND payouts.state <> 'failed' AND $5 <> 'pending'",
    )
    .bind(id)
    .bind(&publisher)
    .bind(number(object, "/amount"))
    .bind(currency)
    .bind(state)
    .bind(now)
    .execute(tx.on())
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(());
    }
    ledger::settle_payout(app, tx, id).await?;
    let event = Event {
        user: publisher.clone(),
        publisher,
        amount_minor: Some(number(object, "/amount")),
        currency: currency.to_string(),
        ..Event::new("payout", now)
    };
    record(tx, &event.with("status", state)).await
}

/// Computes what follows from the facts of an order: its state, and what its buyer may use.
async fn settle(app: &App, tx: &mut Tx, order: &str, row: &OrderRow) -> Result<()> {
    let state = order_state(tx, order).await?;
    sqlx::query("UPDATE orders SET state = $1 WHERE id = $2").bind(state).bind(order).execute(tx.on()).await?;
    if let Some(agent) = &row.agent {
        entitle(app, tx, &row.account, agent).await?;
    }
    if row.tier.is_some() {
        seats::settle(app, tx, &row.account).await?;
    }
    Ok(())
}

/// The state of an order by its payments and its subscription.
async fn order_state(tx: &mut Tx, order: &str) -> Result<&'static str> {
    let charges: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT paid_minor, refunded_minor, dispute FROM charges WHERE order_id = $1 AND paid_minor > 0 ORDER BY paid_at",
    )
    .bind(order)
    .fetch_all(tx.on())
    .await?;
    let disputed = |state: &str| charges.iter().any(|(_, _, d)| d == state);
    Ok(if disputed("lost") {
        "lost"
    } else if disputed("open") {
        "disputed"
    } else if !charges.is_empty() && charges.iter().all(|(paid, refunded, _)| refunded >= paid) {
        "refunded"
    } else if charges.is_empty() {
        "open"
    } else {
        "paid"
    })
}

/// What an account may do with an agent, by all its orders of it.
async fn entitle(app: &App, tx: &mut Tx, account: &str, agent: &str) -> Result<()> {
    let orders: Vec<(String, String, String, Option<String>)> = sqlx::query_as(
        "SELECT o.id, o.kind, o.state, s.status FROM orders o LEFT JOIN subscriptions s ON s.id = o.subscription
         WHERE o.account_id = $1 AND o.agent_id = $2",
    )
    .bind(account)
    .bind(agent)
    .fetch_all(tx.on())
    .await?;
    let worth = |kind: &str, state: &str, status: Option<&str>| match (kind, state, status) {
        (_, "lost" | "refunded", _) => 1,
        (_, "disputed", _) => 2,
        ("subscription", _, Some("active" | "trialing")) => 3,
        ("subscription", _, Some("past_due")) => 2,
        ("subscription", _, Some("canceled" | "unpaid" | "incomplete_expired")) => 1,
        ("subscription", _, _) => 0,
        (_, "paid", _) => 3,
        _ => 0,
    };
    let best = orders.iter().map(|(id, kind, state, status)| (worth(kind, state, status.as_deref()), id)).max();
    let Some((worth, order)) = best.filter(|(worth, _)| *worth > 0) else { return Ok(()) };
    let state = ["", "ended", "held", "active"].get(worth).copied().unwrap_or("ended");
    sqlx::query(
        "INSERT INTO entitlements (account_id, agent_id, order_id, state, changed_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account_id, agent_id) DO UPDATE SET order_id = $3, state = $4, changed_at = $5",
    )
    .bind(account)
    .bind(agent)
    .bind(order)
    .bind(state)
    .bind(app.clock.now_ms())
    .execute(tx.on())
    .await?;
    Ok(())
}

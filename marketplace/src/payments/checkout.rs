//! Buying and selling: checkout sessions, onboarding of sellers, refunds. Nothing here gives anybody anything: webhooks do.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use super::Stripe;
use super::stripe::text;
use crate::accounts::{Account, Caller, Limit, Role, audit};
use crate::app::App;
use crate::clock::{DAY_MS, SECOND_MS};
use crate::db;
use crate::problem::{Problem, Result};
use crate::search::{Card, money};

/// A checkout that is not finished is offered again so long.
const OPEN_MS: i64 = 1_800 * SECOND_MS;

/// Where to pay.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Checkout {
    /// The order's id.
    pub order: String,
    /// The page to pay at.
    pub url: String,
}

/// One try to buy something.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Order {
    /// Stable.
    pub id: String,
    /// The agent's id, if it was one.
    pub agent_id: Option<String>,
    /// The tier, if it was one.
    pub tier: Option<String>,
    /// one_time or subscription.
    pub kind: String,
    /// Of one, in the currency's smallest unit.
    pub amount_minor: i64,
    /// How many.
    pub seats: i64,
    /// ISO 4217, lower case.
    pub currency: String,
    /// open, paid, refunded, disputed, lost or expired.
    pub state: String,
    /// Of a subscription, as Stripe says: trialing, active, past_due, canceled, ...
    pub subscription: Option<String>,
    /// When a subscription that was cancelled ends; milliseconds since 1970.
    pub ends_at: Option<i64>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

impl Order {
    const SELECT: &'static str =
        "SELECT o.id, o.agent_id, o.tier, o.kind, o.amount_minor, o.seats, o.currency, o.state, o.created_at,
         s.status, CASE WHEN s.ends = 1 THEN s.period_end END AS ends_at
         FROM orders o LEFT JOIN subscriptions s ON s.id = o.subscription";

    /// What is paid: for people.
    pub fn shown(&self) -> String {
        let times = if self.seats > 1 { format!(" for {} seats", self.seats) } else { String::new() };
        let monthly = if self.kind == "subscription" { " a month" } else { "" };
        format!("{}{times}{monthly}", money(self.amount_minor * self.seats, &self.currency))
    }

    /// Goes on until somebody cancels it.
    pub fn renews(&self) -> bool {
        let alive = self.subscription.as_deref().is_some_and(|s| ["active", "trialing", "past_due"].contains(&s));
        alive && self.ends_at.is_none()
    }

    fn of(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: db::text(row, "id")?,
            agent_id: db::text_or_null(row, "agent_id")?,
            tier: db::text_or_null(row, "tier")?,
            kind: db::text(row, "kind")?,
            amount_minor: db::number(row, "amount_minor")?,
            seats: db::number(row, "seats")?,
            currency: db::text(row, "currency")?,
            state: db::text(row, "state")?,
            subscription: db::text_or_null(row, "status")?,
            ends_at: db::number_or_null(row, "ends_at")?,
            created_at: db::number(row, "created_at")?,
        })
    }
}

fn stripe(app: &App) -> Result<&Stripe> {
    app.stripe.as_ref().ok_or_else(|| Problem::unavailable("selling is not set up on this server"))
}

/// What is about to be bought.
struct Purchase<'a> {
    agent: Option<&'a Card>,
    tier: Option<&'a str>,
    price_id: Option<String>,
    kind: &'a str,
    amount_minor: i64,
    currency: &'a str,
    seats: i64,
    trial_days: i64,
    /// (account, Connect account) of the seller.
    seller: Option<(String, String)>,
}

/// Begins to buy an agent; gives where to pay.
///
/// *Errors*: 409 for what is free, the buyer's own, or bought already.
pub async fn buy(app: &App, caller: &Caller, card: &Card) -> Result<Checkout> {
    caller.needs_session()?;
    stripe(app)?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    if super::check_entitled(app, &caller.account, card).await.is_ok() {
        return Err(Problem::conflict(format!("you can install {} already", card.full_name())));
    }
    let row: Option<(String, String, i64, String, i64)> = sqlx::query_as(
        "SELECT id, kind, amount_minor, currency, trial_days FROM prices WHERE agent_id = $1 AND active = 1",
    )
    .bind(&card.id)
    .fetch_optional(app.db.read())
    .await?;
    let (price_id, kind, amount_minor, currency, trial_days) =
        row.ok_or_else(|| Problem::conflict(format!("{} has no price", card.full_name())))?;
    let seller: Option<(String,)> =
        sqlx::query_as("SELECT connect_account FROM accounts WHERE id = $1 AND charges_enabled = 1")
            .bind(&card.publisher_id)
            .fetch_optional(app.db.read())
            .await?;
    let (connect,) = seller.ok_or_else(|| Problem::conflict("its publisher cannot take money at the moment"))?;
    let sale = Purchase {
        agent: Some(card),
        tier: None,
        price_id: Some(price_id),
        kind: &kind,
        amount_minor,
        currency: &currency,
        seats: 1,
        trial_days,
        seller: Some((card.publisher_id.clone(), connect)),
    };
    checkout(app, &caller.account, &sale).await
}

/// Begins to buy seats of a tier; gives where to pay.
pub async fn buy_seats(app: &App, caller: &Caller, tier: &str, seats: i64) -> Result<Checkout> {
    caller.needs_session()?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    let each = match tier {
        "team" => app.config.seats.team_minor,
        "enterprise" => app.config.seats.enterprise_minor,
        other => return Err(Problem::invalid(format!("tier is '{other}'; use team or enterprise"))),
    };
    if !(1..=1_000).contains(&seats) {
        return Err(Problem::invalid(format!("seats is {seats}; use 1 to 1000")));
    }
    let sale = Purchase {
        agent: None,
        tier: Some(tier),
        price_id: None,
        kind: "subscription",
        amount_minor: each,
        currency: "usd",
        seats,
        trial_days: 0,
        seller: None,
    };
    checkout(app, &caller.account, &sale).await
}

async fn checkout(app: &App, buyer: &Account, sale: &Purchase<'_>) -> Result<Checkout> {
    let order = open_order(app, buyer, sale).await?;
    let form = form(app, buyer, sale, &order);
    let session = stripe(app)?.post("checkout/sessions", &form, &format!("order-{order}-checkout")).await?;
    let missing = || Problem::unavailable("Stripe answered no checkout; try again in a minute");
    let (id, url) = (text(&session, "/id").ok_or_else(missing)?, text(&session, "/url").ok_or_else(missing)?);
    let mut tx = app.db.begin().await?;
    sqlx::query("UPDATE orders SET checkout_session = $1 WHERE id = $2").bind(id).bind(&order).execute(tx.on()).await?;
    tx.commit().await?;
    Ok(Checkout { order, url: url.to_string() })
}

/// An open order for the same, or a new one: clicking twice buys once.
async fn open_order(app: &App, buyer: &Account, sale: &Purchase<'_>) -> Result<String> {
    let now = app.clock.now_ms();
    let fee = sale.amount_minor * sale.seats * app.config.fee_basis_points / 10_000;
    let mut tx = app.db.begin().await?;
    let open: Option<(String,)> = sqlx::query_as(
        "SELECT id FROM orders WHERE account_id = $1 AND state = 'open' AND created_at > $2 AND seats = $3
         AND COALESCE(price_id, tier) = $4 ORDER BY id DESC LIMIT 1",
    )
    .bind(&buyer.id)
    .bind(now - OPEN_MS)
    .bind(sale.seats)
    .bind(sale.price_id.as_deref().or(sale.tier))
    .fetch_optional(tx.on())
    .await?;
    if let Some((id,)) = open {
        return Ok(id);
    }
    let id = db::new_id();
    sqlx::query(
        "INSERT INTO orders (id, account_id, agent_id, price_id, tier, seats, kind, amount_minor, currency, publisher_id,
         fee_minor, state, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'open', $12)",
    )
    .bind(&id)
    .bind(&buyer.id)
    .bind(sale.agent.map(|a| a.id.clone()))
    .bind(sale.price_id.clone())
    .bind(sale.tier)
    .bind(sale.seats)
    .bind(sale.kind)
    .bind(sale.amount_minor)
    .bind(sale.currency)
    .bind(sale.seller.as_ref().map(|(account, _)| account.clone()))
    .bind(if sale.seller.is_some() { fee } else { 0 })
    .bind(now)
    .execute(tx.on())
    .await?;
    audit::write(&mut tx, now, &buyer.id, "order.begun", &id, "").await?;
    tx.commit().await?;
    Ok(id)
}

fn form(app: &App, buyer: &Account, sale: &Purchase<'_>, order: &str) -> Vec<(&'static str, String)> {
    let url = app.public_url();
    let subscription = sale.kind == "subscription";
    let product = match (sale.agent, sale.tier) {
        (Some(card), _) => card.title.clone(),
        (None, tier) => format!("Seat of the plan {}", tier.unwrap_or_default()),
    };
    let back = sale.agent.map_or_else(|| format!("{url}/account/plan"), |a| format!("{url}/agents/{}", a.full_name()));
    let mut form = vec![
        ("mode", if subscription { "subscription" } else { "payment" }.to_string()),
        ("client_reference_id", order.to_string()),
        ("customer_email", buyer.email.clone()),
        ("success_url", format!("{url}/checkout/{order}")),
        ("cancel_url", back),
        ("line_items[0][quantity]", sale.seats.to_string()),
        ("line_items[0][price_data][currency]", sale.currency.to_string()),
        ("line_items[0][price_data][unit_amount]", sale.amount_minor.to_string()),
        ("line_items[0][price_data][product_data][name]", product),
    ];
    let fee = sale.amount_minor * app.config.fee_basis_points / 10_000;
    if subscription {
        form.push(("line_items[0][price_data][recurring][interval]", "month".to_string()));
        form.push(("subscription_data[metadata][order_id]", order.to_string()));
        if sale.trial_days > 0 {
            form.push(("subscription_data[trial_period_days]", sale.trial_days.to_string()));
        }
        if let Some((_, connect)) = &sale.seller {
            let percent = format!("{}.{:02}", app.config.fee_basis_points / 100, app.config.fee_basis_points % 100);
            form.push(("subscription_data[application_fee_percent]", percent));
            form.push(("subscription_data[transfer_data][destination]", connect.clone()));
        }
    } else {
        form.push(("payment_intent_data[metadata][order_id]", order.to_string()));
        if let Some((_, connect)) = &sale.seller {
            form.push(("payment_intent_data[application_fee_amount]", fee.to_string()));
            form.push(("payment_intent_data[transfer_data][destination]", connect.clone()));
        }
    }
    form
}

/// The caller's orders, newest first.
pub async fn orders(app: &App, caller: &Caller) -> Result<Vec<Order>> {
    let sql = format!("{} WHERE o.account_id = $1 ORDER BY o.id DESC LIMIT 200", Order::SELECT);
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&caller.account.id).fetch_all(app.db.read()).await?;
    rows.iter().map(Order::of).collect()
}

/// One order of the caller's.
pub async fn order(app: &App, caller: &Caller, id: &str) -> Result<Order> {
    let sql = format!("{} WHERE o.account_id = $1 AND o.id = $2", Order::SELECT);
    let row =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&caller.account.id).bind(id).fetch_optional(app.db.read()).await?;
    Order::of(&row.ok_or_else(|| Problem::not_found(format!("you have no order {id}")))?)
}

/// Cancels a subscription of the caller's: it ends with what is paid, as Stripe will tell.
///
/// *Errors*: 404 for what is not the caller's, or is over or cancelled already.
pub async fn cancel(app: &App, caller: &Caller, order: &str) -> Result<()> {
    caller.needs_session()?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    let row: Option<(String,)> = sqlx::query_as(
        "SELECT s.id FROM orders o JOIN subscriptions s ON s.id = o.subscription
         WHERE o.id = $1 AND o.account_id = $2 AND s.ends = 0 AND s.status IN ('active', 'trialing', 'past_due')",
    )
    .bind(order)
    .bind(&caller.account.id)
    .fetch_optional(app.db.read())
    .await?;
    let (id,) = row.ok_or_else(|| Problem::not_found(format!("no subscription {order} of yours that goes on")))?;
    let form = [("cancel_at_period_end", "true".to_string())];
    stripe(app)?.post(&format!("subscriptions/{id}"), &form, &format!("order-{order}-cancel")).await?;
    let mut tx = app.db.begin().await?;
    audit::write(&mut tx, app.clock.now_ms(), &caller.account.id, "order.cancelled", order, &id).await?;
    tx.commit().await
}

/// One payment for an agent of the caller's.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Sale {
    /// The order's id.
    pub order: String,
    /// `namespace/name`.
    pub agent: String,
    /// In the currency's smallest unit.
    pub paid_minor: i64,
    /// In the currency's smallest unit.
    pub refunded_minor: i64,
    /// ISO 4217, lower case.
    pub currency: String,
    /// The order's state.
    pub state: String,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// The newest payments for the caller's agents.
pub async fn sales(app: &App, caller: &Caller) -> Result<Vec<Sale>> {
    let rows = sqlx::query(
        "SELECT o.id, g.namespace, g.name, c.paid_minor, c.refunded_minor, c.currency, o.state, c.paid_at
         FROM charges c JOIN orders o ON o.id = c.order_id JOIN agents g ON g.id = o.agent_id
         WHERE o.publisher_id = $1 AND c.paid_minor > 0 ORDER BY c.paid_at DESC, c.payment_intent LIMIT 100",
    )
    .bind(&caller.account.id)
    .fetch_all(app.db.read())
    .await?;
    let sale = |row: &AnyRow| {
        Ok(Sale {
            order: db::text(row, "id")?,
            agent: format!("{}/{}", db::text(row, "namespace")?, db::text(row, "name")?),
            paid_minor: db::number(row, "paid_minor")?,
            refunded_minor: db::number(row, "refunded_minor")?,
            currency: db::text(row, "currency")?,
            state: db::text(row, "state")?,
            at: db::number(row, "paid_at")?,
        })
    };
    rows.iter().map(sale).collect()
}

/// Begins to connect an account that sales are paid to; gives where to go on.
pub async fn onboard(app: &App, caller: &Caller) -> Result<String> {
    caller.needs_session()?;
    caller.needs_role(Role::Publisher)?;
    let (stripe, id) = (stripe(app)?, &caller.account.id);
    let connect = match &caller.account.connect_account {
        Some(connect) => connect.clone(),
        None => {
            let form = [("type", "express".to_string()), ("email", caller.account.email.clone())];
            let made = stripe.post("accounts", &form, &format!("account-{id}-connect")).await?;
            let connect = text(&made, "/id").ok_or_else(|| Problem::unavailable("Stripe answered no account"))?;
            let mut tx = app.db.begin().await?;
            sqlx::query("UPDATE accounts SET connect_account = $1 WHERE id = $2")
                .bind(connect)
                .bind(id)
                .execute(tx.on())
                .await?;
            audit::write(&mut tx, app.clock.now_ms(), id, "payouts.connected", connect, "").await?;
            tx.commit().await?;
            connect.to_string()
        }
    };
    let back = format!("{}/dashboard", app.public_url());
    let form = [
        ("account", connect.clone()),
        ("refresh_url", back.clone()),
        ("return_url", back),
        ("type", "account_onboarding".to_string()),
    ];
    // Links are good for minutes: a new one each time.
    let key = format!("link-{connect}-{}", app.clock.now_ms());
    let link = stripe.post("account_links", &form, &key).await?;
    text(&link, "/url").map(str::to_string).ok_or_else(|| Problem::unavailable("Stripe answered no link"))
}

/// Pays back an order, or `amount_minor` of it; its publisher and moderators may. The webhook tells what came of it.
pub async fn refund(app: &App, caller: &Caller, order: &str, amount_minor: Option<i64>) -> Result<()> {
    caller.needs_session()?;
    app.limits.take(Limit::Write, &caller.account.id)?;
    let row: Option<(Option<String>, String, i64, i64, i64)> = sqlx::query_as(
        "SELECT o.publisher_id, c.payment_intent, c.paid_minor, c.refunded_minor, o.created_at
         FROM orders o JOIN charges c ON c.order_id = o.id WHERE o.id = $1 ORDER BY c.paid_at DESC LIMIT 1",
    )
    .bind(order)
    .fetch_optional(app.db.read())
    .await?;
    let mine = |p: &Option<String>| p.as_deref() == Some(&caller.account.id) || caller.account.role >= Role::Moderator;
    let (_, intent, paid, refunded, created) = row
        .filter(|(publisher, ..)| mine(publisher))
        .ok_or_else(|| Problem::not_found(format!("no paid order {order} of yours")))?;
    let left = paid - refunded;
    let amount = amount_minor.unwrap_or(left);
    if !(1..=left).contains(&amount) {
        return Err(Problem::invalid(format!("amount_minor is {amount}; {left} can be paid back")));
    }
    if app.clock.now_ms() - created > 180 * DAY_MS {
        return Err(Problem::conflict("the order is older than 180 days; pay it back outside the marketplace"));
    }
    let form = [
        ("payment_intent", intent),
        ("amount", amount.to_string()),
        ("reverse_transfer", "true".to_string()),
        ("refund_application_fee", "true".to_string()),
    ];
    // By what was paid back before: asking twice pays back once.
    stripe(app)?.post("refunds", &form, &format!("order-{order}-refund-{refunded}-{amount}")).await?;
    let mut tx = app.db.begin().await?;
    let detail = format!("{amount}");
    audit::write(&mut tx, app.clock.now_ms(), &caller.account.id, "order.refund", order, &detail).await?;
    tx.commit().await
}

//! Prices, and who may install what is not free.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::{Account, Caller, Limit, audit};
use crate::app::App;
use crate::catalogue::agent::owned;
use crate::db;
use crate::problem::{Problem, Result};
use crate::search::Card;

/// From 50 cents, as Stripe takes no less, to 10,000.
const AMOUNT_MIN: i64 = 50;
const AMOUNT_MAX: i64 = 1_000_000;
const CURRENCIES: [&str; 4] = ["usd", "eur", "gbp", "jpy"];

/// A price to be set.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct NewPrice {
    /// free, one_time or subscription (a month).
    pub kind: String,
    /// In the currency's smallest unit.
    #[serde(default)]
    pub amount_minor: i64,
    /// usd, eur, gbp or jpy.
    #[serde(default)]
    pub currency: String,
    /// Of a subscription: days before the first payment, at most 90.
    #[serde(default)]
    pub trial_days: i64,
}

fn check(new: &NewPrice) -> Result<()> {
    match new.kind.as_str() {
        "free" => return Ok(()),
        "one_time" | "subscription" => {}
        other => return Err(Problem::invalid(format!("kind is '{other}'; use free, one_time or subscription"))),
    }
    if !CURRENCIES.contains(&new.currency.as_str()) {
        return Err(Problem::invalid(format!("currency is '{}'; use usd, eur, gbp or jpy", new.currency)));
    }
    if !(AMOUNT_MIN..=AMOUNT_MAX).contains(&new.amount_minor) {
        return Err(Problem::invalid(format!(
            "amount_minor is {}; use {AMOUNT_MIN} to {AMOUNT_MAX}, in the currency's smallest unit",
            new.amount_minor
        )));
    }
    if !(0..=90).contains(&new.trial_days) || (new.trial_days > 0 && new.kind != "subscription") {
        return Err(Problem::invalid("trial_days is for subscriptions, 0 to 90"));
    }
    Ok(())
}

/// Sets what an agent costs from now on. Who bought it at another price keeps it.
pub async fn set(app: &App, caller: &Caller, namespace: &str, name: &str, new: &NewPrice) -> Result<()> {
    app.limits.take(Limit::Write, &caller.account.id)?;
    check(new)?;
    let free = new.kind == "free";
    if !free && !caller.account.can_sell {
        return Err(Problem::forbidden("connect an account for payouts first, under /dashboard"));
    }
    let now = app.clock.now_ms();
    let mut tx = app.db.begin().await?;
    let agent = owned(app, &mut tx, caller, namespace, name).await?;
    sqlx::query("UPDATE prices SET active = 0 WHERE agent_id = $1").bind(&agent).execute(tx.on()).await?;
    let (amount, currency) = if free { (0, "usd") } else { (new.amount_minor, new.currency.as_str()) };
    if !free {
        sqlx::query(
            "INSERT INTO prices (id, agent_id, kind, amount_minor, currency, trial_days, active, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, 1, $7)",
        )
        .bind(db::new_id())
        .bind(&agent)
        .bind(&new.kind)
        .bind(amount)
        .bind(currency)
        .bind(new.trial_days)
        .bind(now)
        .execute(tx.on())
        .await?;
    }
    sqlx::query(
        "UPDATE agents SET price_kind = $1, price_minor = $2, price_currency = $3, changed_at = $4 WHERE id = $5",
    )
    .bind(&new.kind)
    .bind(amount)
    .bind(currency)
    .bind(now)
    .bind(&agent)
    .execute(tx.on())
    .await?;
    let detail = format!("{} {amount} {currency}", new.kind);
    audit::write(&mut tx, now, &caller.account.id, "price.set", &format!("{namespace}/{name}"), &detail).await?;
    tx.commit().await?;
    app.catalogue.refresh().await?;
    Ok(())
}

/// May the account install the agent?
///
/// *Errors*: 402 with where to buy it.
pub async fn check_entitled(app: &App, account: &Account, card: &Card) -> Result<()> {
    if card.price.kind == "free" || card.publisher_id == account.id {
        return Ok(());
    }
    let entitled: Option<(String,)> =
        sqlx::query_as("SELECT state FROM entitlements WHERE account_id = $1 AND agent_id = $2")
            .bind(&account.id)
            .bind(&card.id)
            .fetch_optional(app.db.read())
            .await?;
    let name = card.full_name();
    match entitled.as_ref().map(|(state,)| state.as_str()) {
        Some("active") => Ok(()),
        Some("held") => Err(Problem::payment_required(format!(
            "the payment for {name} is disputed or overdue; it can be installed once that is settled"
        ))),
        _ => Err(Problem::payment_required(format!(
            "{name} costs {}; buy it at {}/agents/{name}",
            card.price.shown(),
            app.public_url()
        ))),
    }
}

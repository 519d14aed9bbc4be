//! The ledger: double entry, only ever appended to. The lines of an entry have sum zero in their currency.
//!
//! What a payment's lines must add up to is a function of its facts; an entry is what is missing from that. So the balances
//! are the same in whatever order the facts came. Money that came in and is still there is positive in `cash`; what is owed
//! for it is negative.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::{Caller, Role};
use crate::app::App;
use crate::db::Tx;
use crate::problem::Result;

/// Appends what is missing of the payment `intent`.
pub(super) async fn settle(app: &App, tx: &mut Tx, intent: &str) -> Result<()> {
    type Row = (i64, i64, String, String, Option<String>, i64, i64, i64, String);
    let row: Option<Row> = sqlx::query_as(
        "SELECT c.paid_minor, c.refunded_minor, c.dispute, c.currency, o.publisher_id, o.fee_minor, o.amount_minor,
         o.seats, o.id FROM charges c JOIN orders o ON o.id = c.order_id WHERE c.payment_intent = $1",
    )
    .bind(intent)
    .fetch_optional(tx.on())
    .await?;
    let Some((paid, refunded, dispute, currency, publisher, fee, price, seats, order)) = row else { return Ok(()) };
    if paid == 0 {
        return Ok(());
    }
    // A part of a price has that part of its fee.
    let whole = (price * seats).max(1);
    let fee_of = |minor: i64| fee * minor / whole;
    let disputed = if ["open", "lost"].contains(&dispute.as_str()) { paid - refunded } else { 0 };
    let fee = fee_of(paid) - fee_of(refunded) - fee_of(disputed);
    let target: Vec<(String, i64)> = match publisher {
        Some(id) => vec![
            ("cash".to_string(), paid - refunded - disputed),
            (format!("publisher:{id}:gross"), -paid),
            (format!("publisher:{id}:fees"), fee),
            (format!("publisher:{id}:refunds"), refunded),
            (format!("publisher:{id}:disputes"), disputed),
            ("platform:fees".to_string(), -fee),
        ],
        None => vec![
            ("cash".to_string(), paid - refunded - disputed),
            ("platform:seats".to_string(), refunded + disputed - paid),
        ],
    };
    append(app, tx, &format!("payment:{intent}"), &currency, Some(&order), target).await
}

/// Appends what is missing of a payout.
pub(super) async fn settle_payout(app: &App, tx: &mut Tx, payout: &str) -> Result<()> {
    let (publisher, amount, currency, state): (String, i64, String, String) =
        sqlx::query_as("SELECT publisher_id, amount_minor, currency, state FROM payouts WHERE id = $1")
            .bind(payout)
            .fetch_one(tx.on())
            .await?;
    let gone = if state == "failed" { 0 } else { amount };
    let target = vec![("cash".to_string(), -gone), (format!("publisher:{publisher}:payouts"), gone)];
    append(app, tx, &format!("payout:{payout}"), &currency, None, target).await
}

/// Appends the difference of `target` and what the entries of `subject` add up to.
async fn append(
    app: &App,
    tx: &mut Tx,
    subject: &str,
    currency: &str,
    order: Option<&str>,
    target: Vec<(String, i64)>,
) -> Result<()> {
    let posted: Vec<(String, i64)> = sqlx::query_as(
        "SELECT account, CAST(sum(amount_minor) AS BIGINT) FROM ledger WHERE entry = $1 OR entry LIKE $2 GROUP BY account",
    )
    .bind(subject)
    .bind(format!("{subject}#%"))
    .fetch_all(tx.on())
    .await?;
    let posted: BTreeMap<String, i64> = posted.into_iter().collect();
    let (entries,): (i64,) =
        sqlx::query_as("SELECT count(DISTINCT entry) FROM ledger WHERE entry = $1 OR entry LIKE $2")
            .bind(subject)
            .bind(format!("{subject}#%"))
            .fetch_one(tx.on())
            .await?;
    let missing = target.into_iter().map(|(a, n)| (n - posted.get(&a).copied().unwrap_or_default(), a));
    let missing: Vec<(i64, String)> = missing.filter(|(n, _)| *n != 0).collect();
    debug_assert_eq!(missing.iter().map(|(n, _)| n).sum::<i64>(), 0, "an entry of {subject} has a sum");
    for (line, (amount, account)) in missing.into_iter().enumerate() {
        sqlx::query(
            "INSERT INTO ledger (entry, line, at, account, amount_minor, currency, order_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(format!("{subject}#{entries}"))
        .bind(line as i64)
        .bind(app.clock.now_ms())
        .bind(account)
        .bind(amount)
        .bind(currency)
        .bind(order)
        .execute(tx.on())
        .await?;
    }
    Ok(())
}

/// The balance of each account and currency.
pub async fn balances(app: &App) -> Result<BTreeMap<(String, String), i64>> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT account, currency, CAST(sum(amount_minor) AS BIGINT) FROM ledger GROUP BY account, currency",
    )
    .fetch_all(app.db.read())
    .await?;
    Ok(rows.into_iter().map(|(account, currency, amount)| ((account, currency), amount)).collect())
}

/// What a publisher earned in one currency, minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Revenue {
    /// ISO 4217, lower case.
    pub currency: String,
    /// What buyers paid.
    pub gross_minor: i64,
    /// What the platform keeps of it.
    pub fees_minor: i64,
    /// What was paid back.
    pub refunds_minor: i64,
    /// What buyers dispute, or won back.
    pub disputes_minor: i64,
    /// What is left: gross less fees, refunds and disputes.
    pub net_minor: i64,
    /// What went to the bank or is on its way.
    pub paid_out_minor: i64,
    /// What the next payouts will bring.
    pub next_payout_minor: i64,
    /// What active subscriptions pay a month, before fees.
    pub mrr_minor: i64,
}

/// What the caller earned, by currency.
pub async fn revenue(app: &App, caller: &Caller) -> Result<Vec<Revenue>> {
    caller.needs_session()?;
    caller.needs_role(Role::Publisher)?;
    let prefix = format!("publisher:{}:", caller.account.id);
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT account, currency, CAST(sum(amount_minor) AS BIGINT) FROM ledger WHERE account LIKE $1
         GROUP BY account, currency",
    )
    .bind(format!("{prefix}%"))
    .fetch_all(app.db.read())
    .await?;
    let mut all: BTreeMap<String, Revenue> = BTreeMap::new();
    for (account, currency, amount) in rows {
        let one = all.entry(currency.clone()).or_insert_with(|| Revenue { currency, ..Revenue::default() });
        match account.strip_prefix(&prefix) {
            Some("gross") => one.gross_minor = -amount,
            Some("fees") => one.fees_minor = amount,
            Some("refunds") => one.refunds_minor = amount,
            Some("disputes") => one.disputes_minor = amount,
            Some("payouts") => one.paid_out_minor = amount,
            _ => {}
        }
    }
    let monthly: Vec<(String, i64)> = sqlx::query_as(
        "SELECT o.currency, CAST(sum(o.amount_minor) AS BIGINT) FROM subscriptions s JOIN orders o ON o.id = s.order_id
         WHERE o.publisher_id = $1 AND s.status IN ('active', 'past_due') GROUP BY o.currency",
    )
    .bind(&caller.account.id)
    .fetch_all(app.db.read())
    .await?;
    for (currency, amount) in monthly {
        all.entry(currency.clone()).or_insert_with(|| Revenue { currency, ..Revenue::default() }).mrr_minor = amount;
    }
    for one in all.values_mut() {
        one.net_minor = one.gross_minor - one.fees_minor - one.refunds_minor - one.disputes_minor;
        one.next_payout_minor = one.net_minor - one.paid_out_minor;
    }
    Ok(all.into_values().collect())
}

//! Money.

use crate::accounts::Account;
use crate::app::App;
use crate::config;
use crate::problem::{Problem, Result};
use crate::search::Card;

/// Stripe.
#[derive(Debug)]
pub struct Stripe {}

impl Stripe {
    /// x
    pub fn new(_config: &config::Stripe) -> Result<Self> {
        Ok(Self {})
    }
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
    match entitled {
        Some((state,)) if state == "active" => Ok(()),
        Some((state,)) if state == "held" => Err(Problem::payment_required(format!(
            "the payment for {} is disputed or overdue; it can be installed once that is settled",
            card.full_name()
        ))),
        _ => Err(Problem::payment_required(format!(
            "{} costs {}; buy it at {}/agents/{}",
            card.full_name(),
            card.price.shown(),
            app.public_url(),
            card.full_name()
        ))),
    }
}

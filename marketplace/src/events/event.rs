//! What an event says, and the row that it becomes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::db::{self, Tx};
use crate::problem::Result;

/// One event; what is empty is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Unique.
    pub id: String,
    /// Milliseconds since 1970.
    pub at: i64,
    /// searched, viewed, installed, upgraded, rolled_back, uninstalled, reviewed, purchased, refunded, ...
    pub name: String,
    /// Whose doing.
    pub user: String,
    /// The visitor's address hashed, where nobody is signed in.
    pub anonymous: String,
    /// `namespace/name`.
    pub agent: String,
    /// The agent's version.
    pub version: String,
    /// Who published the agent.
    pub publisher: String,
    /// The agent's first category.
    pub category: String,
    /// What was searched for.
    pub search_text: String,
    /// What was paid, minor units; negative for what was paid back.
    pub amount_minor: Option<i64>,
    /// Its currency.
    pub currency: String,
    /// A review's stars.
    pub stars: Option<i64>,
    /// Where the visitor came from.
    pub referrer: String,
    /// The account's tier.
    pub tier: String,
    /// Anything else.
    pub properties: BTreeMap<String, String>,
}

impl Event {
    /// An event that happens now.
    pub fn new(name: &str, now: i64) -> Self {
        Self { id: uuid::Uuid::now_v7().to_string(), at: now, name: name.to_string(), ..Self::default() }
    }

    /// Whose doing it was.
    pub fn by(mut self, account: &crate::accounts::Account) -> Self {
        self.user.clone_from(&account.id);
        self.tier.clone_from(&account.tier);
        self
    }

    /// What it was about.
    pub fn about(mut self, card: &crate::search::Card) -> Self {
        self.agent = card.full_name();
        self.publisher.clone_from(&card.publisher_id);
        self.category = card.categories.first().cloned().unwrap_or_default();
        self
    }

    /// Something else that is known of it.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.properties.insert(key.to_string(), value.into());
        self
    }
}

/// Writes `event` as part of `tx`.
pub async fn record(tx: &mut Tx, event: &Event) -> Result<()> {
    sqlx::query("INSERT INTO outbox (id, event) VALUES ($1, $2)")
        .bind(db::new_id())
        .bind(serde_json::to_string(event)?)
        .execute(tx.on())
        .await?;
    Ok(())
}

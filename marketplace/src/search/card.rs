//! What lists show of an agent.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use super::text::words;
use crate::catalogue::CATEGORIES;
use crate::db;
use crate::problem::Result;

/// What an agent costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Price {
    /// free, one_time or subscription (a month).
    pub kind: String,
    /// In the currency's smallest unit.
    pub amount_minor: i64,
    /// ISO 4217, lower case.
    pub currency: String,
}

/// Currencies whose smallest unit is the whole. Source: Stripe's list of zero-decimal currencies.
const ZERO_DECIMAL: [&str; 16] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"];

/// An amount for people: `12.50 USD`, `500 JPY`.
pub fn money(minor: i64, currency: &str) -> String {
    let code = currency.to_uppercase();
    if ZERO_DECIMAL.contains(&currency) {
        return format!("{minor} {code}");
    }
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02} {code}", minor.unsigned_abs() / 100, minor.unsigned_abs() % 100)
}

impl Price {
    /// `Free`, `12.50 USD` or `5.00 USD a month`.
    pub fn shown(&self) -> String {
        match self.kind.as_str() {
            "free" => "Free".to_string(),
            "subscription" => format!("{} a month", money(self.amount_minor, &self.currency)),
            _ => money(self.amount_minor, &self.currency),
        }
    }
}

/// An agent as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Card {
    /// Stable.
    pub id: String,
    /// Whose.
    pub namespace: String,
    /// Within the namespace.
    pub name: String,
    /// On pages.
    pub title: String,
    /// One sentence.
    pub summary: String,
    /// Slugs, at most three.
    pub categories: Vec<String>,
    /// Lower-case words.
    pub tags: Vec<String>,
    /// The newest version of the channel latest.
    pub latest_version: String,
    /// What it costs now.
    pub price: Price,
    /// Accounts that ever installed it.
    pub installs: i64,
    /// Visible reviews.
    pub review_count: i64,
    /// Their stars added up.
    #[serde(skip)]
    pub stars_sum: i64,
    /// The mean of the stars, drawn towards the mean of all agents while there are few.
    pub rating: f64,
    /// How much faster than before it is installed now; 0 with fewer than ten new installers.
    pub trending: f64,
    /// Milliseconds since 1970.
    pub published_at: i64,
    /// Milliseconds since 1970.
    pub changed_at: i64,
    /// The account that owns the namespace.
    #[serde(skip)]
    pub publisher_id: String,
    /// The owner's name on pages.
    pub publisher: String,
    #[serde(skip)]
    pub(super) readme: String,
    /// What searches compare, computed once.
    #[serde(skip)]
    pub(super) keys: Keys,
    /// The agent's number in this process: what the text index knows it by.
    #[serde(skip)]
    pub(super) slot: u64,
}

/// What searches compare of a card.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Keys {
    /// `namespace/name`.
    pub full_name: String,
    /// The title in lower case.
    pub title: String,
    /// The title's words, as the index has them.
    pub title_words: String,
    /// A bit for each category.
    pub categories: u16,
    /// ln(1 + installs).
    pub installs_ln: f64,
}

impl Keys {
    fn of(card: &Card) -> Self {
        let bit = |slug: &String| CATEGORIES.iter().position(|c| c.slug == slug).map_or(0, |i| 1 << i);
        Self {
            full_name: card.full_name(),
            title: card.title.to_lowercase(),
            title_words: words(&card.title).join(" "),
            categories: card.categories.iter().map(bit).fold(0, |all, bit| all | bit),
            installs_ln: (card.installs as f64).ln_1p(),
        }
    }
}

impl Card {
    /// What [`Card::of`] reads; the caller adds the WHERE.
    pub(super) const SELECT: &'static str =
        "SELECT a.id, a.namespace, a.name, a.title, a.summary, a.categories, a.tags, a.latest_version, a.price_kind,
         a.price_minor, a.price_currency, a.installs, a.review_count, a.stars_sum, a.published_at, a.changed_at, a.state,
         a.readme, n.owner_id, o.display_name
         FROM agents a JOIN namespaces n ON n.name = a.namespace JOIN accounts o ON o.id = n.owner_id";

    pub(super) fn of(row: &AnyRow) -> Result<Self> {
        let mut card = Self {
            id: db::text(row, "id")?,
            namespace: db::text(row, "namespace")?,
            name: db::text(row, "name")?,
            title: db::text(row, "title")?,
            summary: db::text(row, "summary")?,
            categories: db::list(row, "categories")?,
            tags: db::list(row, "tags")?,
            latest_version: db::text_or_null(row, "latest_version")?.unwrap_or_default(),
            price: Price {
                kind: db::text(row, "price_kind")?,
                amount_minor: db::number(row, "price_minor")?,
                currency: db::text(row, "price_currency")?,
            },
            installs: db::number(row, "installs")?,
            review_count: db::number(row, "review_count")?,
            stars_sum: db::number(row, "stars_sum")?,
            rating: 0.0,
            trending: 0.0,
            published_at: db::number_or_null(row, "published_at")?.unwrap_or_default(),
            changed_at: db::number(row, "changed_at")?,
            publisher_id: db::text(row, "owner_id")?,
            publisher: db::text(row, "display_name")?,
            slot: 0,
            readme: crate::catalogue::summary_of(&db::text(row, "readme")?, 2_000),
            keys: Keys::default(),
        };
        card.keys = Keys::of(&card);
        Ok(card)
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

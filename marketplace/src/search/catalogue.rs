//! All listed agents in memory, kept up with the database.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use super::relevance::{bayesian, trending};
use super::text::{TextIndex, TextReader};
use super::{Card, Weights};
use crate::clock::{Clock, DAY_MS};
use crate::db::{self, Db};
use crate::problem::{Problem, Result};

/// Rows that changed so long before the newest known change are read again: another machine's clock may be behind, and its
/// transaction may have taken a while.
const OVERLAP_MS: i64 = 10_000;

/// The catalogue at one moment.
pub struct Snapshot {
    /// In no order.
    pub cards: Vec<Arc<Card>>,
    /// Where each is; the same as before as long as agents only change.
    places: Arc<Places>,
    /// The mean of all reviews' stars.
    pub rating_mean: f64,
    pub(super) installs_max_ln: f64,
    pub(super) text: TextReader,
}

/// Where each agent is among the cards.
#[derive(Debug)]
struct Places {
    by_name: HashMap<String, usize>,
    by_id: HashMap<String, usize>,
}

impl Places {
    fn of(cards: &[Arc<Card>]) -> Arc<Self> {
        let index = |key: fn(&Card) -> String| cards.iter().enumerate().map(|(i, c)| (key(c), i)).collect();
        Arc::new(Self { by_name: index(Card::full_name), by_id: index(|c| c.id.clone()) })
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} agents)", self.cards.len())
    }
}

impl Snapshot {
    fn new(cards: Vec<Arc<Card>>, places: Arc<Places>, text: TextReader) -> Self {
        let (stars, count) = cards.iter().fold((0, 0), |(s, n), c| (s + c.stars_sum, n + c.review_count));
        let installs_max = cards.iter().map(|c| c.installs).max().unwrap_or_default();
        Self {
            rating_mean: if count == 0 { 3.5 } else { stars as f64 / count as f64 },
            installs_max_ln: (installs_max as f64 + 100.0).ln_1p(),
            cards,
            places,
            text,
        }
    }

    /// The listed agent `namespace/name`.
    pub fn named(&self, namespace: &str, name: &str) -> Result<Arc<Card>> {
        let full = format!("{namespace}/{name}");
        let found = self.places.by_name.get(&full).and_then(|i| self.cards.get(*i)).cloned();
        found.ok_or_else(|| Problem::not_found(format!("no agent '{full}'; search at /search")))
    }

    /// The listed agent of an id.
    pub fn with_id(&self, id: &str) -> Option<Arc<Card>> {
        self.places.by_id.get(id).and_then(|i| self.cards.get(*i)).cloned()
    }
}

/// Keeps the newest snapshot.
#[derive(Debug)]
pub struct Catalogue {
    db: Db,
    pub(super) clock: Clock,
    pub(super) weights: Weights,
    current: RwLock<Arc<Snapshot>>,
    /// Held while a new snapshot is made.
    work: Mutex<Work>,
}

#[derive(Debug)]
struct Work {
    text: TextIndex,
    changed_at: i64,
    /// Numbers that were given to agents.
    slots: u64,
}

impl Catalogue {
    /// Reads everything.
    pub async fn open(db: Db, clock: Clock, weights: Weights) -> Result<Self> {
        let text = TextIndex::new()?;
        let current = RwLock::new(Arc::new(Snapshot::new(Vec::new(), Places::of(&[]), text.reader())));
        let work = Mutex::new(Work { text, changed_at: i64::MIN + OVERLAP_MS, slots: 0 });
        let catalogue = Self { db, clock, weights, current, work };
        catalogue.refresh().await?;
        catalogue.refresh_trends().await?;
        Ok(catalogue)
    }

    /// The newest snapshot.
    pub fn now(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, snapshot: Snapshot) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Reads what changed since the last time; gives how many agents did.
    pub async fn refresh(&self) -> Result<usize> {
        let mut work = self.work.lock().await;
        let sql = format!("{} WHERE a.changed_at >= $1", Card::SELECT);
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(work.changed_at - OVERLAP_MS).fetch_all(self.db.read()).await?;
        let old = self.now();
        let (mut changed, mut gone) = (HashMap::new(), Vec::new());
        for row in &rows {
            let card = Card::of(row)?;
            work.changed_at = work.changed_at.max(card.changed_at);
            let known = old.with_id(&card.id);
            if db::text(row, "state")? != "listed" {
                gone.extend(known.map(|k| k.slot));
                continue;
            }
            let card = match &known {
                Some(k) => Card { rating: k.rating, trending: k.trending, slot: k.slot, ..card },
                None => {
                    work.slots += 1;
                    Card { slot: work.slots, ..card }
                }
            };
            if known.as_deref() != Some(&card) {
                changed.insert(card.id.clone(), card);
            }
        }
        let count = changed.len() + gone.len();
        if count == 0 {
            return Ok(0);
        }
        let same_text = |a: &Card, b: &Card| {
            (&a.title, &a.summary, &a.tags, &a.readme) == (&b.title, &b.summary, &b.tags, &b.readme)
        };
        let text_of = |c: &&Card| old.with_id(&c.id).is_none_or(|k| !same_text(&k, c));
        if !gone.is_empty() || changed.values().any(|c| text_of(&c)) {
            work.text.replace(&gone, changed.values().filter(text_of))?;
        }
        let mut cards = old.cards.clone();
        for (id, card) in changed {
            let card = Arc::new(card);
            match old.places.by_id.get(&id).and_then(|i| cards.get_mut(*i)) {
                Some(place) => *place = card,
                None => cards.push(card),
            }
        }
        cards.retain(|c| gone.is_empty() || !gone.contains(&c.slot));
        let same = gone.is_empty() && cards.len() == old.cards.len();
        let places = if same { old.places.clone() } else { Places::of(&cards) };
        self.set(rated(Snapshot::new(cards, places, work.text.reader())));
        Ok(count)
    }

    /// Computes anew how fast agents are installed. A user counts once an agent: installs are unique by account.
    pub async fn refresh_trends(&self) -> Result<()> {
        let _work = self.work.lock().await;
        let now = self.clock.now_ms();
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT agent_id, CAST(sum(CASE WHEN first_at >= $1 THEN 1 ELSE 0 END) AS BIGINT),
                    CAST(sum(CASE WHEN first_at < $1 THEN 1 ELSE 0 END) AS BIGINT)
             FROM installs WHERE first_at >= $2 GROUP BY agent_id",
        )
        .bind(now - 7 * DAY_MS)
        .bind(now - 35 * DAY_MS)
        .fetch_all(self.db.read())
        .await?;
        let scores: HashMap<String, f64> = rows.into_iter().map(|(id, new, old)| (id, trending(new, old))).collect();
        let old = self.now();
        let of = |card: &Arc<Card>| {
            let trending = scores.get(&card.id).copied().unwrap_or_default();
            if trending == card.trending { card.clone() } else { Arc::new(Card { trending, ..Card::clone(card) }) }
        };
        let cards = old.cards.iter().map(of).collect();
        self.set(Snapshot::new(cards, old.places.clone(), old.text.clone()));
        Ok(())
    }
}

/// A snapshot whose cards have their Bayesian ratings.
fn rated(mut snapshot: Snapshot) -> Snapshot {
    let mean = snapshot.rating_mean;
    for card in &mut snapshot.cards {
        let rating = bayesian(card.stars_sum, card.review_count, mean);
        // The mean moves a little with every review; a card is made anew only where it shows.
        if (rating - card.rating).abs() > 0.005 {
            *card = Arc::new(Card { rating, ..Card::clone(card) });
        }
    }
    snapshot
}

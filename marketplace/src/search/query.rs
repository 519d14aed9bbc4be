//! One search: which agents, in which order, which page of them, and how many there are of each kind.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::text::words;
use super::{Card, Catalogue, Explanation, Snapshot};
use crate::catalogue::CATEGORIES;
use crate::problem::{Problem, Result};
use crate::secret;

const PER_PAGE: usize = 24;
const PER_PAGE_MAX: usize = 100;
const TEXT_BYTES_MAX: usize = 200;

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// See `explain`.
    #[default]
    Relevance,
    /// Most installers first.
    Installs,
    /// Best Bayesian rating first.
    Rating,
    /// Fastest growing first.
    Trending,
    /// Newest first.
    Newest,
}

impl Sort {
    /// All, with the words for pages.
    pub const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Relevance, "relevance", "Relevance"),
        (Self::Installs, "installs", "Most installed"),
        (Self::Rating, "rating", "Best rated"),
        (Self::Trending, "trending", "Trending"),
        (Self::Newest, "newest", "Newest"),
    ];
}

/// What it may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceFilter {
    /// Nothing.
    Free,
    /// Once.
    OneTime,
    /// Every month.
    Subscription,
}

impl PriceFilter {
    /// As prices are named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::OneTime => "one_time",
            Self::Subscription => "subscription",
        }
    }
}

/// What is searched for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Query {
    /// Words; misspelt and unfinished ones are found too.
    pub q: String,
    /// A category's slug.
    pub category: Option<String>,
    /// A tag.
    pub tag: Option<String>,
    /// A namespace.
    pub namespace: Option<String>,
    /// A rating of so much or more, 0 to 5.
    pub min_rating: Option<f64>,
    /// What it may cost.
    pub price: Option<PriceFilter>,
    /// In which order; relevance when absent.
    pub sort: Option<Sort>,
    /// Where the page before ended: its `next`.
    pub seek: Option<String>,
    /// Agents a page, at most 100.
    pub per_page: Option<usize>,
    /// 1: tell how each score came about.
    pub explain: Option<u8>,
}

/// How many agents there are of each kind, with every other filter applied but the kind's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Facets {
    /// By category.
    pub categories: BTreeMap<String, usize>,
    /// By price.
    pub prices: BTreeMap<String, usize>,
    /// Rated so much or more: 4, 3, 2.
    pub ratings: BTreeMap<String, usize>,
}

/// One agent of a page.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Hit {
    /// The agent.
    #[serde(flatten)]
    pub card: Arc<Card>,
    /// With `explain=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// One page of a search.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page {
    /// Agents on all pages.
    pub total: usize,
    /// The first is the agent of just that name.
    pub exact_match: bool,
    /// This page.
    pub agents: Vec<Hit>,
    /// For `seek`, if there is a next page.
    pub next: Option<String>,
    /// How many of each kind.
    pub facets: Facets,
}

/// Where a page ended: the last agent's place in the order, so that agents that come or go meanwhile shift nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Seek {
    sort: Sort,
    value: f64,
    id: String,
}

/// An agent that fits, with what its place is made of.
struct Ranked<'a> {
    card: &'a Arc<Card>,
    value: f64,
    text: f64,
    exact: f64,
}

fn before(a: &Ranked<'_>, b: &Ranked<'_>) -> Ordering {
    b.value.total_cmp(&a.value).then_with(|| a.card.id.cmp(&b.card.id))
}

impl Catalogue {
    /// Answers `query` from the newest snapshot.
    ///
    /// *Errors*: 400 for what cannot be meant.
    pub fn search(&self, query: &Query) -> Result<Page> {
        check(query)?;
        let snapshot = self.now();
        let (sort, now) = (query.sort.unwrap_or_default(), self.clock.now_ms());
        let (mut ranked, facets) = self.matching(&snapshot, query, sort, now)?;
        let total = ranked.len();
        let exact_match = ranked.iter().min_by(|a, b| before(a, b)).is_some_and(|first| first.exact > 0.0);
        if let Some(text) = &query.seek {
            let seek = seek_of(text, sort)?;
            let after = |r: &Ranked<'_>| seek.value.total_cmp(&r.value).then_with(|| r.card.id.cmp(&seek.id)).is_gt();
            ranked.retain(after);
        }
        let per_page = query.per_page.unwrap_or(PER_PAGE);
        let more = ranked.len() > per_page;
        if more {
            // Only the page is put in order.
            ranked.select_nth_unstable_by(per_page, before);
            ranked.truncate(per_page);
        }
        ranked.sort_unstable_by(before);
        let next = ranked.last().filter(|_| more).map(|last| {
            let seek = Seek { sort, value: last.value, id: last.card.id.clone() };
            secret::base64_url(serde_json::to_string(&seek).unwrap_or_default().as_bytes())
        });
        let explain = query.explain == Some(1);
        let hit = |r: &Ranked<'_>| {
            let explanation = || self.weights.score(r.card, r.text, r.exact, snapshot.installs_max_ln, now);
            Hit { card: r.card.clone(), explanation: explain.then(explanation) }
        };
        Ok(Page { total, exact_match, agents: ranked.iter().map(hit).collect(), next, facets })
    }

    fn matching<'a>(
        &self,
        snapshot: &'a Snapshot,
        query: &Query,
        sort: Sort,
        now: i64,
    ) -> Result<(Vec<Ranked<'a>>, Facets)> {
        let words = words(&query.q);
        let searched = Searched { name: query.q.trim().to_lowercase(), words: words.join(" ") };
        let scores = if words.is_empty() { None } else { Some(snapshot.text.scores(&words)?) };
        let category = query.category.as_ref().and_then(|slug| CATEGORIES.iter().position(|c| c.slug == slug));
        let (mut ranked, mut counts) = (Vec::new(), Counts::default());
        for card in &snapshot.cards {
            let text = match &scores {
                None => 0.0,
                Some(scores) => match usize::try_from(card.slot).ok().and_then(|slot| scores.get(slot)) {
                    Some(score) if *score > 0.0 => f64::from(*score),
                    _ => continue,
                },
            };
            let fits = Fits::of(query, category, card);
            fits.count(card, &mut counts);
            if !fits.all() {
                continue;
            }
            let exact = searched.named(card);
            let value = match sort {
                Sort::Relevance => self.weights.score(card, text, exact, snapshot.installs_max_ln, now).score,
                Sort::Installs => card.installs as f64,
                Sort::Rating => card.rating,
                Sort::Trending => card.trending,
                Sort::Newest => card.published_at as f64,
            };
            ranked.push(Ranked { card, value, text, exact });
        }
        Ok((ranked, counts.facets()))
    }
}

/// What was searched for, in the forms that a name can have.
struct Searched {
    name: String,
    words: String,
}

impl Searched {
    /// How much it is the agent's name: 1 to the letter, a little less without marks and blanks.
    fn named(&self, card: &Card) -> f64 {
        let (name, keys) = (&self.name, &card.keys);
        if name.is_empty() {
            return 0.0;
        }
        if card.name == *name || keys.full_name == *name || keys.title == *name {
            return 1.0;
        }
        if keys.title_words == self.words { 0.8 } else { 0.0 }
    }
}

const PRICES: [&str; 3] = ["free", "one_time", "subscription"];
const FLOORS: [u8; 3] = [4, 3, 2];

/// Facets while they are counted, in the order of their constants.
#[derive(Default)]
struct Counts {
    categories: [usize; CATEGORIES.len()],
    prices: [usize; PRICES.len()],
    ratings: [usize; FLOORS.len()],
}

impl Counts {
    fn facets(&self) -> Facets {
        let some = |names: Vec<String>, counts: &[usize]| {
            names.into_iter().zip(counts.iter().copied()).filter(|(_, n)| *n > 0).collect()
        };
        Facets {
            categories: some(CATEGORIES.iter().map(|c| c.slug.to_string()).collect(), &self.categories),
            prices: some(PRICES.map(str::to_string).to_vec(), &self.prices),
            ratings: some(FLOORS.map(|f| f.to_string()).to_vec(), &self.ratings),
        }
    }
}

/// Which filters an agent passes.
struct Fits {
    category: bool,
    price: bool,
    rating: bool,
    rest: bool,
}

impl Fits {
    fn of(query: &Query, category: Option<usize>, card: &Card) -> Self {
        Self {
            category: category.is_none_or(|i| card.keys.categories & 1 << i != 0),
            price: query.price.is_none_or(|p| p.name() == card.price.kind),
            rating: query.min_rating.is_none_or(|r| card.review_count > 0 && card.rating >= r),
            rest: query.tag.as_ref().is_none_or(|t| card.tags.contains(t))
                && query.namespace.as_ref().is_none_or(|n| card.namespace == *n),
        }
    }

    fn all(&self) -> bool {
        self.category && self.price && self.rating && self.rest
    }

    fn count(&self, card: &Card, counts: &mut Counts) {
        if !self.rest {
            return;
        }
        if self.price && self.rating {
            for (i, count) in counts.categories.iter_mut().enumerate() {
                *count += usize::from(card.keys.categories & 1 << i != 0);
            }
        }
        if self.category && self.rating {
            let place = PRICES.iter().position(|p| *p == card.price.kind);
            if let Some(count) = place.and_then(|i| counts.prices.get_mut(i)) {
                *count += 1;
            }
        }
        if self.category && self.price && card.review_count > 0 {
            for (floor, count) in FLOORS.into_iter().zip(&mut counts.ratings) {
                *count += usize::from(card.rating >= f64::from(floor));
            }
        }
    }
}

fn check(query: &Query) -> Result<()> {
    if query.q.len() > TEXT_BYTES_MAX {
        return Err(Problem::invalid(format!("q has {} bytes; search for at most {TEXT_BYTES_MAX}", query.q.len())));
    }
    if let Some(category) = &query.category {
        crate::catalogue::Category::of(category).map_err(|p| Problem::invalid(p.detail()))?;
    }
    if let Some(rating) = query.min_rating.filter(|r| !(0.0..=5.0).contains(r)) {
        return Err(Problem::invalid(format!("min_rating is {rating}; use 0 to 5")));
    }
    if let Some(n) = query.per_page.filter(|n| !(1..=PER_PAGE_MAX).contains(n)) {
        return Err(Problem::invalid(format!("per_page is {n}; use 1 to {PER_PAGE_MAX}")));
    }
    Ok(())
}

fn seek_of(text: &str, sort: Sort) -> Result<Seek> {
    let seek: Option<Seek> = secret::unbase64_url(text).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    seek.filter(|s| s.sort == sort)
        .ok_or_else(|| Problem::invalid("seek is not from this search; take `next` of the page before, unchanged"))
}

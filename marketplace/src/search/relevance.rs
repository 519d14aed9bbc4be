//! The formula of relevance: text first, then what people say, how many use it and how fresh it is.
//!
//! Source: the shape of Open VSX's relevance (each part limited to [0, 1], configurable weights), with the text's score before
//! everything and an exact name before all.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Card;
use crate::clock::DAY_MS;

/// How much each part counts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// The text's score.
    pub text: f64,
    /// The Bayesian rating.
    pub rating: f64,
    /// Installs, as a logarithm.
    pub installs: f64,
    /// Age of the newest change: halves every 180 days.
    pub freshness: f64,
    /// Added where the name is what was searched for; above all other weights together, so that it comes first.
    pub exact_name: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { text: 1.0, rating: 0.15, installs: 0.35, freshness: 0.05, exact_name: 10.0 }
    }
}

/// How a score came about: the parts, each with its weight in it, add up to the score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Explanation {
    /// The sum.
    pub score: f64,
    /// The text's part.
    pub text: f64,
    /// The rating's part.
    pub rating: f64,
    /// The installs' part.
    pub installs: f64,
    /// The freshness's part.
    pub freshness: f64,
    /// The exact name's part.
    pub exact_name: f64,
}

/// Reviews that the mean of all counts as, when an agent's own are few.
const PRIOR_REVIEWS: f64 = 25.0;

/// The mean of an agent's stars, drawn towards `global`, the mean of all reviews.
pub(super) fn bayesian(stars_sum: i64, count: i64, global: f64) -> f64 {
    (stars_sum as f64 + global * PRIOR_REVIEWS) / (count as f64 + PRIOR_REVIEWS)
}

/// How much faster than in the four weeks before an agent was installed in the last: 0 below ten new installers, so that one
/// account cannot make a trend. Source: reference of the metric `trending`.
pub(super) fn trending(last_7_days: i64, before_28_days: i64) -> f64 {
    if last_7_days < 10 {
        return 0.0;
    }
    (last_7_days as f64 + 1.0) / (before_28_days as f64 / 4.0 + 1.0) * (last_7_days as f64).ln_1p()
}

impl Weights {
    /// The score of `card`; `text` is in [0, 1], `installs_max_ln` the most of any agent as a logarithm.
    pub(super) fn score(&self, card: &Card, text: f64, exact: f64, installs_max_ln: f64, now: i64) -> Explanation {
        let age_days = (now - card.changed_at).max(0) as f64 / DAY_MS as f64;
        let part = Explanation {
            score: 0.0,
            text: self.text * text,
            rating: self.rating * (card.rating / 5.0),
            installs: self.installs * (card.keys.installs_ln / installs_max_ln),
            freshness: self.freshness * (-age_days / 180.0).exp2(),
            exact_name: self.exact_name * exact,
        };
        let score = part.text + part.rating + part.installs + part.freshness + part.exact_name;
        Explanation { score, ..part }
    }
}

//! Browse and search: all listed agents in memory, a text index beside them, one formula of relevance.
//!
//! In: rows of `agents` that changed. Out: pages of cards with facets. It never writes the database. Every machine of a
//! marketplace reads the changes once a second, and its own at once.

mod card;
mod catalogue;
mod query;
mod relevance;
mod text;

pub use self::card::{Card, Price, money};
pub use self::catalogue::{Catalogue, Snapshot};
pub use self::query::{Facets, Hit, Page, PriceFilter, Query, Sort};
pub use self::relevance::{Explanation, Weights};

//! What there is to install: categories, agents, versions, collections, and their readmes as safe HTML.

pub mod agent;
mod category;
pub mod collection;
mod markdown;
pub mod version;

pub use self::category::{CATEGORIES, Category, PER_AGENT_MAX};
pub use self::markdown::{readme_html, summary_of};

//! The whole story in one command: a server in a temporary directory, producers that stream events to it over gRPC, the
//! tables, rollups, metrics and report that come of them, and a check of every total against what is known from elsewhere.
//!
//! Nothing here is a shortcut: events go through the network, the log and the pipelines that ship, and results come from
//! the tables.

mod answers;
mod check;
mod git_history;
mod market;
pub mod platform;
pub(crate) mod random;
pub mod real;
mod results;
mod story;
pub mod stream;

pub use check::Check;
pub use story::{Steps, Story, Told, run, tell};

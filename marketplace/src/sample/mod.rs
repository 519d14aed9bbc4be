//! A sample catalogue and a simulated week of its users: through the same functions that requests call, on a clock that the
//! simulation moves. Accounts are numbered; nobody can sign in to them.
//!
//! Where there is a real catalogue (the plugins of an editor), its entries are listed too: names and descriptions are real,
//! categories are guessed from their words, versions and users are made up.

mod agents;
mod real;
mod sales;
mod week;

pub use self::real::{Real, real_catalogue};
pub use self::week::{SELLER, fill, publishing_ms};

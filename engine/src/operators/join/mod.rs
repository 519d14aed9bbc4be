//! Joins: one vectorised kernel, one operator for each way of keeping rows.
//!
//! ```text
//! columns ─> Condition ─> KeyTable (key ids) ─> Store (rows by key) ─> Probe (pairs) ─> Condition (residual) ─> Changes
//! ```
//!
//! | operator | joins | keeps |
//! |---|---|---|
//! | [`windowed`] | results of equal windows | both sides until the window has closed |
//! | [`lookup`] | rows with a table that was loaded at the start | the table |
//! | [`as_of`] | rows with the version of the other side at their time | left rows until the watermark passes, versions that can be asked for |
//! | [`streaming`] | rows whenever they come, with retractions; intervals of event time | rows until a TTL or the interval has passed |

pub mod as_of;
pub mod condition;
mod late;
pub mod lookup;
pub mod output;
mod probe;
mod saved;
mod store;
pub mod streaming;
mod updates;
pub mod windowed;

#[cfg(test)]
mod tests;

/// No row, no key.
const NONE: u32 = u32::MAX;

/// Pairs that are looked at together.
const PAIRS: usize = 32 * 1024;

//! `GROUP BY` without a window: one result per group, taken back and sent anew whenever it changes.
//!
//! ```text
//! rows ── share (workers, optional) ──> states ──> aggregate ──> old result taken back, new result
//! ```
//!
//! A batch costs as much as the groups it touches: their old states are read, merged with what is new, and written. So
//! batches that have come already are taken as one.

mod aggregate;
mod changes;
mod first_sight;
mod function;
mod multiset;
mod share;
mod spec;
mod step;
#[cfg(test)]
mod tests;
mod waiting;

pub use spec::UpdatingAggregate;

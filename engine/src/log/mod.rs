//! The durable ingest log: every accepted batch, in one order, on disk before it is acknowledged.
//!
//! ```text
//!  append (any thread)                 writer (one thread)               LogReader (any thread)
//!  encode, de-duplicate, queue  --->   one write, one fdatasync   --->   entries in order, from memory
//!          PendingAck  <------------   for all that is queued            or from the segment files
//! ```
//!
//! What comes in: [`NewEntry`], a record batch of one table from one producer. What goes out: [`LogEntry`], the same in
//! the log's order, numbered 0, 1, 2, ... without a gap. What never happens: an acknowledgement before an fdatasync that
//! covers the entry and all before it; a second try of a failed sync; a sequenced batch twice; damage passed on as data.
//!
//! On disk the log is a directory of segments named by their first entry (`00000000000000000042.log`). A segment is a
//! header and frames (`frame.rs`); it carries all that is needed to read it: schemas once per segment, and at its head
//! where every producer's sequence stood, so that older segments can be removed. Event ids of removed segments are kept
//! beside them (`.ids`) until they are older than the horizon.

mod append;
mod event_ids;
mod frame;
mod producers;
mod reader;
mod recovery;
mod repair;
mod segment;
mod state;
mod writer;

#[cfg(test)]
mod tests;

pub use append::{Log, LogAck, LogMetrics, LogOptions, NewEntry, PendingAck};
pub use producers::Sequence;
pub use reader::{LogBody, LogEntry, LogReader};
pub use repair::{LogDamage, LogReport, LostBatches};
pub(crate) use repair::{keep_copy, repair};
pub use writer::FatalHook;
pub(crate) use writer::Writer;

/// The number of an entry: 0, 1, 2, ... over the life of the log.
pub type LogOffset = u64;

/// Whether a producer holds back the watermark of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The producer is silent: the watermark goes on without it.
    Idle,
    /// The producer promises no event before this time, in nanoseconds since the epoch.
    Watermark(i64),
}

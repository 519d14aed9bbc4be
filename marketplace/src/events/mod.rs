//! What happened, on its way to Millstream.
//!
//! ```text
//! a change's transaction --record--> outbox row --numbered into a batch--> gRPC ingest --receipt--> row deleted
//! ```
//!
//! An event is a row of the transaction that it tells about, so there is one for each commit and none without. The sender
//! numbers rows into batches in the database before it sends them; a batch's number and content never change, and the server
//! knows what it has by (producer, epoch, sequence). So whatever crashes, each commit is in Millstream's table once.

mod event;
mod sender;
mod views;

pub use self::event::{Event, record};
pub use self::sender::{Sender, SenderError, renumber};
pub use self::views::Views;

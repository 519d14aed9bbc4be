//! Reports by the clock and by hand: made, kept on the lake's object store, and sent by e-mail.
//!
//! ```text
//! [[reports.schedule]] --due--> make (report::run) -> keep (reports/<report>/<run>/...) -> mail -> run.json
//! ```
//!
//! What is in the store is all there is to know: a run that is due and has no `run.json` is made, also after a restart (within
//! a day), and what was not sent is tried again. A report of which a section fails is not sent at all: a mail with half the
//! numbers is worse than none. A crash between a mail and its note sends it again, under the same Message-ID.

mod due;
mod kept;
mod mail;
mod run;

pub use due::{Covers, Scheduled, Sending};
pub use kept::{Kept, KeptFile, Recipient, history, read};
pub use mail::Smtp;
pub use run::{Order, Trigger, make, range_of};

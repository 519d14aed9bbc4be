//! From an upload to a listed version.
//!
//! ```text
//! archive --package--> files --manifest--> what it says of itself --names, secrets--> findings
//!   rejected: something no person need look at       quarantined: findings       passed: none
//! quarantined or passed --queue--> a moderator approves (listed) or refuses, with a reason; a letter tells the publisher
//! ```
//!
//! Nothing of a package is ever run or unpacked to disk here.

mod manifest;
mod names;
mod package;
mod queue;
mod secrets;
mod submit;

pub use self::manifest::{Manifest, Runtime, check_links, check_tags};
pub use self::names::{key as name_key, look_alike};
pub use self::package::{Contents, read as read_package};
pub use self::queue::{Decision, Waiting, decide, decide_unlisted, waiting, waiting_package};
pub use self::submit::{Submitted, abandon_unfinished, submit};

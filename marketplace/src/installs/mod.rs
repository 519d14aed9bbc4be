//! Installing: entitlement, signed manifest, content-addressed download, upgrade, rollback, and the command that does it.

pub mod client;
mod download;
mod install;
mod signer;

pub use self::download::download;
pub use self::install::{Installed, Offer, Update, Wanted, install, list, one, rollback, uninstall, updates};
pub use self::signer::{Envelope, Promise, Signer, verify};

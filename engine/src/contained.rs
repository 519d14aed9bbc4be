//! Readers that panic on bad bytes, contained in one place.
//!
//! Arrow's and Parquet's readers check much, and some of what they do not check they find by a panic (arrow-rs issues 9742
//! and 9874). Bytes that come from a producer, or from a disk that may lie, go through here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

/// Runs a reader; a panic in it is an error that names what was read.
pub fn contained<T>(what: &str, read: impl FnOnce() -> Result<T>) -> Result<T> {
    // What the reader was building is dropped with the panic; nothing outside of it is changed.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
        Err(Error::Corrupt(format!("{what} cannot be read: {}", said.unwrap_or_else(|| "its reader gave up".into()))))
    })
}

//! The engine's integration tests: one binary, because each links all of DataFusion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batch;
mod lake;
mod python;

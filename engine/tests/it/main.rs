//! The engine's integration tests: one binary, because each links all of DataFusion.

mod batch;
mod lake;
mod python;

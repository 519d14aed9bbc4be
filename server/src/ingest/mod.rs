//! Events in: from the bytes of a request to rows in the engine's log, and the receipt back.
//!
//! ```text
//! producer --EventBatch--> service (key, size, rate) --> decode | json | ipc --> Sink::append --> Ack
//! ```
//!
//! A bad row is refused alone and kept with its reason; a bad batch is refused whole; neither disturbs another. Nothing is
//! acknowledged that [`Sink::append`] has not returned for, and nothing here keeps events of its own.

use std::future::Future;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use millstream::{Ack, Append, Engine, Error, Result, TableInfo};

pub mod client;
mod columns;
mod config;
pub mod decode;
pub mod ipc;
pub mod json;
mod service;
mod status;

pub use config::IngestConfig;
pub use decode::{MESSAGES, schema_of};
pub use service::{Service, find_table, serve};
pub(crate) use service::{authenticate, denied, key_of};
pub use status::{CODE_METADATA, RETRY_METADATA, status_of};
pub(crate) use status::{retry, status};

/// Where rows go: the engine, or a test's recorder.
pub trait Sink: Send + Sync + 'static {
    /// As [`Engine::append`]. Batches of one stream are appended in the order of their first poll.
    fn append(&self, rows: Append) -> impl Future<Output = Result<Ack>> + Send;
    /// As [`Engine::table`].
    fn table(&self, name: &str) -> Option<TableInfo>;
    /// As [`Engine::tables`]: for the names in an error.
    fn tables(&self) -> Vec<TableInfo>;
}

impl Sink for Engine {
    fn append(&self, rows: Append) -> impl Future<Output = Result<Ack>> + Send {
        Engine::append(self, rows)
    }

    fn table(&self, name: &str) -> Option<TableInfo> {
        Engine::table(self, name)
    }

    fn tables(&self) -> Vec<TableInfo> {
        Engine::tables(self)
    }
}

/// Why a row was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable word for programs.
    pub code: &'static str,
    /// What was wrong and how to mend it.
    pub message: String,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::event(refusal.code, refusal.message)
    }
}

/// A row that was refused.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Its place in the request, from 0.
    pub index: u32,
    /// Why.
    pub refusal: Refusal,
    /// The row as it came (Arrow rows as JSON).
    pub raw: Bytes,
}

/// The rows of a request.
#[derive(Debug)]
pub struct Decoded {
    /// The good rows in the table's schema, in the order of the request.
    pub batch: RecordBatch,
    /// The refused rows, in the order of the request.
    pub rejected: Vec<Rejected>,
    /// Rows in the request.
    pub rows: usize,
}

impl Decoded {
    /// The place in the request of every row of `batch`.
    pub fn request_indices(&self) -> Vec<u32> {
        let mut rejected = self.rejected.iter().map(|row| row.index).peekable();
        (0..self.rows as u32).filter(|index| rejected.next_if_eq(index).is_none()).collect()
    }
}

fn too_many_rows(rows: usize, rows_max: usize) -> Error {
    Error::event("TOO_MANY_ROWS", format!("the batch has {rows} rows, more than {rows_max}; send it in parts"))
}

/// Two implementations of TLS's cryptography are linked, so one must be named before the first connection.
fn choose_tls_provider() {
    // An error means that one was chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

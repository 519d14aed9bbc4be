//! How the ingest service is configured.

use std::net::SocketAddr;
use std::path::PathBuf;

use millstream::{Error, Result};
use serde::{Deserialize, Serialize};

/// The most that `message_bytes_max` may be: a request is held in memory whole, and more than once while it is decoded.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The section `[ingest]` of the server's configuration. Every key has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Where to listen for gRPC.
    pub listen: SocketAddr,
    /// The certificate chain, PEM. With `tls_key`: TLS alone is spoken.
    pub tls_cert: Option<PathBuf>,
    /// The private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Connections open at once; more wait until one ends. One on which nothing moves for two minutes is closed.
    pub connections_max: usize,
    /// The largest request, bytes. A larger one is refused with OUT_OF_RANGE.
    pub message_bytes_max: usize,
    /// The most rows of one batch.
    pub batch_rows_max: usize,
    /// Batches of one stream that may be on their way to the log at once; the next is read when the first is acknowledged.
    pub batches_in_flight_max: usize,
    /// Bytes of all requests on their way to the log. At the bound a stream waits, and a single call is refused with
    /// RESOURCE_EXHAUSTED.
    pub bytes_in_flight_max: usize,
    /// Streams open at once. One more is refused with RESOURCE_EXHAUSTED.
    pub streams_max: usize,
    /// Batches a second of one key. At the bound a stream waits, and a single call is refused with RESOURCE_EXHAUSTED.
    /// 0: unlimited.
    pub requests_per_second_per_key: u32,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7171)),
            tls_cert: None,
            tls_key: None,
            connections_max: 1_024,
            message_bytes_max: 4 << 20,
            batch_rows_max: 100_000,
            batches_in_flight_max: 64,
            bytes_in_flight_max: 64 << 20,
            streams_max: 256,
            requests_per_second_per_key: 0,
        }
    }
}

impl IngestConfig {
    /// Checks what belongs together.
    ///
    /// *Errors*: `Config` naming the key and its bounds.
    pub fn check(&self) -> Result<()> {
        let bounds = [
            ("connections_max", self.connections_max, 1, 1 << 20),
            ("message_bytes_max", self.message_bytes_max, 1 << 10, MESSAGE_BYTES_MAX),
            ("batch_rows_max", self.batch_rows_max, 1, 1_000_000),
            ("batches_in_flight_max", self.batches_in_flight_max, 1, 1_024),
            ("bytes_in_flight_max", self.bytes_in_flight_max, self.message_bytes_max, 4 << 30),
            ("streams_max", self.streams_max, 1, 65_536),
        ];
        for (key, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(Error::Config(format!(
                    "ingest.{key} = {value} is out of bounds; set it from {min} to {max}"
                )));
            }
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(Error::Config(
                "ingest.tls_cert and ingest.tls_key belong together; set both or neither".into(),
            ));
        }
        Ok(())
    }
}

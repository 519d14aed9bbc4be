//! What `millstream.toml` says about this face.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Section `[postgres]` of `millstream.toml`. Without `listen` the face is off.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// `host:port` with a numeric host; port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// The certificate chain, PEM. With `tls_key`: who does not come over TLS is refused.
    pub tls_cert: Option<PathBuf>,
    /// The private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Connections at the same time; more are closed at once.
    pub connections_max: usize,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self { listen: None, tls_cert: None, tls_key: None, connections_max: 64 }
    }
}

impl PostgresConfig {
    /// What is wrong with the section, as `(key, what)`.
    pub fn wrong(&self) -> Option<(&'static str, String)> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Some(("postgres.tls_cert and postgres.tls_key", "belong together; set both or neither".into()));
        }
        if self.connections_max == 0 {
            return Some(("postgres.connections_max", "is 0, which would refuse everything; write 1 or more".into()));
        }
        let address = self.listen.filter(|address| !address.ip().is_loopback() && self.tls_cert.is_none())?;
        let what = format!(
            "is {address}, where API keys would travel unencrypted; set postgres.tls_cert and postgres.tls_key, or listen on 127.0.0.1"
        );
        Some(("postgres.listen", what))
    }
}

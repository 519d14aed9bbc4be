//! `marketplace.toml`: what `serve` obeys. Every key has a default; an unknown key is an error that names it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::problem::{Problem, Result};
use crate::search::Weights;

/// Everything that `marketplace.toml` may say.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The signing key, and database and packages unless the next two say otherwise.
    pub data_dir: PathBuf,
    /// `sqlite:///path/market.db` or `postgres://user:password@host/database`.
    pub database_url: Option<String>,
    /// Where packages are: `file:///path`, `s3://bucket/prefix` or `gs://bucket/prefix`, with the options of `[packages]`.
    pub packages_url: Option<String>,
    /// Options of the object store, as it names them (`aws_endpoint`, `aws_region`, ...).
    pub packages: std::collections::BTreeMap<String, String>,
    /// `host:port` with a numeric host; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How browsers and the command reach this server; `http://` and the listening address when absent.
    pub public_url: Option<String>,
    /// Believe `X-Forwarded-For`: only behind a proxy that sets it.
    pub behind_proxy: bool,
    /// What names in the MCP registry begin with: a domain of yours, reversed.
    pub registry_prefix: String,
    /// What the platform keeps of a sale, in hundredths of a percent.
    pub fee_basis_points: i64,
    /// Bounds of uploads.
    pub uploads: Uploads,
    /// How relevance is made of its parts.
    pub relevance: Weights,
    /// Whom money comes from; selling is off without it.
    pub stripe: Option<Stripe>,
    /// Where else people may sign in; only here without it.
    pub oidc: Option<Oidc>,
    /// Who carries letters; they wait in the database without it.
    pub smtp: Option<Smtp>,
    /// Where events go and usage comes from; events wait in the database without it.
    pub millstream: Option<Millstream>,
    /// Monthly price of a seat, minor units of US dollars.
    pub seats: Seats,
}

/// Bounds of uploads; what is over one is refused with an error that names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uploads {
    /// The archive as uploaded.
    pub package_bytes_max: usize,
    /// All files in it, unpacked.
    pub unpacked_bytes_max: u64,
    /// Files and folders in it.
    pub entries_max: usize,
    /// New versions of one account in a day.
    pub versions_per_day_max: i64,
}

/// Stripe, or something that speaks its language.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stripe {
    /// `sk_...`.
    pub secret_key: String,
    /// `whsec_...` of the webhook endpoint `/webhooks/stripe`.
    pub webhook_secret: String,
    /// Another server than Stripe's own.
    #[serde(default = "stripe_url")]
    pub base_url: String,
}

/// A provider of identities that speaks OpenID Connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// What people call it; on the button.
    pub name: String,
    /// Its address, just as it calls itself. `/sign-in/oidc/callback` of this server is to be registered there.
    pub issuer: String,
    /// As registered there.
    pub client_id: String,
    /// As registered there.
    pub client_secret: String,
}

/// A mail server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtps://user:password@host`, or `smtp://host:port` for a server on this machine.
    pub url: String,
    /// Who writes: `Market <market@example.org>`.
    pub from: String,
}

/// A Millstream server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Millstream {
    /// `http://host:port` of gRPC ingest.
    pub ingest_url: Option<String>,
    /// A key of the role producer.
    #[serde(default)]
    pub ingest_key: String,
    /// `http://host:port` of the metrics API.
    pub metrics_url: Option<String>,
    /// A key of the role analyst.
    #[serde(default)]
    pub metrics_key: String,
    /// The producer's name: one for all machines of this marketplace.
    #[serde(default = "producer")]
    pub producer: String,
}

/// Monthly price of a seat, minor units of US dollars.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seats {
    /// Of the tier team.
    pub team_minor: i64,
    /// Of the tier enterprise.
    pub enterprise_minor: i64,
}

/// Stripe's own server.
pub const STRIPE_URL: &str = "https://api.stripe.com";

fn stripe_url() -> String {
    STRIPE_URL.to_string()
}

fn producer() -> String {
    "marketplace".to_string()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("marketplace-data"),
            database_url: None,
            packages_url: None,
            packages: std::collections::BTreeMap::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            public_url: None,
            behind_proxy: false,
            registry_prefix: "local.marketplace".to_string(),
            fee_basis_points: 1_500,
            uploads: Uploads::default(),
            relevance: Weights::default(),
            stripe: None,
            oidc: None,
            smtp: None,
            millstream: None,
            seats: Seats::default(),
        }
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            package_bytes_max: 20 << 20,
            unpacked_bytes_max: 100 << 20,
            entries_max: 2_000,
            versions_per_day_max: 50,
        }
    }
}

impl Default for Seats {
    fn default() -> Self {
        Self { team_minor: 2_000, enterprise_minor: 6_000 }
    }
}

impl Config {
    /// Reads a file; its relative `data_dir` is relative to the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Problem::invalid(format!("cannot read {}: {e}", path.display())))?;
        let mut config: Self =
            toml::from_str(&text).map_err(|e| Problem::invalid(format!("{}: {e}", path.display())))?;
        if let Some(folder) = path.parent() {
            config.data_dir = folder.join(&config.data_dir);
        }
        Ok(config)
    }

    /// The database's URL.
    pub fn database_url(&self) -> String {
        let default = || format!("sqlite://{}", self.data_dir.join("market.db").display());
        self.database_url.clone().unwrap_or_else(default)
    }

    /// How browsers reach this server, without a slash at the end.
    pub fn public_url(&self) -> String {
        let url = self.public_url.clone().unwrap_or_else(|| format!("http://{}", self.listen));
        url.trim_end_matches('/').to_string()
    }
}

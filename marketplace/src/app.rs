//! Everything that a request may need, and the routes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderValue;
use axum::middleware;
use axum::routing::{get, post};

use crate::accounts::{Limits, Passwords, same_origin};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::events::Views;
use crate::installs::{Signer, download};
use crate::oidc::Provider;
use crate::packages::Packages;
use crate::payments::Stripe;
use crate::problem::{Problem, Result};
use crate::search::Catalogue;
use crate::usage::Usage;
use crate::{api, pages, publish};

/// Everything that a request may need.
#[derive(Debug)]
pub struct App {
    /// As `marketplace.toml` says.
    pub config: Config,
    /// The time of day.
    pub clock: Clock,
    /// What is known.
    pub db: Db,
    /// Where packages are.
    pub packages: Packages,
    /// What can be searched.
    pub catalogue: Catalogue,
    /// Who signs manifests.
    pub signer: Signer,
    /// Who did too much.
    pub limits: Limits,
    /// Who hashes passwords.
    pub passwords: Passwords,
    /// What was looked at.
    pub views: Views,
    /// Whom money comes from.
    pub stripe: Option<Stripe>,
    /// Where else people may sign in.
    pub oidc: Option<Provider>,
    /// Where publishers' figures come from.
    pub usage: Option<Usage>,
    /// What browsers may do on pages.
    pub policy: HeaderValue,
    bound: OnceLock<String>,
}

impl App {
    /// Opens database, packages, key and index.
    pub async fn open(config: Config, clock: Clock) -> Result<Arc<Self>> {
        let folder = &config.data_dir;
        std::fs::create_dir_all(folder)
            .map_err(|e| Problem::unavailable(format!("data_dir {}: {e}", folder.display())))?;
        let db = Db::open(&config.database_url()).await?;
        let stripe = config.stripe.as_ref().map(Stripe::new).transpose()?;
        let app = Arc::new(Self {
            packages: Packages::open(&config)?,
            catalogue: Catalogue::open(db.clone(), clock.clone(), config.relevance).await?,
            signer: Signer::open(&folder.join("signing-key.pk8"))?,
            limits: Limits::new(clock.clone()),
            passwords: Passwords::new()?,
            views: Views::default(),
            policy: pages::policy(stripe.as_ref()),
            stripe,
            oidc: config.oidc.as_ref().map(Provider::new).transpose()?,
            usage: config.millstream.as_ref().and_then(Usage::new),
            bound: OnceLock::new(),
            config,
            clock,
            db,
        });
        publish::abandon_unfinished(&app).await?;
        Ok(app)
    }

    /// How browsers and the command reach this server, without a slash at the end.
    pub fn public_url(&self) -> String {
        match (&self.config.public_url, self.bound.get()) {
            (None, Some(bound)) => bound.clone(),
            _ => self.config.public_url(),
        }
    }

    /// Tells which address was bound, where the configuration names none.
    pub fn is_bound_to(&self, address: std::net::SocketAddr) {
        // Bound once a process.
        let _ = self.bound.set(format!("http://{address}"));
    }
}

/// All routes: pages, API, registry, packages, webhooks.
pub fn router(app: Arc<App>) -> Router {
    let uploads_max = app.config.uploads.package_bytes_max + (64 << 10);
    let (api, _) = api::router();
    Router::new()
        .merge(pages::router(uploads_max))
        .merge(api.layer(DefaultBodyLimit::max(uploads_max)))
        .merge(api::registry_router())
        .route("/packages/{file}", get(download))
        .route("/webhooks/stripe", post(api::webhook))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(pages::not_found)
        .layer(middleware::from_fn_with_state(app.clone(), same_origin))
        .layer(middleware::from_fn_with_state(app.clone(), pages::dress))
        .with_state(app)
}

/// How long a request may take, body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

//! The HTTP face.
//!
//! In: requests with `Authorization: Bearer <key>`. Out: JSON, CSV, Arrow, Prometheus text, and the pages of [`crate::dashboard`]; every error is
//! `application/problem+json`. It never writes a table except through ingest, and never reads a file that a client names.

mod answer;
mod counters;
mod gate;
mod ingest;
mod metric;
mod openapi;
mod otlp;
mod page_of_rows;
mod problem;
mod prometheus;
mod sdk;
mod sql;
pub mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::middleware;
use axum::routing::{get, post};
use millstream::Engine;
use millstream::time::Clock;
use tokio::sync::{Semaphore, watch};

pub use self::counters::Counters;
pub use self::gate::authorize_local;
pub use self::problem::Problem;
use crate::config::Config;
use crate::dashboard;
use crate::ingest::Service;
use crate::keys::Keys;

/// What every handler sees.
#[derive(Debug)]
pub struct App {
    /// Where rows come from and go to.
    pub engine: Arc<Engine>,
    /// As `millstream.toml` says.
    pub config: Config,
    /// Who may do what.
    pub keys: Arc<Keys>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What was asked.
    pub counters: Counters,
    /// The ingest service, the one that gRPC speaks to.
    pub ingest: Service<Engine>,
    /// Requests that may still begin.
    pub permits: Semaphore,
    /// Pages that may still be live.
    pub live: Arc<Semaphore>,
    /// Turns true when the server is to stop: what streams must end.
    pub stopping: watch::Receiver<bool>,
    /// Answers of metrics whose tables have not changed since.
    pub answers: crate::metric::Cache,
}

impl App {
    /// A face of `engine`; `stopping` turns true when the server is to stop.
    pub fn new(
        engine: Arc<Engine>,
        config: Config,
        keys: Arc<Keys>,
        clock: Arc<dyn Clock>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let permits = Semaphore::new(config.http.requests_max.min(Semaphore::MAX_PERMITS));
        let ingest = Service::new(engine.clone(), keys.clone(), config.ingest.clone(), stopping.clone());
        let live = Arc::new(Semaphore::new(dashboard::READERS_MAX));
        let (counters, answers) = (Counters::default(), crate::metric::Cache::default());
        Self { engine, config, keys, clock, counters, ingest, permits, live, stopping, answers }
    }

    /// The zone of days where nobody chooses another.
    pub fn zone(&self) -> &str {
        &self.config.time_zone
    }
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(prometheus::metrics))
        .route("/api/v1/metrics", get(metric::catalogue))
        .route("/api/v1/metrics/query", post(metric::query))
        .route("/api/v1/metrics/{name}", get(metric::answer))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/sql", post(sql::query))
        .route("/api/v1/ingest/{table}", post(ingest::rows))
        .route("/api/v1/cloudevents/{table}", post(sdk::cloudevents))
        .route("/v1/batch", post(sdk::segment))
        .route("/v1/logs", post(otlp::logs))
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/batch/", post(sdk::posthog))
        .route("/batch", post(sdk::posthog))
        // Outside the gate's bound: it answers also when everything else is busy.
        .route("/healthz", get(health))
        .merge(dashboard::routes(&app))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), gate::pass))
        .with_state(app)
}

async fn health(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    match app.engine.status().failure {
        None => Ok("ok\n"),
        Some(failure) => Err(millstream::Error::Stopped(failure).into()),
    }
}

async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(format!("no page {}; start at / or GET /api/v1/metrics", uri.path()))
}

async fn method_not_allowed(uri: Uri) -> Problem {
    let detail =
        format!("{} does not take this method; /api/v1/sql and /api/v1/ingest take POST, the rest GET", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Wrong method", detail)
}

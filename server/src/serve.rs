//! One running server: engine, gRPC, HTTP and the schedule of rollups, started and stopped together.
//!
//! Stopping loses nothing: the faces stop accepting, what they have begun is answered (within a bound), a rollup in
//! progress ends, and only then the engine takes its last checkpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream::time::{Clock, day_of};
use millstream::{Engine, Error, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use crate::config::Config;
use crate::connections::{Bounded, Places};
use crate::http::{self, App, tls};
use crate::keys::Keys;
use crate::schedule::{self, Schedule};
use crate::sending::Sending;
use crate::tables::Tables;
use crate::{adapt, catalog, flight, ingest, otlp, postgres};

/// How long open requests may take to end once the server is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the pipelines are asked whether they have failed.
const FAILURE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The engine inside.
    pub engine: Arc<Engine>,
    /// The keys that its faces check.
    pub keys: Arc<Keys>,
    /// Where HTTP listens.
    pub http_address: SocketAddr,
    /// Where gRPC listens.
    pub grpc_address: SocketAddr,
    /// Where PostgreSQL's protocol is spoken, if it is.
    pub postgres_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    faces: Vec<JoinHandle<Result<()>>>,
    scheduler: JoinHandle<()>,
    sending: JoinHandle<()>,
}

impl Server {
    /// Opens the data directory, plans and starts the pipelines, then listens.
    ///
    /// *Errors*: `Config` (an address that is taken, a certificate that cannot be read), `Query` (a pipeline's SQL), and
    /// whatever opening the directory gives.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let http = listen("http.listen", config.http.listen).await?;
        let grpc = listen("ingest.listen", config.ingest.listen).await?;
        let postgres = match config.postgres.listen {
            Some(address) => Some(listen("postgres.listen", address).await?),
            None => None,
        };
        let engine = Arc::new(open_engine(&config, clock.clone()).await?);
        engine.start().await?;
        // Metrics read the tables of rollups from the first request on.
        let today = day_of(clock.now());
        schedule::make_missing(&Tables::Running(engine.clone()), &config.sql.rollups, today).await?;
        let keys = Arc::new(Keys::open(&config.data_dir, clock.clone())?);
        let (stop, stopping) = watch::channel(false);
        let http_address = address(&http)?;
        let grpc_address = address(&grpc)?;
        let postgres_address = postgres.as_ref().map(address).transpose()?;
        let schedule = Schedule {
            engine: engine.clone(),
            clock: clock.clone(),
            dir: config.sql.rollups.clone(),
            cron: schedule::parse_cron(&config.rollups.schedule)?,
            recheck_interval: config.rollups.recheck_interval,
        };
        let sending = Sending { engine: engine.clone(), config: config.clone(), clock: clock.clone() };
        let routes = flight::add_to(Routes::default(), &engine, keys.clone(), config.query_limits());
        let collector = ingest::Service::new(engine.clone(), keys.clone(), config.ingest.clone(), stopping.clone());
        let routes = otlp::grpc::add_to(routes, Arc::new(collector), &keys, config.ingest.message_bytes_max);
        let (section, stop_grpc) = (config.ingest.clone(), stopped(stopping.clone()));
        let grpc = ingest::serve(engine.clone(), keys.clone(), section, grpc, routes, stop_grpc);
        let views = catalog::plain_views(&config.sql.views)?;
        let postgres = postgres.map(|listener| {
            let (section, limits) = (config.postgres.clone(), config.query_limits());
            let (engine, keys) = (engine.clone(), keys.clone());
            tokio::spawn(postgres::serve(engine, keys, section, limits, views, listener, stopping.clone()))
        });
        let app = App::new(engine.clone(), config, keys.clone(), clock, stopping.clone());
        let mut faces = vec![tokio::spawn(grpc), tokio::spawn(serve_http(http, Arc::new(app), stopping.clone()))];
        faces.extend(postgres);
        let sending = tokio::spawn(sending.run(stopping.clone()));
        let scheduler = tokio::spawn(schedule.run(stopping));
        Ok(Self { engine, keys, http_address, grpc_address, postgres_address, stop, faces, scheduler, sending })
    }

    /// Ends when a face or the pipelines fail; a server that takes nothing in should stop. Never ends else.
    pub async fn failed(&mut self) -> Error {
        let engine = self.engine.clone();
        let stopped = async {
            loop {
                if let Some(failure) = engine.status().failure {
                    return Error::Stopped(failure);
                }
                tokio::time::sleep(FAILURE_CHECK_INTERVAL).await;
            }
        };
        tokio::select! {
            face = futures::future::select_all(self.faces.iter_mut()) => match face.0 {
                Ok(Err(error)) => error,
                Ok(Ok(())) => Error::Stopped("a listener ended by itself".into()),
                Err(e) => Error::Bug(format!("a listener's task ended: {e}")),
            },
            error = stopped => error,
        }
    }

    /// Stops accepting, lets open requests and a rollup in progress end, takes the last checkpoint.
    pub async fn stop(self) -> Result<()> {
        // Nobody listening any more is as good.
        let _ = self.stop.send(true);
        let drain = async {
            for face in self.faces.into_iter().filter(|face| !face.is_finished()) {
                if let Ok(Err(error)) = face.await {
                    tracing::warn!(%error, "a listener ended with an error");
                }
            }
        };
        if tokio::time::timeout(2 * STOP_TIMEOUT, drain).await.is_err() {
            tracing::warn!("requests were still open when their time to end was over; their senders will try again");
        }
        if self.sending.await.is_err() {
            tracing::warn!("the task that sends reports ended early");
        }
        if self.scheduler.await.is_err() {
            tracing::warn!("the scheduler's task ended early");
        }
        self.engine.close().await
    }
}

/// The engine with everything that `pipelines/` defines; its pipelines do not run yet.
pub async fn open_engine(config: &Config, clock: Arc<dyn Clock>) -> Result<Engine> {
    let engine = Engine::open(config.engine_options(clock)).await?;
    adapt::register_messages(&engine)?;
    for file in catalog::pipelines(&config.sql.pipelines)? {
        engine.execute(&file.sql, &file.path.display().to_string()).await?;
    }
    engine.set_views(catalog::views(&config.sql.views)?);
    Ok(engine)
}

async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Error::Config(format!("{key} = {address}: {e}; stop what uses it, or choose another port")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|e| Error::Config(format!("the listening address: {e}")))
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn serve_http(listener: TcpListener, app: Arc<App>, stopping: watch::Receiver<bool>) -> Result<()> {
    let router = http::router(app.clone());
    let places = Places::new(app.config.http.connections_max);
    let failed = |e: std::io::Error| Error::Storage(format!("the HTTP listener failed: {e}"));
    let shutdown = stopped(stopping.clone());
    let serving = async move {
        match (&app.config.http.tls_cert, &app.config.http.tls_key) {
            (Some(cert), Some(key)) => {
                let listener = Bounded::new(tls::Listener::new(listener, cert, key)?, places);
                axum::serve(listener, router).with_graceful_shutdown(shutdown).await.map_err(failed)
            }
            _ => axum::serve(Bounded::new(listener, places), router)
                .with_graceful_shutdown(shutdown)
                .await
                .map_err(failed),
        }
    };
    let give_up = async {
        // A client that does not read its answer must not keep the server from stopping.
        stopped(stopping).await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => served,
        () = give_up => Ok(()),
    }
}

//! Accepts connections.

use std::sync::Arc;
use std::time::Duration;

use millstream::{Engine, QueryLimits, Result};
use pgwire::api::ConnectionManager;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::session::Session;
use super::{PostgresConfig, catalog, dialect, stream};
use crate::http::tls;
use crate::keys::Keys;

/// Serves until `stopping` turns true; `views` are those that have no parameters, so that anybody can read them; open connections end with it.
pub async fn serve(
    engine: Arc<Engine>,
    keys: Arc<Keys>,
    config: PostgresConfig,
    limits: QueryLimits,
    views: Vec<String>,
    listener: TcpListener,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => Some(TlsAcceptor::from(Arc::new(tls::server_config(cert, key)?))),
        _ => None,
    };
    let batch = engine.batch();
    let batch = batch.dressed(catalog::dress(batch.clone(), engine.lake().clone(), views, &limits)?);
    let dialect = Arc::new(dialect::Dialect::default());
    let cancels = Arc::new(ConnectionManager::new());
    let permits = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: give the open connections time to end.
                tracing::warn!(%error, "cannot accept a PostgreSQL connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::warn!(%peer, max = config.connections_max, "a PostgreSQL connection too many (postgres.connections_max)");
            continue;
        };
        let session = Session::new(batch.clone(), keys.clone(), limits.clone(), dialect.clone(), cancels.clone());
        let (tls, mut stopping) = (tls.clone(), stopping.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let serving = stream::serve(socket, tls, session);
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => {}
                ended = serving => if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a PostgreSQL connection ended");
                },
            }
        });
    }
}

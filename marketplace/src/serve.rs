//! `marketplace serve`: the listener, and what goes on beside it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::{App, router};
use crate::events::{Sender, SenderError};
use crate::mail::Mailer;
use crate::payments;
use crate::problem::{Problem, Result};

const REFRESH_EVERY: Duration = Duration::from_secs(1);
const TRENDS_EVERY: Duration = Duration::from_secs(60);
const VIEWS_EVERY: Duration = Duration::from_millis(250);
const SEND_EVERY: Duration = Duration::from_millis(500);
const SEND_RETRY_MAX: Duration = Duration::from_secs(30);
const RECONCILE_EVERY: Duration = Duration::from_secs(86_400);
const MAIL_EVERY: Duration = Duration::from_secs(5);

/// Binds the listener.
pub async fn bind(app: &App) -> Result<TcpListener> {
    let failed = |e: std::io::Error| Problem::unavailable(format!("cannot listen on {}: {e}", app.config.listen));
    let listener = TcpListener::bind(app.config.listen).await.map_err(failed)?;
    app.is_bound_to(listener.local_addr().map_err(failed)?);
    Ok(listener)
}

/// Serves until `shutdown` ends; then requests under way are finished and events are written.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut beside = beside(&app, &stopping)?;
    let service = router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            shutdown.await;
            let _ = stop.send(true);
        })
        .await;
    while beside.join_next().await.is_some() {}
    app.views.flush(&app.db).await?;
    served.map_err(|e| Problem::unavailable(format!("the listener failed: {e}")))
}

/// Starts what goes on beside the requests; all of it ends when `stopping` turns true.
fn beside(app: &Arc<App>, stopping: &watch::Receiver<bool>) -> Result<JoinSet<()>> {
    let mut set = JoinSet::new();
    let every = |period: Duration| (app.clone(), stopping.clone(), period);
    let (a, stop, period) = every(REFRESH_EVERY);
    set.spawn(repeat(stop, period, move || {
        let app = a.clone();
        async move { note("reading the catalogue", app.catalogue.refresh().await) }
    }));
    let (a, stop, period) = every(TRENDS_EVERY);
    set.spawn(repeat(stop, period, move || {
        let app = a.clone();
        async move { note("computing trends", app.catalogue.refresh_trends().await) }
    }));
    let (a, stop, period) = every(VIEWS_EVERY);
    set.spawn(repeat(stop, period, move || {
        let app = a.clone();
        async move { note("writing views", app.views.flush(&app.db).await) }
    }));
    if app.stripe.is_some() {
        let (a, stop, period) = every(RECONCILE_EVERY);
        set.spawn(repeat(stop, period, move || {
            let app = a.clone();
            async move { note("asking Stripe for what it told", payments::reconcile(&app).await) }
        }));
    }
    if let Some(smtp) = &app.config.smtp {
        let mailer = Arc::new(Mailer::new(smtp)?);
        let (a, stop, period) = every(MAIL_EVERY);
        set.spawn(repeat(stop, period, move || {
            let (app, mailer) = (a.clone(), mailer.clone());
            async move { note("carrying letters", mailer.carry(&app).await) }
        }));
    }
    if let Some(millstream) = app.config.millstream.as_ref().filter(|m| m.ingest_url.is_some()) {
        let sender = Sender::new(app.db.clone(), app.clock.clone(), millstream)?;
        set.spawn(send(sender, stopping.clone()));
    }
    Ok(set)
}

fn note<T>(what: &str, outcome: Result<T>) {
    if let Err(problem) = outcome {
        tracing::error!(what, detail = problem.detail(), "will be tried again");
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop too.
    drop(stopping.wait_for(|stop| *stop).await);
}

async fn repeat<F: Future<Output = ()> + Send>(
    mut stopping: watch::Receiver<bool>,
    period: Duration,
    work: impl Fn() -> F + Send,
) {
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = tokio::time::sleep(period) => work().await,
        }
    }
}

/// Sends events; waits longer each time that Millstream does not take them.
async fn send(mut sender: Sender, mut stopping: watch::Receiver<bool>) {
    let mut wait = SEND_EVERY;
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match sender.drain().await {
            Ok(_) => SEND_EVERY,
            Err(error) => {
                match &error {
                    SenderError::Busy(_) => tracing::warn!("{error}"),
                    SenderError::Refused { .. } | SenderError::Database(_) => tracing::error!("{error}"),
                }
                (wait * 2).min(SEND_RETRY_MAX)
            }
        };
    }
}

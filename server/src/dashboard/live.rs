//! Live figures as server-sent events: one small message a second while a page is open.
//!
//! Bounded: so many readers at once, each for an hour before its browser asks again; a slow reader gets fewer messages, since
//! each is made when the last was taken. Ends when the server stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{Stream, unfold};
use millstream::time::{WATERMARK_MAX, WATERMARK_MIN};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::overview::verdict;
use crate::http::{App, Problem};

/// Readers at the same time, of figures and of rows together.
pub const READERS_MAX: usize = 128;
const PERIOD: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(3600);

/// One reader: holds its place until it is dropped.
pub struct Reader {
    pub(super) app: Arc<App>,
    _permit: OwnedSemaphorePermit,
    interval: Interval,
    stopping: watch::Receiver<bool>,
    end: Instant,
}

impl Reader {
    /// Takes a place.
    pub fn new(app: Arc<App>, period: Duration) -> Result<Self, Problem> {
        let permit = app.live.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{READERS_MAX} pages are live already; close some, or load the page again later");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "live", "Too many live pages", detail).retry_after_ms(30_000)
        })?;
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopping = app.stopping.clone();
        Ok(Self { app, _permit: permit, interval, stopping, end: Instant::now() + LIFETIME })
    }

    /// Waits for the next tick; `false` when the stream is to end.
    pub async fn tick(&mut self) -> bool {
        if Instant::now() > self.end {
            return false;
        }
        tokio::select! {
            _ = self.interval.tick() => true,
            _ = self.stopping.wait_for(|stop| *stop) => false,
        }
    }
}

/// `GET /live`.
pub async fn status(
    State(app): State<Arc<App>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let reader = Reader::new(app, PERIOD)?;
    let stream = unfold(reader, |mut reader| async move {
        let event =
            reader.tick().await.then(|| Event::default().event("status").data(message(&reader.app).to_string()));
        event.map(|event| (Ok(event), reader))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

fn message(app: &App) -> Value {
    let status = app.engine.status();
    let now = app.clock.now();
    let known = |w: i64| (w != WATERMARK_MIN && w != WATERMARK_MAX).then_some(w);
    let newest =
        status.pipelines.iter().filter(|p| !p.name.ends_with("__rejected")).filter_map(|p| known(p.watermark)).max();
    let (mood, health) = verdict(&status);
    let pipelines: Vec<Value> = status
        .pipelines
        .iter()
        .map(|p| {
            json!({
                "name": p.name, "in": p.rows_in, "out": p.rows_out, "late": p.rows_late, "state": p.state_bytes,
                "watermark_ms": known(p.watermark).map(|w| w / 1_000_000),
            })
        })
        .collect();
    json!({
        "now_ms": now / 1_000_000,
        "mood": mood,
        "health": health,
        "newest_ms": newest.map(|w| w / 1_000_000),
        "late": status.pipelines.iter().map(|p| p.rows_late).sum::<u64>(),
        "rejected": status.rows_rejected,
        "future": status.rows_future,
        "checkpoint": status.checkpoint,
        "log_end": status.log_end,
        "log_waiting": status.log_end.saturating_sub(status.log_read),
        "log_open": status.log_end.saturating_sub(status.log_checkpointed),
        "pipelines": pipelines,
    })
}

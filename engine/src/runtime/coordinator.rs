//! The thread that takes checkpoints: barrier, everybody's part, manifest, commits, cleaning up.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Result;
use super::pipeline::Report;
use super::sources::{Command, SourceCounters};
use crate::checkpoint::{Checkpoints, Manifest, PipelineState, SourceState, VERSION};
use crate::connectors::Commit;
use crate::error::Error;
use crate::log::{Log, LogOffset};

/// The longest wait between two tries of a failing commit.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What reaches the coordinator.
pub enum Event {
    /// The sources have placed a barrier.
    SourcesAt {
        /// Which.
        checkpoint: u64,
        /// The next log entry to read.
        log_offset: LogOffset,
        /// Their states.
        sources: BTreeMap<String, SourceState>,
    },
    /// All bounded sources are read, and there is no log.
    SourcesEnded,
    /// Something from a pipeline, or a failure.
    Report(Report),
    /// Somebody wants a checkpoint that covers the log up to an entry, and an answer when its tables are committed.
    Flush(LogOffset, Sender<Result<()>>),
    /// Take a last checkpoint and end.
    Close,
    /// End at once, without a checkpoint.
    Abandon,
}

/// A checkpoint being put together.
struct Gathering {
    checkpoint: u64,
    log_offset: Option<LogOffset>,
    sources: BTreeMap<String, SourceState>,
    pipelines: BTreeMap<String, PipelineState>,
    waiters: Vec<Sender<Result<()>>>,
    is_last: bool,
}

/// What a pipeline's parts of a checkpoint are committed with.
pub struct Commits {
    /// The sink's.
    pub sink: Option<Arc<dyn Commit>>,
    /// The late rows'.
    pub late: Option<Arc<dyn Commit>>,
    /// The rejected rows'.
    pub rejected: Option<Arc<dyn Commit>>,
}

/// What anybody may look at.
#[derive(Debug, Default)]
pub struct Progress {
    /// The newest published checkpoint.
    pub checkpoint: u64,
    /// The first log entry that it does not cover.
    pub log_offset: LogOffset,
    /// Why everything stopped, if it did.
    pub failure: Option<String>,
}

/// The coordinator.
pub struct Coordinator {
    pub(super) events: Receiver<Event>,
    pub(super) commands: Sender<Command>,
    pub(super) interval: Option<Duration>,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) log: Option<Arc<Log>>,
    pub(super) commits: BTreeMap<String, Commits>,
    pub(super) counters: Arc<SourceCounters>,
    pub(super) progress: Arc<Mutex<Progress>>,
    pub(super) next: u64,
    pub(super) pipelines: usize,
}

impl Coordinator {
    /// Runs until everything has ended.
    pub fn run(mut self) -> Result<()> {
        let result = self.coordinate();
        if let Err(e) = &result {
            self.progress.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(e.to_string());
        }
        result
    }

    fn coordinate(&mut self) -> Result<()> {
        let mut gathering: Option<Gathering> = None;
        let mut waiting: Vec<(LogOffset, Sender<Result<()>>)> = Vec::new();
        let mut due = self.interval.map(|i| Instant::now() + i);
        let (mut closing, mut ending, mut ended) = (false, false, 0);
        while ended < self.pipelines || !ending {
            let event = match due.filter(|_| gathering.is_none() && !ending) {
                Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                Ok(Event::SourcesAt { checkpoint, log_offset, sources }) => {
                    if let Some(g) = gathering.as_mut().filter(|g| g.checkpoint == checkpoint) {
                        (g.log_offset, g.sources) = (Some(log_offset), sources);
                    }
                }
                Ok(Event::Report(Report::Prepared { checkpoint, pipeline, state })) => {
                    if let Some(g) = gathering.as_mut().filter(|g| g.checkpoint == checkpoint) {
                        g.pipelines.insert(pipeline, *state);
                    }
                }
                Ok(Event::Report(Report::Ended)) => ended += 1,
                Ok(Event::Report(Report::Failed(e))) => return Err(e),
                Ok(Event::Flush(through, reply)) => waiting.push((through, reply)),
                Ok(Event::SourcesEnded | Event::Close) => closing = true,
                // Nobody commands the reading thread any more: it ends, and with it those that it feeds.
                Ok(Event::Abandon) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    due = self.interval.map(|i| Instant::now() + i);
                    if self.counters.dirty.load(std::sync::atomic::Ordering::Relaxed) {
                        gathering = Some(self.begin(0, Vec::new())?);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Stopped("the engine's threads have ended".into()));
                }
            }
            if let Some(g) = gathering.take_if(|g| g.log_offset.is_some() && g.pipelines.len() == self.pipelines) {
                let last = g.is_last;
                self.complete(g, closing)?;
                if last {
                    ending = true;
                    self.command(Command::End)?;
                }
            }
            if gathering.is_none() && !ending && (closing || !waiting.is_empty()) {
                let through = waiting.iter().map(|w| w.0).max().unwrap_or(0);
                let waiters: Vec<_> = waiting.drain(..).map(|w| w.1).collect();
                let last = closing && waiters.is_empty();
                let mut g = self.begin(through, waiters)?;
                g.is_last = last;
                gathering = Some(g);
            }
        }
        Ok(())
    }

    fn command(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::Stopped("the reading thread has ended".into()))
    }

    fn begin(&mut self, through: LogOffset, waiters: Vec<Sender<Result<()>>>) -> Result<Gathering> {
        let checkpoint = self.next;
        self.next += 1;
        self.command(Command::Barrier { checkpoint, through })?;
        let (sources, pipelines) = (BTreeMap::new(), BTreeMap::new());
        Ok(Gathering { checkpoint, log_offset: None, sources, pipelines, waiters, is_last: false })
    }

    fn complete(&mut self, g: Gathering, closing: bool) -> Result<()> {
        let log_offset = g.log_offset.unwrap_or(0);
        let manifest = Manifest {
            version: VERSION,
            checkpoint: g.checkpoint,
            log_offset,
            sources: g.sources,
            pipelines: g.pipelines,
        };
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.publish(&manifest)?;
        }
        self.commit(&manifest, closing)?;
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            (progress.checkpoint, progress.log_offset) = (manifest.checkpoint, log_offset);
        }
        for waiter in g.waiters {
            let _ = waiter.send(Ok(()));
        }
        if let Some(checkpoints) = &self.checkpoints {
            let needed_from = checkpoints.clean()?;
            if let Some(log) = &self.log {
                log.retain_from(needed_from.min(log_offset))?;
            }
        }
        Ok(())
    }

    /// Makes a published checkpoint's rows visible; tries again while the store fails. At close it gives up instead:
    /// the next start commits what is missing.
    fn commit(&self, manifest: &Manifest, closing: bool) -> Result<()> {
        let mut wait = Duration::from_millis(100);
        loop {
            match commit_all(&self.commits, manifest) {
                Ok(()) => return Ok(()),
                Err(e @ Error::Storage(_)) if !closing && self.checkpoints.is_some() => {
                    tracing::warn!(
                        "checkpoint {} is safe but its tables are not committed yet, trying again: {e}",
                        manifest.checkpoint
                    );
                }
                Err(e) => return Err(e),
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
}

/// Refuses to go on when a table holds rows of a checkpoint after `newest`: the state that goes with them is gone, and
/// to compute them again from an older one would double some and skip others.
pub fn refuse_tables_ahead(commits: &BTreeMap<String, Commits>, newest: u64) -> Result<()> {
    for (name, own) in commits {
        for commit in [&own.sink, &own.late, &own.rejected].into_iter().flatten() {
            if let Some(committed) = commit.committed()?.filter(|c| *c > newest) {
                return Err(Error::Corrupt(format!(
                    "table '{name}' holds checkpoint {committed}, but the newest usable one is {newest}: restore the \
                     checkpoint directory from a copy, or start with an empty data directory and another lake"
                )));
            }
        }
    }
    Ok(())
}

/// Commits every pipeline's part; idempotent.
pub fn commit_all(commits: &BTreeMap<String, Commits>, manifest: &Manifest) -> Result<()> {
    for (name, state) in &manifest.pipelines {
        let Some(own) = commits.get(name) else { continue };
        for (commit, prepared) in [(&own.sink, &state.sink), (&own.late, &state.late), (&own.rejected, &state.rejected)]
        {
            if let Some(commit) = commit
                && *prepared != Value::Null
            {
                commit.commit(manifest.checkpoint, prepared)?;
            }
        }
    }
    Ok(())
}

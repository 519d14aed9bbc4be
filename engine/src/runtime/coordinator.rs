//! The thread that takes checkpoints: barrier, everybody's part, manifest, commits, cleaning up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Result;
use super::pipeline::Report;
use super::sources::{Command, SourceCounters};
use crate::checkpoint::{Again, Checkpoints, Manifest, PipelineState, SourceState, VERSION};
use crate::connectors::Commit;
use crate::error::Error;
use crate::log::{Log, LogOffset};
use crate::planted::{self, Bug};
use crate::time::Clock;

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
    /// Whether it takes the place of a damaged one.
    is_again: bool,
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
    pub(super) clock: Arc<dyn Clock>,
    pub(super) next: u64,
    pub(super) pipelines: usize,
    pub(super) course: Course,
}

/// How far the coordinator has come.
#[derive(Default)]
pub(super) struct Course {
    gathering: Option<Gathering>,
    /// Damaged checkpoints that are to be taken again before anything else.
    again: VecDeque<Again>,
    /// Who waits for which place in the log.
    waiting: Vec<(LogOffset, Sender<Result<()>>)>,
    closing: bool,
    ending: bool,
    /// Pipelines that have ended.
    ended: usize,
}

impl Course {
    /// Begins with damaged checkpoints, each up to its place in the log.
    pub(super) fn again(again: &[Again]) -> Self {
        Self { again: again.iter().copied().collect(), ..Self::default() }
    }
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
        let mut due = self.interval.map(|i| Instant::now() + i);
        self.advance()?;
        while !self.has_ended() {
            let event = match due.filter(|_| self.course.gathering.is_none() && !self.course.ending) {
                Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                // Nobody commands the reading thread any more: it ends, and with it those that it feeds.
                Ok(Event::Abandon) => return Ok(()),
                Ok(event) => self.on_event(event)?,
                Err(RecvTimeoutError::Timeout) => {
                    due = self.interval.map(|i| Instant::now() + i);
                    self.on_interval()?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Stopped("the engine's threads have ended".into()));
                }
            }
            self.advance()?;
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.course.ending && self.course.ended >= self.pipelines
    }

    /// Takes in everything that has come, without waiting; for whoever runs the engine on one thread.
    pub fn step(&mut self) -> Result<()> {
        while let Ok(event) = self.events.try_recv() {
            self.on_event(event)?;
            self.advance()?;
        }
        self.advance()
    }

    /// Begins a checkpoint if anything was read since the last one.
    pub fn on_interval(&mut self) -> Result<()> {
        let free = self.course.gathering.is_none() && self.course.again.is_empty();
        if free && self.counters.dirty.load(std::sync::atomic::Ordering::Relaxed) {
            self.course.gathering = Some(self.begin(0, Vec::new())?);
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::SourcesAt { checkpoint, log_offset, sources } => {
                if let Some(g) = self.course.gathering.as_mut().filter(|g| g.checkpoint == checkpoint) {
                    (g.log_offset, g.sources) = (Some(log_offset), sources);
                }
            }
            Event::Report(Report::Prepared { checkpoint, pipeline, state }) => {
                if let Some(g) = self.course.gathering.as_mut().filter(|g| g.checkpoint == checkpoint) {
                    g.pipelines.insert(pipeline, *state);
                }
            }
            Event::Report(Report::Ended) => self.course.ended += 1,
            Event::Report(Report::Failed(e)) => return Err(e),
            Event::Flush(through, reply) => self.course.waiting.push((through, reply)),
            Event::SourcesEnded | Event::Close => self.course.closing = true,
            Event::Abandon => {}
        }
        Ok(())
    }

    /// Completes a checkpoint that has all its parts, and begins the next one that somebody waits for.
    fn advance(&mut self) -> Result<()> {
        let all = self.pipelines;
        if let Some(g) = self.course.gathering.take_if(|g| g.log_offset.is_some() && g.pipelines.len() == all) {
            let last = g.is_last;
            self.complete(g)?;
            if last {
                self.course.ending = true;
                self.command(Command::End)?;
            }
        }
        if self.course.gathering.is_none()
            && let Some(again) = self.course.again.pop_front()
        {
            tracing::warn!("checkpoint {} is damaged: taking it again from the one before", again.checkpoint);
            self.next = again.checkpoint;
            let mut g = self.begin(again.log_offset, Vec::new())?;
            g.is_again = true;
            self.course.gathering = Some(g);
        }
        if self.course.gathering.is_none()
            && !self.course.ending
            && (self.course.closing || !self.course.waiting.is_empty())
        {
            let through = self.course.waiting.iter().map(|w| w.0).max().unwrap_or(0);
            let waiters: Vec<_> = self.course.waiting.drain(..).map(|w| w.1).collect();
            let last = self.course.closing && waiters.is_empty();
            let mut g = self.begin(through, waiters)?;
            g.is_last = last;
            self.course.gathering = Some(g);
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
        Ok(Gathering { checkpoint, log_offset: None, sources, pipelines, waiters, is_last: false, is_again: false })
    }

    fn complete(&mut self, g: Gathering) -> Result<()> {
        let log_offset = g.log_offset.unwrap_or(0);
        let manifest = Manifest {
            version: VERSION,
            checkpoint: g.checkpoint,
            log_offset,
            sources: g.sources,
            pipelines: g.pipelines,
            again: Vec::new(),
        };
        if planted::is(Bug::CommitBeforeManifest) {
            self.commit(&manifest)?;
        }
        if let Some(checkpoints) = &self.checkpoints {
            if g.is_again { checkpoints.publish_again(&manifest)? } else { checkpoints.publish(&manifest)? }
        }
        self.commit(&manifest)?;
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            (progress.checkpoint, progress.log_offset) = (manifest.checkpoint, log_offset);
        }
        for waiter in g.waiters {
            let _ = waiter.send(Ok(()));
        }
        if let Some(checkpoints) = &self.checkpoints {
            let needed_from = checkpoints.clean(manifest.checkpoint)?;
            if let Some(log) = &self.log {
                let cut = if planted::is(Bug::LogCutTooFar) { log.end() } else { needed_from.min(log_offset) };
                log.retain_from(cut)?;
            }
        }
        Ok(())
    }

    /// Makes a published checkpoint's rows visible; tries again while the store fails. At close it gives up instead:
    /// the next start commits what is missing.
    fn commit(&self, manifest: &Manifest) -> Result<()> {
        let mut wait = Duration::from_millis(100);
        loop {
            match commit_all(&self.commits, manifest) {
                Ok(()) => return Ok(()),
                Err(e @ Error::Storage(_)) if !self.course.closing && self.checkpoints.is_some() => {
                    tracing::warn!(
                        "checkpoint {} is safe but its tables are not committed yet, trying again: {e}",
                        manifest.checkpoint
                    );
                }
                Err(e) => return Err(e),
            }
            self.clock.sleep(wait);
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
}

/// Refuses to go on when a table holds rows of a checkpoint after `newest`: the state that goes with them is gone, and
/// to compute them again from an older one would double some and skip others. Gives the newest that a table holds.
pub fn refuse_tables_ahead(commits: &BTreeMap<String, Commits>, newest: u64) -> Result<u64> {
    let mut greatest = 0;
    for (name, own) in commits {
        for commit in [&own.sink, &own.late, &own.rejected].into_iter().flatten() {
            let committed = commit.committed()?.unwrap_or(0);
            if committed > newest {
                return Err(Error::Corrupt(format!(
                    "table '{name}' holds checkpoint {committed}, but the newest usable one is {newest}: \
                     `millstream repair` shows what is damaged; restore the checkpoint directory from a copy, or start \
                     with an empty data directory and another lake"
                )));
            }
            greatest = greatest.max(committed);
        }
    }
    Ok(greatest)
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

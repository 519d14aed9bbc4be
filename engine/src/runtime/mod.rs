//! Runs pipelines: threads, bounded channels, back-pressure, checkpoints, shutdown.
//!
//! ```text
//!            ┌───────────┐ feeds   ┌─────────┐ yields ┌───────┐
//!  log,  ──> │ sources   │ ──────> │ workers │ ─────> │ final │ ──> sink      (per pipeline)
//!  files     └───────────┘         └─────────┘        └───────┘
//!                  ^  barriers, places        parts of checkpoints │
//!                  └──────────────── coordinator <─────────────────┘ ──> manifest, then commits
//! ```

#[cfg(test)]
mod back_pressure;
pub mod budget;
pub mod changes;
pub mod complete;
pub mod coordinator;
pub mod lookups;
pub mod lower;
pub mod pipeline;
mod queue;
pub mod sides;
pub mod sources;
pub mod stamp;
pub mod state_files;
#[cfg(test)]
mod state_size;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::checkpoint::{Again, Checkpoints, Manifest};
use crate::error::{Error, Result};
use crate::log::{Log, LogOffset};
use crate::operators::join::lookup::Lookup;
use crate::planted::{self, Bug};
use crate::time::{Clock, SystemClock};
use budget::Budget;
use coordinator::{Commits, Coordinator, Course, Event, Progress, commit_all, refuse_tables_ahead};
use pipeline::{Counters, PipelineSpec, Report, Surroundings, Target};
use sources::{Command, Input, SourceCounters, SourceSpec, Sources};

/// What to run, and with what.
pub struct Setup {
    /// The sources.
    pub sources: Vec<SourceSpec>,
    /// The pipelines.
    pub pipelines: Vec<PipelineSpec>,
    /// Worker threads of each pipeline.
    pub workers: usize,
    /// The time between checkpoints; `None`: only at the end.
    pub interval: Option<Duration>,
    /// Where checkpoints are kept; `None`: a restart begins anew.
    pub checkpoints: Option<Checkpoints>,
    /// The checkpoint to take up from.
    pub restored: Option<Manifest>,
    /// The log, if some source reads it.
    pub log: Option<Arc<Log>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Whether a pipeline runs on the thread that feeds it; for a simulation.
    pub inline: bool,
    /// Bytes that the state of all pipelines may take in memory.
    pub state_bytes_max: usize,
    /// Bytes from which on it goes to disk; by default half of those.
    pub state_spill_at: Option<usize>,
}

impl Setup {
    /// Runs each pipeline on `workers` workers, without a log and without checkpoints: what is read again from the start
    /// needs none.
    pub fn new(sources: Vec<SourceSpec>, pipelines: Vec<PipelineSpec>, workers: usize) -> Self {
        Self {
            sources,
            pipelines,
            workers,
            interval: None,
            checkpoints: None,
            restored: None,
            log: None,
            clock: Arc::new(SystemClock),
            inline: false,
            state_bytes_max: usize::MAX,
            state_spill_at: None,
        }
    }
}

/// Everything that runs, before threads run it.
pub(crate) struct Parts {
    pub(crate) sources: Sources,
    pub(crate) commanded: Receiver<Command>,
    pub(crate) coordinator: Coordinator,
    pub(crate) events: Sender<Event>,
    pub(crate) progress: Arc<Mutex<Progress>>,
    source_counters: Arc<SourceCounters>,
    counters: BTreeMap<String, Arc<Counters>>,
    /// Those of the pipelines.
    threads: Vec<JoinHandle<()>>,
}

/// Running pipelines.
pub struct Runtime {
    events: Sender<Event>,
    progress: Arc<Mutex<Progress>>,
    /// Counters of the sources.
    pub sources: Arc<SourceCounters>,
    /// Counters by pipeline.
    pub pipelines: BTreeMap<String, Arc<Counters>>,
    coordinator: Mutex<Option<JoinHandle<Result<()>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("pipelines", &self.pipelines.keys()).finish()
    }
}

/// Runs `work` in a thread; a failure reaches the coordinator.
fn spawn(
    name: String,
    events: Sender<Event>,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<()>> {
    let run = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let failure = match result {
            Ok(Ok(())) => return,
            Ok(Err(e)) => e,
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                Error::Bug(text.unwrap_or_else(|| "a thread panicked".into()))
            }
        };
        let _ = events.send(Event::Report(Report::Failed(failure)));
    };
    std::thread::Builder::new().name(name).spawn(run).map_err(|e| Error::Config(format!("cannot start a thread: {e}")))
}

/// What each pipeline's parts of a checkpoint are committed with.
pub(crate) fn commits(pipelines: &[PipelineSpec]) -> BTreeMap<String, Commits> {
    let of = |side: &Option<Target>| side.as_ref().and_then(|t| t.commit.clone());
    let commits = |p: &PipelineSpec| Commits {
        sink: p.target.commit.clone(),
        late: of(&p.sides.late),
        rejected: of(&p.sides.rejected),
    };
    pipelines.iter().map(|p| (p.name.clone(), commits(p))).collect()
}

/// The damaged checkpoints that are to be taken again from the restored one; others after it are removed.
fn taken_again(setup: &Setup, commits: &BTreeMap<String, Commits>) -> Result<Vec<Again>> {
    let restored = setup.restored.as_ref();
    let committed = refuse_tables_ahead(commits, restored.map_or(0, Manifest::last))?;
    let mut again = restored.map(|m| m.again.clone()).unwrap_or_default();
    // What no table has need not be taken again as it was.
    again.retain(|a| a.checkpoint <= committed);
    refuse_inexact(setup, &again)?;
    if let Some(checkpoints) = &setup.checkpoints {
        let newest = restored.map_or(0, |m| m.checkpoint);
        checkpoints.discard_after(again.last().map_or(newest, |a| a.checkpoint))?;
    }
    Ok(again)
}

/// Damaged checkpoints are taken again only where that gives the same rows: from the log alone, and with the rows of
/// lookup tables that the first of them had.
fn refuse_inexact(setup: &Setup, again: &[Again]) -> Result<()> {
    let (Some(first), Some(last)) = (again.first(), again.last()) else { return Ok(()) };
    let bounded = setup.sources.iter().find(|s| matches!(s.input, Input::Bounded { .. }));
    let reloads = setup.pipelines.iter().flat_map(|p| p.plan.lookups()).any(|l| l.reloads());
    let end = setup.log.as_ref().map_or(0, |log| log.end());
    let why = match bounded {
        Some(source) => format!("the rows of '{}' cannot be read up to the same place again", source.table.name),
        None if reloads && again.len() > 1 => "the rows that its lookup tables had then are not known".to_string(),
        None if end < last.log_offset => {
            format!("it ended at entry {} of the log, which has {end} entries", last.log_offset)
        }
        None => return Ok(()),
    };
    Err(Error::Corrupt(format!(
        "checkpoint {} is damaged, and cannot be taken again exactly: {why}; `millstream repair` shows what is damaged, \
         `millstream repair --save` sets the damaged state aside so that its pipeline can be rebuilt",
        first.checkpoint
    )))
}

impl Parts {
    /// Commits what the restored checkpoint had prepared, restores state, starts the pipelines.
    pub(crate) fn new(setup: Setup) -> Result<Self> {
        let (events, received) = channel();
        let commits = commits(&setup.pipelines);
        let again = taken_again(&setup, &commits)?;
        let mut restored = setup.restored.clone();
        if let Some(manifest) = &restored
            && !planted::is(Bug::NoCommitAtStart)
        {
            commit_all(&commits, manifest)?;
        }
        let names: Vec<String> = setup.sources.iter().map(|s| s.table.name.clone()).collect();
        let (mut running, mut threads, mut counters) = (Vec::new(), Vec::new(), BTreeMap::new());
        let budget = Budget::new(setup.state_bytes_max, setup.state_spill_at);
        let lookups = setup.pipelines.iter().flat_map(|p| p.plan.lookups()).filter(Lookup::reloads).collect();
        for spec in setup.pipelines {
            let name = spec.name.clone();
            let around = Surroundings {
                sources: &names,
                workers: setup.workers,
                checkpoints: setup.checkpoints.clone(),
                restored: restored.as_mut().and_then(|m| m.pipelines.remove(&name)),
                next_checkpoint: setup.restored.as_ref().map_or(1, Manifest::next),
                reports: events.clone(),
                now: setup.clock.now(),
                inline: setup.inline,
                budget: &budget,
            };
            let (pipeline, own) = pipeline::start(spec, around)?;
            counters.insert(name, pipeline.counters.clone());
            running.push(pipeline);
            threads.extend(own);
        }
        let (commands, commanded) = channel();
        let source_counters = Arc::new(SourceCounters::default());
        let progress = Progress {
            checkpoint: restored.as_ref().map_or(0, |m| m.checkpoint),
            log_offset: restored.as_ref().map_or(0, |m| m.log_offset),
            failure: None,
        };
        let from = restored.as_ref().map_or_else(|| setup.log.as_ref().map_or(0, |l| l.start()), |m| m.log_offset);
        let none = BTreeMap::new();
        let places = restored.as_ref().map_or(&none, |m| &m.sources);
        let log = setup.log.clone().map(|l| (l, from));
        let (pipelines, clock) = (running.len(), setup.clock.clone());
        let sources =
            Sources::new(setup.sources, places, log, running, setup.clock, events.clone(), source_counters.clone())?
                .refreshing(lookups)
                .stopping_at(again.iter().map(|a| a.log_offset));
        let next = match planted::is(Bug::CheckpointNumberReused) {
            true => progress.checkpoint,
            false => restored.as_ref().map_or(1, Manifest::next),
        };
        let progress = Arc::new(Mutex::new(progress));
        let coordinator = Coordinator {
            events: received,
            commands,
            interval: setup.interval,
            checkpoints: setup.checkpoints,
            log: setup.log,
            commits,
            counters: source_counters.clone(),
            progress: progress.clone(),
            clock,
            next,
            pipelines,
            course: Course::again(&again),
        };
        Ok(Self { sources, commanded, coordinator, events, progress, source_counters, counters, threads })
    }
}

impl Runtime {
    /// Commits what the restored checkpoint had prepared, restores state, starts all threads.
    pub fn start(setup: Setup) -> Result<Self> {
        let Parts { sources, commanded, coordinator, events, progress, source_counters, counters, mut threads } =
            Parts::new(setup)?;
        threads.push(spawn("sources".into(), events.clone(), move || sources.run(&commanded))?);
        let coordinator = std::thread::Builder::new()
            .name("coordinator".into())
            .spawn(move || coordinator.run())
            .map_err(|e| Error::Config(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            events,
            progress,
            sources: source_counters,
            pipelines: counters,
            coordinator: Mutex::new(Some(coordinator)),
            threads: Mutex::new(threads),
        })
    }

    /// The newest checkpoint and the log entry after it.
    pub fn position(&self) -> (u64, LogOffset) {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        (progress.checkpoint, progress.log_offset)
    }

    /// Why everything stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }

    /// Waits for a checkpoint that covers the log up to `through`, its tables committed. Blocks the thread.
    pub fn flush(&self, through: LogOffset) -> Result<()> {
        let (reply, answer) = channel();
        let stopped = || Error::Stopped(self.failure().unwrap_or_else(|| "the engine is closed".into()));
        self.events.send(Event::Flush(through, reply)).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Asks for a last checkpoint and the end, without waiting.
    pub fn ask_to_close(&self) {
        // A failed send means that everything has ended already.
        let _ = self.events.send(Event::Close);
    }

    /// Takes a last checkpoint and stops.
    pub fn close(&self) -> Result<()> {
        self.ask_to_close();
        self.join()
    }

    /// Waits until everything has ended: for ever, unless all sources are bounded or somebody closes.
    pub fn join(&self) -> Result<()> {
        let coordinator = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = match coordinator {
            Some(thread) => thread.join().unwrap_or_else(|_| Err(Error::Bug("the coordinator panicked".into()))),
            None => Ok(()),
        };
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
        result
    }

    /// The sum of a counter over all pipelines.
    pub fn sum(&self, counter: impl Fn(&Counters) -> &std::sync::atomic::AtomicU64) -> u64 {
        self.pipelines.values().map(|c| counter(c).load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Runtime {
    /// Ends every thread without a last checkpoint, as if the process had been killed, and waits for them: nothing is
    /// written afterwards. Does nothing after [`Runtime::close`].
    fn drop(&mut self) {
        let _ = self.events.send(Event::Abandon);
        let _ = self.join();
    }
}

//! The threads of one pipeline: workers that run the worker graph on their share of the batches, and a final thread
//! that merges what they yield and writes to the sink.
//!
//! Batches go to the workers in turn; everything else goes to all of them. The final thread takes their yields in the
//! same turn, so the order of the log is kept whatever the threads' speed, and a barrier needs no alignment.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::budget::{Budget, Share};
use super::coordinator::Event;
use super::lookups::Lookups;
use super::lower::Blueprints;
use super::queue::{self, Room, queue};
use super::sides::{Sides, late_schema};
use super::state_files::StateFiles;
use super::worker::{Mark, Worker, Yield, Yields};
use super::{Result, spawn};
use crate::checkpoint::{Checkpoints, PipelineState, SET_ASIDE};
use crate::connectors::{Commit, Sink};
use crate::error::Error;
use crate::message::{Message, Rows};
use crate::operators::graph::{Exit, Graph, Left, Next};
use crate::sql::plan::Plan;
use crate::time::{WATERMARK_MIN, Watermark};

/// Messages between two threads of a pipeline, half of them in the hands of the one that receives; then the sender waits.
pub(super) const QUEUE: usize = 8;

/// Bytes of what may wait, however many messages, before a final thread that takes what waits as one: the more waits, the
/// fewer changes.
const GATHERED_BYTES: usize = 16 << 20;

/// A sink with its commit, if it has one.
pub struct Target {
    /// Takes the rows.
    pub sink: Box<dyn Sink>,
    /// Makes them visible.
    pub commit: Option<Arc<dyn Commit>>,
}

/// A pipeline to run.
pub struct PipelineSpec {
    /// Its name, which is its sink's.
    pub name: String,
    /// What it computes.
    pub plan: Plan,
    /// Where its rows go.
    pub target: Target,
    /// Where late and rejected rows go.
    pub sides: Sides,
}

/// Counters of a pipeline, shared with whoever looks.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rows in.
    pub rows_in: AtomicU64,
    /// Rows out.
    pub rows_out: AtomicU64,
    /// Rows late for a window.
    pub rows_late: AtomicU64,
    /// Rows for which an expression failed.
    pub rows_failed: AtomicU64,
    /// The final thread's watermark, nanoseconds since the epoch.
    pub watermark: AtomicI64,
    /// Bytes of state.
    pub state_bytes: AtomicU64,
}

/// What goes to a worker.
#[derive(Debug, Clone)]
pub enum Feed {
    /// Rows of a source.
    Batch(usize, Box<Rows>),
    /// A source's watermark.
    Watermark(usize, Watermark),
    /// A checkpoint.
    Barrier(u64),
    /// Nothing follows.
    End,
}

/// What the final thread tells the coordinator.
#[derive(Debug)]
pub enum Report {
    /// A pipeline has prepared its part of a checkpoint.
    Prepared {
        /// Which checkpoint.
        checkpoint: u64,
        /// Which pipeline.
        pipeline: String,
        /// Its part.
        state: Box<PipelineState>,
    },
    /// A pipeline has ended.
    Ended,
    /// A thread failed: everything stops.
    Failed(Error),
}

/// The feeding end of a running pipeline.
pub struct Running {
    /// For each source index, whether the pipeline reads it.
    pub reads: Vec<bool>,
    to: To,
    turn: usize,
    /// Its counters.
    pub counters: Arc<Counters>,
}

/// Where feeds go.
enum To {
    /// To the threads of the workers.
    Threads(Vec<queue::Sender<Feed>>),
    /// Through all parts at once, on the thread that feeds: a simulation has only that one.
    Inline(Vec<Worker>, Box<Final>),
}

impl Running {
    /// Sends rows to the next worker, or anything else to all.
    pub fn feed(&mut self, feed: Feed) -> Result<()> {
        match &feed {
            Feed::Batch(source, rows) => {
                if !self.reads.get(*source).copied().unwrap_or(false) {
                    return Ok(());
                }
                self.counters.rows_in.fetch_add(rows.len() as u64, Ordering::Relaxed);
                let turn = self.turn;
                match &mut self.to {
                    To::Threads(workers) => {
                        self.turn = (turn + 1) % workers.len().max(1);
                        workers.get(turn).map_or(Ok(()), |w| send(w, feed))
                    }
                    To::Inline(workers, last) => {
                        self.turn = (turn + 1) % workers.len().max(1);
                        let Some(worker) = workers.get_mut(turn) else { return Ok(()) };
                        let (left, _) = worker.yields(feed)?;
                        last.take(left)?;
                        last.pause()
                    }
                }
            }
            Feed::Watermark(source, _) if !self.reads.get(*source).copied().unwrap_or(false) => Ok(()),
            _ => match &mut self.to {
                To::Threads(workers) => workers.iter().try_for_each(|w| send(w, feed.clone())),
                To::Inline(workers, last) => {
                    let (mut watermarks, mut mark) = (Vec::new(), None);
                    for worker in workers {
                        let (left, own) = worker.yields(feed.clone())?;
                        watermarks = last.take_rows(left)?;
                        mark = own;
                    }
                    mark.map_or(Ok(()), |mark| last.together(watermarks, mark))?;
                    last.pause()
                }
            },
        }
    }
}

fn send(worker: &queue::Sender<Feed>, feed: Feed) -> Result<()> {
    if worker.send(feed, |_| 0) { Ok(()) } else { Err(Error::Stopped("a pipeline's thread has ended".into())) }
}

/// What a pipeline needs from its surroundings.
pub struct Surroundings<'a> {
    /// Names of the sources, by index.
    pub sources: &'a [String],
    /// Worker threads.
    pub workers: usize,
    /// Where state files go; `None`: state is not kept.
    pub checkpoints: Option<Checkpoints>,
    /// What to take up from.
    pub restored: Option<PipelineState>,
    /// The number of the next checkpoint.
    pub next_checkpoint: u64,
    /// Reports go here.
    pub reports: Sender<Event>,
    /// By the clock, nanoseconds since the epoch.
    pub now: i64,
    /// Whether everything runs on the thread that feeds.
    pub inline: bool,
    /// What the state may take.
    pub budget: &'a Budget,
}

/// Starts a pipeline's threads; none if it is to run inline.
pub fn start(spec: PipelineSpec, around: Surroundings<'_>) -> Result<(Running, Vec<std::thread::JoinHandle<()>>)> {
    let (restored, checkpoints) = (around.restored.as_ref(), around.checkpoints.as_ref());
    let lookups = Lookups::load(spec.plan.lookups(), restored, checkpoints, around.now)?;
    let blueprints = Blueprints::new(&spec.plan)?;
    let index = |table: &String| around.sources.iter().position(|s| s == table);
    let mut entries: Vec<Vec<Next>> = vec![Vec::new(); around.sources.len()];
    for (table, next) in &blueprints.entries {
        let source = index(table).ok_or_else(|| Error::Bug(format!("no source {table}")))?;
        entries.iter_mut().skip(source).take(1).for_each(|e| e.push(*next));
    }
    let gathers = changes(&spec.plan);
    let counters = Arc::new(Counters::default());
    counters.watermark.store(WATERMARK_MIN, Ordering::Relaxed);
    let mut workers = Vec::new();
    for _ in 0..around.workers.max(1) {
        let share = around.budget.share(&spec.name);
        workers.push(Worker { graph: blueprints.worker()?, entries: entries.clone(), share });
    }
    let name = spec.name.clone();
    let (stages, next) = (blueprints.final_stages(), around.next_checkpoint);
    let mut last = Final {
        plan: spec.plan.tree(),
        graph: blueprints.last()?,
        files: StateFiles::new(around.checkpoints.clone(), &name, stages, next),
        exits: blueprints.exits,
        outlet: Outlet {
            late_schema: late_schema(&spec.plan),
            sink_schema: spec.plan.schema(),
            pipeline: spec.name,
            target: spec.target,
            sides: spec.sides,
            counters: counters.clone(),
        },
        checkpoints: around.checkpoints,
        lookups,
        reports: around.reports.clone(),
        share: around.budget.share(&name),
    };
    if let Some(state) = around.restored {
        last.restore(state)?;
    }
    let reads = entries.iter().map(|e| !e.is_empty()).collect();
    if around.inline {
        let to = To::Inline(workers, Box::new(last));
        return Ok((Running { reads, to, turn: 0, counters }, Vec::new()));
    }
    let (mut feeds, mut yields, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for (n, worker) in workers.into_iter().enumerate() {
        let (feed, fed) = queue(Room { messages: QUEUE / 2, bytes: 0 });
        // A message has what came of all that the worker took at once.
        let (out, yielded) = queue(Room { messages: 1, bytes: if gathers { GATHERED_BYTES } else { 0 } });
        threads.push(spawn(format!("{name}-{n}"), around.reports.clone(), move || worker.run(&fed, &out))?);
        feeds.push(feed);
        yields.push(Yields::new(yielded));
    }
    threads.push(spawn(format!("{name}-final"), around.reports, move || last.run(yields))?);
    Ok((Running { reads, to: To::Threads(feeds), turn: 0, counters }, threads))
}

/// Whether results of some operator change.
fn changes(plan: &Plan) -> bool {
    plan.properties().updating || plan.inputs().iter().any(changes)
}

struct Final {
    plan: String,
    graph: Graph,
    files: StateFiles,
    exits: Vec<Next>,
    outlet: Outlet,
    checkpoints: Option<Checkpoints>,
    lookups: Lookups,
    reports: Sender<Event>,
    share: Share,
}

/// Where everything goes that leaves a pipeline.
struct Outlet {
    pipeline: String,
    target: Target,
    sides: Sides,
    sink_schema: SchemaRef,
    late_schema: Option<SchemaRef>,
    counters: Arc<Counters>,
}

impl Final {
    fn run(mut self, mut yields: Vec<Yields>) -> Result<()> {
        let (mut turn, workers) = (0, yields.len());
        loop {
            let Some(own) = yields.get_mut(turn) else { return Ok(()) };
            let first = match own.try_next() {
                None => {
                    self.pause()?;
                    own.next()
                }
                first => first,
            };
            let Some(first) = first else { return Ok(()) };
            match first {
                Yield::Batch(left) => {
                    turn = (turn + 1) % workers;
                    self.take(left)?;
                }
                Yield::Broadcast(left, mark) => {
                    let mut watermarks = self.take_rows(left)?;
                    for n in 1..workers {
                        let Some(y) = yields.get_mut((turn + n) % workers).and_then(Yields::next) else {
                            return Ok(());
                        };
                        let Yield::Broadcast(left, other) = y else {
                            return Err(Error::Bug("workers of a pipeline are out of step".into()));
                        };
                        if other != mark {
                            return Err(Error::Bug("workers of a pipeline are out of step".into()));
                        }
                        // Every worker yields the same watermarks; the last ones count, after everybody's rows.
                        watermarks = self.take_rows(left)?;
                    }
                    self.together(watermarks, mark)?;
                    if mark == Mark::End {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Every worker has come to the mark, and their rows were taken.
    fn together(&mut self, watermarks: Vec<Left>, mark: Mark) -> Result<()> {
        self.take(watermarks)?;
        match mark {
            Mark::Watermark => {}
            Mark::Barrier(n) => {
                self.pause()?;
                self.checkpoint(n)?;
            }
            Mark::End => {
                self.pause()?;
                self.outlet.target.sink.finish()?;
                self.outlet.sides.finish()?;
                let _ = self.reports.send(Event::Report(Report::Ended));
            }
        }
        Ok(())
    }

    /// Nothing more is there yet: what was held back goes on.
    fn pause(&mut self) -> Result<()> {
        self.graph.pause(&mut |(_, message)| self.outlet.take(message))
    }

    /// Takes everything but watermarks, which it gives back.
    fn take_rows(&mut self, left: Vec<Left>) -> Result<Vec<Left>> {
        let (watermarks, rows): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, m)| matches!(m, Message::Watermark(_)));
        self.take(rows)?;
        Ok(watermarks)
    }

    fn take(&mut self, left: Vec<Left>) -> Result<()> {
        if self.share.is_short(|| self.graph.state_bytes()) {
            self.pause()?;
            self.files.spill(&mut self.graph)?;
            self.share.settle(self.graph.state_bytes())?;
        }
        for (exit, message) in left {
            match exit {
                Exit::Main(exit) => {
                    let Some(next) = self.exits.get(exit).copied() else { continue };
                    self.graph.push(next, message, &mut |(_, message)| self.outlet.take(message))?;
                }
                _ => self.outlet.take(message)?,
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: u64) -> Result<()> {
        self.graph.barrier(&mut |(_, message)| self.outlet.take(message))?;
        let stages = self.files.snapshot(&mut self.graph, checkpoint)?;
        let Outlet { target, sides, counters, pipeline, .. } = &mut self.outlet;
        counters.state_bytes.store(self.graph.state_bytes() as u64, Ordering::Relaxed);
        let [late, rejected] = sides.prepare(checkpoint)?;
        let state = PipelineState {
            plan: self.plan.clone(),
            stages,
            sink: target.sink.prepare(checkpoint)?,
            late,
            rejected,
            rows_late: counters.rows_late.load(Ordering::Relaxed),
            lookups: match &self.checkpoints {
                Some(checkpoints) => self.lookups.snapshot(checkpoints, pipeline, checkpoint)?,
                None => Vec::new(),
            },
        };
        let (pipeline, state) = (pipeline.clone(), Box::new(state));
        let _ = self.reports.send(Event::Report(Report::Prepared { checkpoint, pipeline, state }));
        Ok(())
    }

    fn restore(&mut self, state: PipelineState) -> Result<()> {
        let name = &self.outlet.pipeline;
        if state.plan == SET_ASIDE {
            return Err(Error::Config(format!(
                "the state of pipeline '{name}' was damaged and has been set aside; compute it again from the raw table with \
                 `millstream rebuild {name}`",
            )));
        }
        if state.plan != self.plan {
            return Err(Error::Config(format!(
                "pipeline '{name}' has changed since the checkpoint, and its state does not fit the new SQL; compute it \
                 again from the raw table with `millstream rebuild {name}`, give the new version another table name, or go back to \
                 the old SQL, which was:\n{}",
                state.plan
            )));
        }
        if self.checkpoints.is_none() {
            return Ok(());
        }
        // The last stage feeds the sink.
        let watermark = state.stages.last().map_or(WATERMARK_MIN, |s| s.watermarks.sent);
        self.files.restore(&mut self.graph, state.stages)?;
        let Outlet { target, sides, counters, .. } = &mut self.outlet;
        counters.rows_late.store(state.rows_late, Ordering::Relaxed);
        counters.watermark.store(watermark, Ordering::Relaxed);
        target.sink.restore(&state.sink)?;
        sides.restore([&state.late, &state.rejected])
    }
}

impl Outlet {
    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Batch(rows) => {
                self.counters.rows_out.fetch_add(rows.len() as u64, Ordering::Relaxed);
                let batch = RecordBatch::try_new(self.sink_schema.clone(), rows.batch.columns().to_vec())?;
                self.target.sink.write(&Rows { batch, ..rows })
            }
            Message::Late(late) => self.sides.write_late(&late, self.late_schema.as_ref(), &self.counters),
            Message::Failed(rows) => self.sides.write_failed(&rows, &self.pipeline, &self.counters),
            Message::Watermark(w) => {
                self.counters.watermark.store(w, Ordering::Relaxed);
                Ok(())
            }
            Message::Slice(_) | Message::Barrier(_) | Message::End => Ok(()),
        }
    }
}

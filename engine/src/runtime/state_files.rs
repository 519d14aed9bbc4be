//! The files that have the state of a pipeline's final thread: what each checkpoint adds, and what memory has no room for.
//!
//! A file of spilled state is written when memory is short and belongs to the next checkpoint: its manifest names the file,
//! and nothing is written twice. Where a run keeps no checkpoints it lies in the system's temporary directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;

use super::Result;
use crate::checkpoint::{Checkpoints, StageState, StateFile};
use crate::error::Error;
use crate::fs::DiskFs;
use crate::operators::graph::Graph;
use crate::operators::spill::{Spill, Spilled};
use crate::operators::{FILES_MAX, StateChange};
use crate::planted::{self, Bug};
use crate::time::SystemClock;

/// The files of all stages.
pub struct StateFiles {
    kept: Option<Checkpoints>,
    scratch: Option<Scratch>,
    pipeline: String,
    /// The number of the next checkpoint.
    next: u64,
    /// Files spilled since the last one.
    spills: u64,
    stages: Vec<Stage>,
}

/// The files of a stage's state.
#[derive(Debug, Clone, Default)]
struct Stage {
    /// Of what is in memory too.
    held: Vec<StateFile>,
    /// Of what is not.
    spilled: Vec<StateFile>,
}

impl StateFiles {
    /// Those of a pipeline with so many stages; `next` is the number of the next checkpoint.
    pub fn new(kept: Option<Checkpoints>, pipeline: &str, stages: usize, next: u64) -> Self {
        let (pipeline, stages) = (pipeline.to_string(), vec![Stage::default(); stages]);
        Self { kept, scratch: None, pipeline, next, spills: 0, stages }
    }

    /// Moves what can go out of memory.
    pub fn spill(&mut self, graph: &mut Graph) -> Result<()> {
        for (at, stage) in self.stages.iter_mut().enumerate() {
            let (checkpoints, fleeting) = match (&self.kept, &mut self.scratch) {
                (Some(kept), _) => (kept, false),
                (None, Some(scratch)) => (&scratch.checkpoints, true),
                (None, none) => (&none.insert(Scratch::new()?).checkpoints, true),
            };
            let prefix = format!("{}-{}-{at}-s", self.next, self.pipeline);
            let mut out = ToDisk { checkpoints, fleeting, prefix, spills: &mut self.spills, written: Vec::new() };
            if graph.spill(at, &mut out)? && !planted::is(Bug::SpilledTwice) {
                // What these have is in the new file.
                stage.held.clear();
            }
            stage.spilled.append(&mut out.written);
            stage.keep_only(&graph.spilled(at));
        }
        Ok(())
    }

    /// The stages' parts of a checkpoint.
    pub fn snapshot(&mut self, graph: &mut Graph, checkpoint: u64) -> Result<Vec<StageState>> {
        let Some(checkpoints) = &self.kept else {
            let stages = 0..self.stages.len();
            return Ok(stages.map(|n| StageState { watermarks: graph.watermarks(n), files: Vec::new() }).collect());
        };
        let mut states = Vec::with_capacity(self.stages.len());
        for (at, stage) in self.stages.iter_mut().enumerate() {
            let watermarks = graph.watermarks(at);
            let held = &mut stage.held;
            held.retain(|f| f.needed_until > watermarks.watermark && !planted::is(Bug::StateForgotten));
            let (batches, needed_until) = match graph.snapshot(at, held.len() >= FILES_MAX)? {
                StateChange::None => (Vec::new(), i64::MAX),
                StateChange::Append { batches, needed_until } => (batches, needed_until),
                StateChange::Replace(batches) => {
                    held.clear();
                    (batches, i64::MAX)
                }
            };
            for (part, batches) in batches.chunk_by(|a, b| a.schema() == b.schema()).enumerate() {
                let name = format!("{checkpoint}-{}-{at}-{part}.arrow", self.pipeline);
                held.extend(checkpoints.write_state(name, batches, needed_until)?);
            }
            stage.keep_only(&graph.spilled(at));
            if planted::is(Bug::SpilledForgotten) {
                stage.spilled.clear();
            }
            states.push(StageState { watermarks, files: stage.spilled.iter().chain(&stage.held).cloned().collect() });
        }
        (self.next, self.spills) = (checkpoint + 1, 0);
        Ok(states)
    }

    /// Gives the stages their state back.
    pub fn restore(&mut self, graph: &mut Graph, saved: Vec<StageState>) -> Result<()> {
        let Some(checkpoints) = &self.kept else { return Ok(()) };
        for (at, saved) in saved.into_iter().enumerate() {
            let (spilled, held): (Vec<_>, Vec<_>) = saved.files.into_iter().partition(|f| f.spilled);
            let out = spilled.iter().map(|f| checkpoints.open_spilled(f, false)).collect::<Result<Vec<_>>>()?;
            let mut batches = Vec::new();
            for file in &held {
                batches.extend(checkpoints.read_state(file)?);
            }
            graph.restore(at, out, batches, &saved.watermarks)?;
            if let Some(stage) = self.stages.get_mut(at) {
                *stage = Stage { held, spilled };
            }
        }
        Ok(())
    }
}

impl Stage {
    /// Drops the files of spilled state that the operator has no use for any more.
    fn keep_only(&mut self, used: &[Arc<dyn Spilled>]) {
        self.spilled.retain(|file| used.iter().any(|s| s.name() == file.name));
    }
}

/// Writes spilled state of one stage.
struct ToDisk<'a> {
    checkpoints: &'a Checkpoints,
    fleeting: bool,
    prefix: String,
    spills: &'a mut u64,
    written: Vec<StateFile>,
}

impl Spill for ToDisk<'_> {
    fn write(&mut self, part: &mut dyn FnMut(usize) -> Result<RecordBatch>) -> Result<Arc<dyn Spilled>> {
        let name = format!("{}{}.arrow", self.prefix, self.spills);
        *self.spills += 1;
        let file = self.checkpoints.write_spilled(name, part)?;
        tracing::debug!("{} bytes of state are spilled to {}", file.bytes, file.name);
        let spilled = self.checkpoints.open_spilled(&file, self.fleeting)?;
        self.written.push(file);
        Ok(spilled)
    }
}

/// A directory that is gone when the run ends.
struct Scratch {
    dir: PathBuf,
    checkpoints: Checkpoints,
}

impl Scratch {
    fn new() -> Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("millstream-spill-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        // A process of the same number was killed.
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&dir, "remove", e)),
            _ => {}
        }
        let checkpoints = Checkpoints::open(Arc::new(DiskFs), &dir, Arc::new(SystemClock))?;
        Ok(Self { dir, checkpoints })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

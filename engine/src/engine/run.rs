//! `millstream run`, `check` and `explain`: one program of SQL, without a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::assemble::{Surroundings, assemble};
use super::contract::STATE_BYTES_MAX;
use super::owner_of;
use crate::batch::Functions;
use crate::checkpoint::{Checkpoints, Manifest};
use crate::error::{Error, Result, SqlError};
use crate::fs::{DiskFs, Fs, lock_dir};
use crate::lake::{Lake, Owner};
use crate::runtime::{Runtime, Setup};
use crate::sql::program::Program;
use crate::time::{Clock, SystemClock};

/// How to run a program.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Worker threads of each pipeline.
    pub workers: usize,
    /// Where checkpoints (and undeclared tables) are kept; `None`: a restart begins anew.
    pub state_dir: Option<PathBuf>,
    /// The time between checkpoints.
    pub checkpoint_interval: Duration,
    /// Bytes that the state of all pipelines may take in memory; above it they stop with an error.
    pub state_bytes_max: usize,
    /// Bytes from which on state goes to disk; by default half of those.
    pub state_spill_at: Option<usize>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Functions of the embedding program.
    pub functions: Functions,
    /// Set to true to take a last checkpoint and stop.
    pub stop: Arc<AtomicBool>,
    /// Called a few times a second with the rows read so far.
    pub progress: Option<fn(u64)>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            state_dir: None,
            checkpoint_interval: Duration::from_secs(10),
            state_bytes_max: STATE_BYTES_MAX,
            state_spill_at: None,
            clock: Arc::new(SystemClock),
            functions: Functions::default(),
            stop: Arc::new(AtomicBool::new(false)),
            progress: None,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Rows into all pipelines.
    pub rows_in: u64,
    /// Rows out of all pipelines.
    pub rows_out: u64,
    /// Rows that were late for a window.
    pub rows_late: u64,
    /// Rows that could not be decoded, or for which an expression failed.
    pub rows_rejected: u64,
}

/// Runs the program until its bounded sources end, or until told to stop. Blocks the thread.
pub fn run_file(sql: &str, file: &str, options: &RunOptions) -> Result<RunSummary> {
    let mut program = Program::default();
    program.functions.add_all(&options.functions.scalar, &options.functions.aggregate);
    program.execute(sql, file)?;
    if program.pipelines.is_empty() {
        return Err(Error::Config(format!(
            "{file} declares tables but no pipeline: add INSERT INTO ... SELECT, or a SELECT"
        )));
    }
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Error::Config(format!("cannot start the I/O threads: {e}")))?;
    let mut owner = Owner::default();
    let (mut lock, mut lake, mut checkpoints, mut restored) = (None, None, None, None);
    if let Some(dir) = &options.state_dir {
        let fs: Arc<dyn Fs> = Arc::new(DiskFs);
        lock = Some(lock_dir(fs.as_ref(), dir)?);
        owner = owner_of(fs.as_ref(), dir, options.clock.now())?;
        let kept = Checkpoints::open(fs, dir, options.clock.clone())?;
        restored = kept.newest()?;
        checkpoints = Some(kept);
        let url = dir.join("lake").display().to_string();
        lake = Some(tokio.block_on(Lake::open(&url, &Default::default()))?);
    }
    let around = Surroundings {
        lake: lake.as_ref(),
        handle: tokio.handle(),
        log: false,
        subscribers: &Default::default(),
        next_checkpoint: restored.as_ref().map_or(1, Manifest::next),
        again: restored.as_ref().is_some_and(|m| !m.again.is_empty()),
        owner: &owner,
    };
    let assembled = assemble(&program, &around)?;
    let reloads = assembled.pipelines.iter().flat_map(|p| p.plan.lookups()).any(|l| l.reloads());
    let runtime = Runtime::start(Setup {
        // Without a state directory barriers are only for lookup tables, which reload at them.
        interval: (options.state_dir.is_some() || reloads).then_some(options.checkpoint_interval),
        checkpoints,
        restored,
        clock: options.clock.clone(),
        state_bytes_max: options.state_bytes_max,
        state_spill_at: options.state_spill_at,
        ..Setup::new(assembled.sources, assembled.pipelines, options.workers)
    })?;
    watch(&runtime, options)?;
    drop(lock);
    Ok(RunSummary {
        rows_in: runtime.sum(|c| &c.rows_in),
        rows_out: runtime.sum(|c| &c.rows_out),
        rows_late: runtime.sum(|c| &c.rows_late),
        rows_rejected: runtime.sources.rejected.load(Ordering::Relaxed) + runtime.sum(|c| &c.rows_failed),
    })
}

/// Waits for the end, passing on a wish to stop and the progress.
fn watch(runtime: &Runtime, options: &RunOptions) -> Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(100));
                if let Some(progress) = options.progress {
                    progress(runtime.sum(|c| &c.rows_in));
                }
                if options.stop.swap(false, Ordering::Relaxed) {
                    runtime.ask_to_close();
                }
            }
        });
        let result = runtime.join();
        done.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        result
    })
}

/// Plans a text without running it; all errors.
pub fn check(sql: &str, file: &str) -> Vec<Error> {
    Program::default().check(sql, file)
}

/// What a text may not mean, though it runs: state that grows for ever.
pub fn warnings(sql: &str, file: &str) -> Vec<SqlError> {
    let mut program = Program::default();
    program.check(sql, file);
    program.warnings
}

/// The operator trees of a text, with watermarks, state and parallelism.
pub fn explain(sql: &str, file: &str, workers: usize) -> Result<String> {
    let mut program = Program::default();
    program.execute(sql, file)?;
    Ok(program.explain(workers))
}

//! The engine on one thread, for a simulation: the log, the pipelines, the checkpoints and the commits of
//! [`Engine`](super::Engine), on a given disk, store and clock, each moved on by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::prepare;
use crate::checkpoint::Checkpoints;
use crate::error::Result;
use crate::fs::{DirLock, Fs, lock_dir};
use crate::lake::{Lake, Maintenance, Owner};
use crate::log::{Log, LogOptions, NewEntry, PendingAck, Writer};
use crate::runtime::{Parts, Setup};
use crate::sql::program::Program;
use crate::time::Clock;

/// What an engine on one thread stands on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The disk of log and checkpoints.
    pub fs: Arc<dyn Fs>,
    /// Where on it.
    pub dir: PathBuf,
    /// The tables.
    pub lake: Lake,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Bounds of the log, and what to do when the disk fails.
    pub log: LogOptions,
    /// Workers of each pipeline: they take turns.
    pub workers: usize,
    /// Bytes from which on state goes to disk.
    pub state_spill_at: Option<usize>,
    /// For the lake's I/O; its threads do nothing unless the one thread waits for them.
    pub handle: Handle,
}

/// An engine that moves when told to. Dropping it is like killing the process.
pub struct Stepped {
    log: Arc<Log>,
    writer: Writer,
    parts: Parts,
    lake: Lake,
    handle: Handle,
    _lock: Box<dyn DirLock>,
}

impl Stepped {
    /// Opens what is on the disk and starts `sql` at the newest checkpoint.
    pub fn open(ground: &Ground, sql: &str) -> Result<Self> {
        let Ground { fs, dir, lake, clock, log, workers, state_spill_at, handle } = ground.clone();
        let lock = lock_dir(fs.as_ref(), &dir)?;
        let (log, writer) = Log::open_parts(fs.clone(), &dir.join("log"), log, clock.clone())?;
        let checkpoints = Checkpoints::open(fs, &dir, clock.clone())?;
        let owner = Owner { id: "simulated".into(), place: dir.display().to_string() };
        let mut program = Program::default();
        program.execute(sql, "simulated.sql")?;
        let (restored, assembled) = prepare(&program, &checkpoints, &lake, &handle, &BTreeMap::new(), &owner)?;
        let mut parts = Parts::new(Setup {
            sources: assembled.sources,
            pipelines: assembled.pipelines,
            workers,
            interval: None,
            checkpoints: Some(checkpoints),
            restored,
            log: Some(log.clone()),
            clock,
            inline: true,
            state_bytes_max: usize::MAX,
            state_spill_at,
        })?;
        parts.sources.begin()?;
        Ok(Self { log, writer, parts, lake, handle, _lock: lock })
    }

    /// Queues rows; the answer comes with [`Stepped::write`].
    pub fn append(&self, entry: NewEntry) -> Result<PendingAck> {
        self.log.append(entry)
    }

    /// Writes one group of what is queued, and acknowledges it.
    pub fn write(&mut self) {
        self.writer.step();
    }

    /// Follows a command of the coordinator, reads some entries of the log, and gives the coordinator its turn.
    pub fn read(&mut self) -> Result<()> {
        self.parts.sources.step(self.parts.commanded.try_recv(), Duration::ZERO)?;
        self.parts.coordinator.step()
    }

    /// Begins a checkpoint if anything was read since the last one; [`Stepped::read`] completes it.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.parts.coordinator.on_interval()
    }

    /// The newest checkpoint, and the first entry of the log that it does not cover.
    pub fn position(&self) -> (u64, u64) {
        let progress = self.parts.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (progress.checkpoint, progress.log_offset)
    }

    /// The number of the next entry of the log.
    pub fn log_end(&self) -> u64 {
        self.log.end()
    }

    /// One round of maintenance of a table.
    pub fn maintain(&self, table: &str, policy: &Maintenance) -> Result<()> {
        let table = self.handle.block_on(self.lake.existing(table))?;
        table.map_or(Ok(()), |t| self.handle.block_on(t.maintain(policy)).map(drop))
    }

    /// Marks the log as closed in order.
    pub fn close(mut self) {
        self.writer.write_closed();
    }
}

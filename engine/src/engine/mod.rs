//! What embedders see: open a directory, execute SQL, append rows, query tables, close.

mod assemble;
mod contract;
mod narrow;
mod rebuild;
mod repair;
mod run;
#[doc(hidden)]
pub mod stepped;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

pub use crate::batch::{Functions, QueryLimits, QueryResult, Rollup, RollupRun, Work};
pub use contract::{Ack, Append, Options, PipelineStatus, ProducerSequence, STATE_BYTES_MAX, Status, TableInfo};
pub use rebuild::Rebuilt;
pub use repair::{ASIDE, RepairReport, repair};
pub use run::{RunOptions, RunSummary, check, explain, run_file, warnings};

use crate::batch::Batch;
use crate::checkpoint::{Checkpoints, Manifest};
use crate::connectors::Connector;
use crate::connectors::Rejected;
use crate::connectors::ingest::{REJECTED_ID, rejected_batch, rejected_table};
use crate::connectors::memory::QUEUE_BATCHES;
use crate::error::{Error, Result, SqlError};
use crate::fs::{DirLock, DiskFs, Fs, lock_dir, write_atomic};
use crate::lake::{Lake, Maintenance, MaintenanceReport, Owner};
use crate::log::{Log, LogOptions, Mark, NewEntry, Sequence};
use crate::message::nanoseconds;
use crate::runtime::{Runtime, Setup};
use crate::sql::catalog::Table;
use crate::sql::program::Program;
use crate::time::EventTime;

/// The embedded engine. Cheap to share behind an [`Arc`].
///
/// Dropping it without [`Engine::close`] is like killing the process: nothing after the newest checkpoint is committed,
/// and the next start goes on there. The directory is free when the drop returns.
#[derive(Debug)]
pub struct Engine {
    options: Options,
    program: Mutex<Program>,
    subscribers: Mutex<BTreeMap<String, SyncSender<RecordBatch>>>,
    runtime: Mutex<Option<Arc<Runtime>>>,
    log: Arc<Log>,
    lake: Lake,
    batch: Batch,
    checkpoints: Checkpoints,
    owner: Owner,
    _lock: Box<dyn DirLock>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work beside the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Bug(format!("a blocking call panicked: {e}")))?
}

/// The file in a data directory that says who it is.
const IDENTITY_FILE: &str = "identity";

/// Who writes the tables: the identity of the data directory, made when it is first opened.
fn owner_of(fs: &dyn Fs, dir: &Path, now: i64) -> Result<Owner> {
    let path = dir.join(IDENTITY_FILE);
    let place = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf()).display().to_string();
    let id = match fs.read(&path) {
        Ok(bytes) => {
            // It may be in the cache alone, and tables are about to be claimed in its name.
            fs.sync_dir(dir).map_err(|e| Error::file(dir, "sync", e))?;
            String::from_utf8_lossy(&bytes).trim().to_string()
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // No two directories are made at one moment, by one process, in one place.
            let hash = Sha256::digest(format!("{now} {} {place}", std::process::id()));
            let id: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            write_atomic(fs, &path, id.as_bytes()).map_err(|e| Error::file(&path, "write", e))?;
            id
        }
        Err(e) => return Err(Error::file(&path, "read", e)),
    };
    Ok(Owner { id, place })
}

/// The newest checkpoint, and everything that the program names, opened to go on from there.
fn prepare(
    program: &Program,
    checkpoints: &Checkpoints,
    lake: &Lake,
    handle: &Handle,
    subscribers: &BTreeMap<String, SyncSender<RecordBatch>>,
    owner: &Owner,
) -> Result<(Option<Manifest>, assemble::Assembled)> {
    let restored = checkpoints.newest()?;
    let around = assemble::Surroundings {
        lake: Some(lake),
        handle,
        log: true,
        subscribers,
        next_checkpoint: restored.as_ref().map_or(1, Manifest::next),
        again: restored.as_ref().is_some_and(|m| !m.again.is_empty()),
        owner,
    };
    let assembled = assemble::assemble(program, &around)?;
    Ok((restored, assembled))
}

impl Engine {
    /// Opens or creates the directory, repairs the log's tail, and opens the lake.
    ///
    /// Errors: [`Error::Config`] if another process has the directory open; [`Error::Corrupt`] if the log or every
    /// checkpoint is damaged.
    pub async fn open(options: Options) -> Result<Self> {
        let (dir, clock) = (options.data_dir.clone(), options.clock.clone());
        let (lock, log, checkpoints, owner) = blocking(move || {
            let fs: Arc<dyn Fs> = Arc::new(DiskFs);
            let lock = lock_dir(fs.as_ref(), &dir)?;
            let log = Log::open(fs.clone(), &dir.join("log"), LogOptions::default(), clock.clone())?;
            let owner = owner_of(fs.as_ref(), &dir, clock.now())?;
            Ok((lock, log, Checkpoints::open(fs, &dir, clock)?, owner))
        })
        .await?;
        let url = options.lake_url.clone().unwrap_or_else(|| options.data_dir.join("lake").display().to_string());
        let lake = Lake::open(&url, &options.lake_options).await?;
        let mut program = Program::default();
        let functions = options.functions.clone();
        program.functions.add_all(&options.functions.scalar, &options.functions.aggregate);
        let batch = Batch::new(lake.clone(), options.clock.clone(), functions)?;
        Ok(Self {
            options,
            program: Mutex::new(program),
            subscribers: Mutex::default(),
            runtime: Mutex::new(None),
            log,
            lake,
            batch,
            checkpoints,
            owner,
            _lock: lock,
        })
    }

    /// Gives a name (`message = 'IdeEvent'` in WITH) to the columns of a typed event, before the SQL that uses it.
    pub fn register_message(&self, name: &str, schema: SchemaRef) -> Result<()> {
        locked(&self.program).catalog.messages.insert(name.to_string(), schema);
        Ok(())
    }

    /// Executes DDL and `INSERT INTO`; `file` names the text in errors. Pipelines begin to run at [`Engine::start`].
    pub async fn execute(&self, sql: &str, file: &str) -> Result<()> {
        if locked(&self.runtime).is_some() {
            return Err(Error::Config("pipelines are running; execute SQL before start".into()));
        }
        locked(&self.program).execute(sql, file)
    }

    /// What the SQL may not mean, though it runs: state that grows for ever.
    pub fn warnings(&self) -> Vec<SqlError> {
        locked(&self.program).warnings.clone()
    }

    /// The rows of a table with `connector = 'memory'`, from [`Engine::start`] on. A slow reader slows the pipeline.
    pub fn subscribe(&self, table: &str) -> Result<Receiver<RecordBatch>> {
        let (sender, receiver) = sync_channel(QUEUE_BATCHES);
        locked(&self.subscribers).insert(table.to_string(), sender);
        Ok(receiver)
    }

    /// Starts the pipelines at the newest checkpoint.
    pub async fn start(&self) -> Result<()> {
        if locked(&self.runtime).is_some() {
            return Err(Error::Config("the pipelines are running already".into()));
        }
        let program = locked(&self.program).clone();
        let (checkpoints, lake, log) = (self.checkpoints.clone(), self.lake.clone(), self.log.clone());
        let (options, handle, owner) = (self.options.clone(), Handle::current(), self.owner.clone());
        let subscribers = std::mem::take(&mut *locked(&self.subscribers));
        let runtime = blocking(move || {
            let (restored, assembled) = prepare(&program, &checkpoints, &lake, &handle, &subscribers, &owner)?;
            Runtime::start(Setup {
                sources: assembled.sources,
                pipelines: assembled.pipelines,
                workers: options.workers,
                interval: Some(options.checkpoint_interval),
                checkpoints: Some(checkpoints),
                restored,
                log: Some(log),
                clock: options.clock,
                inline: false,
                state_bytes_max: options.state_bytes_max,
                state_spill_at: options.state_spill_at,
            })
        })
        .await?;
        *locked(&self.runtime) = Some(Arc::new(runtime));
        Ok(())
    }

    fn source(&self, name: &str) -> Result<Table> {
        let program = locked(&self.program);
        let table = program.catalog.tables.get(name).filter(|t| matches!(t.connector, Connector::Ingest));
        table.cloned().ok_or_else(|| {
            let known: Vec<&str> = program
                .catalog
                .tables
                .values()
                .filter(|t| matches!(t.connector, Connector::Ingest))
                .map(|t| t.name.as_str())
                .collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            Error::event(
                "NOT_FOUND",
                format!("no table '{name}' takes rows; tables with connector = 'ingest': {known}"),
            )
        })
    }

    /// Appends rows; returns when they are durable.
    ///
    /// Errors: [`Error::Event`] with `NOT_FOUND`, `OUT_OF_ORDER`, `UNKNOWN_PRODUCER` or `STALE_EPOCH`, and nothing was
    /// taken; [`Error::Limit`] when too much waits to be written.
    pub async fn append(&self, rows: Append) -> Result<Ack> {
        if let Some(failure) = locked(&self.runtime).as_ref().and_then(|r| r.failure()) {
            return Err(Error::Stopped(failure));
        }
        let table = self.source(&rows.table)?;
        let now = self.options.clock.now();
        let future = self.future_rows(&table, &rows.batch, now)?;
        if !rows.rejected.is_empty() {
            // Before the rows themselves: a producer that is cut off in between sends again, and the rejected rows are
            // then known by their ids.
            let batch = rejected(&rows, now)?;
            let (table, producer) = (rejected_table(&rows.table), rows.producer.clone());
            let entry = NewEntry { table, producer, sequence: None, event_id: Some(REJECTED_ID), batch };
            // Not awaited: what is appended after it is durable only when it is.
            drop(self.log.append(entry)?);
        }
        let event_id = rows.batch.schema_ref().index_of("event_id").ok();
        let sequence = rows.sequence.map(|s| Sequence { epoch: s.epoch, sequence: s.sequence });
        let entry = NewEntry { table: rows.table, producer: rows.producer, sequence, event_id, batch: rows.batch };
        let ack = self.log.append(entry)?.await?;
        Ok(Ack { offset: ack.offset, accepted: ack.accepted, duplicates: ack.duplicates, future })
    }

    /// A producer's promise: no event of it before `time` (nanoseconds since the epoch) follows. Closes windows that
    /// would otherwise wait for a next event; returns when the promise is durable.
    pub async fn promise(&self, table: &str, producer: &str, time: EventTime) -> Result<()> {
        self.source(table)?;
        self.log.append_mark(table, producer, Mark::Watermark(time))?.await?;
        Ok(())
    }

    fn future_rows(&self, table: &Table, batch: &RecordBatch, now: i64) -> Result<Vec<u32>> {
        let limit = now.saturating_add(table.future_skew);
        let name = table.event_time.and_then(|i| table.schema.fields().get(i)).map(|f| f.name().clone());
        let Some(column) = name.and_then(|n| batch.column_by_name(&n)) else { return Ok(Vec::new()) };
        let times = nanoseconds(column)?;
        let ahead = |(i, t): (usize, Option<i64>)| t.filter(|t| *t > limit).map(|_| i as u32);
        Ok(times.iter().enumerate().filter_map(ahead).collect())
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<TableInfo> {
        self.tables().into_iter().find(|t| t.name == name)
    }

    /// All declared tables and pipelines' sinks, sorted by name.
    pub fn tables(&self) -> Vec<TableInfo> {
        let program = locked(&self.program);
        let info = |t: &Table, schema: &SchemaRef| TableInfo {
            name: t.name.clone(),
            schema: schema.clone(),
            connector: t.connector.name().to_string(),
            event_time: t.event_time.and_then(|i| t.schema.fields().get(i)).map(|f| f.name().clone()),
        };
        let mut all: BTreeMap<String, TableInfo> = BTreeMap::new();
        for table in program.catalog.tables.values() {
            all.insert(table.name.clone(), info(table, &table.arriving));
        }
        for (name, pipeline) in &program.pipelines {
            all.insert(name.clone(), info(&pipeline.sink, &pipeline.sink.schema));
        }
        all.into_values().collect()
    }

    /// The operator trees of all pipelines.
    pub fn explain(&self) -> String {
        locked(&self.program).explain(self.options.workers)
    }

    /// The tables' store.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// One read-only query over the tables; `$name` parameters come from `parameters`.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &BTreeMap<String, ScalarValue>,
        limits: &QueryLimits,
    ) -> Result<QueryResult> {
        self.batch.query(sql, parameters, limits).await
    }

    /// What runs the queries: for a face that plans before it asks.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// As [`Engine::query`], as a stream, for results that do not fit in memory.
    pub async fn query_stream(
        &self,
        sql: &str,
        parameters: &BTreeMap<String, ScalarValue>,
        limits: &QueryLimits,
    ) -> Result<SendableRecordBatchStream> {
        self.batch.query_stream(sql, parameters, limits).await
    }

    /// Replaces the views: named SELECTs that queries and rollups use like tables.
    pub fn set_views(&self, views: BTreeMap<String, String>) {
        self.batch.set_views(views);
    }

    /// The tables that a query reads, directly or through views. Parameters need no values.
    pub fn tables_read(&self, sql: &str) -> Result<Vec<String>> {
        self.batch.tables_read(sql)
    }

    /// What queries and rollups have cost since the start.
    pub fn work(&self) -> Work {
        self.batch.work()
    }

    /// Computes one day of a rollup and replaces that day's partition.
    pub async fn rollup(&self, rollup: &Rollup, day: i32) -> Result<RollupRun> {
        self.batch.rollup(rollup, day).await
    }

    /// As [`Engine::rollup`] for several days, many of them in one commit; a day that fails holds up no other.
    pub async fn rollup_days(&self, rollup: &Rollup, days: &[i32]) -> Result<Vec<Result<RollupRun>>> {
        self.batch.rollup_days(rollup, days).await
    }

    /// The days of a rollup that were never run or whose input has changed, up to and with `through_day`.
    pub async fn rollup_days_due(&self, rollup: &Rollup, through_day: i32) -> Result<BTreeSet<i32>> {
        self.batch.rollup_days_due(rollup, through_day).await
    }

    /// Compacts, checkpoints and vacuums every table of the lake within the policy's bounds.
    pub async fn maintain(&self, policy: &Maintenance) -> Result<Vec<(String, MaintenanceReport)>> {
        let (mut reports, mut damaged) = (Vec::new(), None);
        for name in self.lake.names().await? {
            let Some(table) = self.lake.existing(&name).await? else { continue };
            match table.maintain(policy).await {
                Ok(report) => reports.push((name, report)),
                // The other tables are kept all the same.
                Err(e @ Error::Corrupt(_)) => damaged = damaged.or(Some(e)),
                Err(e) => return Err(e),
            }
        }
        damaged.map_or(Ok(reports), Err)
    }

    /// Waits until everything appended before the call is in the tables (a checkpoint that covers it is committed).
    pub async fn flush(&self) -> Result<()> {
        let Some(runtime) = locked(&self.runtime).clone() else {
            return Err(Error::Config("the pipelines are not running; call start first".into()));
        };
        let through = self.log.end();
        blocking(move || runtime.flush(through)).await
    }

    /// Counters and positions.
    pub fn status(&self) -> Status {
        let mut status = Status { log_end: self.log.end(), ..Status::default() };
        let Some(runtime) = locked(&self.runtime).clone() else { return status };
        (status.checkpoint, status.log_checkpointed) = runtime.position();
        status.log_read = runtime.sources.log_position.load(Ordering::Relaxed);
        status.rows_rejected = runtime.sources.rejected.load(Ordering::Relaxed) + runtime.sum(|c| &c.rows_failed);
        status.rows_future = runtime.sources.future.load(Ordering::Relaxed);
        status.failure = runtime.failure();
        status.pipelines = runtime
            .pipelines
            .iter()
            .map(|(name, c)| PipelineStatus {
                name: name.clone(),
                rows_in: c.rows_in.load(Ordering::Relaxed),
                rows_out: c.rows_out.load(Ordering::Relaxed),
                rows_late: c.rows_late.load(Ordering::Relaxed),
                state_bytes: c.state_bytes.load(Ordering::Relaxed),
                watermark: c.watermark.load(Ordering::Relaxed),
            })
            .collect();
        status
    }

    /// Takes a last checkpoint and stops every thread.
    pub async fn close(&self) -> Result<()> {
        let runtime = locked(&self.runtime).take();
        let log = self.log.clone();
        blocking(move || {
            let result = runtime.map_or(Ok(()), |r| r.close());
            log.close();
            result
        })
        .await
    }
}

fn rejected(rows: &Append, now: i64) -> Result<RecordBatch> {
    let all: Vec<Rejected> = rows
        .rejected
        .iter()
        .map(|(index, code, message, raw)| Rejected {
            position: u64::from(*index),
            code: code.clone(),
            message: message.clone(),
            raw: raw.clone(),
        })
        .collect();
    rejected_batch(&all, now, |row| {
        let place = match &rows.sequence {
            Some(s) => format!("{}/{}", s.epoch, s.sequence),
            None => format!("{:08x}", crc32fast::hash(&row.raw)),
        };
        Some(format!("{}/{}/{place}/{}", rows.table, rows.producer, row.position))
    })
}

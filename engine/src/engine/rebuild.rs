//! A pipeline's table and state computed anew from the raw table, at batch speed, up to an exact place in the log.
//!
//! ```text
//! raw table, day by day ──> the new plan ──> Parquet files ─┐
//! newest checkpoint n: log offset, watermarks ──────────────┴──> checkpoint n + 1 ──> one commit that replaces the table
//! ```
//!
//! The rows of the raw table are those of the log before the checkpoint's offset, so the pipeline goes on there with
//! nothing missing and nothing twice. Until the one commit, readers see the old table. Rows that were late when they came
//! are in time here: what is rebuilt is what the same SQL gives as a batch over the raw table, cut at the watermark.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;

use arrow::array::RecordBatch;
use datafusion::prelude::{SessionConfig, SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{Engine, assemble, blocking, locked, prepare};
use crate::checkpoint::{Checkpoints, Manifest, PipelineState, StampState};
use crate::connectors::lake_sink::DAY_COLUMN;
use crate::connectors::metadata::Origin;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::message::Rows;
use crate::runtime::budget::Budget;
use crate::runtime::commits;
use crate::runtime::complete::complete;
use crate::runtime::coordinator::{Commits, Event, commit_all, refuse_tables_ahead};
use crate::runtime::pipeline::{self, Feed, PipelineSpec, Report, Running, Surroundings};
use crate::runtime::sources::SourceSpec;
use crate::runtime::stamp::Stamper;
use crate::sql::catalog::Table;
use crate::sql::plan::Plan;
use crate::time::{DAY, WATERMARK_MIN, Watermark};

/// What a rebuild did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The raw tables that were read.
    pub raw: Vec<String>,
    /// Days read.
    pub days: u64,
    /// Rows read.
    pub rows_in: u64,
    /// Rows of the new table.
    pub rows_out: u64,
    /// The checkpoint that has the new state.
    pub checkpoint: u64,
    /// The place in the log where the pipeline goes on.
    pub log_offset: u64,
}

impl Engine {
    /// Computes a pipeline's table and state again from the raw tables of its sources; before [`Engine::start`].
    ///
    /// Errors: [`Error::Config`] when the pipelines run, there is no such pipeline or no checkpoint, its sink is no Delta
    /// table, or no pipeline keeps a source's rows as they are.
    pub async fn rebuild(&self, pipeline: &str) -> Result<Rebuilt> {
        if locked(&self.runtime).is_some() {
            return Err(Error::Config("the pipelines are running; rebuild before they start".into()));
        }
        let program = locked(&self.program).clone();
        let (checkpoints, lake, handle) = (self.checkpoints.clone(), self.lake.clone(), Handle::current());
        let (owner, name) = (self.owner.clone(), pipeline.to_string());
        let budget = Budget::new(self.options.state_bytes_max, self.options.state_spill_at);
        blocking(move || {
            let (restored, assembled) = prepare(&program, &checkpoints, &lake, &handle, &BTreeMap::new(), &owner)?;
            let manifest = restored.ok_or_else(|| {
                Error::Config(format!(
                    "there is no checkpoint yet: '{name}' begins with the log anyway, start the server"
                ))
            })?;
            if let Some(again) = manifest.again.first() {
                return Err(Error::Config(format!(
                    "checkpoint {} is damaged; start the server once with the SQL as it was, which takes it again, then \
                     rebuild",
                    again.checkpoint
                )));
            }
            let rebuild = Rebuild { budget, checkpoints, lake, handle, manifest };
            rebuild.run(&name, assembled)
        })
        .await
    }
}

struct Rebuild {
    budget: Budget,
    checkpoints: Checkpoints,
    lake: Lake,
    handle: Handle,
    manifest: Manifest,
}

/// A source of the pipeline, with its rows in a table.
struct Replay {
    table: Table,
    raw: String,
    watermark: Watermark,
}

impl Rebuild {
    fn run(&self, name: &str, assembled: assemble::Assembled) -> Result<Rebuilt> {
        let assemble::Assembled { sources, pipelines } = assembled;
        let commits = commits(&pipelines);
        // The raw tables must have everything before the checkpoint, and nothing after it.
        refuse_tables_ahead(&commits, self.manifest.checkpoint)?;
        commit_all(&commits, &self.manifest)?;
        let own = pipelines.iter().find(|p| p.name == name).ok_or_else(|| {
            let names: Vec<&str> = pipelines.iter().map(|p| p.name.as_str()).collect();
            Error::Config(format!("there is no pipeline '{name}'; there are: {}", names.join(", ")))
        })?;
        if own.target.commit.is_none() {
            return Err(Error::Config(format!(
                "'{name}' does not write a Delta table; only such a table can be rebuilt"
            )));
        }
        let replays =
            own.plan.sources().iter().map(|s| self.replay(s, &sources, &pipelines)).collect::<Result<Vec<_>>>()?;
        let mut rebuilt = Rebuilt {
            raw: replays.iter().map(|r| r.raw.clone()).collect(),
            checkpoint: self.manifest.checkpoint + 1,
            log_offset: self.manifest.log_offset,
            ..Rebuilt::default()
        };
        let spec = pipelines.into_iter().find(|p| p.name == name);
        let spec = spec.ok_or_else(|| Error::Bug("a pipeline is gone".into()))?;
        let state = self.compute(spec, &replays, &mut rebuilt)?;
        let next = self.next(name, state, &commits);
        self.checkpoints.discard_after(self.manifest.checkpoint)?;
        self.checkpoints.publish(&next)?;
        commit_all(&commits, &next)?;
        Ok(rebuilt)
    }

    /// Where the rows of a source are kept as they came.
    fn replay(&self, source: &str, sources: &[SourceSpec], pipelines: &[PipelineSpec]) -> Result<Replay> {
        let spec = sources.iter().find(|s| s.table.name == source);
        let table = spec.map(|s| s.table.clone()).ok_or_else(|| Error::Bug(format!("no source {source}")))?;
        if table.event_time.is_none() {
            return Err(Error::Config(format!(
                "the events of '{source}' have no time of their own but that of their arrival, which no table keeps"
            )));
        }
        let raw = pipelines.iter().find(|p| {
            let unchanged = self.manifest.pipelines.get(&p.name).is_some_and(|s| s.plan == p.plan.tree());
            p.target.commit.is_some() && unchanged && keeps(&p.plan, &table)
        });
        let raw = raw.ok_or_else(|| {
            Error::Config(format!(
                "no pipeline keeps every column of '{source}' as it came, so nothing can be computed from it again; keep \
                 a raw table from now on: INSERT INTO raw_{source} SELECT * FROM {source}"
            ))
        })?;
        let stamp = self.manifest.sources.get(source).map_or(WATERMARK_MIN, |s| s.stamp.watermark);
        Ok(Replay { table, raw: raw.name.clone(), watermark: stamp })
    }

    /// Runs the plan over the raw rows, a day at a time: the watermark follows the days, so that no more than the open
    /// windows is in memory, and stops where the checkpoint has it.
    fn compute(&self, spec: PipelineSpec, replays: &[Replay], rebuilt: &mut Rebuilt) -> Result<PipelineState> {
        let names: Vec<String> = replays.iter().map(|r| r.table.name.clone()).collect();
        let (reports, reported) = channel();
        let around = Surroundings {
            sources: &names,
            workers: 1,
            checkpoints: Some(self.checkpoints.clone()),
            restored: None,
            next_checkpoint: self.manifest.checkpoint + 1,
            reports,
            // Lookup tables are loaded now, and again where the pipeline goes on.
            now: 0,
            inline: true,
            budget: &self.budget,
        };
        let (mut running, _) = pipeline::start(spec, around)?;
        let mut days = BTreeSet::new();
        for replay in replays {
            days.extend(self.handle.block_on(async { self.raw(replay).await?.days().await })?);
        }
        for day in days {
            rebuilt.days += 1;
            for (index, replay) in replays.iter().enumerate() {
                self.feed_day(&mut running, index, replay, day)?;
            }
            let passed = (i64::from(day) + 1).saturating_mul(DAY);
            feed_watermarks(&mut running, replays, passed)?;
        }
        feed_watermarks(&mut running, replays, Watermark::MAX)?;
        running.feed(Feed::Barrier(rebuilt.checkpoint))?;
        rebuilt.rows_in = running.counters.rows_in.load(std::sync::atomic::Ordering::Relaxed);
        rebuilt.rows_out = running.counters.rows_out.load(std::sync::atomic::Ordering::Relaxed);
        let state = reported.try_iter().find_map(|event| match event {
            Event::Report(Report::Prepared { state, .. }) => Some(*state),
            _ => None,
        });
        state.ok_or_else(|| Error::Bug("a rebuilt pipeline gave no state".into()))
    }

    async fn raw(&self, replay: &Replay) -> Result<crate::lake::LakeTable> {
        let raw = self.lake.existing(&replay.raw).await?;
        raw.ok_or_else(|| Error::Storage(format!("the raw table '{}' is not in the lake", replay.raw)))
    }

    fn feed_day(&self, running: &mut Running, index: usize, replay: &Replay, day: i32) -> Result<()> {
        let mut rows = self.handle.block_on(async {
            let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
            let provider = self.raw(replay).await?.provider().await?;
            let of_day = col(DAY_COLUMN).eq(lit(ScalarValue::Date32(Some(day))));
            Ok::<_, Error>(context.read_table(provider)?.filter(of_day)?.execute_stream().await?)
        })?;
        let mut stamper = Stamper::new(&replay.table, StampState::default());
        while let Some(batch) = self.handle.block_on(rows.next()) {
            let batch: RecordBatch = batch.map_err(Error::from)?;
            // What the connector knew of the row is among its columns: see `keeps`.
            let origin = Origin { producer: "", offset: 0, received_at: 0 };
            let (batch, _) = complete(&replay.table, batch, &origin)?;
            let stamped = stamper.stamp("", batch, i64::MAX)?;
            if !stamped.rows.is_empty() {
                // In time, whatever came before.
                let rows = Rows { row_watermark: None, ..stamped.rows };
                running.feed(Feed::Batch(index, Box::new(rows)))?;
            }
        }
        Ok(())
    }

    /// The checkpoint after the newest: the same place and the same states, but for one pipeline.
    fn next(&self, name: &str, state: PipelineState, commits: &BTreeMap<String, Commits>) -> Manifest {
        let mut next = self.manifest.clone();
        next.checkpoint += 1;
        for (other, state) in &mut next.pipelines {
            // What the tables have already must not come again; files are cut back to what their sinks have said.
            let Some(own) = commits.get(other) else { continue };
            for (commit, prepared) in
                [(&own.sink, &mut state.sink), (&own.late, &mut state.late), (&own.rejected, &mut state.rejected)]
            {
                if commit.is_some() {
                    *prepared = Value::Null;
                }
            }
        }
        let replace = |prepared: Value| if prepared.is_null() { Value::Null } else { json!({ "replace": prepared }) };
        let state = PipelineState {
            sink: replace(state.sink),
            late: replace(state.late),
            rejected: replace(state.rejected),
            ..state
        };
        next.pipelines.insert(name.to_string(), state);
        next
    }
}

/// The watermarks of a day's end, no further than the checkpoint's.
fn feed_watermarks(running: &mut Running, replays: &[Replay], passed: Watermark) -> Result<()> {
    for (index, replay) in replays.iter().enumerate() {
        let watermark = passed.min(replay.watermark);
        if watermark > WATERMARK_MIN {
            running.feed(Feed::Watermark(index, watermark))?;
        }
    }
    Ok(())
}

/// Whether the rows of a plan are those of the table, all of them, with all its columns under their own names.
fn keeps(plan: &Plan, table: &Table) -> bool {
    let scan = match plan {
        Plan::Scan { .. } => plan,
        Plan::Operator { inputs, .. } => match (plan.describe().starts_with("project "), inputs.as_slice()) {
            (true, [scan @ Plan::Scan { .. }]) => scan,
            _ => return false,
        },
    };
    let renames = plan.describe().contains(" AS ");
    let schema = plan.schema();
    let all = table.inputs().fields().iter().all(|f| schema.field_with_name(f.name()).is_ok());
    scan.sources() == [table.name.clone()] && all && !renames
}

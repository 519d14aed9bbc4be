//! Tables to read and roll up: those of a running engine, or those that are stored, beside a server that may be running.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use millstream::batch::{Batch, Functions, Rollup, RollupRun};
use millstream::checkpoint::Checkpoints;
use millstream::fs::DiskFs;
use millstream::lake::Lake;
use millstream::time::{Clock, EventTime};
use millstream::{Engine, QueryLimits, QueryResult, Result};

use crate::catalog;
use crate::config::Config;

/// Where queries and rollups run.
#[derive(Debug, Clone)]
pub enum Tables {
    /// In the process that runs the pipelines.
    Running(Arc<Engine>),
    /// On the lake alone: nothing is locked, and what no checkpoint has committed is not seen.
    Stored {
        /// The tables.
        lake: Lake,
        /// Runs the queries.
        batch: Batch,
        /// By source table, of the newest checkpoint.
        watermarks: BTreeMap<String, EventTime>,
    },
}

impl Tables {
    /// The stored tables of a data directory.
    ///
    /// *Errors*: `Storage`, `Corrupt`.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let url = config.lake.url.clone().unwrap_or_else(|| config.data_dir.join("lake").display().to_string());
        let lake = Lake::open(&url, &config.lake.options).await?;
        let batch = Batch::new(lake.clone(), clock.clone(), Functions::default())?;
        batch.set_views(catalog::views(&config.sql.views)?);
        let newest = Checkpoints::open(Arc::new(DiskFs), &config.data_dir, clock)?.newest()?;
        let sources = newest.map(|manifest| manifest.sources).unwrap_or_default();
        let watermarks = sources.into_iter().map(|(name, source)| (name, source.stamp.watermark)).collect();
        Ok(Self::Stored { lake, batch, watermarks })
    }

    /// One read-only query.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &BTreeMap<String, ScalarValue>,
        limits: &QueryLimits,
    ) -> Result<QueryResult> {
        match self {
            Self::Running(engine) => engine.query(sql, parameters, limits).await,
            Self::Stored { batch, .. } => batch.query(sql, parameters, limits).await,
        }
    }

    /// The tables that a query reads, directly or through views.
    pub fn tables_read(&self, sql: &str) -> Result<Vec<String>> {
        match self {
            Self::Running(engine) => engine.tables_read(sql),
            Self::Stored { batch, .. } => batch.tables_read(sql),
        }
    }

    /// Replaces one day of a rollup.
    pub async fn rollup(&self, rollup: &Rollup, day: i32) -> Result<RollupRun> {
        match self {
            Self::Running(engine) => engine.rollup(rollup, day).await,
            Self::Stored { batch, .. } => batch.rollup(rollup, day).await,
        }
    }

    /// Replaces some days of a rollup; one that fails holds up no other.
    pub async fn rollup_days(&self, rollup: &Rollup, days: &[i32]) -> Result<Vec<Result<RollupRun>>> {
        match self {
            Self::Running(engine) => engine.rollup_days(rollup, days).await,
            Self::Stored { batch, .. } => batch.rollup_days(rollup, days).await,
        }
    }

    /// The days up to `through_day` whose input is newer than their rollup.
    pub async fn rollup_days_due(&self, rollup: &Rollup, through_day: i32) -> Result<BTreeSet<i32>> {
        match self {
            Self::Running(engine) => engine.rollup_days_due(rollup, through_day).await,
            Self::Stored { batch, .. } => batch.rollup_days_due(rollup, through_day).await,
        }
    }

    /// The tables' store.
    pub fn lake(&self) -> &Lake {
        match self {
            Self::Running(engine) => engine.lake(),
            Self::Stored { lake, .. } => lake,
        }
    }

    /// Watermarks of pipelines (running) or of source tables (stored), by name.
    pub fn watermarks(&self) -> BTreeMap<String, EventTime> {
        match self {
            Self::Running(engine) => engine.status().pipelines.into_iter().map(|p| (p.name, p.watermark)).collect(),
            Self::Stored { watermarks, .. } => watermarks.clone(),
        }
    }

    /// Every table of the lake, with its columns, sorted by name.
    pub async fn list(&self) -> Result<Vec<(String, SchemaRef)>> {
        let mut tables = Vec::new();
        for name in self.lake().names().await? {
            if let Some(table) = self.lake().existing(&name).await? {
                tables.push((name, table.schema()));
            }
        }
        Ok(tables)
    }
}

//! A damaged data directory: what is wrong with it, what is lost, and saving the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::blocking;
use crate::checkpoint::{CheckpointReport, Checkpoints};
use crate::error::{Error, Result};
use crate::fs::{DiskFs, Fs, lock_dir};
use crate::lake::{Lake, TableReport};
use crate::log::{self, LogReport};
use crate::time::Clock;

/// The folder in a data directory where copies of damaged files are kept.
pub const ASIDE: &str = "damaged";

/// What is known of a data directory and its tables.
#[derive(Debug, Clone, Default)]
pub struct RepairReport {
    /// The log.
    pub log: LogReport,
    /// The checkpoints.
    pub checkpoints: CheckpointReport,
    /// The tables: their files, or why their log cannot be read.
    pub tables: BTreeMap<String, Result<TableReport, String>>,
}

impl RepairReport {
    /// Whether nothing is damaged.
    pub fn is_whole(&self) -> bool {
        let whole = |table: &Result<TableReport, String>| table.as_ref().is_ok_and(|t| t.damage.is_empty());
        self.log.damage.is_empty() && self.checkpoints.damage.is_empty() && self.tables.values().all(whole)
    }
}

/// Reads everything in a data directory and its lake, and tells what is damaged. With `save`: writes damaged segments of
/// the log without what is lost, sets damaged state aside so that its pipeline can be rebuilt, takes damaged files out of
/// their tables; copies of what was damaged are kept in [`ASIDE`].
///
/// Errors: [`Error::Config`] when a server has the directory; [`Error::Storage`].
pub async fn repair(
    data_dir: &Path,
    lake_url: Option<&str>,
    lake_options: &BTreeMap<String, String>,
    clock: Arc<dyn Clock>,
    save: bool,
) -> Result<RepairReport> {
    let dir = data_dir.to_path_buf();
    let (lock, log, checkpoints) = blocking(move || {
        let fs: Arc<dyn Fs> = Arc::new(DiskFs);
        let lock = lock_dir(fs.as_ref(), &dir)?;
        let aside = dir.join(ASIDE);
        let aside = save.then_some(aside.as_path());
        let log = match fs.list(&dir.join("log")) {
            Ok(_) => log::repair(fs.as_ref(), &dir.join("log"), aside)?,
            Err(_) => LogReport::default(),
        };
        let checkpoints = Checkpoints::open(fs, &dir, clock)?.examine(aside)?;
        Ok((lock, log, checkpoints))
    })
    .await?;
    let mut report = RepairReport { log, checkpoints, tables: BTreeMap::new() };
    let url = lake_url.map_or_else(|| data_dir.join("lake").display().to_string(), str::to_string);
    let lake = Lake::open(&url, lake_options).await?;
    for name in lake.names().await? {
        let table = examine(&lake, &name, save).await;
        report.tables.insert(name, table.map_err(|e| e.to_string()));
    }
    drop(lock);
    Ok(report)
}

async fn examine(lake: &Lake, name: &str, save: bool) -> Result<TableReport> {
    let table = lake.existing(name).await?;
    let table = table.ok_or_else(|| Error::Corrupt("its log has no version that can be read".into()))?;
    let report = table.scrub().await?;
    if save && !report.damage.is_empty() {
        table.give_up(&report.damage).await?;
    }
    Ok(report)
}

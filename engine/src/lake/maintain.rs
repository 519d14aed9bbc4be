//! Keeping a table quick to read and to commit to: compaction, log checkpoints, vacuum.
//!
//! All of it may run beside writers: rows never change, the `txn` versions stay, and a file that was written but not
//! committed yet is safe for as long as the horizon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use deltalake_core::DeltaTable;
use deltalake_core::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake_core::kernel::Action;
use deltalake_core::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::commit::{Outcome, contains_all};
use super::encode::{encode_part, fits_name};
use super::partition::{Values, in_files};
use super::table::{LakeTable, LiveFile, blocking, live_files, location};
use super::types::align;
use crate::error::{Error, Result};

/// The bounds that maintenance keeps.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// A day with more small files than this is compacted.
    pub small_files_per_day_max: usize,
    /// Compacted files are about this large; a file of at least half of it is not small.
    pub file_bytes_target: u64,
    /// Commits after which the log gets a checkpoint.
    pub commits_per_checkpoint: i64,
    /// Files that are not in the table are removed when they are older than this. It must be longer than any query, and
    /// than any pause between a checkpoint and the commit of its files.
    pub vacuum_after: Duration,
    /// Log entries before a checkpoint are removed when they are older than this: how far back changes can be told.
    pub log_kept_for: Duration,
}

impl Default for Maintenance {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            small_files_per_day_max: 8,
            file_bytes_target: 128 << 20,
            commits_per_checkpoint: 50,
            vacuum_after: 7 * day,
            log_kept_for: 30 * day,
        }
    }
}

/// What one round of maintenance did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// Small files that were merged.
    pub files_compacted: u64,
    /// Files that they became.
    pub files_written: u64,
    /// Whether the log got a checkpoint.
    pub checkpoint_written: bool,
    /// Files removed from the store.
    pub files_vacuumed: u64,
    /// Log entries removed from the store.
    pub log_entries_removed: u64,
}

impl LakeTable {
    /// One round: compaction, then a log checkpoint if one is due, then vacuum.
    ///
    /// Errors: `Storage`; what was done before stays done.
    pub async fn maintain(&self, policy: &Maintenance) -> Result<MaintenanceReport> {
        let mut report = MaintenanceReport::default();
        for group in self.groups_to_compact(policy).await? {
            let inputs = group.files.len() as u64;
            if self.compact(group, policy).await? {
                report.files_compacted += inputs;
                report.files_written += 1;
            }
        }
        self.checkpoint_log(policy, &mut report).await?;
        report.files_vacuumed = self.vacuum(policy).await?;
        Ok(report)
    }

    /// Small files of one day and partition that fit into one file, in the order of their names.
    async fn groups_to_compact(&self, policy: &Maintenance) -> Result<Vec<Group>> {
        let handle = self.refreshed().await?;
        let mut days: BTreeMap<(i32, Values), Vec<LiveFile>> = BTreeMap::new();
        for file in live_files(handle.state()?)? {
            // Files with deleted rows are another writer's: it compacts them itself.
            let small = file.size_bytes < policy.file_bytes_target / 2;
            if small
                && file.view.deletion_vector_descriptor().is_none()
                && let Some(day) = file.day
            {
                days.entry((day, file.values.clone())).or_default().push(file);
            }
        }
        let mut groups = Vec::new();
        for ((day, values), mut files) in days {
            if files.len() <= policy.small_files_per_day_max {
                continue;
            }
            files.sort_by(|a, b| a.path.cmp(&b.path));
            let empty = || Group { day, values: values.clone(), files: Vec::new(), bytes: 0 };
            let mut group = empty();
            for file in files {
                if group.bytes + file.size_bytes > policy.file_bytes_target && !group.files.is_empty() {
                    groups.push(std::mem::replace(&mut group, empty()));
                }
                group.bytes += file.size_bytes;
                group.files.push(file);
            }
            groups.push(group);
        }
        groups.retain(|g| g.files.len() > 1);
        Ok(groups)
    }

    /// Whether the group became one file; not if another writer removed one of its files meanwhile.
    async fn compact(&self, group: Group, policy: &Maintenance) -> Result<bool> {
        let base = self.version().await?;
        let mut contents = Vec::with_capacity(group.files.len());
        for file in &group.files {
            let bytes = self.files().get(&location(&file.path)?).await?.bytes().await?;
            if !fits_name(&file.path, &bytes) {
                // Not to be written again under a checksum that fits.
                return Err(Error::Corrupt(format!(
                    "file {} of table '{}' does not have the checksum in its name; `millstream repair` takes it out",
                    file.path,
                    self.name()
                )));
            }
            contents.push(bytes);
        }
        let (inner, day, values) = (Arc::clone(&self.inner), group.day, group.values.clone());
        let schema = Arc::new(in_files(&self.schema(), &inner.partition));
        let encoded = blocking(move || encode_part(day, values, &merged(&inner.name, &schema, contents)?)).await?;
        let stem = format!("compact-{base:020}-{:08x}", encoded.crc);
        let written = [self.put_file(encoded, &stem).await?];
        let adds = self.additions(&written, false).await?;
        let operation =
            DeltaOperation::Optimize { predicate: None, target_size: policy.file_bytes_target.min(1 << 62) as i64 };
        let outcome = self
            .publish(&operation, None, |state| {
                let live = live_files(state)?;
                let paths: BTreeSet<&str> = live.iter().map(|f| f.path.as_str()).collect();
                let gone = group.files.iter().any(|f| !paths.contains(f.path.as_str()));
                if gone || contains_all(&live, &written) {
                    return Ok(None);
                }
                let removes = group.files.iter().map(|f| Action::Remove(f.view.remove_action(false)));
                Ok(Some(removes.chain(adds.iter().cloned()).collect()))
            })
            .await?;
        Ok(matches!(outcome, Outcome::Committed(_)))
    }

    async fn checkpoint_log(&self, policy: &Maintenance, report: &mut MaintenanceReport) -> Result<()> {
        let table = self.refreshed().await?.table.clone();
        let Some(version) = table.version() else { return Ok(()) };
        let last = self.last_checkpoint().await?;
        let since = i64::try_from(version).unwrap_or(i64::MAX) - last.unwrap_or(-1);
        if since < policy.commits_per_checkpoint {
            return Ok(());
        }
        create_checkpoint(&table, None).await?;
        report.checkpoint_written = true;
        self.reload().await?;
        let cutoff_ms = self.now_ms() - millis(policy.log_kept_for);
        let removed = cleanup_expired_logs_for(version, self.inner.log_store.as_ref(), cutoff_ms, None).await?;
        report.log_entries_removed = removed as u64;
        Ok(())
    }

    /// Reads the table anew from the log's checkpoint. A handle that follows the log holds the files of each commit as a batch of
    /// its own, ten kilobytes of small columns for a file, and copies all of them at the next commit; a checkpoint is one batch.
    async fn reload(&self) -> Result<()> {
        let mut table = DeltaTable::new(Arc::clone(&self.inner.log_store));
        table.load().await?;
        // What it was loaded at is not newer than this.
        self.refreshed().await?.replace(table);
        self.refreshed().await.map(drop)
    }

    /// The version of the newest log checkpoint.
    async fn last_checkpoint(&self) -> Result<Option<i64>> {
        let hint = match self.files().get(&location("_delta_log/_last_checkpoint")?).await {
            Ok(hint) => hint.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let hint: serde_json::Value = serde_json::from_slice(&hint).unwrap_or_default();
        Ok(hint.get("version").and_then(serde_json::Value::as_i64))
    }

    /// Removes Parquet files that no version within the horizon has and that were written before it.
    async fn vacuum(&self, policy: &Maintenance) -> Result<u64> {
        let before_ms = self.now_ms() - millis(policy.vacuum_after);
        let kept = self.files_in_use(before_ms).await?;
        let old: Vec<ObjectMeta> = self
            .files()
            .list(None)
            .try_filter(|meta| {
                let old = meta.last_modified.timestamp_millis() < before_ms
                    && meta.location.as_ref().ends_with(".parquet")
                    && !meta.location.as_ref().starts_with('_')
                    && !kept.contains(meta.location.as_ref());
                std::future::ready(old)
            })
            .try_collect()
            .await?;
        let mut removed = 0;
        for meta in old {
            match self.files().delete(&meta.location).await {
                Ok(()) => removed += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(removed)
    }

    /// The paths of live files and of those removed since `before_ms`, which queries may still read.
    async fn files_in_use(&self, before_ms: i64) -> Result<BTreeSet<String>> {
        let state = self.refreshed().await?.state()?.clone();
        let mut kept: BTreeSet<String> = BTreeSet::new();
        for file in live_files(&state)? {
            kept.insert(as_listed(&file.path));
        }
        let mut tombstones = state.all_tombstones(self.inner.log_store.as_ref());
        while let Some(tombstone) = tombstones.next().await {
            let tombstone = tombstone?;
            if tombstone.deletion_timestamp().is_none_or(|at| at >= before_ms) {
                kept.insert(as_listed(&tombstone.path()));
            }
        }
        Ok(kept)
    }

    fn now_ms(&self) -> i64 {
        self.inner.clock.now() / 1_000_000
    }
}

/// Files that become one.
struct Group {
    day: i32,
    values: Values,
    files: Vec<LiveFile>,
    bytes: u64,
}

fn merged(table: &str, schema: &SchemaRef, contents: Vec<Bytes>) -> Result<Vec<RecordBatch>> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    for bytes in contents {
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
            batches.push(align(table, &batch?, schema)?);
        }
    }
    if batches.is_empty() {
        return Err(Error::Corrupt(format!("the files of table '{table}' on one day hold no rows")));
    }
    Ok(batches)
}

/// A path of the log as a list of the store shows it.
fn as_listed(path: &str) -> String {
    Path::parse(path).unwrap_or_else(|_| Path::from(path)).as_ref().to_string()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

//! Exactly once into the table's log.
//!
//! One loop serves every kind of commit: load the newest version, ask whether it is in there already, put the next
//! version if it is absent. A lost race starts over. After an error whose outcome is unknown (the answer was lost, the
//! put may or may not have happened) the loop also starts over, and the question at its top finds the truth. Files are
//! never deleted here: what was not committed is left to vacuum, long after.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, Transaction};
use deltalake_core::protocol::{DeltaOperation, OutputMode, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use object_store::ObjectStoreExt;

use super::encode::{PendingFile, day_text};
use super::table::{Handle, LakeTable, LiveFile, live_files, location, lost_race, quiet};
use super::types::DAY;
use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::time::while_full;

/// Other writers that may be faster, one after another, before we give up.
const LOST_RACES_MAX: u32 = 100;

/// Errors of the store in one commit. The S3 client retries by itself before it reports one.
const FAILURES_MAX: u32 = 3;

/// A file written longer ago than this is looked for before it is committed: vacuum may have removed it.
const TRUSTED_FOR_MS: i64 = 3_600_000;

/// What became of a commit.
pub(crate) enum Outcome {
    /// It is in the table since this version.
    Committed(i64),
    /// It was there, or there was nothing to do; the newest version.
    Unchanged(i64),
}

impl Outcome {
    pub(crate) fn version(&self) -> i64 {
        match self {
            Self::Committed(version) | Self::Unchanged(version) => *version,
        }
    }
}

impl LakeTable {
    /// Makes the files part of the table, exactly once for each (`app_id`, `version`).
    ///
    /// Returns the table version, or `None` if the table had the transaction already: the same or a greater `version` of
    /// `app_id`. May be repeated at any time, from any process, also after an error.
    ///
    /// Errors: `Storage` when the store keeps failing (the commit may have happened: repeat it), `Corrupt` when a file is
    /// no longer there.
    pub async fn commit(&self, app_id: &str, version: i64, files: &[PendingFile]) -> Result<Option<i64>> {
        let operation = DeltaOperation::StreamingUpdate {
            output_mode: OutputMode::Append,
            query_id: app_id.to_string(),
            epoch_id: version,
        };
        let adds = self.additions(files, true).await?;
        let outcome = self.publish(&operation, Some((app_id, version)), |_| Ok(Some(adds.clone()))).await?;
        Ok(match outcome {
            Outcome::Committed(version) => Some(version),
            Outcome::Unchanged(_) => None,
        })
    }

    /// Does it again while the disk of the table is full. The table can be read meanwhile.
    pub fn while_full<T>(&self, write: impl FnMut() -> Result<T>) -> Result<T> {
        while_full(self.inner.clock.as_ref(), format_args!("to table '{}'", self.name()), Error::is_full, write)
    }

    /// As [`LakeTable::commit`], but the files take the place of all that the table has, in one commit.
    pub async fn commit_replacing(&self, app_id: &str, version: i64, files: &[PendingFile]) -> Result<()> {
        let operation =
            DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: Some(vec![DAY.into()]), predicate: None };
        let adds = self.additions(files, true).await?;
        let plan = |state: &DeltaTableState| {
            let removes = live_files(state)?.into_iter().map(|f| Action::Remove(f.view.remove_action(true)));
            Ok(Some(removes.chain(adds.iter().cloned()).collect()))
        };
        self.publish(&operation, Some((app_id, version)), plan).await.map(drop)
    }

    /// Adds rows once, without a transaction of the caller's. The table version that has them is returned.
    ///
    /// Errors: as [`LakeTable::write`] and [`LakeTable::commit`].
    pub async fn append(&self, batches: &[RecordBatch]) -> Result<i64> {
        let base = self.version().await?;
        let files = self.write_files(batches, |f| format!("append-{base:020}-{:08x}", f.crc)).await?;
        let operation =
            DeltaOperation::Write { mode: SaveMode::Append, partition_by: Some(vec![DAY.into()]), predicate: None };
        let adds = self.additions(&files, true).await?;
        let outcome = self
            .publish(&operation, None, |state| {
                let there = files.is_empty() || contains_all(&live_files(state)?, &files);
                Ok((!there).then(|| adds.clone()))
            })
            .await?;
        Ok(outcome.version())
    }

    /// Replaces all rows of one day, in one commit. A concurrent change is met by trying again on the newest version; the
    /// last to commit wins. No batches: the day becomes empty. Equal content is not written again.
    ///
    /// Returns the table version that has the new rows.
    ///
    /// Errors: `Event` with code `WRONG_DAY` when a row has another day; else as [`LakeTable::write`].
    pub async fn replace_day(&self, day: i32, batches: &[RecordBatch]) -> Result<i64> {
        self.replace_days(&[day], batches).await
    }

    /// As [`LakeTable::replace_day`], all rows of several days in one commit: it costs hardly more than that of one.
    pub async fn replace_days(&self, days: &[i32], batches: &[RecordBatch]) -> Result<i64> {
        let base = self.version().await?;
        let files = self.write_files(batches, |f| format!("replace-{base:020}-{:08x}", f.crc)).await?;
        let texts = days.iter().map(|day| day_text(*day)).collect::<Result<Vec<_>>>()?.join(", ");
        if let Some(other) = files.iter().find(|f| !days.contains(&f.day)) {
            return Err(Error::event(
                "WRONG_DAY",
                format!(
                    "rows of day {} cannot replace day {texts} of '{}'; select one day",
                    day_text(other.day)?,
                    self.name()
                ),
            ));
        }
        let list = texts.split(", ").map(|day| format!("{DAY} = '{day}'")).collect::<Vec<_>>().join(" OR ");
        let operation = DeltaOperation::Write {
            mode: SaveMode::Overwrite,
            partition_by: Some(vec![DAY.into()]),
            predicate: Some(list),
        };
        let adds = self.additions(&files, true).await?;
        let outcome = self
            .publish(&operation, None, |state| {
                let mut actions = Vec::new();
                let mut old: BTreeMap<i32, Vec<LiveFile>> = BTreeMap::new();
                for file in live_files(state)? {
                    if let Some(day) = file.day.filter(|day| days.contains(day)) {
                        old.entry(day).or_default().push(file);
                    }
                }
                for day in days {
                    let old = old.remove(day).unwrap_or_default();
                    let (files, adds): (Vec<_>, Vec<_>) =
                        files.iter().zip(&adds).filter(|(f, _)| f.day == *day).unzip();
                    if !same_content(&old, &files) {
                        actions.extend(old.iter().map(|f| Action::Remove(f.view.remove_action(true))));
                        actions.extend(adds.into_iter().cloned());
                    }
                }
                Ok((!actions.is_empty()).then_some(actions))
            })
            .await?;
        Ok(outcome.version())
    }

    /// The actions that add `files`, after making sure that old ones still exist.
    pub(crate) async fn additions(&self, files: &[PendingFile], data_change: bool) -> Result<Vec<Action>> {
        let now_ms = self.inner.clock.now() / 1_000_000;
        let mut actions = Vec::with_capacity(files.len());
        for file in files {
            if now_ms - file.written_at_ms > TRUSTED_FOR_MS {
                self.files().head(&location(&file.path)?).await.map_err(|e| {
                    Error::Corrupt(format!(
                        "file {} of table '{}' is not there any more ({e}); restore an older checkpoint",
                        file.path,
                        self.name()
                    ))
                })?;
            }
            actions.push(Action::Add(file.add(data_change)?));
        }
        Ok(actions)
    }

    fn properties(&self, txn: Option<(&str, i64)>) -> CommitProperties {
        let Some((app_id, version)) = txn else { return quiet() };
        let now_ms = self.inner.clock.now() / 1_000_000;
        quiet().with_application_transaction(Transaction::new_with_last_update(app_id, version, Some(now_ms)))
    }

    /// The loop described at the top. `plan` looks at the newest version and gives the actions to commit on it, or `None`
    /// when there is nothing to do.
    pub(crate) async fn publish(
        &self,
        operation: &DeltaOperation,
        txn: Option<(&str, i64)>,
        mut plan: impl FnMut(&DeltaTableState) -> Result<Option<Vec<Action>>>,
    ) -> Result<Outcome> {
        let (mut lost_races, mut failures, mut unknown) = (0, 0, false);
        loop {
            let mut handle = match self.refreshed().await {
                Ok(handle) => handle,
                Err(e) if failures >= FAILURES_MAX => return Err(e),
                Err(_) => {
                    failures += 1;
                    continue;
                }
            };
            let done = handle.has(txn).await?;
            let actions = if done { None } else { plan(handle.state()?)? };
            let Some(actions) = actions else {
                let version = handle.version()?;
                return Ok(if unknown { Outcome::Committed(version) } else { Outcome::Unchanged(version) });
            };
            let state = handle.state()?.clone();
            let committed = CommitBuilder::from(self.properties(txn))
                .with_actions(actions)
                .build(Some(&state), self.inner.log_store.clone(), operation.clone())
                .await;
            match committed {
                Ok(commit) => {
                    handle.committed(commit.snapshot(), txn);
                    return Ok(Outcome::Committed(handle.version()?));
                }
                Err(e) if lost_race(&e) => {
                    if planted::is(Bug::LostRaceTakenForDone) {
                        return Ok(Outcome::Committed(handle.version()?));
                    }
                    lost_races += 1;
                    if lost_races > LOST_RACES_MAX {
                        return Err(Error::Storage(format!(
                            "table '{}' changed {LOST_RACES_MAX} times while we tried to commit; try again",
                            self.name()
                        )));
                    }
                }
                Err(e) => {
                    (failures, unknown) = (failures + 1, true);
                    if planted::is(Bug::UnknownTakenForDone) {
                        return Ok(Outcome::Committed(handle.version()?));
                    }
                    if planted::is(Bug::FilesDeletedOnUnknown) {
                        for action in plan(handle.state()?)?.into_iter().flatten() {
                            if let Action::Add(add) = action {
                                let _ = self.files().delete(&location(&add.path)?).await;
                            }
                        }
                    }
                    tracing::warn!("the outcome of a commit to '{}' is unknown, reading the table: {e}", self.name());
                    if failures > FAILURES_MAX {
                        return Err(Error::Storage(format!(
                            "cannot commit to table '{}': {e}; the commit may have happened, repeating it is safe",
                            self.name()
                        )));
                    }
                }
            }
        }
    }
}

impl Handle {
    /// Whether the table has the transaction, or a later one of its application.
    async fn has(&mut self, txn: Option<(&str, i64)>) -> Result<bool> {
        let Some((app_id, version)) = txn.filter(|_| !planted::is(Bug::TransactionNotRead)) else { return Ok(false) };
        Ok(self.app_version(app_id).await?.is_some_and(|last| last >= version))
    }
}

pub(crate) fn contains_all(live: &[LiveFile], files: &[PendingFile]) -> bool {
    let paths: BTreeSet<&str> = live.iter().map(|f| f.path.as_str()).collect();
    files.iter().all(|f| paths.contains(f.path.as_str()))
}

/// Whether a day's files have the content of `files`, by size and the CRC at the end of their names. That also holds when
/// the very files are there: our commit whose answer was lost.
fn same_content(live: &[LiveFile], files: &[&PendingFile]) -> bool {
    let key = |path: &str, size_bytes: u64| {
        let stem = path.rsplit('/').next().unwrap_or(path);
        let replaced = stem.starts_with("replace-");
        replaced.then(|| (stem.rsplit('-').next().unwrap_or(stem).to_string(), size_bytes))
    };
    let old: BTreeSet<_> = live.iter().map(|f| key(&f.path, f.size_bytes)).collect();
    let new: BTreeSet<_> = files.iter().map(|f| key(&f.path, f.size_bytes)).collect();
    live.len() == files.len() && old == new && !new.contains(&None)
}

//! What changed in a table since a version, by day.

use std::collections::{BTreeMap, BTreeSet};

use deltalake_core::kernel::{Action, Version};
use deltalake_core::logstore::get_actions;

use super::statistics::parse_day;
use super::table::LakeTable;
use super::types::DAY;
use crate::error::{Error, Result};

/// Which days changed after a version, as far back as the log reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The oldest version whose changes are known: anything may have changed before it.
    pub complete_from: i64,
    /// The newest version.
    pub newest: i64,
    /// Per changed day, the newest version that changed its rows. Compaction changes no rows.
    pub last_version: BTreeMap<i32, i64>,
}

impl Changes {
    /// Whether the day's rows may have changed after `version`.
    pub fn changed_after(&self, day: i32, version: i64) -> bool {
        version + 1 < self.complete_from || self.last_version.get(&day).is_some_and(|last| *last > version)
    }

    /// Whether rows of the day or of one before it may have changed after `version`.
    pub fn changed_through(&self, day: i32, version: i64) -> bool {
        version + 1 < self.complete_from || self.last_version.range(..=day).any(|(_, last)| *last > version)
    }
}

impl LakeTable {
    /// The days whose rows changed by commits after `version`; compaction does not count. If the log no longer reaches
    /// back to it, all days.
    pub async fn days_changed_since(&self, version: i64) -> Result<BTreeSet<i32>> {
        let changes = self.changes_since(version).await?;
        if version + 1 < changes.complete_from {
            return self.days().await;
        }
        Ok(changes.last_version.into_keys().collect())
    }

    /// As [`LakeTable::days_changed_since`], with the version of the last change of each day.
    pub async fn changes_since(&self, version: i64) -> Result<Changes> {
        let mut known = self.inner.changes.lock().await;
        let newest = self.version().await?;
        let none = Changes { complete_from: newest + 1, newest, last_version: BTreeMap::new() };
        let mut changes = known.take().unwrap_or_else(|| none.clone());
        for at in changes.newest + 1..=newest {
            match self.days_changed_by(at).await? {
                Some(days) => changes.last_version.extend(days.into_iter().map(|day| (day, at))),
                // The log no longer has it: what was known is of a time before a gap.
                None => {
                    changes = none;
                    break;
                }
            }
        }
        changes.newest = changes.newest.max(newest);
        for at in (version.max(-1) + 1..changes.complete_from).rev() {
            let Some(days) = self.days_changed_by(at).await? else { break };
            for day in days {
                changes.last_version.entry(day).or_insert(at);
            }
            changes.complete_from = at;
        }
        let complete_from = changes.complete_from.max(version.max(-1) + 1);
        let after = changes.last_version.iter().filter(|(_, last)| **last > version);
        let answer =
            Changes { complete_from, newest: changes.newest, last_version: after.map(|(d, v)| (*d, *v)).collect() };
        *known = Some(changes);
        Ok(answer)
    }

    /// The days whose rows a commit changed; `None` if the log no longer has it.
    async fn days_changed_by(&self, version: i64) -> Result<Option<BTreeSet<i32>>> {
        let number = Version::try_from(version).map_err(|_| Error::Bug(format!("table version {version}")))?;
        let Some(commit) = self.inner.log_store.read_commit_entry(number).await? else { return Ok(None) };
        Ok(Some(get_actions(number, &commit)?.iter().filter_map(changed_day).collect()))
    }
}

/// The day whose rows an action changes.
fn changed_day(action: &Action) -> Option<i32> {
    let values = match action {
        Action::Add(add) if add.data_change => Some(&add.partition_values),
        Action::Remove(remove) if remove.data_change => remove.partition_values.as_ref(),
        _ => None,
    }?;
    parse_day(values.get(DAY)?.as_deref()?)
}

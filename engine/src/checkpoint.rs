//! The checkpoint manifest: the one atomic commit point of state.
//!
//! ```text
//! <dir>/checkpoints/00000000000000000007.json   one line of JSON, one line with its CRC-32, both twice; put if absent
//! <dir>/state/7-agent_usage_1m-0-0.arrow        what changed in an operator's state, Arrow IPC, named in the manifest
//! <dir>/state/7-agent_usage_1m-0-s0.arrow       state that had no room in memory before checkpoint 7, divided by key
//! ```
//!
//! Recovery takes the newest manifest whose checksum and state files are whole. Tables are committed after the manifest,
//! and again at recovery: [`Commit`](crate::connectors::Commit) is idempotent. Where the state of later checkpoints is
//! damaged, they are taken again from it, each up to the place in the log where it ended: see [`Again`].

mod examine;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use examine::{CheckpointDamage, CheckpointReport};

use crate::error::{Error, Result, is_full};
use crate::fs::{Fs, create_exclusive, write_atomic};
use crate::operators::graph::StageWatermarks;
use crate::planted::{self, Bug};
use crate::time::{Clock, WATERMARK_MIN, Watermark, while_full};

/// The version of the manifest's and the state files' layout. From 2 on there may be spilled state; from 3 on integers by key are
/// in as few bytes as hold them.
pub const VERSION: u32 = 3;

/// The oldest that can be read.
const VERSION_OLDEST: u32 = 1;

/// The plan of a pipeline whose damaged state was set aside: no SQL has it, so it must be rebuilt.
pub const SET_ASIDE: &str = "set aside by `millstream repair`";

/// Checkpoints kept: the newest, and older ones for when the newest is damaged.
const KEPT: usize = 3;

/// Everything a restart needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`] when it was written.
    pub version: u32,
    /// Its number: 1, 2, 3, ...
    pub checkpoint: u64,
    /// The first log entry that is not covered.
    pub log_offset: u64,
    /// By source table.
    pub sources: BTreeMap<String, SourceState>,
    /// By pipeline.
    pub pipelines: BTreeMap<String, PipelineState>,
    /// Later checkpoints whose state is damaged, oldest first: to be taken again from this one. Never written.
    #[serde(skip)]
    pub again: Vec<Again>,
}

/// A checkpoint that is taken again. The tables may have its rows, so it must end at the same place in the log: results
/// are a function of the log, so it then has the same rows, and a table that has them takes them for done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// Its number.
    pub checkpoint: u64,
    /// The first log entry that it does not cover.
    pub log_offset: u64,
}

/// A source at a checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceState {
    /// Batches read in full from a bounded source.
    pub batches: u64,
    /// Rows taken of the batch after those.
    pub rows: u64,
    /// When the source was first opened: the arrival time of its rows. Nanoseconds since the epoch.
    pub opened_at: i64,
    /// Its watermark.
    pub stamp: StampState,
}

/// What is known of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The greatest watermark of its events.
    pub watermark: Watermark,
    /// Whether it is left out of the minimum.
    pub idle: bool,
}

/// The watermark of a source, as checkpoints keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampState {
    /// The source's watermark.
    pub watermark: Watermark,
    /// By partition name.
    pub partitions: BTreeMap<String, Partition>,
}

impl Default for StampState {
    fn default() -> Self {
        Self { watermark: WATERMARK_MIN, partitions: BTreeMap::new() }
    }
}

/// A pipeline at a checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PipelineState {
    /// The plan whose state this is: another plan cannot take it.
    pub plan: String,
    /// The stages of the final graph, in order.
    pub stages: Vec<StageState>,
    /// What the sink prepared.
    pub sink: Value,
    /// What the sink for late rows prepared.
    pub late: Value,
    /// The same for rows for which an expression failed.
    #[serde(default)]
    pub rejected: Value,
    /// Rows that were late so far.
    pub rows_late: u64,
    /// Its lookup tables, in the order of the plan.
    #[serde(default)]
    pub lookups: Vec<LookupState>,
}

/// The rows of a lookup table at a checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LookupState {
    /// When they were read, nanoseconds since the epoch.
    pub loaded_at: i64,
    /// The rows.
    pub files: Vec<StateFile>,
}

/// One operator's state at a checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StageState {
    /// Its watermarks.
    pub watermarks: StageWatermarks,
    /// Its files, oldest first.
    pub files: Vec<StateFile>,
}

/// A file of operator state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateFile {
    /// Its name in the state directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The CRC-32 of its bytes.
    pub crc32: u32,
    /// It does not matter once the watermark has reached this.
    pub needed_until: i64,
    /// Whether it stays where it is at a restart: state that has no room in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spilled: bool,
}

/// The checkpoints of one directory.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    manifests: PathBuf,
    state: PathBuf,
}

impl Checkpoints {
    /// Opens or creates the directory.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let (manifests, state) = (dir.join("checkpoints"), dir.join("state"));
        for d in [&manifests, &state] {
            fs.create_dir_all(d).map_err(|e| Error::file(d, "create", e))?;
        }
        Ok(Self { fs, clock, manifests, state })
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        let names = self.fs.list(&self.manifests).map_err(|e| Error::file(&self.manifests, "list", e))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|n| n.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, checkpoint: u64) -> PathBuf {
        self.manifests.join(format!("{checkpoint:020}.json"))
    }

    /// The newest whole checkpoint; `None` if there never was one. Damaged ones are named in a warning; if all are
    /// damaged, that is an error: starting afresh would double what the tables hold.
    pub fn newest(&self) -> Result<Option<Manifest>> {
        let (mut damage, mut damaged) = (Vec::new(), Vec::new());
        let numbers = self.numbers()?;
        for number in numbers.iter().rev() {
            match self.load(*number) {
                Ok(mut manifest) => {
                    // After one whose place in the log is not known, or with a pipeline that began later, nothing can
                    // be taken again.
                    let known = |later: Option<Manifest>| {
                        let later = later?;
                        let same = later.pipelines.keys().all(|name| manifest.pipelines.contains_key(name));
                        same.then_some(Again { checkpoint: later.checkpoint, log_offset: later.log_offset })
                    };
                    manifest.again = damaged.into_iter().rev().map_while(known).collect();
                    if planted::is(Bug::AgainOnlyLast) {
                        manifest.again = manifest.again.last().copied().into_iter().collect();
                    }
                    // The process that published it may have been killed before its name was durable; what is built on
                    // it from here on must not outlive it.
                    self.fs.sync_dir(&self.manifests).map_err(|e| Error::file(&self.manifests, "sync", e))?;
                    return Ok(Some(manifest));
                }
                Err(e) => {
                    tracing::warn!("checkpoint {number} is not usable, trying the one before: {e}");
                    damage.push(e.to_string());
                    damaged.push(self.manifest(*number).ok());
                }
            }
        }
        match damage.first() {
            None => Ok(None),
            Some(first) => Err(Error::Corrupt(format!(
                "none of the {} checkpoints in {} is usable ({first}); stop here: `millstream repair` shows what is \
                 damaged and what can be saved, or restore the directory from a copy",
                damage.len(),
                self.manifests.display()
            ))),
        }
    }

    /// A manifest whose state files are whole too.
    fn load(&self, number: u64) -> Result<Manifest> {
        let manifest = self.manifest(number)?;
        for file in manifest.files() {
            self.verify(file)?;
        }
        Ok(manifest)
    }

    pub(crate) fn manifest(&self, number: u64) -> Result<Manifest> {
        let path = self.path(number);
        let bytes = self.fs.read(&path).map_err(|e| Error::file(&path, "read", e))?;
        let bad = |what: &str| Error::Corrupt(format!("{}: {what}", path.display()));
        let json = whole_half(&bytes).ok_or_else(|| bad("the checksum does not match"))?;
        let manifest: Manifest = serde_json::from_slice(json).map_err(|e| bad(&e.to_string()))?;
        if !(VERSION_OLDEST..=VERSION).contains(&manifest.version) {
            return Err(bad(&format!(
                "layout version {}, but this program knows {VERSION_OLDEST} to {VERSION}; use the program that wrote it, or start with an \
                 empty data directory and compute the tables from the raw tables",
                manifest.version
            )));
        }
        Ok(manifest)
    }

    /// Publishes a checkpoint. Once this returns it is the one that a restart takes.
    pub fn publish(&self, manifest: &Manifest) -> Result<()> {
        let text = text_of(manifest)?;
        let path = self.path(manifest.checkpoint);
        if planted::is(Bug::ManifestNotAtomic) {
            let written = self.fs.create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
            return written.map_err(|e| Error::file(&path, "create", e));
        }
        self.while_full(&path, || create_exclusive(self.fs.as_ref(), &path, text.as_bytes()))
            .map_err(|e| Error::file(&path, "create", e))
    }

    /// Publishes a checkpoint in the place of a damaged one of the same number.
    pub fn publish_again(&self, manifest: &Manifest) -> Result<()> {
        let text = text_of(manifest)?;
        let path = self.path(manifest.checkpoint);
        self.while_full(&path, || write_atomic(self.fs.as_ref(), &path, text.as_bytes()))
            .map_err(|e| Error::file(&path, "write", e))
    }

    /// Waits while the disk is full. Meanwhile the pipelines stand still and the log refuses what does not fit.
    fn while_full(&self, path: &Path, write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        while_full(self.clock.as_ref(), path.display(), is_full, write)
    }

    /// Removes damaged newer checkpoints that recovery has passed over, so that their numbers can be used again.
    pub fn discard_after(&self, checkpoint: u64) -> Result<()> {
        for number in self.numbers()?.into_iter().filter(|n| *n > checkpoint) {
            let path = self.path(number);
            self.fs.remove(&path).map_err(|e| Error::file(&path, "remove", e))?;
        }
        Ok(())
    }

    /// Removes checkpoints older than the newest few, and state files that none of those name, but for those that are spilled
    /// for a checkpoint after `published`. Returns the oldest log entry that a kept checkpoint may need.
    pub fn clean(&self, published: u64) -> Result<u64> {
        let numbers = self.numbers()?;
        let (old, kept) = numbers.split_at(numbers.len().saturating_sub(KEPT));
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let mut log_offset = u64::MAX;
        for number in kept {
            let manifest = match self.manifest(*number) {
                Ok(manifest) => manifest,
                Err(e @ Error::Corrupt(_)) => {
                    // Nothing can be recovered from it, so nothing need be kept for it.
                    tracing::warn!("checkpoint {number} is damaged: {e}");
                    continue;
                }
                Err(e) => return Err(e),
            };
            log_offset = log_offset.min(manifest.log_offset);
            needed.extend(manifest.files().map(|f| f.name.clone()));
            if planted::is(Bug::StateRemovedEarly) {
                needed.retain(|name| name.starts_with(&format!("{number}-")));
            }
        }
        for number in old {
            let path = self.path(*number);
            self.fs.remove(&path).map_err(|e| Error::file(&path, "remove", e))?;
        }
        let is_later = |name: &str| {
            let number = name.split('-').next().and_then(|n| n.parse::<u64>().ok());
            number.is_some_and(|n| n > published) && !planted::is(Bug::SpilledRemovedEarly)
        };
        for name in self.fs.list(&self.state).map_err(|e| Error::file(&self.state, "list", e))? {
            if !needed.contains(&name) && !is_later(&name) {
                let path = self.state.join(&name);
                self.fs.remove(&path).map_err(|e| Error::file(&path, "remove", e))?;
            }
        }
        Ok(log_offset)
    }
}

/// A manifest's file: one bit that flips in it does not matter, for everything is there twice.
fn text_of(manifest: &Manifest) -> Result<String> {
    let json =
        serde_json::to_string(manifest).map_err(|e| Error::Bug(format!("a manifest does not serialise: {e}")))?;
    Ok(format!("{json}\n{:08x}\n", crc32fast::hash(json.as_bytes())).repeat(2))
}

/// The JSON of a half whose checksum matches.
fn whole_half(bytes: &[u8]) -> Option<&[u8]> {
    let whole = |half: &[u8]| {
        let (json, sum) = half.split_at_checked(half.len().checked_sub(10)?)?;
        let sum = sum.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
        (sum == format!("{:08x}", crc32fast::hash(json)).as_bytes()).then_some(json.len())
    };
    let middle = bytes.len() / 2;
    let (first, second) = bytes.split_at_checked(middle)?;
    // Programs before this one wrote everything once.
    let halves = [first, second, bytes];
    halves.into_iter().find_map(|half| half.get(..whole(half)?))
}

impl Manifest {
    /// The number of the next checkpoint.
    pub fn next(&self) -> u64 {
        self.again.first().map_or(self.checkpoint + 1, |again| again.checkpoint)
    }

    /// The newest checkpoint whose rows tables may have.
    pub fn last(&self) -> u64 {
        self.again.last().map_or(self.checkpoint, |again| again.checkpoint)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &StateFile> {
        self.files_by_pipeline().map(|(_, file)| file)
    }

    /// Every file of state with its pipeline.
    fn files_by_pipeline(&self) -> impl Iterator<Item = (&str, &StateFile)> {
        self.pipelines.iter().flat_map(|(name, p)| {
            let files = p.stages.iter().flat_map(|s| &s.files).chain(p.lookups.iter().flat_map(|l| &l.files));
            files.map(|file| (name.as_str(), file))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sim::SimFs;
    use crate::time::ManualClock;

    fn open(fs: &SimFs) -> Checkpoints {
        Checkpoints::open(Arc::new(fs.clone()), Path::new("d"), Arc::new(ManualClock::at(0))).unwrap()
    }

    fn manifest(version: u32) -> Manifest {
        let (sources, pipelines) = Default::default();
        Manifest { version, checkpoint: 1, log_offset: 0, sources, pipelines, again: Vec::new() }
    }

    /// Found by a simulated schedule, the 1,820th: tables were committed on the strength of a name that was not durable.
    #[test]
    fn a_checkpoint_that_was_found_survives_a_power_cut() {
        for seed in 0..50 {
            let fs = SimFs::new();
            // Killed between the link and the sync of the directory.
            fs.fail_after(6);
            open(&fs).publish(&manifest(VERSION)).unwrap_err();
            let restarted = fs.kill();
            assert_eq!(open(&restarted).newest().unwrap().map(|m| m.checkpoint), Some(1));
            let after = restarted.crash(seed);
            assert_eq!(open(&after).newest().unwrap().map(|m| m.checkpoint), Some(1), "seed {seed}");
        }
    }

    #[test]
    fn another_layout_is_refused_by_name() {
        let fs = SimFs::new();
        open(&fs).publish(&manifest(VERSION + 1)).unwrap();
        let message = open(&fs).newest().unwrap_err().to_string();
        let expected = "00000000000000000001.json: layout version 4, but this program knows 1 to 3";
        assert!(message.contains(expected), "{message}");
    }
}

//! The lookup tables of a pipeline: taken from the checkpoint or read at the start, and part of every checkpoint.

use arrow::compute::concat_batches;

use super::Result;
use crate::checkpoint::{Checkpoints, LookupState, PipelineState, StateFile};
use crate::operators::join::lookup::Lookup;

/// Lookup tables with the files that hold their rows.
#[derive(Debug, Default)]
pub struct Lookups(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    lookup: Lookup,
    /// The version of the rows in the files; zero for none.
    version: u64,
    files: Vec<StateFile>,
}

impl Lookups {
    /// Gives each table its rows: those of the checkpoint, else what its source has at `now`.
    pub fn load(
        lookups: Vec<Lookup>,
        restored: Option<&PipelineState>,
        checkpoints: Option<&Checkpoints>,
        now: i64,
    ) -> Result<Self> {
        let mut all = Vec::with_capacity(lookups.len());
        for (n, lookup) in lookups.into_iter().enumerate() {
            let saved = restored.and_then(|s| s.lookups.get(n));
            let mut kept = Kept { lookup, version: 0, files: Vec::new() };
            if let (Some(saved), Some(checkpoints)) = (saved, checkpoints) {
                kept.restore(saved, checkpoints)?;
            }
            if kept.version == 0 {
                kept.lookup.fetch(now)?;
            }
            all.push(kept);
        }
        Ok(Self(all))
    }

    /// What a checkpoint keeps of them; rows that a file holds already are not written again.
    pub fn snapshot(&mut self, checkpoints: &Checkpoints, pipeline: &str, n: u64) -> Result<Vec<LookupState>> {
        let mut states = Vec::with_capacity(self.0.len());
        for (i, kept) in self.0.iter_mut().enumerate() {
            let loaded = kept.lookup.loaded()?;
            if loaded.version != kept.version {
                let file =
                    checkpoints.write_state(format!("{n}-{pipeline}-lookup-{i}.arrow"), &[loaded.rows], i64::MAX)?;
                (kept.version, kept.files) = (loaded.version, file.into_iter().collect());
            }
            states.push(LookupState { loaded_at: loaded.at, files: kept.files.clone() });
        }
        Ok(states)
    }
}

impl Kept {
    fn restore(&mut self, saved: &LookupState, checkpoints: &Checkpoints) -> Result<()> {
        let mut batches = Vec::new();
        for file in &saved.files {
            batches.extend(checkpoints.read_state(file)?);
        }
        let Some(first) = batches.first() else { return Ok(()) };
        if self.lookup.restore(concat_batches(&first.schema(), &batches)?, saved.loaded_at) {
            (self.version, self.files) = (self.lookup.loaded()?.version, saved.files.clone());
        }
        Ok(())
    }
}

/// Reads anew what is older than it may be. Where that fails the old rows stay until the next barrier.
pub fn refresh(lookups: &[Lookup], now: i64) {
    for lookup in lookups.iter().filter(|l| l.is_stale(now)) {
        if let Err(e) = lookup.fetch(now) {
            tracing::warn!("lookup table {} keeps its rows, for it could not be loaded again: {e}", lookup.table);
        }
    }
}

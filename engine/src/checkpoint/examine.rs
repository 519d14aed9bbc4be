//! Looking at the checkpoints of a directory that may be damaged.

use std::path::{Path, PathBuf};

use super::{Checkpoints, Manifest, PipelineState, SET_ASIDE, text_of};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::log::keep_copy;

/// What is wrong with one file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointDamage {
    /// The checkpoint.
    pub checkpoint: u64,
    /// The file.
    pub file: PathBuf,
    /// The pipeline whose state it is; none for a manifest.
    pub pipeline: Option<String>,
    /// What is wrong.
    pub what: String,
}

/// What is known of the checkpoints of a directory.
#[derive(Debug, Clone, Default)]
pub struct CheckpointReport {
    /// Their numbers, oldest first.
    pub numbers: Vec<u64>,
    /// What is damaged.
    pub damage: Vec<CheckpointDamage>,
    /// The newest one that is whole, with those after it that are taken again from it.
    pub usable: Option<Manifest>,
    /// Where none is whole: pipelines whose state must be set aside, or has been, so that the rest can go on.
    pub set_aside: Vec<String>,
}

impl Checkpoints {
    /// Reads every manifest and every file of state. With `aside`, and when no checkpoint is whole: the newest manifest
    /// that can be read is written anew without the state of the pipelines whose files are damaged, and a copy of what it
    /// was is kept there. Those pipelines must be rebuilt; everything else goes on.
    pub(crate) fn examine(&self, aside: Option<&Path>) -> Result<CheckpointReport> {
        let mut report = CheckpointReport { numbers: self.numbers()?, ..CheckpointReport::default() };
        let mut readable = None;
        for checkpoint in report.numbers.clone() {
            match self.manifest(checkpoint) {
                Ok(manifest) => {
                    for (pipeline, state) in manifest.files_by_pipeline() {
                        let Err(e) = self.verify(state) else { continue };
                        let (file, pipeline) = (self.state.join(&state.name), Some(pipeline.to_string()));
                        report.damage.push(CheckpointDamage { checkpoint, file, pipeline, what: e.to_string() });
                    }
                    readable = Some(manifest);
                }
                Err(e) => {
                    let (file, what) = (self.path(checkpoint), e.to_string());
                    report.damage.push(CheckpointDamage { checkpoint, file, pipeline: None, what });
                }
            }
        }
        report.usable = match self.newest() {
            Ok(newest) => newest,
            Err(Error::Corrupt(_)) => None,
            Err(e) => return Err(e),
        };
        if let (None, Some(manifest)) = (&report.usable, readable) {
            self.set_aside(manifest, aside, &mut report)?;
        }
        Ok(report)
    }

    fn set_aside(&self, mut manifest: Manifest, aside: Option<&Path>, report: &mut CheckpointReport) -> Result<()> {
        for (name, state) in &mut manifest.pipelines {
            let own = |d: &CheckpointDamage| d.checkpoint == manifest.checkpoint && d.pipeline.as_ref() == Some(name);
            if !report.damage.iter().any(own) {
                continue;
            }
            report.set_aside.push(name.clone());
            // What its sinks have prepared is whole, and is committed as ever.
            let PipelineState { sink, late, rejected, rows_late, .. } = std::mem::take(state);
            let plan = SET_ASIDE.to_string();
            *state = PipelineState { plan, sink, late, rejected, rows_late, ..PipelineState::default() };
        }
        if let Some(aside) = aside {
            let file = self.path(manifest.checkpoint);
            keep_copy(self.fs.as_ref(), &file, aside)?;
            let text = text_of(&manifest)?;
            write_atomic(self.fs.as_ref(), &file, text.as_bytes()).map_err(|e| Error::file(&file, "write", e))?;
            report.usable = self.newest()?;
        }
        Ok(())
    }
}

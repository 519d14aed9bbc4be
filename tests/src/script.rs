//! Scripts: small readable files of SQL, timed rows in, rows out (`tests/pipelines/README.md` shows the form), run
//! through the real engine in every way that must not matter.
//!
//! ```text
//! text ──read──> Script ──play (batches, workers, crashes)──> rows of every table ──compare──> problems
//!                   └────── oracle: the same SQL as a DataFusion batch ────────────────┘
//! ```

pub mod cells;
pub mod compare;
pub mod oracle;
pub mod play;
pub mod read;
pub mod rewrite;

use std::collections::BTreeMap;
use std::path::Path;

use compare::{Answer, difference};
use play::{Outcome, Run, Stage};
use read::Script;

/// What is wrong with a script, as people read it; empty if nothing is.
pub type Problems = Vec<String>;

/// Reads and plays one script in every way. With `complete` the rows and texts that it expects are first rewritten to what
/// the first run gives.
pub fn check_file(path: &Path, complete: bool) -> Problems {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let script = match Script::read(&name, &text) {
        Ok(script) => script,
        Err(problem) => return vec![problem],
    };
    if !complete {
        return check(&script);
    }
    match rewrite::completed(&script, &text) {
        Err(problem) => vec![problem],
        Ok(new) => {
            if new != text {
                std::fs::write(path, &new).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
            Script::read(&name, &new).map_or_else(|problem| vec![problem], |script| check(&script))
        }
    }
}

/// Plays a script in every way; stops at the first way that goes wrong.
pub fn check(script: &Script) -> Problems {
    let explained = script.explain.as_ref().map(|wanted| compare::explain(script, wanted)).unwrap_or_default();
    if !explained.is_empty() {
        return explained;
    }
    if let Some(refusal) = &script.refusal {
        return compare::refusal(script, refusal);
    }
    let (runs, stage) = (Run::all(script), Stage::default());
    let mut baseline: Option<BTreeMap<String, Answer>> = None;
    for run in &runs {
        let problems = match (play::play(script, run, &stage), &baseline) {
            (Err(problem), _) => vec![problem],
            (Ok(Outcome::Failed(e)), _) => vec![format!("the pipelines stopped: {e}")],
            (Ok(Outcome::Rows(answers)), None) => {
                let problems = compare::with_script(script, &answers);
                baseline = Some(answers);
                problems
            }
            (Ok(Outcome::Rows(answers)), Some(first)) => difference(first, "one row a batch", &answers, "this run"),
        };
        if !problems.is_empty() {
            return problems.into_iter().map(|p| format!("{}, {run}: {p}", script.name)).collect();
        }
    }
    let Some(answers) = baseline else { return vec![format!("{}: it was never run", script.name)] };
    match oracle::batch(script) {
        Err(problem) => vec![format!("{}, as a batch: {problem}", script.name)],
        Ok(batch) => {
            let same = |(table, own): (&String, &Answer)| {
                let Some(streamed) = answers.get(table) else { return vec![format!("no table '{table}' was written")] };
                own.differs_by_position(streamed, table)
            };
            let problems = batch.iter().flat_map(same);
            problems.map(|p| format!("{}, as a batch: {p}", script.name)).collect()
        }
    }
}

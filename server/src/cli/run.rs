//! `millstream run`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use millstream::engine::{self, RunOptions, RunSummary, STATE_BYTES_MAX};
use millstream::{Error, Result};

use super::progress::Progress;
use super::{clock, interrupted, read_sql};
use crate::duration;

/// Arguments of `millstream run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream run sessions.sql
  millstream run -p 4 --state-dir state --checkpoint-interval 100ms sessions.sql

With --state-dir a second run goes on where the first one stopped; output that was not committed is removed first.")]
pub struct RunArgs {
    /// Tables with connector = 'single_file' (or any other but ingest), and INSERT INTO
    #[arg(value_name = "FILE.sql")]
    file: PathBuf,
    /// Worker threads of each pipeline
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    parallelism: u16,
    /// Where checkpoints go [default: none, nothing can be restored]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The time between checkpoints
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    checkpoint_interval: Duration,
    /// Memory of windows, joins and other state; from half of it on windows go to disk
    #[arg(long, value_name = "BYTES", default_value_t = STATE_BYTES_MAX)]
    state_bytes_max: usize,
}

/// The engine calls a plain function, so the bar is found here.
static BAR: OnceLock<Progress> = OnceLock::new();

/// Runs the file; a signal stops it after a last checkpoint.
pub async fn run(args: RunArgs) -> Result<()> {
    let sql = read_sql(&args.file)?;
    let stop = Arc::new(AtomicBool::new(false));
    let bar = BAR.get_or_init(Progress::rows);
    let options = RunOptions {
        workers: usize::from(args.parallelism),
        state_dir: args.state_dir,
        checkpoint_interval: args.checkpoint_interval,
        state_bytes_max: args.state_bytes_max,
        clock: clock(),
        progress: Some(|rows| {
            if let Some(bar) = BAR.get() {
                bar.set(rows, "");
            }
        }),
        stop: stop.clone(),
        ..RunOptions::default()
    };
    let signal = tokio::spawn(async move {
        let ended = interrupted().await;
        stop.store(true, Ordering::SeqCst);
        ended
    });
    let file = args.file.display().to_string();
    let summary = tokio::task::spawn_blocking(move || engine::run_file(&sql, &file, &options)).await;
    signal.abort();
    bar.finish();
    let summary = summary.map_err(|e| Error::Bug(format!("the run ended early: {e}")))??;
    crate::tell!("{}", show(&summary, bar.elapsed()));
    Ok(())
}

fn show(summary: &RunSummary, took: Duration) -> String {
    let RunSummary { rows_in, rows_out, rows_late, rows_rejected } = summary;
    let seconds = took.as_secs_f64();
    format!("{rows_in} rows in, {rows_out} out, {rows_late} late, {rows_rejected} rejected in {seconds:.1} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_accounted_for() {
        let summary = RunSummary { rows_in: 10, rows_out: 3, rows_late: 2, rows_rejected: 1 };
        assert_eq!(show(&summary, Duration::from_millis(1_250)), "10 rows in, 3 out, 2 late, 1 rejected in 1.2 s");
    }
}

//! The command line. Answers go to stdout, everything else to stderr; exit status 0 is success, 1 an error, 2 wrong usage.

pub mod check;
pub mod demo;
pub mod explain;
pub mod generate;
pub mod ingest;
pub mod keys;
mod lazily;
pub mod progress;
pub mod rebuild;
pub mod repair;
pub mod report;
pub mod rollup;
pub mod run;
pub mod serve;
pub mod shell;
pub mod sql;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use millstream::time::{Clock, SystemClock};
use millstream::{Error, Result};
use tracing_subscriber::EnvFilter;

use self::lazily::Lazily;
use crate::config::Config;

/// An embedded stream-processing analytics engine: events in over gRPC, streaming SQL, Delta Lake tables, metrics, reports.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole story in one go: events in, tables, rollups, metrics over HTTP, a CSV and a PDF, all checked.
    Demo(Lazily<demo::DemoArgs>),
    /// Takes events, runs the pipelines and rollups, answers metrics and SQL, until it is stopped.
    Serve(Lazily<serve::ServeArgs>),
    /// Runs one SQL file until its bounded sources end, or for ever.
    Run(Lazily<run::RunArgs>),
    /// Plans SQL files and runs nothing; errors with file:line:column.
    Check(Lazily<check::CheckArgs>),
    /// Shows the operators of a SQL file, with watermarks, state and parallelism.
    Explain(Lazily<explain::ExplainArgs>),
    /// Answers one query, or opens a shell.
    Sql(Lazily<sql::SqlArgs>),
    /// Sends a file of rows (JSON lines, CSV or Parquet, also .gz) over gRPC.
    Ingest(Lazily<ingest::IngestArgs>),
    /// Sends a made-up platform of accounts, users and agents over gRPC, and tells the truth about it.
    Generate(Lazily<generate::GenerateArgs>),
    /// Runs, lists and backfills rollups.
    Rollup(Lazily<rollup::RollupArgs>),
    /// Computes a pipeline's table again from the raw table, after its SQL was changed.
    Rebuild(Lazily<rebuild::RebuildArgs>),
    /// Reads everything in a data directory, tells what is damaged, and saves what can be saved.
    Repair(Lazily<repair::RepairArgs>),
    /// Prints a report as PDF or CSV.
    Report(Lazily<report::ReportArgs>),
    /// Makes, lists and revokes API keys.
    Keys(Lazily<keys::KeysArgs>),
}

/// Which configuration and data.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The configuration [default: millstream.toml of the working directory, if there is one]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Log, checkpoints, keys and tables [default: data_dir of the configuration, else millstream-data]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// Reads the configuration.
    pub fn load(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(dir) = &self.data_dir {
            config.data_dir.clone_from(dir);
        }
        Ok(config)
    }

    /// As [`Place::load`], for commands that only read what a server wrote.
    pub fn load_existing(&self) -> Result<Config> {
        let config = self.load()?;
        if config.data_dir.is_dir() {
            return Ok(config);
        }
        let dir = config.data_dir.display();
        Err(Error::Config(format!(
            "there is no data directory {dir}; name one with --data-dir, or run `millstream serve`"
        )))
    }
}

/// The wall clock of every command: the one place where it is chosen.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Parses the arguments, runs the command, tells the error.
pub fn main() -> ExitCode {
    // Prints help, version and usage errors by itself, with status 0 or 2.
    let cli = Cli::parse();
    let quiet = !matches!(cli.command, Command::Serve(_));
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG")
        .unwrap_or_else(|_| EnvFilter::new(if quiet { "error" } else { "warn,millstream=info" }));
    // A log whose disk is full is no reason to end: the subscriber would complain of it with a panic.
    tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter).with_writer(std::io::stderr).init();
    // `run` has threads of its own; more would only cost time and memory at the start.
    let mut runtime = match cli.command {
        Command::Run(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&Error::Storage(format!("cannot start threads: {e}"))),
    };
    match runtime.block_on(dispatch(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Demo(Lazily(args)) => demo::run(args).await,
        Command::Serve(Lazily(args)) => serve::run(args).await,
        Command::Run(Lazily(args)) => run::run(args).await,
        Command::Check(Lazily(args)) => check::run(args).await,
        Command::Explain(Lazily(args)) => explain::run(&args),
        Command::Sql(Lazily(args)) => sql::run(args).await,
        Command::Ingest(Lazily(args)) => ingest::run(args).await,
        Command::Generate(Lazily(args)) => generate::run(args).await,
        Command::Rollup(Lazily(args)) => rollup::run(args).await,
        Command::Rebuild(Lazily(args)) => rebuild::run(args).await,
        Command::Repair(Lazily(args)) => repair::run(args).await,
        Command::Report(Lazily(args)) => report::run(args).await,
        Command::Keys(Lazily(args)) => keys::run(args),
    }
}

fn fail(error: &Error) -> ExitCode {
    crate::tell!("error: {error}");
    ExitCode::FAILURE
}

/// Writes a line to stderr. That nobody can read it, or that its disk is full, is no reason to end.
pub fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// As `eprintln!`, which panics where [`tell`] does not.
#[macro_export]
macro_rules! tell {
    ($($what:tt)*) => { $crate::cli::tell(format_args!($($what)*)) };
}

/// Writes an answer to stdout. A reader that has seen enough (`| head`) is no error.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Storage(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Reads a SQL file that was named on the command line.
pub fn read_sql(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Error::Config(format!("cannot read {}: {e}; name an existing SQL file", path.display())))
}

/// Ends at SIGINT or SIGTERM.
pub async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let wrong = |e: std::io::Error| Error::Storage(format!("cannot listen for signals: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(wrong)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(wrong)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

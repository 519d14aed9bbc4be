//! `millstream explain`.

use std::path::PathBuf;

use clap::Args;
use millstream::{Result, engine};

use super::{print, read_sql};

/// Arguments of `millstream explain`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  millstream explain sessions.sql")]
pub struct ExplainArgs {
    /// The file to plan; nothing is run
    #[arg(value_name = "FILE.sql")]
    file: PathBuf,
    /// Worker threads of each pipeline
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    parallelism: u16,
}

/// Prints the operators.
pub fn run(args: &ExplainArgs) -> Result<()> {
    let sql = read_sql(&args.file)?;
    let plan = engine::explain(&sql, &args.file.display().to_string(), usize::from(args.parallelism))?;
    print(format!("{}\n", plan.trim_end()).as_bytes())
}

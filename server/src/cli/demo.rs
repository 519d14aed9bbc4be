//! `millstream demo`: arguments only; the story is in [`crate::demo`].

use std::path::PathBuf;

use clap::Args;
use millstream::Result;

/// Arguments of `millstream demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream demo
  millstream demo --keep
  millstream demo --data DIR --out report

It starts a server in a temporary directory, on free ports, and needs nothing but a checkout to run in.
Exit status 1 if a total is not what it should be.")]
pub struct DemoArgs {
    /// A folder of real event files; without it, a seeded small platform and this clone's git history
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "millstream-demo")]
    pub out: PathBuf,
    /// The program `marketplace`, to be started beside the server with a catalogue and a made-up week of its users
    #[arg(long, value_name = "PROGRAM")]
    pub marketplace: Option<PathBuf>,
    /// Keep the server running at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> Result<()> {
    crate::demo::run(args).await
}

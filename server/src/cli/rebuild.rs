//! `millstream rebuild`.

use clap::Args;
use millstream::Result;

use super::{Place, clock, print};
use crate::serve::open_engine;

/// Arguments of `millstream rebuild`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  millstream rebuild agent_usage_1m

The server must be stopped. Readers see the old table until the new one takes its place in one commit; started again, the
server goes on at the exact place in the log up to which the table was computed.")]
pub struct RebuildArgs {
    #[command(flatten)]
    place: Place,
    /// The pipeline, which is the name of its table
    #[arg(value_name = "TABLE")]
    table: String,
}

/// Rebuilds one table.
pub async fn run(args: RebuildArgs) -> Result<()> {
    let engine = open_engine(&args.place.load_existing()?, clock()).await?;
    let rebuilt = engine.rebuild(&args.table).await?;
    engine.close().await?;
    print(
        format!(
            "{}: {} rows from {} rows of {} on {} days; checkpoint {}, going on at entry {} of the log\n",
            args.table,
            rebuilt.rows_out,
            rebuilt.rows_in,
            rebuilt.raw.join(", "),
            rebuilt.days,
            rebuilt.checkpoint,
            rebuilt.log_offset
        )
        .as_bytes(),
    )
}

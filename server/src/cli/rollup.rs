//! `millstream rollup`.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use millstream::batch::{ROLLUP_DAYS_AT_ONCE, ROLLUP_RUNS, Rollup};
use millstream::{Error, Result};

use super::progress::Progress;
use super::{Place, clock, print};
use crate::config::Config;
use crate::format::{self, Format};
use crate::range::{parse_day, show_day};
use crate::tables::Tables;
use crate::{catalog, schedule};

/// Arguments of `millstream rollup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream rollup list
  millstream rollup run agent_usage_daily
  millstream rollup run agent_usage_daily --day 2026-11-22
  millstream rollup backfill agent_usage_daily --from 2026-11-01 --to 2026-12-01

A run replaces exactly its day: running it twice changes nothing. --to is exclusive. Days are UTC.")]
pub struct RollupArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: RollupCommand,
}

#[derive(Debug, Subcommand)]
enum RollupCommand {
    /// Runs one rollup on one day, or on every day that is due
    Run {
        /// The file under sql/rollups
        name: String,
        /// The day [default: every full day whose input is newer than its rollup]
        #[arg(long, value_parser = parse_day)]
        day: Option<i32>,
    },
    /// Lists the rollups and their last runs
    List,
    /// Runs one rollup on each day of a range
    Backfill {
        /// The file under sql/rollups
        name: String,
        /// The first day
        #[arg(long, value_parser = parse_day)]
        from: i32,
        /// The day after the last
        #[arg(long, value_parser = parse_day)]
        to: i32,
    },
}

/// Runs one of the three.
pub async fn run(args: RollupArgs) -> Result<()> {
    let config = args.place.load_existing()?;
    match args.command {
        RollupCommand::List => list(&config).await,
        RollupCommand::Run { name, day } => {
            let rollup = schedule::rollup(catalog::find(&config.sql.rollups, "rollup", &name)?);
            let tables = Tables::open(&config, clock()).await?;
            let days = match day {
                Some(day) => BTreeSet::from([day]),
                None => {
                    let cron = schedule::parse_cron(&config.rollups.schedule)?;
                    let through = schedule::through_day(&cron, clock().now())?;
                    tables.rollup_days_due(&rollup, through).await?
                }
            };
            run_days(&tables, &rollup, days).await
        }
        RollupCommand::Backfill { name, from, to } => {
            if from >= to {
                return Err(Error::Config("--from is not before --to, which is exclusive; change one of them".into()));
            }
            let rollup = schedule::rollup(catalog::find(&config.sql.rollups, "rollup", &name)?);
            let tables = Tables::open(&config, clock()).await?;
            run_days(&tables, &rollup, (from..to).collect()).await
        }
    }
}

async fn run_days(tables: &Tables, rollup: &Rollup, days: BTreeSet<i32>) -> Result<()> {
    if days.is_empty() {
        crate::tell!("{}: no day is due", rollup.name);
    }
    let progress = Progress::steps(days.len() as u64);
    let days: Vec<i32> = days.into_iter().collect();
    let mut done = 0;
    for days in days.chunks(ROLLUP_DAYS_AT_ONCE) {
        for run in tables.rollup_days(rollup, days).await? {
            let run = run?;
            print(format!("{} {} {} rows\n", rollup.name, show_day(run.day), run.rows).as_bytes())?;
            done += 1;
            progress.set(done, show_day(run.day));
        }
    }
    Ok(())
}

async fn list(config: &Config) -> Result<()> {
    let mut text = String::new();
    for file in catalog::list(&config.sql.rollups)? {
        text.push_str(&format!("{:24} {}\n", file.name, file.title));
    }
    print(text.as_bytes())?;
    let tables = Tables::open(config, clock()).await?;
    if tables.lake().existing(ROLLUP_RUNS).await?.is_none() {
        return print(b"\nNo rollup has run yet.\n");
    }
    let runs = format!(
        "SELECT rollup, day_run AS day, started_at, finished_at, rows, error FROM {ROLLUP_RUNS} \
         ORDER BY started_at DESC LIMIT 20"
    );
    let result = tables.query(&runs, &BTreeMap::new(), &config.query_limits()).await?;
    let mut out = b"\nLast runs:\n".to_vec();
    format::write(Format::Table, &result.schema, &result.batches, &mut out)?;
    print(&out)
}

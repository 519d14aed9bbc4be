//! `millstream report`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millstream::time::EventTime;
use millstream::{Error, Result};

use super::{Place, clock, print};
use crate::range::{Range, parse_time};
use crate::report;
use crate::tables::Tables;

/// Arguments of `millstream report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream report weekly --format pdf
  millstream report weekly --format csv --from 2026-11-16 --to 2026-11-23 --out week

PDF is one file; CSV is a folder with one file per section. Times are UTC, --to is exclusive.")]
pub struct ReportArgs {
    /// The folder under sql/reports
    name: String,
    /// What to write
    #[arg(long, value_enum)]
    format: ReportFormat,
    /// The first moment, such as 2026-11-16 [default: seven days before --to]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<EventTime>,
    /// The end, exclusive [default: the start of today]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<EventTime>,
    /// The PDF's name, or the folder for CSV [default: the report's name and days]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Pdf,
    Csv,
}

/// Runs the report's queries and writes it; the names of the files go to stdout.
pub async fn run(args: ReportArgs) -> Result<()> {
    let config = args.place.load_existing()?;
    // Before the tables are opened: a misspelt name should not take long to see.
    report::sections(&config.sql.reports, &args.name)?;
    let now = clock().now();
    let range = Range::or_last_full_week(args.from, args.to, now).map_err(Error::Config)?;
    let tables = Tables::open(&config, clock()).await?;
    let answers = report::run(&tables, &config, &args.name, range, chrono_tz::UTC, now).await?;
    let paths =
        report::save(&answers, &config.reports.organisation, args.format == ReportFormat::Pdf, args.out.as_deref())?;
    print(paths.iter().map(|path| format!("{}\n", path.display())).collect::<String>().as_bytes())
}

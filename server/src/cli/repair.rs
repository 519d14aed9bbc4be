//! `millstream repair`.

use std::fmt::Write as _;

use clap::Args;
use millstream::engine::{ASIDE, RepairReport, repair};
use millstream::{Error, Result};

use super::{Place, clock, print};

/// Arguments of `millstream repair`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  millstream repair --data-dir /var/lib/millstream
  millstream repair --save

The server must be stopped. Every file of log, checkpoints and tables is read; nothing is changed without --save. With it,
damaged files are copied to the folder `damaged` of the data directory, and what is whole is kept:
  log          lost entries keep their numbers and hold nothing
  checkpoints  if none is whole, damaged state is set aside: `millstream rebuild TABLE` computes it again
  tables       damaged Parquet files are taken out, so that the rest can be read
Exit status 0: everything is whole, or was saved. 1: something is damaged.")]
pub struct RepairArgs {
    #[command(flatten)]
    place: Place,
    /// Save what can be saved; without it nothing is changed
    #[arg(long)]
    save: bool,
}

/// Reads everything, tells what is damaged, saves what can be saved.
pub async fn run(args: RepairArgs) -> Result<()> {
    let config = args.place.load_existing()?;
    let (dir, lake) = (&config.data_dir, &config.lake);
    let report = repair(dir, lake.url.as_deref(), &lake.options, clock(), args.save).await?;
    print(told(&report, args.save).as_bytes())?;
    let unreadable = report.tables.values().any(std::result::Result::is_err);
    match (report.is_whole(), args.save) {
        (true, _) => Ok(()),
        (false, true) if !unreadable => Ok(()),
        (false, true) => Err(Error::Corrupt("a table's log cannot be read; restore its folder from a copy".into())),
        (false, false) => {
            let aside = dir.join(ASIDE);
            let kept = format!("copies of what is damaged are kept in {}", aside.display());
            Err(Error::Corrupt(format!("something is damaged; `millstream repair --save` keeps the rest ({kept})")))
        }
    }
}

/// The report as people read it: one line a fact.
fn told(report: &RepairReport, saved: bool) -> String {
    let mut out = String::new();
    let RepairReport { log, checkpoints, tables } = report;
    let entries = log.entries.end - log.entries.start;
    let _ = writeln!(out, "log: {} segments, {entries} entries, {} damaged places", log.segments, log.damage.len());
    let covered = checkpoints.usable.as_ref().map_or(0, |m| m.log_offset);
    for damage in &log.damage {
        let (from, to) = (damage.entries.start, damage.entries.end);
        let lost = match to - from {
            0 => "no entry is lost".to_string(),
            _ if to <= covered => format!("entries {from} to {}, whose rows the tables have", to - 1),
            n => format!("entries {from} to {} ({n}) are lost", to - 1),
        };
        let _ = writeln!(out, "  {} byte {}: {}; {lost}", damage.file.display(), damage.byte, damage.what);
    }
    for lost in &log.lost {
        let (producer, epoch) = (&lost.producer, lost.epoch);
        let _ =
            writeln!(out, "  producer '{producer}' epoch {epoch}: sequences {} to {} are lost", lost.first, lost.last);
    }
    let _ = writeln!(out, "checkpoints: {}, {} damaged files", checkpoints.numbers.len(), checkpoints.damage.len());
    for damage in &checkpoints.damage {
        let whose = damage.pipeline.as_ref().map_or("its manifest".to_string(), |p| format!("the state of '{p}'"));
        let _ = writeln!(out, "  checkpoint {}: {whose}: {}", damage.checkpoint, damage.what);
    }
    match &checkpoints.usable {
        _ if checkpoints.damage.is_empty() => {}
        Some(m) if !checkpoints.set_aside.is_empty() => {
            let names = checkpoints.set_aside.join(", ");
            let _ = writeln!(out, "  checkpoint {} goes on without the state of {names}: rebuild them", m.checkpoint);
        }
        Some(m) => {
            let _ = writeln!(
                out,
                "  the server goes on from checkpoint {}, at entry {} of the log",
                m.checkpoint, m.log_offset
            );
        }
        None if saved => out.push_str("  none is whole, and none can be saved: restore the folder from a copy\n"),
        None => {
            let names = checkpoints.set_aside.join(", ");
            let _ = writeln!(out, "  none is whole: with --save, {names} must be rebuilt, and the rest goes on");
        }
    }
    for (name, table) in tables {
        match table {
            Err(why) => {
                let _ = writeln!(out, "table {name}: its log cannot be read: {why}");
            }
            Ok(table) => {
                let _ = writeln!(out, "table {name}: {} files, {} damaged", table.files, table.damage.len());
                for d in &table.damage {
                    let _ = writeln!(out, "  {} ({} rows of {}): {}", d.path, d.rows, d.day, d.what);
                }
            }
        }
    }
    out
}

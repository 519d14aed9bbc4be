//! Rollups by the clock: every night, after a restart what was missed, and again each day whose input changed.
//!
//! The state is the tables and `system.rollup_runs`, not this module: which days are due follows from the input's
//! versions, so a crash between two days loses nothing, and there is nothing to catch up "from". One rollup runs
//! at a time, on many days. The day in progress is rolled up at each recheck, so that what is read from rollups includes today; the
//! cron time makes sure that a closed day is done by then.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use millstream::batch::{ROLLUP_DAYS_AT_ONCE, Rollup};
use millstream::time::{Clock, EventTime, day_of};
use millstream::{Engine, Error, Result};
use tokio::sync::watch;

use crate::range::show_day;
use crate::tables::Tables;
use crate::{adapt, catalog};

/// Reads five cron fields.
pub fn parse_cron(text: &str) -> Result<Cron> {
    Cron::from_str(text).map_err(|e| {
        Error::Config(format!("`{text}` is not a schedule ({e}); write five cron fields in UTC, such as 15 0 * * *"))
    })
}

/// The rollups of a folder, each after those whose tables it reads.
pub fn rollups(dir: &std::path::Path) -> Result<Vec<Rollup>> {
    Ok(files(dir)?.into_iter().map(rollup).collect())
}

/// The files of rollups in the order in which they can run: by name, but after what they read.
pub fn files(dir: &std::path::Path) -> Result<Vec<catalog::SqlFile>> {
    let mut files = catalog::list(dir)?;
    let mut ordered = Vec::with_capacity(files.len());
    while !files.is_empty() {
        let free = |file: &catalog::SqlFile| !files.iter().any(|f| f.name != file.name && file.mentions(&f.name));
        let next = files.iter().position(free).unwrap_or(0);
        ordered.push(files.remove(next));
    }
    Ok(ordered)
}

/// Makes the tables of rollups that never ran, by running them on `day`: a report must not fail because no night has come.
pub async fn make_missing(tables: &Tables, dir: &std::path::Path, day: i32) -> Result<()> {
    for rollup in rollups(dir)? {
        if tables.lake().existing(&rollup.name).await?.is_none() {
            tables.rollup(&rollup, day).await?;
        }
    }
    Ok(())
}

/// Runs the rollups that the queries read, directly or through others, on every day up to `through_day` that is due.
///
/// Errors: the first day that fails, since an answer without it would be wrong.
pub async fn make_current(tables: &Tables, dir: &std::path::Path, queries: &[&str], through_day: i32) -> Result<()> {
    let rollups = rollups(dir)?;
    let mut reads = BTreeSet::new();
    for query in queries {
        reads.extend(tables.tables_read(query)?);
    }
    // From the last to the first: a rollup's inputs come before it.
    for rollup in rollups.iter().rev() {
        if reads.contains(&rollup.name) {
            reads.extend(tables.tables_read(&rollup.sql)?);
        }
    }
    for rollup in rollups.iter().filter(|rollup| reads.contains(&rollup.name)) {
        let days: Vec<i32> = tables.rollup_days_due(rollup, through_day).await?.into_iter().collect();
        for days in days.chunks(ROLLUP_DAYS_AT_ONCE) {
            for run in tables.rollup_days(rollup, days).await? {
                run?;
            }
        }
    }
    make_missing(tables, dir, through_day).await
}

/// What the engine needs of a file in sql/rollups.
pub fn rollup(file: catalog::SqlFile) -> Rollup {
    Rollup { name: file.name, sql: file.sql, file: file.path.display().to_string() }
}

/// What ran in one go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Days rolled up, all rollups together.
    pub days: usize,
    /// Days that failed; they are tried again at the next go.
    pub failed: usize,
}

/// Runs rollups when they are due.
#[derive(Debug)]
pub struct Schedule {
    /// Where the tables are.
    pub engine: Arc<Engine>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The folder of rollups, read anew at each go.
    pub dir: PathBuf,
    /// When a day is complete enough to be rolled up.
    pub cron: Cron,
    /// How often days that changed are looked for.
    pub recheck_interval: Duration,
}

impl Schedule {
    /// Runs until `stop` becomes true; a rollup in progress is finished first.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.go(&stop).await;
            if let Err(error) = adapt::maintain(&self.engine).await {
                tracing::warn!(%error, "lake maintenance");
            }
            tokio::select! {
                () = tokio::time::sleep(self.wait()) => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Runs every rollup on every day that is due, one rollup at a time, oldest day first.
    pub async fn go(&self, stop: &watch::Receiver<bool>) -> Done {
        let mut done = Done::default();
        // A schedule that never comes is an error before anything runs.
        let through_day = match through_day(&self.cron, self.clock.now()).map(|_| day_of(self.clock.now())) {
            Ok(day) => day,
            Err(error) => {
                tracing::error!(%error, "the schedule of rollups");
                return done;
            }
        };
        let rollups = rollups(&self.dir).unwrap_or_else(|error| {
            tracing::error!(%error, "the folder of rollups");
            Vec::new()
        });
        let tables = Tables::Running(self.engine.clone());
        for rollup in &rollups {
            let days = match tables.rollup_days_due(rollup, through_day).await {
                Ok(days) => days,
                Err(error) => {
                    tracing::error!(rollup = rollup.name, %error, "which days of a rollup are due");
                    done.failed += 1;
                    continue;
                }
            };
            let days: Vec<i32> = days.into_iter().collect();
            for days in days.chunks(ROLLUP_DAYS_AT_ONCE) {
                if *stop.borrow() {
                    return done;
                }
                run_days(&tables, rollup, days, &mut done).await;
            }
        }
        if let Err(error) = make_missing(&tables, &self.dir, through_day).await {
            done.failed += 1;
            tracing::error!(%error, "making the tables of rollups");
        }
        done
    }

    /// To the next cron time or recheck, whichever is first.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let to_cron = utc(now)
            .and_then(|t| self.cron.find_next_occurrence(&t, false).ok())
            .and_then(|t| t.timestamp_nanos_opt())
            .map(|t| Duration::from_nanos(t.saturating_sub(now).unsigned_abs()));
        to_cron.map_or(self.recheck_interval, |wait| wait.min(self.recheck_interval))
    }
}

async fn run_days(tables: &Tables, rollup: &Rollup, days: &[i32], done: &mut Done) {
    let runs = match tables.rollup_days(rollup, days).await {
        Ok(runs) => runs,
        Err(error) => {
            done.failed += days.len();
            tracing::error!(rollup = rollup.name, %error, "rollup failed; it will be tried again");
            return;
        }
    };
    for (day, run) in days.iter().zip(runs) {
        let day = show_day(*day);
        match run {
            Ok(run) => {
                done.days += 1;
                tracing::info!(rollup = rollup.name, day, rows = run.rows, "rolled up");
            }
            Err(error) => {
                done.failed += 1;
                tracing::error!(rollup = rollup.name, day, %error, "rollup failed; it will be tried again");
            }
        }
    }
}

/// The last day that is to be rolled up at `now`: the day before the newest cron time that has passed.
pub fn through_day(cron: &Cron, now: EventTime) -> Result<i32> {
    let wrong = || Error::Config("the schedule of rollups never comes; change rollups.schedule".to_string());
    let fired = cron.find_previous_occurrence(&utc(now).ok_or_else(wrong)?, true).map_err(|_| wrong())?;
    Ok(day_of(fired.timestamp_nanos_opt().ok_or_else(wrong)?) - 1)
}

fn utc(time: EventTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.div_euclid(1_000_000_000), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::parse_time;

    #[test]
    fn a_day_is_due_after_the_cron_time_that_follows_it() {
        let cron = parse_cron("15 0 * * *").unwrap();
        let through = |t: &str| show_day(through_day(&cron, parse_time(t).unwrap()).unwrap());
        assert_eq!(through("2026-11-23T00:14:59Z"), "2026-11-21", "the 22nd is not due yet");
        assert_eq!(through("2026-11-23T00:15:00Z"), "2026-11-22");
        assert_eq!(through("2026-11-23T23:59:59Z"), "2026-11-22");
        assert_eq!(through("2026-01-01T06:00:00Z"), "2025-12-31", "a restart in the morning catches up");
    }

    #[test]
    fn a_bad_schedule_is_named() {
        let error = parse_cron("every night").unwrap_err().to_string();
        assert!(error.contains("`every night` is not a schedule") && error.contains("15 0 * * *"), "{error}");
    }
}

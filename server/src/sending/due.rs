//! Which reports are due: cron times in a zone. A time that a day does not have (clocks go forward) counts as the first one
//! after it; one that comes twice counts once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use millstream::time::{Clock, DAY, EventTime, SECOND};
use millstream::{Engine, Error, Result};
use serde::Deserialize;
use tokio::sync::watch;

use super::kept;
use super::run::{Order, Trigger, make, range_of};
use crate::config::Config;
use crate::report;
use crate::schedule::parse_cron;
use crate::tables::Tables;

/// What was due earlier than this is not made any more.
const CATCH_UP: EventTime = DAY;
/// Between two looks, whatever the clock says meanwhile.
const LOOK: Duration = Duration::from_secs(30);
const TRIES_MAX: u32 = 6;
const RETRY: EventTime = 60 * SECOND;

/// What a scheduled report is about: the last full one before it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Covers {
    /// The day before.
    Day,
    /// The seven days before.
    Week,
    /// The calendar month before.
    Month,
}

/// `[[reports.schedule]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// The report.
    pub report: String,
    /// Five cron fields.
    pub cron: String,
    /// The zone of the cron times and of the report's days; UTC if absent.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// What it is about; a week if absent, a month for a report whose name begins with `monthly`.
    #[serde(default)]
    pub covers: Option<Covers>,
    /// Mail addresses; without one the report is only kept.
    #[serde(default)]
    pub to: Vec<String>,
}

impl Scheduled {
    /// What is wrong with it.
    pub fn check(&self, reports: &Path) -> Result<(), String> {
        self.zone()?;
        parse_cron(&self.cron).map_err(|e| e.to_string())?;
        report::sections(reports, &self.report).map(drop).map_err(|e| e.to_string())
    }

    /// Its zone.
    pub fn zone(&self) -> Result<Tz, String> {
        let name = self.time_zone.as_deref().unwrap_or("UTC");
        name.parse()
            .map_err(|_| format!("time_zone `{name}` is no time zone; write an IANA name such as Europe/Berlin"))
    }

    /// What it is about.
    pub fn covers(&self) -> Covers {
        let monthly = if self.report.starts_with("monthly") { Covers::Month } else { Covers::Week };
        self.covers.unwrap_or(monthly)
    }

    /// The last time up to `now` at which it was due.
    pub fn due(&self, now: EventTime) -> Option<EventTime> {
        let (cron, zone) = (self.parsed()?, self.zone().ok()?);
        let local = DateTime::from_timestamp(now.div_euclid(SECOND), 0)?.with_timezone(&zone);
        cron.find_previous_occurrence(&local, true).ok()?.timestamp_nanos_opt()
    }

    /// The next time after `now`.
    pub fn next(&self, now: EventTime) -> Option<EventTime> {
        let (cron, zone) = (self.parsed()?, self.zone().ok()?);
        let local = DateTime::from_timestamp(now.div_euclid(SECOND), 0)?.with_timezone(&zone);
        cron.find_next_occurrence(&local, false).ok()?.timestamp_nanos_opt()
    }

    fn parsed(&self) -> Option<Cron> {
        parse_cron(&self.cron).ok()
    }

    /// What is to be made for a due time.
    fn order(&self, due: EventTime) -> Result<Order> {
        let zone = self.zone().map_err(Error::Config)?;
        let range = range_of(self.covers(), zone, due)?;
        Ok(Order { report: self.report.clone(), trigger: Trigger::Due(due), range, zone, to: self.to.clone() })
    }
}

/// Makes what is due.
#[derive(Debug)]
pub struct Sending {
    /// Where the tables are.
    pub engine: Arc<Engine>,
    /// The schedules and the mail server.
    pub config: Config,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Sending {
    /// Runs until `stop` becomes true; a run in progress is finished first.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        if self.config.reports.schedule.is_empty() {
            return;
        }
        while !*stop.borrow() {
            self.go().await;
            tokio::select! {
                () = tokio::time::sleep(self.wait()) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Makes what is due now and was not made, or not wholly; how many runs that were.
    pub async fn go(&self) -> usize {
        let mut runs = 0;
        for scheduled in &self.config.reports.schedule {
            match self.one(scheduled).await {
                Ok(ran) => runs += usize::from(ran),
                Err(error) => tracing::error!(report = scheduled.report, %error, "a scheduled report"),
            }
        }
        runs
    }

    async fn one(&self, scheduled: &Scheduled) -> Result<bool> {
        let now = self.clock.now();
        let Some(due) = scheduled.due(now).filter(|due| now.saturating_sub(*due) <= CATCH_UP) else { return Ok(false) };
        let order = scheduled.order(due)?;
        let tables = Tables::Running(self.engine.clone());
        let before = kept::find(tables.lake(), &order.report, &order.run(now)).await?;
        if let Some(kept) = &before {
            let again = kept.tried_at.saturating_add(RETRY << kept.tries.min(10));
            if kept.settled() || kept.tries >= TRIES_MAX || now < again {
                return Ok(false);
            }
        }
        make(&tables, &self.config, now, &order, before).await.map(|_| true)
    }

    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let next = self.config.reports.schedule.iter().filter_map(|s| s.next(now)).min();
        next.map_or(LOOK, |next| Duration::from_nanos(next.saturating_sub(now).unsigned_abs())).min(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::parse_time;
    use millstream::time::show;

    fn scheduled(cron: &str, zone: &str, report: &str) -> Scheduled {
        Scheduled {
            report: report.into(),
            cron: cron.into(),
            time_zone: Some(zone.into()),
            covers: None,
            to: Vec::new(),
        }
    }

    #[test]
    fn cron_times_are_local_also_on_days_when_clocks_change() {
        let at = |cron: &str, now: &str| {
            let due = scheduled(cron, "Europe/Berlin", "weekly").due(parse_time(now).unwrap()).unwrap();
            show(due).replace(":00.000Z", "Z")
        };
        assert_eq!(at("0 7 * * 1", "2026-07-06T05:00:00Z"), "2026-07-06T05:00Z", "seven in summer is five in UTC");
        assert_eq!(at("0 7 * * 1", "2026-12-07T06:30:00Z"), "2026-12-07T06:00Z");
        // 02:30 does not exist on 29 March; it runs at 03:00.
        assert_eq!(at("30 2 * * *", "2026-03-29T12:00:00Z"), "2026-03-29T01:00Z");
        // 02:30 comes twice on 25 October; it runs once.
        let night = scheduled("30 2 * * *", "Europe/Berlin", "weekly");
        let mut now = parse_time("2026-10-24T12:00:00Z").unwrap();
        let end = parse_time("2026-10-25T12:00:00Z").unwrap();
        let mut times = std::collections::BTreeSet::new();
        while now < end {
            times.extend(night.next(now).filter(|next| *next < end));
            now += 600 * SECOND;
        }
        assert_eq!(times.len(), 1, "{times:?}");
    }

    #[test]
    fn a_report_is_about_the_last_full_week_or_month() {
        let order = |s: &Scheduled, due: &str| {
            let range = s.order(parse_time(due).unwrap()).unwrap().range;
            (show(range.from).replace(":00.000Z", "Z"), show(range.to).replace(":00.000Z", "Z"))
        };
        let monday = scheduled("0 7 * * 1", "Europe/Berlin", "weekly");
        assert_eq!(order(&monday, "2026-03-30T05:00:00Z"), ("2026-03-22T23:00Z".into(), "2026-03-29T22:00Z".into()));
        let first = scheduled("0 7 1 * *", "UTC", "monthly_business");
        assert_eq!(order(&first, "2026-03-01T07:00:00Z"), ("2026-02-01T00:00Z".into(), "2026-03-01T00:00Z".into()));
    }

    #[test]
    fn a_wrong_schedule_is_named() {
        let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/reports");
        let error = |s: Scheduled| s.check(&reports).unwrap_err();
        assert!(error(scheduled("daily", "UTC", "weekly")).contains("`daily` is not a schedule"));
        assert!(error(scheduled("0 7 * * 1", "Berlin", "weekly")).contains("write an IANA name"));
        assert!(error(scheduled("0 7 * * 1", "UTC", "wekly")).contains("no report `wekly`"));
    }
}

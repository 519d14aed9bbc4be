//! One run: the report is made, kept and sent; what fails is noted and can be tried again.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;
use millstream::time::{EventTime, show};
use millstream::{Error, Result};
use millstream_report::chart::change_size;
use sha2::{Digest, Sha256};

use super::due::Covers;
use super::kept::{self, Kept, KeptFile, Recipient};
use super::mail::Letter;
use crate::config::Config;
use crate::range::{Range, first_moment};
use crate::report::{self, Answers};
use crate::tables::Tables;

/// Why a report is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// It was due at this time.
    Due(EventTime),
    /// Somebody asked for it.
    ByHand(String),
}

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Order {
    /// The report.
    pub report: String,
    /// Why.
    pub trigger: Trigger,
    /// What it is about.
    pub range: Range,
    /// The zone of its days.
    pub zone: Tz,
    /// Whom to send it to; it is kept in any case.
    pub to: Vec<String>,
}

/// The day, week or month that ended last before `due`, in the zone.
pub fn range_of(covers: Covers, zone: Tz, due: EventTime) -> Result<Range> {
    let today = DateTime::from_timestamp_nanos(due).with_timezone(&zone).date_naive();
    let (first, last) = match covers {
        Covers::Day => (today - Days::new(1), today),
        Covers::Week => (today - Days::new(7), today),
        Covers::Month => {
            let last = today.with_day(1).unwrap_or(today);
            (last.checked_sub_months(Months::new(1)).unwrap_or(last), last)
        }
    };
    let moment = |day: NaiveDate| {
        first_moment(day, zone).ok_or_else(|| Error::Config(format!("the day {day} is outside the years 1678 to 2261")))
    };
    Ok(Range { from: moment(first)?, to: moment(last)? })
}

impl Order {
    /// The run's name: when, and a mark that tells apart what is due at the same time.
    pub fn run(&self, now: EventTime) -> String {
        let (at, who) = match &self.trigger {
            Trigger::Due(due) => (*due, "schedule"),
            Trigger::ByHand(who) => (now, who.as_str()),
        };
        let mut hash = Sha256::new();
        hash.update(format!("{who}\0{}\0{:?}", self.zone.name(), self.to));
        let mark: String = hash.finalize().iter().take(3).map(|byte| format!("{byte:02x}")).collect();
        let at = DateTime::from_timestamp_nanos(at).format("%Y-%m-%dT%H%M%S%.3f").to_string().replace(".000", "");
        format!("{at}Z-{mark}")
    }
}

/// Makes, keeps and sends; or goes on with `before`, where an earlier try ended.
///
/// *Errors*: `Storage` if the note itself cannot be kept; all else is in the note.
pub async fn make(
    tables: &Tables,
    config: &Config,
    now: EventTime,
    order: &Order,
    before: Option<Kept>,
) -> Result<Kept> {
    let lake = tables.lake();
    let mut kept = before.unwrap_or_else(|| first(order, now));
    kept.tries += 1;
    kept.tried_at = now;
    let made = report::run(tables, config, &order.report, order.range, order.zone, now).await;
    let files = match made.and_then(|answers| files(&answers, config).map(|files| (answers, files))) {
        Err(error) => {
            tracing::error!(report = order.report, %error, "a report could not be made");
            kept.error = Some(error.to_string());
            kept::note(lake, &kept).await?;
            return Ok(kept);
        }
        Ok((answers, files)) => {
            kept.error = None;
            kept.generated_at = show(now);
            kept.complete_through = answers.complete_through.map(show);
            kept.files =
                files.iter().map(|(name, _, b)| KeptFile { name: name.clone(), bytes: b.len() as u64 }).collect();
            for (name, _, bytes) in &files {
                kept::write(lake, &kept.report, &kept.run, name, bytes.clone()).await?;
            }
            // What is kept is told before the first mail leaves.
            kept::note(lake, &kept).await?;
            (text(&answers, config)?, files)
        }
    };
    send(config, now, &mut kept, files).await;
    kept::note(lake, &kept).await?;
    Ok(kept)
}

fn first(order: &Order, now: EventTime) -> Kept {
    Kept {
        report: order.report.clone(),
        run: order.run(now),
        trigger: match &order.trigger {
            Trigger::Due(_) => "schedule".into(),
            Trigger::ByHand(who) => who.clone(),
        },
        from: show(order.range.from),
        to: show(order.range.to),
        time_zone: order.zone.name().to_string(),
        generated_at: show(now),
        recipients: order.to.iter().map(|a| Recipient { address: a.clone(), ..Recipient::default() }).collect(),
        ..Kept::default()
    }
}

async fn send(config: &Config, now: EventTime, kept: &mut Kept, (text, files): (String, Files)) {
    let subject = format!("{} report, {}", crate::label::capitalised(&kept.report.replace('_', " ")), words(kept));
    let (report, run) = (kept.report.clone(), kept.run.clone());
    for recipient in kept.recipients.iter_mut().filter(|r| r.sent_at.is_none()) {
        let mut hash = Sha256::new();
        hash.update(format!("{report}\0{run}\0{}", recipient.address));
        let id: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let letter = Letter { to: &recipient.address, subject: &subject, text: &text, files: &files, id: &id };
        let sent = match &config.smtp {
            Some(smtp) => smtp.send(&letter).await,
            None => Err(Error::Config("no mail server; set smtp.url and smtp.from in millstream.toml".into())),
        };
        match sent {
            Ok(()) => {
                tracing::info!(report, run, to = recipient.address, "report sent");
                (recipient.sent_at, recipient.error) = (Some(show(now)), None);
            }
            Err(error) => {
                tracing::warn!(report, run, to = recipient.address, %error, "report not sent");
                recipient.error = Some(error.to_string());
            }
        }
    }
}

/// The days of the run, with.
fn words(kept: &Kept) -> String {
    let zone: Tz = kept.time_zone.parse().unwrap_or(chrono_tz::UTC);
    let day = |text: &str, less: i64| {
        let time =
            DateTime::parse_from_rfc3339(text).map(|t| t.with_timezone(&zone) - chrono::TimeDelta::milliseconds(less));
        time.map_or_else(|_| text.to_string(), |t| t.format("%Y-%m-%d").to_string())
    };
    let (first, last) = (day(&kept.from, 0), day(&kept.to, 1));
    if first == last { first } else { format!("{first} to {last}") }
}

/// Name, media type, bytes.
type Files = Vec<(String, &'static str, Vec<u8>)>;

/// The PDF, and a CSV per section for spreadsheets.
fn files(answers: &Answers, config: &Config) -> Result<Files> {
    let mut files =
        vec![(format!("{}.pdf", answers.file_name()), "application/pdf", answers.pdf(&config.reports.organisation)?)];
    for (name, text) in answers.spreadsheets()? {
        files.push((name, "text/csv; charset=utf-8", text));
    }
    Ok(files)
}

/// The mail's text: the headline figures, and how far the data is complete.
fn text(answers: &Answers, config: &Config) -> Result<String> {
    let document = answers.document(&config.reports.organisation)?;
    let mut lines =
        vec![document.title.clone(), format!("{} ({})", document.period, document.time_zone), String::new()];
    for kpi in &document.kpis {
        let change = kpi.change.map_or_else(String::new, |change| {
            let direction = if change < 0.0 { "down" } else { "up" };
            format!(" ({direction} {} against the period before)", change_size(change))
        });
        lines.push(format!("{}: {}{change}", kpi.label, kpi.text().unwrap_or_else(|| "no data".to_string())));
    }
    lines.push(String::new());
    lines.push(match document.data_complete_through {
        Some(time) => format!("Data complete through {} UTC.", time.format("%Y-%m-%d %H:%M")),
        None => "How far the data is complete is not known.".to_string(),
    });
    lines.push("The report is attached as PDF, its tables as CSV.".into());
    Ok(lines.join("\r\n"))
}

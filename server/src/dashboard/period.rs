//! Which time a page is about, in which zone, compared with what, broken down by what: all of it is in the URL, so that a
//! page can be sent to a colleague.

use chrono::{DateTime, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;
use millstream::time::{DAY, EventTime, WATERMARK_MAX, WATERMARK_MIN};
use serde::Deserialize;

use super::access::url_encoded;
use crate::http::{App, Problem};
use crate::range::{Range, first_moment};

const HOUR: EventTime = DAY / 24;

/// The spans that are offered: what the URL says, and what people read.
pub const SPANS: [(&str, &str); 5] =
    [("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days"), ("12m", "12 months")];

/// As the URL says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Choice {
    range: String,
    from: String,
    to: String,
    tz: String,
    compare: String,
    by: String,
    currency: String,
}

/// As it is meant.
#[derive(Debug, Clone)]
pub struct Period {
    /// The time.
    pub range: Range,
    /// The time just before, as long in days or months.
    pub before: Range,
    /// Of the time just before, as much as has passed of this one: what a figure is compared with.
    pub before_so_far: Range,
    /// The name of the span; empty if the reader chose days.
    pub span: String,
    /// The zone of days.
    pub zone: Tz,
    /// Whether charts show the time before too.
    pub compare: bool,
    /// The breakdown that is asked for; empty for none.
    pub by: String,
    /// The currency of money charts; empty for the one with most rows.
    pub currency: String,
}

impl Choice {
    /// A choice that a form made; a span, or two times.
    pub fn of(range: &str, from: &str, to: &str, tz: &str) -> Self {
        let text = str::to_string;
        Self { range: text(range), from: text(from), to: text(to), tz: text(tz), ..Self::default() }
    }

    /// What is not said is `span`, in the zone `zone`; if all data is older (a replay), the last days of the data.
    pub fn resolve(&self, app: &App, span: &str, zone: &str) -> Result<Period, Problem> {
        let name = if self.tz.is_empty() { zone } else { &self.tz };
        let zone: Tz = name.parse().map_err(|_| {
            Problem::bad_request(format!("`{name}` is not a time zone; write an IANA name such as Europe/Berlin"))
        })?;
        let mut span = if self.range.is_empty() { span } else { &self.range }.to_string();
        let end = end_of_data(app);
        let (mut range, mut before) = span_range(&span, zone, end).ok_or_else(|| {
            let known: Vec<&str> = SPANS.iter().map(|(name, _)| *name).collect();
            Problem::bad_request(format!(
                "range `{span}` is unknown; write one of {}, or from= and to=",
                known.join(", ")
            ))
        })?;
        if !self.from.is_empty() || !self.to.is_empty() {
            let time = |text: &str, end: bool| read_time(text, zone, end).map_err(Problem::bad_request);
            let to = if self.to.is_empty() { range.to } else { time(&self.to, true)? };
            let from = if self.from.is_empty() { to.saturating_sub(7 * DAY) } else { time(&self.from, false)? };
            range = Range::or_last_week(Some(from), Some(to), to).map_err(Problem::bad_request)?;
            before = range.previous();
            span.clear();
        }
        // By the quarter hour, the finest grain of rollups: else no two loads of a page would ask the same.
        let passed = end.min(range.to).saturating_sub(range.from).max(HOUR) / (HOUR / 4) * (HOUR / 4);
        let so_far = if end < range.to { before.to.min(before.from.saturating_add(passed)) } else { before.to };
        Ok(Period {
            range,
            before,
            before_so_far: Range { from: before.from, to: so_far },
            span,
            zone,
            compare: !self.compare.is_empty(),
            by: self.by.clone(),
            currency: self.currency.clone(),
        })
    }
}

impl Period {
    /// The grain that gives a chart of this time enough points and not too many.
    pub fn interval(&self) -> &'static str {
        let length = self.range.to.saturating_sub(self.range.from);
        match length {
            l if l <= 3 * DAY => "hour",
            l if l <= 190 * DAY => "day",
            l if l <= 3 * 366 * DAY => "month",
            _ => "year",
        }
    }

    /// The first and the last day, in the zone.
    pub fn days(&self) -> (NaiveDate, NaiveDate) {
        (self.local(self.range.from).date(), self.local(self.range.to.saturating_sub(1)).date())
    }

    /// The days in words.
    pub fn words(&self) -> String {
        let (first, last) = self.days();
        let whole = [self.range.from, self.range.to].iter().all(|t| self.local(*t).time() == NaiveTime::MIN);
        if !whole {
            let show = |t: EventTime| self.local(t).format("%-d %b %Y %H:%M").to_string();
            return format!("{} – {}", show(self.range.from), show(self.range.to));
        }
        if first == last {
            first.format("%-d %b %Y").to_string()
        } else {
            format!("{} – {}", first.format("%-d %b %Y"), last.format("%-d %b %Y"))
        }
    }

    /// A moment on the clocks of the zone.
    pub fn local(&self, time: EventTime) -> NaiveDateTime {
        DateTime::from_timestamp_nanos(time).with_timezone(&self.zone).naive_local()
    }

    /// The query of a link that keeps this choice, without `?`; `change` says what is to be different.
    pub fn query(&self, change: &[(&str, &str)]) -> String {
        let (first, last) = self.days();
        let whole = [self.range.from, self.range.to].iter().all(|t| self.local(*t).time() == NaiveTime::MIN);
        let mut pairs: Vec<(&str, String)> = Vec::new();
        let changed = |name: &str| change.iter().any(|(n, _)| *n == name);
        if !changed("range") {
            if self.span.is_empty() {
                let show = |t: EventTime, day: NaiveDate| match whole {
                    true => day.to_string(),
                    false => self.local(t).format("%Y-%m-%dT%H:%M:%S").to_string(),
                };
                pairs.push(("from", show(self.range.from, first)));
                pairs.push(("to", show(self.range.to, last)));
            } else {
                pairs.push(("range", self.span.clone()));
            }
        }
        pairs.push(("tz", self.zone.name().to_string()));
        if self.compare {
            pairs.push(("compare", "1".into()));
        }
        pairs.push(("by", self.by.clone()));
        pairs.push(("currency", self.currency.clone()));
        pairs.retain(|(name, value)| !value.is_empty() && !changed(name));
        pairs.extend(change.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (*n, (*v).to_string())));
        pairs.iter().map(|(name, value)| format!("{name}={}", url_encoded(value))).collect::<Vec<_>>().join("&")
    }
}

/// Now, or the newest watermark where all data is older than a month.
fn end_of_data(app: &App) -> EventTime {
    let now = app.clock.now();
    // Rejected rows have the time of their arrival.
    let events = app.engine.status().pipelines.into_iter().filter(|p| !p.name.ends_with("__rejected"));
    let marks = events.map(|p| p.watermark);
    let newest = marks.filter(|w| *w < WATERMARK_MAX && *w != WATERMARK_MIN).max();
    newest.filter(|newest| *newest < now.saturating_sub(30 * DAY)).unwrap_or(now)
}

/// The span that ends with the day (or hour) of `end`, and the one before it.
fn span_range(span: &str, zone: Tz, end: EventTime) -> Option<(Range, Range)> {
    if span == "24h" {
        let to = end.saturating_sub(end.rem_euclid(HOUR)).saturating_add(HOUR);
        let range = Range { from: to.saturating_sub(DAY), to };
        return Some((range, range.previous()));
    }
    let last = DateTime::from_timestamp_nanos(end).with_timezone(&zone).date_naive() + Days::new(1);
    let (from, before) = match span {
        "12m" => (last.checked_sub_months(Months::new(12))?, last.checked_sub_months(Months::new(24))?),
        _ => {
            let days: u64 = SPANS.iter().find(|(name, _)| *name == span)?.0.strip_suffix('d')?.parse().ok()?;
            (last - Days::new(days), last - Days::new(2 * days))
        }
    };
    let start = |day: NaiveDate| first_moment(day, zone);
    Some((Range { from: start(from)?, to: start(last)? }, Range { from: start(before)?, to: start(from)? }))
}

/// A day or a time without an offset is meant in the zone; a last day counts as a whole.
fn read_time(text: &str, zone: Tz, end: bool) -> Result<EventTime, String> {
    let wrong = || format!("`{text}` is not a time; write 2026-11-23 or 2026-11-23T05:56:15");
    if let Ok(day) = text.parse::<NaiveDate>() {
        let day = if end { day.checked_add_days(Days::new(1)).ok_or_else(wrong)? } else { day };
        return first_moment(day, zone).ok_or_else(wrong);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return time.timestamp_nanos_opt().ok_or_else(wrong);
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map_err(|_| wrong())?;
    let moment = zone.from_local_datetime(&local).earliest();
    moment
        .or_else(|| zone.from_local_datetime(&(local + chrono::TimeDelta::hours(1))).earliest())
        .and_then(|t| t.timestamp_nanos_opt())
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::parse_time;
    use millstream::time::show;

    fn shown(range: Range) -> (String, String) {
        (show(range.from).replace(":00.000Z", "Z"), show(range.to).replace(":00.000Z", "Z"))
    }

    #[test]
    fn spans_are_days_of_the_zone() {
        let now = parse_time("2026-03-30T12:00:00Z").unwrap();
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let (week, before) = span_range("7d", berlin, now).unwrap();
        // The clocks went forward on the 29th: the week has 167 hours.
        assert_eq!(shown(week), ("2026-03-23T23:00Z".into(), "2026-03-30T22:00Z".into()));
        assert_eq!(before.to, week.from);
        let (year, _) = span_range("12m", chrono_tz::UTC, now).unwrap();
        assert_eq!(shown(year), ("2025-03-31T00:00Z".into(), "2026-03-31T00:00Z".into()));
        assert!(span_range("fortnight", chrono_tz::UTC, now).is_none());
    }

    #[test]
    fn a_last_day_counts_as_a_whole() {
        let read = |text, end| show(read_time(text, chrono_tz::UTC, end).unwrap());
        assert_eq!(read("2026-11-23", true), "2026-11-24T00:00:00.000Z");
        assert_eq!(read("2026-11-23", false), "2026-11-23T00:00:00.000Z");
        assert_eq!(read("2026-11-23T05:00:00+01:00", true), "2026-11-23T04:00:00.000Z");
        assert!(read_time("soon", chrono_tz::UTC, true).unwrap_err().contains("write 2026-11-23"));
        // In Cairo, midnight of 24 April 2026 does not exist.
        let cairo: Tz = "Africa/Cairo".parse().unwrap();
        assert_eq!(show(read_time("2026-04-24", cairo, false).unwrap()), "2026-04-23T22:00:00.000Z");
    }

    #[test]
    fn a_link_keeps_the_choice() {
        let range = Range { from: parse_time("2026-11-16").unwrap(), to: parse_time("2026-11-23").unwrap() };
        let period = Period {
            range,
            before: range.previous(),
            before_so_far: range.previous(),
            span: String::new(),
            zone: chrono_tz::UTC,
            compare: true,
            by: "tier".into(),
            currency: String::new(),
        };
        assert_eq!(period.query(&[]), "from=2026-11-16&to=2026-11-22&tz=UTC&compare=1&by=tier");
        assert_eq!(period.query(&[("range", "7d"), ("by", "")]), "tz=UTC&compare=1&range=7d");
        assert_eq!(period.words(), "16 Nov 2026 – 22 Nov 2026");
    }
}

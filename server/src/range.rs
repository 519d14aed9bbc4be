//! The time that an answer is about: half-open, UTC.

use std::collections::BTreeMap;

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;
use datafusion::scalar::ScalarValue;
use millstream::time::{DAY, EventTime, day_of, show};

/// `[from, to)`, nanoseconds since the epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Inclusive.
    pub from: EventTime,
    /// Exclusive.
    pub to: EventTime,
}

impl Range {
    /// What is not given becomes: the end of the day of `now`, and seven days before the end.
    pub fn or_last_week(from: Option<EventTime>, to: Option<EventTime>, now: EventTime) -> Result<Self, String> {
        let to = to.unwrap_or_else(|| midnight(day_of(now) + 1));
        let from = from.unwrap_or_else(|| midnight(day_of(to.saturating_sub(1)) - 6));
        Self::new(from, to)
    }

    /// Seven full days, the last one the day before `now`: what a report is about if nobody says otherwise.
    pub fn or_last_full_week(from: Option<EventTime>, to: Option<EventTime>, now: EventTime) -> Result<Self, String> {
        let to = to.unwrap_or_else(|| midnight(day_of(now)));
        let from = from.unwrap_or_else(|| to.saturating_sub(7 * DAY));
        Self::new(from, to)
    }

    fn new(from: EventTime, to: EventTime) -> Result<Self, String> {
        if from >= to {
            return Err(format!("`from` ({}) is not before `to` ({}); swap or change them", show(from), show(to)));
        }
        Ok(Self { from, to })
    }

    /// The same length of time, just before: what a number is compared with.
    pub fn previous(self) -> Self {
        let length = self.to.saturating_sub(self.from);
        Self { from: self.from.saturating_sub(length), to: self.from }
    }

    /// `$from` and `$to`, as SQL's TIMESTAMP.
    pub fn parameters(self) -> BTreeMap<String, ScalarValue> {
        let timestamp = |t| ScalarValue::TimestampNanosecond(Some(t), None);
        BTreeMap::from([("from".to_string(), timestamp(self.from)), ("to".to_string(), timestamp(self.to))])
    }
}

/// The first moment of a day.
pub fn midnight(day: i32) -> EventTime {
    i64::from(day).saturating_mul(DAY)
}

/// The first moment of a day: where midnight does not exist, the first hour that does.
pub fn first_moment(day: NaiveDate, zone: Tz) -> Option<EventTime> {
    let mut time = day.and_time(NaiveTime::MIN);
    for _ in 0..8 {
        match zone.from_local_datetime(&time) {
            LocalResult::Single(t) | LocalResult::Ambiguous(t, _) => return t.timestamp_nanos_opt(),
            LocalResult::None => time += chrono::TimeDelta::minutes(30),
        }
    }
    None
}

/// `2026-11-23`.
pub fn show_day(day: i32) -> String {
    show(midnight(day)).chars().take(10).collect()
}

/// Reads `2026-11-23`.
pub fn parse_day(text: &str) -> Result<i32, String> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .map_err(|_| format!("`{text}` is not a day; write it like 2026-11-23"))?;
    let time = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_nanos_opt();
    time.map(day_of).ok_or_else(|| format!("the day `{text}` is outside the years 1678 to 2261"))
}

/// Reads `2026-11-23` (its first moment), `2026-11-23T05:56:15` (UTC) or RFC 3339 with any offset.
pub fn parse_time(text: &str) -> Result<EventTime, String> {
    if let Ok(day) = parse_day(text) {
        return Ok(midnight(day));
    }
    let time = DateTime::parse_from_rfc3339(text)
        .map(|t| t.to_utc())
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|t| t.and_utc()))
        .map_err(|_| format!("`{text}` is not a time; write 2026-11-23 or 2026-11-23T05:56:15Z"))?;
    time.timestamp_nanos_opt().ok_or_else(|| format!("the time `{text}` is outside the years 1678 to 2261"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_utc() {
        assert_eq!(parse_time("1970-01-02"), Ok(DAY));
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00"), Ok(0));
        assert_eq!(parse_time("1970-01-01T00:00:00.5"), Ok(500_000_000));
        assert!(parse_time("yesterday").unwrap_err().contains("write 2026-11-23"));
        assert!(parse_time("9999-01-01T00:00:00Z").unwrap_err().contains("outside"));
        assert!(parse_day("2026-02-30").is_err());
    }

    #[test]
    fn a_week_is_seven_calendar_days() {
        let noon = parse_time("2026-11-23T12:00:00Z").unwrap();
        let week = Range::or_last_week(None, None, noon).unwrap();
        assert_eq!(
            (show(week.from).as_str(), show(week.to).as_str()),
            ("2026-11-17T00:00:00.000Z", "2026-11-24T00:00:00.000Z")
        );
        let full = Range::or_last_full_week(None, None, noon).unwrap();
        assert_eq!(
            (show_day(day_of(full.from)), show_day(day_of(full.to))),
            ("2026-11-16".into(), "2026-11-23".into())
        );
        assert_eq!(full.previous().to, full.from);
        assert!(Range::or_last_week(Some(noon), Some(noon), noon).unwrap_err().contains("not before"));
    }
}

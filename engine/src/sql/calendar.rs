//! Calendar functions: hours, days, weeks, months, quarters and years of a time zone, with its days of 23 and 25 hours.
//!
//! `period_start(at, interval, zone)`: the moment at which the period of `at` begins. `period_end(at, interval, zone)`: the
//! one at which the next begins. `period_label(at, interval, zone)`: its first local day (`2026-03-14`), or hour with the
//! offset from UTC. `periods(from, to, interval, zone)`: the starts of all periods that meet [from, to).
//! `periods_between(a, b, interval, zone)`: how many periods that of b is after that of a.
//! `local_day(at, zone)`: the calendar day. Moments are UTC, zones IANA names.
//!
//! A day is the set of moments whose local date it is. It begins at its first moment, which is not midnight where clocks
//! jump over it; a day that a zone skipped (Samoa, 2011-12-30) has no moment and does not occur.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Date32Builder, Int64Array, ListBuilder, StringBuilder, TimestampNanosecondArray,
    TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field, TimeUnit, TimestampNanosecondType};
use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::time::{EventTime, SECOND};

const HOUR: i64 = 3_600 * SECOND;
const DAY_SECONDS: i64 = 86_400;

/// Clocks of today's zones differ from UTC by whole quarters of an hour.
const QUARTER: i64 = 900 * SECOND;

/// Periods that one call of `periods` may give: hours of eleven years.
const PERIODS_MAX: usize = 100_000;

/// The last moment of the calendar: the end of the period `all`.
const END_OF_TIME: EventTime = 7_258_118_400 * SECOND;

/// The length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// 60 minutes, or what is left of them where clocks change.
    Hour,
    /// A calendar day.
    Day,
    /// Seven days from this one on: 0 is Monday.
    Week(i64),
    /// A calendar month.
    Month,
    /// Three calendar months.
    Quarter,
    /// A calendar year.
    Year,
    /// All time.
    All,
}

impl Interval {
    /// Reads `day`, `week` (from Monday), `week_sunday`, ...
    pub fn parse(text: &str) -> Result<Self, String> {
        const WEEKDAYS: [&str; 7] = [
            "week_monday",
            "week_tuesday",
            "week_wednesday",
            "week_thursday",
            "week_friday",
            "week_saturday",
            "week_sunday",
        ];
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            "week" => Ok(Self::Week(0)),
            "month" => Ok(Self::Month),
            "quarter" => Ok(Self::Quarter),
            "year" => Ok(Self::Year),
            "all" => Ok(Self::All),
            other => match WEEKDAYS.iter().position(|day| *day == other) {
                Some(day) => Ok(Self::Week(day as i64)),
                None => Err(format!(
                    "`{other}` is no interval; write hour, day, week (or week_sunday, ...), month, quarter, year or all"
                )),
            },
        }
    }

    /// The first day of the period of `day`.
    fn first_day(self, day: i64) -> i64 {
        match self {
            // Day 0 was a Thursday.
            Self::Week(first) => day - (day + 3 - first).rem_euclid(7),
            Self::Month | Self::Quarter | Self::Year => {
                let Some(date) = date_of(day) else { return day };
                let month = match self {
                    Self::Month => date.month(),
                    Self::Quarter => date.month0() / 3 * 3 + 1,
                    _ => 1,
                };
                NaiveDate::from_ymd_opt(date.year(), month, 1).map_or(day, day_number)
            }
            Self::Hour | Self::Day | Self::All => day,
        }
    }

    /// How many periods the one at `to` is after the one at `from`, by their places.
    fn distance(self, from: i64, to: i64) -> i64 {
        match self {
            Self::Hour => (to - from).div_euclid(HOUR),
            Self::Day | Self::Month => to - from,
            Self::Week(_) => (to - from) / 7,
            Self::Quarter => (to - from) / 3,
            Self::Year => (to - from) / 12,
            Self::All => 0,
        }
    }

    /// The first day of the next period.
    fn next_day(self, first: i64) -> i64 {
        match self {
            Self::Week(_) => first + 7,
            // A day within the next period, whatever the lengths of its months.
            Self::Month => self.first_day(first + 31),
            Self::Quarter => self.first_day(first + 95),
            Self::Year => self.first_day(first + 366),
            Self::Hour | Self::Day | Self::All => first + 1,
        }
    }
}

fn date_of(day: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(day + 719_163).ok()?)
}

fn day_number(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce()) - 719_163
}

/// Reads an IANA name.
pub fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("`{name}` is no time zone; write an IANA name such as Europe/Berlin or UTC"))
}

/// The calendar of one zone. It remembers where days begin.
#[derive(Debug)]
pub struct Calendar {
    zone: Tz,
    day_starts: HashMap<i64, EventTime>,
}

impl Calendar {
    /// The calendar of `zone`.
    pub fn new(zone: Tz) -> Self {
        Self { zone, day_starts: HashMap::new() }
    }

    /// Seconds by which local time is ahead of UTC.
    fn offset(&self, at: EventTime) -> i64 {
        let seconds = at.div_euclid(SECOND);
        let utc = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default().naive_utc();
        i64::from(self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    }

    /// The local date, in days since the epoch.
    pub fn day(&self, at: EventTime) -> i64 {
        (at.div_euclid(SECOND) + self.offset(at)).div_euclid(DAY_SECONDS)
    }

    /// The first moment of a day; of a skipped day, that of the next one.
    pub fn day_start(&mut self, day: i64) -> EventTime {
        if let Some(start) = self.day_starts.get(&day) {
            return *start;
        }
        let start = self.find_day_start(day);
        self.day_starts.insert(day, start);
        start
    }

    fn find_day_start(&self, day: i64) -> EventTime {
        let midnight = DateTime::<Utc>::from_timestamp(day * DAY_SECONDS, 0).unwrap_or_default().naive_utc();
        match self.zone.from_local_datetime(&midnight) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.timestamp() * SECOND,
            LocalResult::None => self.after_gap(midnight) * SECOND,
        }
    }

    /// The first second whose local time is not before `midnight`, which clocks jump over.
    fn after_gap(&self, midnight: NaiveDateTime) -> i64 {
        let wanted = midnight.and_utc().timestamp();
        let (mut before, mut after) = (wanted - 2 * DAY_SECONDS, wanted + 2 * DAY_SECONDS);
        while before + 1 < after {
            let middle = before + (after - before) / 2;
            if middle + self.offset(middle * SECOND) < wanted { before = middle } else { after = middle }
        }
        after
    }

    /// Where the period of `at` begins.
    pub fn start(&mut self, at: EventTime, interval: Interval) -> EventTime {
        match interval {
            Interval::All => 0,
            Interval::Hour => {
                let local = at.div_euclid(SECOND) + self.offset(at);
                at.div_euclid(SECOND) * SECOND - local.rem_euclid(3_600) * SECOND
            }
            _ => {
                let first = interval.first_day(self.day(at));
                self.day_start(first)
            }
        }
    }

    /// Where the period after that of `at` begins.
    pub fn end(&mut self, at: EventTime, interval: Interval) -> EventTime {
        match interval {
            Interval::All => END_OF_TIME,
            Interval::Hour => self.start(at, interval) + HOUR,
            _ => {
                let next = interval.next_day(interval.first_day(self.day(at)));
                self.day_start(next)
            }
        }
    }

    /// How the period of `at` is called.
    pub fn label(&self, at: EventTime, interval: Interval) -> String {
        match interval {
            Interval::All => "all".to_string(),
            Interval::Hour => {
                let utc = DateTime::<Utc>::from_timestamp(at.div_euclid(SECOND), 0).unwrap_or_default();
                utc.with_timezone(&self.zone).format("%Y-%m-%dT%H:00%:z").to_string()
            }
            _ => {
                let first = interval.first_day(self.day(at));
                date_of(first).map_or_else(String::new, |date| date.format("%Y-%m-%d").to_string())
            }
        }
    }

    /// Where the period of `at` stands in the order of periods; [`Interval::distance`] tells how many lie between two.
    fn place(&mut self, at: EventTime, interval: Interval) -> i64 {
        match interval {
            Interval::Hour => self.start(at, interval),
            Interval::Day | Interval::Week(_) => interval.first_day(self.day(at)),
            Interval::Month | Interval::Quarter | Interval::Year => date_of(interval.first_day(self.day(at)))
                .map_or(0, |date| i64::from(date.year()) * 12 + i64::from(date.month0())),
            Interval::All => 0,
        }
    }

    /// Whether a quarter of an hour of UTC is within one local hour.
    fn steady(&self, quarter: i64) -> bool {
        let first = self.offset(quarter * QUARTER);
        first % (QUARTER / SECOND) == 0 && self.offset(quarter * QUARTER + QUARTER - SECOND) == first
    }

    /// The starts of all periods that meet `[from, to)`.
    ///
    /// *Errors*: more than a hundred thousand of them.
    pub fn starts(&mut self, from: EventTime, to: EventTime, interval: Interval) -> Result<Vec<EventTime>, String> {
        let mut starts = Vec::new();
        let mut at = self.start(from, interval);
        while at < to {
            starts.push(at);
            if starts.len() > PERIODS_MAX {
                return Err(format!("more than {PERIODS_MAX} periods; choose a longer interval or fewer days"));
            }
            at = self.end(at, interval);
        }
        Ok(starts)
    }
}

/// What a function of moments says, worked out once for each quarter of an hour that rows are in. Where a zone's clocks are not
/// at a whole quarter, or change within one, it is worked out for each row.
struct ByQuarter<T> {
    last: Option<(i64, T)>,
    known: HashMap<i64, Option<T>>,
}

impl<T: Clone> ByQuarter<T> {
    fn new() -> Self {
        Self { last: None, known: HashMap::new() }
    }

    fn of(&mut self, calendar: &mut Calendar, at: EventTime, say: impl Fn(&mut Calendar, EventTime) -> T) -> T {
        let quarter = at.div_euclid(QUARTER);
        if let Some((_, said)) = self.last.as_ref().filter(|(last, _)| *last == quarter) {
            return said.clone();
        }
        let said = self.known.entry(quarter).or_insert_with(|| calendar.steady(quarter).then(|| say(calendar, at)));
        let Some(said) = said else { return say(calendar, at) };
        self.last = Some((quarter, said.clone()));
        said.clone()
    }
}

/// The functions, to be registered in a session.
pub fn calendar_functions() -> Vec<Arc<ScalarUDF>> {
    let kinds = [Kind::Start, Kind::End, Kind::Label, Kind::Periods, Kind::Between, Kind::LocalDay];
    kinds.into_iter().map(|kind| Arc::new(ScalarUDF::from(CalendarFunction::new(kind)))).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Start,
    End,
    Label,
    Periods,
    Between,
    LocalDay,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CalendarFunction {
    kind: Kind,
    signature: Signature,
}

const MOMENT: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

impl CalendarFunction {
    fn new(kind: Kind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CalendarFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Start => "period_start",
            Kind::End => "period_end",
            Kind::Label => "period_label",
            Kind::Periods => "periods",
            Kind::Between => "periods_between",
            Kind::LocalDay => "local_day",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (types, form) = match self.kind {
            Kind::Start | Kind::End | Kind::Label => {
                (vec![MOMENT, DataType::Utf8, DataType::Utf8], "(moment, interval, zone)")
            }
            Kind::Periods | Kind::Between => {
                (vec![MOMENT, MOMENT, DataType::Utf8, DataType::Utf8], "(from, to, interval, zone)")
            }
            Kind::LocalDay => (vec![MOMENT, DataType::Utf8], "(moment, zone)"),
        };
        let fits = |(given, wanted): (&DataType, &DataType)| match given {
            DataType::Null => true,
            DataType::Timestamp(_, _) | DataType::Date32 => *wanted == MOMENT,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => *wanted == DataType::Utf8,
            _ => false,
        };
        if given.len() != types.len() || !given.iter().zip(&types).all(fits) {
            return plan_err!("{} is written {}{form}, with a timestamp and text", self.name(), self.name());
        }
        Ok(types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Start | Kind::End => MOMENT,
            Kind::Label => DataType::Utf8,
            Kind::Periods => DataType::List(Arc::new(Field::new_list_field(MOMENT, true))),
            Kind::Between => DataType::Int64,
            Kind::LocalDay => DataType::Date32,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let text = |place: usize| self.constant(&args.args, place);
        let (interval_place, zone_place) = match self.kind {
            Kind::Periods | Kind::Between => (Some(2), 3),
            Kind::LocalDay => (None, 1),
            _ => (Some(1), 2),
        };
        let interval = match interval_place {
            Some(place) => Interval::parse(&text(place)?).or_else(|e| plan_err!("{e}"))?,
            None => Interval::Day,
        };
        let mut calendar = Calendar::new(zone(&text(zone_place)?).or_else(|e| plan_err!("{e}"))?);
        let moments = |place: usize| match args.args.get(place) {
            Some(value) => value.to_array(rows),
            None => exec_err!("{} lacks an argument", self.name()),
        };
        let answers = self.answers(&moments(0)?, &moments(1), &mut calendar, interval)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?));
        }
        Ok(ColumnarValue::Array(answers))
    }
}

impl CalendarFunction {
    /// Interval and zone are the same for all rows: a column of them would make every row a look-up of names.
    fn constant(&self, args: &[ColumnarValue], place: usize) -> Result<String> {
        match args.get(place) {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text)))) => Ok(text.clone()),
            _ => plan_err!("the interval and the time zone of {} are not constants; write them as text", self.name()),
        }
    }

    fn answers(
        &self,
        moments: &ArrayRef,
        second: &Result<ArrayRef>,
        calendar: &mut Calendar,
        interval: Interval,
    ) -> Result<ArrayRef> {
        let moments = moments.as_primitive::<TimestampNanosecondType>();
        Ok(match self.kind {
            Kind::Start | Kind::End => {
                let end = self.kind == Kind::End;
                let say = |c: &mut Calendar, at| if end { c.end(at, interval) } else { c.start(at, interval) };
                let mut said = ByQuarter::new();
                let edges = moments.iter().map(|at| at.map(|at| said.of(calendar, at, say)));
                Arc::new(edges.collect::<TimestampNanosecondArray>())
            }
            Kind::LocalDay => {
                let mut days = Date32Builder::with_capacity(moments.len());
                let mut said = ByQuarter::new();
                for at in moments {
                    days.append_option(at.map(|at| said.of(calendar, at, |calendar, at| calendar.day(at) as i32)));
                }
                Arc::new(days.finish())
            }
            Kind::Label => {
                let mut labels = StringBuilder::with_capacity(moments.len(), moments.len() * 10);
                let say = |calendar: &mut Calendar, at| -> Arc<str> { calendar.label(at, interval).into() };
                let mut said = ByQuarter::new();
                for at in moments {
                    labels.append_option(at.map(|at| said.of(calendar, at, say)));
                }
                Arc::new(labels.finish())
            }
            Kind::Between => {
                let Ok(ends) = second else { return exec_err!("periods_between lacks its second argument") };
                let mut said = ByQuarter::new();
                let mut place = |at| said.of(calendar, at, |calendar, at| calendar.place(at, interval));
                let pairs = moments.iter().zip(ends.as_primitive::<TimestampNanosecondType>());
                let numbers = pairs.map(|(from, to)| Some(interval.distance(place(from?), place(to?))));
                Arc::new(numbers.collect::<Int64Array>())
            }
            Kind::Periods => {
                let Ok(ends) = second else { return exec_err!("periods lacks its second argument") };
                let ends = ends.as_primitive::<TimestampNanosecondType>();
                let mut lists = ListBuilder::new(TimestampNanosecondBuilder::new());
                for (from, to) in moments.iter().zip(ends) {
                    if let (Some(from), Some(to)) = (from, to) {
                        let starts = calendar.starts(from, to, interval).or_else(|e| exec_err!("{e}"))?;
                        lists.values().append_slice(&starts);
                        lists.append(true);
                    } else {
                        lists.append(false);
                    }
                }
                Arc::new(lists.finish())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> EventTime {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_nanos_opt().unwrap()
    }

    fn calendar(name: &str) -> Calendar {
        Calendar::new(zone(name).unwrap())
    }

    fn show(at: EventTime) -> String {
        DateTime::<Utc>::from_timestamp(at / SECOND, 0).unwrap().format("%Y-%m-%dT%H:%MZ").to_string()
    }

    #[test]
    fn days_of_23_and_25_hours() {
        let mut berlin = calendar("Europe/Berlin");
        for (day, start, hours) in [
            ("2026-03-29T12:00:00Z", "2026-03-28T23:00Z", 23),
            ("2026-10-25T12:00:00Z", "2026-10-24T22:00Z", 25),
            ("2026-06-01T12:00:00Z", "2026-05-31T22:00Z", 24),
        ] {
            let (from, to) = (berlin.start(at(day), Interval::Day), berlin.end(at(day), Interval::Day));
            assert_eq!((show(from).as_str(), (to - from) / HOUR), (start, hours), "{day}");
            assert_eq!(berlin.starts(from, to, Interval::Hour).unwrap().len() as i64, hours);
        }
        let twice = berlin.starts(at("2026-10-25T00:00:00Z"), at("2026-10-25T02:00:00Z"), Interval::Hour).unwrap();
        let labels: Vec<String> = twice.iter().map(|at| berlin.label(*at, Interval::Hour)).collect();
        assert_eq!(labels, ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"], "two hours, two names");
    }

    #[test]
    fn a_midnight_that_does_not_exist_and_a_day_that_does_not() {
        let mut beirut = calendar("Asia/Beirut");
        let start = beirut.start(at("2026-03-29T12:00:00Z"), Interval::Day);
        assert_eq!(show(start), "2026-03-28T22:00Z", "clocks go from 0:00 to 1:00");
        assert_eq!(beirut.label(start, Interval::Day), "2026-03-29");
        let mut apia = calendar("Pacific/Apia");
        let days = apia.starts(at("2011-12-29T12:00:00Z"), at("2012-01-01T00:00:00Z"), Interval::Day).unwrap();
        let labels: Vec<String> = days.iter().map(|day| apia.label(*day, Interval::Day)).collect();
        assert_eq!(labels, ["2011-12-29", "2011-12-31", "2012-01-01"], "2011-12-30 was skipped");
    }

    #[test]
    fn weeks_months_quarters_and_years() {
        let mut utc = calendar("UTC");
        for (interval, start, end) in [
            ("week", "2026-02-23", "2026-03-02"),
            ("week_sunday", "2026-03-01", "2026-03-08"),
            ("month", "2026-03-01", "2026-04-01"),
            ("quarter", "2026-01-01", "2026-04-01"),
            ("year", "2026-01-01", "2027-01-01"),
        ] {
            let day = at("2026-03-01T23:59:59Z");
            let interval = Interval::parse(interval).unwrap();
            assert_eq!(utc.label(day, interval), start);
            let end_at = utc.end(day, interval);
            assert_eq!(utc.label(end_at, Interval::Day), end, "{interval:?}");
        }
        assert_eq!(utc.label(0, Interval::All), "all");
        assert!(Interval::parse("fortnight").unwrap_err().starts_with("`fortnight` is no interval; write hour, day"));
        assert!(zone("Berlin").unwrap_err().contains("write an IANA name such as Europe/Berlin"));
        assert!(utc.starts(0, at("2026-01-01T00:00:00Z"), Interval::Hour).unwrap_err().contains("longer interval"));
    }
}

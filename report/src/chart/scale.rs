//! Axes: which ticks to draw and what to write on them. Pure arithmetic; knows no SVG.

use chrono::{DateTime, Datelike, Months, NaiveDate, Timelike, Utc};

/// A number axis with round ends; every tick is a multiple of `step`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NumberScale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) step: f64,
}

/// The share of its values that a line's axis spans at least: what hardly changes is to look like it.
const SPAN_MIN: f64 = 0.2;

impl NumberScale {
    /// The smallest axis over `low..=high` with steps of 1, 2 or 5 times a power of ten and about `target` intervals.
    pub(crate) fn over(low: f64, high: f64, target: usize) -> Self {
        let (low, high) = match high - low {
            span if span > 0.0 && span.is_finite() => (low, high),
            _ if low == 0.0 || !low.is_finite() => (0.0, 1.0),
            _ if low > 0.0 => (0.0, low),
            _ => (low, 0.0),
        };
        let rough = (high - low) / target.max(1) as f64;
        let magnitude = 10f64.powf(rough.log10().floor());
        let step = match rough / magnitude {
            r if r <= 1.0 => magnitude,
            r if r <= 2.0 => 2.0 * magnitude,
            r if r <= 5.0 => 5.0 * magnitude,
            _ => 10.0 * magnitude,
        };
        // The small slack keeps 0.30000000000000004 from opening one more interval.
        let low = (low / step + 1e-9).floor() * step;
        let high = (high / step - 1e-9).ceil() * step;
        Self { low, high, step }
    }

    /// The axis of a line chart: from zero, unless all values are far from it and a zero would flatten the line.
    pub(crate) fn for_line(low: f64, high: f64, target: usize) -> Self {
        let (low, high) = if low >= 0.0 && low < 0.6 * high {
            (0.0, high)
        } else if high <= 0.0 && high > 0.6 * low {
            (low, 0.0)
        } else if low > 0.0 && low < high {
            (low.min(high * (1.0 - SPAN_MIN)), high)
        } else if high < 0.0 && low < high {
            (low, high.max(low * (1.0 - SPAN_MIN)))
        } else {
            (low, high)
        };
        Self::over(low, high, target)
    }

    /// The range of a small line, which has no axis that would say how little it moves.
    pub(crate) fn for_sparkline(low: f64, high: f64) -> Self {
        let middle = f64::midpoint(low, high);
        let half = ((high - low) / 2.0).max(middle.abs() * SPAN_MIN / 2.0);
        let half = if half > 0.0 { half } else { 1.0 };
        Self { low: middle - half, high: middle + half, step: 2.0 * half }
    }

    /// Every tick, lowest first. At most a few more than the target given to `over`.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round().clamp(0.0, 100.0) as usize;
        let first = (self.low / self.step).round();
        // Multiplying, not adding up, so that zero is exactly zero.
        (0..=count).map(|i| (first + i as f64) * self.step).collect()
    }

    /// Where a value lies: 0 at the low end, 1 at the high end.
    pub(crate) fn fraction(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The text of a tick: as many decimals as the step needs, no more.
    pub(crate) fn label(&self, value: f64) -> String {
        let (divisor, suffix) = prefix(value.abs());
        let decimals = decimals_of(self.step / divisor);
        if decimals > 3 {
            return trim_zeros(format!("{value:.*}", decimals_of(self.step)));
        }
        format!("{}{suffix}", trim_zeros(format!("{:.decimals$}", value / divisor)))
    }
}

/// The size of a change, whatever its direction, from it as a share: `3.4 %`, `120 %`; of a figure more than ten times what it
/// was, how often that: `×48.6`.
pub fn change_size(change: f64) -> String {
    let percent = change.abs() * 100.0;
    match percent {
        _ if change > 9.0 => format!("×{}", compact(change + 1.0)),
        p if p < 100.0 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

/// A number in at most three significant digits with an SI prefix: `0`, `0.042`, `12.5`, `1.23k`, `45M`, `2G`, `7T`.
///
/// For headline figures and axes; tables and CSV show numbers in full.
pub fn compact(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e15).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    // Round to three significant digits first: 999,950 is 1M, not 1000k.
    let digits = if magnitude == 0.0 { 0 } else { magnitude.log10().floor() as i32 };
    let unit = 10f64.powi(digits - 2);
    let rounded = (magnitude / unit).round() * unit;
    let (divisor, suffix) = prefix(rounded);
    let scaled = rounded / divisor;
    let decimals = if scaled == 0.0 { 0 } else { (2 - (scaled * 1.000_000_1).log10().floor() as i32).max(0) as usize };
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}{suffix}", trim_zeros(format!("{scaled:.decimals$}")))
}

/// A number as tooltips show it: digits in groups of three, and at most six significant decimals without noise.
pub fn full(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m >= 1_000.0 => 0,
        m if m >= 1.0 => 2,
        0.0 => 0,
        m => (2 - m.log10().floor() as i32).clamp(2, 6) as usize,
    };
    let text = trim_zeros(format!("{magnitude:.decimals$}"));
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let mut out = String::new();
    if value < 0.0 && text != "0" {
        out.push('−');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn prefix(magnitude: f64) -> (f64, &'static str) {
    match magnitude {
        m if m >= 1e12 => (1e12, "T"),
        m if m >= 1e9 => (1e9, "G"),
        m if m >= 1e6 => (1e6, "M"),
        m if m >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    }
}

fn decimals_of(step: f64) -> usize {
    if step >= 1.0 && step.fract() < 1e-9 {
        return 0;
    }
    (-(step * 1.000_000_1).log10().floor()).clamp(1.0, 9.0) as usize
}

fn trim_zeros(text: String) -> String {
    let trimmed = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    if trimmed == "-0" { "0".into() } else { trimmed.replacen('-', "−", 1) }
}

/// A tick of a time axis: where, what to write, and on the second line the larger unit where it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeTick {
    pub(crate) time_ms: i64,
    pub(crate) label: String,
    pub(crate) context: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeStep {
    Milliseconds(i64),
    Days(i64),
    Months(u32),
}

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The first Monday of the epoch, 5 January 1970: weeks on an axis begin on Mondays.
const FIRST_MONDAY_DAY: i64 = 4;

/// The steps people read without arithmetic.
const TIME_STEPS: &[TimeStep] = {
    use TimeStep::{Days, Milliseconds as Ms, Months};
    &[
        Ms(1),
        Ms(2),
        Ms(5),
        Ms(10),
        Ms(20),
        Ms(50),
        Ms(100),
        Ms(200),
        Ms(500),
        Ms(SECOND_MS),
        Ms(2 * SECOND_MS),
        Ms(5 * SECOND_MS),
        Ms(10 * SECOND_MS),
        Ms(15 * SECOND_MS),
        Ms(30 * SECOND_MS),
        Ms(MINUTE_MS),
        Ms(2 * MINUTE_MS),
        Ms(5 * MINUTE_MS),
        Ms(10 * MINUTE_MS),
        Ms(15 * MINUTE_MS),
        Ms(30 * MINUTE_MS),
        Ms(HOUR_MS),
        Ms(2 * HOUR_MS),
        Ms(3 * HOUR_MS),
        Ms(6 * HOUR_MS),
        Ms(12 * HOUR_MS),
        Days(1),
        Days(2),
        Days(7),
        Days(14),
        Months(1),
        Months(3),
        Months(6),
        Months(12),
        Months(24),
        Months(60),
        Months(120),
        Months(240),
        Months(600),
        Months(1200),
    ]
};

impl TimeStep {
    fn length_ms(self) -> i64 {
        match self {
            Self::Milliseconds(ms) => ms,
            Self::Days(days) => days * DAY_MS,
            Self::Months(months) => i64::from(months) * 30 * DAY_MS,
        }
    }

    fn starts(self, low_ms: i64, high_ms: i64) -> Vec<i64> {
        match self {
            Self::Milliseconds(ms) => multiples(ms, 0, low_ms, high_ms),
            Self::Days(days) => {
                let offset_days = if days % 7 == 0 { FIRST_MONDAY_DAY } else { 0 };
                multiples(days * DAY_MS, offset_days * DAY_MS, low_ms, high_ms)
            }
            Self::Months(months) => month_starts(months, low_ms, high_ms),
        }
    }
}

fn multiples(step_ms: i64, offset_ms: i64, low_ms: i64, high_ms: i64) -> Vec<i64> {
    let before_ms = (low_ms - offset_ms).div_euclid(step_ms) * step_ms + offset_ms;
    let first_ms = if before_ms < low_ms { before_ms + step_ms } else { before_ms };
    (0..200).map(|i| first_ms.saturating_add(i * step_ms)).take_while(|t| *t <= high_ms).collect()
}

fn month_starts(months: u32, low_ms: i64, high_ms: i64) -> Vec<i64> {
    let Some(low) = utc(low_ms) else { return Vec::new() };
    let month_index = low.year() * 12 + low.month0() as i32;
    let aligned = month_index.div_euclid(months as i32) * months as i32;
    let first = NaiveDate::from_ymd_opt(aligned.div_euclid(12), aligned.rem_euclid(12) as u32 + 1, 1);
    let mut starts = Vec::new();
    let mut next = first;
    while let Some(date) = next.filter(|_| starts.len() < 200) {
        let time_ms = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
        if time_ms > high_ms {
            break;
        }
        if time_ms >= low_ms {
            starts.push(time_ms);
        }
        next = date.checked_add_months(Months::new(months));
    }
    starts
}

/// Ticks over a range of event times (milliseconds since the epoch, UTC), at most `max` of them.
pub(crate) fn time_ticks(low_ms: i64, high_ms: i64, max: usize) -> Vec<TimeTick> {
    let span_ms = high_ms.saturating_sub(low_ms).max(1);
    let max = max.max(1) as i64;
    let step =
        TIME_STEPS.iter().copied().find(|step| span_ms / step.length_ms() < max).unwrap_or(TimeStep::Months(1200));
    let mut ticks: Vec<TimeTick> = Vec::new();
    let mut last_context = String::new();
    for time_ms in step.starts(low_ms, high_ms) {
        let Some(time) = utc(time_ms) else { continue };
        let (label, context) = tick_text(step, time);
        let changed = context != last_context;
        ticks.push(TimeTick { time_ms, label, context: (changed && !context.is_empty()).then(|| context.clone()) });
        last_context = context;
    }
    ticks
}

fn tick_text(step: TimeStep, time: DateTime<Utc>) -> (String, String) {
    let date = || time.format("%-d %b %Y").to_string();
    match step {
        TimeStep::Milliseconds(ms) if ms < SECOND_MS => (time.format("%H:%M:%S%.3f").to_string(), date()),
        TimeStep::Milliseconds(ms) if ms < MINUTE_MS => (time.format("%H:%M:%S").to_string(), date()),
        TimeStep::Milliseconds(_) => (time.format("%H:%M").to_string(), date()),
        TimeStep::Days(_) => (time.format("%-d %b").to_string(), time.format("%Y").to_string()),
        TimeStep::Months(months) if months < 12 => (time.format("%b").to_string(), time.format("%Y").to_string()),
        TimeStep::Months(_) => (time.format("%Y").to_string(), String::new()),
    }
}

/// Short labels for times used as categories: the date alone when every one is a midnight, and the time alone when all
/// are of one day.
pub(crate) fn time_categories(times_ms: &[i64]) -> Vec<String> {
    let times: Vec<_> = times_ms.iter().map(|t| utc(*t)).collect();
    let known = || times.iter().flatten();
    let midnights = known().all(|t| t.num_seconds_from_midnight() == 0);
    let minutes = known().all(|t| t.second() == 0);
    let one_year = known().all(|t| Some(t.year()) == known().next().map(|first| first.year()));
    let one_day = known().all(|t| Some(t.date_naive()) == known().next().map(|first| first.date_naive()));
    let format = match (midnights, minutes, one_day, one_year) {
        (true, _, _, true) => "%-d %b",
        (true, _, _, false) => "%-d %b %Y",
        (false, true, true, _) => "%H:%M",
        (false, false, true, _) => "%H:%M:%S",
        (false, true, false, _) => "%-d %b %H:%M",
        (false, false, false, _) => "%-d %b %H:%M:%S",
    };
    times.iter().map(|t| t.map_or_else(|| "?".into(), |t| t.format(format).to_string())).collect()
}

/// The moment, or nothing when it lies outside the calendar.
pub(crate) fn utc(time_ms: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> String {
        let scale = NumberScale::over(low, high, 5);
        scale.ticks().iter().map(|t| scale.label(*t)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_hardly_changes_is_drawn_as_such() {
        let ends = |scale: NumberScale| (scale.low, scale.high);
        assert_eq!(ends(NumberScale::for_line(290.0, 302.0, 5)), (240.0, 320.0), "latency that moves by 4 %");
        assert_eq!(ends(NumberScale::for_line(99.1, 99.9, 5)), (75.0, 100.0), "a share stays below the whole");
        assert_eq!(ends(NumberScale::for_line(-302.0, -290.0, 5)), (-320.0, -240.0));
        assert_eq!(ends(NumberScale::for_line(700.0, 1_000.0, 3)), (700.0, 1_000.0), "what moves fills the chart");
        assert_eq!(ends(NumberScale::for_line(5.0, 5.0, 5)), (0.0, 5.0), "nothing moves");
        assert_eq!(ends(NumberScale::for_sparkline(99.0, 101.0)), (90.0, 110.0));
        assert_eq!(ends(NumberScale::for_sparkline(10.0, 30.0)), (10.0, 30.0));
        assert_eq!(ends(NumberScale::for_sparkline(0.0, 0.0)), (-1.0, 1.0));
    }

    #[test]
    fn number_ticks_are_round_and_short() {
        assert_eq!(labels(0.0, 7.0), "0 2 4 6 8");
        assert_eq!(labels(0.0, 1_830_000.0), "0 500k 1M 1.5M 2M");
        assert_eq!(labels(0.0, 0.3), "0 0.1 0.2 0.3");
        assert_eq!(labels(-42.0, 61.0), "−50 0 50 100");
        assert_eq!(labels(0.0, 0.0), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(labels(5.0, 5.0), "0 1 2 3 4 5");
        assert_eq!(labels(0.0, 2.4e9), "0 500M 1G 1.5G 2G 2.5G");
        assert_eq!(labels(1_000_000.0, 1_000_010.0), "1000000 1000002 1000004 1000006 1000008 1000010");
        assert_eq!(labels(0.0, 0.0025), "0 0.0005 0.001 0.0015 0.002 0.0025");
    }

    #[test]
    fn changes_beyond_tenfold_are_told_as_a_factor() {
        let texts = [0.034, -0.5, 1.2, 9.0, 9.2, 48.6, -20.0].map(change_size);
        assert_eq!(texts, ["3.4 %", "50.0 %", "120 %", "900 %", "×10.2", "×49.6", "2000 %"]);
    }

    #[test]
    fn compact_numbers_keep_three_digits() {
        let text = |v| compact(v);
        assert_eq!(text(0.0), "0");
        assert_eq!(text(7.0), "7");
        assert_eq!(text(999.0), "999");
        assert_eq!(text(999.9), "1k");
        assert_eq!(text(1_234.0), "1.23k");
        assert_eq!(text(999_950.0), "1M");
        assert_eq!(text(45_600_000.0), "45.6M");
        assert_eq!(text(-1_500.0), "−1.5k");
        assert_eq!(text(0.04219), "0.0422");
        assert_eq!(text(100.0), "100");
        assert_eq!(text(0.1 + 0.2), "0.3");
        assert_eq!(text(f64::NAN), "–");
    }

    #[test]
    fn full_numbers_have_groups_and_no_noise() {
        let all = [0.0, 7.0, 1_234_567.8, -1_500.0, 0.1 + 0.2, 12.5, 0.001_234_5, f64::NAN].map(full);
        assert_eq!(all, ["0", "7", "1,234,568", "−1,500", "0.3", "12.5", "0.00123", "–"]);
    }

    fn ms(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    fn times(low: &str, high: &str) -> String {
        let ticks = time_ticks(ms(low), ms(high), 8);
        let text = |t: &TimeTick| match &t.context {
            Some(context) => format!("{} [{context}]", t.label),
            None => t.label.clone(),
        };
        ticks.iter().map(text).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn time_ticks_fall_on_readable_places() {
        assert_eq!(
            times("2026-07-07T22:10:00Z", "2026-07-08T02:00:00Z"),
            "22:30 [7 Jul 2026] | 23:00 | 23:30 | 00:00 [8 Jul 2026] | 00:30 | 01:00 | 01:30 | 02:00"
        );
        assert_eq!(
            times("2026-07-06T00:00:00Z", "2026-07-12T00:00:00Z"),
            "6 Jul [2026] | 7 Jul | 8 Jul | 9 Jul | 10 Jul | 11 Jul | 12 Jul"
        );
        assert_eq!(times("2026-07-01T00:00:00Z", "2026-07-31T00:00:00Z"), "6 Jul [2026] | 13 Jul | 20 Jul | 27 Jul");
        assert_eq!(times("2025-10-20T00:00:00Z", "2026-03-05T00:00:00Z"), "Nov [2025] | Dec | Jan [2026] | Feb | Mar");
        assert_eq!(times("2019-05-01T00:00:00Z", "2024-05-01T00:00:00Z"), "2020 | 2021 | 2022 | 2023 | 2024");
    }

    #[test]
    fn times_as_categories_show_only_what_differs() {
        let of = |list: &[&str]| time_categories(&list.iter().map(|t| ms(t)).collect::<Vec<_>>()).join(" | ");
        assert_eq!(of(&["2026-07-06T00:00:00Z", "2026-07-07T00:00:00Z"]), "6 Jul | 7 Jul");
        assert_eq!(of(&["2026-07-06T09:00:00Z", "2026-07-06T10:00:00Z"]), "09:00 | 10:00");
        assert_eq!(of(&["2026-07-06T09:00:00Z", "2026-07-07T10:00:00Z"]), "6 Jul 09:00 | 7 Jul 10:00");
        assert_eq!(of(&["2026-07-06T09:00:00Z", "2026-07-06T09:00:10Z"]), "09:00:00 | 09:00:10");
    }
}

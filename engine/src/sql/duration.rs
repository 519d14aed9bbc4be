//! Literal durations, as windows and options take them: `INTERVAL '10 seconds'`, `INTERVAL '5' SECOND`.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, Value};

use crate::time::{DAY, SECOND};

/// The nanoseconds of an interval literal as parsed; `None` for anything else, and for months, which have no length.
pub fn of_expression(e: &Expr) -> Option<i64> {
    let Expr::Interval(interval) = e else { return None };
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let (Value::SingleQuotedString(number) | Value::Number(number, _)) = &value.value else { return None };
    let text = match &interval.leading_field {
        Some(unit) => format!("{number} {unit}"),
        None => number.clone(),
    };
    nanoseconds(parse_interval_month_day_nano(&text).ok()?)
}

/// The nanoseconds of an interval value.
pub fn of_scalar(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(i)) => nanoseconds(*i),
        ScalarValue::IntervalDayTime(Some(i)) => {
            i64::from(i.days).checked_mul(DAY)?.checked_add(i64::from(i.milliseconds) * 1_000_000)
        }
        ScalarValue::DurationNanosecond(Some(n)) => Some(*n),
        _ => None,
    }
}

fn nanoseconds(i: IntervalMonthDayNano) -> Option<i64> {
    if i.months != 0 {
        return None;
    }
    i64::from(i.days).checked_mul(DAY)?.checked_add(i.nanoseconds)
}

/// A text with intervals as people write them: `INTERVAL '10 seconds'` for what Arrow shows.
pub fn show_intervals(text: &str) -> String {
    const NAME: &str = "IntervalMonthDayNano";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NAME) {
        let (before, found) = rest.split_at(at);
        shown.push_str(before);
        match interval(found) {
            Some((interval, after)) => {
                shown.push_str(&interval);
                rest = after;
            }
            None => {
                shown.push_str(NAME);
                rest = found.get(NAME.len()..).unwrap_or_default();
            }
        }
    }
    shown.push_str(rest);
    shown
}

/// The interval at the front of a text, `Name { .. }` or `Name("Name { .. }")`, and what follows it.
fn interval(text: &str) -> Option<(String, &str)> {
    let (quoted, inner) = match text.strip_prefix("IntervalMonthDayNano(\"") {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let inner = inner.strip_prefix("IntervalMonthDayNano { months: ")?;
    let (months, inner) = inner.split_once(", days: ")?;
    let (days, inner) = inner.split_once(", nanoseconds: ")?;
    let (nanoseconds, after) = inner.split_once(" }")?;
    let after = if quoted { after.strip_prefix("\")")? } else { after };
    let mut parts = Vec::new();
    let (months, days): (i64, i64) = (months.parse().ok()?, days.parse().ok()?);
    for (n, unit) in [(months / 12, "year"), (months % 12, "month"), (days, "day")] {
        parts.extend((n != 0).then(|| amount(n, unit)));
    }
    let mut left: i64 = nanoseconds.parse().ok()?;
    let units = [("hour", 3600 * SECOND), ("minute", 60 * SECOND), ("second", SECOND), ("millisecond", 1_000_000)];
    for (unit, length) in units.into_iter().chain([("microsecond", 1_000), ("nanosecond", 1)]) {
        parts.extend((left / length != 0).then(|| amount(left / length, unit)));
        left %= length;
    }
    if parts.is_empty() {
        parts.push(amount(0, "second"));
    }
    Some((format!("INTERVAL '{}'", parts.join(" ")), after))
}

fn amount(n: i64, unit: &str) -> String {
    format!("{n} {unit}{}", if n.abs() == 1 { "" } else { "s" })
}

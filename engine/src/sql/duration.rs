//! Literal durations, as windows and options take them: `INTERVAL '10 seconds'`, `INTERVAL '5' SECOND`.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, Value};

use crate::time::DAY;

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

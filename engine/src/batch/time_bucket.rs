//! `time_bucket(width, time)`: the start of the bucket that a time falls in, as TimescaleDB has it and Grafana writes it.
//!
//! The width is an INTERVAL or text such as `'60.000s'`, `'5 minutes'`, `'1 month'`. Buckets of whole weeks begin on a
//! Monday, those of months on the first. DataFusion's `date_bin` does the work; its planned type would lose the time's unit.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

const NAME: &str = "time_bucket";

/// 2000-01-03, a Monday, and 2000-01-01: TimescaleDB's origins of buckets of time and of months, in nanoseconds.
const MONDAY_NS: i64 = 946_857_600_000_000_000;
const FIRST_NS: i64 = 946_684_800_000_000_000;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [width, time] = types else {
            let message = format!("{NAME} takes a width and a time, as in {NAME}(INTERVAL '5 minutes', event_time)");
            return Err(DataFusionError::Plan(message));
        };
        let width = match width {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            _ => DataType::Interval(IntervalUnit::MonthDayNano),
        };
        let time = match time {
            DataType::Timestamp(..) => time.clone(),
            _ => DataType::Timestamp(TimeUnit::Nanosecond, None),
        };
        Ok(vec![width, time])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.get(1).cloned().unwrap_or(DataType::Timestamp(TimeUnit::Nanosecond, None)))
    }

    fn simplify(&self, arguments: Vec<Expr>, _context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // A wrong width is told also where there are no rows.
        if let Some(Expr::Literal(width, _)) = arguments.first() {
            width_of(width)?;
        }
        Ok(ExprSimplifyResult::Original(arguments))
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(ColumnarValue::Scalar(width)) = arguments.args.first() else {
            let message = format!("the width of {NAME} must be a literal, such as INTERVAL '5 minutes'");
            return Err(DataFusionError::Plan(message));
        };
        let width = width_of(width)?;
        let origin = if width.months == 0 { MONDAY_NS } else { FIRST_NS };
        let time = arguments.args.pop().ok_or_else(|| wrong_width("missing"))?;
        let scalar = |value| ColumnarValue::Scalar(value);
        let width = scalar(ScalarValue::IntervalMonthDayNano(Some(width)));
        arguments.args = vec![width, time, scalar(ScalarValue::TimestampNanosecond(Some(origin), None))];
        datafusion::functions::datetime::date_bin().invoke_with_args(arguments)
    }
}

fn width_of(literal: &ScalarValue) -> Result<IntervalMonthDayNano> {
    let width = match literal {
        ScalarValue::Utf8(Some(text)) => parse(text)?,
        ScalarValue::IntervalMonthDayNano(Some(width)) => *width,
        other => return Err(wrong_width(&other.to_string())),
    };
    let positive = width.months >= 0 && width.days >= 0 && width.nanoseconds >= 0;
    let mixed = width.months != 0 && (width.days != 0 || width.nanoseconds != 0);
    if !positive || mixed || width == IntervalMonthDayNano::ZERO {
        return Err(wrong_width(&literal.to_string()));
    }
    Ok(width)
}

/// `60.000s` is what Grafana writes; the rest is an INTERVAL's text.
fn parse(text: &str) -> Result<IntervalMonthDayNano> {
    let seconds = text.trim().strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    if let Some(seconds) = seconds.filter(|s| s.is_finite() && *s < 1e9) {
        return Ok(IntervalMonthDayNano::new(0, 0, (seconds * 1e9).round() as i64));
    }
    parse_interval_month_day_nano(text).map_err(|_| wrong_width(text))
}

fn wrong_width(text: &str) -> DataFusionError {
    DataFusionError::Plan(format!(
        "the width of {NAME} is {text}; write a positive interval such as '60s', '5 minutes' or '1 month', months not mixed with days"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_as_grafana_and_people_write_them() {
        let ns = |text: &str| parse(text).map(|w| (w.months, w.days, w.nanoseconds)).unwrap();
        assert_eq!(ns("60.000s"), (0, 0, 60_000_000_000));
        assert_eq!(ns("0.500s"), (0, 0, 500_000_000));
        assert_eq!(ns("5 minutes"), (0, 0, 300_000_000_000));
        assert_eq!(ns("1 month"), (1, 0, 0));
        for wrong in ["0s", "often", "1 month 1 day", "-5 minutes"] {
            let error = width_of(&ScalarValue::from(wrong)).unwrap_err().strip_backtrace();
            assert!(error.contains("write a positive interval"), "{error}");
        }
    }
}

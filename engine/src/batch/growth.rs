//! Functions whose result is far larger than what they are given, bounded before they run.
//!
//! `repeat('x', 1000000000)` is one call: it takes its memory past the query's pool, and nothing can interrupt it. These
//! wrappers add up what a call would make of its rows, and refuse it above the query's memory.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::prelude::SessionContext;

use crate::error::Error;
use crate::time::{DAY, SECOND};

/// What a function makes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument, so many times.
    Repeat,
    /// So many characters.
    Pad,
    /// A list of so many of the first argument.
    RepeatElement,
    /// A list of so many elements.
    Resize,
    /// A list from here to there.
    Range,
    /// The third argument for each occurrence of the second.
    Replace,
    /// Steps, not bytes: the product of two lengths.
    Distance,
}

const GROWING: [(&str, Growth); 10] = [
    ("repeat", Growth::Repeat),
    ("lpad", Growth::Pad),
    ("rpad", Growth::Pad),
    ("array_repeat", Growth::RepeatElement),
    ("array_resize", Growth::Resize),
    ("range", Growth::Range),
    ("generate_series", Growth::Range),
    ("replace", Growth::Replace),
    ("regexp_replace", Growth::Replace),
    ("levenshtein", Growth::Distance),
];

/// Bytes of a value in a list, where its type does not say more.
const ELEMENT_BYTES: i64 = 16;

/// Bytes of a character at most.
const CHARACTER_BYTES: i64 = 4;

/// Puts the bounded functions in the place of DataFusion's.
pub(super) fn bound(session: &SessionContext, bytes_max: usize) {
    for (name, growth) in GROWING {
        let known = session.state_ref().read().scalar_functions().get(name).cloned();
        if let Some(inner) = known {
            session.register_udf(ScalarUDF::from(Bounded { inner, growth, bytes_max }));
        }
    }
}

/// Puts a bound on what `||` joins: a query that doubles a text again and again is refused before the text is large.
pub(super) fn bound_concatenation(plan: LogicalPlan, bytes_max: usize) -> Result<LogicalPlan> {
    let bounded = Arc::new(ScalarUDF::from(Passed { bytes_max, signature: Signature::any(1, Volatility::Immutable) }));
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expression| {
            let name = names.save(&expression);
            let joined = expression.transform_up(|part| match part {
                Expr::BinaryExpr(mut binary) if binary.op == Operator::StringConcat => {
                    binary.left = Box::new(bounded.call(vec![*binary.left]));
                    Ok(Transformed::yes(Expr::BinaryExpr(binary)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(joined.update_data(|e| name.restore(e)))
        })
    })?;
    Ok(plan.data)
}

/// Gives back what it is given, or an error when that is too large.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Passed {
    bytes_max: usize,
    signature: Signature,
}

impl ScalarUDFImpl for Passed {
    fn name(&self) -> &'static str {
        "millstream_bounded"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let given = arguments.arg_fields.first();
        given.cloned().ok_or_else(|| DataFusionError::Internal("nothing to pass".into()))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(passed) = arguments.args.into_iter().next() else {
            return Err(DataFusionError::Internal("nothing to pass".into()));
        };
        let bytes = match &passed {
            ColumnarValue::Array(array) => array.get_array_memory_size(),
            ColumnarValue::Scalar(value) => value.size(),
        };
        if bytes > self.bytes_max {
            let message =
                format!("`||` is given {bytes} bytes, more than the {} that the query may use", self.bytes_max);
            return Err(DataFusionError::External(Box::new(Error::Limit { message, retry_after_ms: 0 })));
        }
        Ok(passed)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
    bytes_max: usize,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let needed = self.growth.of(&arguments.args, arguments.number_rows)?;
        if needed > self.bytes_max as i64 {
            return Err(DataFusionError::External(Box::new(Error::Limit {
                message: format!(
                    "{} would make {needed} bytes of {} rows, more than the {} that the query may use; ask for less",
                    self.name(),
                    arguments.number_rows,
                    self.bytes_max
                ),
                retry_after_ms: 0,
            })));
        }
        self.inner.invoke_with_args(arguments)
    }
}

impl Growth {
    /// What all rows come to.
    fn of(self, arguments: &[ColumnarValue], rows: usize) -> Result<i64> {
        let measure: fn(&ArrayRef) -> Result<Int64Array> = match self {
            Self::Repeat | Self::Replace | Self::Distance => text,
            Self::Pad | Self::Resize | Self::Range => numbers,
            Self::RepeatElement => elements,
        };
        let first = Each::of(arguments.first(), measure)?;
        let second = match self {
            Self::Replace | Self::Distance => Each::of(arguments.get(1), text)?,
            _ => Each::of(arguments.get(1), numbers)?,
        };
        let third = match self {
            Self::Replace => Each::of(arguments.get(2), text)?,
            _ => Each::of(arguments.get(2), numbers)?,
        };
        let count = arguments.len();
        let row = |i: usize| {
            let (a, b, c) = (first.at(i), second.at(i), third.at(i));
            match self {
                Self::Repeat | Self::RepeatElement | Self::Distance => a.saturating_mul(b.max(0)),
                Self::Pad => b.max(0).saturating_mul(CHARACTER_BYTES),
                Self::Resize => b.max(0).saturating_mul(ELEMENT_BYTES),
                Self::Range if count == 1 => a.max(0).saturating_mul(ELEMENT_BYTES),
                Self::Range => {
                    let step = c.unsigned_abs().max(1) as i64;
                    b.saturating_sub(a).saturating_abs().div_euclid(step).saturating_mul(ELEMENT_BYTES)
                }
                // An empty pattern is found between any two characters.
                Self::Replace => (a / b.max(1) + 1).saturating_mul(c).saturating_add(a),
            }
        };
        if [&first, &second, &third].into_iter().all(Each::is_one) {
            return Ok(row(0).saturating_mul(rows as i64));
        }
        Ok((0..rows).fold(0i64, |sum, i| sum.saturating_add(row(i))))
    }
}

/// A measure of each row, or one for all.
struct Each {
    values: Option<Int64Array>,
    one: bool,
}

impl Each {
    fn of(argument: Option<&ColumnarValue>, measure: fn(&ArrayRef) -> Result<Int64Array>) -> Result<Self> {
        let (array, one) = match argument {
            None => return Ok(Self { values: None, one: true }),
            Some(ColumnarValue::Scalar(value)) => (value.to_array()?, true),
            Some(ColumnarValue::Array(array)) => (array.clone(), false),
        };
        Ok(Self { values: Some(measure(&array)?), one })
    }

    fn is_one(&self) -> bool {
        self.one
    }

    fn at(&self, row: usize) -> i64 {
        let Some(values) = &self.values else { return 0 };
        let row = if self.one { 0 } else { row };
        if row < values.len() && values.is_valid(row) { values.value(row) } else { 0 }
    }
}

/// Bytes of text.
fn text(array: &ArrayRef) -> Result<Int64Array> {
    let textual = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    // A flag of a pattern, or null: nothing that grows.
    if !textual {
        return Ok(Int64Array::from(vec![0; array.len()]));
    }
    Ok(cast(&length(array.as_ref())?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Numbers, times in nanoseconds, intervals as long as they are at least.
fn numbers(array: &ArrayRef) -> Result<Int64Array> {
    let of = |array: &ArrayRef| Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
    match array.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let nanoseconds = |v: arrow::datatypes::IntervalMonthDayNano| {
                let days = i64::from(v.months) * 28 + i64::from(v.days);
                days.saturating_mul(DAY).saturating_add(v.nanoseconds)
            };
            let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
            Ok(intervals.iter().map(|v| v.map(nanoseconds)).collect())
        }
        DataType::Date32 | DataType::Timestamp(..) => {
            // Seconds fit whatever the date.
            let seconds = cast(array, &DataType::Timestamp(TimeUnit::Second, None))?;
            Ok(of(&seconds)?.unary(|s: i64| s.saturating_mul(SECOND)))
        }
        t if t.is_numeric() => of(array),
        _ => Ok(Int64Array::from(vec![0; array.len()])),
    }
}

/// Bytes of each value.
fn elements(array: &ArrayRef) -> Result<Int64Array> {
    let textual = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if textual {
        return Ok(text(array)?.unary(|bytes: i64| bytes.saturating_add(ELEMENT_BYTES)));
    }
    let average = (array.get_array_memory_size() / array.len().max(1)) as i64;
    let bytes = if array.data_type().is_nested() { average.max(ELEMENT_BYTES) } else { ELEMENT_BYTES };
    Ok(Int64Array::from(vec![bytes; array.len()]))
}

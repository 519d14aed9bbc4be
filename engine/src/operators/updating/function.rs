//! How the result of one aggregate function is kept up to date.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, downcast_primitive};
use arrow::compute::nullif;
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Field, FieldRef, SchemaRef};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::CastExpr;

use crate::error::{Error, Result};
use crate::operators::accumulate::accumulator;

/// How a result changes with the rows of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// New rows are merged into the state.
    Merge,
    /// As `Merge`, and the state of rows taken back is subtracted.
    Subtract,
    /// From all rows of the group, whenever one comes or goes.
    Recompute,
}

/// An aggregate function and its state columns.
#[derive(Debug, Clone)]
pub(super) struct Function {
    /// What is computed; without DISTINCT if `first_sight`.
    pub(super) function: Arc<AggregateFunctionExpr>,
    pub(super) upkeep: Upkeep,
    /// Whether only the first row of a group with some arguments counts.
    pub(super) first_sight: bool,
    /// What is kept by group: the state of `function`; that of `values`; the result.
    pub(super) columns: Vec<FieldRef>,
    own_columns: usize,
    /// Counts the arguments that are not null, where the state cannot tell none from zero.
    values: Option<Arc<AggregateFunctionExpr>>,
    /// The result is the first state column.
    is_state: bool,
    /// The result is the last column: it cannot be had from the state again, or not the same.
    keeps_result: bool,
}

/// What moves a function's columns on.
pub(super) enum News<'a> {
    /// The result of all rows of each group.
    Result(ArrayRef),
    /// Rows, piece by piece.
    Rows(Vec<RowNews<'a>>),
    /// States, and the group of each.
    States(&'a [ArrayRef], &'a [usize]),
}

/// A piece of rows for one function.
pub(super) struct RowNews<'a> {
    /// The group of each row.
    pub(super) number: &'a [usize],
    /// So many groups have had a row when these have been taken.
    pub(super) groups: usize,
    /// The function's arguments.
    pub(super) arguments: &'a [ArrayRef],
    /// The rows that count, if not all.
    pub(super) appended: Option<BooleanArray>,
    /// The rows that are taken back.
    pub(super) retracted: Option<BooleanArray>,
}

impl Function {
    pub(super) fn new(function: &Arc<AggregateFunctionExpr>, retracting: bool, input: &SchemaRef) -> Result<Self> {
        let name = function.fun().name();
        let idempotent = matches!(name, "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or");
        let upkeep = match retracting {
            false => Upkeep::Merge,
            true if is_linear(function, input)? => Upkeep::Subtract,
            true => Upkeep::Recompute,
        };
        let first_sight = function.is_distinct() && !idempotent && upkeep != Upkeep::Recompute;
        let plain = function.is_distinct() && upkeep != Upkeep::Recompute;
        let function = if plain { Arc::new(without_distinct(function, input)?) } else { function.clone() };
        let result = function.field();
        let own = if upkeep == Upkeep::Recompute { Vec::new() } else { function.state_fields()? };
        let own_columns = own.len();
        let values = match upkeep {
            Upkeep::Subtract if name == "sum" => Some(Arc::new(count_of(&function, input)?)),
            _ => None,
        };
        let is_state = matches!(name, "count" | "sum" | "min" | "max" | "bool_and" | "bool_or")
            && own.first().is_some_and(|f| own_columns == 1 && f.data_type() == result.data_type());
        // A list of distinct values is not in the same order each time it is made from a state.
        let keeps_result = upkeep == Upkeep::Recompute || result.data_type().is_nested();
        let mut columns = own;
        if let Some(values) = &values {
            columns.extend(values.state_fields()?);
        }
        if keeps_result {
            columns.push(Arc::new(Field::new(
                format!("{}[result]", function.name()),
                result.data_type().clone(),
                true,
            )));
        }
        Ok(Self { function, upkeep, first_sight, columns, own_columns, values, is_state, keeps_result })
    }

    /// The columns of `groups` groups after the news. `old`: the columns of the first `had` of them.
    pub(super) fn advance(
        &self,
        old: &[ArrayRef],
        had: usize,
        news: &News<'_>,
        groups: usize,
    ) -> Result<Vec<ArrayRef>> {
        if let News::Result(result) = news {
            return Ok(vec![result.clone()]);
        }
        let (own, rest) = old.split_at(self.own_columns.min(old.len()));
        let mut columns = advance(&self.function, own, had, news, groups)?;
        if let Some(values) = &self.values {
            let count = advance(values, rest.get(..1).unwrap_or_default(), had, news, groups)?;
            columns.extend(count);
        }
        if self.upkeep == Upkeep::Subtract && self.function.fun().name() != "count" {
            self.empty_to_null(&mut columns)?;
        }
        if self.keeps_result {
            columns.push(self.evaluate(&columns, groups)?);
        }
        Ok(columns)
    }

    /// No values are left where their count is zero: `sum` and `avg` are null again.
    fn empty_to_null(&self, columns: &mut [ArrayRef]) -> Result<()> {
        let count = if self.values.is_some() { columns.last() } else { columns.first() };
        let empty = match count.map(|c| (c.data_type().clone(), c)) {
            Some((DataType::Int64, c)) => is_zero::<arrow::datatypes::Int64Type>(c),
            Some((DataType::UInt64, c)) => is_zero::<arrow::datatypes::UInt64Type>(c),
            _ => return Err(Error::Bug(format!("{} keeps no count of its values", self.function.name()))),
        };
        if empty.true_count() > 0 {
            for column in columns.iter_mut().take(self.own_columns) {
                *column = nullif(column, &empty)?;
            }
        }
        Ok(())
    }

    /// The results of groups with these columns.
    pub(super) fn result(&self, columns: &[ArrayRef], groups: usize) -> Result<ArrayRef> {
        let kept = if self.is_state { columns.first() } else { columns.last().filter(|_| self.keeps_result) };
        match kept {
            Some(result) => Ok(result.clone()),
            None => self.evaluate(columns, groups),
        }
    }

    fn evaluate(&self, columns: &[ArrayRef], groups: usize) -> Result<ArrayRef> {
        let mut accumulator = accumulator(&self.function)?;
        let own = columns.get(..self.own_columns).unwrap_or_default();
        accumulator.merge_batch(own, &(0..groups).collect::<Vec<_>>(), groups)?;
        Ok(accumulator.evaluate(EmitTo::All)?)
    }
}

fn advance(
    function: &Arc<AggregateFunctionExpr>,
    old: &[ArrayRef],
    had: usize,
    news: &News<'_>,
    groups: usize,
) -> Result<Vec<ArrayRef>> {
    let mut sum = accumulator(function)?;
    if had > 0 {
        // An accumulator takes a group below the total for one that has had a value.
        sum.merge_batch(old, &(0..had).collect::<Vec<_>>(), had)?;
    }
    let pieces = match news {
        News::Result(_) => return Err(Error::Bug(format!("{} is computed from all rows", function.name()))),
        News::States(states, number) => {
            sum.merge_batch(states, number, groups)?;
            [].as_slice()
        }
        News::Rows(pieces) => pieces,
    };
    for piece in pieces {
        sum.update_batch(piece.arguments, piece.number, piece.appended.as_ref(), piece.groups)?;
    }
    let state = sum.state(EmitTo::All)?;
    if pieces.iter().all(|p| p.retracted.is_none()) {
        return Ok(state);
    }
    let mut less = accumulator(function)?;
    for piece in pieces {
        let none = || BooleanArray::from(vec![false; piece.number.len()]);
        let retracted = piece.retracted.clone().unwrap_or_else(none);
        less.update_batch(piece.arguments, piece.number, Some(&retracted), groups)?;
    }
    state.iter().zip(&less.state(EmitTo::All)?).map(|(a, b)| subtract(a, b)).collect()
}

/// `a - b`, null counting as zero.
fn subtract(a: &ArrayRef, b: &ArrayRef) -> Result<ArrayRef> {
    macro_rules! typed {
        ($t:ty, $a:ident, $b:ident) => {
            subtract_typed::<$t>($a, $b)
        };
    }
    downcast_primitive! {
        a.data_type() => (typed, a, b),
        other => Err(Error::Bug(format!("a state of type {other} cannot be subtracted")))
    }
}

fn subtract_typed<T: ArrowPrimitiveType>(a: &ArrayRef, b: &ArrayRef) -> Result<ArrayRef>
where
    T::Native: ArrowNativeTypeOp,
{
    let (a, b) = (a.as_primitive::<T>(), b.as_primitive::<T>());
    let zero = T::default_value();
    let value = |v: Option<T::Native>| v.unwrap_or(zero);
    let result: PrimitiveArray<T> =
        PrimitiveArray::from_iter_values(a.iter().zip(b.iter()).map(|(a, b)| value(a).sub_wrapping(value(b))));
    Ok(Arc::new(result.with_data_type(a.data_type().clone())))
}

fn is_zero<T: ArrowPrimitiveType>(counts: &ArrayRef) -> BooleanArray {
    counts.as_primitive::<T>().iter().map(|c| Some(c.is_none_or(|c| c == T::default_value()))).collect()
}

/// Whether the state of rows can be subtracted from that of more rows with an exact result: sums of floats cannot, but
/// for those of whole numbers.
fn is_linear(function: &AggregateFunctionExpr, input: &SchemaRef) -> Result<bool> {
    let arguments = function.expressions();
    let Some(first) = arguments.first() else { return Ok(false) };
    let data_type = first.data_type(input)?;
    let exact = data_type.is_integer() || matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..));
    Ok(match function.fun().name() {
        "count" => true,
        "sum" => exact,
        "avg" => exact || is_whole(first, input)?,
        _ => false,
    })
}

/// Whether a float is a cast of an integer.
fn is_whole(e: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Result<bool> {
    let Some(cast) = e.downcast_ref::<CastExpr>() else { return Ok(false) };
    Ok(cast.expr().data_type(input)?.is_integer())
}

fn without_distinct(function: &AggregateFunctionExpr, input: &SchemaRef) -> Result<AggregateFunctionExpr> {
    Ok(AggregateExprBuilder::new(Arc::new(function.fun().clone()), function.expressions())
        .schema(input.clone())
        .alias(function.name())
        .order_by(function.order_bys().to_vec())
        .with_ignore_nulls(function.ignore_nulls())
        .build()?)
}

fn count_of(function: &AggregateFunctionExpr, input: &SchemaRef) -> Result<AggregateFunctionExpr> {
    Ok(AggregateExprBuilder::new(count_udaf(), function.expressions())
        .schema(input.clone())
        .alias(format!("{}[values]", function.name()))
        .build()?)
}

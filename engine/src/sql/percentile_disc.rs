//! `percentile_disc(value, q)`: the exact discrete percentile, which DataFusion lacks.
//!
//! The answer is a value that occurred: of n values that are not null, sorted, the one at place ceil(q * n), counted from
//! 1 (and the first for q = 0). Its type is the values' type; no values give null. Also written
//! `percentile_disc(q) WITHIN GROUP (ORDER BY value [DESC])`, as in the SQL standard. It keeps every value until the answer
//! is asked for. NaN sorts after all numbers.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowNumericType, ArrowPrimitiveType, AsArray, BooleanArray, ListArray,
    PrimitiveArray, PrimitiveBuilder, RecordBatch, RecordBatchOptions, downcast_primitive, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, filter, is_not_null, partition, sort, sort_to_indices};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, Expr, GroupsAccumulator, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// The function, to be registered in a session.
pub fn percentile_disc_udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(PercentileDisc {
        signature: Signature::user_defined(Volatility::Immutable),
        aliases: vec!["quantile_disc".into()],
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PercentileDisc {
    signature: Signature,
    aliases: Vec<String>,
}

impl AggregateUDFImpl for PercentileDisc {
    fn name(&self) -> &str {
        "percentile_disc"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, _] = arg_types else {
            return plan_err!(
                "percentile_disc takes a value and a fraction, and got {} arguments; write percentile_disc(value, 0.95) \
                 or percentile_disc(0.95) WITHIN GROUP (ORDER BY value)",
                arg_types.len()
            );
        };
        let value = match value {
            DataType::Null => DataType::Float64,
            DataType::Dictionary(_, of) => of.as_ref().clone(),
            other => other.clone(),
        };
        Ok(vec![value, DataType::Float64])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(value) => Ok(value.clone()),
            None => plan_err!("percentile_disc takes a value and a fraction"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "values");
        let value = args.input_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        Ok(vec![Arc::new(Field::new_list(name, Field::new_list_field(value, true), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let place = Place::of(&args)?;
        Ok(Box::new(Values { place, data_type: value_type(&args), distinct: args.is_distinct, arrays: Vec::new() }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        value_type(&args).is_primitive() && !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let place = Place::of(&args)?;
        let data_type = value_type(&args);
        macro_rules! groups {
            ($t:ty) => {
                Ok(Box::new(Groups::<$t>::new(place, data_type)) as Box<dyn GroupsAccumulator>)
            };
        }
        downcast_primitive! {
            &data_type => (groups),
            other => exec_err!("percentile_disc has no vectorised form for {other}"),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // ORDER BY in WITHIN GROUP names the value; the rows need not come sorted.
        AggregateOrderSensitivity::Insensitive
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    /// Only looks: a wrong fraction is an error when the query is planned, not when it runs.
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(Box::new(|call, _| {
            match call.params.args.get(1) {
                Some(Expr::Literal(fraction, _)) => check_fraction(fraction).map(|_| ())?,
                Some(other) if other.any_column_refs() => return plan_err!("{NOT_CONSTANT}"),
                _ => {}
            }
            Ok(Expr::AggregateFunction(call))
        }))
    }
}

const NOT_CONSTANT: &str =
    "the fraction of percentile_disc is not a constant; write a number from 0 to 1, such as 0.95";

fn check_fraction(fraction: &ScalarValue) -> Result<f64> {
    match fraction {
        ScalarValue::Float64(Some(q)) if (0.0..=1.0).contains(q) => Ok(*q),
        other => {
            plan_err!("the fraction of percentile_disc is {other}; write a number from 0 to 1, such as 0.95")
        }
    }
}

fn value_type(args: &AccumulatorArgs) -> DataType {
    args.expr_fields.first().map_or(DataType::Null, |f| f.data_type().clone())
}

/// Which of the sorted values is meant.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    q: f64,
    descending: bool,
}

impl Place {
    fn of(args: &AccumulatorArgs) -> Result<Self> {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let no_columns = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
        let q = match args.exprs.get(1).map(|e| e.evaluate(&no_columns)) {
            Some(Ok(ColumnarValue::Scalar(fraction))) => check_fraction(&fraction)?,
            _ => return plan_err!("{NOT_CONSTANT}"),
        };
        let descending = args.order_bys.first().is_some_and(|o| o.options.descending);
        Ok(Self { q, descending })
    }

    /// The index among `n` values sorted in ascending order; `None` when there are none.
    fn index(self, n: usize) -> Option<usize> {
        let product = self.q * n as f64;
        // 0.07 * 100 is 7.000000000000001 in binary; what was written is the seventh value, not the eighth.
        let nearest = product.round();
        let is_whole = (product - nearest).abs() <= nearest * 2.0 * f64::EPSILON;
        let place = if is_whole { nearest } else { product.ceil() } as usize;
        let index = place.clamp(1, n.max(1)) - 1;
        match n {
            0 => None,
            _ if self.descending => Some(n - 1 - index),
            _ => Some(index),
        }
    }

    /// The value meant; reorders the values.
    fn select<N: ArrowNativeTypeOp>(self, values: &mut [N]) -> Option<N> {
        let index = self.index(values.len())?;
        let (_, value, _) = values.select_nth_unstable_by(index, |a, b| a.compare(*b));
        Some(*value)
    }
}

/// One group, any type.
#[derive(Debug)]
struct Values {
    place: Place,
    data_type: DataType,
    distinct: bool,
    /// Without nulls.
    arrays: Vec<ArrayRef>,
}

impl Values {
    fn push(&mut self, array: &ArrayRef) -> Result<()> {
        let array = match array.null_count() {
            0 => array.clone(),
            _ => filter(array, &is_not_null(array)?)?,
        };
        if !array.is_empty() {
            self.arrays.push(array);
        }
        Ok(())
    }

    /// All values as one array; asking again must give them again, as windows do.
    fn all(&mut self) -> Result<ArrayRef> {
        if self.arrays.is_empty() {
            return Ok(new_empty_array(&self.data_type));
        }
        let arrays: Vec<&dyn Array> = self.arrays.iter().map(AsRef::as_ref).collect();
        let all = concat(&arrays)?;
        self.arrays = vec![all.clone()];
        Ok(all)
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.first().map_or(Ok(()), |array| self.push(array))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let all = self.all()?;
        let index = if self.distinct {
            let sorted = sort(&all, None)?;
            let firsts = partition(std::slice::from_ref(&sorted))?.ranges();
            let first = self.place.index(firsts.len()).and_then(|i| firsts.get(i));
            return match first {
                Some(range) => ScalarValue::try_from_array(&sorted, range.start),
                None => ScalarValue::try_from(&self.data_type),
            };
        } else {
            self.place.index(all.len())
        };
        let Some(index) = index else {
            return ScalarValue::try_from(&self.data_type);
        };
        macro_rules! select {
            ($t:ty) => {{
                let mut values = all.as_primitive::<$t>().values().to_vec();
                ScalarValue::new_primitive::<$t>(self.place.select(&mut values), &self.data_type)
            }};
        }
        downcast_primitive! {
            &self.data_type => (select),
            _ => {
                let indices = sort_to_indices(&all, None, Some(index + 1))?;
                ScalarValue::try_from_array(&all, indices.value(index) as usize)
            }
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.arrays.iter().map(|a| a.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![SingleRowListArrayBuilder::new(self.all()?).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in states.iter().flat_map(|lists| lists.as_list::<i32>().iter().flatten()) {
            self.push(&values)?;
        }
        Ok(())
    }
}

/// Many groups of a primitive type: two flat columns, sorted by group only when asked.
#[derive(Debug)]
struct Groups<T: ArrowPrimitiveType> {
    place: Place,
    data_type: DataType,
    values: Vec<T::Native>,
    /// The group of each value.
    groups: Vec<usize>,
    group_count: usize,
}

impl<T: ArrowPrimitiveType> Groups<T> {
    fn new(place: Place, data_type: DataType) -> Self {
        Self { place, data_type, values: Vec::new(), groups: Vec::new(), group_count: 0 }
    }

    /// The values of the emitted groups, group by group, and where each group begins; later groups move to the front.
    fn take(&mut self, emit_to: EmitTo) -> (Vec<T::Native>, Vec<usize>) {
        let emitted = match emit_to {
            EmitTo::All => self.group_count,
            EmitTo::First(n) => n.min(self.group_count),
        };
        let mut starts = vec![0; emitted + 1];
        for group in self.groups.iter().filter(|g| **g < emitted) {
            starts[group + 1] += 1;
        }
        for i in 0..emitted {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut sorted = vec![T::Native::default(); starts[emitted]];
        let mut kept = 0;
        for i in 0..self.groups.len() {
            let (group, value) = (self.groups[i], self.values[i]);
            if group < emitted {
                sorted[next[group]] = value;
                next[group] += 1;
            } else {
                (self.groups[kept], self.values[kept]) = (group - emitted, value);
                kept += 1;
            }
        }
        self.groups.truncate(kept);
        self.values.truncate(kept);
        if kept == 0 {
            // Memory is given back: the state may stand idle until its window fills again.
            (self.groups, self.values) = (Vec::new(), Vec::new());
        }
        self.group_count -= emitted;
        (sorted, starts)
    }

    fn list(&self, values: PrimitiveArray<T>, starts: &[usize], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        if i32::try_from(values.len()).is_err() {
            return exec_err!("percentile_disc cannot move more than 2147483647 values in one batch of its state");
        }
        let offsets = OffsetBuffer::from_lengths(starts.windows(2).map(|w| w[1] - w[0]));
        let field = Arc::new(Field::new_list_field(self.data_type.clone(), true));
        Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(values), nulls)?))
    }
}

fn argument<'a>(values: &'a [ArrayRef], what: &str) -> Result<&'a ArrayRef> {
    values.first().ok_or_else(|| DataFusionError::Internal(format!("percentile_disc got no {what}")))
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for Groups<T>
where
    T: ArrowNumericType,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.group_count = total_num_groups;
        let array = argument(values, "values")?.as_primitive::<T>();
        if array.null_count() == 0 && opt_filter.is_none() {
            self.values.extend_from_slice(array.values());
            self.groups.extend_from_slice(group_indices);
            return Ok(());
        }
        let passes = |row: usize| opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        for (row, (group, value)) in group_indices.iter().zip(array.iter()).enumerate() {
            if let Some(value) = value.filter(|_| passes(row)) {
                self.values.push(value);
                self.groups.push(*group);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (mut values, starts) = self.take(emit_to);
        let mut answers = PrimitiveBuilder::<T>::with_capacity(starts.len()).with_data_type(self.data_type.clone());
        for group in starts.windows(2) {
            answers.append_option(self.place.select(&mut values[group[0]..group[1]]));
        }
        Ok(Arc::new(answers.finish()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (values, starts) = self.take(emit_to);
        let values = PrimitiveArray::<T>::new(values.into(), None).with_data_type(self.data_type.clone());
        Ok(vec![self.list(values, &starts, None)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.group_count = total_num_groups;
        let lists = argument(values, "state")?.as_list::<i32>();
        for (group, list) in group_indices.iter().zip(lists.iter()) {
            let Some(list) = list else { continue };
            let array = list.as_primitive::<T>();
            self.values.extend(array.iter().flatten());
            self.groups.resize(self.values.len(), *group);
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let array = argument(values, "values")?.as_primitive::<T>();
        let filtered = opt_filter.map(|f| f.iter().map(|passes| passes == Some(true)).collect::<NullBuffer>());
        let nulls = NullBuffer::union(array.nulls(), filtered.as_ref());
        let starts: Vec<usize> = (0..=array.len()).collect();
        let plain = PrimitiveArray::<T>::new(array.values().clone(), None).with_data_type(self.data_type.clone());
        Ok(vec![self.list(plain, &starts, nulls)?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + self.values.capacity() * size_of::<T::Native>()
            + self.groups.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    fn context(partitions: Vec<Vec<RecordBatch>>) -> SessionContext {
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4).with_batch_size(16));
        context.register_udaf(percentile_disc_udaf().as_ref().clone());
        let schema = partitions[0][0].schema();
        context.register_table("t", Arc::new(MemTable::try_new(schema, partitions).unwrap())).unwrap();
        context
    }

    async fn answer(context: &SessionContext, sql: &str) -> String {
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    async fn one(context: &SessionContext, expression: &str) -> String {
        let table = answer(context, &format!("SELECT CAST({expression} AS VARCHAR) FROM t")).await;
        table.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_string()
    }

    fn hundred() -> SessionContext {
        // 1 to 100 in a mixed order, with nulls between, in two partitions.
        let value = |i: i64| (i % 11 != 0).then_some((i * 37) % 101);
        let rows: Vec<i64> = (1..=100).collect();
        let batch = |rows: &[i64]| {
            let v: Int64Array = rows.iter().map(|i| Some((i * 37) % 101)).collect();
            let n: Int64Array = rows.iter().map(|i| value(*i)).collect();
            let s: StringArray = rows.iter().map(|i| Some(format!("{:03}", (i * 37) % 101))).collect();
            RecordBatch::try_from_iter([
                ("v", Arc::new(v) as ArrayRef),
                ("n", Arc::new(n) as ArrayRef),
                ("s", Arc::new(s) as ArrayRef),
            ])
            .unwrap()
        };
        context(vec![vec![batch(&rows[..33]), batch(&rows[33..60])], vec![batch(&rows[60..])]])
    }

    #[tokio::test]
    async fn gives_the_value_at_the_place_that_was_written() {
        let t = hundred();
        assert_eq!(one(&t, "percentile_disc(v, 0)").await, "1");
        assert_eq!(one(&t, "percentile_disc(v, 0.07)").await, "7", "0.07 * 100 is a little over 7 in binary");
        assert_eq!(one(&t, "percentile_disc(v, 0.071)").await, "8");
        assert_eq!(one(&t, "percentile_disc(v, 0.95)").await, "95");
        assert_eq!(one(&t, "percentile_disc(v, 1)").await, "100");
        assert_eq!(one(&t, "quantile_disc(v, 0.5)").await, "50");
        assert_eq!(one(&t, "percentile_disc(0.95) WITHIN GROUP (ORDER BY v)").await, "95");
        assert_eq!(one(&t, "percentile_disc(0.95) WITHIN GROUP (ORDER BY v DESC)").await, "6");
        assert_eq!(one(&t, "percentile_disc(s, 0.95)").await, "095");
        assert_eq!(one(&t, "percentile_disc(DISTINCT v / 10, 0.5)").await, "5");
        assert_eq!(one(&t, "percentile_disc(v, 0.5) FILTER (WHERE v > 90)").await, "95");
        assert_eq!(one(&t, "percentile_disc(to_timestamp(v), 0.5)").await, "1970-01-01T00:00:50");
        assert_eq!(one(&t, "percentile_disc(CAST(v AS DECIMAL(10,2)), 0.5)").await, "50.00");
        assert_eq!(one(&t, "arrow_typeof(percentile_disc(CAST(v AS INT), 0.5))").await, "Int32");
        assert_eq!(one(&t, "coalesce(percentile_disc(v, 0.5) FILTER (WHERE v > 1000), -1)").await, "-1");
    }

    #[tokio::test]
    async fn groups_agree_with_sorting_by_hand() {
        let t = hundred();
        for q in [0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 1.0] {
            for column in ["v", "n"] {
                let sql =
                    format!("SELECT v % 7 AS g, percentile_disc({column}, {q}) AS p FROM t GROUP BY 1 ORDER BY 1");
                let by_hand = format!(
                    "SELECT g, min(x) AS p FROM (SELECT v % 7 AS g, {column} AS x, row_number() OVER (PARTITION BY v % 7 \
                     ORDER BY {column}) AS place, count({column}) OVER (PARTITION BY v % 7) AS n FROM t WHERE {column} IS \
                     NOT NULL) WHERE place = greatest(1, ceil({q} * n)) GROUP BY g ORDER BY g"
                );
                assert_eq!(answer(&t, &sql).await, answer(&t, &by_hand).await, "q = {q} of {column}");
            }
        }
    }

    #[tokio::test]
    async fn each_row_of_a_running_window_is_asked_again() {
        let t = hundred();
        let sql = "SELECT max(p) AS p FROM (SELECT percentile_disc(v, 0.5) OVER (ORDER BY v) AS p FROM t)";
        assert!(answer(&t, sql).await.contains("| 50 |"));
    }

    #[test]
    fn the_state_merges_and_emits_in_parts() {
        let place = Place { q: 0.5, descending: false };
        let new = || Groups::<arrow::datatypes::Int64Type>::new(place, DataType::Int64);
        let column = |v: &[i64]| vec![Arc::new(Int64Array::from(v.to_vec())) as ArrayRef];
        let (mut left, mut right) = (new(), new());
        left.update_batch(&column(&[1, 5, 9, 4]), &[0, 0, 1, 2], None, 4).unwrap();
        right.update_batch(&column(&[3, 7]), &[1, 0], None, 2).unwrap();
        let first = right.state(EmitTo::First(1)).unwrap();
        let rest = right.state(EmitTo::All).unwrap();
        left.merge_batch(&rest, &[0], 4).unwrap();
        left.merge_batch(&first, &[1], 4).unwrap();
        assert_eq!(left.evaluate(EmitTo::First(1)).unwrap().as_primitive::<arrow::datatypes::Int64Type>().value(0), 3);
        let rest = left.evaluate(EmitTo::All).unwrap();
        let expected: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(4), None]));
        assert_eq!(&rest, &expected);
    }

    #[tokio::test]
    async fn a_wrong_fraction_is_refused_when_planning() {
        let t = hundred();
        for (call, said) in [
            ("percentile_disc(v, 1.5)", "the fraction of percentile_disc is 1.5; write a number from 0 to 1"),
            ("percentile_disc(v, NULL)", "the fraction of percentile_disc is NULL"),
            ("percentile_disc(v, v / 100.0)", "not a constant"),
            ("percentile_disc(v)", "takes a value and a fraction"),
        ] {
            let planned = match t.sql(&format!("SELECT {call} FROM t")).await {
                Ok(frame) => frame.create_physical_plan().await.map(|_| ()),
                Err(e) => Err(e),
            };
            let message = planned.unwrap_err().to_string();
            assert!(message.contains(said), "{call}: {message}");
        }
    }
}

//! `sorted_set(number)`: the different whole numbers of a group, ascending, as a list; no numbers give null.
//!
//! It says what `array_agg(DISTINCT number ORDER BY number)` says, without a hash table and a sort of every group at once: days on which
//! people were active come in runs, so most repetitions are seen when they come.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

/// The function, to be registered in a session.
pub fn sorted_set_udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(SortedSet { signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SortedSet {
    signature: Signature,
}

impl AggregateUDFImpl for SortedSet {
    fn name(&self) -> &str {
        "sorted_set"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [number] if number.is_integer() || number.is_null() => Ok(vec![DataType::Int64]),
            _ => plan_err!("sorted_set takes one column of whole numbers; write sorted_set(CAST(day AS INT))"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(item()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "numbers"), DataType::List(item()), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.plain(&args)?;
        Ok(Box::new(One(Groups::default())))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.plain(&args)?;
        Ok(Box::new(Groups::default()))
    }
}

impl SortedSet {
    fn plain(&self, args: &AccumulatorArgs) -> Result<()> {
        if args.is_distinct {
            return plan_err!("sorted_set has each number once as it is; leave DISTINCT out");
        }
        Ok(())
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Int64, true))
}

/// The numbers of each group, those in a row that are equal once.
#[derive(Debug, Default)]
struct Groups {
    sets: Vec<Vec<i64>>,
}

impl Groups {
    fn add(&mut self, group: usize, number: i64) {
        if let Some(set) = self.sets.get_mut(group)
            && set.last() != Some(&number)
        {
            set.push(number);
        }
    }

    fn lists(sets: Vec<Vec<i64>>) -> Result<ArrayRef> {
        let mut numbers = Vec::new();
        let mut lengths = Vec::with_capacity(sets.len());
        let mut known = Vec::with_capacity(sets.len());
        for mut set in sets {
            set.sort_unstable();
            set.dedup();
            known.push(!set.is_empty());
            lengths.push(set.len());
            numbers.append(&mut set);
        }
        if i32::try_from(numbers.len()).is_err() {
            return exec_err!("sorted_set cannot give more than 2147483647 numbers in one batch");
        }
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = Some(NullBuffer::from(known));
        Ok(Arc::new(ListArray::try_new(item(), offsets, Arc::new(Int64Array::from(numbers)), nulls)?))
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.sets.resize_with(total_num_groups, Vec::new);
        let Some(numbers) = values.first() else { return internal_err!("sorted_set got no values") };
        let passes = |row: usize| opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        for (row, (group, number)) in group_indices.iter().zip(numbers.as_primitive::<Int64Type>()).enumerate() {
            if let Some(number) = number.filter(|_| passes(row)) {
                self.add(*group, number);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.sets.resize_with(total_num_groups, Vec::new);
        let Some(lists) = states.first() else { return internal_err!("sorted_set got no state") };
        for (group, list) in group_indices.iter().zip(lists.as_list::<i32>().iter()) {
            for number in list.iter().flat_map(|list| list.as_primitive::<Int64Type>().iter().flatten()) {
                self.add(*group, number);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Self::lists(emit_to.take_needed(&mut self.sets))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut rows = Self::default();
        let places: Vec<usize> = (0..values.first().map_or(0, |values| values.len())).collect();
        rows.update_batch(values, &places, opt_filter, places.len())?;
        rows.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + self.sets.capacity() * size_of::<Vec<i64>>()
            + self.sets.iter().map(|set| set.capacity() * size_of::<i64>()).sum::<usize>()
    }
}

/// All rows are one group.
#[derive(Debug)]
struct One(Groups);

impl One {
    fn all(&self) -> Result<ScalarValue> {
        let set = self.0.sets.first().cloned().unwrap_or_default();
        ScalarValue::try_from_array(&Groups::lists(vec![set])?, 0)
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |values| values.len());
        self.0.update_batch(values, &vec![0; rows], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.all()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.all()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |states| states.len());
        self.0.merge_batch(states, &vec![0; rows], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(lists: &ArrayRef, group: usize) -> Option<Vec<i64>> {
        let lists = lists.as_list::<i32>();
        lists.is_valid(group).then(|| lists.value(group).as_primitive::<Int64Type>().values().to_vec())
    }

    #[test]
    fn each_number_once_and_in_order_per_group() {
        let mut groups = Groups::default();
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), Some(1), None, Some(3), Some(3), Some(-2)]));
        groups.update_batch(&[values], &[0, 0, 1, 2, 0, 2], None, 4).unwrap();
        let state = groups.state(EmitTo::All).unwrap();
        let mut merged = Groups::default();
        merged.merge_batch(&state, &[0, 1, 1, 2], 3).unwrap();
        let first = merged.evaluate(EmitTo::First(1)).unwrap();
        assert_eq!(numbers(&first, 0), Some(vec![1, 3]));
        let rest = merged.evaluate(EmitTo::All).unwrap();
        assert_eq!((numbers(&rest, 0), numbers(&rest, 1)), (Some(vec![-2, 3]), None), "the others have moved up");
    }

    #[test]
    fn rows_that_a_filter_leaves_out_are_left_out() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let filter = BooleanArray::from(vec![Some(true), None, Some(false)]);
        let state = Groups::default().convert_to_state(&[values], Some(&filter)).unwrap();
        let lists: Vec<_> = (0..3).map(|row| numbers(&state[0], row)).collect();
        assert_eq!(lists, [Some(vec![1]), None, None]);
    }
}

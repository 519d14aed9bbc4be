//! What an operator keeps per partition of its rows (`PARTITION BY`), until a partition has been without news too long.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use crate::error::Result;

/// A table of expired partitions is only built anew from this many on.
const DEAD_MIN: usize = 1_024;

/// Values by partition. A partition's number holds until the next [`Partitions::remove_where`].
pub struct Partitions<T> {
    schema: SchemaRef,
    /// `None` where there is one partition.
    table: Option<Box<dyn GroupValues>>,
    slots: Vec<Option<T>>,
}

impl<T> Partitions<T> {
    /// None yet; `fields` are the columns of `PARTITION BY`.
    pub fn new(fields: &[FieldRef]) -> Result<Self> {
        let schema = Arc::new(Schema::new(fields.to_vec()));
        Ok(Self { table: Self::table(&schema)?, schema, slots: Vec::new() })
    }

    fn table(schema: &SchemaRef) -> Result<Option<Box<dyn GroupValues>>> {
        if schema.fields().is_empty() {
            return Ok(None);
        }
        Ok(Some(new_group_values(schema.clone(), &GroupOrdering::None)?))
    }

    /// The partition of each row.
    pub fn of(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
        let mut ids = Vec::with_capacity(rows);
        let count = match &mut self.table {
            Some(table) => {
                table.intern(columns, &mut ids)?;
                table.len()
            }
            None => {
                ids.resize(rows, 0);
                1
            }
        };
        self.slots.resize_with(count.max(self.slots.len()), || None);
        Ok(ids)
    }

    /// What is kept for a partition.
    pub fn get(&self, id: usize) -> Option<&T> {
        self.slots.get(id).and_then(Option::as_ref)
    }

    /// Where the value of a partition is kept.
    pub fn slot(&mut self, id: usize) -> Option<&mut Option<T>> {
        self.slots.get_mut(id)
    }

    /// Everything that is kept.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    /// Everything that is kept.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    /// Takes out the values for which `dead` is true, and frees their memory once they are the greater part.
    pub fn remove_where(&mut self, dead: impl Fn(&T) -> bool) -> Result<Vec<T>> {
        let removed: Vec<T> = self.slots.iter_mut().filter_map(|slot| slot.take_if(|value| dead(value))).collect();
        let live: Vec<u32> =
            self.slots.iter().enumerate().filter(|(_, s)| s.is_some()).map(|(i, _)| i as u32).collect();
        let gone = self.slots.len() - live.len();
        if let Some(table) = &mut self.table
            && gone > live.len().max(DEAD_MIN)
        {
            let columns = table.emit(EmitTo::All)?;
            let live = UInt32Array::from(live);
            let columns = columns.iter().map(|c| Ok(take(c, &live, None)?)).collect::<Result<Vec<_>>>()?;
            self.table = Self::table(&self.schema)?;
            let slots: Vec<Option<T>> = std::mem::take(&mut self.slots).into_iter().filter(Option::is_some).collect();
            // New numbers are given in the order of first appearance, which is that of the slots.
            self.of(&columns, live.len())?;
            self.slots = slots;
        }
        Ok(removed)
    }

    /// Bytes held beside the values, roughly.
    pub fn size(&self) -> usize {
        self.table.as_ref().map_or(0, |t| t.size()) + self.slots.capacity() * size_of::<Option<T>>()
    }
}

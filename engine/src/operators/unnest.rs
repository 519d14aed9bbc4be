//! `unnest`: one row per element of a list, one column per field of a struct.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::spec::{Place, Spec};
use super::{Operator, Output};
use crate::error::{Error, Result};
use crate::message::Rows;

/// What becomes of one input column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// It is repeated for each element.
    Keep,
    /// Its elements are rows; lists in lists are opened this many times.
    List(usize),
    /// Its fields are columns.
    Struct,
}

/// Opens lists and structs. *Shape*: `schema`, the input's columns in order, opened ones replaced. Lists side by side are
/// opened together, the shorter ones filled with null; a row whose lists are all empty or null vanishes. Event times and
/// row watermarks are those of the row that held the list. *Order*: kept.
#[derive(Debug, Clone)]
pub struct Unnest {
    /// One per input column.
    pub columns: Vec<Column>,
    /// The output columns.
    pub schema: SchemaRef,
}

impl Spec for Unnest {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        format!("unnest to {}", names.join(", "))
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for Unnest {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let mut columns = rows.batch.columns().to_vec();
        // Where each row came from, once lists are opened.
        let mut origin: Option<UInt32Array> = None;
        let depth = self.columns.iter().map(|c| if let Column::List(n) = c { *n } else { 0 }).max().unwrap_or(0);
        for level in 0..depth {
            let opens: Vec<bool> =
                self.columns.iter().map(|c| matches!(c, Column::List(n) if *n + level >= depth)).collect();
            let rows = open_lists(&mut columns, &opens)?;
            origin = Some(match origin {
                None => rows,
                Some(before) => take(&before, &rows, None)?.as_primitive().clone(),
            });
        }
        let rows = match &origin {
            None => rows,
            Some(origin) => {
                let empty = RecordBatch::try_new_with_options(
                    Arc::new(arrow::datatypes::Schema::empty()),
                    Vec::new(),
                    &RecordBatchOptions::new().with_row_count(Some(rows.len())),
                )?;
                Rows { batch: empty, ..rows }.take(origin)?
            }
        };
        let mut opened = Vec::with_capacity(self.schema.fields().len());
        for (column, what) in columns.into_iter().zip(&self.columns) {
            match (what, column.as_struct_opt()) {
                (Column::Struct, Some(s)) => opened.extend(fields_of(s)?),
                (Column::Struct, None) => return Err(Error::Bug("unnest of a column that is no struct".into())),
                _ => opened.push(column),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.time.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), opened, &options)?;
        out.batches.push(Rows { batch, ..rows });
        Ok(())
    }
}

/// The fields of a struct, null where the struct is.
fn fields_of(s: &arrow::array::StructArray) -> Result<Vec<ArrayRef>> {
    let Some(nulls) = s.nulls() else { return Ok(s.columns().to_vec()) };
    let kept: UInt32Array = (0..s.len()).map(|i| nulls.is_valid(i).then_some(i as u32)).collect();
    s.columns().iter().map(|c| Ok(take(c, &kept, None)?)).collect()
}

/// Opens some of the columns and repeats the others; returns the row that each new row came from.
fn open_lists(columns: &mut [ArrayRef], opens: &[bool]) -> Result<UInt32Array> {
    let lists = columns
        .iter()
        .zip(opens)
        .map(|(c, opens)| if *opens { List::of(c).map(Some) } else { Ok(None) })
        .collect::<Result<Vec<_>>>()?;
    let count = columns.first().map_or(0, |c| c.len());
    let longest = |row: usize| lists.iter().flatten().map(|l| l.length(row)).max().unwrap_or(0);
    let mut origin: Vec<u32> = Vec::new();
    for row in 0..count {
        origin.extend(std::iter::repeat_n(row as u32, longest(row)));
    }
    let origin = UInt32Array::from(origin);
    for (column, list) in columns.iter_mut().zip(&lists) {
        *column = match list {
            None => take(column, &origin, None)?,
            Some(list) => {
                let mut places: Vec<Option<u64>> = Vec::with_capacity(origin.len());
                for row in 0..count {
                    let (first, own) = list.bounds.get(row).copied().unwrap_or_default();
                    places.extend((0..longest(row)).map(|n| (n < own).then_some((first + n) as u64)));
                }
                take(&list.values, &UInt64Array::from(places), None)?
            }
        };
    }
    Ok(origin)
}

/// A list column, whatever its layout.
struct List {
    values: ArrayRef,
    /// First element and length of each row's list; a null list is empty.
    bounds: Vec<(usize, usize)>,
}

impl List {
    fn of(column: &ArrayRef) -> Result<Self> {
        let bound = |row: usize, start: usize, end: usize| {
            if column.is_null(row) { (0, 0) } else { (start, end - start) }
        };
        let of_offsets = |offsets: Vec<usize>| {
            let ends = offsets.iter().skip(1);
            offsets.iter().zip(ends).enumerate().map(|(row, (start, end))| bound(row, *start, *end)).collect::<Vec<_>>()
        };
        let (values, bounds) = match column.data_type() {
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                (list.values(), of_offsets(list.value_offsets().iter().map(|o| *o as usize).collect()))
            }
            DataType::LargeList(_) => {
                let list = column.as_list::<i64>();
                (list.values(), of_offsets(list.value_offsets().iter().map(|o| *o as usize).collect()))
            }
            DataType::FixedSizeList(_, size) => {
                let (list, size) = (column.as_fixed_size_list(), *size as usize);
                let first = list.value_offset(0) as usize;
                let bounds = (0..list.len()).map(|row| bound(row, first + row * size, first + (row + 1) * size));
                (list.values(), bounds.collect())
            }
            other => return Err(Error::Bug(format!("unnest of a column of type {other}"))),
        };
        Ok(Self { values: values.clone(), bounds })
    }

    fn length(&self, row: usize) -> usize {
        self.bounds.get(row).map_or(0, |(_, length)| *length)
    }
}

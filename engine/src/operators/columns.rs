//! A column whose rows can be replaced one by one: what operators keep by key.
//!
//! Values of a fixed width lie in a vector and are written in place. Others (text, lists) lie in Arrow arrays that are
//! never changed: each write appends an array, and a row's place says which one holds its newest value. What lies at no
//! row's place is dropped when it is more than half of all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, downcast_primitive, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, interleave};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};

/// Arrays with fewer rows than this are joined with what is written next, so that single rows do not become arrays.
const CHUNK_ROWS_MIN: usize = 1024;

/// A column by row number.
pub trait Column: Send {
    /// Makes room for `rows` rows in all; what new ones hold is not specified until they are written.
    fn resize(&mut self, rows: usize);

    /// Writes `values` to the rows named, each at most once.
    fn write(&mut self, rows: &[u32], values: &ArrayRef) -> Result<()>;

    /// The values of the rows named, in that order.
    fn read(&self, rows: &[u32]) -> Result<ArrayRef>;

    /// Bytes held, roughly.
    fn bytes(&self) -> usize;
}

/// An empty column of a type.
pub fn column(data_type: &DataType) -> Box<dyn Column> {
    macro_rules! fixed {
        ($t:ty, $data_type:ident) => {
            Box::new(Fixed::<$t> { data_type: $data_type.clone(), values: Vec::new(), valid: None })
        };
    }
    downcast_primitive! {
        data_type => (fixed, data_type),
        _ => Box::new(Versioned { data_type: data_type.clone(), chunks: Vec::new(), places: Vec::new(), written: 0 })
    }
}

struct Fixed<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<T::Native>,
    /// Which rows are not null; `None` as long as none is.
    valid: Option<Vec<bool>>,
}

impl<T: ArrowPrimitiveType> Column for Fixed<T> {
    fn resize(&mut self, rows: usize) {
        self.values.resize(rows, T::default_value());
        if let Some(valid) = &mut self.valid {
            valid.resize(rows, true);
        }
    }

    fn write(&mut self, rows: &[u32], values: &ArrayRef) -> Result<()> {
        let values = values.as_primitive_opt::<T>().ok_or_else(|| {
            Error::Bug(format!("a column of type {} was given {}", self.data_type, values.data_type()))
        })?;
        for (row, value) in rows.iter().zip(values.values()) {
            if let Some(slot) = self.values.get_mut(*row as usize) {
                *slot = *value;
            }
        }
        if values.null_count() == 0 && self.valid.is_none() {
            return Ok(());
        }
        let valid = self.valid.get_or_insert_with(|| vec![true; self.values.len()]);
        for (i, row) in rows.iter().enumerate() {
            if let Some(slot) = valid.get_mut(*row as usize) {
                *slot = values.is_valid(i);
            }
        }
        Ok(())
    }

    fn read(&self, rows: &[u32]) -> Result<ArrayRef> {
        let value = |r: &u32| self.values.get(*r as usize).copied().unwrap_or_default();
        let values: Vec<T::Native> = rows.iter().map(value).collect();
        let nulls = self
            .valid
            .as_ref()
            .map(|valid| rows.iter().map(|r| valid.get(*r as usize).copied().unwrap_or(false)).collect::<NullBuffer>());
        let nulls = nulls.filter(|n| n.null_count() > 0);
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(self.data_type.clone())))
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.valid.as_ref().map_or(0, Vec::capacity)
    }
}

/// Which array, and which of its rows.
type PlaceIn = (u32, u32);

struct Versioned {
    data_type: DataType,
    chunks: Vec<ArrayRef>,
    places: Vec<PlaceIn>,
    /// Rows in all chunks.
    written: usize,
}

impl Column for Versioned {
    fn resize(&mut self, rows: usize) {
        self.places.resize(rows, (u32::MAX, 0));
    }

    fn write(&mut self, rows: &[u32], values: &ArrayRef) -> Result<()> {
        let last = self.chunks.len().saturating_sub(1);
        let at = match self.chunks.last_mut().filter(|c| c.len() < CHUNK_ROWS_MIN) {
            Some(chunk) => {
                let from = chunk.len();
                *chunk = concat(&[chunk.as_ref(), values.as_ref()])?;
                (last, from)
            }
            None => {
                self.chunks.push(values.clone());
                (self.chunks.len() - 1, 0)
            }
        };
        for (i, row) in rows.iter().enumerate() {
            if let Some(place) = self.places.get_mut(*row as usize) {
                *place = (at.0 as u32, (at.1 + i) as u32);
            }
        }
        self.written += values.len();
        if self.written > 2 * self.places.len() + CHUNK_ROWS_MIN {
            self.compact()?;
        }
        Ok(())
    }

    fn read(&self, rows: &[u32]) -> Result<ArrayRef> {
        // A row that was never written reads as null.
        let null = new_null_array(self.chunks.first().map_or(&self.data_type, |c| c.data_type()), 1);
        let mut chunks: Vec<&dyn Array> = self.chunks.iter().map(|c| c.as_ref()).collect();
        chunks.push(null.as_ref());
        let missing = (chunks.len() - 1, 0);
        let place = |row: &u32| match self.places.get(*row as usize) {
            Some((chunk, at)) if *chunk != u32::MAX => (*chunk as usize, *at as usize),
            _ => missing,
        };
        Ok(interleave(&chunks, &rows.iter().map(place).collect::<Vec<_>>())?)
    }

    fn bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
            + self.places.capacity() * size_of::<PlaceIn>()
    }
}

impl Versioned {
    /// Writes the newest values anew as one array.
    fn compact(&mut self) -> Result<()> {
        let live: Vec<u32> = (0..self.places.len() as u32).collect();
        let all = self.read(&live)?;
        self.places = (0..all.len() as u32).map(|i| (0, i)).collect();
        self.written = all.len();
        self.chunks = vec![all];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_are_replaced_and_old_values_dropped() {
        let mut numbers = column(&DataType::Int64);
        let mut texts = column(&DataType::Utf8);
        let mut expected: Vec<Option<i64>> = vec![None; 500];
        numbers.resize(500);
        texts.resize(500);
        let all: Vec<u32> = (0..500).collect();
        numbers.write(&all, &new_null_array(&DataType::Int64, 500)).unwrap();
        for round in 0..400_i64 {
            let rows: Vec<u32> = (0..40).map(|i| ((round * 7 + i * 11) % 500) as u32).collect();
            let values: Vec<Option<i64>> = (0..40).map(|i| (i % 5 != 0).then_some(round * 100 + i)).collect();
            for (row, value) in rows.iter().zip(&values) {
                expected[*row as usize] = *value;
            }
            let as_text: StringArray = values.iter().map(|v| v.map(|v| v.to_string())).collect();
            numbers.write(&rows, &(Arc::new(Int64Array::from(values)) as ArrayRef)).unwrap();
            texts.write(&rows, &(Arc::new(as_text) as ArrayRef)).unwrap();
        }
        let numbers = numbers.read(&all).unwrap();
        assert_eq!(numbers.as_primitive::<arrow::datatypes::Int64Type>(), &Int64Array::from(expected.clone()));
        assert!(texts.bytes() < 64 * 1024, "{} bytes for 500 short texts", texts.bytes());
        let texts = texts.read(&all).unwrap();
        let expected: StringArray = expected.iter().map(|v| v.map(|v| v.to_string())).collect();
        assert_eq!(texts.as_string::<i32>(), &expected);
    }
}

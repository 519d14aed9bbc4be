//! A column whose rows can be replaced one by one: what operators keep by key.
//!
//! Values of a fixed width lie in a vector and are written in place. Others (text, lists) lie in Arrow arrays that are
//! never changed: each write appends an array, and a row's place says which one holds its newest value. What lies at no
//! row's place is dropped when it is more than half of all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, downcast_primitive, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, concat, interleave};
use arrow::datatypes::{ArrowNativeType, DataType, Int8Type, Int16Type, Int32Type};

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

    /// The same for a file: integers of eight bytes are of fewer, if all of them fit. [`widened`] undoes it.
    fn read_narrow(&self, rows: &[u32]) -> Result<ArrayRef> {
        self.read(rows)
    }

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
        let values: Vec<T::Native> = rows.iter().map(|r| self.value(*r)).collect();
        let array = PrimitiveArray::<T>::new(values.into(), self.nulls(rows));
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn read_narrow(&self, rows: &[u32]) -> Result<ArrayRef> {
        // Every bit that some value needs beside its sign; all, if one is above the signed range.
        let needed = |value: i64| (value ^ (value >> 63)) as u64;
        let bits = |all: u64, row: &u32| all | self.value(*row).to_i64().map_or(u64::MAX, needed);
        match is_wide(&self.data_type).then(|| rows.iter().fold(0, bits)) {
            Some(..=0x7f) => Ok(self.narrow::<Int8Type>(rows, |v| v as i8)),
            Some(..=0x7fff) => Ok(self.narrow::<Int16Type>(rows, |v| v as i16)),
            Some(..=0x7fff_ffff) => Ok(self.narrow::<Int32Type>(rows, |v| v as i32)),
            _ => self.read(rows),
        }
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.valid.as_ref().map_or(0, Vec::capacity)
    }
}

impl<T: ArrowPrimitiveType> Fixed<T> {
    fn value(&self, row: u32) -> T::Native {
        self.values.get(row as usize).copied().unwrap_or_default()
    }

    fn nulls(&self, rows: &[u32]) -> Option<NullBuffer> {
        let valid = self.valid.as_ref()?;
        let is_valid = |row: &u32| valid.get(*row as usize).copied().unwrap_or(false);
        Some(rows.iter().map(is_valid).collect::<NullBuffer>()).filter(|n| n.null_count() > 0)
    }

    fn narrow<N: ArrowPrimitiveType>(&self, rows: &[u32], to: impl Fn(i64) -> N::Native) -> ArrayRef {
        let value = |row: &u32| to(self.value(*row).to_i64().unwrap_or_default());
        let values: Vec<N::Native> = rows.iter().map(value).collect();
        Arc::new(PrimitiveArray::<N>::new(values.into(), self.nulls(rows)))
    }
}

/// Whether values are integers of eight bytes.
fn is_wide(data_type: &DataType) -> bool {
    use DataType::{Date64, Duration, Int64, Time64, Timestamp, UInt64};
    matches!(data_type, Int64 | UInt64 | Timestamp(..) | Duration(_) | Date64 | Time64(_))
}

/// What [`Column::read_narrow`] gave of a column of `data_type`, as it was.
pub fn widened(values: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let is_narrow = matches!(values.data_type(), DataType::Int8 | DataType::Int16 | DataType::Int32);
    if !is_narrow || !is_wide(data_type) {
        return Ok(values.clone());
    }
    Ok(cast(&cast(values, &DataType::Int64)?, data_type)?)
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

    #[test]
    fn integers_are_written_in_as_few_bytes_as_hold_them() {
        use DataType::{Date64, Duration, Float64, Int8, Int16, Int32, Int64, Time64, Timestamp, UInt64};
        use arrow::datatypes::TimeUnit::{Microsecond, Nanosecond};
        let written = |data_type: &DataType, values: Vec<Option<i64>>| {
            let values = cast(&Int64Array::from(values), data_type).unwrap();
            let rows: Vec<u32> = (0..values.len() as u32).rev().collect();
            let mut column = column(data_type);
            column.resize(values.len());
            column.write(&rows, &values).unwrap();
            let narrow = column.read_narrow(&rows).unwrap();
            assert_eq!(&widened(&narrow, data_type).unwrap(), &values, "{data_type}");
            narrow.data_type().clone()
        };
        let zone = Timestamp(Nanosecond, Some("+02:00".into()));
        for wide in
            [Int64, UInt64, Date64, Time64(Nanosecond), Duration(Microsecond), Timestamp(Microsecond, None), zone]
        {
            assert_eq!(written(&wide, vec![]), Int8);
            assert_eq!(written(&wide, vec![Some(127), None, Some(0)]), Int8, "{wide}");
            assert_eq!(written(&wide, vec![Some(128)]), Int16, "{wide}");
            assert_eq!(written(&wide, vec![Some(32_768), Some(1)]), Int32, "{wide}");
            assert_eq!(written(&wide, vec![Some(1 << 31), Some(1)]), wide);
        }
        assert_eq!(written(&Int64, vec![Some(-128), Some(127)]), Int8);
        assert_eq!(written(&Int64, vec![Some(-129)]), Int16);
        assert_eq!(written(&Int64, vec![Some(i64::from(i32::MIN)), None]), Int32);
        assert_eq!(written(&Int64, vec![Some(i64::MIN), Some(i64::MAX)]), Int64);
        assert_eq!(written(&Int32, vec![Some(1)]), Int32);
        assert_eq!(written(&Float64, vec![Some(1)]), Float64);
        let mut large = column(&UInt64);
        large.resize(1);
        let most: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX]));
        large.write(&[0], &most).unwrap();
        assert_eq!(&large.read_narrow(&[0]).unwrap(), &most);
    }
}

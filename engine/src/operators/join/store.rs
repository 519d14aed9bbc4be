//! The rows of one side of a join, found by key.
//!
//! Rows are numbered in the order in which they came. Their columns lie in few chunks; what a search touches (key, next
//! row of that key, event time) is one flat array. Rows that go are only marked until [`Store::compact`].

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, make_comparator, new_null_array};
use arrow::compute::{SortOptions, concat, filter, interleave, take};
use arrow::datatypes::SchemaRef;

use super::NONE;
use crate::error::{Error, Result};

/// Chunks are merged up to this many rows, so that few are left however small the batches were.
const CHUNK_ROWS: usize = 64 * 1024;

/// So many chunks of about one size become one: each step copies all of their rows.
const FAN_OUT: usize = 16;

/// And up to this many bytes: offsets of text are 32 bits wide.
const CHUNK_BYTES: usize = 256 << 20;

/// What a search for partners reads of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Its key; [`NONE`] if it cannot be found (any more).
    pub key: u32,
    /// The row of the same key that came before it, or [`NONE`].
    pub next: u32,
    /// Its event time.
    pub time: i64,
}

#[derive(Debug, Clone)]
struct Chunk {
    columns: Vec<ArrayRef>,
    rows: usize,
}

/// Rows of one side.
pub(super) struct Store {
    schema: SchemaRef,
    chunks: Vec<Chunk>,
    rows: Vec<Row>,
    /// The newest row of each key.
    heads: Vec<u32>,
    /// How many rows of the other side each row was joined with; empty if nobody asks.
    partners: Vec<u32>,
    counted: bool,
    gone: usize,
    /// A hash of each of the first rows, where somebody looks for equal rows.
    pub hashes: Vec<u64>,
    /// Rows before this one are in a checkpoint.
    pub saved: u32,
}

impl Store {
    /// An empty one for columns of `schema`. `counted`: whether partners are counted.
    pub fn new(schema: SchemaRef, counted: bool) -> Self {
        Self {
            schema,
            chunks: Vec::new(),
            rows: Vec::new(),
            heads: Vec::new(),
            partners: Vec::new(),
            counted,
            gone: 0,
            hashes: Vec::new(),
            saved: 0,
        }
    }

    /// How many columns there are.
    pub fn columns(&self) -> usize {
        self.schema.fields().len()
    }

    /// How many rows there are, gone ones included.
    pub fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    /// How many rows can be found.
    pub fn live(&self) -> usize {
        self.rows.len() - self.gone
    }

    /// How many rows wait for [`Store::compact`].
    pub fn gone(&self) -> usize {
        self.gone
    }

    /// Adds rows with their keys, of which there are `keys_len` in all; returns the number of the first.
    pub fn append(&mut self, columns: &[ArrayRef], keys: &[u32], keys_len: usize, times: &[i64]) -> Result<u32> {
        let base = self.rows.len();
        if base + keys.len() >= NONE as usize {
            return Err(Error::Config("a join holds more than four billion rows; shorten its TTL or interval".into()));
        }
        if self.heads.len() < keys_len {
            self.heads.resize(keys_len, NONE);
        }
        for (row, (key, time)) in (base as u32..).zip(keys.iter().zip(times)) {
            let mut next = NONE;
            match self.heads.get_mut(*key as usize) {
                Some(head) => next = std::mem::replace(head, row),
                None => self.gone += 1,
            }
            self.rows.push(Row { key: *key, next, time: *time });
        }
        if self.counted {
            self.partners.resize(self.rows.len(), 0);
        }
        if !keys.is_empty() {
            self.chunks.push(Chunk { columns: columns.to_vec(), rows: keys.len() });
            self.merge_chunks()?;
        }
        Ok(base as u32)
    }

    /// Sizes of chunks fall from one power of [`FAN_OUT`] to the next, so there are few, and a row is copied few times.
    fn merge_chunks(&mut self) -> Result<()> {
        while let Some(last) = self.chunks.last() {
            let power = last.rows.max(1).ilog(FAN_OUT);
            let mut bytes = 0;
            let alike = self.chunks.iter().rev().take_while(|c| {
                bytes += c.columns.iter().map(|a| a.get_array_memory_size()).sum::<usize>();
                c.rows < CHUNK_ROWS && c.rows.max(1).ilog(FAN_OUT) <= power && bytes <= CHUNK_BYTES
            });
            let count = alike.take(FAN_OUT).count();
            if count < FAN_OUT {
                return Ok(());
            }
            let parts = self.chunks.split_off(self.chunks.len() - count);
            let rows = parts.iter().map(|c| c.rows).sum();
            let columns = (0..self.columns()).map(|i| {
                let arrays: Vec<&dyn Array> =
                    parts.iter().filter_map(|c| c.columns.get(i)).map(|a| a.as_ref()).collect();
                Ok(concat(&arrays)?)
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            self.chunks.push(Chunk { columns, rows });
        }
        Ok(())
    }

    /// A row that is there.
    pub fn row(&self, row: u32) -> Option<&Row> {
        self.rows.get(row as usize).filter(|r| r.key != NONE)
    }

    /// The time of a row, whether it can be found or not.
    pub fn time(&self, row: u32) -> i64 {
        self.rows.get(row as usize).map_or(i64::MIN, |r| r.time)
    }

    /// All rows that are there, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Row)> {
        (0..).zip(&self.rows).filter(|(_, r)| r.key != NONE)
    }

    /// The newest row of a key, or [`NONE`].
    pub fn head(&self, key: u32) -> u32 {
        self.heads.get(key as usize).copied().unwrap_or(NONE)
    }

    /// The rows of the chain that begins at `row`, newest first; those that are gone are passed over.
    pub fn chain(&self, row: u32) -> impl Iterator<Item = (u32, &Row)> {
        let find = |row: u32| self.rows.get(row as usize).map(|r| (row, r));
        std::iter::successors(find(row), move |(_, r)| find(r.next)).filter(|(_, r)| r.key != NONE)
    }

    /// The number after `row` in its chain, gone or not.
    pub fn after(&self, row: u32) -> u32 {
        self.rows.get(row as usize).map_or(NONE, |r| r.next)
    }

    /// Marks a row as gone; its columns stay until [`Store::compact`].
    pub fn remove(&mut self, row: u32) {
        if let Some(r) = self.rows.get_mut(row as usize).filter(|r| r.key != NONE) {
            r.key = NONE;
            self.gone += 1;
        }
    }

    /// Takes back [`Store::remove`].
    pub fn revive(&mut self, row: u32, key: u32) {
        if let Some(r) = self.rows.get_mut(row as usize).filter(|r| r.key == NONE) {
            r.key = key;
            self.gone -= 1;
        }
    }

    /// How many partners a row has had.
    pub fn partners(&self, row: u32) -> u32 {
        self.partners.get(row as usize).copied().unwrap_or(0)
    }

    /// Sets how many partners a row has.
    pub fn set_partners(&mut self, row: u32, partners: u32) {
        if let Some(p) = self.partners.get_mut(row as usize) {
            *p = partners;
        }
    }

    /// Places of rows, to read several columns of them.
    pub fn places<'a>(&'a self, rows: &'a [u32]) -> Places<'a> {
        let mut starts = Vec::with_capacity(self.chunks.len() + 1);
        let mut start = 0;
        for chunk in &self.chunks {
            starts.push(start);
            start += chunk.rows;
        }
        Places { store: self, rows, starts, indices: None }
    }

    /// Whether rows of this store hold the same values.
    pub fn equality(&self) -> Equality<'_> {
        Equality { places: self.places(&[]), compare: HashMap::new() }
    }

    /// Frees what is gone and numbers the rows anew.
    pub fn compact(&mut self) -> Result<()> {
        if self.gone == 0 {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.chunks);
        let mut start = 0;
        for chunk in chunks {
            let rows = self.rows.get(start..start + chunk.rows).unwrap_or_default();
            start += chunk.rows;
            let mask: BooleanArray = rows.iter().map(|r| Some(r.key != NONE)).collect();
            match mask.true_count() {
                0 => {}
                n if n == chunk.rows => self.chunks.push(chunk),
                n => {
                    let columns = chunk.columns.iter().map(|c| Ok(filter(c, &mask)?)).collect::<Result<Vec<_>>>()?;
                    self.chunks.push(Chunk { columns, rows: n });
                }
            }
            self.merge_chunks()?;
        }
        if self.counted {
            let mut rows = self.rows.iter();
            self.partners.retain(|_| rows.next().is_some_and(|r| r.key != NONE));
            self.partners.shrink_to(self.partners.len() * 2);
        }
        let mut rows = self.rows.iter();
        self.hashes.retain(|_| rows.next().is_some_and(|r| r.key != NONE));
        self.hashes.shrink_to(self.hashes.len() * 2);
        let saved = self.rows.get(..self.saved as usize).unwrap_or(&self.rows);
        self.saved = saved.iter().filter(|r| r.key != NONE).count() as u32;
        self.rows.retain(|r| r.key != NONE);
        self.rows.shrink_to(self.rows.len() * 2);
        self.gone = 0;
        self.link(self.heads.len());
        Ok(())
    }

    fn link(&mut self, keys_len: usize) {
        self.heads.clear();
        self.heads.resize(keys_len, NONE);
        self.heads.shrink_to(keys_len);
        for (number, row) in (0..).zip(&mut self.rows) {
            if let Some(head) = self.heads.get_mut(row.key as usize) {
                row.next = std::mem::replace(head, number);
            }
        }
    }

    /// Marks the keys that some row has.
    pub fn mark_used(&self, used: &mut [bool]) {
        for (_, row) in self.iter() {
            if let Some(used) = used.get_mut(row.key as usize) {
                *used = true;
            }
        }
    }

    /// Gives the keys their new numbers, of which there are `keys_len`.
    pub fn renumber(&mut self, numbers: &[u32], keys_len: usize) {
        for row in &mut self.rows {
            row.key = numbers.get(row.key as usize).copied().unwrap_or(NONE);
        }
        self.link(keys_len);
    }

    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        self.chunks.iter().flat_map(|c| &c.columns).map(|c| c.get_array_memory_size()).sum::<usize>()
            + self.rows.capacity() * size_of::<Row>()
            + (self.heads.capacity() + self.partners.capacity()) * size_of::<u32>()
            + self.hashes.capacity() * size_of::<u64>()
    }
}

/// Rows of a store as places in its chunks, worked out once for all columns.
pub(super) struct Places<'a> {
    store: &'a Store,
    rows: &'a [u32],
    starts: Vec<usize>,
    indices: Option<Vec<(usize, usize)>>,
}

impl Places<'_> {
    fn locate(&self, row: u32) -> Option<(usize, usize)> {
        let row = row as usize;
        let chunk = self.starts.partition_point(|s| *s <= row).checked_sub(1)?;
        Some((chunk, row - self.starts.get(chunk)?))
    }

    /// A column of the rows, null where the row is [`NONE`].
    pub fn gather(&mut self, column: usize) -> Result<ArrayRef> {
        let arrays: Vec<&ArrayRef> = self.store.chunks.iter().filter_map(|c| c.columns.get(column)).collect();
        if let [only] = arrays.as_slice() {
            let rows: UInt32Array = self.rows.iter().map(|r| (*r != NONE).then_some(*r)).collect();
            return Ok(take(only, &rows, None)?);
        }
        let field = self.store.schema.fields().get(column);
        let field = field.ok_or_else(|| Error::Bug(format!("a join's side has no column {column}")))?;
        let null = new_null_array(field.data_type(), 1);
        let mut all: Vec<&dyn Array> = vec![null.as_ref()];
        all.extend(arrays.iter().map(|a| a.as_ref()));
        if self.indices.is_none() {
            let mut last = (0, 0, 0);
            let place = |row: &u32| {
                if *row == NONE {
                    return (0, 0);
                }
                // Neighbours mostly lie in the same chunk.
                if !(last.1..last.2).contains(row) {
                    let (chunk, at) = self.locate(*row).unwrap_or((0, 0));
                    let rows = self.store.chunks.get(chunk).map_or(0, |c| c.rows);
                    last = (chunk, row - at as u32, row - at as u32 + rows as u32);
                }
                (last.0 + 1, (row - last.1) as usize)
            };
            self.indices = Some(self.rows.iter().map(place).collect());
        }
        Ok(interleave(&all, self.indices.as_deref().unwrap_or_default())?)
    }
}

/// Compares rows of one store.
pub(super) struct Equality<'a> {
    places: Places<'a>,
    compare: HashMap<(usize, usize), Vec<arrow::array::DynComparator>>,
}

impl Equality<'_> {
    /// Whether two rows are equal in all columns, null being equal to null.
    pub fn same(&mut self, a: u32, b: u32) -> Result<bool> {
        let (Some((a, i)), Some((b, j))) = (self.places.locate(a), self.places.locate(b)) else { return Ok(false) };
        if !self.compare.contains_key(&(a, b)) {
            let chunks = &self.places.store.chunks;
            let (Some(left), Some(right)) = (chunks.get(a), chunks.get(b)) else { return Ok(false) };
            let pairs = left.columns.iter().zip(&right.columns);
            let all = pairs.map(|(l, r)| Ok(make_comparator(l.as_ref(), r.as_ref(), SortOptions::default())?));
            self.compare.insert((a, b), all.collect::<Result<Vec<_>>>()?);
        }
        Ok(self.compare.get(&(a, b)).is_some_and(|all| all.iter().all(|c| c(i, j).is_eq())))
    }
}

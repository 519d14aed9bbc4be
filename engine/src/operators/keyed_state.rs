//! State by key: one row of columns per key, found by hash, replaced in place, written to checkpoints as what changed.
//!
//! ```text
//! keys of a batch --> row numbers --> read columns, compute, write columns --> the changed rows, at a checkpoint
//! ```
//!
//! A row's number holds until [`KeyedState::retain`]. Nothing here costs more than the rows touched, except `retain`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::StateChange;
use super::columns::{Column, column, widened};
use crate::error::{Error, Result};

/// Names the part of an operator's state that a state file holds, in the metadata of its schema.
const PART: &str = "part";

const NONE: u32 = u32::MAX;

/// Rows by key. *Shape* in state files: the key columns, then the value columns; integers in as few bytes as hold all of a
/// column.
pub struct KeyedState {
    name: String,
    key_schema: SchemaRef,
    values: Vec<FieldRef>,
    /// From key to row; `None` without key columns: then there is one row.
    index: Option<Box<dyn GroupValues>>,
    /// The keys' columns, then the values'.
    columns: Vec<Box<dyn Column>>,
    len: usize,
    ids: Vec<usize>,
    /// Scratch: a row's number among those that a batch touches.
    numbers: Vec<u32>,
    changed: Vec<u32>,
    is_changed: Vec<bool>,
}

/// The rows of a state that some pieces of input touch, each once: those that were there, then new ones, each in the order
/// of their first appearance.
#[derive(Debug, Default)]
pub struct Touched {
    /// The rows.
    pub rows: Vec<u32>,
    /// For each, the first place with its key: which piece, and which row of it.
    pub first: Vec<(usize, usize)>,
    /// For each piece, what it touches.
    pub pieces: Vec<TouchedBy>,
    /// So many of `rows` were there before; the others are new.
    pub known: usize,
}

/// What a piece of input touches.
#[derive(Debug, Default)]
pub struct TouchedBy {
    /// For each row of the piece, the number of its key among [`Touched::rows`].
    pub number: Vec<usize>,
    /// So many of [`Touched::rows`] were there before, or are new in this piece or an earlier one.
    pub known: usize,
}

impl Touched {
    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Those that were there before.
    pub fn known(&self) -> &[u32] {
        self.rows.get(..self.known).unwrap_or_default()
    }

    /// For each row that came, piece by piece, the number of its key among the rows touched.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().flat_map(|p| p.number.iter().copied())
    }
}

impl KeyedState {
    /// An empty one. `name` says which part of an operator's state it is.
    pub fn new(name: impl Into<String>, keys: &[FieldRef], values: Vec<FieldRef>) -> Result<Self> {
        let key_schema = Arc::new(Schema::new(keys.to_vec()));
        Ok(Self {
            name: name.into(),
            index: index(&key_schema)?,
            columns: keys.iter().chain(&values).map(|f| column(f.data_type())).collect(),
            key_schema,
            values,
            len: 0,
            ids: Vec::new(),
            numbers: Vec::new(),
            changed: Vec::new(),
            is_changed: Vec::new(),
        })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many key columns.
    pub fn key_count(&self) -> usize {
        self.key_schema.fields().len()
    }

    /// Finds the rows of the keys of some pieces of input, and adds those that are missing; their values must be written next.
    /// A piece is its key columns and how many rows it has.
    pub fn touch(&mut self, pieces: &[(&[ArrayRef], usize)]) -> Result<Touched> {
        let before = self.len;
        let (mut touched, mut first_of_new) = (Touched::default(), Vec::new());
        for (at, (keys, rows)) in pieces.iter().enumerate() {
            let from = self.len;
            match &mut self.index {
                Some(index) => {
                    index.intern(keys, &mut self.ids)?;
                    self.len = index.len();
                }
                None => {
                    self.ids.clear();
                    self.ids.resize(*rows, 0);
                    self.len = self.len.max((*rows).min(1));
                }
            }
            let fresh = self.number(at, from, &mut touched);
            first_of_new.extend(fresh.iter().map(|row| (at, *row as usize)));
            self.add(keys, from as u32, fresh)?;
        }
        touched.known = touched.rows.len();
        for row in &touched.rows {
            if let Some(number) = self.numbers.get_mut(*row as usize) {
                *number = NONE;
            }
        }
        self.numbers.resize(self.len, NONE);
        let (known, is_any_new) = (touched.known, self.len > before);
        for piece in &mut touched.pieces {
            piece.known = piece.known - before + known;
            if is_any_new {
                // They were numbered by their place in the state, which is above all numbers of known ones.
                piece.number.iter_mut().filter(|n| **n >= before).for_each(|n| *n = *n - before + known);
            }
        }
        touched.rows.extend(before as u32..self.len as u32);
        touched.first.extend(first_of_new);
        Ok(touched)
    }

    /// Numbers the rows of a piece by `self.ids`, of which those from `from` on are new; gives the first row of each new one.
    fn number(&mut self, piece: usize, from: usize, touched: &mut Touched) -> Vec<u32> {
        let (rows, first, numbers) = (&mut touched.rows, &mut touched.first, &mut self.numbers);
        let mut fresh: Vec<u32> = Vec::new();
        // New rows are numbered as they come, so one is new in this piece if it is the next of them.
        let mut next = from;
        let mut number = std::mem::take(&mut self.ids);
        for (at, id) in (0_u32..).zip(&mut number) {
            match numbers.get_mut(*id) {
                Some(known) => {
                    if *known == NONE {
                        *known = rows.len() as u32;
                        rows.push(*id as u32);
                        first.push((piece, at as usize));
                    }
                    *id = *known as usize;
                }
                None if *id == next => {
                    fresh.push(at);
                    next += 1;
                }
                None => {}
            }
        }
        touched.pieces.push(TouchedBy { number, known: self.len });
        fresh
    }

    /// Adds rows from `from` on, of the keys at `places`.
    fn add(&mut self, keys: &[ArrayRef], from: u32, places: Vec<u32>) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let rows: Vec<u32> = (from..self.len as u32).collect();
        let places = UInt32Array::from(places);
        self.columns.iter_mut().for_each(|c| c.resize(self.len));
        self.is_changed.resize(self.len, false);
        for (column, key) in self.columns.iter_mut().zip(keys) {
            column.write(&rows, &take(key, &places, None)?)?;
        }
        Ok(())
    }

    /// The key columns of some rows.
    pub fn keys(&self, rows: &[u32]) -> Result<Vec<ArrayRef>> {
        self.columns.iter().take(self.key_schema.fields().len()).map(|c| c.read(rows)).collect()
    }

    /// `count` value columns of some rows, from value column `from` on.
    pub fn read(&self, rows: &[u32], from: usize, count: usize) -> Result<Vec<ArrayRef>> {
        let skip = self.key_schema.fields().len() + from;
        self.columns.iter().skip(skip).take(count).map(|c| c.read(rows)).collect()
    }

    /// Writes value columns of some rows, from value column `from` on.
    pub fn write(&mut self, rows: &[u32], from: usize, values: &[ArrayRef]) -> Result<()> {
        let skip = self.key_schema.fields().len() + from;
        for (column, values) in self.columns.iter_mut().skip(skip).zip(values) {
            column.write(rows, values)?;
        }
        for row in rows {
            if let Some(changed) = self.is_changed.get_mut(*row as usize).filter(|c| !**c) {
                *changed = true;
                self.changed.push(*row);
            }
        }
        Ok(())
    }

    /// Drops all rows but these, which get new numbers below their count; memory is given back.
    pub fn retain(&mut self, rows: &[u32]) -> Result<()> {
        let mut kept = Self::new(self.name.clone(), self.key_schema.fields(), self.values.clone())?;
        let touched = kept.touch(&[(&self.keys(rows)?, rows.len())])?;
        let keys = self.key_schema.fields().len();
        for (to, from) in kept.columns.iter_mut().zip(&self.columns).skip(keys) {
            to.write(&touched.rows, &from.read(rows)?)?;
        }
        for (new, old) in touched.rows.iter().zip(rows) {
            if self.is_changed.get(*old as usize).copied().unwrap_or(false) {
                kept.is_changed.iter_mut().skip(*new as usize).take(1).for_each(|c| *c = true);
                kept.changed.push(*new);
            }
        }
        *self = kept;
        Ok(())
    }

    /// Some rows, or all, as a batch of keys and values for a state file.
    fn batch(&self, rows: &[u32]) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|c| c.read_narrow(rows)).collect::<Result<Vec<_>>>()?;
        let fields: Vec<FieldRef> = self
            .key_schema
            .fields()
            .iter()
            .chain(&self.values)
            .zip(&columns)
            .map(|(f, c)| Arc::new(f.as_ref().clone().with_data_type(c.data_type().clone()).with_nullable(true)))
            .collect();
        let schema = Schema::new_with_metadata(fields, HashMap::from([(PART.to_string(), self.name.clone())]));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
    }

    /// What changed in the parts of an operator's state since the last call, for a checkpoint.
    pub fn snapshot<'a>(parts: impl IntoIterator<Item = &'a mut Self>, whole: bool) -> Result<StateChange> {
        let mut batches = Vec::new();
        for part in parts {
            let changed = part.take_changed();
            let rows = if whole { (0..part.len as u32).collect() } else { changed };
            if !rows.is_empty() {
                batches.push(part.batch(&rows)?);
            }
        }
        Ok(match (whole, batches.is_empty()) {
            (true, _) => StateChange::Replace(batches),
            (false, true) => StateChange::None,
            (false, false) => StateChange::Append { batches, needed_until: i64::MAX },
        })
    }

    /// The rows that changed since the last call, in the order in which they lie: a column is read from front to back.
    fn take_changed(&mut self) -> Vec<u32> {
        let mut changed = std::mem::take(&mut self.changed);
        if changed.len() * 8 > self.len {
            let marked = (0_u32..).zip(&self.is_changed).filter(|(_, is)| **is).map(|(row, _)| row);
            changed = marked.collect();
            self.is_changed.iter_mut().for_each(|is| *is = false);
            return changed;
        }
        changed.sort_unstable();
        for row in &changed {
            self.is_changed.iter_mut().skip(*row as usize).take(1).for_each(|c| *c = false);
        }
        changed
    }

    /// Takes back its share of what [`KeyedState::snapshot`] gave: of several rows with one key, the last counts.
    pub fn restore(&mut self, state: &[RecordBatch]) -> Result<()> {
        for batch in state {
            if batch.schema().metadata().get(PART) != Some(&self.name) {
                continue;
            }
            if batch.num_columns() != self.columns.len() {
                return Err(Error::Corrupt(format!("a state file of '{}' has other columns than the plan", self.name)));
            }
            let fields = self.key_schema.fields().iter().chain(&self.values);
            let columns = batch.columns().iter().zip(fields).map(|(c, f)| widened(c, f.data_type()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let (keys, values) = columns.split_at(self.key_schema.fields().len());
            let touched = self.touch(&[(keys, batch.num_rows())])?;
            let rows: Vec<u32> = touched.numbers().filter_map(|n| touched.rows.get(n).copied()).collect();
            self.write(&rows, 0, values)?;
        }
        self.changed.clear();
        self.is_changed.iter_mut().for_each(|c| *c = false);
        Ok(())
    }

    /// Bytes held, roughly.
    pub fn bytes(&self) -> usize {
        self.index.as_ref().map_or(0, |i| i.size())
            + self.columns.iter().map(|c| c.bytes()).sum::<usize>()
            + self.numbers.capacity() * size_of::<u32>()
            + self.changed.capacity() * size_of::<u32>()
            + self.is_changed.capacity()
    }
}

fn index(keys: &SchemaRef) -> Result<Option<Box<dyn GroupValues>>> {
    if keys.fields().is_empty() {
        return Ok(None);
    }
    Ok(Some(new_group_values(keys.clone(), &GroupOrdering::None)?))
}

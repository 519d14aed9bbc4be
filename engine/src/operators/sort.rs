//! `ORDER BY`, with `LIMIT` and `OFFSET`, of an input that ends.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalSortExpr;

use super::over::{tag, untag};
use super::over_functions::Sorted;
use super::spec::{Properties, Spec};
use super::stored_rows::{Codec, StoredRow};
use super::{Operator, Output, StateChange};
use crate::error::{Error, Result};
use crate::message::Rows;
use crate::time::{WATERMARK_MAX, WATERMARK_MIN, Watermark};

/// With a limit, rows are thinned out whenever they have doubled, but not below this many.
const THIN_OUT_MIN: usize = 16 * 1024;

/// Sorts all rows once the input has ended. *Shape*: as the input. *Order*: as asked; rows that it leaves equal are in the
/// order of their columns. Nothing is taken back: of changing rows the last state is sorted.
#[derive(Debug, Clone)]
pub struct Sort {
    /// `ORDER BY`
    pub order: Vec<PhysicalSortExpr>,
    /// The places that are asked for.
    pub places: Range<usize>,
    /// Whether the input takes rows back.
    pub updating: bool,
    /// The columns.
    pub schema: SchemaRef,
}

impl Spec for Sort {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let order: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        let places = match self.places.end {
            usize::MAX if self.places.start == 0 => String::new(),
            usize::MAX => format!(" after {}", self.places.start),
            end => format!(" limit {} after {}", end.saturating_sub(self.places.start), self.places.start),
        };
        format!("sort by [{}]{places}", order.join(", "))
    }

    fn state(&self) -> String {
        match self.places.end {
            end if end < usize::MAX && !self.updating => format!("{end} rows, until the input ends"),
            _ => "all rows, until the input ends".into(),
        }
    }

    fn properties(&self, inputs: &[Properties]) -> Properties {
        Properties { window: inputs.first().and_then(|p| p.window), updating: false }
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        if self.updating {
            let codec = Codec::new(self.schema.clone(), self.order.clone())?;
            return Ok(Box::new(Changing { sort: self.clone(), codec, rows: BTreeMap::new() }));
        }
        Ok(Box::new(Growing { sort: self.clone(), rows: Vec::new(), saved: 0, count: 0, thin_out_at: THIN_OUT_MIN }))
    }
}

/// Rows that stay.
struct Growing {
    sort: Sort,
    rows: Vec<Rows>,
    /// How many of `rows` are in checkpoints.
    saved: usize,
    count: usize,
    thin_out_at: usize,
}

impl Growing {
    /// The rows at the first places, in order.
    fn first(&mut self, places: Range<usize>) -> Result<Rows> {
        let all = Rows::concat(&self.sort.schema, &std::mem::take(&mut self.rows))?;
        let sorted = Sorted::new(&all, false, &[], &self.sort.order)?;
        let end = places.end.min(all.len());
        let start = places.start.min(end);
        all.take(&sorted.indices.slice(start, end - start))
    }

    fn push(&mut self, rows: Rows) -> Result<()> {
        let batch = rows.batch.with_schema(self.sort.schema.clone())?;
        self.count += batch.num_rows();
        self.rows.push(Rows { row_watermark: None, batch, ..rows });
        if self.sort.places.end < usize::MAX && self.count >= self.thin_out_at {
            let kept = self.first(0..self.sort.places.end)?;
            // The next checkpoint writes what is left: it replaces nothing that is wrong, only what is not needed.
            (self.count, self.saved) = (kept.len(), 0);
            self.rows = vec![kept];
            self.thin_out_at = (self.count * 2).max(THIN_OUT_MIN);
        }
        Ok(())
    }
}

impl Operator for Growing {
    fn on_batch(&mut self, _port: usize, rows: Rows, _out: &mut Output) -> Result<()> {
        self.push(rows)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        if watermark != WATERMARK_MAX {
            return Ok(WATERMARK_MIN);
        }
        if self.count > 0 {
            out.batches.push(self.first(self.sort.places.clone())?);
        }
        (self.count, self.saved) = (0, 0);
        Ok(watermark)
    }

    fn snapshot(&mut self, whole: bool) -> Result<StateChange> {
        // Thinned-out rows are among those of earlier files: they replace them.
        let all = whole || self.saved == 0;
        let batches = self.rows.iter().skip(if all { 0 } else { self.saved }).map(tag).collect::<Result<Vec<_>>>()?;
        self.saved = self.rows.len();
        Ok(match (all, batches.is_empty()) {
            (true, _) => StateChange::Replace(batches),
            (false, true) => StateChange::None,
            (false, false) => StateChange::Append { batches, needed_until: WATERMARK_MAX },
        })
    }

    fn restore(&mut self, state: Vec<RecordBatch>, _watermark: Watermark) -> Result<()> {
        for batch in &state {
            self.push(untag(batch, &self.sort.schema)?)?;
        }
        self.saved = self.rows.len();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.rows.iter().map(|r| r.batch.get_array_memory_size()).sum()
    }
}

/// Rows that come and go, and how often each is there.
struct Changing {
    sort: Sort,
    codec: Codec,
    rows: BTreeMap<StoredRow, i64>,
}

impl Operator for Changing {
    fn on_batch(&mut self, _port: usize, rows: Rows, _out: &mut Output) -> Result<()> {
        for (i, row) in self.codec.encode(&rows)?.into_iter().enumerate() {
            let change = if rows.retracts.as_ref().is_some_and(|r| r.value(i)) { -1 } else { 1 };
            let count = self.rows.entry(row).or_insert(0);
            *count += change;
        }
        self.rows.retain(|_, count| *count != 0);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark> {
        if watermark != WATERMARK_MAX {
            return Ok(WATERMARK_MIN);
        }
        let Range { start, end } = self.sort.places;
        let each = self.rows.iter().flat_map(|(row, n)| std::iter::repeat_n(row, (*n).max(0) as usize));
        let (columns, time) = self.codec.decode(each.skip(start).take(end.saturating_sub(start)))?;
        out.batches.push(Rows::new(RecordBatch::try_new(self.sort.schema.clone(), columns)?, time));
        self.rows.clear();
        Ok(watermark)
    }

    fn snapshot(&mut self, _whole: bool) -> Result<StateChange> {
        let (columns, time) = self.codec.decode(self.rows.keys())?;
        let rows = Rows::new(RecordBatch::try_new(self.sort.schema.clone(), columns)?, time);
        let tagged = tag(&rows)?;
        let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new("row_count", DataType::Int64, false))];
        fields.extend(tagged.schema().fields().iter().cloned());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.rows.values().copied().collect::<Int64Array>())];
        columns.extend(tagged.columns().iter().cloned());
        Ok(StateChange::Replace(vec![RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?]))
    }

    fn restore(&mut self, state: Vec<RecordBatch>, _watermark: Watermark) -> Result<()> {
        for batch in &state {
            let counts = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
            let counts = counts.ok_or_else(|| Error::Corrupt("sorted rows without counts".into()))?;
            let rest: Vec<usize> = (1..batch.num_columns()).collect();
            let rows = untag(&batch.project(&rest)?, &self.sort.schema)?;
            self.rows.extend(self.codec.encode(&rows)?.into_iter().zip(counts.values().iter().copied()));
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.rows.first_key_value().map_or(0, |(row, _)| row.size()) * self.rows.len()
    }
}

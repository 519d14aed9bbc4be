//! What a join's rows must agree on: equal keys, and a condition over the pairs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatchOptions};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::NONE;
use super::probe::Pairs;
use super::store::Store;
use crate::error::{Error, Result};

/// `ON`: equalities and the rest.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The equal expressions of each side, over that side's columns; both lists have the same types.
    pub keys: [Vec<Arc<dyn PhysicalExpr>>; 2],
    /// Whether null equals null; else a null key matches nothing.
    pub nulls_equal: bool,
    /// What must be true of a pair besides.
    pub residual: Option<Residual>,
}

/// A condition over pairs of rows, with only the columns that it reads.
#[derive(Debug, Clone)]
pub struct Residual {
    expression: Arc<dyn PhysicalExpr>,
    /// Side and place of each column.
    columns: Vec<(usize, usize)>,
    schema: SchemaRef,
}

impl Residual {
    /// From an expression over the left columns followed by the right ones.
    pub fn new(expression: Arc<dyn PhysicalExpr>, left: &Schema, right: &Schema) -> Result<Self> {
        let mut places: Vec<usize> = collect_columns(&expression).iter().map(|c| c.index()).collect();
        places.sort_unstable();
        places.dedup();
        let all: Vec<_> = left.fields().iter().chain(right.fields()).collect();
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for place in &places {
            let field = all.get(*place).ok_or_else(|| Error::Bug(format!("a join condition over column {place}")))?;
            let side = usize::from(*place >= left.fields().len());
            columns.push((side, if side == 0 { *place } else { place - left.fields().len() }));
            fields.push(Field::new(format!("c{place}"), field.data_type().clone(), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let expression = renamed(expression)?;
        Ok(Self { expression: reassign_expr_columns(expression, &schema)?, columns, schema })
    }

    /// Drops the pairs for which the condition is not true.
    fn keep(&self, stores: [&Store; 2], pairs: &mut Pairs) -> Result<()> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (side, column) in &self.columns {
            let (store, rows) = if *side == 0 { (stores[0], &pairs.left) } else { (stores[1], &pairs.right) };
            columns.push(store.places(rows).gather(*column)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let mask = self.expression.evaluate(&batch)?.into_array(pairs.len())?;
        let mask = mask.as_boolean_opt().ok_or_else(|| Error::Bug("a join condition that is not boolean".into()))?;
        let mut kept = mask.iter().map(|m| m == Some(true));
        pairs.retain(|| kept.next().unwrap_or(false));
        Ok(())
    }
}

/// Columns named by their place: two sides may have columns of one name.
fn renamed(expression: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    use datafusion::physical_expr::expressions::Column;
    let changed = expression.transform_up(|e| {
        let place = e.downcast_ref::<Column>().map(Column::index);
        Ok(match place {
            Some(place) => {
                Transformed::yes(Arc::new(Column::new(&format!("c{place}"), place)) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(e),
        })
    })?;
    Ok(changed.data)
}

impl Condition {
    /// The key columns of rows of `side`.
    pub(super) fn keys(&self, side: usize, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let keys = self.keys.get(side).map_or(&[][..], Vec::as_slice);
        keys.iter().map(|e| Ok(e.evaluate(batch)?.into_array(batch.num_rows())?)).collect()
    }

    /// The types of the keys; `left` is the left side's columns.
    pub fn key_types(&self, left: &Schema) -> Result<Vec<DataType>> {
        let [keys, _] = &self.keys;
        keys.iter().map(|e| Ok(e.data_type(left)?)).collect()
    }

    /// Drops the pairs that do not fulfil the rest of the condition.
    pub(super) fn keep(&self, stores: [&Store; 2], pairs: &mut Pairs) -> Result<()> {
        match &self.residual {
            Some(residual) if pairs.len() > 0 => residual.keep(stores, pairs),
            _ => Ok(()),
        }
    }

    /// `a = b and a < b`. Equal conditions are described alike.
    pub(super) fn describe(&self) -> String {
        let [left, right] = &self.keys;
        let equal = if self.nulls_equal { "is not distinct from" } else { "=" };
        let mut all: Vec<String> = left.iter().zip(right).map(|(l, r)| format!("{l} {equal} {r}")).collect();
        all.extend(self.residual.as_ref().map(|r| r.expression.to_string()));
        if all.is_empty() { "true".into() } else { all.join(" and ") }
    }
}

/// Key values as small numbers, the same for both sides.
pub(super) struct KeyTable {
    schema: SchemaRef,
    /// `None` if there is no key: every row has key 0.
    table: Option<Box<dyn GroupValues>>,
    nulls_equal: bool,
    scratch: Vec<usize>,
}

impl KeyTable {
    /// An empty one for keys of these types.
    pub fn new(types: Vec<DataType>, nulls_equal: bool) -> Result<Self> {
        let fields: Vec<Field> =
            types.into_iter().enumerate().map(|(i, t)| Field::new(format!("k{i}"), t, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { table: fresh(&schema)?, schema, nulls_equal, scratch: Vec::new() })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.table.as_ref().map_or(1, |t| t.len())
    }

    /// The key of each row; [`NONE`] where it cannot match.
    pub fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let Some(table) = &mut self.table else { return Ok(vec![0; rows]) };
        for (column, field) in columns.iter().zip(self.schema.fields()) {
            if column.data_type() != field.data_type() {
                let message = format!("a join key of type {} became {}", field.data_type(), column.data_type());
                return Err(Error::Bug(message));
            }
        }
        table.intern(columns, &mut self.scratch)?;
        let mut keys: Vec<u32> = self.scratch.iter().map(|k| *k as u32).collect();
        if !self.nulls_equal {
            let nulls = columns.iter().fold(None, |all, c| NullBuffer::union(all.as_ref(), c.logical_nulls().as_ref()));
            if let Some(nulls) = nulls.filter(|n| n.null_count() > 0) {
                for (key, valid) in keys.iter_mut().zip(nulls.iter()) {
                    if !valid {
                        *key = NONE;
                    }
                }
            }
        }
        Ok(keys)
    }

    /// Forgets the keys that are not `used`; returns the new number of each old key.
    pub fn retain(&mut self, used: &[bool]) -> Result<Vec<u32>> {
        let mut next = 0;
        let numbers: Vec<u32> = used
            .iter()
            .map(|used| {
                let number = if *used { next } else { NONE };
                next += u32::from(*used);
                number
            })
            .collect();
        if let Some(table) = &mut self.table {
            let mask = arrow::array::BooleanArray::from(used.to_vec());
            let columns = table.emit(EmitTo::All)?;
            let columns = columns.iter().map(|c| Ok(arrow::compute::filter(c, &mask)?)).collect::<Result<Vec<_>>>()?;
            let mut table = fresh(&self.schema)?;
            if let Some(table) = table.as_mut().filter(|_| next > 0) {
                table.intern(&columns, &mut self.scratch)?;
            }
            (self.table, self.scratch) = (table, Vec::new());
        }
        Ok(numbers)
    }

    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        self.table.as_ref().map_or(0, |t| t.size())
    }
}

fn fresh(schema: &SchemaRef) -> Result<Option<Box<dyn GroupValues>>> {
    if schema.fields().is_empty() {
        return Ok(None);
    }
    Ok(Some(new_group_values(schema.clone(), &GroupOrdering::None)?))
}

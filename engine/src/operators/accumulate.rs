//! Vectorised hash aggregation, shared by every operator that aggregates: DataFusion's group tables and accumulators,
//! driven by hand so that state can be kept per slice of time, merged and written to checkpoints.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatchOptions};
use arrow::compute::{filter, take};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;

use super::failing::may_fail;
use crate::error::Result;

/// Functions whose result depends on the order of their rows, if only among those that an ORDER BY leaves equal.
const ORDERED: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// One aggregate function of a query, with its `FILTER`.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The function and its arguments.
    pub function: Arc<AggregateFunctionExpr>,
    /// `FILTER (WHERE ...)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// What to group by (without the window) and what to compute.
#[derive(Debug)]
pub struct Aggregation {
    /// The grouping expressions over the input.
    pub groups: Vec<Arc<dyn PhysicalExpr>>,
    /// Their names and types.
    pub group_fields: Vec<FieldRef>,
    /// The aggregate functions.
    pub aggregates: Vec<Aggregate>,
    /// Group columns, then every accumulator's state columns.
    pub state_schema: SchemaRef,
}

/// The evaluated inputs of one batch.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// One column per grouping expression.
    pub groups: Vec<ArrayRef>,
    /// The arguments of each aggregate.
    pub arguments: Vec<Vec<ArrayRef>>,
    /// The `FILTER` of each aggregate.
    pub filters: Vec<Option<BooleanArray>>,
    /// How many rows.
    pub rows: usize,
}

impl Aggregation {
    /// Puts the pieces together and derives the state's columns.
    pub fn new(
        groups: Vec<Arc<dyn PhysicalExpr>>,
        group_fields: Vec<FieldRef>,
        aggregates: Vec<Aggregate>,
    ) -> Result<Self> {
        let mut fields = group_fields.clone();
        for aggregate in &aggregates {
            fields.extend(aggregate.function.state_fields()?);
        }
        Ok(Self { groups, group_fields, aggregates, state_schema: Arc::new(Schema::new(fields)) })
    }

    /// `by [keys] of [functions]`. Equal aggregations are described alike.
    pub fn describe(&self) -> String {
        let keys: Vec<&str> = self.group_fields.iter().map(|f| f.name().as_str()).collect();
        let function = |a: &Aggregate| match &a.filter {
            Some(f) => format!("{} where {f}", a.function.name()),
            None => a.function.name().to_string(),
        };
        let functions: Vec<String> = self.aggregates.iter().map(function).collect();
        format!("by [{}] of [{}]", keys.join(", "), functions.join(", "))
    }

    /// Whether a result depends on the order of rows: then they are taken in the order of the log, by one thread.
    pub fn is_ordered(&self) -> bool {
        self.aggregates.iter().any(|a| ORDERED.contains(&a.function.fun().name()))
    }

    /// Whether an expression of keys, arguments or filters may fail on some row.
    pub fn may_fail(&self, input: &Schema) -> bool {
        let of = |a: &Aggregate| {
            let arguments = a.function.expressions();
            arguments.iter().chain(&a.filter).any(|e| may_fail(e, input))
        };
        self.groups.iter().any(|e| may_fail(e, input)) || self.aggregates.iter().any(of)
    }

    /// Evaluates grouping, argument and filter expressions once for a batch.
    pub fn inputs(&self, batch: &RecordBatch) -> Result<Inputs> {
        let rows = batch.num_rows();
        let column = |e: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> { Ok(e.evaluate(batch)?.into_array(rows)?) };
        let mut arguments = Vec::with_capacity(self.aggregates.len());
        let mut filters = Vec::with_capacity(self.aggregates.len());
        for aggregate in &self.aggregates {
            let function = &aggregate.function;
            // As DataFusion does: the columns of its own ORDER BY come after the arguments.
            let order = function.order_bys().iter().map(|o| column(&o.expr));
            arguments.push(function.expressions().iter().map(column).chain(order).collect::<Result<Vec<_>>>()?);
            filters.push(match &aggregate.filter {
                Some(f) => Some(column(f)?.as_boolean().clone()),
                None => None,
            });
        }
        Ok(Inputs { groups: self.groups.iter().map(column).collect::<Result<Vec<_>>>()?, arguments, filters, rows })
    }

    /// Fresh accumulators, in the order of the aggregates.
    pub fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        self.aggregates.iter().map(|a| accumulator(&a.function)).collect()
    }

    /// A fresh group table; `None` where there is nothing to group by and every row is of group 0.
    pub fn group_table(&self) -> Result<Option<Box<dyn GroupValues>>> {
        if self.group_fields.is_empty() {
            return Ok(None);
        }
        let schema = Arc::new(Schema::new(self.group_fields.clone()));
        Ok(Some(new_group_values(schema, &GroupOrdering::None)?))
    }

    /// The state columns of aggregate `i` in a batch of `state_schema`, one slice per aggregate in order.
    pub fn state_columns<'a>(&self, state: &'a RecordBatch) -> Result<Vec<&'a [ArrayRef]>> {
        let (_, mut rest) = state.columns().split_at(self.group_fields.len());
        let mut columns = Vec::with_capacity(self.aggregates.len());
        for aggregate in &self.aggregates {
            let (own, others) = rest.split_at(aggregate.function.state_fields()?.len());
            columns.push(own);
            rest = others;
        }
        Ok(columns)
    }

    /// A batch of `state_schema` from its columns.
    pub fn state_batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        // An accumulator may name or nest its state a little differently from what it announces: the data decides.
        let fields: Vec<FieldRef> = self
            .state_schema
            .fields()
            .iter()
            .zip(&columns)
            .map(|(f, c)| Arc::new(f.as_ref().clone().with_data_type(c.data_type().clone()).with_nullable(true)))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }
}

/// A fresh vectorised accumulator.
pub fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return Ok(function.create_groups_accumulator()?);
    }
    let function = function.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

impl Inputs {
    /// The rows at `indices`.
    pub fn take(&self, indices: &arrow::array::UInt32Array) -> Result<Self> {
        self.map(indices.len(), |a| Ok(take(a, indices, None)?))
    }

    /// `length` rows from `offset`, without a copy.
    pub fn slice(&self, offset: usize, length: usize) -> Result<Self> {
        self.map(length, |a| Ok(a.slice(offset, length)))
    }

    /// The rows for which `mask` is true.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        self.map(mask.true_count(), |a| Ok(filter(a, mask)?))
    }

    fn map(&self, rows: usize, f: impl Fn(&ArrayRef) -> Result<ArrayRef>) -> Result<Self> {
        let all = |columns: &Vec<ArrayRef>| columns.iter().map(&f).collect::<Result<Vec<_>>>();
        Ok(Self {
            groups: all(&self.groups)?,
            arguments: self.arguments.iter().map(all).collect::<Result<Vec<_>>>()?,
            filters: self
                .filters
                .iter()
                .map(|m| match m {
                    Some(m) => Ok(Some(f(&(Arc::new(m.clone()) as ArrayRef))?.as_boolean().clone())),
                    None => Ok(None),
                })
                .collect::<Result<Vec<_>>>()?,
            rows,
        })
    }
}

/// A hash aggregation in progress: one group table and one accumulator per aggregate.
pub struct Groups {
    table: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    indices: Vec<usize>,
    len: usize,
}

impl Groups {
    /// An empty one.
    pub fn new(aggregation: &Aggregation) -> Result<Self> {
        Ok(Self {
            table: aggregation.group_table()?,
            accumulators: aggregation.accumulators()?,
            indices: Vec::new(),
            len: 0,
        })
    }

    /// Aggregates rows.
    pub fn update(&mut self, inputs: &Inputs) -> Result<()> {
        self.intern(&inputs.groups, inputs.rows)?;
        for ((accumulator, arguments), filter) in
            self.accumulators.iter_mut().zip(&inputs.arguments).zip(&inputs.filters)
        {
            accumulator.update_batch(arguments, &self.indices, filter.as_ref(), self.len)?;
        }
        Ok(())
    }

    /// Merges partial aggregates in `state_schema`.
    pub fn merge(&mut self, aggregation: &Aggregation, state: &RecordBatch) -> Result<()> {
        let (groups, _) = state.columns().split_at(aggregation.group_fields.len());
        self.intern(groups, state.num_rows())?;
        for (accumulator, columns) in self.accumulators.iter_mut().zip(aggregation.state_columns(state)?) {
            accumulator.merge_batch(columns, &self.indices, self.len)?;
        }
        Ok(())
    }

    fn intern(&mut self, groups: &[ArrayRef], rows: usize) -> Result<()> {
        match &mut self.table {
            Some(table) => {
                table.intern(groups, &mut self.indices)?;
                self.len = table.len();
            }
            None => {
                self.indices.clear();
                self.indices.resize(rows, 0);
                self.len = 1;
            }
        }
        Ok(())
    }

    /// Ends this aggregation as a batch of `state_schema`.
    pub fn into_state(mut self, aggregation: &Aggregation) -> Result<RecordBatch> {
        let mut columns = match &mut self.table {
            Some(table) => table.emit(EmitTo::All)?,
            None => Vec::new(),
        };
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        aggregation.state_batch(columns, self.len)
    }

    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        self.table.as_ref().map_or(0, |t| t.size()) + self.accumulators.iter().map(|a| a.size()).sum::<usize>()
    }
}

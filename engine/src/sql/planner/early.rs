//! `EMIT EVERY`: results before they are final, as changes.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampNanosecondType};
use datafusion::common::DFSchema;
use datafusion::common::Result as DfResult;
use datafusion::common::internal_err;
use datafusion::logical_expr::{
    self, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, col,
};

use super::aggregate::aggregation;
use super::windows::WindowCall;
use super::{Planner, arrow, physical};
use crate::error::Result;
use crate::operators::accumulate::Aggregation;
use crate::operators::assign::Assign;
use crate::operators::early_session::EarlySessions;
use crate::operators::emit_every::EmitEvery;
use crate::operators::updating::UpdatingAggregate;
use crate::operators::window::{WindowKind, window_column, window_type};
use crate::operators::window_aggregate::SessionAggregate;
use crate::sql::plan::Plan;

impl Planner<'_> {
    /// A windowed aggregate whose results are shown every so often while the window is open: each row goes to the groups
    /// of its windows, whose changes are held back.
    pub(super) fn early(
        &self,
        a: &logical_expr::Aggregate,
        input: Plan,
        window_at: usize,
        call: &WindowCall,
        every: i64,
    ) -> Result<Plan> {
        let windows = match call.check()? {
            WindowKind::Aligned(windows) => windows,
            WindowKind::Session(gap) => {
                let aggregation = Arc::new(aggregation(a, Some(window_at))?);
                let sessions = SessionAggregate { aggregation, gap, window_at, schema: arrow(&a.schema) };
                return Ok(input.over(EarlySessions { sessions, every }));
            }
        };
        let read = input.schema();
        let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let mut fields: Vec<_> = read.fields().iter().map(|f| f.as_ref().clone()).collect();
        for name in ["window_start", "window_end", "window_time"] {
            fields.push(Field::new(name, time.clone(), false));
        }
        // Columns are found by place; names may come twice.
        let numbered: Vec<_> = (0..).zip(&fields).map(|(i, f)| f.clone().with_name(format!("c{i}"))).collect();
        let numbered = DFSchema::try_from(Schema::new(numbered))?;
        let place = |i: usize| col(format!("c{}", read.fields().len() + i));
        let window = ScalarUDF::from(WindowOf { signature: Signature::any(2, Volatility::Immutable) });
        let window = physical(&window.call(vec![place(0), place(1)]), &numbered)?;
        let schema = Arc::new(Schema::new(fields));
        let of_keys = aggregation(a, Some(window_at))?;
        let (mut groups, mut group_fields) = (of_keys.groups, of_keys.group_fields);
        groups.insert(window_at.min(groups.len()), window);
        group_fields.insert(window_at.min(group_fields.len()), a.schema.field(window_at).clone());
        let aggregation = Arc::new(Aggregation::new(groups, group_fields, of_keys.aggregates)?);
        let assigned = input.over(Assign { windows, schema: schema.clone() });
        let aggregate = UpdatingAggregate::of_windows(aggregation, schema, arrow(&a.schema), windows.width)?;
        Ok(self.held(assigned.over(aggregate), a, every, true))
    }

    /// Holds the changes of an aggregate back.
    pub(super) fn held(&self, plan: Plan, a: &logical_expr::Aggregate, every: i64, windowed: bool) -> Plan {
        plan.over(EmitEvery { every, keys: a.group_expr.len(), windowed, schema: arrow(&a.schema) })
    }
}

/// A window from the columns of its start and its end.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowOf {
    signature: Signature,
}

impl ScalarUDFImpl for WindowOf {
    fn name(&self) -> &str {
        "window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(window_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [start, end] = arrays.as_slice() else { return internal_err!("a window has a start and an end") };
        let times = |a: &ArrayRef| a.as_primitive::<TimestampNanosecondType>().values().to_vec();
        Ok(ColumnarValue::Array(window_column(times(start), times(end))))
    }
}

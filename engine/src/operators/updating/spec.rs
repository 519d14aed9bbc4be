//! An updating aggregate as planned.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::aggregate::Updating;
use super::function::{Function, Upkeep};
use super::share::Share;
use crate::error::Result;
use crate::operators::Operator;
use crate::operators::accumulate::Aggregation;
use crate::operators::spec::{Properties, Spec, Warning};
use crate::operators::window::show_duration;

/// `GROUP BY` without a window. *Shape* out: the keys, then the results. Event time of a row: the newest of its group.
/// Without keys there is no row before the first one comes in, or the input ends.
#[derive(Debug, Clone)]
pub struct UpdatingAggregate {
    pub(super) aggregation: Arc<Aggregation>,
    pub(super) functions: Arc<Vec<Function>>,
    pub(super) input: SchemaRef,
    pub(super) schema: SchemaRef,
    /// How long a key without news is kept, in nanoseconds of event time; 0: for ever.
    pub(super) keep: i64,
    /// The time to live that was set, whatever is kept.
    pub(super) ttl: i64,
    /// Whether input rows may take back earlier ones.
    pub(super) retracting: bool,
    /// Whether groups are of windows: they are dropped when those have closed, and take nothing back.
    pub(super) windowed: bool,
}

impl UpdatingAggregate {
    /// One over rows of columns `input`, some of which take back others if `retracting`. `ttl`: how long a key without
    /// news is kept, in nanoseconds of event time; 0: for ever.
    pub fn new(
        aggregation: Arc<Aggregation>,
        input: SchemaRef,
        schema: SchemaRef,
        ttl: i64,
        retracting: bool,
    ) -> Result<Self> {
        let functions: Vec<Function> = aggregation
            .aggregates
            .iter()
            .map(|a| Function::new(&a.function, retracting, &input))
            .collect::<Result<_>>()?;
        // Rows that expire in an operator below are taken back when they do: their group must still be there.
        let keep = match (aggregation.groups.is_empty(), retracting) {
            (true, _) => 0,
            (false, true) => ttl.saturating_mul(2),
            (false, false) => ttl,
        };
        Ok(Self { aggregation, functions: Arc::new(functions), input, schema, keep, ttl, retracting, windowed: false })
    }

    /// One over rows with their windows, `width` nanoseconds long, among the keys. The event time of a row is its window's
    /// last nanosecond.
    pub fn of_windows(aggregation: Arc<Aggregation>, input: SchemaRef, schema: SchemaRef, width: i64) -> Result<Self> {
        Ok(Self { windowed: true, ..Self::new(aggregation, input, schema, width, false)? })
    }

    fn keeps_rows(&self) -> bool {
        self.functions.iter().any(|f| f.upkeep == Upkeep::Recompute)
    }

    fn keeps_values(&self) -> bool {
        self.functions.iter().any(|f| f.first_sight)
    }
}

impl Spec for UpdatingAggregate {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let of = if self.retracting { " of updating rows" } else { "" };
        format!("updating{of} {}", self.aggregation.describe())
    }

    fn state(&self) -> String {
        let mut what = "one row per key".to_string();
        if self.keeps_values() {
            what.push_str(", and one per key and distinct value");
        }
        if self.keeps_rows() {
            what.push_str(", and the different rows of each key");
        }
        match (self.keep, self.aggregation.groups.is_empty()) {
            (_, true) => what.replacen("one row per key", "one row", 1),
            (0, _) => format!("{what}, for ever"),
            (keep, _) => format!("{what}, until the watermark is {} past its newest event", show_duration(keep)),
        }
    }

    fn properties(&self, _inputs: &[Properties]) -> Properties {
        Properties { window: None, updating: true }
    }

    fn warning(&self) -> Option<Warning> {
        if self.keep > 0 {
            return None;
        }
        let grows = if self.aggregation.groups.is_empty() { self.keeps_rows() || self.keeps_values() } else { true };
        grows.then(|| {
            Warning::new(
                format!("the state of '{}' grows with every new key and is never dropped", self.describe()),
                "SET updating_ttl = INTERVAL '1 day' before the query, or group by a window",
            )
        })
    }

    fn is_punctual(&self) -> bool {
        false
    }

    fn may_fail(&self, input: &Schema) -> bool {
        self.aggregation.may_fail(input)
    }

    fn first_half(&self) -> Option<Result<Box<dyn Operator>>> {
        let mergeable = !self.retracting && !self.keeps_values();
        mergeable.then(|| Ok(Box::new(Share::new(self.aggregation.clone(), self.keep)) as Box<dyn Operator>))
    }

    fn build(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Updating::new(self.clone())?))
    }
}

//! An operator as planned: what it does, what is known of its rows, and how to make it.

use std::fmt::Debug;

use arrow::datatypes::{Schema, SchemaRef};

use super::Operator;
use super::join::lookup::Lookup;
use super::window::WindowKind;
use crate::error::Result;

/// Where an operator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In every worker, each on its share of the batches, if its inputs do: it keeps no state.
    Worker,
    /// Once, on all rows in the order of the log.
    Final,
}

/// What is known of an operator's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// The windows that the rows are results of: their event time is the last nanosecond of their window, and they come
    /// when it has closed.
    pub window: Option<WindowKind>,
    /// Whether rows may take back earlier ones.
    pub updating: bool,
}

/// What a query may cost though it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What grows, and why.
    pub message: String,
    /// What to write instead: then the warning goes away.
    pub fix: String,
}

impl Warning {
    /// From two texts.
    pub fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { message: message.into(), fix: fix.into() }
    }

    /// Of state that `SET updating_ttl` bounds, but it is not set.
    pub fn without_ttl(message: impl Into<String>) -> Self {
        Self::new(message, "SET updating_ttl = INTERVAL '1 day' before the query")
    }
}

/// A planned operator. Cheap to keep; every thread that runs it builds its own.
pub trait Spec: Debug + Send + Sync {
    /// The output columns.
    fn schema(&self) -> SchemaRef;

    /// One line that says what it does. Equal operators have equal lines: checkpoints name state by them.
    fn describe(&self) -> String;

    /// What state it keeps and until when, for people; empty if none.
    fn state(&self) -> String {
        String::new()
    }

    /// What is known of its rows, given that of its inputs. The default: what is known of the first.
    fn properties(&self, inputs: &[Properties]) -> Properties {
        inputs.first().cloned().unwrap_or_default()
    }

    /// Where it runs.
    fn place(&self) -> Place {
        Place::Final
    }

    /// Whether its results depend on which of the watermarks it sees, or after which rows: then what feeds it hands on
    /// each at once.
    fn is_punctual(&self) -> bool {
        true
    }

    /// Whether rows can be late for it; they go to `<pipeline>__late`.
    fn has_late_rows(&self) -> bool {
        false
    }

    /// Whether an expression may fail on some row of `input`'s columns; such rows go to `<pipeline>__rejected`.
    fn may_fail(&self, _input: &Schema) -> bool {
        false
    }

    /// Why its state may grow for ever, if it may.
    fn warning(&self) -> Option<Warning> {
        None
    }

    /// The half that runs before the exchange, in every worker, where the operator has two.
    fn first_half(&self) -> Option<Result<Box<dyn Operator>>> {
        None
    }

    /// The table that must be loaded before it is built.
    fn lookup(&self) -> Option<&Lookup> {
        None
    }

    /// The operator.
    fn build(&self) -> Result<Box<dyn Operator>>;
}

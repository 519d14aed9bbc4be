//! Operators: synchronous state machines, one file each. Batches in, batches out; no I/O, no clock, no async.
//!
//! An operator runs inside one thread's [`Graph`](graph::Graph). A windowed aggregate is two operators: each worker
//! aggregates its own share ([`partial`]), one thread merges at close ([`merge`]).

pub mod accumulate;
pub mod assign;
pub mod changelog;
pub mod columns;
pub mod distinct;
pub mod early_session;
pub mod emit_every;
pub mod expiry;
pub mod failing;
pub mod filter;
pub mod from_changelog;
pub mod graph;
pub mod join;
pub mod kept_rows;
pub mod keyed_state;
pub mod limit;
pub mod merge;
pub mod over;
pub mod over_functions;
pub mod over_history;
pub mod over_updating;
pub mod partial;
pub mod partitions;
pub mod project;
pub mod session;
pub mod sort;
pub mod spec;
pub mod spill;
pub mod stored_rows;
pub mod top_n;
pub mod union;
pub mod unnest;
pub mod updating;
pub mod window;
pub mod window_aggregate;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use self::spill::{Spill, Spilled};
use crate::error::{Error, Result};
use crate::message::{FailedRows, LateRows, Rows, SliceState};
use crate::time::Watermark;

/// What an operator hands on while it handles one message.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows for the next operator.
    pub batches: Vec<Rows>,
    /// Partial aggregates for the merge.
    pub slices: Vec<SliceState>,
    /// Rows that were late for a window.
    pub late: Vec<LateRows>,
    /// Rows for which an expression failed.
    pub failed: Vec<FailedRows>,
    /// Whether `on_watermark` has more to give: it is called again, with the same watermark, when this has been handed on.
    pub more: bool,
}

/// A state in so many files is written anew as one. Every restart reads them all; each is a name in every manifest.
pub const FILES_MAX: usize = 32;

/// What changed in an operator's state since the last checkpoint.
#[derive(Debug)]
pub enum StateChange {
    /// Nothing.
    None,
    /// These batches come on top of the earlier files. `needed_until` is the watermark after which none of them matters.
    Append {
        /// Batches of one schema share a file; `restore` gets all in this order.
        batches: Vec<RecordBatch>,
        /// The file can be dropped once the watermark reaches this.
        needed_until: i64,
    },
    /// These batches are the whole state; earlier files can be dropped.
    Replace(Vec<RecordBatch>),
}

/// A synchronous state machine. It never blocks and never fails on data that an earlier check has accepted.
pub trait Operator: Send {
    /// Handles rows of input `port`.
    fn on_batch(&mut self, port: usize, rows: Rows, out: &mut Output) -> Result<()>;

    /// Handles partial aggregates; only a merge gets them.
    fn on_slice(&mut self, _slice: &SliceState, _out: &mut Output) -> Result<()> {
        Err(Error::Bug("partial aggregates sent to an operator that takes rows".into()))
    }

    /// Hears of the watermark of one input, before `on_watermark` hears of the least of all inputs, if that moved.
    fn on_input_watermark(&mut self, _port: usize, _watermark: Watermark) {}

    /// Handles the watermark; returns the one to hand on, which may be held back but never runs ahead.
    fn on_watermark(&mut self, watermark: Watermark, _out: &mut Output) -> Result<Watermark> {
        Ok(watermark)
    }

    /// No more input is there: hands on what was held back to be taken together with more. Whether there was any: then
    /// `on_watermark` is asked again.
    fn on_pause(&mut self, _out: &mut Output) -> Result<bool> {
        Ok(false)
    }

    /// Hands on whatever must not stay in this operator across a checkpoint (a worker keeps no state over a barrier).
    fn on_barrier(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Hands on what a worker can, for memory is short. Unlike a barrier it may come at any place.
    fn shed(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Moves its state out of memory, all of it, for memory is short; whether it did. What it has out of memory then belongs
    /// to its state: see [`Operator::spilled`].
    fn spill(&mut self, _spill: &mut dyn Spill) -> Result<bool> {
        Ok(false)
    }

    /// The state that is out of memory, oldest first; `snapshot` gives only what is in memory.
    fn spilled(&self) -> Vec<Arc<dyn Spilled>> {
        Vec::new()
    }

    /// Takes back one of `spilled` without loading it; called before `restore`, oldest first.
    fn restore_spilled(&mut self, _state: Arc<dyn Spilled>, _watermark: Watermark) -> Result<()> {
        Err(Error::Corrupt("there is spilled state for an operator that spills none".into()))
    }

    /// What changed since the last call; called after `on_pause` and `on_barrier`. `whole`: the state is in so many files that all of it is
    /// to be written anew, as a [`StateChange::Replace`] where it comes in appended files.
    fn snapshot(&mut self, _whole: bool) -> Result<StateChange> {
        Ok(StateChange::None)
    }

    /// Takes back what `snapshot` gave, all live files in order, and the watermark at that checkpoint.
    fn restore(&mut self, _state: Vec<RecordBatch>, _watermark: Watermark) -> Result<()> {
        Ok(())
    }

    /// Bytes of state held in memory, roughly.
    fn state_bytes(&self) -> usize {
        0
    }
}

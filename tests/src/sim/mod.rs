//! The whole engine on one thread, with everything that can fail in our hands.
//!
//! ```text
//!  producers ── network ──> log ──> pipelines ──> checkpoint ──> Delta commit          the engine's own code (Stepped)
//!      │      delay, reorder,  │                      │                │
//!      │      double, drop     └───── SimFs ──────────┘             SimStore           power cut at any step
//!   ledger                     sectors, names, ENOSPC, EIO   503, lost answers, races
//! ```
//!
//! A seed gives a schedule: what is sent, what fails, at which step the power goes out, and what the disk still has
//! afterwards. Every operation of disk and store is a step, so power cuts lie inside of every durable action. The same
//! seed gives the same trace, line for line.

mod delta;
#[allow(dead_code, reason = "the engine's own tests use the rest")]
#[path = "../../../engine/src/fs/sim.rs"]
mod disk;
mod model;
mod producers;
mod run;
mod store;
mod world;

// What the disk's file expects beside it.
use millstream::fs::{DirLock, Fs, FsFile, parent};

pub use delta::{Delta, Live};
pub use run::{Outcome, run, run_damaged};
pub use store::SimStore;
pub use world::{Cut, Weather, World};

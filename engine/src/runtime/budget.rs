//! The memory that the state of all pipelines may take together.
//!
//! Above one mark the threads that have the most hand on or spill to disk what they can. Above the other, what cannot go
//! ends the pipelines with an error that says which of them is large and what to change, rather than by the kernel's hand;
//! the log goes on from there at the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Messages between two looks at the size of an operator's state.
const LOOK_EVERY: u32 = 8;

/// Memory of which a single message can be a large part, so that there is a look after each.
const SMALL_BYTES: usize = 1 << 20;

/// The bounds, and how much is taken. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes_max: usize,
    spill_at: usize,
    taken: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: AtomicUsize,
    threads: AtomicUsize,
}

/// What one thread of a pipeline has taken.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    pipeline: String,
    own: usize,
    messages: u32,
}

impl Budget {
    /// At most `bytes_max`; state is spilled from `spill_at` on, by default from half of it on.
    pub fn new(bytes_max: usize, spill_at: Option<usize>) -> Self {
        Self { bytes_max, spill_at: spill_at.unwrap_or(bytes_max / 2), taken: Arc::default() }
    }

    /// The share of a thread of `pipeline`; nothing yet.
    pub fn share(&self, pipeline: &str) -> Share {
        self.taken.threads.fetch_add(1, Ordering::Relaxed);
        Share { budget: self.clone(), pipeline: pipeline.to_string(), own: 0, messages: 0 }
    }

    /// An equal part of `bytes` for each thread: where all together have more, one has more than that.
    fn part_of(&self, bytes: usize) -> usize {
        bytes / self.taken.threads.load(Ordering::Relaxed).max(1)
    }
}

impl Share {
    /// Counts a message; from time to time takes what the state has grown to. Whether this thread should now give back what
    /// it can, and then [`settle`](Share::settle).
    pub fn is_short(&mut self, state_bytes: impl FnOnce() -> usize) -> bool {
        let spill_at = self.budget.spill_at;
        self.messages += 1;
        if self.messages < LOOK_EVERY && spill_at >= SMALL_BYTES {
            return false;
        }
        self.messages = 0;
        let total = self.take(state_bytes());
        total > spill_at && self.own >= self.budget.part_of(spill_at)
    }

    /// Takes what the state is after some was given back.
    ///
    /// Errors: `Config` when all shares together are over the bound, and this is a large one.
    pub fn settle(&mut self, state_bytes: usize) -> Result<()> {
        let (total, bytes_max) = (self.take(state_bytes), self.budget.bytes_max);
        if total <= bytes_max || self.own < self.budget.part_of(bytes_max) {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the state of all pipelines takes {total} bytes, more than {bytes_max} (state_bytes_max); a thread of '{}' has \
             {} of them: give it shorter windows or fewer keys, or raise the bound; nothing is lost, the next start \
             goes on from the log",
            self.pipeline, self.own
        )))
    }

    /// The total after it.
    fn take(&mut self, now: usize) -> usize {
        let before = std::mem::replace(&mut self.own, now);
        let bytes = &self.budget.taken.bytes;
        if now >= before {
            bytes.fetch_add(now - before, Ordering::Relaxed) + (now - before)
        } else {
            bytes.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.take(0);
        self.budget.taken.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(100, None);
        let (mut a, mut b) = (budget.share("a"), budget.share("b"));
        let short = |share: &mut Share, bytes: usize| (0..LOOK_EVERY).any(|_| share.is_short(|| bytes));
        assert!(!short(&mut a, 50));
        assert!(!short(&mut b, 20), "there is too much, but not of its");
        assert!(short(&mut a, 40));
        assert!(short(&mut b, 90));
        let over = b.settle(90).unwrap_err().to_string();
        assert!(over.contains("takes 130 bytes, more than 100 (state_bytes_max); a thread of 'b' has 90"), "{over}");
        a.settle(40).unwrap();
        b.settle(10).unwrap();
        drop(b);
        assert!(!short(&mut a, 50));
        a.settle(100).unwrap();
    }
}

//! The memory that the state of all pipelines may take together.
//!
//! State is kept in memory. What does not fit ends the pipelines with an error that says which of them is large and what to
//! change, rather than by the kernel's hand; the log goes on from there at the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Messages between two looks at the size of an operator's state.
const LOOK_EVERY: u32 = 32;

/// The bound, and how much is taken. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes_max: usize,
    used: Arc<AtomicUsize>,
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
    /// So many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, used: Arc::default() }
    }

    /// The share of a thread of `pipeline`; nothing yet.
    pub fn share(&self, pipeline: &str) -> Share {
        Share { budget: self.clone(), pipeline: pipeline.to_string(), own: 0, messages: 0 }
    }
}

impl Share {
    /// Counts a message; from time to time takes what the state has grown to.
    ///
    /// Errors: `Config` when all shares together are over the bound.
    pub fn look(&mut self, state_bytes: impl FnOnce() -> usize) -> Result<()> {
        self.messages += 1;
        if self.messages < LOOK_EVERY {
            return Ok(());
        }
        self.messages = 0;
        let (now, before) = (state_bytes(), self.own);
        self.own = now;
        let Budget { bytes_max, used } = &self.budget;
        let total = if now >= before {
            used.fetch_add(now - before, Ordering::Relaxed) + (now - before)
        } else {
            used.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
        };
        if total <= *bytes_max {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the state of all pipelines takes {total} bytes, more than {bytes_max} (state_bytes_max); a thread of '{}' has \
             {now} of them: give it shorter windows or fewer keys, or raise the bound; nothing is lost, the next start \
             goes on from the log",
            self.pipeline
        )))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.share("a"), budget.share("b"));
        let look = |share: &mut Share, bytes: usize| (0..LOOK_EVERY).try_for_each(|_| share.look(|| bytes));
        look(&mut a, 60).unwrap();
        look(&mut b, 40).unwrap();
        look(&mut a, 20).unwrap();
        let over = look(&mut b, 90).unwrap_err().to_string();
        assert!(over.contains("takes 110 bytes, more than 100 (state_bytes_max); a thread of 'b' has 90"), "{over}");
        drop(b);
        look(&mut a, 100).unwrap();
    }
}

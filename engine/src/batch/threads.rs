//! The threads of queries: their own, so that a heavy query holds up no pipeline and no timer.

use tokio::runtime::Runtime;

use crate::error::{Error, Result};

/// Stack of a query thread. Planning recurses on the tree of an expression; [`super::guard`] bounds its depth so that it fits.
const STACK_BYTES: usize = 16 << 20;

/// The threads of queries.
pub(super) struct Threads {
    runtime: Option<Runtime>,
    pub(super) count: usize,
}

impl Threads {
    pub(super) fn new() -> Result<Self> {
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("millstream-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| Error::Storage(format!("cannot start query threads: {e}")))?;
        Ok(Self { runtime: Some(runtime), count })
    }

    pub(super) fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Error::Stopped("queries have ended".into()))
    }
}

impl Drop for Threads {
    /// A runtime may not be dropped where it would block, and queries that still run are to be cancelled.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

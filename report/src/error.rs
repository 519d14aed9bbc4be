//! One small error type: what was wrong, with which named thing, then the fix.

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The author of the chart, table or report must change it: a column is missing or has an unfit type.
    #[error("{0}")]
    Input(String),
    /// The receiver of the bytes failed (a closed connection, a full disk).
    #[error("cannot write the output: {0}; what was written so far is incomplete")]
    Write(#[from] std::io::Error),
    /// A bug of ours: please report it.
    #[error("internal error, please report it: {0}")]
    Bug(String),
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::Input(e.to_string())
    }
}

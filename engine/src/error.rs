//! One error type, its variants named by who must act.

use std::fmt;
use std::io;
use std::path::Path;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by who can mend it. Every message says what was wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The author of the SQL must change it.
    #[error("{0}")]
    Query(SqlError),
    /// The producer of the data must change it; `code` is stable and meant for programs.
    #[error("{code}: {message}")]
    Event {
        /// A stable word such as `UNKNOWN_COLUMN`.
        code: &'static str,
        /// What was wrong and how to mend it.
        message: String,
    },
    /// Whoever runs the engine must change its configuration.
    #[error("configuration: {0}")]
    Config(String),
    /// A disk or an object store failed; trying again later may help.
    #[error("storage: {0}")]
    Storage(String),
    /// Stored bytes are not what was written. Nothing was changed.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// A stated limit was reached; nothing was taken, try again after the delay.
    #[error("limit: {message} (try again in {retry_after_ms} ms)")]
    Limit {
        /// Which limit, and its value.
        message: String,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The engine is closing or has stopped after a failure named here.
    #[error("stopped: {0}")]
    Stopped(String),
    /// A bug of ours: please report it.
    #[error("internal error, please report it: {0}")]
    Bug(String),
}

/// Whether an error says that there is no room: it goes away when somebody frees some.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What an error of a full disk says: libraries that it passes through keep nothing of it but the text.
pub(crate) const DISK_FULL: &str = "the disk is full";

impl Error {
    /// Whether there was no space for what was to be written.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Storage(text) if text.contains(DISK_FULL))
    }

    /// An event error with a stable code.
    pub fn event(code: &'static str, message: impl Into<String>) -> Self {
        Self::Event { code, message: message.into() }
    }

    /// A SQL error without a place; the planner adds the place as it unwinds.
    pub fn sql(message: impl Into<String>) -> Self {
        Self::Query(SqlError { message: message.into(), ..SqlError::default() })
    }

    /// A storage error that names the file.
    pub fn file(path: &Path, doing: &str, e: impl fmt::Display) -> Self {
        Self::Storage(format!("cannot {doing} {}: {e}", path.display()))
    }
}

/// An error in SQL text, with its place and the fix where they are known.
#[derive(Debug, Clone, Default)]
pub struct SqlError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: Option<String>,
    /// The file (or `<sql>`).
    pub file: Option<String>,
    /// Line and column, both from 1.
    pub place: Option<(u64, u64)>,
    /// The text of that line.
    pub line_text: Option<String>,
}

impl SqlError {
    /// What a parser says of `sql`, with its place as numbers and the line's text.
    pub fn of_parser(sql: &str, message: &str) -> Self {
        let message = ["SQL error: ", "sql parser error: ", "ParserError(\"", "TokenizerError(\""]
            .iter()
            .fold(message, |m, prefix| m.strip_prefix(prefix).unwrap_or(m))
            .trim_end_matches("\")");
        let mut error = Self { message: message.to_string(), ..Self::default() };
        if let Some((text, place)) = message.rsplit_once(" at Line: ")
            && let Some((line, column)) = place.split_once(", Column: ")
            && let (Ok(line), Ok(column)) = (line.trim().parse::<u64>(), column.trim().parse::<u64>())
        {
            error.message = text.to_string();
            error.place = Some((line, column));
            error.line_text = sql.lines().nth(line.saturating_sub(1) as usize).map(str::to_string);
        }
        error
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some((line, column)) = self.place {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " ")?;
        }
        write!(f, "{}", self.message)?;
        if let (Some((_, column)), Some(text)) = (self.place, &self.line_text) {
            let pad: String = text
                .chars()
                .take(column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n  {text}\n  {pad}^")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

impl From<SqlError> for Error {
    fn from(e: SqlError) -> Self {
        Self::Query(e)
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(e: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as D;
        match e.find_root() {
            D::Plan(_) | D::SchemaError(..) | D::SQL(..) | D::NotImplemented(_) | D::Diagnostic(..) => {
                Self::sql(e.strip_backtrace())
            }
            D::ResourcesExhausted(m) => Self::Limit { message: m.clone(), retry_after_ms: 1_000 },
            D::ObjectStore(_) | D::IoError(_) => Self::Storage(e.strip_backtrace()),
            D::ArrowError(..) | D::Execution(_) => Self::event("EXECUTION", e.strip_backtrace()),
            _ => Self::Bug(e.strip_backtrace()),
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::from(datafusion::error::DataFusionError::from(e))
    }
}

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        Self::Storage(e.to_string())
    }
}

impl From<deltalake_core::DeltaTableError> for Error {
    fn from(e: deltalake_core::DeltaTableError) -> Self {
        Self::Storage(format!("Delta table: {e}"))
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(e: parquet::errors::ParquetError) -> Self {
        Self::Storage(format!("Parquet: {e}"))
    }
}

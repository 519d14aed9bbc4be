//! Errors of queries, by who can mend them.

use datafusion::error::DataFusionError;
use tokio::task::JoinError;

use super::QueryLimits;
use super::query::SPILL_FACTOR;
use crate::error::Error;

/// An error of DataFusion, such as one in a stream of rows, as ours: by who can mend it.
pub fn query_error(e: DataFusionError) -> Error {
    if let DataFusionError::External(inner) = e.find_root() {
        return match inner.downcast_ref::<Error>() {
            Some(Error::Limit { message, retry_after_ms }) => {
                Error::Limit { message: message.clone(), retry_after_ms: *retry_after_ms }
            }
            _ => Error::Storage(inner.to_string()),
        };
    }
    match Error::from(e) {
        Error::Limit { message, .. } => memory_error(message.lines().next().unwrap_or(&message)),
        Error::Event { message, .. } if message.contains("disk space during the spilling") => Error::Limit {
            message: format!(
                "the query needs more temporary disk than {SPILL_FACTOR} times its memory (query.memory_bytes_max); filter \
                 or aggregate more"
            ),
            retry_after_ms: 1_000,
        },
        Error::Query(mut sql) => {
            for prefix in ["Error during planning: ", "Schema error: ", "This feature is not implemented: "] {
                sql.message = sql.message.trim_start_matches(prefix).to_string();
            }
            Error::Query(sql)
        }
        other => other,
    }
}

pub(super) fn memory_error(detail: &str) -> Error {
    let message = format!("the query needs more memory than it may use ({detail}); filter or aggregate more");
    Error::Limit { message, retry_after_ms: 1_000 }
}

pub(super) fn timeout_error(limits: &QueryLimits) -> Error {
    let message = format!("the query took longer than {:?} and was cancelled; narrow it to fewer days", limits.timeout);
    Error::Limit { message, retry_after_ms: 1_000 }
}

pub(super) fn ended(e: JoinError) -> Error {
    if e.is_panic() {
        Error::Bug(format!("a query panicked: {e}"))
    } else {
        Error::Stopped("queries have ended".into())
    }
}

/// The name with the fewest edits from `wanted`, if they are few.
pub(super) fn closest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a String> {
    let (distance, name) = names.iter().map(|n| (strsim::levenshtein(wanted, n), n)).min()?;
    (distance <= wanted.chars().count() / 3 + 1).then_some(name)
}

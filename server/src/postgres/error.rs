//! Errors as PostgreSQL tells them: a five-letter code that programs branch on, the message, the fix as the hint.

use millstream::{Error, SqlError};
use pgwire::error::{ErrorInfo, PgWireError};

/// An error of the engine about `sql`, which the client's message holds whole.
pub fn of(error: Error, sql: &str) -> PgWireError {
    if matches!(error, Error::Bug(_) | Error::Storage(_) | Error::Corrupt(_)) {
        tracing::error!("postgres: {error}");
    }
    let text = error.to_string();
    let place = match &error {
        Error::Query(about) => position(sql, about),
        _ => None,
    };
    let (code, message, hint) = match error {
        Error::Query(sql) => {
            let fix = sql.fix.clone();
            let message = sql.message.clone();
            (query_code(&message), message, fix)
        }
        Error::Limit { .. } if text.contains("took longer") => ("57014", text, None),
        Error::Limit { .. } if text.contains("memory") => ("53200", text, None),
        Error::Limit { .. } => ("54000", text, None),
        Error::Event { .. } => ("22000", text, None),
        Error::Storage(_) | Error::Corrupt(_) => ("58030", text, None),
        Error::Stopped(_) => ("57P01", text, None),
        Error::Config(_) => ("F0000", text, None),
        Error::Bug(_) => ("XX000", text, None),
    };
    let mut info = ErrorInfo::new("ERROR".into(), code.into(), message);
    info.hint = hint;
    info.position = place.map(|place| place.to_string());
    PgWireError::UserError(Box::new(info))
}

/// An error of this face.
pub fn new(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".into(), code.into(), message.into())))
}

/// The end of a connection that may not be.
pub fn fatal(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".into(), code.into(), message.into())))
}

/// Which character of `sql` the error is about, from 1: the parser's place, or else where the name stands that was not found.
fn position(sql: &str, error: &SqlError) -> Option<usize> {
    if let Some((line, column)) = error.place {
        let before = sql.split_inclusive('\n').take(usize::try_from(line).ok()?.checked_sub(1)?);
        return Some(before.map(|line| line.chars().count()).sum::<usize>() + usize::try_from(column).ok()?);
    }
    if error.message.ends_with("found: EOF") {
        return Some(sql.chars().count() + 1);
    }
    let name = ["No field named ", "there is no table '", "Invalid function '"].iter().find_map(|prefix| {
        let (_, rest) = error.message.split_once(prefix)?;
        let name = rest.split([' ', ',', '\'', '\n']).next()?.trim_end_matches('.');
        name.rsplit('.').next().map(|last| last.trim_matches('"').to_ascii_lowercase())
    });
    let name = name.filter(|name| !name.is_empty())?;
    let lower = sql.to_ascii_lowercase();
    let of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let found = lower.match_indices(&name).map(|(at, _)| at).find(|at| {
        let (before, after) = (lower.get(..*at), lower.get(at + name.len()..));
        !of_word(before.and_then(|b| b.chars().next_back())) && !of_word(after.and_then(|a| a.chars().next()))
    })?;
    Some(sql.get(..found)?.chars().count() + 1)
}

fn query_code(message: &str) -> &'static str {
    let text = message.to_ascii_lowercase();
    if text.contains("not allowed") {
        "25006"
    } else if text.contains("there is no table") || text.contains("not found") && text.contains("table") {
        "42P01"
    } else if text.contains("no field named") {
        "42703"
    } else if text.contains("invalid function") {
        "42883"
    } else {
        "42601"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sql: &str, message: &str) -> Option<usize> {
        position(sql, &SqlError { message: message.into(), ..SqlError::default() })
    }

    #[test]
    fn errors_have_the_place_that_psql_draws_its_caret_under() {
        assert_eq!(place("SELECT ä, nope FROM t", "No field named nope. Did you mean 'x'?"), Some(11));
        assert_eq!(place("SELECT 1 FROM nopes, nope", "there is no table 'nope'"), Some(22));
        assert_eq!(place("SELECT t.Nope FROM t", "No field named t.\"nope\"."), Some(10));
        assert_eq!(place("SELECT 1", "something else"), None);
        let parsed =
            SqlError::of_parser("SELECT\n  FROM", "sql parser error: Expected: x, found: EOF at Line: 2, Column: 3");
        assert_eq!(
            (parsed.message.as_str(), position("SELECT\n  FROM", &parsed)),
            ("Expected: x, found: EOF", Some(10))
        );
    }
}

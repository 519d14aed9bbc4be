//! Statements that clients send around their queries. The server only reads, so there is nothing to begin or to set:
//! they are answered as PostgreSQL would and change nothing.

use millstream::QueryLimits;

use super::copy::Copy;

/// What a statement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `ROLLBACK`, with the tag of the answer.
    End(&'static str),
    /// Anything else that is accepted and does nothing, with the tag of the answer.
    Nothing(&'static str),
    /// `SHOW name`: one row with the setting.
    Show(String),
    /// `COPY ... TO STDOUT`.
    Copy(Copy),
}

/// The command that a statement is, if it is none to be planned.
pub fn of(statement: &str) -> Option<Command> {
    let upper = statement.trim_end_matches(';').to_ascii_uppercase();
    let mut words = upper.split_whitespace();
    let (first, second) = (words.next()?, words.next().unwrap_or(""));
    Some(match (first, second) {
        ("BEGIN" | "START", _) => Command::Begin,
        ("COMMIT" | "END", _) => Command::End("COMMIT"),
        ("ROLLBACK", "TO") => Command::Nothing("ROLLBACK"),
        ("ROLLBACK", _) if upper.contains(" TO ") => Command::Nothing("ROLLBACK"),
        ("ROLLBACK", _) => Command::End("ROLLBACK"),
        ("SAVEPOINT", _) => Command::Nothing("SAVEPOINT"),
        ("RELEASE", _) => Command::Nothing("RELEASE"),
        ("SET", _) => Command::Nothing("SET"),
        ("RESET", _) => Command::Nothing("RESET"),
        ("DISCARD", _) => Command::Nothing("DISCARD ALL"),
        ("DEALLOCATE", _) => Command::Nothing("DEALLOCATE"),
        ("UNLISTEN", _) => Command::Nothing("UNLISTEN"),
        ("SHOW", "TABLES" | "COLUMNS" | "ALL" | "FUNCTIONS") => return None,
        ("SHOW", _) => Command::Show(upper.get(first.len()..)?.trim().to_ascii_lowercase()),
        _ => return None,
    })
}

/// The settings that `pg_settings` lists.
pub const SETTINGS: [&str; 21] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "integer_datetimes",
    "intervalstyle",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_isolation",
];

/// The value of a setting.
pub fn setting(name: &str, limits: &QueryLimits) -> Option<String> {
    let name = name.trim().trim_matches('"').to_ascii_lowercase().replace(' ', "_");
    let value = match name.as_str() {
        "transaction_isolation" | "transaction_isolation_level" | "default_transaction_isolation" => "read committed",
        "server_version" => SERVER_VERSION,
        "server_version_num" => "160006",
        "search_path" => "\"$user\", public",
        "client_encoding" | "server_encoding" => "UTF8",
        "timezone" | "time_zone" => "UTC",
        "datestyle" => "ISO, YMD",
        "intervalstyle" => "postgres",
        "standard_conforming_strings"
        | "integer_datetimes"
        | "default_transaction_read_only"
        | "transaction_read_only" => "on",
        "is_superuser" | "in_hot_standby" => "off",
        "extra_float_digits" => "1",
        "max_identifier_length" => "63",
        "max_index_keys" => "32",
        "lc_collate" | "lc_ctype" => "C.UTF-8",
        "application_name" => "",
        "bytea_output" => "hex",
        "statement_timeout" => return Some(format!("{}ms", limits.timeout.as_millis())),
        _ => return None,
    };
    Some(value.to_string())
}

/// The PostgreSQL whose catalogue and protocol clients find here.
pub const SERVER_VERSION: &str = "16.6";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_around_their_queries() {
        assert_eq!(of("BEGIN"), Some(Command::Begin));
        assert_eq!(of("START TRANSACTION READ ONLY;"), Some(Command::Begin));
        assert_eq!(of("rollback to savepoint a"), Some(Command::Nothing("ROLLBACK")));
        assert_eq!(of("SHOW TRANSACTION ISOLATION LEVEL"), Some(Command::Show("transaction isolation level".into())));
        assert_eq!(of("SHOW TABLES"), None);
        assert_eq!(of("SELECT 1"), None);
        let limits = QueryLimits::default();
        assert_eq!(setting("transaction isolation level", &limits).as_deref(), Some("read committed"));
        assert_eq!(setting("nope", &limits), None);
        assert!(SETTINGS.iter().all(|name| setting(name, &limits).is_some()));
    }
}

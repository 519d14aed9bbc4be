//! SQL over PostgreSQL's wire protocol: psql, Grafana, Metabase and every driver read the tables with what they have.
//!
//! In: one read-only statement at a time, with parameters. It goes through the same guard, limits and threads as
//! `POST /api/v1/sql`; `pg_catalog` and `information_schema` list the lake's tables. The password is an API key of the
//! role analyst. Only hashes of keys are kept, so the challenge methods of PostgreSQL are impossible and the key
//! travels as it is: over TLS, or on the loopback interface, and nowhere else.
//!
//! `COPY ... TO STDOUT` sends rows as they are computed, so it has no limit on rows.
//!
//! Never: writes, transactions (BEGIN and COMMIT are accepted and mean nothing), cursors by name.

mod catalog;
mod command;
mod config;
mod copy;
mod dialect;
mod encode;
mod error;
mod functions;
mod listen;
mod login;
mod parameter;
mod session;
mod stream;

use millstream::Error;

pub use self::config::PostgresConfig;
pub use self::listen::serve;

/// A bug of ours as the engine's error.
fn bug(e: impl std::fmt::Display) -> Error {
    Error::Bug(e.to_string())
}

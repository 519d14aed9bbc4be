//! `connector = 'postgres'`: the rows of a PostgreSQL table, as they are when it is read.
//!
//! Values travel as text, as PostgreSQL writes them in JSON (times in ISO 8601), so every type that casts to the declared
//! one will do. One query is asked of one connection ([`wire`]), in a transaction of its own: the rows are of one moment.

mod wire;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use url::Url;

use super::options::Options;
use super::{Read, Source};
use crate::error::{Error, Result, SqlError};

/// Where a table is.
#[derive(Clone)]
pub struct PostgresOptions {
    host: String,
    port: u16,
    database: String,
    user: String,
    password: String,
    /// `users` or `schema.users`.
    table: String,
}

impl std::fmt::Debug for PostgresOptions {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresOptions({}@{} {})", self.user, self.server(), self.table)
    }
}

impl PostgresOptions {
    /// Takes `url` and `table` (by default the name of the declared table).
    pub fn from_options(name: &str, options: &mut Options) -> Result<Self> {
        let wrong = |message: String| {
            Error::Query(SqlError {
                message,
                fix: Some("write url = 'postgres://user:password@host:5432/database'".into()),
                ..SqlError::default()
            })
        };
        let Some(text) = options.text("url")? else {
            return Err(wrong(format!("table '{name}' with connector 'postgres' needs the option url")));
        };
        let url = Url::parse(&text).map_err(|e| wrong(format!("the url of table '{name}' is not one: {e}")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong(format!("the url of table '{name}' is one of '{}'", url.scheme())));
        }
        let tls = |(key, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
            key == "sslmode" && !matches!(value.as_ref(), "disable" | "allow" | "prefer")
        };
        if url.query_pairs().any(tls) {
            return Err(wrong(format!(
                "the url of table '{name}' asks for TLS, which connector 'postgres' does not speak"
            )));
        }
        let Some(host) = url.host_str().filter(|h| !h.is_empty()) else {
            return Err(wrong(format!("the url of table '{name}' names no host")));
        };
        let plain = |text: &str| percent_decoded(text);
        let user = if url.username().is_empty() { "postgres".to_string() } else { plain(url.username()) };
        let database = plain(url.path().trim_start_matches('/'));
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_string(),
            port: url.port().unwrap_or(5432),
            database: if database.is_empty() { user.clone() } else { database },
            user,
            password: plain(url.password().unwrap_or_default()),
            table: options.text("table")?.unwrap_or_else(|| name.to_string()),
        })
    }

    fn server(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }

    fn query(&self, schema: &SchemaRef) -> String {
        let column = |f: &arrow::datatypes::FieldRef| format!("to_json({}) #>> '{{}}'", quoted(f.name()));
        let columns: Vec<String> = schema.fields().iter().map(column).collect();
        let table: Vec<String> = self.table.split('.').map(quoted).collect();
        format!("SET TIME ZONE 'UTC'; SELECT {} FROM {}", columns.join(", "), table.join("."))
    }
}

fn quoted(name: impl AsRef<str>) -> String {
    format!("\"{}\"", name.as_ref().replace('"', "\"\""))
}

/// `%40` as `@`; what is not an escape stays.
fn percent_decoded(text: &str) -> String {
    // A form's pairs are escaped likewise, but for the plus.
    let pair = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(pair.as_bytes()).next().map_or(String::new(), |(text, _)| text.into_owned())
}

/// A table read in one go.
pub struct PostgresSource {
    options: PostgresOptions,
    schema: SchemaRef,
    read: bool,
}

impl PostgresSource {
    /// A source of `schema`'s columns; nothing is asked of the server yet.
    pub fn new(options: PostgresOptions, schema: SchemaRef) -> Self {
        Self { options, schema, read: false }
    }

    fn rows(&self) -> Result<Vec<ArrayRef>> {
        let o = &self.options;
        let failed = |why: String| {
            Error::Storage(format!("cannot read table {} of PostgreSQL at {}: {why}", o.table, o.server()))
        };
        let mut connection =
            wire::Connection::open(&o.host, o.port, &o.user, &o.password, &o.database).map_err(failed)?;
        let mut texts: Vec<StringBuilder> = self.schema.fields().iter().map(|_| StringBuilder::new()).collect();
        let row = |values: &[Option<&str>]| {
            for (column, value) in texts.iter_mut().zip(values) {
                column.append_option(*value);
            }
        };
        connection.query(&o.query(&self.schema), row).map_err(failed)?;
        Ok(texts.into_iter().map(|mut t| Arc::new(t.finish()) as ArrayRef).collect())
    }
}

impl Source for PostgresSource {
    fn read(&mut self) -> Result<Read> {
        if std::mem::replace(&mut self.read, true) {
            return Ok(Read::default());
        }
        let table = &self.options.table;
        let cast = |(texts, field): (ArrayRef, &arrow::datatypes::FieldRef)| {
            let strictly = CastOptions { safe: false, ..CastOptions::default() };
            let column = match field.data_type() {
                DataType::Utf8 => Ok(texts),
                wanted => cast_with_options(&texts, wanted, &strictly),
            };
            let wrong =
                |e| Error::event("WRONG_TYPE", format!("column '{}' of PostgreSQL table {table}: {e}", field.name()));
            column.map_err(wrong)
        };
        let columns = self.rows()?.into_iter().zip(self.schema.fields()).map(cast).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|e| Error::event("WRONG_TYPE", format!("PostgreSQL table {table}: {e}")))?;
        Ok(Read { batch: Some(batch), ..Read::default() })
    }
}

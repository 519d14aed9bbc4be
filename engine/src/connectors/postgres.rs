//! `connector = 'postgres'`: the rows of a PostgreSQL table, as they are when it is read.
//!
//! Values travel as text, as PostgreSQL writes them in JSON (times in ISO 8601), so every type that casts to the declared
//! one will do. One query is asked of one connection, in a transaction of its own: the rows are of one moment. Each reading
//! connects anew and blocks the thread that asks; `sslmode=require` in the url connects over TLS ([`tls`]).

mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use futures::TryStreamExt;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use url::Url;

use super::options::Options;
use super::{Read, Source};
use crate::error::{Error, Result, SqlError};

/// A server that says nothing for so long is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a table is.
#[derive(Clone)]
pub struct PostgresOptions {
    host: String,
    port: u16,
    database: String,
    user: String,
    password: String,
    /// Whether the connection is encrypted and the server's certificate verified.
    tls: bool,
    /// A PEM file with the roots that vouch for the server; else those of the machine.
    roots: Option<String>,
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
        let (mut tls, mut roots) = (false, None);
        for (key, value) in url.query_pairs() {
            match (key.as_ref(), value.as_ref()) {
                ("sslmode", "disable" | "allow" | "prefer") => tls = false,
                ("sslmode", "require" | "verify-ca" | "verify-full") => tls = true,
                ("sslrootcert", path) if !path.is_empty() => roots = Some(path.to_string()),
                (key, value) => {
                    return Err(Error::Query(SqlError {
                        message: format!("the url of table '{name}' has {key}={value}, which is not known here"),
                        fix: Some(
                            "write sslmode=require, sslmode=disable or sslrootcert=/path/to/ca.pem, or leave it out"
                                .into(),
                        ),
                        ..SqlError::default()
                    }));
                }
            }
        }
        if roots.is_some() && !tls {
            return Err(wrong(format!(
                "the url of table '{name}' has sslrootcert but not sslmode=require, so nothing would be verified"
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
            tls,
            roots,
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

    /// Connects, asks, and hands over each row.
    async fn ask(&self, sql: &str, row: &mut (dyn FnMut(SimpleQueryRow) + Send)) -> std::result::Result<(), String> {
        let mut config = Config::new();
        config.host(&self.host).port(self.port).user(&self.user).password(&self.password).dbname(&self.database);
        config.application_name("millstream").connect_timeout(PATIENCE);
        if self.tls {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            let tls = tls::Tls::new(self.roots.as_deref())?;
            let (client, connection) = in_time(config.connect(tls)).await?;
            return over(client, connection, sql, row).await;
        }
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = in_time(config.connect(NoTls)).await?;
        over(client, connection, sql, row).await
    }
}

/// Asks over an open connection, which does its work meanwhile.
async fn over(
    client: Client,
    connection: impl Future<Output = std::result::Result<(), tokio_postgres::Error>>,
    sql: &str,
    row: &mut (dyn FnMut(SimpleQueryRow) + Send),
) -> std::result::Result<(), String> {
    let asking = async {
        let messages = in_time(client.simple_query_raw(sql)).await?;
        let mut messages = std::pin::pin!(messages);
        while let Some(message) = in_time(messages.try_next()).await? {
            if let SimpleQueryMessage::Row(values) = message {
                row(values);
            }
        }
        Ok(())
    };
    tokio::select! {
        answer = asking => answer,
        ended = connection => Err(ended.map_or_else(|e| told(&e), |()| "the server closed the connection".to_string())),
    }
}

/// What comes within the time in which a server must say something.
async fn in_time<T>(
    coming: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> std::result::Result<T, String> {
    match tokio::time::timeout(PATIENCE, coming).await {
        Ok(answer) => answer.map_err(|e| told(&e)),
        Err(_) => Err(format!("the server said nothing for {} seconds", PATIENCE.as_secs())),
    }
}

/// What the server said, or what lies below the driver's words.
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return answer.message().to_string();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
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
        let mut texts: Vec<StringBuilder> = self.schema.fields().iter().map(|_| StringBuilder::new()).collect();
        let mut row = |values: SimpleQueryRow| {
            for (index, column) in texts.iter_mut().enumerate() {
                column.append_option(values.get(index));
            }
        };
        let sql = o.query(&self.schema);
        // On a thread of its own: whoever reads may be part of a runtime, in which no other one can run.
        let asked = std::thread::scope(|scope| {
            let ask = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(|e| e.to_string())?.block_on(o.ask(&sql, &mut row))
            };
            scope.spawn(ask).join().unwrap_or_else(|_| Err("the driver panicked".into()))
        });
        asked.map_err(failed)?;
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

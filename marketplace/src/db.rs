//! The database: SQLite or PostgreSQL, one schema, one set of statements.
//!
//! Statements use `$1`, ON CONFLICT and RETURNING, which both know, and only TEXT, BIGINT and DOUBLE PRECISION. On SQLite
//! writers queue here, in the process, so that none of them ever sees "database is locked".

use std::path::Path;
use std::sync::Arc;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Executor, Row, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::problem::{Problem, Result};

const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "schema", include_str!("../migrations/0001_schema.sql")),
    (2, "identities and follows", include_str!("../migrations/0002_identities_and_follows.sql")),
];

/// More readers than cores help while some wait for a disk.
const CONNECTIONS_MAX: u32 = 8;

/// An open database.
#[derive(Debug, Clone)]
pub struct Db {
    pool: AnyPool,
    /// Held by the one writer of an SQLite file.
    writer: Option<Arc<Mutex<()>>>,
}

/// A transaction that may write. Dropped without [`Tx::commit`], it never was.
pub struct Tx {
    inner: Transaction<'static, Any>,
    _writer: Option<OwnedMutexGuard<()>>,
}

impl Db {
    /// Opens `url` (`sqlite:///path`, `postgres://...`), makes an SQLite file that is not there, brings the schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let with_mode = if sqlite && !url.contains('?') { format!("{url}?mode=rwc") } else { url.to_string() };
        let options: AnyConnectOptions = with_mode.parse().map_err(|e| {
            Problem::invalid(format!("database_url '{url}': {e}; write sqlite:///path/market.db or postgres://..."))
        })?;
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        // A payment that was acknowledged must outlive a power cut: synchronous = FULL.
                        connection
                            .execute(
                                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                                 PRAGMA busy_timeout = 10000; PRAGMA cache_size = -65536;",
                            )
                            .await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(|e| Problem::unavailable(format!("database_url '{url}' cannot be opened: {e}")))?;
        let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, sqlx::SqlSafeStr::into_sql_str(*sql), false)
        });
        Migrator::with_migrations(migrations.collect())
            .run(&pool)
            .await
            .map_err(|e| Problem::internal(format!("the schema of '{url}' cannot be brought up to date: {e}")))?;
        Ok(Self { pool, writer: sqlite.then(Arc::default) })
    }

    /// A database in the file `path`.
    pub async fn open_file(path: &Path) -> Result<Self> {
        Self::open(&format!("sqlite://{}", path.display())).await
    }

    /// For reading.
    pub fn read(&self) -> &AnyPool {
        &self.pool
    }

    /// For writing.
    pub async fn begin(&self) -> Result<Tx> {
        let Some(writer) = &self.writer else {
            return Ok(Tx { inner: self.pool.begin().await?, _writer: None });
        };
        let guard = writer.clone().lock_owned().await;
        Ok(Tx { inner: self.pool.begin_with("BEGIN IMMEDIATE").await?, _writer: Some(guard) })
    }

    /// Does what the statements promise, and nothing else, hold a lock on a row for the rest of a transaction.
    pub fn for_update(&self) -> &'static str {
        if self.writer.is_some() { "" } else { " FOR UPDATE" }
    }
}

impl Tx {
    /// Makes it so.
    pub async fn commit(self) -> Result<()> {
        Ok(self.inner.commit().await?)
    }

    /// For statements.
    pub fn on(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }
}

/// A column's text.
pub fn text(row: &AnyRow, column: &str) -> Result<String> {
    Ok(row.try_get(column)?)
}

/// A column's text, or none where it is NULL.
pub fn text_or_null(row: &AnyRow, column: &str) -> Result<Option<String>> {
    Ok(row.try_get(column)?)
}

/// A column's number.
pub fn number(row: &AnyRow, column: &str) -> Result<i64> {
    Ok(row.try_get(column)?)
}

/// A column's number, or none where it is NULL.
pub fn number_or_null(row: &AnyRow, column: &str) -> Result<Option<i64>> {
    Ok(row.try_get(column)?)
}

/// A column's JSON list of texts.
pub fn list(row: &AnyRow, column: &str) -> Result<Vec<String>> {
    Ok(serde_json::from_str(&text(row, column)?)?)
}

/// A new id; ids sort by the time they were made.
pub fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// Was it a UNIQUE constraint that refused a statement?
pub fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.is_unique_violation())
}

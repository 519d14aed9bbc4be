//! Where rows come from and go to. One file each; [`Connector`] names them all.
//!
//! | connector | source | sink | after a crash |
//! |---|---|---|---|
//! | `ingest` | what [`Engine::append`](crate::Engine::append) took | | read again from the log |
//! | `single_file` | a file, once | a file | read again; cut back to the last checkpoint |
//! | `lake` | a Delta table, once | a Delta table | committed once, by transaction version |
//! | `nexmark` | made-up auction events | | computes where it was |
//! | `postgres` | a table of PostgreSQL, once or from time to time | | a lookup table: from the checkpoint |
//! | `memory` | | batches for an embedder | rows since the last checkpoint come again |
//! | `stdout` | | JSON lines | rows since the last checkpoint come again |
//! | `blackhole` | | nothing: counts | |

pub mod avro;
pub mod blackhole;
pub mod csv;
pub mod file_sink;
pub mod ingest;
pub mod json;
pub mod json_options;
pub mod lake_sink;
pub mod lake_source;
pub mod memory;
pub mod metadata;
pub mod nexmark;
pub mod options;
pub mod parquet;
pub mod postgres;
pub mod single_file;
pub mod stdout;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::error::{Error, Result, SqlError};
use crate::message::Rows;
use options::Options;

/// A table's connector with its options.
#[derive(Debug, Clone)]
pub enum Connector {
    /// Rows appended by producers.
    Ingest,
    /// A file.
    SingleFile(single_file::FileOptions),
    /// A Delta table.
    Lake,
    /// Batches in memory.
    Memory,
    /// Made-up events of an online auction.
    Nexmark(nexmark::NexmarkOptions),
    /// A table of PostgreSQL.
    Postgres(postgres::PostgresOptions),
    /// Lines on standard output.
    Stdout(json_options::JsonOptions),
    /// Nothing.
    Blackhole,
}

const NAMES: &str = "ingest, single_file, lake, memory, nexmark, postgres, stdout, blackhole";

impl Connector {
    /// Takes the connector and its own options; `table` names it in errors.
    pub fn from_options(table: &str, options: &mut Options) -> Result<Self> {
        let profile = options.text("connection_profile")?;
        if profile.is_some() {
            return Err(Error::Query(SqlError {
                message: format!("table '{table}' names a connection_profile, and there are none here"),
                fix: Some("write the profile's options into this WITH (...)".into()),
                ..SqlError::default()
            }));
        }
        let Some(name) = options.text("connector")? else {
            return Err(Error::Query(SqlError {
                message: format!("table '{table}' has no connector"),
                fix: Some(format!("add WITH (connector = '...'), one of: {NAMES}")),
                ..SqlError::default()
            }));
        };
        match name.as_str() {
            "ingest" => {
                // Its server decodes JSON, typed events and Arrow alike; rows that it cannot decode are rejected.
                options.word("format", &["json"])?;
                options.word("bad_data", &["drop", "reject"])?;
                Ok(Self::Ingest)
            }
            "single_file" => Ok(Self::SingleFile(single_file::FileOptions::from_options(options)?)),
            "lake" | "delta" => {
                options.word("format", &["parquet", "json"])?;
                refuse_partitioning(table, options)?;
                Ok(Self::Lake)
            }
            "memory" => {
                options.word("format", &["json"])?;
                Ok(Self::Memory)
            }
            "nexmark" => Ok(Self::Nexmark(nexmark::NexmarkOptions::from_options(options)?)),
            "postgres" => Ok(Self::Postgres(postgres::PostgresOptions::from_options(table, options)?)),
            "stdout" => {
                options.word("format", &["json"])?;
                Ok(Self::Stdout(json_options::JsonOptions::from_options(options)?))
            }
            "blackhole" => {
                options.word("format", &["json"])?;
                Ok(Self::Blackhole)
            }
            other => Err(Error::Query(SqlError {
                message: format!("unknown connector '{other}'"),
                fix: Some(match instead_of(other) {
                    None => format!("use one of: {NAMES}"),
                    Some(fix) => format!("{fix}; there are {NAMES}"),
                }),
                ..SqlError::default()
            })),
        }
    }

    /// Its name in SQL.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::SingleFile(_) => "single_file",
            Self::Lake => "lake",
            Self::Memory => "memory",
            Self::Nexmark(_) => "nexmark",
            Self::Postgres(_) => "postgres",
            Self::Stdout(_) => "stdout",
            Self::Blackhole => "blackhole",
        }
    }

    /// Whether a query can read from it.
    pub fn can_read(&self) -> bool {
        matches!(self, Self::Ingest | Self::SingleFile(_) | Self::Lake | Self::Nexmark(_) | Self::Postgres(_))
    }

    /// Whether its rows end, if it is read from.
    pub fn is_bounded(&self) -> bool {
        !matches!(self, Self::Ingest)
    }

    /// Whether `INSERT INTO` can write to it.
    pub fn can_write(&self) -> bool {
        !matches!(self, Self::Ingest | Self::Nexmark(_) | Self::Postgres(_))
    }

    /// The columns that the connector itself knows, so that `CREATE TABLE` need not list them.
    pub fn columns(&self) -> Option<SchemaRef> {
        match self {
            Self::Nexmark(options) => Some(options.columns()),
            _ => None,
        }
    }

    /// Refuses columns that its format cannot hold; `table` names them.
    pub fn check_columns(&self, table: &str, columns: &Schema) -> Result<()> {
        match self {
            Self::SingleFile(file) => file.lines.check_columns(table, columns),
            Self::Stdout(lines) => lines.check_columns(table, columns),
            _ => Ok(()),
        }
    }

    /// The event time column of a table that names none.
    pub fn event_time(&self) -> Option<&'static str> {
        matches!(self, Self::Nexmark(_)).then_some(nexmark::EVENT_TIME)
    }
}

/// Tables of the lake are partitioned by day: options may say so, but nothing else.
fn refuse_partitioning(table: &str, options: &mut Options) -> Result<()> {
    match options.text("partitioning.time_pattern")? {
        None => return Ok(()),
        Some(pattern) if pattern == "%Y-%m-%d" => return Ok(()),
        Some(_) => {}
    }
    Err(Error::Query(SqlError {
        message: format!(
            "table '{table}' cannot have this 'partitioning.time_pattern': Delta tables here are partitioned by the day of the \
             event time"
        ),
        fix: Some("write '%Y-%m-%d', or leave it out; for hours, PARTITIONED BY (a column of the hour)".into()),
        ..SqlError::default()
    }))
}

/// A row that could not be decoded or cast.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Where in its source: the line of a file from 1, the index in a request from 0.
    pub position: u64,
    /// A stable word such as `WRONG_TYPE`.
    pub code: String,
    /// What was wrong.
    pub message: String,
    /// The row as it came.
    pub raw: Vec<u8>,
}

/// What a source read.
#[derive(Debug, Default)]
pub struct Read {
    /// Rows in the table's arriving columns; `None` at the end of a bounded source.
    pub batch: Option<RecordBatch>,
    /// Rows that were not understood.
    pub rejected: Vec<Rejected>,
    /// The line of each row of the batch, if its source has lines.
    pub positions: Vec<u64>,
}

/// A bounded source that is read once, in order.
pub trait Source: Send {
    /// The next rows. After the end: a `Read` without batch.
    fn read(&mut self) -> Result<Read>;

    /// Passes over the first batches; false if there are fewer. Called once, before any `read`.
    fn skip(&mut self, batches: u64) -> Result<bool> {
        for _ in 0..batches {
            if self.read()?.batch.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Where a pipeline's rows go.
pub trait Sink: Send {
    /// Takes rows.
    fn write(&mut self, rows: &Rows) -> Result<()>;

    /// Makes everything since the last call durable but not yet visible (where the connector can) and says what
    /// [`Commit`] needs to make it visible once the checkpoint is.
    fn prepare(&mut self, checkpoint: u64) -> Result<Value>;

    /// Goes back to what `prepare` said at the checkpoint the engine restarts from.
    fn restore(&mut self, _prepared: &Value) -> Result<()> {
        Ok(())
    }

    /// Nothing follows: everything was prepared and committed.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Makes prepared rows visible. Called after the checkpoint is durable, and again after a crash: it must be idempotent.
pub trait Commit: Send + Sync {
    /// Commits what `prepare` returned for `checkpoint`.
    fn commit(&self, checkpoint: u64, prepared: &Value) -> Result<()>;

    /// The newest checkpoint that was committed, as the sink itself remembers it.
    fn committed(&self) -> Result<Option<u64>>;
}

/// What stands in for a connector of other engines.
fn instead_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "kafka" | "upsert-kafka" | "confluent" | "kinesis" | "pulsar" | "rabbitmq" | "nats" | "mqtt" | "redis"
        | "webhook" | "websocket" | "sse" | "polling_http" | "google_pubsub" => {
            "producers send to connector = 'ingest', over gRPC or HTTP"
        }
        "filesystem" | "iceberg" | "hudi" | "s3" | "paimon" => {
            "a table is connector = 'lake' (Delta), a file 'single_file'"
        }
        "jdbc" | "postgres-cdc" | "mysql" | "mysql-cdc" => "a lookup table may be connector = 'postgres'",
        "datagen" | "impulse" => "connector = 'nexmark' makes events",
        "print" | "preview" => "a SELECT without INSERT INTO prints, or connector = 'stdout'",
        _ => return None,
    })
}

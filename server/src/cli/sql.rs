//! `millstream sql`: one query, or a shell, on a data directory or on a running server.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use millstream::{Error, QueryLimits, QueryResult, Result};
use serde_json::{Value, json};

use super::{Place, clock, print, shell};
use crate::format::{self, Format};
use crate::tables::Tables;

/// Arguments of `millstream sql`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream sql \"SELECT agent, sum(tokens_input) FROM agent_usage_1m GROUP BY agent\"
  millstream sql --format csv \"SELECT * FROM user_sessions\" > sessions.csv
  millstream sql --format parquet --out api.parquet \"SELECT * FROM raw_api_events\"
  millstream sql --url http://127.0.0.1:7070 --key $KEY
  millstream sql < queries.sql

Queries only read. Without a query it is a shell (\\h for help), or reads queries from stdin.")]
pub struct SqlArgs {
    /// The query [default: a shell]
    query: Option<String>,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The file to write to [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A running server, such as http://127.0.0.1:7070 [default: the data directory]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The API key for --url [default: the variable MILLSTREAM_API_KEY]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Where queries are answered.
#[derive(Debug)]
pub enum Answerer {
    /// The stored tables of a data directory.
    Local(Box<Tables>, QueryLimits),
    /// A running server.
    Remote {
        /// `http://host:port`.
        url: String,
        /// The API key.
        key: String,
        /// Keeps the connection.
        client: reqwest::Client,
    },
}

/// Answers the query, all queries of stdin, or those that are typed.
pub async fn run(args: SqlArgs) -> Result<()> {
    if args.format == Format::Parquet && args.out.is_none() && std::io::stdout().is_terminal() {
        let fix = "add --out FILE, or redirect stdout";
        return Err(Error::Config(format!("Parquet is not for a terminal; {fix}")));
    }
    let answerer = open(&args).await?;
    match &args.query {
        Some(query) => answer(&answerer, query, &args).await,
        None if std::io::stdin().is_terminal() => shell::run(&answerer, args.format).await,
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| Error::Config(format!("cannot read stdin: {e}")))?;
            let queries = shell::split(&text);
            if queries.len() > 1 && args.format == Format::Parquet {
                return Err(Error::Config(
                    "stdin holds several queries, and Parquet holds one answer; send one".into(),
                ));
            }
            for query in queries {
                answer(&answerer, query, &args).await?;
            }
            Ok(())
        }
    }
}

async fn answer(answerer: &Answerer, query: &str, args: &SqlArgs) -> Result<()> {
    let result = answerer.query(query).await?;
    let mut bytes = Vec::new();
    format::write(args.format, &result.schema, &result.batches, &mut bytes)?;
    match &args.out {
        Some(path) => std::fs::write(path, &bytes).map_err(|e| Error::file(path, "write", e))?,
        None => print(&bytes)?,
    }
    warn_if_truncated(&result);
    Ok(())
}

/// An answer that was cut off must not look complete.
pub fn warn_if_truncated(result: &QueryResult) {
    if result.truncated {
        let rows: usize = result.batches.iter().map(|batch| batch.num_rows()).sum();
        crate::tell!("only the first {rows} rows: the answer is longer; raise query.rows_max or add LIMIT");
    }
}

async fn open(args: &SqlArgs) -> Result<Answerer> {
    let Some(url) = &args.url else {
        let config = args.place.load_existing()?;
        let limits = config.query_limits();
        return Ok(Answerer::Local(Box::new(Tables::open(&config, clock()).await?), limits));
    };
    Ok(Answerer::Remote {
        url: url.trim_end_matches('/').to_string(),
        key: api_key(args.key.as_deref())?,
        client: reqwest::Client::new(),
    })
}

/// The key that was given, or the variable's.
pub fn api_key(given: Option<&str>) -> Result<String> {
    let from_variable = || std::env::var("MILLSTREAM_API_KEY").ok();
    given.map(str::to_string).or_else(from_variable).ok_or_else(|| {
        let fix = "give --key or set MILLSTREAM_API_KEY; `millstream keys create` makes one";
        Error::Config(format!("the server needs an API key; {fix}"))
    })
}

impl Answerer {
    /// Answers one query.
    pub async fn query(&self, sql: &str) -> Result<QueryResult> {
        match self {
            Self::Local(tables, limits) => tables.query(sql, &BTreeMap::new(), limits).await,
            Self::Remote { url, key, client } => remote(client, url, key, sql).await,
        }
    }
}

/// Asks for Arrow, so that every format is written from the exact types, here as on the server.
async fn remote(client: &reqwest::Client, url: &str, key: &str, sql: &str) -> Result<QueryResult> {
    let unreachable = |e: reqwest::Error| {
        Error::Config(format!("no answer from {url} ({e}); check --url and that `millstream serve` runs"))
    };
    let response = client
        .post(format!("{url}/api/v1/sql?format=arrow"))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(json!({ "sql": sql }).to_string())
        .send()
        .await
        .map_err(unreachable)?;
    let status = response.status();
    let truncated = response.headers().get("x-truncated").is_some_and(|value| value == "true");
    let body = response.bytes().await.map_err(unreachable)?;
    if !status.is_success() {
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem.get("detail").and_then(Value::as_str);
        return Err(Error::sql(detail.map_or_else(|| format!("{url} answered {status}"), str::to_string)));
    }
    let (schema, batches) = format::read_arrow_stream(&body)?;
    Ok(QueryResult { schema, batches, truncated })
}

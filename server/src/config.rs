//! `millstream.toml`: what `serve` obeys. Every key has a default, so the file may be absent.
//!
//! Relative paths are relative to the folder of the file (or to the working directory when there is none). An unknown
//! key is an error that names the key and the file: a misspelt limit must not be a limit that is silently missing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream::sql::calendar::{self, Interval};
use millstream::time::Clock;
use millstream::{Error, Options, QueryLimits, Result};
use serde::Deserialize;

use crate::duration;
use crate::ingest::IngestConfig;
use crate::postgres::PostgresConfig;
use crate::sending::{Scheduled, Smtp};

/// Everything that `millstream.toml` may say.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Log, checkpoints, keys and (unless `lake.url` says otherwise) tables.
    pub data_dir: PathBuf,
    /// Worker threads of each pipeline.
    pub workers: usize,
    /// The time between checkpoints, which is also how fresh the tables are.
    #[serde(deserialize_with = "duration::deserialize")]
    pub checkpoint_interval: Duration,
    /// Bytes that the state of all pipelines may take in memory; what cannot go to disk above it stops them with an error that
    /// names the large one.
    pub state_bytes_max: usize,
    /// Bytes from which on state goes to disk where it can; by default half of those.
    pub state_spill_at: Option<usize>,
    /// The IANA time zone in which days, weeks and months are meant where nobody says otherwise.
    pub time_zone: String,
    /// The day on which weeks begin: monday, sunday, ...
    pub week_start: String,
    /// The HTTP face.
    pub http: Http,
    /// The gRPC face.
    pub ingest: IngestConfig,
    /// SQL over PostgreSQL's wire protocol.
    pub postgres: PostgresConfig,
    /// Where the tables are.
    pub lake: Lake,
    /// Where the SQL files are.
    pub sql: SqlDirs,
    /// When rollups run.
    pub rollups: Rollups,
    /// Bounds of queries, metrics and reports.
    pub query: Query,
    /// Whose reports they are, and when which is made.
    pub reports: Reports,
    /// The mail server for scheduled reports.
    pub smtp: Option<Smtp>,
}

/// Reports by the clock.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reports {
    /// Printed above the title; may be empty.
    pub organisation: String,
    /// What is made when, and for whom.
    pub schedule: Vec<Scheduled>,
}

/// The HTTP face and its bounds; what is over a bound is refused with an error that names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// `host:port` with a numeric host; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate chain, PEM. With `tls_key`: TLS alone is spoken.
    pub tls_cert: Option<PathBuf>,
    /// The private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Connections open at once; more wait until one ends. One on which nothing moves for two minutes is closed.
    pub connections_max: usize,
    /// Body of a request.
    pub request_bytes_max: usize,
    /// From the request's head to the answer's.
    #[serde(deserialize_with = "duration::deserialize")]
    pub request_timeout: Duration,
    /// Requests served at the same time; more wait, and are refused when their time is over.
    pub requests_max: usize,
}

/// Where the Delta tables are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lake {
    /// A local directory or `s3://bucket/prefix`; `data_dir/lake` when absent.
    pub url: Option<String>,
    /// Options of the object store, as it names them (`aws_endpoint`, `aws_access_key_id`, ...).
    pub options: BTreeMap<String, String>,
}

/// Folders of SQL files; the file's name is the name of what it defines.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqlDirs {
    /// `sources.sql`, then one file per streaming table.
    pub pipelines: PathBuf,
    /// One file per view: a SELECT that metrics, rollups, reports and ad-hoc queries use like a table.
    pub views: PathBuf,
    /// One file per rolled-up table.
    pub rollups: PathBuf,
    /// One file per metric.
    pub metrics: PathBuf,
    /// One folder per report.
    pub reports: PathBuf,
}

/// When rollups run.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollups {
    /// Five cron fields, in UTC.
    pub schedule: String,
    /// How often days whose input changed are looked for, and the lake is tidied.
    #[serde(deserialize_with = "duration::deserialize")]
    pub recheck_interval: Duration,
}

/// Bounds of queries, metrics and reports.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Rows of an answer; the answer says if there were more.
    pub rows_max: usize,
    /// Memory of one query.
    pub memory_bytes_max: usize,
    /// Time of one query.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("millstream-data"),
            workers: 2,
            checkpoint_interval: Duration::from_secs(10),
            state_bytes_max: millstream::engine::STATE_BYTES_MAX,
            state_spill_at: None,
            time_zone: "UTC".to_string(),
            week_start: "monday".to_string(),
            http: Http::default(),
            ingest: IngestConfig::default(),
            postgres: PostgresConfig::default(),
            lake: Lake::default(),
            sql: SqlDirs::default(),
            rollups: Rollups::default(),
            query: Query::default(),
            reports: Reports::default(),
            smtp: None,
        }
    }
}

impl Default for SqlDirs {
    fn default() -> Self {
        Self {
            pipelines: PathBuf::from("pipelines"),
            views: PathBuf::from("sql/views"),
            rollups: PathBuf::from("sql/rollups"),
            metrics: PathBuf::from("sql/metrics"),
            reports: PathBuf::from("sql/reports"),
        }
    }
}

impl Default for Rollups {
    fn default() -> Self {
        Self { schedule: "15 0 * * *".to_string(), recheck_interval: Duration::from_secs(600) }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            tls_cert: None,
            tls_key: None,
            connections_max: 1_024,
            // As the gRPC face: a batch that fits one fits the other.
            request_bytes_max: 4 << 20,
            request_timeout: Duration::from_secs(60),
            requests_max: 256,
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        let limits = QueryLimits::default();
        Self { rows_max: limits.rows_max, memory_bytes_max: limits.memory_bytes_max, timeout: limits.timeout }
    }
}

impl Config {
    /// Reads `path`; without one, `millstream.toml` of the working directory if it is there, else the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let here = Path::new("millstream.toml");
        match path {
            None if !here.exists() => Ok(Self::default()),
            path => {
                let path = path.unwrap_or(here);
                let text = std::fs::read_to_string(path).map_err(|e| {
                    Error::Config(format!("cannot read {}: {e}; name an existing file with --config", path.display()))
                })?;
                Self::parse(&text, path)
            }
        }
    }

    /// Reads the text of a file; `path` names it in errors and is where relative paths start.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut config: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|s| 1 + text.get(..s.start).unwrap_or("").matches('\n').count());
            let place = line.map_or_else(String::new, |l| format!(":{l}"));
            Error::Config(format!("{}{place}: {}", path.display(), e.message()))
        })?;
        config.check(path)?;
        if let Some(base) = path.parent() {
            config.resolve(base);
        }
        config.check_reports(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let wrong = |key: &str, what: &str| Err(Error::Config(format!("{}: {key} {what}", path.display())));
        if self.workers == 0 {
            return wrong("workers", "is 0; write 1 or more");
        }
        for (key, value) in [
            ("http.connections_max", self.http.connections_max),
            ("http.request_bytes_max", self.http.request_bytes_max),
            ("http.requests_max", self.http.requests_max),
            ("query.rows_max", self.query.rows_max),
            ("query.memory_bytes_max", self.query.memory_bytes_max),
        ] {
            if value == 0 {
                return wrong(key, "is 0, which would refuse everything; write 1 or more");
            }
        }
        if self.http.tls_cert.is_some() != self.http.tls_key.is_some() {
            return wrong("http.tls_cert and http.tls_key", "belong together; set both or neither");
        }
        if let Err(e) = calendar::zone(&self.time_zone) {
            return wrong("time_zone", &e);
        }
        if Interval::parse(&format!("week_{}", self.week_start)).is_err() {
            return wrong("week_start", &format!("`{}` is no weekday; write monday, sunday, ...", self.week_start));
        }
        self.ingest.check()?;
        if let Some((key, what)) = self.postgres.wrong() {
            return wrong(key, &what);
        }
        if let Err(e) = crate::schedule::parse_cron(&self.rollups.schedule) {
            let what = match e {
                Error::Config(what) => what,
                other => other.to_string(),
            };
            return wrong("rollups.schedule", &what);
        }
        Ok(())
    }

    /// After paths are resolved: a schedule names a report that must be there.
    fn check_reports(&self, path: &Path) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(format!("{}: {what}", path.display())));
        for (i, scheduled) in self.reports.schedule.iter().enumerate() {
            if let Err(what) = scheduled.check(&self.sql.reports) {
                return wrong(format!("reports.schedule {}: {what}", i + 1));
            }
        }
        match self.smtp.as_ref().map(Smtp::check) {
            Some(Err(what)) => wrong(what),
            _ => Ok(()),
        }
    }

    fn resolve(&mut self, base: &Path) {
        let mut paths = vec![
            &mut self.data_dir,
            &mut self.sql.pipelines,
            &mut self.sql.views,
            &mut self.sql.rollups,
            &mut self.sql.metrics,
            &mut self.sql.reports,
        ];
        let files =
            [&mut self.http.tls_cert, &mut self.http.tls_key, &mut self.ingest.tls_cert, &mut self.ingest.tls_key];
        paths.extend([&mut self.postgres.tls_cert, &mut self.postgres.tls_key].into_iter().flatten());
        paths.extend(files.into_iter().flatten());
        for path in paths {
            // `join` keeps an absolute path as it is.
            *path = base.join(&*path);
        }
    }

    /// How the engine is to be opened.
    pub fn engine_options(&self, clock: Arc<dyn Clock>) -> Options {
        Options {
            lake_url: self.lake.url.clone(),
            lake_options: self.lake.options.clone(),
            workers: self.workers,
            checkpoint_interval: self.checkpoint_interval,
            state_bytes_max: self.state_bytes_max,
            state_spill_at: self.state_spill_at,
            clock,
            ..Options::new(&self.data_dir)
        }
    }

    /// Bounds of one query.
    pub fn query_limits(&self) -> QueryLimits {
        QueryLimits {
            rows_max: self.query.rows_max,
            timeout: self.query.timeout,
            memory_bytes_max: self.query.memory_bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("etc/millstream.toml"))
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:7070");
        assert_eq!(config.ingest.listen.to_string(), "127.0.0.1:7171");
        assert_eq!(config.rollups.schedule, "15 0 * * *");
        assert_eq!(config.sql.metrics, Path::new("etc/sql/metrics"), "relative to the file");
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            r#"
            data_dir = "/var/lib/millstream"
            workers = 4
            checkpoint_interval = "100ms"
            [http]
            listen = "0.0.0.0:80"
            tls_cert = "server.crt"
            tls_key = "/etc/server.key"
            request_bytes_max = 1000
            [ingest]
            listen = "0.0.0.0:81"
            [lake]
            url = "s3://lake/prod"
            options = { aws_endpoint = "http://127.0.0.1:9000" }
            [sql]
            pipelines = "p"
            [rollups]
            schedule = "0 3 * * *"
            recheck_interval = "1m"
            [query]
            timeout = "5s"
            "#,
        )
        .unwrap();
        assert_eq!(config.data_dir, Path::new("/var/lib/millstream"));
        assert_eq!(config.checkpoint_interval, Duration::from_millis(100));
        assert_eq!(config.http.tls_cert.unwrap(), Path::new("etc/server.crt"));
        assert_eq!(config.lake.options["aws_endpoint"], "http://127.0.0.1:9000");
        assert_eq!(config.http.request_bytes_max, 1000);
        assert_eq!(config.query.timeout, Duration::from_secs(5));
        assert_eq!(config.rollups.recheck_interval, Duration::from_secs(60));
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        for (text, expected) in [
            (
                "workers = 2\nworkrs = 3",
                "configuration: etc/millstream.toml:2: unknown field `workrs`, expected one of",
            ),
            ("[query]\nrows = 3", "configuration: etc/millstream.toml:2: unknown field `rows`, expected"),
            (
                "checkpoint_interval = '10'",
                "configuration: etc/millstream.toml:1: `10` has no unit; write a whole number",
            ),
            ("workers = 0", "configuration: etc/millstream.toml: workers is 0; write 1 or more"),
            (
                "postgres.listen = '0.0.0.0:5432'",
                "configuration: etc/millstream.toml: postgres.listen is 0.0.0.0:5432, where API keys would travel",
            ),
            ("http.listen = 'localhost'", "configuration: etc/millstream.toml:1: invalid socket address"),
            (
                "time_zone = 'Berlin'",
                "configuration: etc/millstream.toml: time_zone `Berlin` is no time zone; write an IANA",
            ),
            ("week_start = 'x'", "configuration: etc/millstream.toml: week_start `x` is no weekday; write monday"),
            ("[rollups]\nschedule = 'daily'", "configuration: etc/millstream.toml: rollups.schedule `daily`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}\n  {error}\n  {expected}");
        }
    }

    #[test]
    fn a_missing_file_that_was_named_is_an_error() {
        let error = Config::load(Some(Path::new("/nowhere/millstream.toml"))).unwrap_err().to_string();
        assert!(error.contains("cannot read /nowhere/millstream.toml"), "{error}");
    }
}

//! Opening a lake, and the names of its tables.

use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use url::Url;

use super::local::{DurableFileSystem, sync_directory};
use super::partition::check;
use super::table::LakeTable;
use crate::error::{Error, Result};
use crate::time::{Clock, SystemClock};

/// All tables under one directory or one prefix of a bucket. Cheap to clone; clones share their handles of tables.
#[derive(Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

struct Inner {
    /// Ends in a slash.
    url: Url,
    /// Paths from the root of the file system or of the bucket.
    root: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    tables: Mutex<HashMap<String, LakeTable>>,
}

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lake({})", self.inner.url)
    }
}

impl Lake {
    /// Opens a lake; a local directory is created.
    ///
    /// `url` is a local path, a `file://` URL or `s3://bucket/prefix`. `options` are those of the S3 client, as
    /// `object_store` names them: `aws_endpoint`, `aws_access_key_id`, `aws_secret_access_key`, `aws_region`,
    /// `allow_http`; what is missing comes from the environment (`AWS_...`).
    ///
    /// Errors: `Config` for an unknown option or kind of URL, `Storage` when the directory cannot be made.
    pub async fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        match Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "s3" => open_s3(url, options),
            Ok(parsed) if parsed.scheme() == "file" => {
                let path =
                    parsed.to_file_path().map_err(|()| Error::Config(format!("lake '{url}' is no local path")))?;
                open_local(&path, options)
            }
            Ok(parsed) if url.contains("://") => Err(Error::Config(format!(
                "lake '{url}' has the unknown scheme '{}'; use a local path or s3://bucket/prefix",
                parsed.scheme()
            ))),
            _ => open_local(FilePath::new(url), options),
        }
    }

    /// A lake on a given store, whose paths begin at the root of `url`'s file system or bucket; for tests that make a
    /// store fail, and for stores that [`Lake::open`] does not know.
    ///
    /// The store must put a commit only if it is absent (`PutMode::Create`).
    pub fn with_store(url: Url, root: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        let mut url = url;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Self { inner: Arc::new(Inner { url, root, clock, tables: Mutex::default() }) }
    }

    /// Where the tables are; ends in a slash.
    pub fn url(&self) -> &Url {
        &self.inner.url
    }

    /// The store, with paths from the root of the file system or bucket.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner.root)
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Opens a table, or creates it, partitioned by `day`. Columns that an existing table lacks are added.
    ///
    /// Shape: `schema` may hold any engine types, see [`super::table_schema`]; it must have a `day` date column.
    ///
    /// Errors: `Config` when a type or the `day` is unfit, or a column has another type than in the table.
    pub async fn table(&self, name: &str, schema: SchemaRef) -> Result<LakeTable> {
        self.partitioned(name, schema, &[]).await
    }

    /// As [`Lake::table`], partitioned also by some of its columns, after the day.
    ///
    /// Errors: also `Config` where the table is there and partitioned otherwise.
    pub async fn partitioned(&self, name: &str, schema: SchemaRef, columns: &[String]) -> Result<LakeTable> {
        let wanted = super::table_schema(name, &schema)?;
        let table = match self.existing(name).await? {
            Some(table) => table,
            None => {
                let table = LakeTable::create(self, name, &wanted, columns).await?;
                self.remember(name, table)
            }
        };
        check(name, &table.inner.partition, columns)?;
        // Another process may have created it first, with other columns.
        table.add_columns(&wanted).await?;
        Ok(table)
    }

    /// Opens a table if there is one.
    ///
    /// Errors: `Config` for a name that no table can have.
    pub async fn existing(&self, name: &str) -> Result<Option<LakeTable>> {
        check_name(name)?;
        let known = self.tables().get(name).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let log_store = self.log_store(name)?;
        if !log_store.is_delta_table_location().await? {
            return Ok(None);
        }
        self.sync_log(name).await?;
        let table = LakeTable::load(self, name, log_store).await?;
        Ok(Some(self.remember(name, table)))
    }

    /// On a local disk: a commit may be there whose process was killed before its name was durable. What is read of the
    /// table must not be taken back by a power cut.
    async fn sync_log(&self, name: &str) -> Result<()> {
        let url = &self.inner.url;
        let Ok(path) = (if url.scheme() == "file" { url.to_file_path() } else { Err(()) }) else { return Ok(()) };
        let log = path.join(name.replace('.', "/")).join("_delta_log");
        super::table::blocking(move || sync_directory(&log).map_err(|e| Error::file(&log, "sync", e))).await
    }

    /// The names of all tables, sorted: `agent_usage`, `system.rollup_runs`.
    pub async fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for directory in self.directories(&self.path("")?).await? {
            let Some(name) = directory.filename().map(str::to_string) else { continue };
            if self.is_table(&directory).await? {
                names.push(name);
                continue;
            }
            for inner in self.directories(&directory).await? {
                if let Some(part) = inner.filename()
                    && self.is_table(&inner).await?
                {
                    names.push(format!("{name}.{part}"));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    async fn directories(&self, under: &Path) -> Result<Vec<Path>> {
        Ok(self.inner.root.list_with_delimiter(Some(under)).await?.common_prefixes)
    }

    async fn is_table(&self, directory: &Path) -> Result<bool> {
        let log = directory.clone().join("_delta_log");
        Ok(!self.inner.root.list_with_delimiter(Some(&log)).await?.objects.is_empty())
    }

    /// The place of a table or, for an empty name, of the lake, from the root of the store.
    fn path(&self, name: &str) -> Result<Path> {
        let base = match self.inner.url.scheme() {
            "s3" => Path::from_url_path(self.inner.url.path()),
            _ => match self.inner.url.to_file_path() {
                Ok(path) => Path::from_absolute_path(path),
                Err(()) => Path::from_url_path(self.inner.url.path()),
            },
        };
        let mut path = base.map_err(|e| Error::Config(format!("lake '{}': {e}", self.inner.url)))?;
        for part in name.split('.').filter(|p| !p.is_empty()) {
            path = path.join(part);
        }
        Ok(path)
    }

    /// The store of one table's transaction log and files. Commits are `PutMode::Create` on the store itself.
    pub(crate) fn log_store(&self, name: &str) -> Result<LogStoreRef> {
        let url = self
            .inner
            .url
            .join(&format!("{}/", name.replace('.', "/")))
            .map_err(|e| Error::Config(format!("table '{name}' in lake '{}': {e}", self.inner.url)))?;
        let config = StorageConfig::default();
        let prefixed = config.decorate_store(Arc::clone(&self.inner.root), &url)?;
        Ok(default_logstore(Arc::from(prefixed), Arc::clone(&self.inner.root), &url, &config))
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, HashMap<String, LakeTable>> {
        self.inner.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first handle of a table wins, so that all clones share one.
    fn remember(&self, name: &str, table: LakeTable) -> LakeTable {
        self.tables().entry(name.to_string()).or_insert(table).clone()
    }
}

fn open_local(path: &FilePath, options: &BTreeMap<String, String>) -> Result<Lake> {
    if let Some(option) = options.keys().next() {
        return Err(Error::Config(format!(
            "lake option '{option}' has no meaning for the local directory {}; remove it, or use s3://bucket/prefix",
            path.display()
        )));
    }
    let store = DurableFileSystem::new();
    let absolute = std::path::absolute(path).map_err(|e| Error::file(path, "find", e))?;
    store.create_directory(&absolute).map_err(|e| Error::file(path, "create", e))?;
    let real = std::fs::canonicalize(path).map_err(|e| Error::file(path, "open", e))?;
    let url = Url::from_directory_path(&real)
        .map_err(|()| Error::Config(format!("lake directory {} is no absolute path", real.display())))?;
    Ok(Lake::with_store(url, Arc::new(store), Arc::new(SystemClock)))
}

fn open_s3(url: &str, options: &BTreeMap<String, String>) -> Result<Lake> {
    let mut builder = AmazonS3Builder::from_env().with_url(url);
    for (key, value) in options {
        let key = AmazonS3ConfigKey::from_str(&key.to_ascii_lowercase()).map_err(|_| {
            Error::Config(format!(
                "unknown lake option '{key}'; use aws_endpoint, aws_region, aws_access_key_id, aws_secret_access_key, \
                 aws_session_token, allow_http or another option of the S3 client"
            ))
        })?;
        builder = builder.with_config(key, value);
    }
    let store = builder
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|e| Error::Config(format!("lake '{url}': {e}")))?;
    let url = Url::parse(url).map_err(|e| Error::Config(format!("lake '{url}': {e}")))?;
    Ok(Lake::with_store(url, Arc::new(store), Arc::new(SystemClock)))
}

/// Letters, digits, `_` and `-`, at most one dot: what is safe as a directory, a URL and a SQL name.
fn check_name(name: &str) -> Result<()> {
    let parts: Vec<&str> = name.split('.').collect();
    let fit = |part: &&str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            && *part != "_delta_log"
    };
    if parts.len() <= 2 && parts.iter().all(fit) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "'{name}' cannot name a table; use letters, digits and _, beginning with a letter, and at most one dot"
    )))
}

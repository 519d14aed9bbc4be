//! One table: opening, writing files, reading, and what changed since a version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::kernel::{LogicalFileView, StructField, StructType, Version};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::{Mutex, MutexGuard};

use super::changes::Changes;
use super::encode::{Encoded, PendingFile, encode};
use super::partition::{Values, directory};
use super::statistics::parse_day;
use super::store::Lake;
use super::types::{DAY, new_columns};
use crate::error::{Error, Result};
use crate::time::{Clock, EventTime, SECOND};

/// The table property that names the engine which writes a table, and the one that says where that engine is.
const OWNER: &str = "millstream.owner";
const OWNER_PLACE: &str = "millstream.owner.directory";

/// The table property that other writers set where columns have other names in files.
const COLUMN_MAPPING: &str = "delta.columnMapping.mode";

/// The engine that writes a table: an identity that its data directory keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The same as long as the data directory is.
    pub id: String,
    /// Where that directory is, for people.
    pub place: String,
}

/// A table of the lake. Cheap to clone; clones share one handle, which follows the table's log.
#[derive(Clone)]
pub struct LakeTable {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log_store: LogStoreRef,
    /// The columns at the newest version this handle has seen.
    schema: RwLock<SchemaRef>,
    /// The columns that it is partitioned by after the day.
    pub(crate) partition: Vec<String>,
    handle: Mutex<Handle>,
    /// What the log has told about changes so far: a commit never changes, so it is read once.
    pub(super) changes: Mutex<Option<Changes>>,
}

/// The newest version that was loaded, and the `txn` versions known at it.
pub(crate) struct Handle {
    pub(crate) table: DeltaTable,
    known_versions: HashMap<String, i64>,
    known_at: Option<Version>,
    /// When the log was last listed.
    listed_at: EventTime,
    /// What was made of a version: it is the same until the next.
    made: Option<Made>,
}

/// What reading a version of the table takes, made when it is first asked for.
#[derive(Default)]
struct Made {
    version: Option<Version>,
    files_by_day: Option<BTreeMap<i32, usize>>,
    reading: Option<Reading>,
}

/// A version of the table for queries.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Reads all of it; days and statistics prune files.
    pub(crate) provider: Arc<dyn TableProvider>,
    /// What it consists of.
    pub(crate) files: Arc<Vec<DataFile>>,
    /// Whether its rows are those of the files under the columns' names, and the day: no other partition, no deleted rows, no mapped
    /// names.
    pub(crate) plain: bool,
}

/// A Parquet file of a table.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    /// Below the table's directory.
    pub(crate) path: String,
    pub(crate) day: i32,
    pub(crate) bytes: u64,
    pub(crate) rows: usize,
}

/// How long a handle may go without listing the log: shorter than entries are kept, so that no handle is left behind by their
/// removal.
const LISTED_FOR: EventTime = 3_600 * SECOND;

impl std::fmt::Debug for LakeTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LakeTable({})", self.inner.name)
    }
}

impl LakeTable {
    /// Creates the table, or opens it if another writer was faster.
    pub(crate) async fn create(lake: &Lake, name: &str, schema: &SchemaRef, partition: &[String]) -> Result<Self> {
        let log_store = lake.log_store(name)?;
        let columns: StructType = schema.as_ref().try_into_kernel()?;
        let created = CreateBuilder::new()
            .with_log_store(Arc::clone(&log_store))
            .with_table_name(name)
            .with_columns(columns.fields().cloned())
            .with_partition_columns(std::iter::once(DAY).chain(partition.iter().map(String::as_str)))
            .with_save_mode(SaveMode::Ignore)
            .with_commit_properties(quiet())
            .await;
        // Whatever the error was: if the table is there now, it is the table (a lost race, a lost answer).
        if let Err(e) = created
            && !log_store.is_delta_table_location().await?
        {
            return Err(Error::Storage(format!("cannot create table '{name}': {e}")));
        }
        Self::load(lake, name, log_store).await
    }

    pub(crate) async fn load(lake: &Lake, name: &str, log_store: LogStoreRef) -> Result<Self> {
        let mut table = DeltaTable::new(Arc::clone(&log_store));
        table.load().await?;
        let schema = table.snapshot()?.snapshot().arrow_schema();
        let partition = table.snapshot()?.metadata().partition_columns().to_vec();
        let Some(([DAY], partition)) = partition.split_first_chunk::<1>().map(|([day], rest)| ([day.as_str()], rest))
        else {
            return Err(Error::Config(format!(
                "table '{name}' in the lake is partitioned by ({}), not first by day; move it elsewhere or rewrite it",
                partition.join(", ")
            )));
        };
        let listed_at = lake.clock().now();
        let handle = Handle { table, known_versions: HashMap::new(), known_at: None, listed_at, made: None };
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_string(),
                clock: Arc::clone(lake.clock()),
                log_store,
                schema: RwLock::new(schema),
                partition: partition.to_vec(),
                handle: Mutex::new(handle),
                changes: Mutex::new(None),
            }),
        })
    }

    /// The table's name: `agent_usage`, `system.rollup_runs`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The table's columns, `day` among them, as stored: timestamps are `Timestamp(µs, "UTC")`, text is `Utf8`.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.inner.schema.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_schema(&self, schema: SchemaRef) {
        *self.inner.schema.write().unwrap_or_else(PoisonError::into_inner) = schema;
    }

    /// Adds the columns of `wanted` that the table lacks; existing files read as null there.
    pub(crate) async fn add_columns(&self, wanted: &Schema) -> Result<()> {
        let mut handle = self.refreshed().await?;
        // A second pass sees the columns that another writer added meanwhile.
        for last in [false, true] {
            let added = new_columns(&self.inner.name, &self.schema(), wanted)?;
            if added.is_empty() {
                return Ok(());
            }
            let fields = added.iter().map(|f| f.try_into_kernel()).collect::<Result<Vec<StructField>, _>>()?;
            match handle.table.clone().add_columns().with_fields(fields).with_commit_properties(quiet()).await {
                Ok(table) => handle.table = table,
                Err(e) if last => return Err(Error::Storage(format!("cannot add columns to '{}': {e}", self.name()))),
                Err(_) => handle.table.update_state().await?,
            }
            self.set_schema(handle.table.snapshot()?.snapshot().arrow_schema());
        }
        Ok(())
    }

    /// Makes `owner` the one that writes the table, for good. Two engines that commit under the same names would each
    /// take the other's commits for their own.
    ///
    /// Errors: `Config` when the table has another owner, `Storage`.
    pub async fn claim(&self, owner: &Owner) -> Result<()> {
        let mut failures = 0;
        loop {
            let mut handle = self.refreshed().await?;
            let configuration = handle.state()?.metadata().configuration();
            match configuration.get(OWNER).cloned() {
                Some(other) if other == owner.id => return Ok(()),
                Some(other) => {
                    let place = configuration.get(OWNER_PLACE).cloned().unwrap_or_default();
                    return Err(Error::Config(format!(
                        "table '{}' is written by another engine, {other} of {place}; stop one of the two and give it a \
                         lake of its own (this one is {} of {})",
                        self.name(),
                        owner.id,
                        owner.place
                    )));
                }
                None => {}
            }
            let properties = [(OWNER, &owner.id), (OWNER_PLACE, &owner.place)];
            let properties = properties.into_iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
            let claiming = handle.table.clone().set_tbl_properties().with_properties(properties);
            let claimed = claiming.with_raise_if_not_exists(false).with_commit_properties(quiet()).await;
            match claimed {
                Ok(table) => handle.table = table,
                // Somebody was faster, or the answer was lost: look again.
                Err(e) if failures >= 3 => {
                    return Err(Error::Storage(format!("cannot claim table '{}': {e}", self.name())));
                }
                Err(_) => failures += 1,
            }
        }
    }

    /// Writes Parquet files, one per day and partition in the batches. They are held back: no reader sees them before
    /// [`LakeTable::commit`].
    ///
    /// Shape: the table's columns in any order and in engine types; missing ones are null. Names are a function of
    /// (writer, epoch, part, day, content), so that a repeated epoch overwrites its own leftovers and nothing else, and so
    /// that damage can be told.
    ///
    /// Errors: `Config` for an unknown column, `Event` for a null day or a value that does not fit, `Storage`.
    pub async fn write(
        &self,
        writer: &str,
        epoch: u64,
        part: u32,
        batches: &[RecordBatch],
    ) -> Result<Vec<PendingFile>> {
        let stem = format!("{}-{epoch:020}-{part:05}", file_safe(writer));
        self.write_files(batches, |f| format!("{stem}-{:08x}", f.crc)).await
    }

    pub(crate) async fn write_files(
        &self,
        batches: &[RecordBatch],
        stem: impl Fn(&Encoded) -> String,
    ) -> Result<Vec<PendingFile>> {
        let (inner, schema, batches) = (Arc::clone(&self.inner), self.schema(), batches.to_vec());
        let encoded = blocking(move || encode(&inner.name, &schema, &inner.partition, &batches)).await?;
        let mut files = Vec::with_capacity(encoded.len());
        for file in encoded {
            let stem = stem(&file);
            files.push(self.put_file(file, &stem).await?);
        }
        Ok(files)
    }

    pub(crate) async fn put_file(&self, file: Encoded, stem: &str) -> Result<PendingFile> {
        let path = format!("{}/{stem}.parquet", directory(file.day, &file.values)?);
        let pending = PendingFile {
            size_bytes: file.bytes.len() as u64,
            day: file.day,
            values: file.values,
            rows: file.rows,
            stats: file.stats,
            written_at_ms: self.inner.clock.now() / 1_000_000,
            path,
        };
        self.files().put(&location(&pending.path)?, file.bytes.into()).await?;
        Ok(pending)
    }

    /// The newest version of the table.
    pub async fn version(&self) -> Result<i64> {
        let handle = self.refreshed().await?;
        handle.version()
    }

    /// The newest `version` that [`LakeTable::commit`] has published for `app_id`.
    pub async fn transaction(&self, app_id: &str) -> Result<Option<i64>> {
        let mut handle = self.refreshed().await?;
        handle.app_version(app_id).await
    }

    /// The days that have rows.
    pub async fn days(&self) -> Result<BTreeSet<i32>> {
        Ok(self.files_by_day().await?.into_keys().collect())
    }

    /// How many files hold the rows of each day.
    pub async fn files_by_day(&self) -> Result<BTreeMap<i32, usize>> {
        let mut handle = self.refreshed().await?;
        if let Some(files) = &handle.made().files_by_day {
            return Ok(files.clone());
        }
        let mut files = BTreeMap::new();
        for day in live_files(handle.state()?)?.into_iter().filter_map(|f| f.day) {
            *files.entry(day).or_default() += 1;
        }
        handle.made().files_by_day = Some(files.clone());
        Ok(files)
    }

    /// The newest version, for DataFusion.
    pub async fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        Ok(self.reading().await?.provider)
    }

    /// The newest version and the files that it consists of.
    pub(crate) async fn reading(&self) -> Result<Reading> {
        let mut handle = self.refreshed().await?;
        if let Some(reading) = &handle.made().reading {
            return Ok(reading.clone());
        }
        let provider: Arc<dyn TableProvider> = handle.table.table_provider().await?;
        let mut plain =
            self.inner.partition.is_empty() && !handle.state()?.metadata().configuration().contains_key(COLUMN_MAPPING);
        let mut files = Vec::new();
        for file in live_files(handle.state()?)? {
            let rows = file.view.num_records();
            plain &= rows.is_some() && file.day.is_some() && file.view.deletion_vector_descriptor().is_none();
            let (day, rows) = (file.day.unwrap_or_default(), rows.unwrap_or_default());
            files.push(DataFile { path: file.path, day, bytes: file.size_bytes, rows });
        }
        files.sort_by(|a, b| (a.day, &a.path).cmp(&(b.day, &b.path)));
        let reading = Reading { provider, files: Arc::new(files), plain };
        handle.made().reading = Some(reading.clone());
        Ok(reading)
    }

    /// The content of one of its files.
    pub(crate) async fn file(&self, path: &str) -> Result<Bytes> {
        Ok(self.files().get(&location(path)?).await?.bytes().await?)
    }

    /// The table's own directory as a store.
    pub(crate) fn files(&self) -> Arc<dyn ObjectStore> {
        self.inner.log_store.object_store(None)
    }

    /// The handle at the newest version.
    pub(crate) async fn refreshed(&self) -> Result<MutexGuard<'_, Handle>> {
        let mut handle = self.inner.handle.lock().await;
        let now = self.inner.clock.now();
        let listed = (0..LISTED_FOR).contains(&now.saturating_sub(handle.listed_at));
        if listed && self.is_newest(&handle).await? {
            return Ok(handle);
        }
        let before = handle.table.version();
        handle.table.update_state().await?;
        handle.listed_at = now;
        if handle.table.version() != before {
            self.set_schema(handle.state()?.snapshot().arrow_schema());
        }
        Ok(handle)
    }

    /// Whether the log has no commit after the handle's. Versions have no gaps, so it takes one look and no list.
    async fn is_newest(&self, handle: &Handle) -> Result<bool> {
        let Some(version) = handle.table.version() else { return Ok(false) };
        let next = location(&format!("_delta_log/{:020}.json", version + 1))?;
        match self.files().head(&next).await {
            Ok(_) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }
}

impl Handle {
    pub(crate) fn state(&self) -> Result<&DeltaTableState> {
        Ok(self.table.snapshot()?)
    }

    pub(crate) fn version(&self) -> Result<i64> {
        let version = self.state()?.version();
        i64::try_from(version).map_err(|_| Error::Corrupt(format!("table version {version}")))
    }

    /// What was made of the handle's version.
    fn made(&mut self) -> &mut Made {
        let version = self.table.version();
        match &mut self.made {
            Some(made) if made.version == version => {}
            made => *made = Some(Made { version, ..Made::default() }),
        }
        self.made.get_or_insert_with(Made::default)
    }

    /// Takes the table as it was read anew, at this version or one before.
    pub(crate) fn replace(&mut self, table: DeltaTable) {
        self.table = table;
        self.made = None;
    }

    /// The `txn` version of `app_id` at the handle's version; read from the log unless nothing changed since.
    pub(crate) async fn app_version(&mut self, app_id: &str) -> Result<Option<i64>> {
        let state = self.table.snapshot()?;
        if self.known_at != Some(state.version()) {
            self.known_versions.clear();
            self.known_at = Some(state.version());
        }
        if let Some(known) = self.known_versions.get(app_id) {
            return Ok(Some(*known));
        }
        let log_store = self.table.log_store();
        let found = state.transaction_version(log_store.as_ref(), app_id).await?;
        if let Some(version) = found {
            self.known_versions.insert(app_id.to_string(), version);
        }
        Ok(found)
    }

    /// Takes the state after our own commit, which was the next version: what was known stays known.
    pub(crate) fn committed(&mut self, state: DeltaTableState, txn: Option<(&str, i64)>) {
        let follows = self.known_at.is_some_and(|at| at + 1 == state.version());
        if !follows {
            self.known_versions.clear();
        }
        self.known_at = Some(state.version());
        if let Some((app_id, version)) = txn {
            self.known_versions.insert(app_id.to_string(), version);
        }
        self.table.state = Some(state);
    }
}

/// A file of the table, as the log has it.
pub(crate) struct LiveFile {
    pub(crate) path: String,
    pub(crate) day: Option<i32>,
    /// The values of the other columns of the partition.
    pub(crate) values: Values,
    pub(crate) size_bytes: u64,
    pub(crate) view: LogicalFileView,
}

pub(crate) fn live_files(state: &DeltaTableState) -> Result<Vec<LiveFile>> {
    let data = state.snapshot().try_log_data()?;
    let files = data
        .iter()
        .map(|view| LiveFile {
            path: view.path().into_owned(),
            day: view.partition_values_map().get(DAY).and_then(|v| v.as_deref()).and_then(parse_day),
            values: view.partition_values_map().into_iter().filter(|(name, _)| name != DAY).collect(),
            size_bytes: u64::try_from(view.size()).unwrap_or(0),
            view,
        })
        .collect();
    Ok(files)
}

/// A commit without the library's own retries, log checkpoints and log clean-up: we do each of them ourselves, when a
/// fresh look at the table says so.
pub(crate) fn quiet() -> CommitProperties {
    CommitProperties::default().with_max_retries(0).with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}

pub(crate) fn location(path: &str) -> Result<Path> {
    Path::parse(path).map_err(|e| Error::Bug(format!("file name '{path}': {e}")))
}

/// A writer's name as part of a file name.
fn file_safe(writer: &str) -> String {
    writer.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect()
}

/// Work that would hold up the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Bug(format!("a lake worker ended: {e}")))?
}

/// Whether an error of the library means that another commit was faster (nothing of ours was written).
pub(crate) fn lost_race(e: &DeltaTableError) -> bool {
    use deltalake_core::kernel::transaction::TransactionError as T;
    matches!(
        e,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction { source: T::MaxCommitAttempts(_) | T::VersionAlreadyExists(_) }
    )
}

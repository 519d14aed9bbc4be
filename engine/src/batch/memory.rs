//! What queries read again and again, kept in memory: columns of files of which a scan needs few bytes, such as those of rollups.
//!
//! ```text
//! scan -> files of the days asked for -> few bytes: their columns from here, decoded once -> rows in memory
//!                                     -> many:      the Delta scan, which streams them
//! ```
//!
//! A file of a table never changes, so what is kept is never stale; which files there are is asked of the table's log each time.
//! Kept are at most [`BYTES_MAX`] bytes; what was not used for longest goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ToDFSchema};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as PlanResult;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::stream::Streamed;
use crate::error::Result;
use crate::lake::{DataFile, LakeTable, Reading};

/// Bytes of Parquet that one scan may take from memory: above it, decoding everything before the first row costs more than
/// streaming. Over a quarter of 4,500 active users a day user_days is 11 MB, agent_usage_cube 45 MB, feature_days 70 MB (measured).
const SCAN_BYTES_MAX: u64 = 64 << 20;

/// So many times its Parquet a column may take in memory, and mostly less.
const GROWTH: u64 = 16;

/// Decoded bytes that are kept.
const BYTES_MAX: usize = 512 << 20;

/// Files that one scan reads at a time.
const FILES_AT_ONCE: usize = 8;

/// Rows for which a second thread is worth its while.
const ROWS_PER_THREAD_MIN: usize = 16_384;

/// The partition column.
const DAY: &str = "day";

/// What queries have cost so far. It is counted, not measured, so that a test can hold it to a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Queries planned.
    pub plans: u64,
    /// Files opened by scans.
    pub files_opened: u64,
    /// By table: rows of the files that scans had to go through, opened or in memory.
    pub rows_scanned: BTreeMap<String, u64>,
}

/// Decoded columns, and what reading has cost.
#[derive(Debug)]
pub(super) struct Memory {
    kept: Mutex<Kept>,
    bytes_max: usize,
    scan_bytes_max: u64,
    plans: AtomicU64,
    files_opened: AtomicU64,
    rows_scanned: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By table and path.
    files: HashMap<(String, String), KeptFile>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug, Default)]
struct KeptFile {
    columns: HashMap<String, ArrayRef>,
    bytes: usize,
    used: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(BYTES_MAX, SCAN_BYTES_MAX)
    }
}

impl Memory {
    pub(super) fn of(bytes_max: usize, scan_bytes_max: u64) -> Self {
        Self {
            kept: Mutex::default(),
            bytes_max,
            scan_bytes_max,
            plans: AtomicU64::new(0),
            files_opened: AtomicU64::new(0),
            rows_scanned: Mutex::default(),
        }
    }

    /// What queries have cost since the start.
    pub(super) fn work(&self) -> Work {
        Work {
            plans: self.plans.load(Ordering::Relaxed),
            files_opened: self.files_opened.load(Ordering::Relaxed),
            rows_scanned: self.rows_scanned.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn scanned(&self, table: &LakeTable, rows: usize) {
        let mut scanned = self.rows_scanned.lock().unwrap_or_else(PoisonError::into_inner);
        *scanned.entry(table.name().to_string()).or_default() += rows as u64;
    }

    /// One more query is planned.
    pub(super) fn planned(&self) {
        self.plans.fetch_add(1, Ordering::Relaxed);
    }

    /// The columns of a file; those that it lacks are null.
    async fn columns(&self, table: &LakeTable, file: &DataFile, schema: &SchemaRef) -> Result<RecordBatch> {
        let key = (table.name().to_string(), file.path.clone());
        let mut found = self.known(&key);
        let lacks = |field: &&Field| field.name() != DAY && !found.contains_key(field.name());
        let missing: Vec<&Field> = schema.fields().iter().map(AsRef::as_ref).filter(lacks).collect();
        if !missing.is_empty() {
            self.files_opened.fetch_add(1, Ordering::Relaxed);
            let read = decode(table, file, &missing).await?;
            self.keep(key, &read);
            found.extend(read);
        }
        let column = |field: &Arc<Field>| -> ArrayRef {
            let day = || Arc::new(Date32Array::from(vec![file.day; file.rows])) as ArrayRef;
            found.get(field.name()).map_or_else(day, Arc::clone)
        };
        let columns: Vec<ArrayRef> = schema.fields().iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(file.rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    fn known(&self, key: &(String, String)) -> HashMap<String, ArrayRef> {
        let mut kept = self.kept();
        kept.uses += 1;
        let uses = kept.uses;
        let Some(file) = kept.files.get_mut(key) else { return HashMap::new() };
        file.used = uses;
        file.columns.clone()
    }

    fn keep(&self, key: (String, String), columns: &HashMap<String, ArrayRef>) {
        let mut kept = self.kept();
        kept.uses += 1;
        let uses = kept.uses;
        let file = kept.files.entry(key).or_default();
        let mut added = 0;
        for (name, column) in columns {
            if file.columns.insert(name.clone(), Arc::clone(column)).is_none() {
                added += column.get_array_memory_size();
            }
        }
        file.bytes += added;
        file.used = uses;
        kept.bytes += added;
        if kept.bytes > self.bytes_max {
            kept.make_room(self.bytes_max / 8 * 7);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Forgets more than it must, so that it is not to be done for every file.
    fn make_room(&mut self, bytes_left: usize) {
        let mut oldest: Vec<_> = self.files.iter().map(|(key, file)| (file.used, key.clone())).collect();
        oldest.sort_unstable();
        for (_, key) in oldest {
            if self.bytes <= bytes_left {
                break;
            }
            self.bytes -= self.files.remove(&key).map_or(0, |file| file.bytes);
        }
    }
}

/// The columns of a file, each in one piece.
async fn decode(table: &LakeTable, file: &DataFile, fields: &[&Field]) -> Result<HashMap<String, ArrayRef>> {
    let bytes = table.file(&file.path).await?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let names: BTreeSet<&str> = fields.iter().map(|f| f.name().as_str()).collect();
    // By place: a dot in a name is no path.
    let wanted =
        builder.schema().fields().iter().enumerate().filter(|(_, field)| names.contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(place, _)| place));
    let rows = builder.with_projection(mask).with_batch_size(file.rows.max(1)).build()?;
    let mut pieces: HashMap<String, Vec<ArrayRef>> = HashMap::new();
    for batch in rows {
        let batch = batch?;
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            pieces.entry(field.name().clone()).or_default().push(Arc::clone(column));
        }
    }
    let column = |field: &&Field| -> Result<(String, ArrayRef)> {
        let pieces = pieces.get(field.name()).map_or(&[] as &[ArrayRef], Vec::as_slice);
        let column = match pieces {
            [] => new_null_array(field.data_type(), file.rows),
            [one] => Arc::clone(one),
            many => arrow::compute::concat(&many.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        };
        Ok((field.name().clone(), cast(&column, field.data_type())?))
    };
    fields.iter().map(column).collect()
}

/// A table at one version, read from memory where that is worth it.
#[derive(Debug)]
pub(super) struct Remembered {
    table: LakeTable,
    reading: Reading,
    memory: Arc<Memory>,
}

impl Remembered {
    /// The newest version of `table`.
    pub(super) async fn open(table: LakeTable, memory: Arc<Memory>) -> Result<Self> {
        let reading = table.reading().await?;
        Ok(Self { table, reading, memory })
    }

    /// The files on the days that the filters leave.
    fn files(&self, session: &dyn Session, filters: &[Expr]) -> PlanResult<Vec<&DataFile>> {
        let files = self.reading.files.iter();
        let filters: Vec<&Expr> = filters.iter().filter(|f| of_day_alone(f)).collect();
        if filters.is_empty() {
            return Ok(files.collect());
        }
        let schema = Arc::new(Schema::new(vec![Field::new(DAY, DataType::Date32, true)]));
        let named: DFSchema = Arc::clone(&schema).to_dfschema()?;
        let days: Date32Array = files.clone().map(|file| Some(file.day)).collect();
        let days = RecordBatch::try_new(schema, vec![Arc::new(days)])?;
        let mut keep = vec![true; days.num_rows()];
        for filter in filters {
            let filter = unnormalize_col(filter.clone());
            let holds = session.create_physical_expr(filter, &named)?.evaluate(&days)?.into_array(days.num_rows())?;
            for (keep, holds) in keep.iter_mut().zip(holds.as_boolean()) {
                *keep &= holds == Some(true);
            }
        }
        Ok(files.zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
    }

    async fn rows(&self, files: &[&DataFile], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let reads = files.iter().map(|file| self.memory.columns(&self.table, file, schema));
        stream::iter(reads.collect::<Vec<_>>()).buffered(FILES_AT_ONCE).try_collect().await
    }
}

/// Bytes of Parquet that a query's memory is likely to suffice for: dictionaries and packed numbers grow.
fn most_of(session: &dyn Session) -> u64 {
    match session.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(bytes) => bytes as u64 / GROWTH,
        _ => u64::MAX,
    }
}

/// Whether only the day decides.
fn of_day_alone(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|column| column.name == DAY) && !filter.is_volatile()
}

#[async_trait]
impl TableProvider for Remembered {
    fn schema(&self) -> SchemaRef {
        self.reading.provider.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        use TableProviderFilterPushDown::{Exact, Inexact, Unsupported};
        let delta = self.reading.provider.supports_filters_pushdown(filters)?;
        // In memory nothing but the day is looked at, but whatever is asked of it.
        let both = delta.into_iter().zip(filters).map(|(delta, filter)| match delta {
            Exact if !of_day_alone(filter) => Inexact,
            Unsupported if of_day_alone(filter) => Inexact,
            delta => delta,
        });
        Ok(both.collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let files = self.files(session, filters)?;
        let rows: usize = files.iter().map(|file| file.rows).sum();
        self.memory.scanned(&self.table, rows);
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let schema = match projection {
            Some(columns) => Arc::new(self.schema().project(columns)?),
            None => self.schema(),
        };
        let once = session.config().get_extension::<Streamed>().is_some();
        if self.reading.plain && !once && bytes <= self.memory.scan_bytes_max.min(most_of(session)) {
            // A file that cannot be read is an error of the Delta scan, which says what is the matter.
            if let Ok(batches) = self.rows(&files, &schema).await {
                let threads = if rows < ROWS_PER_THREAD_MIN { 1 } else { session.config().target_partitions() };
                return Ok(MemorySourceConfig::try_new_exec(&shared_out(batches, threads), schema, None)?);
            }
        }
        self.memory.files_opened.fetch_add(files.len() as u64, Ordering::Relaxed);
        let known = self.reading.provider.supports_filters_pushdown(&filters.iter().collect::<Vec<_>>())?;
        let known = filters.iter().zip(known).filter(|(_, known)| *known != TableProviderFilterPushDown::Unsupported);
        let filters: Vec<Expr> = known.map(|(filter, _)| filter.clone()).collect();
        self.reading.provider.scan(session, projection, &filters, limit).await
    }
}

/// The batches in so many parts of about the same number of rows.
fn shared_out(batches: Vec<RecordBatch>, parts: usize) -> Vec<Vec<RecordBatch>> {
    let mut shared = vec![(0, Vec::new()); parts.max(1)];
    for batch in batches {
        if let Some((rows, part)) = shared.iter_mut().min_by_key(|(rows, _)| *rows) {
            *rows += batch.num_rows();
            part.push(batch);
        }
    }
    shared.into_iter().map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    fn column(rows: usize) -> HashMap<String, ArrayRef> {
        HashMap::from([("n".to_string(), Arc::new(Int64Array::from(vec![1; rows])) as ArrayRef)])
    }

    fn key(path: &str) -> (String, String) {
        ("t".to_string(), path.to_string())
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let one = column(1_000)["n"].get_array_memory_size();
        let memory = Memory::of(one * 8, 0);
        for file in 0..8 {
            memory.keep(key(&file.to_string()), &column(1_000));
        }
        assert_eq!(memory.kept().bytes, one * 8, "all fit");
        assert!(memory.known(&key("0")).contains_key("n"), "the oldest is used once more");
        memory.keep(key("8"), &column(1_000));
        let kept: BTreeSet<String> = memory.kept().files.keys().map(|(_, path)| path.clone()).collect();
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        assert_eq!(kept, ["0", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(memory.kept().bytes, one * 7);
    }

    #[test]
    fn a_column_is_counted_once_and_another_one_of_the_file_beside_it() {
        let memory = Memory::of(1 << 20, 0);
        memory.keep(key("0"), &column(1_000));
        let bytes = memory.kept().bytes;
        memory.keep(key("0"), &column(1_000));
        assert_eq!(memory.kept().bytes, bytes);
        memory.keep(key("0"), &HashMap::from([("m".to_string(), column(1_000)["n"].clone())]));
        let kept = memory.kept();
        assert_eq!((kept.bytes, kept.files.len()), (bytes * 2, 1));
    }

    #[test]
    fn rows_are_shared_out_evenly() {
        let batch = |rows: i64| {
            let column = Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef;
            RecordBatch::try_from_iter([("n", column)]).unwrap()
        };
        let parts = shared_out(vec![batch(50), batch(10), batch(10), batch(30)], 2);
        let rows = |part: &Vec<RecordBatch>| part.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(parts.iter().map(rows).collect::<Vec<_>>(), [50, 50]);
    }
}

//! One query: parsed, planned over the lake's tables, run within its limits.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::{AbortHandle, JoinHandle};

use super::catalog::{CATALOG, LakeCatalog, LakeStores, SCHEMA};
use super::error::{closest, ended, memory_error, query_error, timeout_error};
use super::known::Known;
use super::memory::{Memory, Work};
use super::parameters::Described;
use super::threads::Threads;
use super::time_bucket::TimeBucket;
use super::views::Views;
use super::{growth, guard, parameters, stream};
use crate::error::{Error, Result, SqlError};
use crate::lake::Lake;
use crate::sql::functions::{own_aggregates, own_scalars};
use crate::time::Clock;

/// Spilled bytes on disk, as a multiple of the query's memory.
pub(super) const SPILL_FACTOR: u64 = 8;

/// Batches between a query and a slow reader of its stream.
const STREAM_BATCHES_MAX: usize = 2;

/// Rows of a batch at most: DataFusion's own default.
const BATCH_ROWS_MAX: usize = 8_192;

/// Names offered when a table is not found.
const NAMES_SHOWN_MAX: usize = 20;

/// Bounds of one ad-hoc query.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Rows returned at most; the answer says if there were more.
    pub rows_max: usize,
    /// Wall time.
    pub timeout: Duration,
    /// Memory of the query.
    pub memory_bytes_max: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { rows_max: 100_000, timeout: Duration::from_secs(30), memory_bytes_max: 1 << 30 }
    }
}

/// The answer of a query.
#[derive(Debug)]
pub struct QueryResult {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Whether `rows_max` cut the answer.
    pub truncated: bool,
}

/// Functions of an embedding program, beyond DataFusion's and ours.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    /// One row to one value.
    pub scalar: Vec<Arc<ScalarUDF>>,
    /// Many rows to one value.
    pub aggregate: Vec<Arc<AggregateUDF>>,
}

/// What a face of another dialect does to the session of each of its queries: adds a system catalogue and its functions.
pub type Dress = Arc<dyn Fn(&SessionContext) -> std::result::Result<(), DataFusionError> + Send + Sync>;

/// Runs queries and rollups. Cheap to clone.
///
/// Queries have threads of their own, so that a heavy one holds up no pipeline and no timer.
#[derive(Clone)]
pub struct Batch {
    pub(super) lake: Lake,
    pub(super) clock: Arc<dyn Clock>,
    views: Views,
    threads: Arc<Threads>,
    dress: Option<Dress>,
    /// What was found out before. Clones share it.
    pub(super) known: Arc<Known>,
    /// What every session begins with. Clones share it.
    base: Arc<SessionState>,
    memory: Arc<Memory>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({:?})", self.lake)
    }
}

/// A query that is planned: running it opens files.
struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl Batch {
    /// Queries over `lake`.
    ///
    /// Errors: `Storage` when the machine gives no more threads.
    pub fn new(lake: Lake, clock: Arc<dyn Clock>, functions: Functions) -> Result<Self> {
        let own = Functions { scalar: own_scalars(), aggregate: own_aggregates() };
        let functions = Functions {
            scalar: own.scalar.into_iter().chain(functions.scalar).collect(),
            aggregate: own.aggregate.into_iter().chain(functions.aggregate).collect(),
        };
        let threads = Arc::new(Threads::new()?);
        let base = Arc::new(base(&functions, threads.count));
        Ok(Self {
            lake,
            clock,
            views: Views::default(),
            threads,
            dress: None,
            known: Arc::default(),
            base,
            memory: Arc::default(),
        })
    }

    /// Replaces the views: named SELECTs that queries and rollups use like tables. Clones of this share them.
    pub fn set_views(&self, views: BTreeMap<String, String>) {
        self.views.set(views);
        self.known.forget_tables();
    }

    /// What queries and rollups have cost since the start.
    pub fn work(&self) -> Work {
        self.memory.work()
    }

    /// The tables that a query reads, directly or through views, sorted. Parameters need no values.
    ///
    /// Errors: `Query` when the text is wrong.
    pub fn tables_read(&self, sql: &str) -> Result<Vec<String>> {
        self.known.tables(sql, || self.tables_named(&self.views.expand(guard::parse(sql)?)?))
    }

    /// The same tables and threads for a face of another dialect. What `dress` adds is read within the same limits.
    pub fn dressed(&self, dress: Dress) -> Self {
        Self { dress: Some(dress), ..self.clone() }
    }

    /// Plans one read-only query and tells what it would answer. Without `parameters` its placeholders stay what they are.
    ///
    /// Errors: as [`Batch::query`].
    pub async fn describe(
        &self,
        sql: &str,
        parameters: &BTreeMap<String, ScalarValue>,
        limits: &QueryLimits,
    ) -> Result<Described> {
        let mut statement = self.views.expand(guard::parse(sql)?)?;
        if !parameters.is_empty() {
            parameters::bind(&mut statement, parameters)?;
        }
        let (batch, own_limits) = (self.clone(), limits.clone());
        self.within(limits, Arc::default(), async move {
            let (_, plan) = batch.logical(statement, &own_limits).await?;
            let parameters = plan.get_parameter_types().map_err(query_error)?.into_iter().collect();
            Ok(Described { schema: Arc::clone(plan.schema().inner()), parameters })
        })
        .await
    }

    /// Runs `work` on a text from a user, on a thread whose stack is deep enough for what [`Batch::query`] takes, after
    /// the same bounds on length and nesting.
    ///
    /// Errors: `Limit` for a text that is too long or too deep, else those of `work`.
    pub async fn rewrite<T: Send + 'static>(
        &self,
        sql: &str,
        limits: &QueryLimits,
        work: impl FnOnce(&str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        guard::measure(sql)?;
        let sql = sql.to_string();
        self.within(limits, Arc::default(), async move { work(&sql) }).await
    }

    /// Runs one read-only query.
    ///
    /// Shape: `$name` in the text stands for `parameters["name"]`. Rows beyond `limits.rows_max` are cut off and
    /// `truncated` says so.
    ///
    /// Errors: `Query` when the text is wrong or would do more than read, `Limit` when time, memory, length or nesting is
    /// used up, `Event` with code `EXECUTION` when a value cannot be computed, `Storage`.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &BTreeMap<String, ScalarValue>,
        limits: &QueryLimits,
    ) -> Result<QueryResult> {
        let statement = self.bound(sql, parameters)?;
        let (batch, own_limits) = (self.clone(), limits.clone());
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        self.within(limits, cancelled, async move {
            let rows_max = own_limits.rows_max.saturating_add(1);
            let planned = batch.plan(statement, &own_limits, Some(rows_max), &flag).await?;
            let stream = execute_stream(planned.plan, planned.context).map_err(query_error)?;
            collect(stream, &own_limits).await
        })
        .await
    }

    /// As [`Batch::query`], but hands the rows out as they come. Time and memory are limited, rows are not.
    ///
    /// Errors: those of planning at once, those of running (time among them) in the stream.
    pub async fn query_stream(
        &self,
        sql: &str,
        parameters: &BTreeMap<String, ScalarValue>,
        limits: &QueryLimits,
    ) -> Result<SendableRecordBatchStream> {
        let statement = self.bound(sql, parameters)?;
        let (batch, own_limits) = (self.clone(), limits.clone());
        let deadline = tokio::time::Instant::now() + limits.timeout;
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let planning = async move { batch.plan(statement, &own_limits, None, &flag).await };
        // Planning has a flag of its own, which is raised when it has ended.
        let planned = self.within(limits, Arc::default(), planning).await?;
        let schema = planned.plan.schema();
        let (send, receive) = tokio::sync::mpsc::channel(STREAM_BATCHES_MAX);
        let task = self.threads.runtime()?.spawn(pump(planned, send));
        let source = Source { receive, deadline, limits: limits.clone(), _running: Running::new(&task, cancelled) };
        let rows = futures::stream::unfold(Some(source), |source| async move {
            let mut source = source?;
            match tokio::time::timeout_at(source.deadline, source.receive.recv()).await {
                Ok(batch) => batch.map(|batch| (batch, Some(source))),
                Err(_) => {
                    let error = DataFusionError::External(Box::new(timeout_error(&source.limits)));
                    Some((Err(error), None))
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, Box::pin(rows))))
    }

    /// The statement with its views and parameters in place.
    fn bound(&self, sql: &str, parameters: &BTreeMap<String, ScalarValue>) -> Result<Statement> {
        let mut statement = self.views.expand(guard::parse(sql)?)?;
        parameters::bind(&mut statement, parameters)?;
        Ok(statement)
    }

    /// The tables that a query names, sorted: those that would be read, not its own `WITH` names.
    fn tables_named(&self, statement: &Statement) -> Result<Vec<String>> {
        let (references, _) =
            datafusion::sql::resolve::resolve_table_references(statement, true).map_err(query_error)?;
        let mut names: Vec<String> = references
            .iter()
            .filter(|r| r.schema() != Some("information_schema"))
            .map(|r| match r {
                TableReference::Bare { table } => table.to_string(),
                TableReference::Partial { schema, table } | TableReference::Full { schema, table, .. } => {
                    if &**schema == SCHEMA { table.to_string() } else { format!("{schema}.{table}") }
                }
            })
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Plans and optimises; nothing has been read but table logs and file footers.
    async fn plan(
        &self,
        statement: Statement,
        limits: &QueryLimits,
        rows_max: Option<usize>,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Planned> {
        let cut = rows_max.filter(|_| guard::is_query(&statement));
        let (session, mut plan) = self.logical(statement, limits).await?;
        let mut state = session.state();
        if let Some(rows_max) = cut {
            plan = LogicalPlanBuilder::from(plan)
                .limit(0, Some(rows_max))
                .and_then(LogicalPlanBuilder::build)
                .map_err(query_error)?;
        }
        let physical = match plan {
            LogicalPlan::Explain(_) => state.create_physical_plan(&plan).await,
            _ => {
                let plan = state.optimize(&plan).map_err(query_error)?;
                stream::without_haste(&mut state, &plan, rows_max);
                guard::allow_constants(&plan, limits.memory_bytes_max / batch_rows(limits))?;
                let plan = growth::bound_concatenation(plan, limits.memory_bytes_max).map_err(query_error)?;
                let plan = guard::interruptible(plan, cancelled)?;
                state.query_planner().create_physical_plan(&plan, &state).await
            }
        }
        .map_err(query_error)?;
        Ok(Planned { plan: guard::yielding(physical)?, context: session.task_ctx() })
    }

    async fn logical(&self, statement: Statement, limits: &QueryLimits) -> Result<(SessionContext, LogicalPlan)> {
        let text = statement.to_string();
        let lists = !guard::is_query(&statement) || text.to_ascii_lowercase().contains("information_schema");
        let names = if lists { self.lake.names().await? } else { Vec::new() };
        let session = self.session(limits, names)?;
        let plan = match session.state().statement_to_plan(statement).await {
            Ok(plan) => plan,
            Err(e) => return Err(self.explained(e).await),
        };
        guard::allow_plan(&plan)?;
        self.memory.planned();
        Ok((session, plan))
    }

    fn session(&self, limits: &QueryLimits, names: Vec<String>) -> Result<SessionContext> {
        let memory_bytes = limits.memory_bytes_max;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
            .with_max_temp_directory_size((memory_bytes as u64).saturating_mul(SPILL_FACTOR))
            .with_object_store_registry(Arc::new(LakeStores(self.lake.clone())))
            .build_arc()
            .map_err(query_error)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(
            CATALOG.to_string(),
            Arc::new(LakeCatalog::new(self.lake.clone(), Arc::clone(&self.memory), names)),
        );
        let state = SessionStateBuilder::new_from_existing(self.base.as_ref().clone())
            .with_config(session_config(self.threads.count).with_batch_size(batch_rows(limits)))
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(catalogs))
            .build();
        let session = SessionContext::new_with_state(state);
        if let Some(dress) = &self.dress {
            dress(&session).map_err(query_error)?;
        }
        growth::bound(&session, memory_bytes);
        Ok(session)
    }

    /// Runs `work` on the query threads; when the time is up or the caller goes away it is cancelled.
    async fn within<T: Send + 'static>(
        &self,
        limits: &QueryLimits,
        cancelled: Arc<AtomicBool>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let task = self.threads.runtime()?.spawn(work);
        let _running = Running::new(&task, cancelled);
        match tokio::time::timeout(limits.timeout, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(e)) => Err(ended(e)),
            Err(_) => Err(timeout_error(limits)),
        }
    }

    /// An error of planning, with the names of tables where one was not found.
    async fn explained(&self, e: DataFusionError) -> Error {
        let text = e.strip_backtrace();
        let missing = text
            .split_once("table '")
            .and_then(|(_, rest)| rest.split_once("' not found"))
            .map(|(name, _)| name.trim_start_matches("millstream.").trim_start_matches("public.").to_string());
        let Some(missing) = missing else { return query_error(e) };
        let names = self.lake.names().await.unwrap_or_default();
        let fix = match closest(&missing, &names) {
            Some(name) => format!("did you mean '{name}'?"),
            None if names.is_empty() => "there are no tables yet".to_string(),
            None => format!("tables: {}", names.iter().take(NAMES_SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ")),
        };
        SqlError { message: format!("there is no table '{missing}'"), fix: Some(fix), ..SqlError::default() }.into()
    }
}

fn session_config(threads: usize) -> SessionConfig {
    SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(threads)
        // DataFusion 55 looks columns of such a filter up by name: below an outer join whose sides have columns of one name,
        // `coalesce(a.id, b.id)` becomes `coalesce(a.id, a.id)`, and rows are lost.
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
}

/// Optimizer, planner and functions: making them costs more than many a query, and they are the same for all.
fn base(functions: &Functions, threads: usize) -> SessionState {
    let state = SessionStateBuilder::new().with_config(session_config(threads)).with_default_features().build();
    let session = SessionContext::new_with_state(state);
    for function in &functions.scalar {
        session.register_udf(function.as_ref().clone());
    }
    for function in &functions.aggregate {
        session.register_udaf(function.as_ref().clone());
    }
    session.register_udf(ScalarUDF::from(TimeBucket::new()));
    session.state()
}

/// Rows of a batch: with little memory fewer, so that one with a long text in each row still fits.
fn batch_rows(limits: &QueryLimits) -> usize {
    (limits.memory_bytes_max / guard::TEXT_BYTES_MAX).clamp(256, BATCH_ROWS_MAX)
}

async fn collect(mut rows: SendableRecordBatchStream, limits: &QueryLimits) -> Result<QueryResult> {
    let schema: SchemaRef = rows.schema();
    let mut batches: Vec<RecordBatch> = Vec::new();
    let (mut left, mut bytes) = (limits.rows_max, 0usize);
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(query_error)?;
        if batch.num_rows() > left {
            batches.push(batch.slice(0, left));
            return Ok(QueryResult { schema, batches, truncated: true });
        }
        left -= batch.num_rows();
        bytes = bytes.saturating_add(batch.get_array_memory_size());
        if bytes > limits.memory_bytes_max {
            return Err(memory_error(&format!("its answer is larger than {} bytes", limits.memory_bytes_max)));
        }
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    Ok(QueryResult { schema, batches, truncated: false })
}

/// A query that runs for somebody: it is cancelled when nobody waits for it any more.
struct Running {
    task: AbortHandle,
    cancelled: Arc<AtomicBool>,
}

impl Running {
    fn new<T>(task: &JoinHandle<T>, cancelled: Arc<AtomicBool>) -> Self {
        Self { task: task.abort_handle(), cancelled }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

/// Where the rows of a stream come from. The deadline is kept here, by the reader, because the threads of queries may all
/// be busy.
struct Source {
    receive: Receiver<datafusion::error::Result<RecordBatch>>,
    deadline: tokio::time::Instant,
    limits: QueryLimits,
    _running: Running,
}

/// Runs a query into a channel; ends when its reader has gone.
async fn pump(planned: Planned, send: Sender<datafusion::error::Result<RecordBatch>>) {
    let mut rows = match execute_stream(planned.plan, planned.context) {
        Ok(rows) => rows,
        Err(e) => return drop(send.send(Err(e)).await),
    };
    while let Some(batch) = rows.next().await {
        let failed = batch.is_err();
        if send.send(batch).await.is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;
    use arrow::array::{ArrayRef, AsArray, Date32Array, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;

    async fn fill(lake: &Lake, name: &str, ids: [Vec<Option<&str>>; 2]) {
        let [users, installations] = ids.map(|ids| Arc::new(StringArray::from(ids)) as ArrayRef);
        let day = Arc::new(Date32Array::from(vec![20_000; users.len()])) as ArrayRef;
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("u", users, true),
            ("i", installations, true),
            ("day", day, true),
        ])
        .unwrap();
        lake.table(name, rows.schema()).await.unwrap().append(&[rows]).await.unwrap();
    }

    /// People whose id comes from the other side of an outer join, joined once more.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_made_of_both_sides_of_an_outer_join_loses_no_rows_streamed_or_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(&dir.path().display().to_string(), &BTreeMap::new()).await.unwrap();
        fill(&lake, "seen", [vec![Some("ada"), None, Some("bo")], vec![None, Some("x1"), None]]).await;
        fill(&lake, "told", [vec![Some("cy")], vec![Some("x1")]]).await;
        let sql = "WITH people AS (SELECT coalesce(s.u, t.u) AS p FROM seen AS s LEFT JOIN told AS t ON t.i = s.i) \
                   SELECT count(*) AS n FROM (SELECT p FROM people GROUP BY p) AS a JOIN people AS b ON b.p = a.p";
        for scan_bytes_max in [0, u64::MAX] {
            let mut batch = Batch::new(lake.clone(), Arc::new(SystemClock), Functions::default()).unwrap();
            batch.memory = Arc::new(Memory::of(1 << 20, scan_bytes_max));
            let result = batch.query(sql, &BTreeMap::new(), &QueryLimits::default()).await.unwrap();
            let counts = concat_batches(&result.schema, &result.batches).unwrap();
            assert_eq!(counts.column(0).as_primitive::<Int64Type>().value(0), 3, "at most {scan_bytes_max} bytes");
        }
    }
}

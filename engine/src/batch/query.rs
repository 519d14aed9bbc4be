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
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::{AbortHandle, JoinHandle};

use super::catalog::{CATALOG, LakeCatalog, LakeStores, SCHEMA};
use super::error::{closest, ended, memory_error, query_error, timeout_error};
use super::parameters::Described;
use super::time_bucket::TimeBucket;
use super::views::Views;
use super::{growth, guard, parameters};
use crate::error::{Error, Result, SqlError};
use crate::lake::Lake;
use crate::sql::functions::{own_aggregates, own_scalars};
use crate::time::Clock;

/// Stack of a query thread. Planning recurses on the tree of an expression; [`guard`] bounds its depth so that it fits.
const STACK_BYTES: usize = 16 << 20;

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
    functions: Functions,
    views: Views,
    threads: Arc<Threads>,
    dress: Option<Dress>,
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
        Ok(Self { lake, clock, functions, views: Views::default(), threads: Arc::new(Threads::new()?), dress: None })
    }

    /// Replaces the views: named SELECTs that queries and rollups use like tables. Clones of this share them.
    pub fn set_views(&self, views: BTreeMap<String, String>) {
        self.views.set(views);
    }

    /// The tables that a query reads, directly or through views, sorted. Parameters need no values.
    ///
    /// Errors: `Query` when the text is wrong.
    pub fn tables_read(&self, sql: &str) -> Result<Vec<String>> {
        self.tables_named(&self.views.expand(guard::parse(sql)?)?)
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
        let rows_max = rows_max.filter(|_| guard::is_query(&statement));
        let (session, mut plan) = self.logical(statement, limits).await?;
        let state = session.state();
        if let Some(rows_max) = rows_max {
            plan = LogicalPlanBuilder::from(plan)
                .limit(0, Some(rows_max))
                .and_then(LogicalPlanBuilder::build)
                .map_err(query_error)?;
        }
        let physical = match plan {
            LogicalPlan::Explain(_) => state.create_physical_plan(&plan).await,
            _ => {
                let plan = state.optimize(&plan).map_err(query_error)?;
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
        Ok((session, plan))
    }

    fn session(&self, limits: &QueryLimits, names: Vec<String>) -> Result<SessionContext> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_target_partitions(self.threads.count)
            .with_batch_size(batch_rows(limits));
        let memory_bytes = limits.memory_bytes_max;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
            .with_max_temp_directory_size((memory_bytes as u64).saturating_mul(SPILL_FACTOR))
            .with_object_store_registry(Arc::new(LakeStores(self.lake.clone())))
            .build_arc()
            .map_err(query_error)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_string(), Arc::new(LakeCatalog::new(self.lake.clone(), names)));
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(catalogs))
            .with_default_features()
            .build();
        let session = SessionContext::new_with_state(state);
        for function in &self.functions.scalar {
            session.register_udf(function.as_ref().clone());
        }
        for function in &self.functions.aggregate {
            session.register_udaf(function.as_ref().clone());
        }
        session.register_udf(ScalarUDF::from(TimeBucket::new()));
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

/// The threads of queries.
struct Threads {
    runtime: Option<Runtime>,
    count: usize,
}

impl Threads {
    fn new() -> Result<Self> {
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("millstream-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| Error::Storage(format!("cannot start query threads: {e}")))?;
        Ok(Self { runtime: Some(runtime), count })
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Error::Stopped("queries have ended".into()))
    }
}

impl Drop for Threads {
    /// A runtime may not be dropped where it would block, and queries that still run are to be cancelled.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

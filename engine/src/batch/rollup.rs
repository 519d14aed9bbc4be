//! Rollups: a SELECT over one day that replaces that day of a table.
//!
//! Running one twice changes nothing. Every run is a row of `system.rollup_runs`, with the versions of the tables it read:
//! a day whose rows changed in one of them since (late events) is due again, and only that day.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema, TimeUnit};
use arrow::row::{RowConverter, SortField};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, TableFactor, TableWithJoins, Visit, Visitor};
use futures::{FutureExt, StreamExt, stream};

use super::query::Batch;
use super::{QueryLimits, QueryResult};
use crate::error::{Error, Result};
use crate::lake::{Changes, LakeTable};
use crate::time::{DAY, EventTime, day_of};

/// The table of all runs.
///
/// Shape: `rollup` (text), `day_run` (date: the day that was rolled up), `started_at`, `finished_at` (timestamps, UTC),
/// `rows` (of the result), `input_versions` (JSON: table name to version), `error` (null if it went well), `day` (of the
/// start, the partition).
pub const ROLLUP_RUNS: &str = "system.rollup_runs";

/// A SELECT over one day, which is its parameter `$day`.
#[derive(Debug, Clone)]
pub struct Rollup {
    /// The table that it fills.
    pub name: String,
    /// The SELECT.
    pub sql: String,
    /// The file that the SELECT is from, for errors.
    pub file: String,
}

/// What one run did: a row of [`ROLLUP_RUNS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupRun {
    /// The rollup.
    pub rollup: String,
    /// The day that was rolled up, in days since the epoch.
    pub day: i32,
    /// When it began.
    pub started_at: EventTime,
    /// When its rows were in the table, or it failed.
    pub finished_at: EventTime,
    /// Rows of the result.
    pub rows: u64,
    /// The versions of the tables that it read, taken before reading: it saw these or newer ones.
    pub input_versions: BTreeMap<String, i64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Days of a rollup whose results wait for one commit: it costs hardly more for many days than for one.
pub const ROLLUP_DAYS_AT_ONCE: usize = 32;

/// Rows that wait for a commit at most.
const ROWS_WAITING_MAX: usize = 4_000_000;

/// Days that are computed at a time: planning uses one core.
const DAYS_COMPUTED_AT_ONCE: usize = 2;

impl Batch {
    /// Rolls up one day: runs the SELECT with `$day` and replaces that day of the table. A result without a `day` column
    /// gets one.
    ///
    /// Errors: those of [`Batch::query`] with the rollup's file, and `Query` when the result has rows of another day. The
    /// run is recorded with its error, and the table keeps the rows it had.
    pub async fn rollup(&self, rollup: &Rollup, day: i32) -> Result<RollupRun> {
        let mut runs = self.roll_up(rollup, &[day]).await?;
        runs.pop().unwrap_or_else(|| Err(Error::Bug("a rollup of one day had no run".into())))
    }

    /// As [`Batch::rollup`], for several days: [`ROLLUP_DAYS_AT_ONCE`] of them are committed and recorded together. What a
    /// crash takes away before that is due again.
    ///
    /// The outcomes are in the order of the days: one that fails holds up no other.
    ///
    /// Errors: when results could not be committed or runs not be recorded.
    pub async fn rollup_days(&self, rollup: &Rollup, days: &[i32]) -> Result<Vec<Result<RollupRun>>> {
        let mut done = Vec::with_capacity(days.len());
        // A rollup that reads its own earlier days needs them one by one.
        let reads_itself = self.inputs(rollup).is_ok_and(|names| names.contains(&rollup.name));
        for days in days.chunks(if reads_itself { 1 } else { ROLLUP_DAYS_AT_ONCE }) {
            done.extend(self.roll_up(rollup, days).await?);
        }
        Ok(done)
    }

    /// The days up to `through_day` that must be rolled up: those on which an input has rows and that never were, and
    /// those whose rows in an input changed since. Sorted.
    ///
    /// Of a table that is read with `day <= $day` or `day < $day` (what has been before decides), a change on a day makes
    /// the later days due too; rows on it alone make none due.
    pub async fn rollup_days_due(&self, rollup: &Rollup, through_day: i32) -> Result<BTreeSet<i32>> {
        let mut inputs: BTreeMap<String, LakeTable> = BTreeMap::new();
        for name in self.inputs(rollup)? {
            if let Some(table) = self.lake.existing(&name).await? {
                inputs.insert(name, table);
            }
        }
        let histories = self.known.histories(&rollup.sql)?;
        let last_runs = self.last_runs(rollup).await?;
        // A day on which no input has rows is not worth a run, unless it had rows when it was run.
        let mut days: BTreeSet<i32> = last_runs.keys().copied().collect();
        let alone = inputs.keys().all(|name| histories.contains(name));
        for (_, table) in inputs.iter().filter(|(name, _)| alone || !histories.contains(*name)) {
            days.extend(table.days().await?);
        }
        days.retain(|day| *day <= through_day);
        let mut changes: BTreeMap<&str, Changes> = BTreeMap::new();
        for (name, table) in &inputs {
            let oldest = last_runs.values().filter_map(|versions| versions.get(name)).min();
            if let Some(oldest) = oldest {
                changes.insert(name, table.changes_since(*oldest).await?);
            }
        }
        let due = |day: &i32| match last_runs.get(day) {
            None => true,
            Some(versions) => inputs.keys().any(|name| match (versions.get(name), changes.get(name.as_str())) {
                (Some(version), Some(changes)) => {
                    changes.changed_after(*day, *version)
                        || histories.contains(name) && changes.changed_through(*day, *version)
                }
                // A table that did not exist at the last run.
                _ => true,
            }),
        };
        Ok(days.into_iter().filter(due).collect())
    }

    /// Computes the days, commits and records them.
    async fn roll_up(&self, rollup: &Rollup, days: &[i32]) -> Result<Vec<Result<RollupRun>>> {
        let mut runs: Vec<Result<RollupRun>> = Vec::with_capacity(days.len());
        let mut waiting: Vec<(usize, RecordBatch)> = Vec::new();
        let computing: Vec<_> = days.iter().map(|day| self.compute(rollup, *day).boxed()).collect();
        let mut computed = stream::iter(computing).buffered(DAYS_COMPUTED_AT_ONCE);
        while let Some((mut run, result)) = computed.next().await {
            match result {
                Ok(rows) => {
                    run.rows = rows.num_rows() as u64;
                    waiting.push((runs.len(), rows));
                    runs.push(Ok(run));
                }
                Err(error) => {
                    let error = in_file(error, &rollup.file);
                    run.finished_at = self.clock.now();
                    run.error = Some(error.to_string());
                    self.record(&[&run]).await?;
                    runs.push(Err(error));
                }
            }
            if waiting.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>() > ROWS_WAITING_MAX {
                self.commit(rollup, &mut runs, std::mem::take(&mut waiting)).await?;
            }
        }
        self.commit(rollup, &mut runs, waiting).await?;
        Ok(runs)
    }

    /// The rows of one day, in one order.
    async fn compute(&self, rollup: &Rollup, day: i32) -> (RollupRun, Result<RecordBatch>) {
        let mut run = RollupRun {
            rollup: rollup.name.clone(),
            day,
            started_at: self.clock.now(),
            finished_at: 0,
            rows: 0,
            input_versions: BTreeMap::new(),
            error: None,
        };
        let rows = async {
            for name in self.inputs(rollup)? {
                if let Some(table) = self.lake.existing(&name).await? {
                    run.input_versions.insert(name, table.version().await?);
                }
            }
            let parameters = BTreeMap::from([("day".to_string(), ScalarValue::Date32(Some(day)))]);
            let result = self.query(&rollup.sql, &parameters, &rollup_limits()).await?;
            sorted(with_day(result, day)?)
        };
        let rows = rows.await;
        (run, rows)
    }

    /// Replaces the days that wait in the table, and records their runs.
    async fn commit(
        &self,
        rollup: &Rollup,
        runs: &mut [Result<RollupRun>],
        waiting: Vec<(usize, RecordBatch)>,
    ) -> Result<()> {
        let Some((_, first)) = waiting.first() else { return Ok(()) };
        let schema = first.schema();
        let days: Vec<i32> =
            waiting.iter().filter_map(|(at, _)| runs.get(*at)?.as_ref().ok().map(|run| run.day)).collect();
        let (places, rows): (Vec<usize>, Vec<RecordBatch>) = waiting.into_iter().unzip();
        let committed = async { self.lake.table(&rollup.name, schema).await?.replace_days(&days, &rows).await };
        let error = committed.await.err().map(|error| in_file(error, &rollup.file));
        let now = self.clock.now();
        let mut recorded = Vec::with_capacity(places.len());
        for run in places.iter().filter_map(|at| runs.get(*at)?.as_ref().ok()) {
            recorded.push(RollupRun {
                finished_at: now,
                error: error.as_ref().map(ToString::to_string),
                ..run.clone()
            });
        }
        self.record(&recorded.iter().collect::<Vec<_>>()).await?;
        for (at, run) in places.into_iter().zip(recorded) {
            if let Some(slot) = runs.get_mut(at) {
                *slot = Ok(run);
            }
        }
        error.map_or(Ok(()), Err)
    }

    /// The tables that the rollup reads.
    fn inputs(&self, rollup: &Rollup) -> Result<Vec<String>> {
        self.tables_read(&rollup.sql).map_err(|e| in_file(e, &rollup.file))
    }

    async fn record(&self, runs: &[&RollupRun]) -> Result<()> {
        let rows = runs.iter().map(|run| run_row(run)).collect::<Result<Vec<_>>>()?;
        let Some(first) = rows.first() else { return Ok(()) };
        self.lake.table(ROLLUP_RUNS, first.schema()).await?.append(&rows).await?;
        Ok(())
    }

    /// Per day, the input versions of its last run that went well.
    async fn last_runs(&self, rollup: &Rollup) -> Result<HashMap<i32, BTreeMap<String, i64>>> {
        let Some(table) = self.lake.existing(ROLLUP_RUNS).await? else { return Ok(HashMap::new()) };
        let mut known = self.known.runs.lock().await;
        let version = table.version().await?;
        if version != known.version {
            self.read_runs(&mut known).await?;
            known.version = version;
        }
        let runs = known.last.get(&rollup.name).into_iter().flatten();
        Ok(runs.map(|(day, run)| (*day, run.versions.clone())).collect())
    }

    /// Reads the runs that began since the day on which the newest known one did. A run is recorded when it has ended: those
    /// that began the day before may still be missing.
    async fn read_runs(&self, known: &mut Runs) -> Result<()> {
        let sql = format!(
            "SELECT rollup, day_run, input_versions, started_at FROM {ROLLUP_RUNS} WHERE error IS NULL AND day >= $since"
        );
        let newest = known.last.values().flat_map(HashMap::values).map(|run| run.started_micros).max();
        let since = newest.map_or(0, |micros| day_of(micros.saturating_mul(1_000)) - 1);
        let parameters = BTreeMap::from([("since".to_string(), ScalarValue::Date32(Some(since)))]);
        let result = self.query(&sql, &parameters, &rollup_limits()).await?;
        for batch in &result.batches {
            let rollups = cast(batch.column(0), &DataType::Utf8)?;
            let days = cast(batch.column(1), &DataType::Date32)?;
            let versions = cast(batch.column(2), &DataType::Utf8)?;
            let started =
                cast(&cast(batch.column(3), &DataType::Timestamp(TimeUnit::Microsecond, None))?, &DataType::Int64)?;
            let days = days.as_primitive::<Date32Type>().iter();
            let rows = rollups.as_string::<i32>().iter().zip(days).zip(versions.as_string::<i32>());
            for (((rollup, day), versions), started) in rows.zip(started.as_primitive::<Int64Type>()) {
                let (Some(rollup), Some(day), Some(versions)) = (rollup, day, versions) else { continue };
                let versions: BTreeMap<String, i64> = serde_json::from_str(versions)
                    .map_err(|e| Error::Corrupt(format!("input_versions in {ROLLUP_RUNS}: {e}")))?;
                let run = LastRun { started_micros: started.unwrap_or(i64::MIN), versions };
                let last = known.last.entry(rollup.to_string()).or_default();
                let known = last.entry(day).or_insert_with(|| run.clone());
                if run.rank() > known.rank() {
                    *known = run;
                }
            }
        }
        Ok(())
    }
}

/// What is known of the runs, as of a version of their table.
#[derive(Debug)]
pub(super) struct Runs {
    version: i64,
    /// By rollup and day.
    last: HashMap<String, HashMap<i32, LastRun>>,
}

impl Default for Runs {
    fn default() -> Self {
        Self { version: -1, last: HashMap::new() }
    }
}

#[derive(Debug, Clone)]
struct LastRun {
    started_micros: i64,
    versions: BTreeMap<String, i64>,
}

impl LastRun {
    /// The last one is the one that began last; of those that began in one tick, the one that saw most.
    fn rank(&self) -> (i64, i64) {
        (self.started_micros, self.versions.values().sum())
    }
}

/// The tables that a rollup reads with `day <= $day` or `day < $day`.
pub(super) fn histories(sql: &str) -> Result<BTreeSet<String>> {
    struct Reads(BTreeSet<String>);
    impl Visitor for Reads {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
            let filter = select.selection.as_ref().map_or_else(String::new, ToString::to_string);
            if filter.contains("day <= $day") || filter.contains("day < $day") {
                let joined = |t: &TableWithJoins| {
                    let joins = t.joins.iter().map(|join| join.relation.clone());
                    [t.relation.clone()].into_iter().chain(joins).collect::<Vec<_>>()
                };
                for table in select.from.iter().flat_map(joined) {
                    if let TableFactor::Table { name, .. } = table {
                        self.0.insert(name.to_string());
                    }
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut reads = Reads(BTreeSet::new());
    if let Statement::Statement(statement) = super::guard::parse(sql)? {
        let _ = statement.visit(&mut reads);
    }
    Ok(reads.0)
}

/// Rollups run at night and may take their time; memory is spilled beyond this.
fn rollup_limits() -> QueryLimits {
    QueryLimits { rows_max: 50_000_000, timeout: Duration::from_secs(6 * 3_600), memory_bytes_max: 2 << 30 }
}

/// The result as one batch whose `day` column is the day.
fn with_day(result: QueryResult, day: i32) -> Result<RecordBatch> {
    if result.truncated {
        return Err(Error::Limit {
            message: format!("a rollup's result has more than {} rows; aggregate more", rollup_limits().rows_max),
            retry_after_ms: 0,
        });
    }
    let rows = concat_batches(&result.schema, &result.batches)?;
    let Some(given) = rows.column_by_name("day") else {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![day; rows.num_rows()]));
        let fields = rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect::<Vec<_>>();
        let schema = Schema::new([fields, vec![Field::new("day", DataType::Date32, true)]].concat());
        return Ok(RecordBatch::try_new(Arc::new(schema), [rows.columns().to_vec(), vec![days]].concat())?);
    };
    let days = cast(given, &DataType::Date32)?;
    let days = days.as_primitive::<Date32Type>();
    for (row, value) in days.iter().enumerate() {
        if value != Some(day) {
            let shown = value.map_or_else(|| "null".to_string(), show_day);
            return Err(Error::sql(format!(
                "row {} of the result has day {shown}, not {}; select the rows of $day only",
                row + 1,
                show_day(day)
            )));
        }
    }
    let index = rows.schema().index_of("day")?;
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    let mut columns = rows.columns().to_vec();
    if let (Some(field), Some(column)) = (fields.get_mut(index), columns.get_mut(index)) {
        *field = Field::new("day", DataType::Date32, true);
        *column = Arc::new(days.clone());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Rows in one order, whatever the order of the threads was: equal rows then make an equal file.
fn sorted(rows: RecordBatch) -> Result<RecordBatch> {
    let fields: Vec<SortField> = rows.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
    if rows.num_rows() < 2 || !RowConverter::supports_fields(&fields) {
        return Ok(rows);
    }
    let converter = RowConverter::new(fields)?;
    let keys = converter.convert_columns(rows.columns())?;
    let mut order: Vec<_> = (0u32..).zip(keys.iter()).collect();
    order.sort_unstable_by(|a, b| a.1.cmp(&b.1));
    let order: arrow::array::UInt32Array = order.iter().map(|(index, _)| *index).collect::<Vec<u32>>().into();
    Ok(take_record_batch(&rows, &order)?)
}

fn run_row(run: &RollupRun) -> Result<RecordBatch> {
    let versions = serde_json::to_string(&run.input_versions).map_err(|e| Error::Bug(e.to_string()))?;
    let rows = i64::try_from(run.rows).unwrap_or(i64::MAX);
    let timestamp = |t: i64| Arc::new(TimestampNanosecondArray::from(vec![t])) as ArrayRef;
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("rollup", Arc::new(StringArray::from(vec![run.rollup.as_str()])) as ArrayRef, true),
        ("day_run", Arc::new(Date32Array::from(vec![run.day])) as ArrayRef, true),
        ("started_at", timestamp(run.started_at), true),
        ("finished_at", timestamp(run.finished_at), true),
        ("rows", Arc::new(Int64Array::from(vec![rows])) as ArrayRef, true),
        ("input_versions", Arc::new(StringArray::from(vec![versions])) as ArrayRef, true),
        ("error", Arc::new(StringArray::from(vec![run.error.as_deref()])) as ArrayRef, true),
        ("day", Arc::new(Date32Array::from(vec![day_of(run.started_at)])) as ArrayRef, true),
    ])?)
}

fn in_file(e: Error, file: &str) -> Error {
    match e {
        Error::Query(mut sql) => {
            sql.file.get_or_insert_with(|| file.to_string());
            Error::Query(sql)
        }
        other => other,
    }
}

fn show_day(day: i32) -> String {
    crate::time::show(i64::from(day).saturating_mul(DAY)).chars().take(10).collect()
}

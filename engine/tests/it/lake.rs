//! The lake as its users see it: through DataFusion, DuckDB and the Python deltalake package, on a disk and on S3.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use millstream::lake::{Lake, LakeTable, Maintenance};
use millstream::time::{Clock, DAY, ManualClock, SystemClock};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use crate::python;

/// 2026-11-22.
pub const SUNDAY: i32 = 20_779;

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("agent", DataType::Utf8View, true),
        Field::new("tokens", DataType::UInt64, true),
        Field::new("cost", DataType::Float64, true),
        Field::new("day", DataType::Date32, false),
    ]))
}

/// Events of one day and hour: `(agent, tokens, cost)`.
pub fn events(day: i32, rows: &[(&str, u64, f64)]) -> RecordBatch {
    let at: Vec<i64> = (0..rows.len() as i64).map(|i| i64::from(day) * DAY + i * 1_000_000_000 + 123_456_789).collect();
    let agents: Vec<Option<&str>> = rows.iter().map(|r| Some(r.0).filter(|a| !a.is_empty())).collect();
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(TimestampNanosecondArray::from(at)),
            Arc::new(arrow::array::StringViewArray::from(agents)),
            Arc::new(UInt64Array::from(rows.iter().map(|r| r.1).collect::<Vec<_>>())),
            Arc::new(Float64Array::from(rows.iter().map(|r| r.2).collect::<Vec<_>>())),
            Arc::new(Date32Array::from(vec![day; rows.len()])),
        ],
    )
    .unwrap()
}

/// The answer to a query over the table as `t`, one line per row, columns by a space.
async fn rows(table: &LakeTable, sql: &str) -> Vec<String> {
    let session = SessionContext::new();
    session.register_table("t", table.provider().await.unwrap()).unwrap();
    lines(&session.sql(sql).await.unwrap().collect().await.unwrap())
}

pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string();
    let line = |l: &str| l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ");
    text.lines().filter(|l| l.starts_with('|')).skip(1).map(line).collect()
}

const ALL: &str = "SELECT day, agent, tokens FROM t ORDER BY day, tokens, agent";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_seen_when_they_are_committed_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().join("new/lake").to_str().unwrap(), &none()).await.unwrap();
    let table = lake.table("agent_usage", schema()).await.unwrap();
    let batches = [events(SUNDAY, &[("claude", 5, 0.1), ("", 7, 0.2)]), events(SUNDAY + 1, &[("gemini", 1, 0.0)])];
    let files = table.write("agent_usage", 1, 0, &batches).await.unwrap();
    // The last part is the checksum of the bytes.
    let names: Vec<&str> = files.iter().filter_map(|f| f.path.rsplit_once('-')).map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "day=2026-11-22/agent_usage-00000000000000000001-00000",
            "day=2026-11-23/agent_usage-00000000000000000001-00000"
        ]
    );
    assert_eq!(rows(&table, ALL).await, Vec::<String>::new());

    assert_eq!(table.commit("agent_usage", 1, &files).await.unwrap(), Some(1));
    assert_eq!(rows(&table, ALL).await, ["2026-11-22 claude 5", "2026-11-22  7", "2026-11-23 gemini 1"]);
    // Nanoseconds are cut to microseconds; the file of the other day is not read.
    assert_eq!(rows(&table, "SELECT at FROM t WHERE day = DATE '2026-11-23'").await, ["2026-11-23T00:00:00.123456Z"]);
    let plan = rows(&table, "EXPLAIN SELECT tokens FROM t WHERE day = DATE '2026-11-23'").await.join("\n");
    assert!(!plan.contains("day=2026-11-22"), "{plan}");
    assert_eq!(lake.names().await.unwrap(), ["agent_usage"]);
    assert_eq!(
        table.schema().fields().iter().map(|f| f.data_type().to_string()).collect::<Vec<_>>(),
        ["Timestamp(µs, \"UTC\")", "Utf8", "Int64", "Float64", "Date32"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_file_survives_a_restart_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().to_str().unwrap();
    let table = Lake::open(url, &none()).await.unwrap().table("t", schema()).await.unwrap();
    let files = table.write("t", 1, 0, &[events(SUNDAY, &[("a", 1, 0.0)])]).await.unwrap();
    let manifest = serde_json::to_string(&files).unwrap();
    drop(table);

    let table = Lake::open(url, &none()).await.unwrap().existing("t").await.unwrap().unwrap();
    let files: Vec<millstream::lake::PendingFile> = serde_json::from_str(&manifest).unwrap();
    table.commit("t", 1, &files).await.unwrap();
    assert_eq!(rows(&table, ALL).await, ["2026-11-22 a 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_commit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().to_str().unwrap();
    let stale = Lake::open(url, &none()).await.unwrap().table("t", schema()).await.unwrap();
    let table = Lake::open(url, &none()).await.unwrap().table("t", schema()).await.unwrap();
    let files = table.write("t", 1, 0, &[events(SUNDAY, &[("a", 1, 0.0)])]).await.unwrap();
    assert_eq!(table.commit("t", 1, &files).await.unwrap(), Some(1));
    assert_eq!(table.commit("t", 1, &files).await.unwrap(), None, "the same handle");
    assert_eq!(stale.commit("t", 1, &files).await.unwrap(), None, "a handle that has not seen the commit");
    let fresh = Lake::open(url, &none()).await.unwrap().existing("t").await.unwrap().unwrap();
    assert_eq!(fresh.commit("t", 1, &files).await.unwrap(), None, "another process");
    assert_eq!(fresh.commit("t", 0, &files).await.unwrap(), None, "an older version");
    assert_eq!(fresh.commit("other", 1, &[]).await.unwrap(), Some(2), "another application's version");
    assert_eq!(rows(&table, ALL).await, ["2026-11-22 a 1"]);
}

/// Local files, and errors on the puts of commits: before or after they are applied.
#[derive(Debug)]
struct Failing {
    inner: LocalFileSystem,
    failures_left: AtomicU32,
    applied: bool,
    commits_put: AtomicU32,
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Failing{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let commit = at.as_ref().contains("_delta_log/") && at.as_ref().ends_with(".json");
        let fails =
            commit && self.failures_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if !fails || self.applied {
            self.inner.put_opts(at, payload, options).await?;
            self.commits_put.fetch_add(u32::from(commit), Ordering::SeqCst);
        }
        if fails {
            return Err(object_store::Error::Generic { store: "failing", source: "connection reset".into() });
        }
        Ok(PutResult { e_tag: None, version: None })
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(at, options).await
    }
    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }
    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(at)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn on_store(dir: &tempfile::TempDir, store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Lake {
    Lake::with_store(url::Url::from_directory_path(dir.path()).unwrap(), store, clock)
}

fn failing(failures: u32, applied: bool) -> Arc<Failing> {
    Arc::new(Failing {
        inner: LocalFileSystem::new(),
        failures_left: AtomicU32::new(failures),
        applied,
        commits_put: AtomicU32::new(0),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_ends_exactly_once() {
    for (failures, applied) in [(1, true), (1, false), (3, false)] {
        let dir = tempfile::tempdir().unwrap();
        Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap().table("t", schema()).await.unwrap();
        let store = failing(failures, applied);
        let lake = on_store(&dir, Arc::clone(&store) as _, Arc::new(SystemClock));
        let table = lake.existing("t").await.unwrap().unwrap();
        let files = table.write("t", 1, 0, &[events(SUNDAY, &[("a", 1, 0.0)])]).await.unwrap();
        let case = format!("{failures} failures, applied: {applied}");
        assert_eq!(table.commit("t", 1, &files).await.unwrap(), Some(1), "{case}");
        assert_eq!(store.commits_put.load(Ordering::SeqCst), 1, "{case}");
        assert_eq!(rows(&table, ALL).await, ["2026-11-22 a 1"], "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_replaced_day_and_of_a_creation_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = failing(1, true);
    let lake = on_store(&dir, Arc::clone(&store) as _, Arc::new(SystemClock));
    let table = lake.table("t", schema()).await.unwrap();
    assert_eq!(table.version().await.unwrap(), 0);
    store.failures_left.store(1, Ordering::SeqCst);
    assert_eq!(table.replace_day(SUNDAY, &[events(SUNDAY, &[("a", 1, 0.0)])]).await.unwrap(), 1);
    assert_eq!(rows(&table, ALL).await, ["2026-11-22 a 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_down_loses_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = failing(0, false);
    let lake = on_store(&dir, Arc::clone(&store) as _, Arc::new(SystemClock));
    let table = lake.table("t", schema()).await.unwrap();
    let files = table.write("t", 1, 0, &[events(SUNDAY, &[("a", 1, 0.0)])]).await.unwrap();
    store.failures_left.store(100, Ordering::SeqCst);
    let error = table.commit("t", 1, &files).await.unwrap_err().to_string();
    assert!(error.starts_with("storage: cannot commit to table 't'"), "{error}");
    assert!(error.ends_with("the commit may have happened, repeating it is safe"), "{error}");
    store.failures_left.store(0, Ordering::SeqCst);
    assert_eq!(table.commit("t", 1, &files).await.unwrap(), Some(1));
    assert_eq!(rows(&table, ALL).await, ["2026-11-22 a 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_a_day_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap().table("t", schema()).await.unwrap();
    let sunday = [events(SUNDAY, &[("a", 1, 0.0), ("b", 2, 0.0)])];
    assert_eq!(table.replace_day(SUNDAY, &sunday).await.unwrap(), 1);
    table.replace_day(SUNDAY + 1, &[events(SUNDAY + 1, &[("m", 9, 0.0)])]).await.unwrap();
    assert_eq!(table.replace_day(SUNDAY, &sunday).await.unwrap(), 2, "no new version");
    table.replace_day(SUNDAY, &[events(SUNDAY, &[("c", 3, 0.0)])]).await.unwrap();
    assert_eq!(rows(&table, ALL).await, ["2026-11-22 c 3", "2026-11-23 m 9"]);
    table.replace_day(SUNDAY, &[]).await.unwrap();
    assert_eq!(rows(&table, ALL).await, ["2026-11-23 m 9"]);
    let wrong = table.replace_day(SUNDAY, &[events(SUNDAY + 1, &[("x", 1, 0.0)])]).await.unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "WRONG_DAY: rows of day 2026-11-23 cannot replace day 2026-11-22 of 't'; select one day"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut writers = Vec::new();
    for writer in 0..4u64 {
        let lake = Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap();
        writers.push(tokio::spawn(async move {
            let table = lake.table("t", schema()).await.unwrap();
            let name = format!("w{writer}");
            for epoch in 1..=5 {
                let rows = [events(SUNDAY, &[(&name, epoch, 0.0)])];
                let files = table.write(&name, epoch, 0, &rows).await.unwrap();
                assert!(table.commit(&name, epoch as i64, &files).await.unwrap().is_some());
            }
            table
                .replace_day(SUNDAY + writer as i32 + 1, &[events(SUNDAY + writer as i32 + 1, &[("r", 1, 0.0)])])
                .await
                .unwrap();
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let table = Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap().existing("t").await.unwrap().unwrap();
    assert_eq!(
        rows(&table, "SELECT count(*), count(DISTINCT agent || tokens), sum(tokens) FROM t").await,
        ["24 21 64"]
    );
    assert_eq!(table.version().await.unwrap(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_rows_transactions_and_pending_files() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(SystemClock.now());
    let lake = on_store(&dir, Arc::new(LocalFileSystem::new()), Arc::new(clock.clone()));
    let table = lake.table("t", schema()).await.unwrap();
    for epoch in 1..=12 {
        let rows = [events(SUNDAY, &[("a", epoch, 0.0)]), events(SUNDAY + 1, &[("b", epoch, 0.0)])];
        let files = table.write("t", epoch, 0, &rows[..if epoch > 4 { 1 } else { 2 }]).await.unwrap();
        table.commit("t", epoch as i64, &files).await.unwrap();
    }
    let before = rows(&table, ALL).await;
    let pending = table.write("t", 13, 0, &[events(SUNDAY, &[("late", 13, 0.0)])]).await.unwrap();
    let policy = Maintenance { commits_per_checkpoint: 5, ..Maintenance::default() };
    let report = table.maintain(&policy).await.unwrap();
    assert_eq!((report.files_compacted, report.files_written), (12, 1), "Sunday alone has more than 8 files");
    assert_eq!((report.checkpoint_written, report.files_vacuumed), (true, 0));
    assert_eq!(rows(&table, ALL).await, before);
    assert_eq!(table.days_changed_since(12).await.unwrap().len(), 0, "compaction is no change");

    // After a restart the log is read from its checkpoint: transactions are still known.
    let fresh = on_store(&dir, Arc::new(LocalFileSystem::new()), Arc::new(clock.clone()));
    let fresh = fresh.existing("t").await.unwrap().unwrap();
    assert_eq!(fresh.commit("t", 12, &pending).await.unwrap(), None);
    assert!(fresh.commit("t", 13, &pending).await.unwrap().is_some());

    // Eight days later the files that compaction replaced are gone; the table is as it was.
    clock.set(clock.now() + 8 * DAY);
    assert_eq!(table.maintain(&policy).await.unwrap().files_vacuumed, 12);
    assert_eq!(rows(&table, "SELECT count(*), sum(tokens) FROM t").await, ["17 101"]);
    let again = table.maintain(&policy).await.unwrap();
    assert_eq!(again.files_compacted + again.files_vacuumed, 0, "nothing left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_columns_are_added_and_other_changes_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap();
    let table = lake.table("t", schema()).await.unwrap();
    table.append(&[events(SUNDAY, &[("a", 1, 0.0)])]).await.unwrap();
    let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("country", DataType::Utf8, true));
    let wider = lake.table("t", Arc::new(Schema::new(fields.clone()))).await.unwrap();
    let new = RecordBatch::try_from_iter([
        ("country", Arc::new(StringArray::from(vec!["DE"])) as ArrayRef),
        ("day", Arc::new(Date32Array::from(vec![SUNDAY])) as ArrayRef),
    ])
    .unwrap();
    wider.append(&[new]).await.unwrap();
    assert_eq!(rows(&table, "SELECT agent, country FROM t ORDER BY agent").await, ["a ", " DE"]);

    fields[2] = Field::new("tokens", DataType::Utf8, true);
    let error = lake.table("t", Arc::new(Schema::new(fields))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration: column 'tokens' of table 't' is Int64 in the lake but Utf8 in the SQL; cast it to Int64, or give \
         the column another name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_days_are_told_as_far_as_the_log_reaches() {
    let dir = tempfile::tempdir().unwrap();
    let table = Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap().table("t", schema()).await.unwrap();
    for day in [SUNDAY, SUNDAY + 1, SUNDAY + 2] {
        table.append(&[events(day, &[("a", 1, 0.0)])]).await.unwrap();
    }
    let version = table.version().await.unwrap();
    table.append(&[events(SUNDAY + 1, &[("late", 1, 0.0)])]).await.unwrap();
    assert_eq!(table.days_changed_since(version).await.unwrap(), [SUNDAY + 1].into());
    assert_eq!(table.days_changed_since(-1).await.unwrap().len(), 3);
    std::fs::remove_file(dir.path().join("t/_delta_log/00000000000000000001.json")).unwrap();
    // Version 1 is gone from the log (a clean-up): what changed after version 0 is not known, so everything may have.
    assert_eq!(table.days_changed_since(0).await.unwrap().len(), 3);
    assert_eq!(table.days_changed_since(version).await.unwrap(), [SUNDAY + 1].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_urls_and_options_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap();
    let error = lake.table("../etc", schema()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "configuration: '../etc' cannot name a table; use letters, digits and _, beginning with a letter, and at most one \
         dot"
    );
    let error = Lake::open("ftp://x/y", &none()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "configuration: lake 'ftp://x/y' has the unknown scheme 'ftp'; use a local path or s3://bucket/prefix"
    );
    let option = BTreeMap::from([("aws_endpiont".to_string(), "x".to_string())]);
    let error = Lake::open("s3://bucket/x", &option).await.unwrap_err().to_string();
    assert!(error.starts_with("configuration: unknown lake option 'aws_endpiont'; use aws_endpoint, "), "{error}");
    lake.table("system.rollup_runs", schema()).await.unwrap();
    assert!(dir.path().join("system/rollup_runs/_delta_log").is_dir());
    assert_eq!(lake.names().await.unwrap(), ["system.rollup_runs"]);
}

const READ_BACK: &str = r#"
import sys, datetime, duckdb, deltalake
table = deltalake.DeltaTable(sys.argv[1])
print("deltalake", table.version(), table.metadata().partition_columns, table.to_pyarrow_table().num_rows)
sunday = table.to_pyarrow_table(filters=[("day", "=", datetime.date(2026, 11, 22))])
for row in sunday.sort_by("tokens").to_pylist():
    print(row["day"], row["agent"], row["tokens"], row["at"].isoformat())
names = table.get_add_actions(flatten=True).schema.names
print("statistics", all(name in names for name in ["min.tokens", "max.at", "null_count.agent"]))
sql = """SELECT day, count(*), sum(tokens), epoch_us(max("at")), min(typeof("at"))
FROM read_parquet(?, hive_partitioning = true) GROUP BY day ORDER BY day"""
for row in duckdb.execute(sql, [table.file_uris()]).fetchall():
    print("duckdb", *row)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_and_deltalake_read_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(dir.path().to_str().unwrap(), &none()).await.unwrap();
    let table = lake.table("agent_usage", schema()).await.unwrap();
    for epoch in 1..=10 {
        let rows = [
            events(SUNDAY, &[("claude", epoch, 0.5), ("", 100 + epoch, f64::NAN)]),
            events(SUNDAY + 1, &[("g", 1, 0.0)]),
        ];
        let files = table.write("agent_usage", epoch, 0, &rows[..if epoch > 1 { 1 } else { 2 }]).await.unwrap();
        table.commit("agent_usage", epoch as i64, &files).await.unwrap();
        if epoch == 9 {
            let policy = Maintenance { commits_per_checkpoint: 1, ..Maintenance::default() };
            assert!(table.maintain(&policy).await.unwrap().checkpoint_written);
        }
    }
    table.replace_day(SUNDAY, &[events(SUNDAY, &[("claude", 1, 0.5), ("", 2, 0.25)])]).await.unwrap();
    let place = dir.path().join("agent_usage");
    assert_eq!(
        python::run(READ_BACK, &[place.to_str().unwrap()]),
        "deltalake 12 ['day'] 3\n\
         2026-11-22 claude 1 2026-11-22T00:00:00.123456+00:00\n\
         2026-11-22 None 2 2026-11-22T00:00:01.123456+00:00\n\
         statistics True\n\
         duckdb 2026-11-22 2 3 1795305601123456 TIMESTAMP WITH TIME ZONE\n\
         duckdb 2026-11-23 1 1 1795392000123456 TIMESTAMP WITH TIME ZONE\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_the_same_promises() {
    let s3 = python::S3::start("millstream-test");
    let url = "s3://millstream-test/lake";
    let mut writers = Vec::new();
    for writer in 0..2u64 {
        let lake = Lake::open(url, &s3.options()).await.unwrap();
        writers.push(tokio::spawn(async move {
            // Both create the table at once; then both commit at once.
            let table = lake.table("t", schema()).await.unwrap();
            let name = format!("w{writer}");
            for epoch in 1..=4 {
                let files = table.write(&name, epoch, 0, &[events(SUNDAY, &[(&name, epoch, 0.0)])]).await.unwrap();
                assert!(table.commit(&name, epoch as i64, &files).await.unwrap().is_some());
                assert_eq!(table.commit(&name, epoch as i64, &files).await.unwrap(), None);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let lake = Lake::open(url, &s3.options()).await.unwrap();
    assert_eq!(lake.names().await.unwrap(), ["t"]);
    let table = lake.existing("t").await.unwrap().unwrap();
    assert_eq!(table.version().await.unwrap(), 8, "one creation and eight commits");
    assert_eq!(rows(&table, "SELECT count(*), sum(tokens) FROM t").await, ["8 20"]);
    let policy = Maintenance {
        small_files_per_day_max: 4,
        commits_per_checkpoint: 1,
        vacuum_after: Duration::from_secs(3_600),
        ..Maintenance::default()
    };
    let report = table.maintain(&policy).await.unwrap();
    assert_eq!((report.files_compacted, report.files_written, report.checkpoint_written), (8, 1, true));
    table.replace_day(SUNDAY, &[events(SUNDAY, &[("only", 1, 0.0)])]).await.unwrap();
    assert_eq!(rows(&table, ALL).await, ["2026-11-22 only 1"]);
}

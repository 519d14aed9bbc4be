//! Flight SQL with its real client: the ADBC driver for Python, against a running server.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::http::{Running, config_with};

async fn start(dir: &Path, more: &str) -> Running {
    let running = Running::start_with(config_with(dir, more)).await;
    let rows = json!([
        { "event_id": "e0", "event_time": "2026-11-23T10:00:30Z", "user_id": "ada", "tokens": 5, "duration_ms": 1.5 },
        { "event_id": "e1", "event_time": "2026-11-23T10:01:30Z", "user_id": "bob" },
    ]);
    let answer = running.ingest("/api/v1/ingest/ide_events", rows.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    running.server.engine.flush().await.unwrap();
    running
}

impl Running {
    /// Runs a program of the tests' Python, with `connect` defined, and gives what it prints.
    async fn adbc(&self, key: &str, program: &str) -> String {
        let head = r#"
import sys, datetime, decimal
import adbc_driver_flightsql.dbapi as flight
from adbc_driver_flightsql import DatabaseOptions
uri, key = sys.argv[1:3]
def connect(**more):
    return flight.connect(uri, db_kwargs=more or {DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer " + key}, autocommit=True)
def refused(action, *arguments):
    try:
        action(*arguments)
    except Exception as error:
        print(type(error).__name__, str(error).replace("\n", " ")[:300])
"#;
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"));
        let uri = format!("grpc://{}", self.server.grpc_address);
        command.args(["-c", &format!("{head}{program}"), &uri, key]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        out.trim_end().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adbc_reads_with_and_without_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let program = r#"
with connect() as connection, connection.cursor() as cursor:
    cursor.execute("SELECT event_id, user_id, event_time, tokens, duration_ms FROM raw_ide_events ORDER BY 1")
    table = cursor.fetch_arrow_table()
    print(", ".join(f"{f.name}: {f.type}" for f in table.schema))
    print(table.drop_columns("event_time").to_pylist())
    for sql, values in [
        ("SELECT event_id FROM raw_ide_events WHERE user_id = ? AND tokens > ?", ("ada", 4)),
        ("SELECT event_id FROM raw_ide_events WHERE user_id = ? AND tokens > ?", ("ada", 5)),
        ("SELECT event_id FROM raw_ide_events WHERE event_time > ? ORDER BY 1", (datetime.datetime(2026, 11, 23, 10, 1, tzinfo=datetime.timezone.utc),)),
        ("SELECT count(*) FROM raw_ide_events WHERE day = $1 AND duration_ms < $2", (datetime.date(2026, 11, 23), decimal.Decimal("1.6"))),
        ("SELECT '?', ? IS NULL", (None,)),
    ]:
        cursor.execute(sql, values)
        print(cursor.fetchall())
    refused(cursor.executemany, "SELECT event_id FROM raw_ide_events WHERE user_id = ?", [("ada",), ("bob",)])
"#;
    let printed = running.adbc(&running.analyst, program).await;
    let expected = "event_id: string, user_id: string, event_time: timestamp[us, tz=UTC], tokens: int64, duration_ms: double
[{'event_id': 'e0', 'user_id': 'ada', 'tokens': 5, 'duration_ms': 1.5}, {'event_id': 'e1', 'user_id': 'bob', 'tokens': None, 'duration_ms': None}]
[('e0',)]
[]
[('e1',)]
[(1,)]
[('?', True)]
OperationalError UNKNOWN: [FlightSQL] this face only reads;";
    // ADBC takes many rows of parameters for a change of the table.
    assert!(printed.starts_with(expected), "{printed}");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn adbc_finds_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let program = r#"
with connect() as connection:
    info = connection.adbc_get_info()
    print(info["vendor_name"], info["vendor_version"])
    print(connection.adbc_get_table_types())
    print(connection.adbc_get_table_schema("raw_ide_events").field("tokens"))
    for catalog in connection.adbc_get_objects(depth="all", table_name_filter="raw_ide_events").read_all().to_pylist():
        for schema in catalog["catalog_db_schemas"]:
            for table in schema["db_schema_tables"]:
                columns = [c["column_name"] for c in table["table_columns"]]
                print(catalog["catalog_name"], schema["db_schema_name"], table["table_name"], table["table_type"], columns[:3])
"#;
    let printed = running.adbc(&running.analyst, program).await;
    let expected = format!(
        "Millstream {}\n['TABLE']\npyarrow.Field<tokens: int64>\nmillstream public raw_ide_events TABLE ['event_id', 'event_time', 'user_id']",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(printed, expected);
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_analysts_read_and_nobody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let program = r#"
def run(sql):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()
with connect(username="me", password=key) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT 1")
    print(cursor.fetchone())
refused(run, "DELETE FROM raw_ide_events")
refused(run, "SELECT nope FROM raw_ide_events")
refused(run, "SELECT * FROM raw_ide_event")
refused(run, "SELECT 1 +")
def ingest():
    import pyarrow
    with connect() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("raw_ide_events", pyarrow.table({"event_id": ["x"]}), mode="append")
refused(ingest)
"#;
    let printed = running.adbc(&running.analyst, program).await;
    for (line, expected) in printed.lines().zip([
        "(1,)",
        "DELETE is not allowed",
        "No field named nope",
        "did you mean 'raw_ide_events'?",
        "Expected: an expression",
        "this face only reads",
    ]) {
        assert!(line.contains(expected), "{line}: {expected}");
    }
    assert_eq!(printed.lines().count(), 6, "{printed}");
    let program = "refused(lambda: connect().cursor().execute('SELECT 1'))";
    let printed = running.adbc(&running.producer, program).await;
    assert!(printed.contains("this needs analyst or admin"), "{printed}");
    let printed = running.adbc("millstream_wrong", program).await;
    assert!(printed.to_lowercase().contains("unauthenticated"), "{printed}");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_streams_and_time_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "[query]\nrows_max = 10\ntimeout = '5s'\n").await;
    let program = r#"
with connect() as connection, connection.cursor() as cursor:
    cursor.execute("SELECT value, value * 2 AS twice FROM range(1000000)")
    rows = total = 0
    for batch in cursor.fetch_record_batch():
        rows += batch.num_rows
        total += sum(batch.column("twice").to_pylist())
    print(rows, total)
    def forever():
        cursor.execute("SELECT count(*) FROM range(100000000) a CROSS JOIN range(1000000) b WHERE a.value + b.value < 0")
        cursor.fetchall()
    refused(forever)
"#;
    let printed = running.adbc(&running.analyst, program).await;
    let (first, second) = printed.split_once('\n').unwrap();
    assert_eq!(first, "1000000 999999000000");
    assert!(second.contains("the query took longer than 5s and was cancelled"), "{second}");
    running.server.stop().await.unwrap();
}

//! Lookup tables that are somewhere else: in PostgreSQL, in the lake; and what a reload may change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream::engine::RunOptions;
use millstream::time::ManualClock;
use millstream::{Append, Engine, Options, QueryLimits};
use millstream_tests::postgres::Postgres;
use millstream_tests::{reopened, run};

const DAY: i64 = 86_400_000_000_000;
const START: i64 = 20_000 * DAY;

fn options(dir: &Path, clock: &ManualClock) -> Options {
    Options {
        clock: Arc::new(clock.clone()),
        checkpoint_interval: Duration::from_secs(3_600),
        ..Options::new(dir.join("data"))
    }
}

async fn append(engine: &Engine, k: i64) {
    let batch = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![k])) as _)]).unwrap();
    let append = Append { table: "a".into(), producer: String::new(), sequence: None, batch, rejected: Vec::new() };
    engine.append(append).await.unwrap();
}

/// The rows of `out` as `k=name`, sorted.
async fn out(engine: &Engine) -> Vec<String> {
    engine.flush().await.unwrap();
    let sql = "SELECT k, coalesce(name, 'none') AS name FROM out ORDER BY k, name";
    let answer = engine.query(sql, &Default::default(), &QueryLimits::default()).await.unwrap();
    let mut all = Vec::new();
    for batch in answer.batches {
        let (keys, names) = (batch.column(0).as_primitive::<Int64Type>().clone(), batch.column(1).clone());
        let name = |i| arrow::util::display::array_value_to_string(&names, i).unwrap();
        all.extend((0..batch.num_rows()).map(|i| format!("{}={}", keys.value(i), name(i))));
    }
    all
}

#[test]
fn postgres_values_of_every_type_arrive() {
    let server = Postgres::start();
    server.execute(
        "CREATE SCHEMA shop; CREATE TABLE shop.\"Items\" (id BIGINT PRIMARY KEY, name TEXT, price NUMERIC(10, 2), f DOUBLE PRECISION,
           ok BOOLEAN, day DATE, at TIMESTAMP, zoned TIMESTAMPTZ, tags JSONB);
         INSERT INTO shop.\"Items\" VALUES
           (1, 'it''s \"one\"', 12.50, 0.1, true, '2024-02-29', '2024-01-01 10:00:00.123456', '2024-01-01 10:00:00+02', '{\"a\": 1}'),
           (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);",
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.json"), "{\"k\":1}\n{\"k\":2}\n{\"k\":3}\n").unwrap();
    let sql = format!(
        "CREATE TEMPORARY TABLE d (id BIGINT PRIMARY KEY, name TEXT, price DECIMAL(10, 2), f DOUBLE, ok BOOLEAN, day DATE, at TIMESTAMP,
           zoned TIMESTAMP, tags JSON) WITH (connector = 'postgres', url = '{}', table = 'shop.Items');
         CREATE TABLE a (k BIGINT) WITH (connector = 'single_file', format = 'json', path = '$dir/in.json');
         CREATE TABLE out WITH (connector = 'single_file', format = 'json', path = '$dir/out.json', 'json.decimal_encoding' = 'string');
         INSERT INTO out SELECT a.k, d.* FROM a LEFT JOIN d ON a.k = d.id;",
        server.url()
    );
    run(&sql, dir.path(), &RunOptions::default()).unwrap();
    let text = std::fs::read_to_string(dir.path().join("out.json")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let first = r#"{"k":1,"id":1,"name":"it's \"one\"","price":"12.50","f":0.1,"ok":true,"day":"2024-02-29","at":"2024-01-01T10:00:00.123456","zoned":"2024-01-01T08:00:00","tags":"{\"a\": 1}"}"#;
    assert_eq!(lines, [first, r#"{"k":2,"id":2}"#, r#"{"k":3}"#]);
}

#[test]
fn postgres_errors_name_the_server_and_not_the_password() {
    let server = Postgres::start();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.json"), "{\"k\":1}\n").unwrap();
    let told = |url: &str| {
        let sql = format!(
            "CREATE TABLE d (id BIGINT) WITH (connector = 'postgres', url = '{url}', type = 'lookup');
             CREATE TEMPORARY TABLE e (id BIGINT PRIMARY KEY) WITH (connector = 'postgres', url = '{url}', table = 'nothing');
             CREATE TABLE a (k BIGINT) WITH (connector = 'single_file', format = 'json', path = '$dir/in.json');
             SELECT a.k FROM a JOIN e ON a.k = e.id;"
        );
        run(&sql, dir.path(), &RunOptions::default()).unwrap_err().to_string()
    };
    let at = format!("storage: cannot read table nothing of PostgreSQL at 127.0.0.1:{}/postgres: ", server.port);
    assert_eq!(told(&server.url()), format!("{at}relation \"nothing\" does not exist"));
    assert_eq!(
        told(&server.url().replace("tester:", "tester:x")),
        format!("{at}password authentication failed for user \"tester\"")
    );
    let gone = told("postgres://tester@127.0.0.1:1/postgres");
    assert!(gone.contains("127.0.0.1:1/postgres: Connection refused"), "{gone}");
}

#[test]
fn postgres_over_tls_is_verified() {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/tests/it/tls");
    let server = Postgres::start_with_tls(&certificates);
    // The server tells whether it is spoken to over TLS.
    server.execute("CREATE VIEW d AS SELECT 1::bigint AS id, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.json"), "{\"k\":1}\n").unwrap();
    let encrypted = |url: &str| {
        let sql = format!(
            "CREATE TEMPORARY TABLE d (id BIGINT PRIMARY KEY, ssl BOOLEAN) WITH (connector = 'postgres', url = '{url}');
             CREATE TABLE a (k BIGINT) WITH (connector = 'single_file', format = 'json', path = '$dir/in.json');
             CREATE TABLE out WITH (connector = 'single_file', format = 'json', path = '$dir/out.json');
             INSERT INTO out SELECT d.ssl FROM a JOIN d ON a.k = d.id;"
        );
        run(&sql, dir.path(), &RunOptions::default()).map_err(|e| e.to_string())?;
        Ok::<_, String>(std::fs::read_to_string(dir.path().join("out.json")).unwrap())
    };
    let url = server.url();
    let roots = certificates.join("ca.pem").display().to_string();
    assert_eq!(encrypted(&url).unwrap(), "{\"ssl\":false}\n");
    let over_tls = format!("{url}?sslmode=require&sslrootcert={roots}");
    assert_eq!(encrypted(&over_tls).unwrap(), "{\"ssl\":true}\n");
    assert_eq!(encrypted(&over_tls.replace("127.0.0.1", "localhost")).unwrap(), "{\"ssl\":true}\n");
    let unknown = encrypted(&format!("{url}?sslmode=require")).unwrap_err();
    assert!(
        unknown.contains("invalid peer certificate: UnknownIssuer"),
        "the machine does not vouch for it: {unknown}"
    );
    let absent = encrypted(&format!("{url}?sslmode=require&sslrootcert=/nope.pem")).unwrap_err();
    assert!(absent.contains("sslrootcert /nope.pem: "), "{absent}");
    let plain = Postgres::start();
    let refused = encrypted(&format!("{}?sslmode=require&sslrootcert={roots}", plain.url())).unwrap_err();
    assert!(refused.contains("server does not support TLS"), "{refused}");
}

/// Rows see the table as it was at the checkpoint before them, also those that are read again after a crash; at the first
/// checkpoint after the time to live it is loaded again.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_happens_at_a_checkpoint_and_survives_a_crash() {
    let server = Postgres::start();
    server.execute("CREATE TABLE d (id BIGINT PRIMARY KEY, name TEXT); INSERT INTO d VALUES (1, 'old');");
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let sql = format!(
        "CREATE TEMPORARY TABLE d (id BIGINT PRIMARY KEY, name TEXT)
           WITH (connector = 'postgres', url = '{}', 'lookup.cache.ttl' = INTERVAL '1 hour');
         CREATE TABLE a (k BIGINT) WITH (connector = 'ingest');
         INSERT INTO out SELECT k, name FROM a LEFT JOIN d ON a.k = d.id;",
        server.url()
    );
    let open = || async {
        let engine = reopened(async || Engine::open(options(dir.path(), &clock)).await).await.unwrap();
        engine.execute(&sql, "p.sql").await.unwrap();
        engine.start().await.unwrap();
        engine
    };
    let engine = open().await;
    append(&engine, 1).await;
    assert_eq!(out(&engine).await, ["1=old"]);
    server.execute("UPDATE d SET name = 'new'; INSERT INTO d VALUES (2, 'two');");
    append(&engine, 1).await;
    assert_eq!(out(&engine).await, ["1=old", "1=old"], "not before the time to live");
    // The time comes; the checkpoint that reloads is after this row.
    clock.set(START + DAY / 24);
    append(&engine, 2).await;
    assert_eq!(out(&engine).await, ["1=old", "1=old", "2=none"]);
    append(&engine, 2).await;
    assert_eq!(out(&engine).await, ["1=old", "1=old", "2=none", "2=two"]);
    // Killed with a row that no checkpoint covers; the server is changed, and then away.
    append(&engine, 1).await;
    drop(engine);
    server.execute("UPDATE d SET name = 'newest';");
    drop(server);
    let engine = open().await;
    assert_eq!(out(&engine).await, ["1=new", "1=old", "1=old", "2=none", "2=two"], "as the checkpoint had it");
    // Stale again, but the server does not answer: the rows stay.
    clock.set(START + DAY);
    append(&engine, 2).await;
    let expected = ["1=new", "1=old", "1=old", "2=none", "2=two", "2=two"];
    assert_eq!(out(&engine).await, expected);
}

#[test]
fn a_delta_table_is_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let options = RunOptions { state_dir: Some(dir.path().join("state")), ..RunOptions::default() };
    std::fs::write(dir.path().join("d.json"), "{\"id\":1,\"name\":\"one\"}\n{\"id\":2,\"name\":\"two\"}\n").unwrap();
    run(
        "CREATE TABLE s (id BIGINT, name TEXT) WITH (connector = 'single_file', format = 'json', path = '$dir/d.json');
         INSERT INTO d SELECT id, name FROM s;",
        dir.path(),
        &options,
    )
    .unwrap();
    std::fs::remove_dir_all(dir.path().join("state/checkpoints")).unwrap();
    let d = dir.path().join("state/lake");
    let fresh = dir.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    std::fs::rename(d, fresh.join("lake")).unwrap();
    let options = RunOptions { state_dir: Some(fresh), ..RunOptions::default() };
    std::fs::write(dir.path().join("in.json"), "{\"k\":2}\n{\"k\":3}\n").unwrap();
    let sql = "CREATE TEMPORARY TABLE d (id BIGINT PRIMARY KEY, name TEXT) WITH (connector = 'lake'MAX);
         CREATE TABLE a (k BIGINT) WITH (connector = 'single_file', format = 'json', path = '$dir/in.json');
         CREATE TABLE out WITH (connector = 'single_file', format = 'json', path = '$dir/out.json');
         INSERT INTO out SELECT k, name FROM a LEFT JOIN d ON a.k = d.id;";
    let e = run(&sql.replace("MAX", ", 'lookup.cache.max_bytes' = 10"), dir.path(), &options).unwrap_err();
    assert_eq!(
        e.to_string(),
        "configuration: lookup table 'd' takes over 10 bytes; raise 'lookup.cache.max_bytes' or declare fewer columns"
    );
    run(&sql.replace("MAX", ""), dir.path(), &options).unwrap();
    let text = std::fs::read_to_string(dir.path().join("out.json")).unwrap();
    assert_eq!(text, "{\"k\":2,\"name\":\"two\"}\n{\"k\":3}\n");
}

//! The PostgreSQL face with its real clients: psql, tokio-postgres, psycopg 3, SQLAlchemy 2, and the SQL of the Grafana panels.

use std::path::Path;
use std::process::Command;

use millstream_server::range::parse_time;
use serde_json::{Value, json};
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use crate::http::{Running, config_with};

async fn start(dir: &Path, more: &str) -> Running {
    let config = config_with(dir, &format!("[postgres]\nlisten = '127.0.0.1:0'\n{more}"));
    let running = Running::start_with(config).await;
    for (table, rows) in events() {
        let answer = running.ingest(&format!("/api/v1/ingest/{table}"), Value::Array(rows).to_string()).await;
        assert_eq!(answer.json()["rejected_rows"], 0, "{}", answer.text);
    }
    running.server.engine.flush().await.unwrap();
    running
}

/// What an event of no user has instead of the usual fields.
fn of_platform(more: Value) -> Value {
    let mut event = json!({ "agent": null, "status": null, "tier": null, "country": null });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// Two events of each kind, a minute apart.
fn events() -> Vec<(&'static str, Vec<Value>)> {
    let both = |more: Value| {
        let event = |n: u32| {
            let mut event = json!({ "event_id": format!("e{n}"), "event_time": format!("2026-11-23T10:0{n}:30Z"), "user_id": format!("u{n}"),
                                    "tier": "team", "name": "done", "country": "DE", "status": "ok", "agent": "coder" });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            event
        };
        vec![event(0), event(1)]
    };
    vec![
        ("ide_events", both(json!({ "editor": "vscode", "language": "rust", "tokens": 5 }))),
        (
            "agent_events",
            both(
                json!({ "tokens_input": 10, "tokens_output": 2, "cost_usd": 0.5, "duration_ms": 7.5, "error_class": "tool_failed" }),
            ),
        ),
        (
            "api_events",
            both(
                json!({ "status_code": 500, "latency_ms": 12.5, "route": "/a", "service": "web", "status": null, "agent": null }),
            ),
        ),
        ("marketplace_events", both(json!({ "price_usd": 9.5, "name": "purchased" }))),
        ("workflow_events", both(json!({ "workflow": "w", "country": null }))),
        (
            "subscription_events",
            both(json!({ "agent": null, "account_id": "a", "subscription_id": "s", "status": "active", "seats": 3,
                        "unit_price_minor": 1900, "currency": "EUR", "billing_interval": "month" })),
        ),
        (
            "payment_events",
            both(json!({ "agent": null, "status": null, "payment_id": "p", "amount_minor": 5700, "currency": "EUR" })),
        ),
        ("cost_events", both(of_platform(json!({ "service_name": "compute", "effective_cost_usd": 1.25 })))),
        ("storage_events", both(of_platform(json!({ "store": "lake", "live_bytes": 1000 })))),
        ("incident_events", both(of_platform(json!({ "incident_id": "i", "severity": "major", "service": "web" })))),
    ]
}

/// Runs a program and gives what it prints.
async fn output(mut command: Command) -> Result<String, String> {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Running {
    fn postgres_port(&self) -> u16 {
        self.server.postgres_address.unwrap().port()
    }

    async fn psql(&self, sql: &str) -> Result<String, String> {
        let mut command = Command::new("psql");
        command.env("PGPASSWORD", &self.analyst).env("PGSSLMODE", "prefer");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.postgres_port().to_string(),
            "-U",
            "me",
            "-d",
            "millstream",
            "-XAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        ]);
        output(command).await
    }

    async fn python(&self, program: &str) -> String {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"));
        command.args(["-c", program, &self.postgres_port().to_string(), &self.analyst]);
        output(command).await.unwrap_or_else(|e| panic!("{e}"))
    }

    async fn client(&self) -> tokio_postgres::Client {
        let config =
            format!("host=127.0.0.1 port={} user=me dbname=millstream password={}", self.postgres_port(), self.analyst);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_reads_and_only_reads() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let answer = |sql: &'static str| running.psql(sql);
    assert_eq!(answer("SELECT count(*), max(user_id) FROM raw_ide_events").await.unwrap(), "2|u1");
    assert_eq!(
        answer("SELECT event_time FROM raw_api_events ORDER BY 1 LIMIT 1").await.unwrap(),
        "2026-11-23 10:00:30.000000+00"
    );
    assert!(answer("\\dt").await.unwrap().contains("public|raw_ide_events|table|"), "{:?}", answer("\\dt").await);
    assert!(
        answer("\\d raw_ide_events").await.unwrap().contains("event_id|text|"),
        "{:?}",
        answer("\\d raw_ide_events").await
    );
    assert_eq!(answer("SHOW TRANSACTION ISOLATION LEVEL").await.unwrap(), "read committed");
    assert_eq!(answer("BEGIN; SET extra_float_digits = 3; SELECT 1; COMMIT").await.unwrap(), "BEGIN\nSET\n1\nCOMMIT");
    assert_eq!(
        answer(
            "SELECT time_bucket('60.000s', event_time) AS t, count(*) FROM raw_ide_events GROUP BY t ORDER BY t LIMIT 1"
        )
        .await
        .unwrap(),
        "2026-11-23 10:00:00.000000+00|1"
    );
    assert_eq!(
        answer("SELECT time_bucket(INTERVAL '1 hour', event_time), count(*) FROM raw_ide_events GROUP BY 1")
            .await
            .unwrap(),
        "2026-11-23 10:00:00.000000+00|2"
    );
    assert_eq!(
        answer("SELECT has_any_column_privilege('raw_ide_events', 'SELECT'), json_build_object('a', 1, 'b', 'x')")
            .await
            .unwrap(),
        "t|{\"a\" : 1, \"b\" : \"x\"}"
    );
    assert!(answer("SELECT version()").await.unwrap().starts_with("PostgreSQL 16.6 (Millstream"));
    for (sql, expected) in [
        ("DROP TABLE raw_ide_events", "DROP TABLE is not allowed"),
        ("INSERT INTO raw_ide_events (event_id) VALUES ('x')", "INSERT is not allowed"),
        ("COPY (SELECT 1) TO '/tmp/x'", "COPY to a file or program of the server is not allowed"),
        ("COPY raw_ide_events FROM STDIN", "COPY into a table is not allowed"),
        ("SELECT 1 +", "LINE 1: SELECT 1 +"),
        ("SELECT (SELECT count(*) FROM raw_ide_events i WHERE i.tokens < r.tokens) FROM raw_ide_events r", "ERROR"),
        ("SELECT * FROM '/etc/passwd'", "there is no table"),
        ("SELECT nope FROM raw_ide_events", "LINE 1: SELECT nope FROM raw_ide_events\n               ^"),
        ("SELECT count(*) FROM raw_ide_event", "did you mean 'raw_ide_events'?"),
        ("SHOW nope", "there is no setting \"nope\""),
    ] {
        let error = running.psql(sql).await.unwrap_err();
        assert!(error.contains(expected), "{sql}: {error}");
    }
    assert_eq!(
        answer("\\copy (SELECT event_id, editor, tokens FROM raw_ide_events ORDER BY 1) TO STDOUT CSV HEADER")
            .await
            .unwrap(),
        "event_id,editor,tokens\ne0,vscode,5\ne1,vscode,5"
    );
    assert_eq!(answer("COPY raw_ide_events (event_id, properties) TO STDOUT").await.unwrap(), "e0\t\\N\ne1\t\\N");
    // Definitions that need no parameters are views; those whose tables are not there yet are not listed.
    let views = answer("\\dv").await.unwrap();
    assert!(views.contains("public|subscription_states|view|") && !views.contains("mrr_periods"), "{views}");
    assert!(answer("\\d subscription_states").await.unwrap().contains("account_id|text|"));
    assert_eq!(
        answer("SELECT sum(mrr_micros) / 1000000 FROM subscription_states WHERE valid_to IS NULL").await.unwrap(),
        "5700"
    );
    assert!(answer("\\du").await.unwrap().contains("postgres|"), "{:?}", answer("\\du").await);
    assert!(answer("\\dp").await.unwrap().contains("public|raw_ide_events|table|"), "{:?}", answer("\\dp").await);
    assert_eq!(answer("SELECT pg_size_pretty(123456789)").await.unwrap(), "118 MB");
    for listing in [
        "\\d",
        "\\dn",
        "\\dn+",
        "\\l",
        "\\l+",
        "\\dT",
        "\\df",
        "\\di",
        "\\dt+",
        "\\dv+",
        "\\d+ raw_ide_events",
        "\\dD",
        "\\dx",
        "\\dy",
        "\\z",
        "\\ddp",
        "\\drds",
        "\\dconfig",
        "\\dC",
        "\\do",
        "\\da",
        "\\dF",
        "\\dm",
        "\\ds",
        "\\db",
        "\\dRp",
    ] {
        running.psql(listing).await.unwrap_or_else(|e| panic!("{listing}: {e}"));
    }
    let mut wrong = Command::new("psql");
    wrong.env("PGPASSWORD", &running.producer).args([
        "-h",
        "127.0.0.1",
        "-p",
        &running.postgres_port().to_string(),
        "-U",
        "me",
        "-d",
        "millstream",
        "-c",
        "SELECT 1",
    ]);
    assert!(output(wrong).await.unwrap_err().contains("this needs analyst or admin"));
    // What the protocol has no word for is refused once, not for ever.
    let nowhere = answer("SELECT arrow_cast(1, 'Timestamp(Nanosecond, Some(\"nowhere\"))')").await.unwrap_err();
    assert!(
        nowhere.contains("cannot be sent over PostgreSQL's protocol") && nowhere.contains("cast it to text"),
        "{nowhere}"
    );
    let nested = answer("SELECT ARRAY[ARRAY[ARRAY[1]]]").await;
    assert!(nested.is_ok() || nested.as_ref().unwrap_err().contains("cannot be sent"), "{nested:?}");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_have_types_and_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let client = running.client().await;
    let sql =
        "SELECT user_id, tokens, event_time FROM raw_ide_events WHERE user_id = $1 AND tokens > $2 AND event_time < $3";
    let statement = client.prepare(sql).await.unwrap();
    assert_eq!(statement.params(), [Type::TEXT, Type::INT8, Type::TIMESTAMPTZ]);
    let until = parse_time("2026-11-24T00:00:00Z").unwrap();
    let until = chrono::DateTime::from_timestamp_nanos(until);
    let rows = client.query(&statement, &[&"u1", &4i64, &until]).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].get::<_, String>(0), rows[0].get::<_, i64>(1)), ("u1".to_string(), 5));
    assert_eq!(rows[0].get::<_, chrono::DateTime<chrono::Utc>>(2).to_string(), "2026-11-23 10:01:30 UTC");
    assert!(client.query(&statement, &[&"u1", &5i64, &until]).await.unwrap().is_empty());
    let one = client.query_one("SELECT NULL AS nothing, 1.5::float8 AS number, true AS yes", &[]).await.unwrap();
    assert_eq!((one.get::<_, Option<String>>(0), one.get::<_, f64>(1), one.get::<_, bool>(2)), (None, 1.5, true));
    assert_eq!(
        client.query("SELECT event_id FROM raw_ide_events ORDER BY 1 LIMIT $1", &[&1i64]).await.unwrap().len(),
        1
    );
    let error = client.prepare("SELECT $4000000000::bigint").await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("has too great a number"), "{error:?}");
    let error = client.query("DELETE FROM raw_ide_events", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    running.server.keys.revoke("analyst0").unwrap();
    assert!(client.query("SELECT 1", &[]).await.is_err(), "a revoked key reads nothing more");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_sends_text_where_a_time_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let program = r#"
import sys, datetime, psycopg
with psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="me", dbname="millstream", password=sys.argv[2]) as connection:
    one = lambda *a: connection.execute(*a).fetchone()
    print(one("SELECT count(*) FROM raw_ide_events WHERE event_time > %s", ("2026-01-01",)))
    print(one("SELECT count(*) FROM raw_ide_events WHERE event_time > %s", (datetime.datetime(2026, 11, 23, 10, 1, tzinfo=datetime.timezone.utc),)))
    print(one("SELECT count(*) FROM raw_ide_events WHERE event_time::date = %s AND tokens = %s", (datetime.date(2026, 11, 23), 5)))
    print(one("SELECT sum(cost_usd), max(event_time)::text FROM raw_agent_events WHERE agent = %s", ("coder",)))
    print(one("SELECT max(event_time) FROM raw_agent_events")[0].isoformat())
    print(len(connection.cursor(binary=True).execute("SELECT * FROM raw_api_events").fetchall()))
"#;
    let expected = "(2,)\n(1,)\n(2,)\n(1.0, '2026-11-23T10:01:30Z')\n2026-11-23T10:01:30+00:00\n2";
    assert_eq!(running.python(program).await, expected);
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_reflects_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let program = r#"
import sys
from sqlalchemy import MetaData, Table, create_engine, inspect, select, text
engine = create_engine(f"postgresql+psycopg://me:{sys.argv[2]}@127.0.0.1:{sys.argv[1]}/millstream")
inspector = inspect(engine)
print(inspector.get_schema_names())
print("raw_ide_events" in inspector.get_table_names())
columns = {c["name"]: str(c["type"]) for c in inspector.get_columns("raw_ide_events")}
print(columns["event_id"], columns["tokens"], columns["event_time"])
print(inspector.get_pk_constraint("raw_ide_events")["constrained_columns"], inspector.get_foreign_keys("raw_ide_events"),
      inspector.get_indexes("raw_ide_events"), inspector.get_unique_constraints("raw_ide_events"))
table = Table("raw_ide_events", MetaData(), autoload_with=engine)
with engine.connect() as connection:
    print(connection.execute(select(table.c.event_id).where(table.c.event_time > "2026-11-23T10:01:00Z")).all())
with engine.connect() as connection:
    print(connection.execute(text("SELECT count(*) FROM raw_ide_events WHERE tier = :t"), {"t": "team"}).scalar())
"#;
    assert_eq!(
        running.python(program).await,
        "['information_schema', 'public', 'system']\nTrue\nTEXT BIGINT TIMESTAMP\n[] [] [] []\n[('e1',)]\n2"
    );
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_and_its_time_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "[query]\ntimeout = '5s'\nrows_max = 10\n").await;
    let client = running.client().await;
    let forever = "SELECT count(*) FROM range(100000000) a CROSS JOIN range(1000000) b WHERE a.value + b.value < 0";
    let code = |error: tokio_postgres::Error| error.code().unwrap().code().to_string();
    let token = client.cancel_token();
    let asking = client.query(forever, &[]);
    tokio::pin!(asking);
    // Sent again until it meets the query: one that comes before it cancels nothing.
    let error = loop {
        tokio::select! {
            answered = &mut asking => break answered.unwrap_err(),
            sent = async { token.cancel_query(NoTls).await } => sent.unwrap(),
        }
    };
    assert_eq!(code(error), "57014");
    let error = client.query(forever, &[]).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("took longer than 5s"), "{error:?}");
    assert_eq!(code(error), "57014");
    let error = client.query("SELECT * FROM range(11)", &[]).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("more than 10 rows (query.rows_max)"), "{error:?}");
    let copied = running.psql("COPY (SELECT * FROM range(100000)) TO STDOUT").await.unwrap();
    assert_eq!(copied.lines().count(), 100_000, "a stream has no limit on rows");
    running.server.stop().await.unwrap();
}

/// Grafana's macros, expanded as its PostgreSQL data source does.
fn expand(sql: &str, timescale: bool) -> String {
    let mut sql = sql.to_string();
    for (macro_name, alias) in [("$__timeGroupAlias(", " AS \"time\""), ("$__timeGroup(", "")] {
        while let Some(start) = sql.find(macro_name) {
            let end = start + sql[start..].find(')').unwrap();
            let arguments = sql[start + macro_name.len()..end].to_string();
            let column = arguments.split(',').next().unwrap().trim();
            let group = match timescale {
                true => format!("time_bucket('60.000s',{column})"),
                false => format!("floor(extract(epoch from {column})/60)*60"),
            };
            sql.replace_range(start..=end, &format!("{group}{alias}"));
        }
    }
    while let Some(start) = sql.find("$__timeFilter(") {
        let end = start + sql[start..].find(')').unwrap();
        let column = sql[start + "$__timeFilter(".len()..end].to_string();
        sql.replace_range(start..=end, &format!("{column} BETWEEN '2026-11-23T09:00:00Z' AND '2026-11-23T11:00:00Z'"));
    }
    sql
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_grafana_answers() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), "").await;
    let client = running.client().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana");
    let source = std::fs::read_to_string(folder.join("provisioning/datasources/millstream.yaml")).unwrap();
    assert!(source.contains("uid: millstream\n"));
    let mut panels = 0;
    for file in std::fs::read_dir(folder.join("dashboards")).unwrap() {
        let path = file.unwrap().path();
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut taken = std::collections::BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            panels += 1;
            let name = format!("{}: {}", path.display(), panel["title"]);
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in place("x")..place("x") + place("w") {
                assert!(x < 24, "{name} is too wide");
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((1, x, y)), "{name} overlaps");
                }
            }
            assert!(taken.insert((0, panel["id"].as_u64().unwrap(), 0)), "{name}: the id is there twice");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(
                    (&panel["datasource"]["uid"], &target["datasource"]["uid"]),
                    (&json!("millstream"), &json!("millstream"))
                );
                for timescale in [false, true] {
                    let sql = expand(target["rawSql"].as_str().unwrap(), timescale);
                    assert!(!sql.contains("$__"), "{name}: {sql}");
                    let rows = client.query(&sql, &[]).await.unwrap_or_else(|e| panic!("{name}: {e:?}\n{sql}"));
                    assert!(!rows.is_empty(), "{name} has no rows\n{sql}");
                    let columns = rows[0].columns();
                    let numeric = |t: &Type| [Type::INT8, Type::FLOAT8, Type::NUMERIC].contains(t);
                    assert!(columns.iter().any(|c| c.name() != "time" && numeric(c.type_())), "{name}: {columns:?}");
                    if target["format"] == "time_series" {
                        let expected = if timescale { Type::TIMESTAMPTZ } else { Type::FLOAT8 };
                        assert_eq!((columns[0].name(), columns[0].type_()), ("time", &expected), "{name}");
                    }
                }
            }
        }
    }
    assert!(panels >= 35, "{panels} panels");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_or_nothing_where_there_is_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls");
    let files = std::fs::read_dir(&tls).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>();
    let of = |ending: &str| files.iter().find(|p| p.to_string_lossy().ends_with(ending)).unwrap().display().to_string();
    let more = format!("tls_cert = '{}'\ntls_key = '{}'\n", of("server.pem"), of("server.key"));
    let running = start(dir.path(), &more).await;
    assert_eq!(running.psql("SELECT 1").await.unwrap(), "1", "psql asks for TLS by itself");
    let config =
        format!("host=127.0.0.1 port={} user=me password={} sslmode=disable", running.postgres_port(), running.analyst);
    let error = tokio_postgres::connect(&config, NoTls).await.err().unwrap();
    assert!(error.as_db_error().unwrap().message().contains("connect with sslmode=require"));
    running.server.stop().await.unwrap();
}

//! Every door of a server for SQL text, and for text that ends up beside SQL: HTTP, PostgreSQL's protocol by psycopg, Flight SQL
//! by ADBC, and the faces that take events in.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_tests::program::{Server, free_port, request};
use millstream_tests::python::Conversation;
use serde_json::{Value, json};

/// What a face said, and how long it took to say it.
pub type Said = Result<(String, Duration), String>;

/// A door: takes the statement to the server.
pub type Face = fn(&Faces, &str) -> Said;

/// Add a face here, with the requests that a statement is to it, and all statements go through it. Those of one lane are asked
/// one after the other. Flight SQL asks for the columns first and for the rows then; so does PostgreSQL's protocol of a prepared
/// statement.
pub const LANES: [&[(&str, u32, Face)]; 4] = [
    &[("POST /api/v1/sql", 1, http_sql), ("POST /sql", 1, page)],
    &[
        ("PostgreSQL, simple", 1, |faces, sql| faces.client(0, "postgres_simple", sql)),
        ("PostgreSQL, prepared", 2, |faces, sql| faces.client(0, "postgres_prepared", sql)),
        ("PostgreSQL, a parameter", 1, |faces, sql| faces.client(0, "postgres_parameter", sql)),
    ],
    &[
        ("Flight SQL", 2, |faces, sql| faces.client(1, "flight", sql)),
        ("Flight SQL, a parameter", 2, |faces, sql| faces.client(1, "flight_parameter", sql)),
    ],
    &[
        ("a metric's filter", 1, metric),
        ("a parameter", 1, parameter),
        ("ingest, a value", 1, value),
        ("ingest, a column", 1, column),
        ("ingest, a table and a producer", 1, table),
        ("OTLP logs", 1, otlp),
    ],
];

/// The clients that are Python packages: a line of JSON in, one out.
const CLIENTS: &str = r#"
import sys, json, time, psycopg
import adbc_driver_flightsql.dbapi as flight
from adbc_driver_flightsql import DatabaseOptions
port, grpc, key = sys.argv[1:4]
open_connections = {}

def postgres(factory):
    connection = open_connections.get(factory)
    if connection is None or connection.closed or connection.broken:
        connection = psycopg.connect(host="127.0.0.1", port=port, user="me", dbname="millstream", password=key, autocommit=True, cursor_factory=factory)
        open_connections[factory] = connection
    return connection.cursor()

def adbc():
    if flight not in open_connections:
        header = {DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer " + key}
        open_connections[flight] = flight.connect("grpc://127.0.0.1:" + grpc, db_kwargs=header, autocommit=True)
    return open_connections[flight].cursor()

def ask(face, sql):
    if face == "postgres_simple":
        cursor = postgres(psycopg.ClientCursor)
        cursor.execute(sql)
    elif face == "postgres_prepared":
        cursor = postgres(psycopg.Cursor)
        cursor.execute(sql, prepare=True)
    elif face == "postgres_parameter":
        cursor = postgres(psycopg.Cursor)
        cursor.execute("SELECT count(*) FROM raw WHERE name = %s", (sql,))
    elif face == "flight":
        cursor = adbc()
        cursor.execute(sql)
    else:
        cursor = adbc()
        cursor.execute("SELECT count(*) FROM raw WHERE name = ?", (sql,))
    return [str(row)[:2000] for row in cursor.fetchmany(3)] if cursor.description else []

for line in sys.stdin:
    wanted = json.loads(line)
    started, internal = time.monotonic(), False
    try:
        said = ask(wanted["face"], wanted["sql"])
    except Exception as e:
        said = f"{type(e).__name__}: {e}"[:20000]
        # The driver calls every code of gRPC that it has no word for INTERNAL; the server's own comes last.
        internal = getattr(e, "sqlstate", None) == "XX000" or "(Internal;" in said or "(Unknown;" in said or "internal error" in said
    seconds = time.monotonic() - started
    print(json.dumps({"said": str(said), "seconds": seconds, "internal": internal}), flush=True)
"#;

/// A server with its clients.
pub struct Faces {
    /// The server.
    pub server: Server,
    clients: [Mutex<Conversation>; 2],
}

/// The port of PostgreSQL's protocol, as the configuration in `dir` has it.
pub fn postgres_port(dir: &Path) -> u16 {
    let text = std::fs::read_to_string(dir.join("millstream.toml")).unwrap();
    let port = text.split("[postgres]\nlisten = '127.0.0.1:").nth(1).and_then(|rest| rest.split('\'').next());
    port.and_then(|port| port.parse().ok()).unwrap()
}

/// The lines of the configuration that open the PostgreSQL face.
pub fn postgres_settings() -> String {
    format!("[postgres]\nlisten = '127.0.0.1:{}'\n", free_port())
}

impl Faces {
    /// The faces of a running server.
    pub fn of(server: Server, postgres: u16) -> Self {
        let arguments = [&postgres.to_string(), &server.grpc.to_string(), &server.key];
        let clients = [(); 2].map(|()| Mutex::new(Conversation::start(CLIENTS, &arguments.map(String::as_str))));
        Self { server, clients }
    }

    fn client(&self, process: usize, face: &str, sql: &str) -> Said {
        let mut clients = self.clients[process].lock().unwrap_or_else(PoisonError::into_inner);
        let answer = clients.ask(&json!({ "face": face, "sql": sql }).to_string())?;
        let answer: Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        let said = answer["said"].as_str().unwrap_or_default().to_string();
        if answer["internal"] == true {
            return Err(format!("internal error: {said}"));
        }
        Ok((said, Duration::from_secs_f64(answer["seconds"].as_f64().unwrap_or(f64::MAX))))
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Said {
        let (headers, started) =
            (format!("Authorization: Bearer {}\r\nContent-Type: {kind}", self.server.key), Instant::now());
        let answer = request(self.server.http, method, path, &headers, body);
        let (status, text) = answer.map_err(|e| format!("no answer: {e}"))?;
        match status {
            // A query that breaks off for want of space or time says 503 or 504; 500 is a bug of ours.
            0 | 500 => Err(format!("status {status}: {text}")),
            _ => Ok((text, started.elapsed())),
        }
    }
}

fn http_sql(faces: &Faces, sql: &str) -> Said {
    faces.ask("POST", "/api/v1/sql", "application/json", &json!({ "sql": sql }).to_string())
}

fn page(faces: &Faces, sql: &str) -> Said {
    let body = format!("sql={}", encoded(sql));
    let (answer, took) = faces.ask("POST", "/sql", "application/x-www-form-urlencoded", &body)?;
    // The page shows the question too.
    Ok((answer.replace(&escaped(sql), ""), took))
}

fn metric(faces: &Faces, sql: &str) -> Said {
    let path = format!("/api/v1/metrics/hostile?from=2024-01-01&to=2024-01-02&filter=name:{}", in_path(sql));
    faces.ask("GET", &path, "text/plain", "")
}

fn parameter(faces: &Faces, sql: &str) -> Said {
    let body = json!({ "sql": "SELECT count(*) AS n FROM raw WHERE name = $name", "parameters": { "name": sql } });
    faces.ask("POST", "/api/v1/sql", "application/json", &body.to_string())
}

fn value(faces: &Faces, sql: &str) -> Said {
    let row = json!({ "id": 2, "name": sql, "t": "2024-01-01T00:00:00Z" });
    faces.ask("POST", "/api/v1/ingest/events", "application/json", &row.to_string())
}

fn column(faces: &Faces, sql: &str) -> Said {
    let row = json!({ "id": 2, "t": "2024-01-01T00:00:00Z", sql: sql });
    faces.ask("POST", "/api/v1/ingest/events", "application/json", &row.to_string())
}

fn table(faces: &Faces, sql: &str) -> Said {
    let text = in_path(sql);
    let row = json!({ "id": 2, "name": "a", "t": "2024-01-01T00:00:00Z" }).to_string();
    faces.ask("POST", &format!("/api/v1/ingest/{text}?producer={text}"), "application/json", &row)
}

fn otlp(faces: &Faces, sql: &str) -> Said {
    let text = json!({ "stringValue": sql });
    let record = json!({ "timeUnixNano": "1704067200000000000", "body": text, "severityText": sql, "traceId": sql,
                         "attributes": [{ "key": sql, "value": text }] });
    let body = json!({ "resourceLogs": [{ "resource": { "attributes": [{ "key": "service.name", "value": text }] },
                                          "scopeLogs": [{ "scope": { "name": sql }, "logRecords": [record] }] }] });
    faces.ask("POST", "/v1/logs", "application/json", &body.to_string())
}

/// No longer than servers take a path.
fn in_path(text: &str) -> String {
    encoded(text.get(..text.floor_char_boundary(2_000)).unwrap_or(text))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

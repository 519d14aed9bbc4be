//! The real SDKs of Segment and PostHog, unchanged but for the address, against a running server; CloudEvents by hand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use millstream::time::ManualClock;
use millstream_server::config::Config;
use millstream_server::keys::Role;
use millstream_server::range::parse_time;
use millstream_server::serve::Server;
use serde_json::{Value, json};

async fn start(dir: &Path) -> (Server, String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = "checkpoint_interval = '100ms'\n[http]\nlisten = '127.0.0.1:0'\n[ingest]\nlisten = '127.0.0.1:0'\n";
    let mut config = Config::parse(text, &root.join("millstream.toml")).unwrap();
    config.data_dir = PathBuf::from(dir);
    let clock = ManualClock::at(parse_time("2026-11-23T12:00:00Z").unwrap());
    let server = Server::start(config, Arc::new(clock)).await.unwrap();
    let producer = server.keys.create("plugin", Role::Producer, None).unwrap();
    let url = format!("http://{}", server.http_address);
    (server, producer, url)
}

/// Runs a program of the tests' Python with the server's address and key.
async fn python(program: &str, url: &str, key: &str) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let mut command = Command::new(python);
    command.args(["-c", program, url, key]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}

async fn rows(server: &Server, sql: &str) -> Vec<Value> {
    server.engine.flush().await.unwrap();
    let limits = millstream::QueryLimits::default();
    let result = server.engine.query(sql, &Default::default(), &limits).await.unwrap();
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write_batches(&result.batches.iter().collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let text = writer.into_inner();
    if text.is_empty() { Vec::new() } else { serde_json::from_slice(&text).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn segment_for_python_works_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (server, key, url) = start(dir.path()).await;
    let program = r#"
import sys
from segment.analytics.client import Client
errors = []
client = Client(sys.argv[2], host=sys.argv[1], gzip=True, on_error=lambda error, items: errors.append(str(error)))
client.identify("ada", {"tier": "team"}, message_id="m1")
client.track("ada", "completion accepted", {"language": "rust", "tokens": 12, "lines": 3}, message_id="m2")
client.track("ada", "completion accepted", {"language": "rust", "tokens": 12, "lines": 3}, message_id="m2")
client.track(anonymous_id="a-7", event="opened", message_id="m3")
client.flush()
client.join()
assert not errors, errors
"#;
    python(program, &url, &key).await;
    let sql = "SELECT event_id, name, user_id, anonymous_id, tier, language, tokens, properties FROM raw_ide_events ORDER BY event_id";
    assert_eq!(
        rows(&server, sql).await,
        [
            json!({ "event_id": "m1", "name": "identify", "user_id": "ada", "tier": "team" }),
            json!({ "event_id": "m2", "name": "completion accepted", "user_id": "ada", "language": "rust", "tokens": 12,
                    "properties": "{\"lines\":3}" }),
            json!({ "event_id": "m3", "name": "opened", "anonymous_id": "a-7" }),
        ],
        "each message once, known properties in their columns"
    );
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn posthog_for_python_works_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (server, key, url) = start(dir.path()).await;
    let program = r#"
import sys
from posthog import Posthog
errors = []
client = Posthog(sys.argv[2], host=sys.argv[1], gzip=True, on_error=lambda error, items: errors.append(str(error)))
for _ in range(2):
    client.capture("file opened", distinct_id="ada", properties={"language": "go", "$session_id": "s1", "$ip": "10.0.0.1"},
                   uuid="0190a0a0-0000-7000-8000-000000000001")
client.flush()
client.shutdown()
assert not errors, errors
"#;
    python(program, &url, &key).await;
    let sql = "SELECT event_id, name, user_id, session_id, language, properties LIKE '%10.0.0.1%' AS has_ip FROM raw_ide_events";
    let expected = json!({ "event_id": "0190a0a0-0000-7000-8000-000000000001", "name": "file opened", "user_id": "ada",
                           "session_id": "s1", "language": "go", "has_ip": false });
    assert_eq!(rows(&server, sql).await, [expected], "once, and without the address of the person");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_kept_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (server, key, url) = start(dir.path()).await;
    let client = reqwest::Client::new();
    let post = |path: &str, body: Value| client.post(format!("{url}{path}")).body(body.to_string());

    let batch = json!({ "sentAt": "2026-11-23T14:00:00Z", "batch": [
        { "type": "track", "event": "skewed", "userId": "ada", "messageId": "s1", "timestamp": "2026-11-23T13:59:00Z" },
        { "type": "track", "event": "bad", "messageId": "s2", "timestamp": "yesterday" },
        17,
    ] });
    let answer = post("/v1/batch", batch).basic_auth(&key, Some("")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, "{\"success\":true}".to_string()));
    let good = rows(&server, "SELECT event_id, CAST(event_time AS TEXT) AS at FROM raw_ide_events").await;
    assert_eq!(good, [json!({ "event_id": "s1", "at": "2026-11-23T11:59:00Z" })], "its clock is two hours ahead");
    let kept = rows(&server, "SELECT code, message FROM ide_events__rejected ORDER BY code").await;
    assert_eq!(kept.len(), 2, "{kept:?}");

    let event = json!({ "specversion": "1.0", "id": "1", "source": "/runner/a", "type": "run_started", "subject": "deploy",
                        "time": "2026-11-23T11:00:00Z", "data": { "workflow": "deploy", "attempt": 2, "branch": "main" } });
    for expected in [
        json!({ "accepted": 1, "duplicates": 0, "rejected_rows": 0 }),
        json!({ "accepted": 0, "duplicates": 1, "rejected_rows": 0 }),
    ] {
        let answer = post("/api/v1/cloudevents/workflow_events", event.clone()).bearer_auth(&key).send().await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap(), expected);
    }
    let sql = "SELECT event_id, name, workflow, attempt FROM raw_workflow_events";
    let expected = json!({ "event_id": "/runner/a#1", "name": "run_started", "workflow": "deploy", "attempt": 2 });
    assert_eq!(rows(&server, sql).await, [expected]);

    for (path, body, status, detail) in [
        ("/v1/batch", json!({ "batch": [] }), 401, "no API key"),
        ("/batch/", json!({ "api_key": "phc_x", "batch": [] }), 401, "not known here"),
        ("/batch/", json!({ "api_key": key, "events": [] }), 400, "the body has no list `batch`"),
    ] {
        let answer = post(path, body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(detail), "{text}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetry_for_python_works_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (server, key, url) = start(dir.path()).await;
    let program = r#"
import sys
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
url, headers = sys.argv[1], {"authorization": "Bearer " + sys.argv[2]}
resource = Resource.create({"service.name": "shop"})
at = 1795431600_000_000_000

traces = TracerProvider(resource=resource)
traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(url + "/v1/traces", headers=headers, compression=Compression.Gzip)))
tracer = traces.get_tracer("t")
span = tracer.start_span("GET /users/{id}", kind=SpanKind.SERVER, start_time=at,
    attributes={"http.route": "/users/{id}", "http.request.method": "GET", "http.response.status_code": 503, "cache": "miss"})
span.end(at + 25_000_000)
span = tracer.start_span("invoke_agent coder", start_time=at, attributes={"gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "coder", "gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30,
    "error.type": "rate_limited", "gen_ai.conversation.id": "c1"})
span.set_status(StatusCode.ERROR)
span.end(at + 2_000_000_000)
span = tracer.start_span("render", start_time=at)
span.end(at + 1_000_000)
traces.shutdown()

logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(url + "/v1/logs", headers=headers)))
logger = logs.get_logger("t")
for _ in range(2):
    logger.emit(LogRecord(timestamp=at, body="claude_code.api_request", attributes={"event.name": "api_request", "model": "m-2",
        "cost_usd": "0.25", "duration_ms": "1200", "input_tokens": "10", "output_tokens": "5", "cache_read_tokens": "7",
        "cache_creation_tokens": "3", "session.id": "s1", "user.account_uuid": "ada", "organization.id": "acme"}))
logger.emit(LogRecord(timestamp=at, body="disk is full", severity_text="ERROR", severity_number=SeverityNumber.ERROR))
logs.shutdown()

reader = PeriodicExportingMetricReader(OTLPMetricExporter(url + "/v1/metrics", headers=headers), export_interval_millis=1e9)
metrics = MeterProvider(metric_readers=[reader], resource=resource)
metrics.get_meter("t").create_counter("claude_code.commit.count", unit="1").add(3, {"user.id": "ada"})
metrics.get_meter("t").create_histogram("wait", unit="ms").record(1.5)
metrics.shutdown()
"#;
    python(program, &url, &key).await;
    let sql = "SELECT route, method, status_code, latency_ms, service, properties LIKE '%miss%' AS rest, length(trace_id) AS n FROM raw_api_events";
    let api = json!({ "route": "/users/{id}", "method": "GET", "status_code": 503, "latency_ms": 25.0, "service": "shop",
                      "rest": true, "n": 32 });
    assert_eq!(rows(&server, sql).await, [api]);
    let sql = "SELECT agent, name, model, status, user_id, account_id, session_id, tokens_input, tokens_output, tokens_cache_read, \
               tokens_cache_write, cost_usd, duration_ms, error_class FROM raw_agent_events ORDER BY agent";
    assert_eq!(
        rows(&server, sql).await,
        [
            json!({ "agent": "claude_code", "name": "api_request", "model": "m-2", "status": "ok", "user_id": "ada",
                    "account_id": "acme", "session_id": "s1", "tokens_input": 10, "tokens_output": 5, "tokens_cache_read": 7,
                    "tokens_cache_write": 3, "cost_usd": 0.25, "duration_ms": 1200.0 }),
            json!({ "agent": "coder", "name": "invoke_agent", "model": "m-1", "status": "error", "session_id": "c1",
                    "tokens_input": 120, "tokens_output": 30, "duration_ms": 2000.0, "error_class": "rate_limited" }),
        ],
        "the same record twice is one row"
    );
    let spans = rows(&server, "SELECT name, duration_ms, status, service FROM raw_otel_spans").await;
    assert_eq!(spans, [json!({ "name": "render", "duration_ms": 1.0, "status": "ok", "service": "shop" })]);
    let logs = rows(&server, "SELECT body, severity, service FROM raw_otel_logs").await;
    assert_eq!(logs, [json!({ "body": "disk is full", "severity": "ERROR", "service": "shop" })]);
    let sql =
        "SELECT name, unit, kind, temporality, value, values_counted, user_id FROM raw_otel_metrics ORDER BY name";
    assert_eq!(
        rows(&server, sql).await,
        [
            json!({ "name": "claude_code.commit.count", "unit": "1", "kind": "sum", "temporality": "cumulative", "value": 3.0,
                    "user_id": "ada" }),
            json!({ "name": "wait", "unit": "ms", "kind": "histogram", "temporality": "cumulative", "value": 1.5, "values_counted": 1 }),
        ]
    );
    let client = reqwest::Client::new();
    let json =
        client.post(format!("{url}/v1/logs")).bearer_auth(&key).header("content-type", "application/json").body("{}");
    let answer = json.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 415);
    assert!(answer.text().await.unwrap().contains("set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"));
    server.stop().await.unwrap();
}

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
async fn opentelemetry_for_python_works_unchanged_over_http() {
    let head = r#"
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
GZIP = Compression.Gzip
def to(path):
    return {"endpoint": url + path, "headers": {"authorization": "Bearer " + key}}
"#;
    let dir = tempfile::tempdir().unwrap();
    let (server, key, url) = start(dir.path()).await;
    opentelemetry(&server, head, &url, &key).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetry_for_python_works_unchanged_over_grpc() {
    let head = r#"
from grpc import Compression
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
GZIP = Compression.Gzip
def to(path):
    return {"endpoint": url, "headers": {"authorization": "Bearer " + key}, "insecure": True}
"#;
    let dir = tempfile::tempdir().unwrap();
    let (server, key, _) = start(dir.path()).await;
    let url = format!("http://{}", server.grpc_address);
    opentelemetry(&server, head, &url, &key).await;
    server.stop().await.unwrap();
}

/// Sends spans, log records and metrics with the exporters that `head` imports, and reads the rows.
async fn opentelemetry(server: &Server, head: &str, url: &str, key: &str) {
    let program = r#"
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
resource = Resource.create({"service.name": "shop"})
at = 1795431600_000_000_000

traces = TracerProvider(resource=resource)
traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**to("/v1/traces"), compression=GZIP)))
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
logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**to("/v1/logs"))))
logger = logs.get_logger("t")
for _ in range(2):
    logger.emit(LogRecord(timestamp=at, body="claude_code.api_request", attributes={"event.name": "api_request", "model": "m-2",
        "cost_usd": "0.25", "duration_ms": "1200", "input_tokens": "10", "output_tokens": "5", "cache_read_tokens": "7",
        "cache_creation_tokens": "3", "session.id": "s1", "user.account_uuid": "ada", "organization.id": "acme"}))
logger.emit(LogRecord(timestamp=at, body="disk is full", severity_text="ERROR", severity_number=SeverityNumber.ERROR))
logs.shutdown()

reader = PeriodicExportingMetricReader(OTLPMetricExporter(**to("/v1/metrics")), export_interval_millis=1e9)
metrics = MeterProvider(metric_readers=[reader], resource=resource)
metrics.get_meter("t").create_counter("claude_code.commit.count", unit="1").add(3, {"user.id": "ada"})
metrics.get_meter("t").create_histogram("wait", unit="ms").record(1.5)
metrics.shutdown()
"#;
    python(&format!("import sys\nurl, key = sys.argv[1:3]\n{head}{program}"), url, key).await;
    let sql = "SELECT route, method, status_code, latency_ms, service, properties LIKE '%miss%' AS rest, length(trace_id) AS n FROM raw_api_events";
    let api = json!({ "route": "/users/{id}", "method": "GET", "status_code": 503, "latency_ms": 25.0, "service": "shop",
                      "rest": true, "n": 32 });
    assert_eq!(rows(server, sql).await, [api]);
    let sql = "SELECT agent, name, model, status, user_id, account_id, session_id, tokens_input, tokens_output, tokens_cache_read, \
               tokens_cache_write, cost_usd, duration_ms, error_class FROM raw_agent_events ORDER BY agent";
    assert_eq!(
        rows(server, sql).await,
        [
            json!({ "agent": "claude_code", "name": "api_request", "model": "m-2", "status": "ok", "user_id": "ada",
                    "account_id": "acme", "session_id": "s1", "tokens_input": 10, "tokens_output": 5, "tokens_cache_read": 7,
                    "tokens_cache_write": 3, "cost_usd": 0.25, "duration_ms": 1200.0 }),
            json!({ "agent": "coder", "name": "invoke_agent", "model": "m-1", "status": "error", "session_id": "c1",
                    "tokens_input": 120, "tokens_output": 30, "duration_ms": 2000.0, "error_class": "rate_limited" }),
        ],
        "the same record twice is one row"
    );
    let spans = rows(server, "SELECT name, duration_ms, status, service FROM raw_otel_spans").await;
    assert_eq!(spans, [json!({ "name": "render", "duration_ms": 1.0, "status": "ok", "service": "shop" })]);
    let logs = rows(server, "SELECT body, severity, service FROM raw_otel_logs").await;
    assert_eq!(logs, [json!({ "body": "disk is full", "severity": "ERROR", "service": "shop" })]);
    let sql =
        "SELECT name, unit, kind, temporality, value, values_counted, user_id FROM raw_otel_metrics ORDER BY name";
    assert_eq!(
        rows(server, sql).await,
        [
            json!({ "name": "claude_code.commit.count", "unit": "1", "kind": "sum", "temporality": "cumulative", "value": 3.0,
                    "user_id": "ada" }),
            json!({ "name": "wait", "unit": "ms", "kind": "histogram", "temporality": "cumulative", "value": 1.5, "values_counted": 1 }),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetry_as_json_gives_the_same_rows_and_says_what_it_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (server, key, url) = start(dir.path()).await;
    let post = async |path: &str, media_type: &str, key: &str, body: &str| {
        let request = reqwest::Client::new().post(format!("{url}{path}")).bearer_auth(key);
        let answer = request.header("content-type", media_type).body(body.to_string()).send().await.unwrap();
        let (status, sent) = (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap().to_string());
        (status, sent, answer.text().await.unwrap())
    };
    let json_type = "application/json; charset=utf-8";
    let ok = (200, "application/json".to_string(), "{}".to_string());
    let spans = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":null,
        "name":"GET /a","kind":2,"startTimeUnixNano":"1795431600000000000","endTimeUnixNano":"1795431600025000000",
        "attributes":[{"key":"http.route","value":{"stringValue":"/a"}},
                      {"key":"http.response.status_code","value":{"intValue":"503"}}]}]}]}]}"#;
    assert_eq!(post("/v1/traces", json_type, &key, spans).await, ok);
    let metrics = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
        {"name":"a","sum":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1795431600000000000","asInt":"3"}]}},
        {"name":"b","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":1795431600000000000,"count":"3","sum":1.5,
            "bucketCounts":["1","2"],"explicitBounds":[0.5]}]}},
        {"name":"c","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1795431600000000000","count":2,
            "sum":4,"scale":1,"zeroCount":"0","positive":{"offset":1,"bucketCounts":["2"]}}]}},
        {"name":"d","summary":{"dataPoints":[{"timeUnixNano":"1795431600000000000","count":"4","sum":8,
            "quantileValues":[{"quantile":0.5,"value":2}]}]}}]}]}]}"#;
    assert_eq!(post("/v1/metrics", json_type, &key, metrics).await, ok);
    let logs = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"no time"}},
        {"timeUnixNano":"1795431600000000000","body":{"stringValue":"fine"}}]}]}]}"#;
    let (status, _, body) = post("/v1/logs", json_type, &key, logs).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["partialSuccess"]["rejectedLogRecords"]), (200, &json!("1")), "{body}");
    assert!(told["partialSuccess"]["errorMessage"].as_str().unwrap().contains("event_time"), "{body}");
    let (status, sent, body) = post("/v1/logs", json_type, &key, "{\"resourceLogs\":7}").await;
    assert_eq!((status, sent.as_str()), (400, "application/json"));
    assert!(body.contains("the body is not valid OTLP/JSON"), "{body}");
    let (status, _, body) = post("/v1/logs", json_type, "wrong", "{}").await;
    assert_eq!(status, 401, "{body}");
    let (status, sent, body) = post("/v1/logs", "text/plain", &key, "{}").await;
    assert_eq!((status, sent.as_str()), (415, "application/x-protobuf"));
    assert!(body.contains("set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf or http/json"), "{body}");

    let sql =
        "SELECT route, status_code, latency_ms, service, trace_id, parent_span_id IS NULL AS root FROM raw_api_events";
    let span = json!({ "route": "/a", "status_code": 503, "latency_ms": 25.0, "service": "shop",
                       "trace_id": "5b8efff798038103d269b633813fc60c", "root": true });
    assert_eq!(rows(&server, sql).await, [span]);
    let sql = "SELECT name, kind, temporality, value, values_counted, properties FROM raw_otel_metrics ORDER BY name";
    let of = |name: &str, kind: &str, more: Value| {
        let mut row = json!({ "name": name, "kind": kind });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    assert_eq!(
        rows(&server, sql).await,
        [
            of("a", "sum", json!({ "temporality": "delta", "value": 3.0 })),
            of(
                "b",
                "histogram",
                json!({ "temporality": "cumulative", "value": 1.5, "values_counted": 3,
                "properties": r#"{"bucket_counts":[1,2],"explicit_bounds":[0.5]}"# })
            ),
            of(
                "c",
                "exponential_histogram",
                json!({ "temporality": "delta", "value": 4.0, "values_counted": 2,
                "properties": r#"{"positive":{"bucket_counts":[2],"offset":1},"scale":1,"zero_count":0}"# })
            ),
            of(
                "d",
                "summary",
                json!({ "value": 8.0, "values_counted": 4, "properties": r#"{"quantiles":{"0.5":2.0}}"# })
            ),
        ]
    );
    server.stop().await.unwrap();
}

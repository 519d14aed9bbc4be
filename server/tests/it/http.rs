//! The HTTP face of a whole running server: real listeners, real tables, the SQL that ships.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::time::ManualClock;
use millstream_server::config::Config;
use millstream_server::keys::Role;
use millstream_server::range::parse_time;
use millstream_server::serve::Server;
use serde_json::{Value, json};

/// A server on free ports, whose clock stands at noon of 2026-11-23.
pub struct Running {
    pub server: Server,
    pub client: reqwest::Client,
    pub analyst: String,
    pub producer: String,
}

pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// Asserts that this is a problem of `status` whose detail has `detail`.
    #[track_caller]
    pub fn is_problem(&self, status: u16, detail: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.content_type, "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].as_str().unwrap().starts_with("urn:millstream:error:"), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "expected {detail:?} in {problem}");
    }
}

pub fn config(dir: &Path) -> Config {
    let mut config = config_with(dir, "");
    config.http.request_bytes_max = 10_000;
    config
}

/// On free ports, with `more` sections.
pub fn config_with(dir: &Path, more: &str) -> Config {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = format!(
        "checkpoint_interval = '100ms'\n[http]\nlisten = '127.0.0.1:0'\n[ingest]\nlisten = '127.0.0.1:0'\n{more}"
    );
    let mut config = Config::parse(&text, &root.join("millstream.toml")).unwrap();
    config.data_dir = PathBuf::from(dir);
    config
}

impl Running {
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(config(dir)).await
    }

    pub async fn start_with(config: Config) -> Self {
        let clock = ManualClock::at(parse_time("2026-11-23T12:00:00Z").unwrap());
        Self::of(Server::start(config, Arc::new(clock)).await.unwrap())
    }

    pub fn of(server: Server) -> Self {
        let name = server.keys.list().unwrap().len();
        let analyst = server.keys.create(&format!("analyst{name}"), Role::Analyst, None).unwrap();
        let producer = server.keys.create(&format!("producer{name}"), Role::Producer, None).unwrap();
        Self { server, client: reqwest::Client::new(), analyst, producer }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.http_address)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.timeout(Duration::from_secs(60)).send().await.unwrap();
        let headers = response.headers().clone();
        Answer {
            status: response.status().as_u16(),
            content_type: headers.get("content-type").map_or("", |v| v.to_str().unwrap()).to_string(),
            headers,
            text: response.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(self.url(path)).bearer_auth(&self.analyst)).await
    }

    pub async fn sql(&self, sql: &str) -> Answer {
        let body = json!({ "sql": sql }).to_string();
        let post = self.client.post(self.url("/api/v1/sql")).bearer_auth(&self.analyst);
        self.send(post.header("content-type", "application/json").body(body)).await
    }

    pub async fn ingest(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.client.post(self.url(path)).bearer_auth(&self.producer).body(body)).await
    }
}

pub fn agent_event(id: u32, time: &str, agent: &str, tokens: u32) -> String {
    json!({ "event_id": format!("e{id}"), "event_time": time, "user_id": "ada", "agent": agent, "model": "m", "status": "ok",
            "tokens_input": tokens, "tokens_output": 1, "cost_usd": 0.25, "duration_ms": 100.0 * f64::from(id) })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_metrics_out_and_a_restart_between() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let rows = [
        agent_event(1, "2026-11-23T09:00:01Z", "coder", 10),
        agent_event(2, "2026-11-23T09:00:02Z", "coder", 20),
        agent_event(3, "2026-11-23T09:00:03Z", "planner", 5),
        // Closes the minute of the others.
        agent_event(4, "2026-11-23T09:10:00Z", "planner", 1),
    ];
    let ack = running.ingest("/api/v1/ingest/agent_events?producer=p&epoch=1&sequence=1", rows.join("\n")).await;
    assert_eq!(ack.status, 200, "{}", ack.text);
    assert_eq!((ack.json()["accepted"].clone(), ack.json()["rejected_rows"].clone()), (json!(4), json!(0)));
    let again = running.ingest("/api/v1/ingest/agent_events?producer=p&epoch=1&sequence=1", rows.join("\n")).await;
    assert_eq!(again.status, 200, "a retry is answered: {}", again.text);
    running.server.engine.flush().await.unwrap();

    let count = running.sql("SELECT count(*) AS n, sum(tokens_input) AS tokens FROM raw_agent_events").await;
    assert_eq!(count.json()["rows"], json!([{ "n": 4, "tokens": 36 }]), "and adds nothing");
    let metric = running.get("/api/v1/metrics/tokens_per_agent").await;
    assert_eq!(metric.status, 200, "{}", metric.text);
    let answer = metric.json();
    assert_eq!(
        (&answer["from"], &answer["to"]),
        (&json!("2026-11-17T00:00:00.000Z"), &json!("2026-11-24T00:00:00.000Z"))
    );
    assert_eq!(
        (&answer["time_zone"], &answer["sql_file"]),
        (&json!("UTC"), &json!("sql/metrics/tokens_per_agent.sql"))
    );
    assert_eq!(answer["complete_through"], json!("2026-11-23T09:09:00.000Z"), "the greatest event time minus a minute");
    let coder = json!({ "agent": "coder", "tokens": 32, "tokens_input": 30, "tokens_output": 2, "tokens_cached": 0,
                        "cost_usd": 0.5, "executions": 2 });
    assert_eq!(answer["rows"][0], coder);
    let csv = running.get("/api/v1/metrics/tokens_per_agent?format=csv&from=2026-11-23").await;
    assert!(csv.content_type.starts_with("text/csv"), "{}", csv.content_type);
    assert!(csv.text.starts_with("agent,tokens,"), "{}", csv.text);
    assert_eq!(csv.headers["x-truncated"], "false");

    running.server.stop().await.unwrap();
    let running = Running::start(dir.path()).await;
    let count = running.sql("SELECT count(*) AS n FROM raw_agent_events").await;
    assert_eq!(count.json()["rows"], json!([{ "n": 4 }]), "a restart keeps what was there: {}", count.text);
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_ships_answers_and_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let catalogue = running.get("/api/v1/metrics").await.json();
    let metrics = catalogue["metrics"].as_array().unwrap();
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/metrics")).unwrap().count();
    assert_eq!(metrics.len(), files);
    for metric in metrics {
        let answer = running.get(metric["url"].as_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{metric}: {}", answer.text);
        let zero = |row: &Value| ["users", "mau"].iter().any(|column| row[column] == 0);
        let rows = answer.json()["rows"].as_array().unwrap().clone();
        assert!(rows.iter().all(zero), "no event, nothing but zeros: {}", answer.text);
        assert!(!metric["description"].as_str().unwrap().is_empty(), "{metric}");
    }
    let page = running.send(running.client.get(running.url("/"))).await;
    assert_eq!(page.status, 200, "open on loopback");
    assert!(page.text.contains("Daily active users") && page.text.contains("<svg"), "{}", page.text);
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let prometheus = running.send(running.client.get(running.url("/metrics"))).await;
    assert!(prometheus.text.contains("millstream_rows_in_total{pipeline=\"agent_usage_1m\"} 0"), "{}", prometheus.text);
    assert_eq!(running.send(running.client.get(running.url("/healthz"))).await.text, "ok\n");
    running.server.stop().await.unwrap();
}

/// Two at once have one after the other the query's time, which adds up; a request of which nothing comes is ended.
#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_their_turn_and_no_longer_than_their_time() {
    const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 3000000) a, generate_series(1, 3000000) b";
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    (config.http.requests_max, config.query.timeout) = (1, Duration::from_millis(400));
    let running = Running::start_with(config).await;
    let started = Instant::now();
    let (one, other) = tokio::join!(running.sql(ENDLESS), running.sql(ENDLESS));
    one.is_problem(429, "took longer than 400ms");
    other.is_problem(429, "took longer than 400ms");
    assert!(started.elapsed() >= Duration::from_millis(800), "{:?}", started.elapsed());
    running.server.stop().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = self::config(dir.path());
    (config.http.requests_max, config.http.request_timeout) = (1, Duration::from_millis(400));
    let running = Running::start_with(config).await;
    running.sql(ENDLESS).await.is_problem(503, "no answer within 400 ms (http.request_timeout); try again later");
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_its_fix() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let (client, sql) = (&running.client, running.url("/api/v1/sql"));
    running.send(client.post(&sql)).await.is_problem(401, "no API key");
    running.send(client.post(&sql).bearer_auth("millstream_x")).await.is_problem(401, "not known here");
    running.send(client.post(&sql).bearer_auth(&running.producer)).await.is_problem(403, "this needs analyst or admin");
    let typed = |body: &'static str| client.post(&sql).bearer_auth(&running.analyst).body(body);
    running.send(typed("SELECT 1")).await.is_problem(415, "send Content-Type: application/json");
    let json_body = |body| typed(body).header("content-type", "application/json");
    running.send(json_body("{\"sq\": 1}")).await.is_problem(400, "unknown field `sq`");
    running.sql("SELEKT 1").await.is_problem(400, "SELEKT");
    running.sql("DROP TABLE raw_ide_events").await.is_problem(400, "queries only read");
    running.sql("SELECT nope FROM raw_ide_events").await.is_problem(400, "nope");
    running.sql(&format!("SELECT '{}'", "x".repeat(20_000))).await.is_problem(413, "over 10000 bytes");
    running.get("/api/v1/metrics/nope").await.is_problem(404, "GET /api/v1/metrics lists them");
    running.get("/api/v1/metrics/..%2f..%2fpasswd").await.is_problem(404, "no metric");
    running.get("/api/v1/metrics/dau?from=yesterday").await.is_problem(400, "write 2026-11-23");
    running.get("/api/v1/metrics/dau?from=2026-11-02&to=2026-11-01").await.is_problem(400, "is not before");
    running
        .get("/api/v1/metrics/dau?agent=x")
        .await
        .is_problem(400, "there is no parameter or column `agent`; the columns are");
    running.get("/api/v1/metrics/dau?tz=Berlin").await.is_problem(400, "write an IANA name such as Europe/Berlin");
    running.get("/api/v1/metrics/dau?interval=day").await.is_problem(400, "leave `interval` out");
    running.get("/api/v1/metrics/lifecycle?interval=year").await.is_problem(400, "it has: day, week, month");
    running.get("/api/v1/metrics/dau?breakdown=shoe").await.is_problem(400, "it has: tier, country, editor");
    running.get("/api/v1/metrics/dau?filter=tier").await.is_problem(400, "write filter=name:value");
    running.get("/api/v1/metrics/dau?limit=0").await.is_problem(400, "write a whole number of rows from 1 on");
    running.get("/api/v1/metrics/dau?cursor=x").await.is_problem(400, "ask again without `cursor`");
    running.get("/api/v1/metrics/dau?format=xlsx").await.is_problem(400, "write format=json, csv or arrow");
    let many = json!({ "queries": vec![json!({ "metric": "dau" }); 51] }).to_string();
    let many = client.post(running.url("/api/v1/metrics/query")).bearer_auth(&running.analyst).body(many);
    let many = running.send(many.header("content-type", "application/json")).await;
    many.is_problem(400, "51 queries in one request; send 50 at most");
    running.get("/nowhere").await.is_problem(404, "no page /nowhere");
    running.get("/api/v1/sql").await.is_problem(405, "does not take this method");
    running.ingest("/api/v1/ingest/nope", "{}").await.is_problem(404, "there is no table 'nope'");
    running.ingest("/api/v1/ingest/ide_events", " ").await.is_problem(400, "holds no row");
    let bad = running.ingest("/api/v1/ingest/ide_events", "[{\"event_id\": \"a\"}]").await.json();
    assert_eq!((&bad["accepted"], &bad["rejected_rows"]), (&json!(0), &json!(1)), "{bad}");
    assert!(bad["rejected"][0]["message"].as_str().unwrap().contains("event_time"), "{bad}");
    let proxied = client.get(running.url("/metrics")).header("x-forwarded-for", "10.0.0.1");
    running.send(proxied).await.is_problem(401, "no API key");
    running.server.stop().await.unwrap();
}

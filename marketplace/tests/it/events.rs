//! Events: each database commit is in Millstream's table once, whatever crashes. The real `millstream` and `marketplace`
//! programs, killed at random moments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_marketplace::accounts::Role;
use millstream_marketplace::clock::Clock;
use millstream_marketplace::config;
use millstream_marketplace::db::Db;
use millstream_marketplace::sandbox::{WEBHOOK_SECRET, signature};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::mail_server::free_port;
use crate::market::{Market, Person};
use crate::stripe::Stripe;

const PEOPLE: usize = 4;

/// `make test` builds it first; alone, this package cannot.
fn millstream() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_marketplace")).parent().unwrap();
    Some(folder.join("millstream")).filter(|p| p.exists())
}

struct Program {
    command: Box<dyn Fn() -> Command>,
    port: u16,
    child: Option<Child>,
}

impl Program {
    fn start(&mut self) {
        self.child =
            Some((self.command)().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    /// SIGKILL, at whatever it is doing.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM: it takes a last checkpoint.
    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
            assert!(child.wait().unwrap().success());
        }
    }

    async fn listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(Instant::now() < deadline, "nobody listens on {}", self.port);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Millstream server with the table of marketplace events, and a key for it.
fn server(binary: &Path, folder: &Path) -> (Program, String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for dir in ["pipelines", "rollups", "metrics", "reports"] {
        std::fs::create_dir_all(folder.join(dir)).unwrap();
    }
    for file in ["pipelines/raw_marketplace_events.sql", "pipelines/raw_agent_events.sql"] {
        std::fs::copy(root.join(file), folder.join(file)).unwrap();
    }
    let sources = "CREATE TABLE marketplace_events (WATERMARK FOR event_time AS event_time - INTERVAL '1 minute')
        WITH (connector = 'ingest', message = 'MarketplaceEvent');
        CREATE TABLE agent_events (WATERMARK FOR event_time AS event_time - INTERVAL '1 minute')
        WITH (connector = 'ingest', message = 'AgentEvent');";
    std::fs::write(folder.join("pipelines/sources.sql"), sources).unwrap();
    let (http, grpc) = (free_port(), free_port());
    let config = format!(
        "data_dir = \"data\"\ncheckpoint_interval = \"200ms\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
         [ingest]\nlisten = \"127.0.0.1:{grpc}\"\n\
         [sql]\npipelines = \"pipelines\"\nrollups = \"rollups\"\nmetrics = \"metrics\"\nreports = \"reports\"\n"
    );
    let path = folder.join("millstream.toml");
    std::fs::write(&path, config).unwrap();
    let made = Command::new(binary)
        .args(["keys", "create", "--name", "market", "--role", "admin", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    let key = text.split_whitespace().find(|w| w.starts_with("millstream_")).unwrap().to_string();
    let binary = binary.to_path_buf();
    let command = move || {
        let mut command = Command::new(&binary);
        command.args(["serve", "--config"]).arg(&path);
        command
    };
    (Program { command: Box::new(command), port: grpc, child: None }, key, format!("http://127.0.0.1:{http}"))
}

/// Agents, accounts and their tokens, made by a marketplace that then ends; its database stays.
async fn people(market: &Market) -> Vec<Person> {
    let acme = market.person_with("acme", Role::Publisher).await;
    let mo = market.person_with("mo", Role::Moderator).await;
    for agent in ["acme/linter", "acme/tester"] {
        market.publish(&acme, &mo, agent, "1.0.0").await;
        market.publish(&acme, &mo, agent, "1.1.0").await;
    }
    let mut people = Vec::new();
    for i in 0..PEOPLE {
        people.push(market.person(&format!("person-{i}")).await.with_token(&["install", "review", "read"]).await);
    }
    people
}

/// Installs, upgrades, goes back and removes until told to stop; errors are what crashes look like.
async fn busy(person: Person, url: String, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let mut step = 0;
    while !stop.load(Ordering::SeqCst) {
        step += 1;
        let agent = if step % 2 == 0 { "acme/linter" } else { "acme/tester" };
        let (method, verb, body) = match step % 5 {
            0 => (Method::DELETE, "install", Value::Null),
            1 | 3 => (Method::POST, "install", json!({ "version": "1.0.0" })),
            _ => (Method::POST, "install", json!({ "version": "1.1.0" })),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request =
            client.request(method, format!("{url}/api/v1/agents/{agent}/{verb}")).bearer_auth(person.secret());
        let answer = request.header("content-type", "application/json").body(body).send().await;
        match answer.map(|a| a.status()) {
            Ok(status) if status.is_success() => drop(done.fetch_add(1, Ordering::SeqCst)),
            Ok(StatusCode::TOO_MANY_REQUESTS) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(status) => panic!("{status}"),
        }
    }
}

/// Orders of seats that nobody has paid yet, each of another number; gives their checkout sessions.
async fn orders(market: &Market, each: i64) -> Vec<String> {
    let mut people = Vec::new();
    for i in 0..PEOPLE {
        people.push(market.again(&format!("person-{i}")).await);
    }
    let mut sessions = Vec::new();
    for seats in 1..=each {
        for person in &people {
            let order = json!({ "tier": "team", "seats": seats });
            let checkout = person.send(Method::POST, "/api/v1/seats", order).await.expect(StatusCode::OK).json;
            sessions.push(Stripe::session_of(checkout["url"].as_str().unwrap()));
        }
    }
    sessions
}

/// People pay at Stripe, one after the other, and every fourth gets the money back; each webhook is told until it is taken.
async fn bank(stripe: Stripe, sessions: Vec<String>, url: String, stop: Arc<AtomicBool>) {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    for (n, session) in sessions.iter().enumerate() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        stripe.pay(session);
        let mut news = stripe.news();
        if n % 4 == 3 {
            let intent = news.iter().find_map(|e| e["data"]["object"]["payment_intent"].as_str()).unwrap().to_string();
            stripe.pay_back(&intent, 100);
            news.extend(stripe.news());
        }
        for event in news {
            let body = event.to_string();
            loop {
                let now_s = Clock::system().now_ms() / 1_000;
                let header = signature(WEBHOOK_SECRET, now_s, body.as_bytes());
                let request = client.post(format!("{url}/webhooks/stripe")).header("stripe-signature", header);
                match request.body(body.clone()).send().await.map(|a| a.status()) {
                    Ok(status) if status.is_success() => break,
                    Ok(StatusCode::SERVICE_UNAVAILABLE) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Ok(status) => panic!("{status} for {body}"),
                }
            }
        }
    }
}

/// `make demo`, with both programs: the week of the marketplace is in Millstream's tables, all of it.
#[test]
fn the_demo_tells_of_a_week_of_the_marketplace() {
    let Some(binary) = millstream() else {
        println!("left out: target/debug/millstream is not built; `make test` builds it");
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(binary)
        .args(["demo", "--marketplace", env!("CARGO_BIN_EXE_marketplace"), "--out"])
        .arg(out.path())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let week = told.split("\nThe marketplace\n").nth(1).unwrap_or_else(|| panic!("{told}"));
    let number = |words: &str| -> u64 {
        let line = week.lines().find(|l| l.contains(words)).unwrap_or_else(|| panic!("no '{words}' in {week}"));
        line.split_whitespace().find_map(|w| w.parse().ok()).unwrap()
    };
    let kinds = [
        "viewed",
        "searched",
        "installed",
        "upgraded",
        "rolled_back",
        "uninstalled",
        "reviewed",
        "published",
        "purchased",
        "refunded",
        "subscription_changed",
        "payout",
    ];
    let all: u64 = kinds.iter().map(|kind| number(&format!(" {kind} by "))).sum();
    assert_eq!(all, number("events over gRPC"), "{week}");
    assert!(number("30 agents") == 30 && number("runs came over HTTP") > 500, "{week}");
}

/// Publishers see how their agents run, by version, from a real Millstream; without it they see what the marketplace knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_see_how_their_agents_run() {
    let Some(binary) = millstream() else {
        println!("left out: target/debug/millstream is not built; `make test` builds it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (mut server, key, http) = server(&binary, folder.path());
    server.start();
    server.listens().await;
    let (url, secret) = (http.clone(), key.clone());
    let market = Market::start_with(|c| {
        c.millstream = Some(config::Millstream {
            ingest_url: None,
            ingest_key: String::new(),
            metrics_url: Some(url),
            metrics_key: secret,
            producer: "marketplace".to_string(),
        });
    })
    .await;
    let people = people(&market).await;
    for person in &people {
        person.install("acme/linter", Some("1.0.0")).await.expect(StatusCode::OK);
    }
    let run = |n: i64, agent: &str, version: &str, status: &str| {
        json!({ "event_id": format!("{agent}{version}{n}"), "event_time": "2026-03-01T12:00:00Z", "name": "run", "user_id": "ada",
            "agent": agent, "agent_version": version, "status": status, "duration_ms": n * 10, "tokens_input": 100, "tokens_output": n })
    };
    let mut runs: Vec<Value> =
        (1..=20).map(|n| run(n, "acme/linter", "1.0.0", if n > 18 { "error" } else { "ok" })).collect();
    runs.extend((1..=5).map(|n| run(n, "acme/linter", "1.1.0", "ok")));
    // Not theirs, not ended, too old.
    runs.extend((1..=3).map(|n| run(n, "other/linter", "1.0.0", "ok")));
    runs.push(run(99, "acme/linter", "1.0.0", "started"));
    let mut old = run(98, "acme/linter", "1.0.0", "ok");
    old["event_time"] = json!("2026-01-01T12:00:00Z");
    runs.push(old);
    let lines: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let client = reqwest::Client::new();
    let sent = client.post(format!("{http}/api/v1/ingest/agent_events")).bearer_auth(&key).body(lines.join("\n"));
    let sent = sent.send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    let acme = market.again("acme").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let usage = loop {
        let usage = acme.get("/api/v1/usage").await.expect(StatusCode::OK).json;
        let total: i64 = usage.as_array().unwrap().iter().map(|u| u["executions"].as_i64().unwrap()).sum();
        if total >= 25 {
            break usage;
        }
        assert!(Instant::now() < deadline, "{usage}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let of = |version: &str| {
        let all = usage.as_array().unwrap().iter();
        all.clone().find(|u| u["agent"] == "acme/linter" && u["version"] == version).unwrap().clone()
    };
    let one = of("1.0.0");
    assert_eq!(
        (&one["executions"], &one["active_installs"], &one["tokens"], &one["duration_p95_ms"]),
        (&json!(20), &json!(PEOPLE), &json!(20 * 100 + 210), &json!(190.0))
    );
    assert!((one["success"].as_f64().unwrap() - 0.9).abs() < 1e-9, "{one}");
    assert_eq!((&of("1.1.0")["executions"], &of("1.1.0")["success"]), (&json!(5), &json!(1.0)));
    let page = acme.page("/dashboard").await.expect(StatusCode::OK).text;
    assert!(page.contains("90.0 %") && page.contains("190 ms"), "{page}");
    server.kill();
    acme.get("/api/v1/usage").await.refused(503, "usage comes from Millstream, and it does not answer now");
    let page = acme.page("/dashboard").await.expect(StatusCode::OK).text;
    assert!(page.contains("it does not answer now") && page.contains("acme/linter"), "{page}");
}

type Counts = BTreeMap<(String, String, String, String), i64>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_is_one_event_whatever_is_killed() {
    let Some(binary) = millstream() else {
        println!("left out: target/debug/millstream is not built; `make test` builds it");
        return;
    };
    let kills = std::env::var("MILLSTREAM_SEEDS").map_or(10, |_| 100);
    let folder = tempfile::tempdir().unwrap();
    let (mut server, key, http) = server(&binary, folder.path());
    let database = format!("sqlite://{}", folder.path().join("market.db").display());
    let made = database.clone();
    let stripe = Stripe::start().await;
    let bought = stripe.config();
    let market = Market::start_with(|c| {
        c.database_url = Some(made);
        c.stripe = Some(bought.clone());
    })
    .await;
    let people = people(&market).await;
    let sessions = orders(&market, (kills * 10).min(500)).await;
    // The clock of that market stood still; this one's goes.
    let packages = market.app.config.data_dir.clone();
    let port = free_port();
    let toml = format!(
        "data_dir = \"{}\"\ndatabase_url = \"{database}\"\nlisten = \"127.0.0.1:{port}\"\n\
         [stripe]\nbase_url = \"{}\"\nsecret_key = \"{}\"\nwebhook_secret = \"{}\"\n\
         [millstream]\ningest_url = \"http://127.0.0.1:{}\"\ningest_key = \"{key}\"\nmetrics_url = \"{http}\"\nmetrics_key = \"{key}\"\n",
        packages.display(),
        bought.base_url,
        bought.secret_key,
        bought.webhook_secret,
        server.port,
    );
    let path = folder.path().join("marketplace.toml");
    std::fs::write(&path, toml).unwrap();
    // Tokens are good for 30 days of the test's clock, which lies behind: put them past the real one.
    sqlx::query("UPDATE tokens SET expires_at = 9000000000000").execute(market.app.db.read()).await.unwrap();
    let serve = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marketplace"));
        command.args(["serve", "--config"]).arg(&path);
        command
    };
    let mut marketplace = Program { command: Box::new(serve), port, child: None };
    server.start();
    marketplace.start();
    server.listens().await;
    marketplace.listens().await;
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let url = format!("http://127.0.0.1:{port}");
    let mut load: Vec<_> =
        people.iter().map(|p| tokio::spawn(busy(p.clone(), url.clone(), done.clone(), stop.clone()))).collect();
    load.push(tokio::spawn(bank(stripe, sessions, url, stop.clone())));
    let mut random = 7_u64;
    for kill in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let goal = done.load(Ordering::SeqCst) + 20 + (random >> 33) % 40;
        let deadline = Instant::now() + Duration::from_secs(120);
        while done.load(Ordering::SeqCst) < goal {
            assert!(Instant::now() < deadline, "no progress before kill {kill}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let victim = if (random >> 20).is_multiple_of(2) { &mut server } else { &mut marketplace };
        victim.kill();
        victim.start();
    }
    marketplace.listens().await;
    server.listens().await;
    stop.store(true, Ordering::SeqCst);
    for task in load {
        task.await.unwrap();
    }
    let db = Db::open(&database).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (left,): (i64,) = sqlx::query_as("SELECT count(*) FROM outbox").fetch_one(db.read()).await.unwrap();
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{left} events wait");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    marketplace.stop();
    server.stop();
    let committed: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT h.account_id, g.namespace || '/' || g.name, h.version, h.action
         FROM install_history h JOIN agents g ON g.id = h.agent_id",
    )
    .fetch_all(db.read())
    .await
    .unwrap();
    let mut expected = Counts::new();
    for row in committed {
        *expected.entry(row).or_default() += 1;
    }
    let got = table(&binary, folder.path());
    let total: i64 = expected.values().sum();
    let sales = sales(&db).await;
    println!("{kills} kills, {total} commits of installs, {} sales", sales.values().map(|s| s[0]).sum::<i64>());
    assert!(total > 200 && sales.len() == PEOPLE, "{total} {sales:?}");
    assert_eq!(got, expected);
    assert_eq!(sold(&binary, folder.path()), sales);
}

/// By account: payments, and their sum; refunds, and their sum.
type Sales = BTreeMap<String, [i64; 4]>;

/// As the marketplace has them.
async fn sales(db: &Db) -> Sales {
    let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT o.account_id, count(*), CAST(sum(c.paid_minor) AS BIGINT),
                CAST(sum(CASE WHEN c.refunded_minor > 0 THEN 1 ELSE 0 END) AS BIGINT), CAST(sum(c.refunded_minor) AS BIGINT)
         FROM charges c JOIN orders o ON o.id = c.order_id WHERE c.paid_minor > 0 GROUP BY o.account_id",
    )
    .fetch_all(db.read())
    .await
    .unwrap();
    rows.into_iter().map(|(account, n, paid, m, refunded)| (account, [n, paid, m, refunded])).collect()
}

/// As Millstream's table has them.
fn sold(binary: &Path, folder: &Path) -> Sales {
    let sql = "SELECT user_id, count(*) FILTER (WHERE name = 'purchased'),
          CAST(round(100 * coalesce(sum(price_usd) FILTER (WHERE name = 'purchased'), 0)) AS BIGINT),
          count(*) FILTER (WHERE name = 'refunded'),
          CAST(round(-100 * coalesce(sum(price_usd) FILTER (WHERE name = 'refunded'), 0)) AS BIGINT)
        FROM raw_marketplace_events WHERE name IN ('purchased', 'refunded') GROUP BY 1";
    let mut sales = Sales::new();
    for c in rows(binary, folder, sql) {
        sales.insert(c[0].clone(), [1, 2, 3, 4].map(|i| c[i].parse().unwrap()));
    }
    sales
}

/// What Millstream's table holds of installs.
fn table(binary: &Path, folder: &Path) -> Counts {
    let sql = "SELECT user_id, agent, agent_version, name, count(*) AS n, count(DISTINCT event_id) AS ids
        FROM raw_marketplace_events WHERE name IN ('installed', 'upgraded', 'rolled_back', 'uninstalled') GROUP BY 1, 2, 3, 4";
    let mut counts = Counts::new();
    for c in rows(binary, folder, sql) {
        assert_eq!(c[4], c[5], "an event is there twice: {c:?}");
        counts.insert((c[0].clone(), c[1].clone(), c[2].clone(), c[3].clone()), c[4].parse().unwrap());
    }
    counts
}

/// A query over the stopped server's tables.
fn rows(binary: &Path, folder: &Path, sql: &str) -> Vec<Vec<String>> {
    let output = Command::new(binary)
        .args(["sql", sql, "--format", "csv", "--config"])
        .arg(folder.join("millstream.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_string).collect()).collect()
}

//! How fast, with 10,000 agents and 200,000 reviews. Measured, not asserted: `make bench` shows the figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::market::{Market, START_MS};
use crate::search::{Row, put};

const WORDS: [&str; 40] = [
    "code", "review", "query", "schema", "deploy", "test", "lint", "graph", "report", "secret", "cloud", "stream",
    "table", "design", "button", "router", "search", "summary", "paper", "chart", "metric", "alert", "commit",
    "branch", "merge", "docker", "cluster", "policy", "audit", "token", "cache", "index", "vector", "prompt", "agent",
    "planner", "writer", "reader", "checker", "finder",
];

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms, {} times", at(0.5), at(0.99), at(1.0), times.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn with_ten_thousand_agents() {
    let market = Arc::new(Market::start().await);
    let word = |n: usize| WORDS[n % WORDS.len()];
    let texts: Vec<(String, String, String)> = (0..10_000)
        .map(|i| {
            let name = format!("{}-{}-{i}", word(i * 7), word(i * 11 + 3));
            let title = format!("{} {} {i}", word(i * 7), word(i * 11 + 3));
            let summary =
                format!("Does {} and {} with a {} for every {}.", word(i), word(i / 3), word(i / 7), word(i * 13));
            (name, title, summary)
        })
        .collect();
    let rows = texts.iter().enumerate().map(|(i, (name, title, summary))| Row {
        name,
        title,
        summary,
        category: i % 10,
        installs: (i as i64 * 7_919) % 50_000,
        reviews: (20, 60 + (i as i64 % 40)),
        price: if i % 5 == 0 { "one_time" } else { "free" },
    });
    let begin = Instant::now();
    put(&market, rows).await;
    println!("10,000 agents written and indexed: {:.2} s", begin.elapsed().as_secs_f64());
    let mut tx = market.app.db.begin().await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19)
        INSERT INTO accounts (id, handle, email, display_name, password_hash, role, tier, created_at)
        SELECT 'r' || i, 'r' || i, 'r' || i, 'Reader ' || i, '', 'consumer', 'free', 0 FROM n",
    )
    .execute(tx.on())
    .await
    .unwrap();
    sqlx::query("INSERT INTO reviews (id, agent_id, account_id, version, stars, text, state, helpful, created_at, edited_at)
        SELECT g.id || a.id, g.id, a.id, '1.0.0', 1 + abs(random()) % 5, 'It does what it says, most of the time.', 'visible',
        abs(random()) % 50, $1, $1 FROM agents g, accounts a WHERE a.id LIKE 'r%'").bind(START_MS).execute(tx.on()).await.unwrap();
    tx.commit().await.unwrap();
    let (reviews,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM reviews").fetch_one(market.app.db.read()).await.unwrap();
    println!("{reviews} reviews");

    // 100 searches a second for ten seconds, each at its time whether or not the one before is answered.
    let nobody = market.stranger();
    let searches = (0..1_000_u64).map(|i| {
        let (nobody, a, b) = (nobody.clone(), word(i as usize), word(i as usize * 17 + 5));
        let q = match i % 4 {
            0 => format!("q={a}"),
            1 => format!("q={a}%20{b}"),
            2 => format!("q={}&category=testing-qa", &a[..a.len() - 1]),
            _ => format!("q={a}x&sort=installs"),
        };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(i * 10)).await;
            let begin = Instant::now();
            nobody.get(&format!("/api/v1/agents?{q}")).await.expect(StatusCode::OK);
            begin.elapsed()
        })
    });
    let times = futures::future::join_all(searches.collect::<Vec<_>>()).await;
    show("search at 100 a second", times.into_iter().map(Result::unwrap).collect());

    let mut pages = Vec::new();
    for path in ["/", "/search", "/search?q=review", "/agents/many/code-schema-0"] {
        let mut times = Vec::new();
        for _ in 0..100 {
            let begin = Instant::now();
            let answer = nobody.page(path).await;
            assert!(answer.status == StatusCode::OK);
            times.push(begin.elapsed());
        }
        pages.push((path, times));
    }
    for (path, times) in pages {
        show(&format!("page {path}"), times);
    }
    let acme = market.person_with("acme", Role::Publisher).await;
    let mo = market.person_with("mo", Role::Moderator).await;
    market.publish(&acme, &mo, "acme/linter", "1.0.0").await;
    market.publish(&acme, &mo, "acme/linter", "1.1.0").await;
    let ada = market.person("ada").await;
    let mut times = Vec::new();
    for i in 0..200 {
        let version = if i % 2 == 0 { "1.0.0" } else { "1.1.0" };
        let begin = Instant::now();
        let body = json!({ "version": version });
        ada.send(Method::POST, "/api/v1/agents/acme/linter/install", body).await.expect(StatusCode::OK);
        times.push(begin.elapsed());
    }
    show("install call (each a commit)", times);
}

//! Guesses, floods, and packages that are not what they should be.

use std::collections::BTreeMap;

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::market::{Market, PASSWORD, manifest, package};
use crate::packages::bad_packages;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_and_floods_are_stopped_and_others_go_on() {
    let market = Market::start().await;
    let nobody = market.stranger();
    let guess = |email: String| {
        let body = json!({ "email": email, "password": "correct horse" });
        let nobody = nobody.clone();
        async move { nobody.send(Method::POST, "/api/v1/session", body).await }
    };
    // One password tried on many accounts, from one address.
    for i in 0..60 {
        guess(format!("person-{i}@example.org")).await.refused(401, "do not fit");
    }
    let stopped = guess("person-60@example.org".into()).await;
    assert_eq!(stopped.header("retry-after"), "5");
    stopped.refused(429, "too many tries to sign in from your address; try again in 5 s");
    // A made-up address does not help: only a proxy of ours is believed.
    let request = nobody.request(Method::POST, "/api/v1/session").header("x-forwarded-for", "203.0.113.9");
    let body = json!({ "email": "person-61@example.org", "password": "correct horse" }).to_string();
    nobody.run(request.header("content-type", "application/json").body(body)).await.refused(429, "from your address");
    market.clock.advance(3_600_000);

    // Tokens: random ones are all unknown, and soon not even looked at; a good one goes on.
    let ada = market.person("ada").await;
    let good = ada.with_token(&["read"]).await;
    let mut answers = BTreeMap::new();
    for i in 0..200 {
        let answer = ada.with_secret(&format!("mkt_{i:043}")).get("/api/v1/account").await;
        *answers.entry(answer.status.as_u16()).or_insert(0) += 1;
        if i == 199 {
            answer.refused(429, "too many unknown tokens from your address");
        }
    }
    assert_eq!(answers, BTreeMap::from([(401, 100), (429, 100)]));
    good.get("/api/v1/account").await.expect(StatusCode::OK);

    // Accounts, changes, uploads.
    let mut made = 0;
    loop {
        let handle = format!("many-{made}");
        let new = json!({ "handle": handle, "email": format!("{handle}@example.org"), "password": PASSWORD });
        let answer = nobody.send(Method::POST, "/api/v1/accounts", new).await;
        if answer.status != 201 {
            answer.refused(429, "too many new accounts from your address");
            break;
        }
        made += 1;
    }
    assert_eq!(made, 19, "and ada");
    market.clock.advance(3_600_000);
    let acme = market.person_with("acme", Role::Publisher).await;
    for _ in 0..30 {
        acme.upload(b"nothing".to_vec()).await.refused(400, "not gzip");
    }
    acme.upload(b"nothing".to_vec()).await.refused(429, "too many uploads; try again in 10 s");
    let price = json!({ "kind": "free" });
    let mut changes = 0;
    loop {
        let answer =
            ada.send(Method::PUT, "/api/v1/collections", json!({ "slug": "xx", "title": "X", "agents": [] })).await;
        if answer.status != 204 {
            answer.refused(429, "too many changes");
            break;
        }
        changes += 1;
    }
    assert!((590..=600).contains(&changes), "{changes}");
    // Another account is not hindered.
    acme.send(Method::PUT, "/api/v1/agents/acme/none/price", price).await.refused(404, "you have no agent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bad_package_gets_in() {
    let market = Market::start().await;
    let acme = market.person_with("acme", Role::Publisher).await;
    let bad = bad_packages();
    assert!(bad.len() >= 100, "{}", bad.len());
    println!("{} bad packages", bad.len());
    for bad in bad {
        market.clock.advance(10_000);
        let answer = acme.upload(bad.bytes).await;
        let said = answer.json["detail"].as_str().unwrap_or_default();
        assert_eq!(
            (answer.status.as_u16(), said.contains(bad.words)),
            (bad.status, true),
            "{}: {}",
            bad.name,
            answer.text
        );
    }
    // Nothing of them is left: no agent, no version, no file.
    let count = |table: &'static str| {
        let sql = format!("SELECT count(*) FROM {table}");
        let db = market.app.db.clone();
        async move { sqlx::query_as::<_, (i64,)>(sqlx::AssertSqlSafe(sql)).fetch_one(db.read()).await.unwrap().0 }
    };
    assert_eq!((count("agents").await, count("versions").await, count("mails").await), (0, 0, 0));
    let files = std::fs::read_dir(market.app.config.data_dir.join("packages")).unwrap().count();
    assert_eq!(files, 0);
    // A body over all bounds is refused before it is read to its end.
    market.clock.advance(10_000);
    let huge = vec![0x1f; market.app.config.uploads.package_bytes_max + (128 << 10)];
    acme.upload(huge).await.refused(413, "at most 20971520 bytes");
    market.clock.advance(10_000);
    acme.upload(package(&manifest("acme/linter", "1.0.0"), &[])).await.expect(StatusCode::CREATED);
}

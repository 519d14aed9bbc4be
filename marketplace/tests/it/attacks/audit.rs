//! What the audit log says of every call that changes something.

use std::collections::BTreeSet;

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Operation, World, operations};
use crate::market::{Market, PASSWORD, manifest, package};
use crate::payments::Shop;

/// What the audit log says of each call that changes something, made by who may; nothing where something else tells all of it.
const AUDITED: [(&str, &str); 34] = [
    ("POST /api/v1/account/publisher", ""), // asked twice: nothing changes
    ("POST /api/v1/accounts", "account.created"),
    ("PUT /api/v1/accounts/{handle}/role", "role.granted"),
    ("PATCH /api/v1/agents/{namespace}/{name}", "agent.edited"),
    ("POST /api/v1/agents/{namespace}/{name}/buy", "order.begun"),
    ("POST /api/v1/agents/{namespace}/{name}/install", ""), // install_history
    ("PUT /api/v1/agents/{namespace}/{name}/price", "price.set"),
    ("PUT /api/v1/agents/{namespace}/{name}/reviews", "review.written"),
    ("POST /api/v1/agents/{namespace}/{name}/rollback", ""), // install_history
    ("POST /api/v1/agents/{namespace}/{name}/versions/{version}/yank", "version.yanked"),
    ("DELETE /api/v1/agents/{namespace}/{name}/versions/{version}/yank", "version.unyanked"),
    ("PUT /api/v1/collections", "collection.saved"),
    ("PUT /api/v1/collections/{owner}/{slug}/follow", ""), // one's own bookmark
    ("DELETE /api/v1/collections/{owner}/{slug}/follow", ""),
    ("POST /api/v1/collections/{owner}/{slug}/install", ""), // install_history
    ("DELETE /api/v1/collections/{owner}/{slug}", "collection.deleted"),
    ("POST /api/v1/namespaces", "namespace.created"),
    ("POST /api/v1/orders/{id}/refund", "order.refund"),
    ("POST /api/v1/orders/{id}/cancel", "order.cancelled"),
    ("POST /api/v1/payouts/connect", ""), // connected already: a new link
    ("POST /api/v1/publish", "version.submitted"),
    ("POST /api/v1/queue/{id}", "version.approved"),
    ("POST /api/v1/reports/{subject}/{id}", "report.made"),
    ("PUT /api/v1/reviews/{id}/reply", "review.replied"),
    ("PUT /api/v1/reviews/{id}/vote", ""), // review_votes
    ("DELETE /api/v1/reviews/{id}/vote", ""),
    ("POST /api/v1/reports/{id}", "report.dismissed"),
    ("DELETE /api/v1/agents/{namespace}/{name}/reviews", "review.deleted"),
    ("PUT /api/v1/seats/{handle}", "seat.given"),
    ("DELETE /api/v1/seats/{handle}", "seat.taken"),
    ("POST /api/v1/seats", "order.begun"),
    ("POST /api/v1/tokens", "token.issued"),
    ("DELETE /api/v1/tokens/{id}", "token.revoked"),
    ("POST /api/v1/session", "session.opened"),
];
/// They end the test's own session, or the agent of all the others.
const AUDITED_LAST: [(&str, &str); 4] = [
    ("PUT /api/v1/account/password", "password.changed"),
    ("DELETE /api/v1/agents/{namespace}/{name}/install", ""), // install_history
    ("DELETE /api/v1/agents/{namespace}/{name}", "agent.removed"),
    ("DELETE /api/v1/session", "session.closed"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_that_others_may_ask_about_is_in_the_audit_log() {
    let world = World::new().await;
    let Shop { market, acme, mo, ada, .. } = &world.shop;
    let root = market.person_with("root", Role::Admin).await;
    let operations = operations(market).await;
    let changing: BTreeSet<String> =
        operations.iter().filter(|o| o.method != Method::GET).map(Operation::name).collect();
    let listed: BTreeSet<String> = AUDITED.iter().chain(&AUDITED_LAST).map(|(name, _)| name.to_string()).collect();
    assert_eq!(changing, listed, "each call that changes something says here what the audit log says of it");
    for (name, action) in AUDITED.into_iter().chain(AUDITED_LAST) {
        let operation = operations.iter().find(|o| o.name() == name).unwrap();
        let mut path = world.path(&operation.path);
        let mut body = World::body(name);
        let person = match name {
            _ if name.contains("/price") || name.contains("/yank") || name.contains("/reply") => acme,
            _ if name.starts_with("PATCH") || name.contains("/refund") || name.contains("/connect") => acme,
            _ if name.contains("/queue/") || name.contains("/reports/{id}") => mo,
            _ if name.contains("/role") => &root,
            _ if name == "DELETE /api/v1/agents/{namespace}/{name}" => mo,
            _ if name.contains("/vote") || name.contains("/account/publisher") || name.contains("/namespaces") => acme,
            _ if name.contains("/reports/{subject}") => acme,
            _ => ada,
        };
        match name {
            "POST /api/v1/accounts" => {
                body = json!({ "handle": "new", "email": "new@example.org", "password": PASSWORD });
            }
            "PUT /api/v1/account/password" => body = json!({ "current": PASSWORD, "new": "another password" }),
            "POST /api/v1/agents/{namespace}/{name}/buy" => path = "/api/v1/agents/acme/tester/buy".to_string(),
            "POST /api/v1/namespaces" => body = json!({ "name": "acme-labs" }),
            "PUT /api/v1/agents/{namespace}/{name}/price" => {
                body = json!({ "kind": "one_time", "amount_minor": 3_000, "currency": "usd" });
            }
            "POST /api/v1/agents/{namespace}/{name}/install" => body = json!({}),
            "POST /api/v1/agents/{namespace}/{name}/rollback" => {
                market.approve(mo, "acme/linter", "1.1.0").await;
                ada.install("acme/linter", Some("1.1.0")).await.expect(StatusCode::OK);
                body = json!({});
            }
            "POST /api/v1/orders/{id}/refund" => body = json!({ "amount_minor": 100 }),
            "POST /api/v1/queue/{id}" => {
                let id = mo.get("/api/v1/queue").await.json[0]["id"].clone();
                path = format!("/api/v1/queue/{}", id.as_str().unwrap());
            }
            "POST /api/v1/reports/{id}" => body = json!({ "uphold": false }),
            "POST /api/v1/session" => body = json!({ "email": "ada@example.org", "password": PASSWORD }),
            "DELETE /api/v1/seats/{handle}" | "PUT /api/v1/seats/{handle}" => path = "/api/v1/seats/bob".to_string(),
            _ => {}
        }
        let before = lines(market).await.len();
        let answer = if name == "POST /api/v1/publish" {
            acme.upload(package(&manifest("acme/linter", "3.0.0"), &[])).await
        } else {
            person.send(operation.method.clone(), &path, body).await
        };
        assert!(answer.status.is_success(), "{name}: {} {}", answer.status, answer.text);
        let new: Vec<(String, String)> = lines(market).await.split_off(before);
        if action.is_empty() {
            assert_eq!(new, [], "{name}");
            continue;
        }
        let actor = if name == "POST /api/v1/publish" { acme } else { person };
        let (who, what) = new.first().unwrap_or_else(|| panic!("{name} is not in the log"));
        assert_eq!(what, action, "{name}");
        if name != "POST /api/v1/accounts" {
            assert_eq!(who, &actor.handle, "{name}");
        }
    }
    let refused = json!({ "email": "ada@example.org", "password": "a wrong password" });
    market.stranger().send(Method::POST, "/api/v1/session", refused).await.refused(401, "do not fit");
    assert_eq!(lines(market).await.last().unwrap().1, "session.refused");
}

/// (who, what) of the audit log, oldest first.
async fn lines(market: &Market) -> Vec<(String, String)> {
    let sql = "SELECT COALESCE(a.handle, l.account_id), l.action FROM audit l
        LEFT JOIN accounts a ON a.id = l.account_id ORDER BY l.id";
    sqlx::query_as(sql).fetch_all(market.app.db.read()).await.unwrap()
}

//! From an upload to a listed version, and who may do what on the way.

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::market::{manifest, package};
use crate::on_both;

on_both! {
    async fn a_version_is_listed_once_a_moderator_approves_it(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        let program = acme.with_token(&["publish"]).await;
        let sent = program.upload(package(&manifest("acme/linter", "1.0.0"), &[])).await.expect(StatusCode::CREATED);
        assert_eq!((&sent.json["scan_state"], &sent.json["findings"]), (&json!("passed"), &json!([])));
        market.stranger().get("/api/v1/agents/acme/linter").await.refused(404, "no agent 'acme/linter'");
        market.approve(&mo, "acme/linter", "1.0.0").await;
        let agent = market.stranger().get("/api/v1/agents/acme/linter").await.expect(StatusCode::OK).json;
        assert_eq!(agent["latest_version"], "1.0.0");
        assert_eq!(agent["readme_html"], "<h3>Readme</h3>\n<p>What it <em>does</em>.</p>\n");
        let (letters, to): (i64, String) = sqlx::query_as("SELECT count(*), max(recipient) FROM mails")
            .fetch_one(market.app.db.read()).await.unwrap();
        assert_eq!((letters, to.as_str()), (1, "acme@example.org"));

        // Versions never change.
        program.upload(package(&manifest("acme/linter", "1.0.0"), &[("x", b"y")])).await.refused(409, "raise the version");
        // A pre-release is for who asks for it.
        market.publish(&program, &mo, "acme/linter", "1.1.0-beta.1").await;
        let agent = market.stranger().get("/api/v1/agents/acme/linter").await.json;
        assert_eq!(agent["latest_version"], "1.0.0");
        assert_eq!(agent["versions"][0]["channel"], "pre");
    }

    async fn a_refusal_has_a_reason_and_the_version_may_come_again(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        acme.upload(package(&manifest("acme/linter", "1.0.0"), &[])).await.expect(StatusCode::CREATED);
        let id = mo.get("/api/v1/queue").await.json[0]["id"].as_str().unwrap().to_string();
        let path = format!("/api/v1/queue/{id}");
        let package_path = format!("{path}/package");
        let read = mo.get(&package_path).await.expect(StatusCode::OK);
        assert_eq!((read.header("content-type"), read.header("cache-control")), ("application/gzip", "private, no-store"));
        acme.get(&package_path).await.refused(403, "needs the role moderator");
        acme.send(Method::POST, &path, json!({ "approve": true })).await.refused(403, "needs the role moderator");
        mo.send(Method::POST, &path, json!({ "approve": false })).await.refused(400, "say why");
        let refuse = json!({ "approve": false, "reason": "The readme is empty." });
        mo.send(Method::POST, &path, refuse.clone()).await.expect(StatusCode::NO_CONTENT);
        mo.send(Method::POST, &path, refuse).await.refused(409, "does not wait");
        let mine = acme.get("/api/v1/submissions").await.json;
        assert_eq!((&mine[0]["review_state"], &mine[0]["reason"]), (&json!("refused"), &json!("The readme is empty.")));
        market.publish(&acme, &mo, "acme/linter", "1.0.0").await;
    }

    async fn nobody_publishes_or_decides_in_anothers_place(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let evil = market.person_with("evil", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        market.publish(&acme, &mo, "acme/linter", "1.0.0").await;
        evil.upload(package(&manifest("acme/linter", "9.0.0"), &[])).await.refused(403, "'acme' is not yours");
        evil.send(Method::POST, "/api/v1/namespaces", json!({ "name": "mo" })).await.refused(403, "kept for that account");
        evil.send(Method::POST, "/api/v1/namespaces", json!({ "name": "acme" })).await.refused(403, "kept for that account");
        let edit = json!({ "summary": "Now it is mine, all of it." });
        evil.send(Method::PATCH, "/api/v1/agents/acme/linter", edit.clone()).await.refused(404, "you have no agent");
        let yank = "/api/v1/agents/acme/linter/versions/1.0.0/yank";
        evil.send(Method::POST, yank, json!({ "reason": "because" })).await.refused(404, "you have no agent");
        evil.send(Method::DELETE, "/api/v1/agents/acme/linter", json!({ "reason": "x" })).await.refused(403, "moderator");
        market.person("ada").await.upload(package(&manifest("ada/x1", "1.0.0"), &[])).await.refused(403, "publisher");
        acme.with_token(&["read"]).await.upload(package(&manifest("acme/linter", "2.0.0"), &[])).await
            .refused(403, "has not the scope 'publish'");
        // A moderator decides on the work of others.
        mo.upload(package(&manifest("mo/tool", "1.0.0"), &[])).await.expect(StatusCode::CREATED);
        let id = mo.get("/api/v1/queue").await.json[0]["id"].as_str().unwrap().to_string();
        mo.send(Method::POST, &format!("/api/v1/queue/{id}"), json!({ "approve": true })).await.refused(403, "their own");
        acme.send(Method::PATCH, "/api/v1/agents/acme/linter", edit).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(acme.get("/api/v1/agents/acme/linter").await.json["summary"], "Now it is mine, all of it.");
    }

    async fn what_a_person_should_look_at_is_quarantined(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let evil = market.person_with("evil", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        market.publish(&acme, &mo, "acme/code-review", "1.0.0").await;
        let secret = format!("key = 'AKIA{}'\n", "ABCDEFGH12345678");
        let sent = evil.upload(package(&manifest("evil/c0de-revlew", "1.0.0"), &[("conf.py", secret.as_bytes())])).await;
        let sent = sent.expect(StatusCode::CREATED).json;
        assert_eq!(sent["scan_state"], "quarantined");
        assert_eq!(sent["findings"], json!(["conf.py:1: an AWS access key", "the name could be taken for acme/code-review"]));
        let id = mo.get("/api/v1/queue").await.json[0]["id"].as_str().unwrap().to_string();
        mo.send(Method::POST, &format!("/api/v1/queue/{id}"), json!({ "approve": true })).await.refused(400, "say why");
    }

    async fn a_removed_agent_is_gone_for_all(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        market.publish(&acme, &mo, "acme/linter", "1.0.0").await;
        let sha = acme.get("/api/v1/agents/acme/linter").await.json["versions"][0]["sha256"].as_str().unwrap().to_string();
        let why = json!({ "reason": "It steals keys." });
        mo.send(Method::DELETE, "/api/v1/agents/acme/linter", why).await.expect(StatusCode::NO_CONTENT);
        acme.get("/api/v1/agents/acme/linter").await.refused(404, "no agent");
        acme.install("acme/linter", None).await.refused(404, "no agent");
        acme.get(&format!("/packages/{sha}.tar.gz")).await.refused(404, "no package");
        assert_eq!(acme.get("/api/v1/agents?q=linter").await.json["total"], 0);
        acme.upload(package(&manifest("acme/linter", "2.0.0"), &[])).await.refused(403, "was removed by a moderator");
    }
}

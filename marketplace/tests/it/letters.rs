//! Letters, to a real mail server: aiosmtpd, which keeps each as a file.

use millstream_marketplace::accounts::Role;
use millstream_marketplace::config;
use millstream_marketplace::mail::Mailer;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::mail_server::{MailServer, free_port};
use crate::market::{Market, Person, manifest, package};
use crate::on_both;

fn mailer(port: u16) -> Mailer {
    let from = "Market <market@example.org>".to_string();
    Mailer::new(&config::Smtp { url: format!("smtp://127.0.0.1:{port}"), from }).unwrap()
}

/// A version of `acme/linter` that a moderator decides on.
async fn decided(market: &Market, approve: bool, reason: &str) -> (Person, Person) {
    let acme = market.person_with("acme", Role::Publisher).await;
    let mo = market.person_with("mo", Role::Moderator).await;
    acme.upload(package(&manifest("acme/linter", "1.0.0"), &[])).await.expect(StatusCode::CREATED);
    let id = mo.get("/api/v1/queue").await.json[0]["id"].as_str().unwrap().to_string();
    let body = json!({ "approve": approve, "reason": reason });
    mo.send(Method::POST, &format!("/api/v1/queue/{id}"), body).await.expect(StatusCode::NO_CONTENT);
    (acme, mo)
}

on_both! {
    async fn a_decision_reaches_the_publisher_once(market: Market) {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let server = MailServer::start(dir.path(), port);
        decided(&market, false, "The readme is empty \u{2014} add what it d\u{f6}es.\n\nFrom: evil@example.org").await;
        // Two machines that carry at once carry one letter.
        let (one, two) = (mailer(port), mailer(port));
        let (a, b) = tokio::join!(one.carry(&market.app), two.carry(&market.app));
        assert_eq!(a.unwrap() + b.unwrap(), 1);
        assert_eq!(one.carry(&market.app).await.unwrap(), 0);
        let letters = server.mails();
        assert_eq!(letters.len(), 1);
        let (head, body) = letters[0].split_once("\n\n").unwrap();
        assert!(head.contains("Subject: acme/linter 1.0.0: refused"), "{head}");
        assert!(head.contains("To: acme@example.org") && head.contains("<market@example.org>"), "{head}");
        assert!(!head.contains("evil@example.org"), "{head}");
        assert!(body.contains("was not published. The reason:") && body.contains("Mend it and send it again."), "{body}");
    }

    async fn a_letter_waits_for_a_server_that_is_down_and_is_given_up_at_last(market: Market) {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let mailer = mailer(port);
        decided(&market, true, "Read and tried.").await;
        assert_eq!(mailer.carry(&market.app).await.unwrap(), 0);
        let server = MailServer::start(dir.path(), port);
        assert_eq!(mailer.carry(&market.app).await.unwrap(), 0, "not before half a minute");
        market.clock.advance(30_000);
        assert_eq!(mailer.carry(&market.app).await.unwrap(), 1);
        assert!(server.mails()[0].contains("is published:"), "{}", server.mails()[0]);
        drop(server);
        market.person("ada").await;
        let mut tx = market.app.db.begin().await.unwrap();
        let ada = millstream_marketplace::accounts::by_handle(&market.app, "ada").await.unwrap();
        millstream_marketplace::mail::queue_for(&mut tx, 0, &ada.id, "Lost", "Never read.").await.unwrap();
        tx.commit().await.unwrap();
        for _ in 0..14 {
            market.clock.advance(30 * 86_400_000);
            assert_eq!(mailer.carry(&market.app).await.unwrap(), 0);
        }
        let (tries,): (i64,) = sqlx::query_as("SELECT tries FROM mails WHERE subject = 'Lost'")
            .fetch_one(market.app.db.read()).await.unwrap();
        assert_eq!(tries, 12);
    }

    async fn who_follows_a_collection_hears_of_what_is_new_once_a_day(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        for agent in ["acme/linter", "acme/tester", "acme/writer"] {
            market.publish(&acme, &mo, agent, "1.0.0").await;
        }
        let (ada, bob) = (market.person("ada").await, market.person("bob").await);
        let save = |agents: &'static [&'static str]| {
            let agents: Vec<Value> = agents.iter().map(|a| json!({ "agent": a })).collect();
            let new = json!({ "slug": "start", "title": "To start with", "curated": true, "agents": agents });
            let mo = mo.clone();
            async move { mo.send(Method::PUT, "/api/v1/collections", new).await.expect(StatusCode::NO_CONTENT); }
        };
        save(&["acme/linter"]).await;
        let follow = "/api/v1/collections/mo/start/follow";
        for _ in 0..2 {
            ada.send(Method::PUT, follow, Value::Null).await.expect(StatusCode::NO_CONTENT);
        }
        bob.form("/collections/mo/start/follow", &[("follow", "true")]).await.expect(StatusCode::SEE_OTHER);
        bob.send(Method::DELETE, follow, Value::Null).await.expect(StatusCode::NO_CONTENT);
        let shown = market.stranger().get("/api/v1/collections/mo/start").await.json;
        assert_eq!(shown["followers"], 1);
        assert_eq!(ada.get("/api/v1/follows").await.json[0]["slug"], "start");
        assert_eq!(bob.get("/api/v1/follows").await.json, json!([]));
        assert!(ada.page("/account").await.text.contains("You follow"));
        assert!(ada.page("/collections/mo/start").await.text.contains("Follow no longer"));
        ada.send(Method::PUT, "/api/v1/collections/mo/none/follow", Value::Null).await.refused(404, "no collection 'mo/none'");

        save(&["acme/tester", "acme/linter"]).await;
        // Twice in a day is one letter; the order alone is nothing new.
        save(&["acme/linter", "acme/tester", "acme/writer"]).await;
        let letters = || async { sqlx::query_as::<_, (String, String, String)>(
            "SELECT recipient, subject, body FROM mails WHERE subject LIKE 'New in%' ORDER BY id")
            .fetch_all(market.app.db.read()).await.unwrap() };
        let first = letters().await;
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].0.as_str(), first[0].1.as_str()), ("ada@example.org", "New in To start with"));
        assert!(first[0].2.contains("acme/tester") && !first[0].2.contains("acme/linter"), "{}", first[0].2);
        assert!(first[0].2.contains("/collections/mo/start"), "{}", first[0].2);
        market.clock.advance(86_400_000);
        save(&["acme/linter", "acme/tester"]).await;
        assert_eq!(letters().await.len(), 1);
        save(&["acme/linter", "acme/tester", "acme/writer"]).await;
        assert_eq!(letters().await.len(), 2);
        // A collection that goes takes its followers along.
        mo.send(Method::DELETE, "/api/v1/collections/mo/start", Value::Null).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(ada.get("/api/v1/follows").await.json, json!([]));
    }
}

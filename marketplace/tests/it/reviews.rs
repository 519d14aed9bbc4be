//! Reviews: who may write them, and what they add up to.

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::on_both;

on_both! {
    async fn one_review_each_and_only_after_an_install(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        market.publish(&acme, &mo, "acme/linter", "1.0.0").await;
        let ada = market.person("ada").await;
        ada.review("acme/linter", 5, "Good").await.refused(403, "install the agent first");
        ada.install("acme/linter", None).await.expect(StatusCode::OK);
        ada.review("acme/linter", 0, "").await.refused(400, "stars is 0; use 1 to 5");
        ada.review("acme/linter", 6, "").await.refused(400, "stars is 6; use 1 to 5");
        ada.review("acme/linter", 5, &"x".repeat(5_001)).await.refused(400, "longer than 5000");
        acme.install("acme/linter", None).await.expect(StatusCode::OK);
        acme.review("acme/linter", 5, "Best ever").await.refused(403, "nobody reviews agents of their own");
        ada.review("acme/linter", 5, "Good").await.expect(StatusCode::OK);
        ada.review("acme/linter", 2, "It broke").await.expect(StatusCode::OK);
        let agent = ada.get("/api/v1/agents/acme/linter").await.json;
        assert_eq!((&agent["review_count"], &agent["histogram"]), (&json!(1), &json!([0, 1, 0, 0, 0])));
        let reviews = ada.get("/api/v1/agents/acme/linter/reviews").await.json;
        assert_eq!(reviews.as_array().unwrap().len(), 1);
        assert_eq!((&reviews[0]["text"], &reviews[0]["version"]), (&json!("It broke"), &json!("1.0.0")));
        let path = "/api/v1/agents/acme/linter/reviews";
        ada.send(Method::DELETE, path, Value::Null).await.expect(StatusCode::NO_CONTENT);
        ada.send(Method::DELETE, path, Value::Null).await.refused(404, "you have no review");
        assert_eq!(ada.get("/api/v1/agents/acme/linter").await.json["review_count"], 0);
        ada.review("acme/linter", 4, "Mended").await.expect(StatusCode::OK);
        assert_eq!(ada.get("/api/v1/agents/acme/linter").await.json["histogram"], json!([0, 0, 0, 1, 0]));
    }

    async fn votes_replies_and_reports(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let evil = market.person_with("evil", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        market.publish(&acme, &mo, "acme/linter", "1.0.0").await;
        let (ada, bob) = (market.person("ada").await, market.person("bob").await);
        for who in [&ada, &bob] {
            who.install("acme/linter", None).await.expect(StatusCode::OK);
        }
        let first = ada.review("acme/linter", 1, "Buy my pills").await.json["id"].as_str().unwrap().to_string();
        bob.review("acme/linter", 5, "Fine").await.expect(StatusCode::OK);
        let vote = format!("/api/v1/reviews/{first}/vote");
        ada.send(Method::PUT, &vote, Value::Null).await.refused(403, "a review of their own");
        bob.send(Method::PUT, &vote, Value::Null).await.expect(StatusCode::NO_CONTENT);
        bob.send(Method::PUT, &vote, Value::Null).await.expect(StatusCode::NO_CONTENT);
        let list = |who: &crate::market::Person| { let who = who.clone(); async move { who.get("/api/v1/agents/acme/linter/reviews").await.json } };
        assert_eq!(list(&bob).await[0]["helpful"], 1, "twice counts once, and the helpful one comes first");
        bob.send(Method::DELETE, &vote, Value::Null).await.expect(StatusCode::NO_CONTENT);
        bob.send(Method::DELETE, &vote, Value::Null).await.expect(StatusCode::NO_CONTENT);
        let reply = format!("/api/v1/reviews/{first}/reply");
        evil.send(Method::PUT, &reply, json!({ "text": "Hi" })).await.refused(404, "of an agent of yours");
        acme.send(Method::PUT, &reply, json!({ "text": "We sell none." })).await.expect(StatusCode::NO_CONTENT);
        let report = format!("/api/v1/reports/review/{first}");
        bob.send(Method::POST, &report, json!({ "reason": "" })).await.refused(400, "say why");
        bob.send(Method::POST, &report, json!({ "reason": "Spam" })).await.expect(StatusCode::NO_CONTENT);
        bob.send(Method::POST, &report, json!({ "reason": "Spam!" })).await.expect(StatusCode::NO_CONTENT);
        bob.get("/api/v1/reports").await.refused(403, "needs the role moderator");
        let open = mo.get("/api/v1/reports").await.json;
        assert_eq!((open.as_array().unwrap().len(), &open[0]["shown"]), (1, &json!("Buy my pills")));
        let decide = format!("/api/v1/reports/{}", open[0]["id"].as_str().unwrap());
        mo.send(Method::POST, &decide, json!({ "uphold": true })).await.expect(StatusCode::NO_CONTENT);
        mo.send(Method::POST, &decide, json!({ "uphold": true })).await.refused(404, "no open report");
        assert_eq!(list(&bob).await.as_array().unwrap().len(), 1);
        assert_eq!(list(&ada).await.as_array().unwrap().len(), 2, "its author sees that it is hidden");
        assert_eq!(market.stranger().get("/api/v1/agents/acme/linter").await.json["review_count"], 1);
        ada.review("acme/linter", 1, "Again").await.refused(403, "a moderator hid your review");
    }
}

//! Categories, collections, the registry's subtree, the description of the API.

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::market::Market;
use crate::on_both;

on_both! {
    async fn collections_hold_agents_in_order_and_install_them_all(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        for agent in ["acme/linter", "acme/tester"] {
            market.publish(&acme, &mo, agent, "1.0.0").await;
        }
        let ada = market.person("ada").await;
        let mut new = json!({ "slug": "start", "title": "To start with",
            "agents": [{ "agent": "acme/tester", "note": "First" }, { "agent": "acme/linter" }] });
        ada.send(Method::PUT, "/api/v1/collections", new.clone()).await.expect(StatusCode::NO_CONTENT);
        let got = market.stranger().get("/api/v1/collections/ada/start").await.expect(StatusCode::OK).json;
        assert_eq!((&got["agents"][0]["agent"]["name"], &got["agents"][1]["agent"]["name"]), (&json!("tester"), &json!("linter")));
        new["curated"] = json!(true);
        ada.send(Method::PUT, "/api/v1/collections", new.clone()).await.refused(403, "needs the role moderator");
        mo.send(Method::PUT, "/api/v1/collections", new.clone()).await.expect(StatusCode::NO_CONTENT);
        let house = market.stranger().get("/api/v1/collections").await.json;
        assert_eq!((house.as_array().unwrap().len(), &house[0]["owner"]), (1, &json!("mo")));
        new["agents"] = json!([{ "agent": "acme/none" }]);
        ada.send(Method::PUT, "/api/v1/collections", new).await.refused(403, "moderator");
        let all = ada.send(Method::POST, "/api/v1/collections/mo/start/install", Value::Null).await.expect(StatusCode::OK).json;
        assert_eq!((all["installed"].as_array().unwrap().len(), &all["failed"]), (2, &json!([])));
        ada.send(Method::DELETE, "/api/v1/collections/mo/start", Value::Null).await.refused(404, "you have no collection");
        ada.send(Method::DELETE, "/api/v1/collections/ada/start", Value::Null).await.expect(StatusCode::NO_CONTENT);
        market.stranger().get("/api/v1/collections/ada/start").await.refused(404, "no collection 'ada/start'");
    }

    async fn clients_of_the_mcp_registry_find_the_agents(market: Market) {
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        for version in ["1.0.0", "1.1.0"] {
            market.publish(&acme, &mo, "acme/linter", version).await;
        }
        let nobody = market.stranger();
        let list = nobody.get("/v0.1/servers?search=linter&limit=10").await.expect(StatusCode::OK).json;
        assert_eq!(list["metadata"]["count"], 1);
        let name = list["servers"][0]["server"]["name"].as_str().unwrap();
        assert_eq!(name, "local.marketplace.acme/linter");
        let path = format!("/v0.1/servers/{}/versions", name.replace('/', "%2F"));
        let versions = nobody.get(&path).await.expect(StatusCode::OK).json;
        assert_eq!(versions["servers"][0]["server"]["version"], "1.1.0");
        let latest = nobody.get(&format!("{path}/latest")).await.expect(StatusCode::OK).json;
        let official = &latest["_meta"]["io.modelcontextprotocol.registry/official"];
        assert_eq!((&official["status"], &official["isLatest"]), (&json!("active"), &json!(true)));
        let url = latest["server"]["packages"][0]["identifier"].as_str().unwrap();
        assert_eq!(nobody.get(url).await.status, StatusCode::OK);
        let missing = nobody.get(&format!("{path}/9.9.9")).await.expect(StatusCode::NOT_FOUND).json;
        assert!(missing["error"].as_str().unwrap().contains("has no version 9.9.9"));
        let missing = nobody.get("/v0.1/servers/com.example%2Fx/versions").await.expect(StatusCode::NOT_FOUND).json;
        assert_eq!(missing["error"], "Server com.example/x not found");
    }
}

/// The description is what programs are written against: a change of it is looked at here first.
#[tokio::test]
async fn the_api_is_as_described() {
    let market = Market::start().await;
    let served = market.stranger().get("/api/openapi.json").await.expect(StatusCode::OK).json;
    assert_eq!(served["openapi"], "3.1.0");
    let mut lines = Vec::new();
    for (path, methods) in served["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let codes: Vec<&str> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
            let body = operation["requestBody"]["content"].as_object().map(|c| c.keys().next().unwrap().as_str());
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters: Vec<&str> = parameters.map(|p| p["name"].as_str().unwrap()).collect();
            lines.push(format!(
                "{} {path} {} body:{} -> {}",
                method.to_uppercase(),
                parameters.join(","),
                body.unwrap_or("-"),
                codes.join(",")
            ));
        }
    }
    let text = lines.join("\n") + "\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.txt");
    if std::env::var_os("MILLSTREAM_COMPLETE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, pinned, "the API changed: if it is meant, run `make complete` and review the diff");
}

//! What somebody with bad intent tries: another account's ids at every endpoint that the API's description has, tokens that are
//! for something else, forms sent from another site, guesses, floods, bad packages. None succeeds, each is told why, and the
//! audit log says what was done.

mod audit;
mod floods;
mod forms;

use std::collections::{BTreeMap, BTreeSet};

use millstream_marketplace::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::market::{Answer, Market, PASSWORD, Person, manifest, package};
use crate::payments::Shop;
use crate::stripe::Stripe;

/// What an account gets that is not the owner of what it names.
#[derive(Debug, Clone, Copy)]
enum Gets {
    /// The same as everybody, signed in or not.
    All,
    /// Its own, or something of its own made: nothing of the owner's is in it, and nothing of the owner's changes.
    Own,
    /// This status, with these words.
    Refused(u16, &'static str),
}
use Gets::{All, Own, Refused};

/// Every endpoint of the API. One that is new is not here, and a test says so.
const ENDPOINTS: [(&str, Gets); 59] = [
    ("GET /api/v1/account", Own),
    ("PUT /api/v1/account/password", Refused(403, "the current password is another")),
    ("POST /api/v1/account/publisher", Own),
    ("POST /api/v1/accounts", Refused(409, "choose another, or sign in")),
    ("PUT /api/v1/accounts/{handle}/role", Refused(403, "needs the role admin")),
    ("GET /api/v1/agents", All),
    ("DELETE /api/v1/agents/{namespace}/{name}", Refused(403, "needs the role moderator")),
    ("GET /api/v1/agents/{namespace}/{name}", All),
    ("PATCH /api/v1/agents/{namespace}/{name}", Refused(404, "you have no agent 'acme/linter'")),
    ("POST /api/v1/agents/{namespace}/{name}/buy", Own),
    ("DELETE /api/v1/agents/{namespace}/{name}/install", Own),
    ("POST /api/v1/agents/{namespace}/{name}/install", Refused(402, "buy it at")),
    ("PUT /api/v1/agents/{namespace}/{name}/price", Refused(404, "you have no agent 'acme/linter'")),
    ("DELETE /api/v1/agents/{namespace}/{name}/reviews", Refused(404, "you have no review of this agent")),
    ("GET /api/v1/agents/{namespace}/{name}/reviews", All),
    ("PUT /api/v1/agents/{namespace}/{name}/reviews", Refused(403, "install the agent first")),
    ("POST /api/v1/agents/{namespace}/{name}/rollback", Refused(402, "buy it at")),
    ("DELETE /api/v1/agents/{namespace}/{name}/versions/{version}/yank", Refused(404, "you have no agent")),
    ("POST /api/v1/agents/{namespace}/{name}/versions/{version}/yank", Refused(404, "you have no agent")),
    ("GET /api/v1/audit", Refused(403, "needs the role admin")),
    ("GET /api/v1/categories", All),
    ("GET /api/v1/collections", All),
    ("PUT /api/v1/collections", Own),
    ("DELETE /api/v1/collections/{owner}/{slug}", Refused(404, "you have no collection 'ada/mine'")),
    ("GET /api/v1/collections/{owner}/{slug}", All),
    ("DELETE /api/v1/collections/{owner}/{slug}/follow", Own),
    ("PUT /api/v1/collections/{owner}/{slug}/follow", Own),
    ("POST /api/v1/collections/{owner}/{slug}/install", Own),
    ("GET /api/v1/follows", Own),
    ("GET /api/v1/installs", Own),
    ("GET /api/v1/keys/{keyid}", All),
    ("GET /api/v1/namespaces", Own),
    ("POST /api/v1/namespaces", Refused(403, "it is kept for that account")),
    ("GET /api/v1/orders", Own),
    ("POST /api/v1/orders/{id}/cancel", Refused(404, "no subscription")),
    ("POST /api/v1/orders/{id}/refund", Refused(404, "no paid order")),
    ("POST /api/v1/payouts/connect", Own),
    ("POST /api/v1/publish", Refused(403, "the namespace 'acme' is not yours")),
    ("GET /api/v1/queue", Refused(403, "needs the role moderator")),
    ("POST /api/v1/queue/{id}", Refused(403, "needs the role moderator")),
    ("GET /api/v1/queue/{id}/package", Refused(403, "needs the role moderator")),
    ("GET /api/v1/reports", Refused(403, "needs the role moderator")),
    ("POST /api/v1/reports/{id}", Refused(403, "needs the role moderator")),
    ("POST /api/v1/reports/{subject}/{id}", Own),
    ("GET /api/v1/revenue", Own),
    ("PUT /api/v1/reviews/{id}/reply", Refused(404, "of an agent of yours")),
    ("DELETE /api/v1/reviews/{id}/vote", Own),
    ("PUT /api/v1/reviews/{id}/vote", Own),
    ("GET /api/v1/seats", Own),
    ("POST /api/v1/seats", Own),
    ("DELETE /api/v1/seats/{handle}", Refused(404, "has none of your seats")),
    ("PUT /api/v1/seats/{handle}", Refused(409, "all 0 seats are given")),
    ("DELETE /api/v1/session", Own),
    ("POST /api/v1/session", Refused(401, "do not fit")),
    ("GET /api/v1/submissions", Own),
    ("GET /api/v1/tokens", Own),
    ("POST /api/v1/tokens", Own),
    ("DELETE /api/v1/tokens/{id}", Refused(404, "you have no token")),
    ("GET /api/v1/updates", Own),
];
/// Answered by Millstream, which is not there.
const USAGE: &str = "GET /api/v1/usage";

/// One operation of the description.
struct Operation {
    method: Method,
    path: String,
    /// None: for everybody. Else the scopes of a token that may; none at all where only a session may.
    needs: Option<Vec<String>>,
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

async fn operations(market: &Market) -> Vec<Operation> {
    let described = market.stranger().get("/api/openapi.json").await.expect(StatusCode::OK).json;
    let mut all = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let needs = operation["security"].as_array().map(|ways| {
                let tokens = ways.iter().filter_map(|way| way["token"].as_array());
                tokens.flatten().map(|scope| scope.as_str().unwrap().to_string()).collect()
            });
            let method = method.to_uppercase().parse().unwrap();
            all.push(Operation { method, path: path.clone(), needs });
        }
    }
    all
}

/// Accounts that have something, and one that wants it.
struct World {
    shop: Shop,
    evil: Person,
    /// Parameters of paths -> the owner's.
    ids: BTreeMap<&'static str, String>,
    /// What nobody else may read.
    secrets: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let shop = Shop::open(None).await;
        let Shop { market, stripe, acme, mo, ada, .. } = &shop;
        let bob = market.person("bob").await;
        let (order, session) = shop.buy(ada, "acme/linter").await;
        let seats = json!({ "tier": "team", "seats": 2 });
        let paid = ada.send(Method::POST, "/api/v1/seats", seats).await.expect(StatusCode::OK).json;
        stripe.pay(&session);
        stripe.pay(&Stripe::session_of(paid["url"].as_str().unwrap()));
        shop.deliver().await;
        ada.send(Method::PUT, "/api/v1/seats/bob", Value::Null).await.expect(StatusCode::NO_CONTENT);
        ada.install("acme/linter", None).await.expect(StatusCode::OK);
        let review = ada.review("acme/linter", 4, "Fine").await.expect(StatusCode::OK).json;
        let review = review["id"].as_str().unwrap().to_string();
        let new = json!({ "slug": "mine", "title": "Mine", "agents": [{ "agent": "acme/linter" }] });
        ada.send(Method::PUT, "/api/v1/collections", new).await.expect(StatusCode::NO_CONTENT);
        let report = format!("/api/v1/reports/review/{review}");
        bob.send(Method::POST, &report, json!({ "reason": "Spam" })).await.expect(StatusCode::NO_CONTENT);
        let report = mo.get("/api/v1/reports").await.json[0]["id"].as_str().unwrap().to_string();
        ada.with_token(&["install"]).await;
        let token = ada.get("/api/v1/tokens").await.json[0]["id"].as_str().unwrap().to_string();
        acme.upload(package(&manifest("acme/linter", "1.1.0"), &[])).await.expect(StatusCode::CREATED);
        let waiting = mo.get("/api/v1/queue").await.json[0].clone();
        let key = ada.install("acme/linter", None).await.json["key_url"].as_str().unwrap().to_string();
        let evil = market.person_with("evil", Role::Publisher).await;
        let connect = shop.connect.clone();
        let secrets = vec![
            order.clone(),
            paid["order"].as_str().unwrap().to_string(),
            token.clone(),
            report.clone(),
            waiting["id"].as_str().unwrap().to_string(),
            waiting["sha256"].as_str().unwrap().to_string(),
            connect,
            "@example.org".to_string(),
        ];
        let ids = BTreeMap::from([
            ("namespace", "acme".to_string()),
            ("name", "linter".to_string()),
            ("version", "1.0.0".to_string()),
            ("owner", "ada".to_string()),
            ("slug", "mine".to_string()),
            ("subject", "review".to_string()),
            ("handle", "bob".to_string()),
            ("keyid", key.rsplit('/').next().unwrap().to_string()),
            ("tokens", token),
            ("orders", order),
            ("subscription", paid["order"].as_str().unwrap().to_string()),
            ("queue", waiting["id"].as_str().unwrap().to_string()),
            ("reports", report),
            ("review", review.clone()),
            ("reviews", review),
        ]);
        Self { shop, evil, ids, secrets }
    }

    /// The path with the owner's ids in it: `{id}` is of what the part before it names.
    fn path(&self, path: &str) -> String {
        let mut before = String::new();
        let mut parts = Vec::new();
        for part in path.split('/') {
            let known = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')).map(|name| {
                let of = if path.ends_with("/cancel") { "subscription" } else { before.as_str() };
                let name = if name == "id" { of } else { name };
                self.ids.get(name).unwrap_or_else(|| panic!("say which {name} of {path} is another account's")).clone()
            });
            before = known.unwrap_or_else(|| part.to_string());
            parts.push(before.clone());
        }
        parts.join("/")
    }

    /// A body that would be right if it came from the owner.
    fn body(operation: &str) -> Value {
        match operation {
            "POST /api/v1/accounts" => {
                json!({ "handle": "ada", "email": "ada@example.org", "password": PASSWORD })
            }
            "PUT /api/v1/account/password" => json!({ "current": "a wrong password", "new": "0123456789" }),
            "PUT /api/v1/accounts/{handle}/role" => json!({ "role": "admin" }),
            "PATCH /api/v1/agents/{namespace}/{name}" => json!({ "summary": "It is mine now, all of it." }),
            "PUT /api/v1/agents/{namespace}/{name}/price" => json!({ "kind": "free" }),
            "PUT /api/v1/agents/{namespace}/{name}/reviews" => json!({ "stars": 1, "text": "Bad" }),
            "PUT /api/v1/collections" => json!({ "slug": "mine", "title": "Stolen", "agents": [] }),
            "POST /api/v1/namespaces" => json!({ "name": "acme" }),
            "POST /api/v1/queue/{id}" => json!({ "approve": true, "reason": "fine" }),
            "POST /api/v1/reports/{id}" => json!({ "uphold": true }),
            "PUT /api/v1/reviews/{id}/reply" => json!({ "text": "We are sorry." }),
            "POST /api/v1/seats" => json!({ "tier": "team", "seats": 1 }),
            "POST /api/v1/session" => json!({ "email": "ada@example.org", "password": "a wrong password" }),
            "POST /api/v1/tokens" => json!({ "name": "t", "scopes": ["read"], "days": 1 }),
            _ if operation.starts_with("GET") => Value::Null,
            _ => json!({ "reason": "because" }),
        }
    }

    /// What the operation answers to `person` about the owner's things.
    async fn ask(&self, person: &Person, operation: &Operation) -> Answer {
        let (name, path) = (operation.name(), self.path(&operation.path));
        match name.as_str() {
            "POST /api/v1/publish" => person.upload(package(&manifest("acme/linter", "9.0.0"), &[])).await,
            // A body with a field too many is refused for that alone.
            "POST /api/v1/agents/{namespace}/{name}/install" | "POST /api/v1/agents/{namespace}/{name}/rollback" => {
                person.send(operation.method.clone(), &path, json!({})).await
            }
            _ => person.send(operation.method.clone(), &path, Self::body(&name)).await,
        }
    }

    /// All that the owners see of their own.
    async fn state(&self) -> Vec<(String, Value)> {
        let Shop { acme, ada, mo, .. } = &self.shop;
        let mut all = Vec::new();
        let own = ["account", "installs", "orders", "seats", "tokens", "updates", "collections/ada/mine"];
        let publisher = ["account", "submissions", "revenue", "namespaces", "tokens", "agents/acme/linter/reviews"];
        let asked = own.map(|p| (ada, p)).into_iter().chain(publisher.map(|p| (acme, p)));
        for (person, path) in asked.chain([(mo, "queue"), (mo, "agents/acme/linter"), (mo, "agents/acme/tester")]) {
            let answer = person.get(&format!("/api/v1/{path}")).await.expect(StatusCode::OK).json;
            all.push((format!("{} {path}", person.handle), answer));
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_endpoint_gives_or_changes_what_is_anothers() {
    let world = World::new().await;
    let operations = operations(&world.shop.market).await;
    let known: BTreeMap<&str, Gets> = ENDPOINTS.into_iter().collect();
    let described: BTreeSet<String> = operations.iter().map(Operation::name).filter(|n| n != USAGE).collect();
    let listed: BTreeSet<String> = known.keys().map(ToString::to_string).collect();
    assert_eq!(described, listed, "each endpoint says here what another account gets from it");
    let before = world.state().await;
    // Signing out last: a session is needed for the others.
    let (last, rest): (Vec<&Operation>, Vec<&Operation>) =
        operations.iter().partition(|o| o.name() == "DELETE /api/v1/session");
    for operation in rest.into_iter().chain(last) {
        let name = operation.name();
        let answer = world.ask(&world.evil, operation).await;
        let gets = if name == USAGE { Refused(503, "usage comes from Millstream") } else { known[name.as_str()] };
        match gets {
            All | Own => assert!(answer.status.is_success(), "{name}: {} {}", answer.status, answer.text),
            Refused(status, words) => {
                let said = answer.json["detail"].as_str().unwrap_or_default();
                assert_eq!((answer.status.as_u16(), said.contains(words)), (status, true), "{name}: {}", answer.text);
                assert!(answer.header("content-type").starts_with("application/problem+json"), "{name}");
            }
        }
        if let All = gets {
            let anybody = world.ask(&world.shop.market.stranger(), operation).await;
            assert!(anybody.status.is_success() && operation.needs.is_none(), "{name} is for all");
        }
        // The answers about themselves have their own address.
        let told = answer.text.replace("evil@example.org", "");
        let asked = world.path(&operation.path);
        let leaked = world.secrets.iter().filter(|secret| told.contains(secret.as_str()) && !asked.contains(*secret));
        let leaked: Vec<_> = leaked.collect();
        assert!(leaked.is_empty(), "{name} tells {leaked:?}");
    }
    // Votes are for all, and following is too.
    assert_eq!(without_counts(world.state().await), without_counts(before));
}

fn without_counts(state: Vec<(String, Value)>) -> String {
    let text = serde_json::to_string(&state).unwrap();
    text.replace("\"helpful\":1", "\"helpful\":0").replace("\"followers\":1", "\"followers\":0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_nobody_or_has_the_wrong_token_is_told_so() {
    let world = World::new().await;
    let market = &world.shop.market;
    let scopes = ["read", "install", "review", "publish", "moderate"];
    let mut by_scope = BTreeMap::new();
    for scope in scopes {
        let others: Vec<&str> = scopes.into_iter().filter(|s| *s != scope).collect();
        by_scope.insert(scope, world.shop.mo.with_token(&others).await);
    }
    let all_scopes = world.shop.mo.with_token(&scopes).await;
    for operation in operations(market).await {
        let name = operation.name();
        let Some(needs) = &operation.needs else { continue };
        if name == "DELETE /api/v1/session" {
            continue;
        }
        let nobody = world.ask(&market.stranger(), &operation).await;
        assert!(nobody.header("www-authenticate").starts_with("Bearer"), "{name}");
        assert_eq!(nobody.status, 401, "{name}: {}", nobody.text);
        assert!(nobody.text.contains("this needs an account"), "{name}: {}", nobody.text);
        let wrong = world.ask(&market.stranger().with_secret("mkt_wrong"), &operation).await;
        assert_eq!(wrong.status, 401, "{name}: {}", wrong.text);
        let (with, words) = match needs.first() {
            Some(scope) => (&by_scope[scope.as_str()], format!("the token has not the scope '{scope}'")),
            None => (&all_scopes, "a token cannot do this; sign in in a browser".to_string()),
        };
        let refused = world.ask(with, &operation).await;
        assert!(refused.status == 403 && refused.text.contains(&words), "{name}: {} {}", refused.status, refused.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_site_makes_a_browser_call_an_endpoint() {
    let world = World::new().await;
    let before = world.state().await;
    let Shop { market, acme, ada, mo, .. } = &world.shop;
    let mut tried = 0;
    for operation in operations(market).await.into_iter().filter(|o| o.method != Method::GET) {
        let path = world.path(&operation.path);
        for person in [acme, ada, mo] {
            for headers in [&[("sec-fetch-site", "cross-site")][..], &[("origin", "https://evil.example")], &[]] {
                let url = format!("{}{path}", market.url);
                let mut request =
                    person.client.request(operation.method.clone(), url).header("cookie", person.cookie());
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                // The one kind of body that a form of another site can send without asking.
                let request =
                    request.header("content-type", "text/plain").body(World::body(&operation.name()).to_string());
                person.run(request).await.refused(403, "does not come from a page of this marketplace");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(world.state().await, before);
}

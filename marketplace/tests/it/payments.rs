//! Buying and selling against a Stripe that moves no money, over real HTTP.

use std::collections::BTreeMap;

use millstream_marketplace::accounts::Role;
use millstream_marketplace::app::App;
use millstream_marketplace::clock::Clock;
use millstream_marketplace::config::Config;
use millstream_marketplace::payments;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::market::{Answer, Market, Person, START_MS};
use crate::stripe::{Stripe, WEBHOOK_SECRET, signature};

/// A marketplace that sells, its seller and a buyer.
pub struct Shop {
    pub market: Market,
    pub stripe: Stripe,
    pub acme: Person,
    pub mo: Person,
    pub ada: Person,
    pub connect: String,
}

async fn tell(market: &Market, event: &Value) -> Answer {
    let body = event.to_string();
    let header = signature(WEBHOOK_SECRET, market.clock.now_ms() / 1_000, body.as_bytes());
    let nobody = market.stranger();
    let request = nobody.client.post(format!("{}/webhooks/stripe", market.url));
    nobody.run(request.header("stripe-signature", header).body(body)).await
}

impl Shop {
    pub async fn open(database: Option<String>) -> Self {
        let stripe = Stripe::start().await;
        let config = stripe.config();
        let market = Market::start_with(|c| {
            c.stripe = Some(config);
            c.database_url = database;
        })
        .await;
        let acme = market.person_with("acme", Role::Publisher).await;
        let mo = market.person_with("mo", Role::Moderator).await;
        let ada = market.person("ada").await;
        market.publish(&acme, &mo, "acme/linter", "1.0.0").await;
        market.publish(&acme, &mo, "acme/tester", "1.0.0").await;
        let link = acme.send(Method::POST, "/api/v1/payouts/connect", Value::Null).await.expect(StatusCode::OK);
        let connect = link.json["url"].as_str().unwrap().rsplit('/').next().unwrap().to_string();
        let shop = Self { market, stripe, acme, mo, ada, connect };
        shop.price("acme/linter", "one_time", 2_000).await.refused(403, "connect an account for payouts first");
        shop.stripe.enable(&shop.connect);
        shop.deliver().await;
        shop.price("acme/linter", "one_time", 2_000).await.expect(StatusCode::NO_CONTENT);
        shop.price("acme/tester", "subscription", 999).await.expect(StatusCode::NO_CONTENT);
        shop
    }

    async fn price(&self, agent: &str, kind: &str, amount: i64) -> Answer {
        let body = json!({ "kind": kind, "amount_minor": amount, "currency": "usd" });
        self.acme.send(Method::PUT, &format!("/api/v1/agents/{agent}/price"), body).await
    }

    /// Tells everything new, in order.
    pub async fn deliver(&self) {
        for event in self.stripe.news() {
            tell(&self.market, &event).await.expect(StatusCode::OK);
        }
    }

    pub async fn buy(&self, who: &Person, agent: &str) -> (String, String) {
        let path = format!("/api/v1/agents/{agent}/buy");
        let checkout = who.send(Method::POST, &path, Value::Null).await.expect(StatusCode::OK).json;
        (checkout["order"].as_str().unwrap().to_string(), Stripe::session_of(checkout["url"].as_str().unwrap()))
    }

    async fn revenue(&self) -> Value {
        self.acme.get("/api/v1/revenue").await.expect(StatusCode::OK).json[0].clone()
    }
}

async fn balances(app: &App) -> BTreeMap<(String, String), i64> {
    let entries: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT entry, currency, CAST(sum(amount_minor) AS BIGINT) FROM ledger GROUP BY entry, currency",
    )
    .fetch_all(app.db.read())
    .await
    .unwrap();
    assert!(entries.iter().all(|(_, _, sum)| *sum == 0), "every entry has sum zero: {entries:?}");
    let mut all = payments::balances(app).await.unwrap();
    all.retain(|_, n| *n != 0);
    all
}

async fn bought_once(shop: Shop) {
    let Shop { market, stripe, ada, acme, .. } = &shop;
    ada.install("acme/linter", None).await.refused(402, "acme/linter costs 20.00 USD; buy it at http://");
    let (order, session) = shop.buy(ada, "acme/linter").await;
    assert_eq!(shop.buy(ada, "acme/linter").await, (order.clone(), session.clone()), "clicking twice buys once");
    assert_eq!(stripe.count("cs_"), 1);
    let intent = stripe.pay(&session);
    ada.install("acme/linter", None).await.refused(402, "buy it");
    assert!(ada.page(&format!("/checkout/{order}")).await.text.contains("Waiting for the payment"));
    shop.deliver().await;
    assert!(ada.page(&format!("/checkout/{order}")).await.text.contains("Thank you"));
    let offer = ada.install("acme/linter", None).await.expect(StatusCode::OK).json;
    ada.send(Method::POST, "/api/v1/agents/acme/linter/buy", Value::Null)
        .await
        .refused(409, "install acme/linter already");

    // The address of what is not free is good for an hour, for that package.
    let url = offer["download_url"].as_str().unwrap();
    let nobody = market.stranger();
    let got = nobody.get(url).await.expect(StatusCode::OK);
    assert_eq!(got.header("cache-control"), "private, no-store");
    nobody.get(url.split('?').next().unwrap()).await.refused(403, "is not signed or is over");
    let later = url.replace("until=1", "until=2");
    nobody.get(&later).await.refused(403, "is not signed or is over");
    market.clock.advance(3_601_000);
    nobody.get(url).await.refused(403, "is not signed or is over");

    // 15 % of 20.00.
    let revenue = shop.revenue().await;
    assert_eq!(
        (&revenue["gross_minor"], &revenue["fees_minor"], &revenue["net_minor"]),
        (&json!(2000), &json!(300), &json!(1700))
    );
    // Half is paid back, asked twice: once.
    let refund = format!("/api/v1/orders/{order}/refund");
    ada.send(Method::POST, &refund, json!({})).await.refused(404, "no paid order");
    acme.send(Method::POST, &refund, json!({ "amount_minor": 2001 })).await.refused(400, "2000 can be paid back");
    for _ in 0..2 {
        acme.send(Method::POST, &refund, json!({ "amount_minor": 1000 })).await.expect(StatusCode::ACCEPTED);
    }
    shop.deliver().await;
    let revenue = shop.revenue().await;
    assert_eq!(
        (&revenue["refunds_minor"], &revenue["fees_minor"], &revenue["net_minor"]),
        (&json!(1000), &json!(150), &json!(850))
    );
    ada.install("acme/linter", None).await.expect(StatusCode::OK);
    stripe.payout(&shop.connect, 500, "paid");
    stripe.payout(&shop.connect, 100, "failed");
    shop.deliver().await;
    let revenue = shop.revenue().await;
    assert_eq!((&revenue["paid_out_minor"], &revenue["next_payout_minor"]), (&json!(500), &json!(350)));
    // The rest is paid back: what was bought is over.
    stripe.pay_back(&intent, 1_000);
    shop.deliver().await;
    ada.install("acme/linter", None).await.refused(402, "buy it");
    let revenue = shop.revenue().await;
    assert_eq!((&revenue["net_minor"], &revenue["fees_minor"]), (&json!(0), &json!(0)));
    balances(&market.app).await;
    let page = acme.page("/dashboard").await.expect(StatusCode::OK).text;
    assert!(page.contains("20.00 USD") && page.contains("refunded"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_bought_installed_and_paid_back_sqlite() {
    bought_once(Shop::open(None).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_bought_installed_and_paid_back_postgres() {
    bought_once(Shop::open(Some(crate::postgres::database().await)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_lasts_as_long_as_it_is_paid() {
    let shop = Shop::open(None).await;
    let (_, session) = shop.buy(&shop.ada, "acme/tester").await;
    let subscription = shop.stripe.pay(&session);
    shop.deliver().await;
    shop.ada.install("acme/tester", None).await.expect(StatusCode::OK);
    assert_eq!(shop.revenue().await["mrr_minor"], 999);
    // A new price is for new buyers.
    shop.price("acme/tester", "subscription", 5_000).await.expect(StatusCode::NO_CONTENT);
    shop.stripe.renew(&subscription, true);
    shop.deliver().await;
    let revenue = shop.revenue().await;
    assert_eq!((&revenue["gross_minor"], &revenue["fees_minor"]), (&json!(1998), &json!(298)));
    shop.stripe.renew(&subscription, false);
    shop.deliver().await;
    shop.ada.install("acme/tester", None).await.refused(402, "disputed or overdue");
    shop.stripe.renew(&subscription, true);
    shop.deliver().await;
    shop.ada.install("acme/tester", None).await.expect(StatusCode::OK);
    // Cancelled: used until what is paid is over.
    let orders = shop.ada.get("/api/v1/orders").await.json;
    let cancel = format!("/api/v1/orders/{}/cancel", orders[0]["id"].as_str().unwrap());
    shop.ada.send(Method::POST, &cancel, Value::Null).await.expect(StatusCode::ACCEPTED);
    shop.deliver().await;
    let orders = shop.ada.get("/api/v1/orders").await.json;
    assert!(orders[0]["ends_at"].is_i64() && orders[0]["subscription"] == "active", "{orders}");
    shop.ada.send(Method::POST, &cancel, Value::Null).await.refused(404, "of yours that goes on");
    shop.ada.install("acme/tester", None).await.expect(StatusCode::OK);
    shop.stripe.cancel(&subscription);
    shop.deliver().await;
    shop.ada.install("acme/tester", None).await.refused(402, "costs 50.00 USD a month");
    assert_eq!(shop.revenue().await["mrr_minor"], 0);
    balances(&shop.market.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispute_holds_what_was_bought_until_it_is_decided() {
    let shop = Shop::open(None).await;
    let (_, session) = shop.buy(&shop.ada, "acme/linter").await;
    let intent = shop.stripe.pay(&session);
    shop.stripe.dispute(&intent, "needs_response");
    shop.deliver().await;
    shop.ada.install("acme/linter", None).await.refused(402, "disputed or overdue");
    assert_eq!(shop.revenue().await["disputes_minor"], 2000);
    shop.stripe.dispute(&intent, "won");
    shop.deliver().await;
    shop.ada.install("acme/linter", None).await.expect(StatusCode::OK);
    assert_eq!(shop.revenue().await["net_minor"], 1700);
    let bob = shop.market.person("bob").await;
    let (_, session) = shop.buy(&bob, "acme/linter").await;
    let intent = shop.stripe.pay(&session);
    shop.stripe.dispute(&intent, "lost");
    shop.deliver().await;
    bob.install("acme/linter", None).await.refused(402, "buy it");
    assert_eq!(shop.revenue().await["net_minor"], 1700);
    balances(&shop.market.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seats_of_a_tier_are_given_and_taken() {
    let shop = Shop::open(None).await;
    let Shop { ada, stripe, market, .. } = &shop;
    let bob = market.person("bob").await;
    market.person("cleo").await;
    ada.send(Method::PUT, "/api/v1/seats/bob", Value::Null).await.refused(409, "all 0 seats are given");
    ada.send(Method::POST, "/api/v1/seats", json!({ "tier": "gold", "seats": 1 }))
        .await
        .refused(400, "team or enterprise");
    ada.send(Method::POST, "/api/v1/seats", json!({ "tier": "team", "seats": 0 })).await.refused(400, "use 1 to 1000");
    let checkout = ada.send(Method::POST, "/api/v1/seats", json!({ "tier": "team", "seats": 2 })).await.json;
    let subscription = stripe.pay(&Stripe::session_of(checkout["url"].as_str().unwrap()));
    shop.deliver().await;
    ada.send(Method::PUT, "/api/v1/seats/bob", Value::Null).await.expect(StatusCode::NO_CONTENT);
    ada.send(Method::PUT, "/api/v1/seats/cleo", Value::Null).await.refused(409, "all 2 seats are given");
    assert_eq!(bob.get("/api/v1/account").await.json["tier"], "team");
    assert_eq!(ada.get("/api/v1/seats").await.json, json!({ "tier": "team", "seats": 2, "given_to": ["ada", "bob"] }));
    // One seat less: the newest member goes, the one who pays stays.
    stripe.set_seats(&subscription, 1);
    shop.deliver().await;
    assert_eq!(bob.get("/api/v1/account").await.json["tier"], "free");
    assert_eq!(ada.get("/api/v1/account").await.json["tier"], "team");
    stripe.cancel(&subscription);
    shop.deliver().await;
    assert_eq!(ada.get("/api/v1/account").await.json["tier"], "free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_repeated_webhooks_do_nothing() {
    let shop = Shop::open(None).await;
    let (order, session) = shop.buy(&shop.ada, "acme/linter").await;
    let market = &shop.market;
    let now = market.clock.now_ms() / 1_000;
    let forged =
        json!({ "id": "evt_forged", "type": "checkout.session.completed", "created": now, "data": { "object": {
        "id": session, "mode": "payment", "payment_status": "paid", "client_reference_id": order, "amount_total": 2000,
        "currency": "usd", "payment_intent": "pi_forged" } } })
        .to_string();
    let good = signature(WEBHOOK_SECRET, now, forged.as_bytes());
    let hex = good.split("v1=").nth(1).unwrap().to_string();
    let mut headers: Vec<Option<String>> = vec![
        None,
        Some(String::new()),
        Some("t=,v1=".into()),
        Some(format!("t={now}")),
        Some(format!("v1={hex}")),
        Some(format!("t={now},v1=")),
        Some(format!("t={now},v0={hex}")),
        Some(format!("t={now},v1={}", hex.to_uppercase() + "0")),
        Some(format!("t={now},v1={}", "0".repeat(64))),
        Some(format!("t=-{now},v1={hex}")),
        Some(format!("t={now}0,v1={hex}")),
        Some(format!("t={},v1={hex}", now + 1)),
        Some(format!("t=99999999999999999999,v1={hex}")),
        Some("t=x,v1=y".into()),
        Some("sha256=abc".into()),
    ];
    // Other secrets; the right one at the wrong time.
    for secret in ["", "whsec_other", "sk_test_1", "whsec_tes", "whsec_test2", "WHSEC_TEST"] {
        headers.push(Some(signature(secret, now, forged.as_bytes())));
    }
    for off in [301, 302, 3_600, 86_400, -301, -3_600] {
        headers.push(Some(signature(WEBHOOK_SECRET, now - off, forged.as_bytes())));
    }
    // The signature of another body.
    for other in [
        "",
        "{}",
        forged.replace("2000", "1").as_str(),
        (forged.clone() + " ").as_str(),
        forged.to_uppercase().as_str(),
    ] {
        headers.push(Some(signature(WEBHOOK_SECRET, now, other.as_bytes())));
    }
    // A digit changed.
    for at in (0..64).step_by(3) {
        let mut bad = hex.clone().into_bytes();
        bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
        headers.push(Some(format!("t={now},v1={}", String::from_utf8(bad).unwrap())));
    }
    assert!(headers.len() >= 50, "{}", headers.len());
    let nobody = market.stranger();
    for header in headers {
        let mut request = nobody.client.post(format!("{}/webhooks/stripe", market.url)).body(forged.clone());
        if let Some(header) = &header {
            request = request.header("stripe-signature", header);
        }
        let answer = nobody.run(request).await;
        assert_eq!(answer.status, 400, "{header:?}: {}", answer.text);
        assert!(answer.text.contains("signature does not hold"), "{header:?}: {}", answer.text);
    }
    shop.ada.install("acme/linter", None).await.refused(402, "buy it");
    let (events,): (i64,) = sqlx::query_as("SELECT count(*) FROM stripe_events WHERE id = 'evt_forged'")
        .fetch_one(market.app.db.read())
        .await
        .unwrap();
    assert_eq!(events, 0);

    // The real one, 20 times at once: one effect. Events of kinds that we do not know are taken and ignored.
    shop.stripe.pay(&session);
    let news = shop.stripe.news();
    let tellings = (0..20).flat_map(|_| &news).map(|event| tell(market, event));
    for answer in futures::future::join_all(tellings).await {
        answer.expect(StatusCode::OK);
    }
    assert_eq!(shop.revenue().await["gross_minor"], 2000);
    let (sold,): (i64,) = sqlx::query_as("SELECT count(*) FROM outbox WHERE event LIKE '%\"purchased\"%'")
        .fetch_one(market.app.db.read())
        .await
        .unwrap();
    assert_eq!(sold, 1);
    tell(market, &json!({ "id": "evt_new", "type": "price.created", "created": now, "data": { "object": {} } }))
        .await
        .expect(StatusCode::OK);
    tell(market, &json!({ "id": "evt_odd" })).await.refused(400, "the event has no type");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_webhook_told_is_asked_for_and_an_outage_is_told() {
    let shop = Shop::open(None).await;
    let (_, session) = shop.buy(&shop.ada, "acme/linter").await;
    let (_, monthly) = shop.buy(&shop.ada, "acme/tester").await;
    shop.stripe.pay(&session);
    shop.stripe.pay(&monthly);
    for _ in 0..120 {
        shop.stripe.enable(&shop.connect);
    }
    shop.ada.install("acme/linter", None).await.refused(402, "buy it");
    let missed = payments::reconcile(&shop.market.app).await.unwrap();
    assert_eq!(missed, 124, "over more than one page");
    assert_eq!(payments::reconcile(&shop.market.app).await.unwrap(), 0);
    for agent in ["acme/linter", "acme/tester"] {
        shop.ada.install(agent, None).await.expect(StatusCode::OK);
    }
    let before = balances(&shop.market.app).await;
    shop.deliver().await;
    assert_eq!(balances(&shop.market.app).await, before);
    shop.stripe.set_down(true);
    let bob = shop.market.person("bob").await;
    bob.send(Method::POST, "/api/v1/agents/acme/linter/buy", Value::Null)
        .await
        .refused(503, "Stripe does not answer now");
    shop.stripe.set_down(false);
    shop.buy(&bob, "acme/linter").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_touches_the_money_of_others() {
    let shop = Shop::open(None).await;
    let (order, session) = shop.buy(&shop.ada, "acme/linter").await;
    shop.stripe.pay(&session);
    shop.deliver().await;
    let evil = shop.market.person_with("evil", Role::Publisher).await;
    evil.send(Method::POST, &format!("/api/v1/orders/{order}/refund"), json!({})).await.refused(404, "no paid order");
    evil.page(&format!("/checkout/{order}")).await.expect(StatusCode::NOT_FOUND);
    let price = json!({ "kind": "free" });
    evil.send(Method::PUT, "/api/v1/agents/acme/linter/price", price).await.refused(404, "you have no agent");
    evil.send(Method::DELETE, "/api/v1/seats/ada", Value::Null).await.refused(404, "has none of your seats");
    assert_eq!(evil.get("/api/v1/revenue").await.json, json!([]));
    assert_eq!(evil.get("/api/v1/orders").await.json, json!([]));
    for bad in [
        ("monthly", 500, "usd", "use free, one_time or subscription"),
        ("one_time", 49, "usd", "use 50 to"),
        ("one_time", 500, "xyz", "use usd, eur, gbp or jpy"),
        ("one_time", -500, "usd", "use 50 to"),
    ] {
        let body = json!({ "kind": bad.0, "amount_minor": bad.1, "currency": bad.2 });
        shop.acme.send(Method::PUT, "/api/v1/agents/acme/linter/price", body).await.refused(400, bad.3);
    }
    // A moderator may pay back; a program may not buy.
    let program = shop.ada.with_token(&["install", "read", "review", "publish"]).await;
    program
        .send(Method::POST, "/api/v1/agents/acme/tester/buy", Value::Null)
        .await
        .refused(403, "sign in in a browser");
    shop.mo.send(Method::POST, &format!("/api/v1/orders/{order}/refund"), json!({})).await.expect(StatusCode::ACCEPTED);
}

/// What a marketplace believes about money, without times.
async fn beliefs(app: &App) -> (Vec<(String, String, String)>, BTreeMap<(String, String), i64>, i64) {
    let sql = "SELECT account_id AS a, agent_id AS b, state AS c FROM entitlements
        UNION ALL SELECT id, 'order', state FROM orders UNION ALL SELECT id, 'tier', tier FROM accounts
        UNION ALL SELECT id, 'payout', state FROM payouts UNION ALL SELECT id, 'subscription', status || ' ' || ends FROM subscriptions
        ORDER BY 1, 2, 3";
    let states = sqlx::query_as(sql).fetch_all(app.db.read()).await.unwrap();
    let (sold,): (i64,) = sqlx::query_as("SELECT count(*) FROM outbox WHERE event LIKE '%\"purchased\"%'")
        .fetch_one(app.db.read())
        .await
        .unwrap();
    (states, balances(app).await, sold)
}

/// A small generator, so that a seed says everything.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// A copy of a marketplace as it was, that is told by hand.
async fn copy(before: &std::path::Path, folder: std::path::PathBuf, stripe: &Stripe) -> std::sync::Arc<App> {
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(before, folder.join("market.db")).unwrap();
    let config = Config { data_dir: folder, stripe: Some(stripe.config()), ..Config::default() };
    App::open(config, Clock::set_to(START_MS)).await.unwrap()
}

async fn tell_copy(app: &App, event: &Value) {
    let body = event.to_string();
    let header = signature(WEBHOOK_SECRET, START_MS / 1_000, body.as_bytes());
    payments::receive(app, Some(&header), body.as_bytes()).await.unwrap();
}

/// Random business, told in order as it happens; told late and doubled while it goes on, to a copy of the marketplace from
/// before; and when all is over doubled and shuffled, to more copies: all believe the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_order_of_webhooks_ends_as_the_orderly_one() {
    let runs: usize = std::env::var("MILLSTREAM_SEEDS").map_or(100, |s| s.parse::<usize>().unwrap() / 4);
    let (scenarios, shuffles) = (runs.div_ceil(20).max(3), 20);
    for seed in 0..scenarios as u64 {
        println!("scenario {seed}");
        let mut random = Random(seed);
        let shop = Shop::open(None).await;
        let (mut intents, mut subscriptions, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
        let people = [shop.ada.clone(), shop.market.person("bob").await];
        for who in &people {
            for agent in ["acme/linter", "acme/tester"] {
                sessions.push(shop.buy(who, agent).await.1);
            }
            let seats = who.send(Method::POST, "/api/v1/seats", json!({ "tier": "team", "seats": 2 })).await.json;
            sessions.push(Stripe::session_of(seats["url"].as_str().unwrap()));
        }
        // A copy of the database as it is before anything is paid.
        let folder = tempfile::tempdir().unwrap();
        let before = folder.path().join("before.db");
        let sql = format!("VACUUM INTO '{}'", before.display());
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(shop.market.app.db.read()).await.unwrap();
        let live = copy(&before, folder.path().join("live"), &shop.stripe).await;
        let (mut told, mut held): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for _ in 0..25 {
            match random.below(8) {
                0..=2 if !sessions.is_empty() => {
                    let session = sessions.swap_remove(random.below(sessions.len()));
                    if random.below(8) == 0 {
                        shop.stripe.abandon(&session);
                        continue;
                    }
                    let made = shop.stripe.pay(&session);
                    if made.starts_with("pi_") { intents.push((made, 2_000)) } else { subscriptions.push(made) }
                }
                3 if !subscriptions.is_empty() => {
                    let paid = random.below(3) > 0;
                    shop.stripe.renew(&subscriptions[random.below(subscriptions.len())], paid);
                }
                4 if !subscriptions.is_empty() => {
                    let at = random.below(subscriptions.len());
                    shop.stripe.cancel(&subscriptions.swap_remove(at));
                }
                5 if !intents.is_empty() => {
                    let at = random.below(intents.len());
                    let amount = 1 + random.below(intents[at].1.max(1) as usize) as i64;
                    if intents[at].1 >= amount {
                        intents[at].1 -= amount;
                        shop.stripe.pay_back(&intents[at].0.clone(), amount);
                    }
                }
                6 if !intents.is_empty() => {
                    let (intent, _) = intents.swap_remove(random.below(intents.len()));
                    shop.stripe.dispute(&intent, "needs_response");
                    if random.below(2) == 0 {
                        shop.stripe.dispute(&intent, if random.below(2) == 0 { "won" } else { "lost" });
                    }
                }
                7 => shop.stripe.payout(&shop.connect, 100, if random.below(2) == 0 { "paid" } else { "failed" }),
                _ => {}
            }
            for event in shop.stripe.news() {
                tell(&shop.market, &event).await.expect(StatusCode::OK);
                held.push(event.clone());
                told.push(event);
            }
            // Some of what was held back comes now, some of it to come again.
            for _ in 0..random.below(4).min(held.len()) {
                let at = random.below(held.len());
                let event = if random.below(3) == 0 { held[at].clone() } else { held.swap_remove(at) };
                tell_copy(&live, &event).await;
            }
        }
        while !held.is_empty() {
            tell_copy(&live, &held.swap_remove(random.below(held.len()))).await;
        }
        let orderly = beliefs(&shop.market.app).await;
        assert_eq!(beliefs(&live).await, orderly, "scenario {seed}, told late while it went on");
        for shuffle in 1..shuffles {
            let app = copy(&before, folder.path().join(format!("{shuffle}")), &shop.stripe).await;
            let mut events = told.clone();
            for _ in 0..told.len() / 3 {
                events.push(told[random.below(told.len())].clone());
            }
            for i in (1..events.len()).rev() {
                events.swap(i, random.below(i + 1));
            }
            for event in &events {
                tell_copy(&app, event).await;
            }
            assert_eq!(beliefs(&app).await, orderly, "scenario {seed}, shuffle {shuffle}");
        }
    }
}

/// `marketplace sandbox` prints the configuration of a marketplace that sells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_sandbox_stands_in_for_stripe() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let port = crate::mail_server::free_port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_marketplace"))
        .args(["sandbox", "--listen", &format!("127.0.0.1:{port}"), "--webhooks", "http://127.0.0.1:9/webhooks/stripe"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap()).lines().take(4).map(Result::unwrap).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marketplace.toml");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let config = Config::read(&path).unwrap().stripe;
    let market = Market::start_with(|c| c.stripe = config).await;
    let ada = market.person("ada").await;
    let checkout = ada.send(Method::POST, "/api/v1/seats", json!({ "tier": "team", "seats": 2 })).await;
    let url = checkout.expect(StatusCode::OK).json["url"].as_str().unwrap().to_string();
    let page = market.stranger().client.get(&url).send().await.unwrap().text().await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        page.contains("No money moves") && url.starts_with(&format!("http://127.0.0.1:{port}/pay/")),
        "{url} {page}"
    );
}

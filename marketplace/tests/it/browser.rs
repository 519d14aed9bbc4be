//! People with a real browser: one who looks for an agent, one who publishes and sells, one who moderates; then each page in
//! light, in dark and on a phone.
//!
//! `MILLSTREAM_SCREENSHOTS=DIR` keeps the pictures.

use millstream_marketplace::accounts::{self, Role};
use millstream_marketplace::sample;
use reqwest::StatusCode;
use serde_json::json;

use crate::chromium::{Browser, Look};
use crate::market::{Market, PASSWORD, manifest, package};
use crate::stripe::Stripe;

const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";

/// Signs up from wherever the browser is.
async fn sign_up(browser: &Browser, handle: &str) {
    browser.fill("input[name=handle]", handle).await;
    browser.fill("input[name=email]", &format!("{handle}@example.org")).await;
    browser.fill("input[name=password]", PASSWORD).await;
    browser.click("main form button").await;
    browser.sees("Sign out").await;
}

async fn sign_in(browser: &Browser, market: &Market, handle: &str) {
    browser.go(&format!("{}/sign-in", market.url)).await;
    browser.fill("input[name=email]", &format!("{handle}@example.org")).await;
    browser.fill("input[name=password]", PASSWORD).await;
    browser.click("main form button").await;
    browser.sees("Sign out").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_found_read_installed_rolled_back_and_reviewed() {
    let market = Market::start().await;
    let (acme, mo) =
        (market.person_with("acme", Role::Publisher).await, market.person_with("mo", Role::Moderator).await);
    for agent in ["acme/pull-reader", "acme/tester"] {
        market.publish(&acme, &mo, agent, "1.0.0").await;
    }
    let browser = Browser::open().await;
    browser.go(&market.url).await;
    // By keyboard alone: the first Tab offers to skip the head of the page, a slash goes to the search.
    browser.keys(TAB).await;
    assert_eq!(browser.run("return document.activeElement.textContent").await, json!("Skip to content"));
    browser.keys("/").await;
    browser.keys(&format!("pul reeder{ENTER}")).await;
    browser.sees("1 agent").await;
    browser.press("The agent acme/pull-reader").await;
    browser.sees("What it does.").await;
    browser.sees("files:read").await;

    browser.press("Sign in to install").await;
    browser.click("main a[href^='/sign-up']").await;
    sign_up(&browser, "ada").await;
    assert!(browser.url().await.ends_with("/agents/acme/pull-reader"), "back to where ada was");
    browser.press("Install").await;
    browser.sees("Installed.").await;
    browser.sees("✓ Version 1.0.0 is installed").await;

    market.publish(&acme, &mo, "acme/pull-reader", "1.1.0").await;
    browser.go(&format!("{}/account", market.url)).await;
    browser.press("Upgrade to 1.1.0").await;
    browser.sees("✓ Version 1.1.0 is installed").await;
    browser.choose("version", "1.0.0").await;
    browser.press("Roll back").await;
    browser.sees("Rolled back to an earlier version.").await;
    browser.sees("✓ Version 1.0.0 is installed").await;

    browser.click("input[name=stars][value='4']").await;
    browser.fill("textarea[name=text]", "Saves me an hour a week.").await;
    browser.press("Publish review").await;
    browser.sees("Thank you: your review is on the page.").await;
    browser.sees("Saves me an hour a week.").await;
    browser.press("Change your review").await;
    browser.click("input[name=stars][value='5']").await;
    browser.press("Publish review").await;
    browser.sees("version 1.0.0").await;
    let agent = market.stranger().get("/api/v1/agents/acme/pull-reader").await.expect(StatusCode::OK).json;
    assert_eq!((&agent["review_count"], &agent["histogram"]), (&json!(1), &json!([0, 0, 0, 0, 1])));

    browser.press("Remove").await;
    browser.sees("Removed from your account.").await;
    browser.press("Sign out").await;
    browser.sees("Sign in").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_published_reviewed_by_a_moderator_and_sold() {
    let stripe = Stripe::start().await;
    let config = stripe.config();
    let market = Market::start_with(|c| c.stripe = Some(config)).await;
    stripe.tells(&market);
    market.person_with("mo", Role::Moderator).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("linter-1.0.0.tar.gz");
    std::fs::write(&file, package(&manifest("acme/linter", "1.0.0"), &[])).unwrap();

    let publisher = Browser::open().await;
    publisher.go(&format!("{}/sign-up", market.url)).await;
    sign_up(&publisher, "acme").await;
    publisher.go(&format!("{}/publish", market.url)).await;
    publisher.press("Become a publisher").await;
    publisher.fill("input[name=package]", file.to_str().unwrap()).await;
    publisher.press("Send in").await;
    publisher.sees("is in the queue").await;

    let moderator = Browser::open().await;
    sign_in(&moderator, &market, "mo").await;
    moderator.press("Queue").await;
    moderator.sees("acme/linter 1.0.0").await;
    // A refusal needs a reason.
    moderator.press("Refuse").await;
    moderator.sees("say why").await;
    moderator.go(&format!("{}/queue", market.url)).await;
    moderator.fill("input[name=reason]", "Read and tried.").await;
    moderator.press("Approve").await;
    moderator.sees("Decided; the publisher gets a letter.").await;
    moderator.sees("Nothing waits.").await;

    // The publisher connects an account for payouts at Stripe, comes back, and sets a price.
    publisher.press("Dashboard").await;
    publisher.press("Connect an account for payouts").await;
    publisher.press("Allow payouts").await;
    publisher.leaves("No money moves").await;
    publisher.sees_soon("Payout account").await;
    publisher.go(&format!("{}/publish/agents/acme/linter", market.url)).await;
    publisher.choose("kind", "Once").await;
    publisher.fill("input[name=amount_minor]", "2000").await;
    publisher.press("Set price").await;
    publisher.sees("20.00 USD").await;

    // Somebody buys it: first goes back from Stripe's page without paying, then pays.
    let buyer = Browser::open().await;
    buyer.go(&format!("{}/sign-up?next=/agents/acme/linter", market.url)).await;
    sign_up(&buyer, "ada").await;
    buyer.press("Buy for 20.00 USD").await;
    buyer.sees("Pay 20.00 USD").await;
    buyer.press("Back").await;
    buyer.press("Buy for 20.00 USD").await;
    buyer.press("Pay").await;
    buyer.leaves("No money moves").await;
    buyer.sees_soon("Thank you").await;
    buyer.press("Install The agent acme/linter").await;
    buyer.sees("✓ Version 1.0.0 is installed").await;

    publisher.press("Dashboard").await;
    publisher.sees("17.00 USD").await;
    publisher.press("Pay back").await;
    publisher.sees("Saved.").await;
    stripe.tell_all().await;
    publisher.sees_soon("refunded").await;
    buyer.go(&format!("{}/agents/acme/linter", market.url)).await;
    buyer.sees("Buy for 20.00 USD").await;
    for browser in [&publisher, &moderator, &buyer] {
        let complaints = browser.complaints().await;
        // A refused form is an answer of 400, which the console notes.
        let others: Vec<_> = complaints.iter().filter(|c| !c.contains("/queue/") || !c.contains("400")).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

/// (name of the picture, address, words that are there)
const PAGES: [(&str, &str, &str); 20] = [
    ("home", "/", "Find an agent that does the work"),
    ("category", "/categories/testing-qa", "Finds out whether it works."),
    ("search", "/search?q=tests", "Most installed"),
    ("search-nothing", "/search?q=zzzzzz", "Nothing fits."),
    ("agent", "/agents/plain-data/dead-code", "What it may do"),
    ("agent-paid", "/agents/acme/linter", "Reviews"),
    ("collections", "/collections", "Before a release"),
    ("collection", "/collections/market-team/before-release", "chosen by the house"),
    ("sign-in", "/sign-in", "No account yet?"),
    ("sign-up", "/sign-up", "10 characters or more"),
    ("account", "/account", "API tokens"),
    ("plan", "/account/plan", "a seat and month"),
    ("publish", "/publish", "Send in a version"),
    ("manage", "/publish/agents/acme/linter", "What its page says"),
    ("dashboard", "/dashboard", "Next payout"),
    ("queue", "/queue", "could be taken for"),
    ("audit", "/audit?action=version.", "version.approved"),
    ("checkout", "CHECKOUT", "Thank you"),
    ("checkout-waiting", "WAITING", "Waiting for the payment"),
    ("missing", "/agents/acme/none", "There is nothing here"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_page_is_sound_in_light_in_dark_and_on_a_phone() {
    let stripe = Stripe::start().await;
    let config = stripe.config();
    let market = Market::start_with(|c| c.stripe = Some(config)).await;
    stripe.tells(&market);
    sample::fill(&market.app, &market.clock, &stripe, &[]).await.unwrap();
    let orders = a_full_account(&market, &stripe).await;

    let browser = Browser::open().await;
    sign_in(&browser, &market, "acme").await;
    // What the console said on the way.
    browser.complaints().await;
    let mut wrong = Vec::new();
    for (name, path, words) in PAGES {
        if name == "sign-in" {
            browser.press("Sign out").await;
            // A page that is still on its way would come in place of the next.
            browser.sees("Sign up").await;
        }
        if name == "account" {
            sign_in(&browser, &market, "acme").await;
        }
        let path = path.replace("CHECKOUT", &orders.0).replace("WAITING", &orders.1);
        for look in [Look::Light, Look::Dark, Look::Phone] {
            browser.look(look).await;
            browser.go(&format!("{}{path}", market.url)).await;
            browser.sees(words).await;
            browser.picture(&format!("{name}-{look:?}").to_lowercase()).await;
            if name == "missing" {
                // The console notes that the page is none.
                browser.complaints().await;
            }
            wrong.extend(browser.wrong().await.into_iter().map(|what| format!("{name} {look:?}: {what}")));
        }
        browser.look(Look::Light).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `acme` publishes, sells, buys and moderates: every page has something to show. Gives the addresses of an order that is paid
/// and of one that is not.
async fn a_full_account(market: &Market, stripe: &Stripe) -> (String, String) {
    let acme = market.person_with("acme", Role::Publisher).await;
    let (mo, ada) = (market.person_with("mo", Role::Moderator).await, market.person("ada").await);
    for version in ["1.0.0", "1.1.0"] {
        market.publish(&acme, &mo, "acme/linter", version).await;
    }
    let link = acme.send(reqwest::Method::POST, "/api/v1/payouts/connect", json!(null)).await.expect(StatusCode::OK);
    stripe.enable(link.json["url"].as_str().unwrap().rsplit('/').next().unwrap());
    stripe.tell_all().await;
    let price = |kind: &str, amount: i64| json!({ "kind": kind, "amount_minor": amount, "currency": "usd" });
    let path = "/api/v1/agents/acme/linter/price";
    acme.send(reqwest::Method::PUT, path, price("one_time", 2_000)).await.expect(StatusCode::NO_CONTENT);
    let bought = ada.send(reqwest::Method::POST, "/api/v1/agents/acme/linter/buy", json!(null)).await;
    stripe.pay(&Stripe::session_of(bought.expect(StatusCode::OK).json["url"].as_str().unwrap()));
    stripe.tell_all().await;
    ada.install("acme/linter", None).await.expect(StatusCode::OK);
    ada.review("acme/linter", 5, "It found what three of us had missed.\nWorth its price.")
        .await
        .expect(StatusCode::OK);

    let seats = json!({ "tier": "team", "seats": 3 });
    let paid = acme.send(reqwest::Method::POST, "/api/v1/seats", seats).await.expect(StatusCode::OK).json;
    stripe.pay(&Stripe::session_of(paid["url"].as_str().unwrap()));
    stripe.tell_all().await;
    let more = json!({ "tier": "enterprise", "seats": 20 });
    let open = acme.send(reqwest::Method::POST, "/api/v1/seats", more).await.expect(StatusCode::OK).json;
    for agent in ["north-tools/readme-keeper", "clear-stack/pull-reader", "blue-kiln/complexity-map"] {
        acme.install(agent, Some("1.0.0")).await.expect(StatusCode::OK);
    }
    acme.with_token(&["install", "publish"]).await;
    acme.form("/account/collections", &[("slug", "mine"), ("title", "What we use")])
        .await
        .expect(StatusCode::SEE_OTHER);
    // One waits with findings, one without.
    let secret = format!("key = 'AKIA{}'\n", "ABCDEFGH12345678");
    let odd = package(&manifest("mo/dead-c0de", "1.0.0"), &[("conf.py", secret.as_bytes())]);
    mo.upload(odd).await.expect(StatusCode::CREATED);
    acme.upload(package(&manifest("acme/linter", "2.0.0-beta.1"), &[])).await.expect(StatusCode::CREATED);
    accounts::grant(&market.app, "test", "acme", Role::Admin).await.unwrap();
    let address = |order: &serde_json::Value| format!("/checkout/{}", order["order"].as_str().unwrap());
    (address(&paid), address(&open))
}

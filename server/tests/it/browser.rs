//! A real browser, Debian's Chromium driven by WebDriver, walks each page: what it shows, and that it complains of nothing.
//!
//! `MILLSTREAM_SCREENSHOTS=DIR` keeps a picture of each page in light, dark and at a phone's width.

use base64::prelude::{BASE64_STANDARD, Engine};
use millstream_server::generate::Shape;
use millstream_server::range::show_day;
use serde_json::json;

use crate::http::{Running, agent_event};
use crate::metrics::Asked;
use crate::webdriver::Browser;

impl Browser {
    /// Asks the page until the expression is true.
    async fn wait(&self, expression: &str) {
        self.until(&format!("return !!({expression})"), false, expression, |answer| *answer == json!(true)).await;
    }

    async fn size(&self, width: u32, height: u32) {
        self.post("/window/rect", json!({ "width": width, "height": height })).await;
    }

    async fn picture(&self, name: &str) {
        let Some(dir) = std::env::var_os("MILLSTREAM_SCREENSHOTS") else { return };
        let taken = self.post("/goog/cdp/execute", json!({ "cmd": "Page.captureScreenshot", "params": {} })).await;
        let bytes = BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(std::path::Path::new(&dir).join(format!("{name}.png")), bytes).unwrap();
    }
}

/// Path, name of the picture, a text that a person sees.
const PAGES: [(&str, &str, &str); 9] = [
    ("/", "overview", "All pipelines are running"),
    ("/users", "users", "Retention"),
    ("/agents", "agents", "Most used agents"),
    ("/business", "business", "MRR movements"),
    ("/system", "system", "Errors and incidents"),
    ("/pipelines", "pipelines", "What flows into what"),
    ("/sql", "sql", "Live tail"),
    ("/reports", "reports", "History"),
    ("/catalogue", "catalogue", "Daily active users"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_walks_each_page_without_a_complaint() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let rows: Vec<String> = (1..=40)
        .map(|i| {
            agent_event(
                i,
                &format!("2026-11-{:02}T09:{:02}:00Z", 17 + i % 7, i),
                ["coder", "planner"][i as usize % 2],
                i,
            )
        })
        .collect();
    assert_eq!(running.ingest("/api/v1/ingest/agent_events", rows.join("\n")).await.status, 200);
    running.server.engine.flush().await.unwrap();
    let browser = Browser::start().await;
    for (path, name, text) in PAGES {
        browser.size(1400, 1300).await;
        browser.go(&running.url(path)).await;
        let seen = browser.run("return document.body.innerText").await;
        assert!(seen.as_str().unwrap().contains(text), "{path} shows no {text:?}: {seen}");
        let named = browser.run(
            "return [...document.querySelectorAll('main, nav, section, aside, figure, input:not([type=hidden]), select, textarea')]\
             .filter(e => e.tagName !== 'MAIN' && !e.getAttribute('aria-label') && !e.labels?.length && !e.closest('label'))\
             .map(e => e.outerHTML.slice(0, 120))",
        );
        assert_eq!(named.await, json!([]), "{path}: landmarks and fields have names");
        browser.picture(&format!("{name}-light")).await;
        browser.run("document.querySelector('[data-theme-switch]').click()").await;
        browser.picture(&format!("{name}-dark")).await;
        browser.run("document.querySelector('[data-theme-switch]').click()").await;
        browser.size(500, 1100).await;
        assert_eq!(browser.overflow().await, 0, "{path} is wider than a phone");
        browser.picture(&format!("{name}-phone")).await;
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{path}");
    }
    running.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_answer_to_pointer_and_keys_and_figures_are_live() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let browser = Browser::start().await;
    browser.size(1400, 1300).await;
    browser.go(&running.url("/pipelines")).await;
    // The server's own reading of its clock is live; rows that come now appear without a reload.
    let row = "document.querySelector('[data-pipeline=raw_agent_events] [data-cell=in]').textContent";
    browser.wait(&format!("{row} === '0'")).await;
    let rows: Vec<String> = (1..=9)
        .map(|i| agent_event(i, &format!("2026-11-23T09:0{i}:00Z"), ["coder", "planner"][i as usize % 2], i))
        .collect();
    running.ingest("/api/v1/ingest/agent_events", rows.join("\n")).await;
    browser.wait(&format!("{row} === '9'")).await;
    running.server.engine.flush().await.unwrap();

    browser.go(&running.url("/sql")).await;
    browser
        .run(
            "const e = document.querySelector('#sql'); e.value = 'SELECT event_time, tokens_input FROM raw_agent_events ORDER BY 1'; \
             e.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', ctrlKey: true, bubbles: true }))",
        )
        .await;
    browser.wait("document.querySelector('#result figure.chart svg')").await;
    let tip = browser.run(
        "const f = document.querySelector('figure.chart'); f.focus(); \
         f.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true })); \
         return document.querySelector('.tip').textContent",
    );
    assert_eq!(tip.await, json!("tokens_input, 23 Nov 2026 09:01 UTC: 1"), "keys read the values");
    let tip = browser.run(
        "const f = document.querySelector('figure.chart'), c = [...f.querySelectorAll('[data-tip]')].pop().getBoundingClientRect(); \
         f.dispatchEvent(new PointerEvent('pointermove', { clientX: c.x + 8, clientY: c.y + 8, bubbles: true })); \
         return document.querySelector('.tip').textContent",
    );
    assert_eq!(tip.await, json!("tokens_input, 23 Nov 2026 09:09 UTC: 9"), "the pointer finds the nearest");
    browser.go(&running.url("/sql?tail=raw_agent_events")).await;
    browser.wait("document.querySelectorAll('[data-tail] tbody tr').length === 9").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    running.server.stop().await.unwrap();
}

/// Pages about a platform of ninety days: every panel has something to show, in light, in dark and on a phone.
#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_a_platform_of_ninety_days() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { seed: 3, users: 150, first_day: 20_513, days: 90, events_per_user: 16 };
    let asked = Asked::start(dir.path(), shape).await;
    let browser = Browser::start().await;
    let (from, to) = (show_day(shape.first_day + 60), show_day(shape.first_day + 89));
    for (page, name) in [
        ("/", "overview"),
        ("/users", "users"),
        ("/agents", "agents"),
        ("/agents/agent-02", "agent"),
        ("/business", "business"),
        ("/system", "system"),
    ] {
        let from = if page == "/business" { show_day(shape.first_day) } else { from.clone() };
        let url = format!("http://{}{page}?from={from}&to={to}", asked.server.http_address);
        browser.size(1400, 1300).await;
        browser.go(&url).await;
        let empty = browser
            .run("return [...document.querySelectorAll('.state')].map(e => e.closest('.card').getAttribute('aria-label') + ': ' + e.innerText)")
            .await;
        assert_eq!(empty, json!([]), "{page}");
        let unread = browser
            .run("return [...document.querySelectorAll('.figure')].map(e => e.innerText).filter(t => t.includes('cannot be read'))")
            .await;
        assert_eq!(unread, json!([]), "{page}");
        browser.picture(&format!("full-{name}-light")).await;
        browser.run("document.querySelector('[data-theme-switch]').click()").await;
        browser.picture(&format!("full-{name}-dark")).await;
        browser.run("document.querySelector('[data-theme-switch]').click()").await;
        browser.size(500, 1100).await;
        assert_eq!(browser.overflow().await, 0, "{page} is wider than a phone");
        browser.picture(&format!("full-{name}-phone")).await;
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{page}");
    }
    asked.server.stop().await.unwrap();
}

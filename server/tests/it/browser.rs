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

    /// Keeps the page in light, in dark and at a phone's width, where it must fit; and nothing may have been complained of.
    async fn pictures(&self, name: &str, page: &str) {
        self.picture(&format!("{name}-light")).await;
        self.run("document.querySelector('[data-theme-switch]').click()").await;
        self.picture(&format!("{name}-dark")).await;
        self.run("document.querySelector('[data-theme-switch]').click()").await;
        self.size(500, 1100).await;
        assert_eq!(self.overflow().await, 0, "{page} is wider than a phone");
        self.picture(&format!("{name}-phone")).await;
        assert_eq!(self.complaints().await, Vec::<String>::new(), "{page}");
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
        browser.pictures(name, path).await;
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
    // The last hour is drawn anew when a checkpoint brings minutes that are over.
    browser.go(&running.url("/system?from=2026-11-23&to=2026-11-23")).await;
    let panel = "document.querySelector('[data-panel=api_latency_live]')";
    browser.wait(&format!("{panel}.innerText.includes('No data in this period')")).await;
    let request = |minute: u32| {
        json!({ "event_id": format!("r{minute}"), "event_time": format!("2026-11-23T09:{minute:02}:00Z"), "route": "/a",
                "status_code": 200, "latency_ms": 10 + minute })
        .to_string()
    };
    let rows: Vec<String> = (1..=9).chain([30]).map(request).collect();
    running.ingest("/api/v1/ingest/api_events", rows.join("\n")).await;
    running.server.engine.flush().await.unwrap();
    browser.wait(&format!("{panel}.querySelector('figure.chart svg')")).await;
    browser.wait(&format!("{panel}.innerText.includes('approximate, within 1 %')")).await;
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
        ("/catalogue/api_p95", "metric"),
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
        browser.pictures(&format!("full-{name}"), page).await;
    }
    pipelines(&asked, &browser).await;
    sql(&asked, &browser).await;
    reports(&asked, &browser).await;
    asked.server.stop().await.unwrap();
}

/// Rows that came too late or could not be read are shown with their reasons.
async fn pipelines(asked: &Asked, browser: &Browser) {
    let rows = concat!(
        r#"{"event_id":"late","event_time":"2026-01-01T00:00:00Z","user_id":"user-00001","name":"file_edited"}"#,
        "\n",
        r#"{"event_id":"wrong","event_time":"yesterday","user_id":"user-00001"}"#
    );
    let url = format!("http://{}/api/v1/ingest/ide_events", asked.server.http_address);
    asked.client.post(url).bearer_auth(&asked.key).body(rows).send().await.unwrap();
    asked.server.engine.flush().await.unwrap();
    browser.size(1400, 1300).await;
    browser.go(&format!("http://{}/pipelines", asked.server.http_address)).await;
    browser.run("document.querySelectorAll('main details').forEach(d => d.open = true)").await;
    let seen = browser.run("return document.querySelector('main').innerText").await;
    let seen = seen.as_str().unwrap();
    for expected in ["user_sessions__late", "ide_events__rejected", "yesterday", "Newest checkpoint", "Operator trees"]
    {
        assert!(seen.contains(expected), "no {expected:?} in {seen}");
    }
    let nodes = "return [...document.querySelectorAll('.graph .node-name')].map(e => e.textContent)";
    let nodes = browser.run(nodes).await.to_string();
    assert!(nodes.contains("\"user_days\"") && nodes.contains("\"ide_events__rejected\""), "{nodes}");
    assert!(!nodes.contains("api_events__rejected"), "what rejected nothing is not drawn: {nodes}");
    browser.pictures("full-pipelines", "/pipelines").await;
}

/// From a chart to its query, and from the query to its rows and chart.
async fn sql(asked: &Asked, browser: &Browser) {
    browser.size(1400, 1300).await;
    browser.go(&format!("http://{}/users?range=30d", asked.server.http_address)).await;
    browser.run("document.querySelector('#panel-stickiness .card-head a[href^=\"/sql\"]').click()").await;
    browser.wait("document.querySelector('#sql')?.value.includes('JOIN trailing_users')").await;
    assert!(!browser.run("return document.querySelector('#sql').value").await.to_string().contains("$tz"));
    browser.run("document.querySelector('#sql').form.requestSubmit()").await;
    browser.wait("document.querySelector('#result figure.chart svg') && document.querySelector('#result').innerText.includes('30 rows')").await;
    let tables = browser.run("return document.querySelector('.schema').innerText").await.to_string();
    for expected in ["raw_ide_events", "Definitions", "subscription_states", "Late and rejected rows"] {
        assert!(tables.contains(expected), "no {expected:?} in {tables}");
    }
    browser.pictures("full-sql", "/sql").await;
}

/// A report is made by the button, and its figures are in the sections' CSV.
async fn reports(asked: &Asked, browser: &Browser) {
    browser.size(1400, 1300).await;
    browser.go(&format!("http://{}/reports?range=30d", asked.server.http_address)).await;
    let links = "return [...document.querySelectorAll('.sections a')].map(a => a.getAttribute('href'))";
    let links = browser.run(links).await;
    let links: Vec<&str> = links.as_array().unwrap().iter().map(|link| link.as_str().unwrap()).collect();
    assert!(links.len() >= 28, "{links:?}");
    for link in links {
        let csv = asked.get(link).await;
        assert_eq!(
            (csv.status().as_u16(), csv.headers()["content-type"].to_str().unwrap()),
            (200, "text/csv; charset=utf-8"),
            "{link}"
        );
        let text = csv.text().await.unwrap();
        assert!(text.starts_with('\u{feff}') && text.lines().count() > 1, "{link} has no rows: {text}");
    }
    browser.run("document.querySelector('form[action=\"/reports/monthly_business/send\"] button').click()").await;
    browser.wait("document.querySelector('#history')?.innerText.includes('Monthly business')").await;
    browser.pictures("full-reports", "/reports").await;
}

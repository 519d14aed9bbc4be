//! A real browser, Debian's Chromium, driven by WebDriver as a person uses it: it looks for words, clicks, types, chooses files.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use crate::webdriver::Browser;

/// What a page must not have, for people who read by ear, by keyboard, or in bad light. Gives what is wrong.
const ACCESSIBLE: &str = r#"
    const wrong = [];
    const tell = (what, e) => wrong.push(what + ': ' + e.outerHTML.slice(0, 100));
    const shown = e => e.checkVisibility({ visibilityProperty: true });
    for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
      if (shown(e) && !e.getAttribute('aria-label') && !e.labels?.length) tell('field without a name', e);
    for (const e of document.querySelectorAll('a, button, summary'))
      if (shown(e) && !(e.getAttribute('aria-label') || e.textContent.trim())) tell('nothing to read', e);
    for (const e of document.querySelectorAll('img')) if (!e.alt) tell('picture without words', e);
    const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push('id twice: ' + id);
    if (document.querySelectorAll('h1').length !== 1) wrong.push(document.querySelectorAll('h1').length + ' h1');
    let level = 1;
    for (const e of document.querySelectorAll('main h1, main h2, main h3, main h4, main h5')) {
      if (!shown(e)) continue;
      if (+e.tagName[1] > level + 1) tell('heading skips a level', e);
      level = +e.tagName[1];
    }
    // Contrast of 4.5 (WCAG 2.2, AA), by the relative luminance of text and of what lies behind it.
    const light = c => { const [r, g, b] = c.match(/[\d.]+/g).slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
      return .2126 * r + .7152 * g + .0722 * b; };
    const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\)$/.test(c) && c !== 'transparent') return c; } return 'rgb(255, 255, 255)'; };
    for (const e of document.querySelectorAll('body *')) {
      if (!shown(e) || e.closest('[role=img], [aria-hidden=true], .skip, option') || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
      const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
      const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
      if (contrast < 4.5) tell('contrast ' + contrast.toFixed(2), e);
    }
    return wrong;
"#;

/// How a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Light,
    Dark,
    Phone,
}

impl Browser {
    pub async fn open() -> Self {
        let browser = Self::start().await;
        browser.look(Look::Light).await;
        browser
    }

    pub async fn url(&self) -> String {
        self.run("return location.href").await.as_str().unwrap().to_string()
    }

    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap().to_string()
    }

    /// Waits until the page shows these words; loads it again where `reload` says that it does not change by itself.
    async fn waits_for(&self, words: &str, reload: bool) {
        let shows = |text: &Value| text.as_str().is_some_and(|text| text.contains(words));
        self.until("return document.body?.innerText ?? ''", reload, words, shows).await;
    }

    pub async fn sees(&self, words: &str) {
        self.waits_for(words, false).await;
    }

    /// Waits until the page is another: one that is on its way must not be asked for again.
    pub async fn leaves(&self, words: &str) {
        let gone = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty() && !text.contains(words));
        self.until("return document.body?.innerText ?? ''", false, &format!("away from {words}"), gone).await;
    }

    pub async fn sees_soon(&self, words: &str) {
        self.waits_for(words, true).await;
    }

    async fn element(&self, using: &str, value: &str) -> String {
        let started = Instant::now();
        loop {
            let found = self.try_post("/element", &json!({ "using": using, "value": value })).await;
            if let Some(id) = found.as_object().filter(|_| found["error"].is_null()).and_then(|o| o.values().next()) {
                return id.as_str().unwrap().to_string();
            }
            assert!(started.elapsed() < Duration::from_secs(30), "no {value}: {}", self.text().await);
        }
    }

    /// Clicks the button, link or fold with these words.
    pub async fn press(&self, words: &str) {
        let by = |tag: &str| format!("//{tag}[normalize-space()={words:?}]");
        self.click_at("xpath", &["button", "a", "summary"].map(by).join(" | ")).await;
    }

    pub async fn click(&self, css: &str) {
        self.click_at("css selector", css).await;
    }

    async fn click_at(&self, using: &str, value: &str) {
        let id = self.element(using, value).await;
        self.post(&format!("/element/{id}/click"), json!({})).await;
    }

    /// Types into a field, in place of what is there; `\u{e007}` is the key Enter.
    pub async fn fill(&self, css: &str, text: &str) {
        let id = self.element("css selector", css).await;
        let kind = self.run(&format!("return document.querySelector({css:?}).type")).await;
        if kind != "file" {
            self.post(&format!("/element/{id}/clear"), json!({})).await;
        }
        self.post(&format!("/element/{id}/value"), json!({ "text": text })).await;
    }

    pub async fn choose(&self, css: &str, words: &str) {
        self.click_at("xpath", &format!("//select[@name={css:?}]/option[normalize-space()={words:?}]")).await;
    }

    pub async fn keys(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        self.post("/actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] })).await;
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    pub async fn look(&self, look: Look) {
        let (width, height) = if look == Look::Phone { (390, 844) } else { (1280, 900) };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": look == Look::Phone });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if look == Look::Dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// What is wrong with the page by itself: for people who cannot use it, wider than its window, complained of.
    pub async fn wrong(&self) -> Vec<String> {
        let texts = |all: Value| all.as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_string()).collect();
        let mut wrong: Vec<String> = texts(self.run(ACCESSIBLE).await);
        let over = self.overflow().await;
        if over != 0 {
            wrong.push(format!("{over} pixels wider than its window"));
        }
        wrong.extend(self.complaints().await);
        wrong
    }

    /// Keeps the whole page as a picture in the folder that `MILLSTREAM_SCREENSHOTS` names.
    pub async fn picture(&self, name: &str) {
        let Some(dir) = std::env::var_os("MILLSTREAM_SCREENSHOTS") else { return };
        let size = self.run("const e = document.documentElement; return [e.clientWidth, e.scrollHeight]").await;
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let whole = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let taken = self.devtools("Page.captureScreenshot", whole).await;
        let bytes = millstream_marketplace::secret::unbase64(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&dir).join(format!("{name}.png")), bytes).unwrap();
    }
}

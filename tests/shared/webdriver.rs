//! A real browser, Debian's Chromium, driven by WebDriver: what all tests with pages need of it. Each adds what its pages ask for.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A driver and its port. It wants one port for both versions of IP, and ends where another has one of them: the next finds one.
fn driver() -> (Child, String) {
    let said = "started successfully on port ";
    for _ in 0..10 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed: `make system` does it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(|line| line.unwrap());
        if let Some(line) = lines.find(|line| line.contains(said)) {
            return (driver, line.split(said).nth(1).unwrap().trim_end_matches('.').to_string());
        }
        driver.wait().unwrap();
    }
    panic!("chromedriver ends at once, ten times");
}

/// One browser window.
pub struct Browser {
    driver: Child,
    client: reqwest::Client,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub async fn start() -> Self {
        let (driver, port) = driver();
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let client = reqwest::Client::new();
        let root = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, client, session: root.clone(), _profile: profile };
        let made = browser.post("", capabilities).await;
        let id = made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}"));
        browser.session = format!("{root}/{id}");
        browser
    }

    /// Sends a command; an error is a value too.
    pub async fn try_post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.session)).body(body.to_string());
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["value"].clone()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.try_post(path, &body).await;
        assert!(answer["error"].is_null(), "{path} {body}: {answer}");
        answer
    }

    pub async fn go(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// Runs a script in the page and gives what it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Asks again and again until `is` says so; a page that is on its way to another gives no answer. With `reload` the page
    /// is loaded again between: it does not change by itself.
    pub async fn until(&self, script: &str, reload: bool, wanted: &str, is: impl Fn(&Value) -> bool) {
        let (started, command) = (Instant::now(), json!({ "script": script, "args": [] }));
        loop {
            let answer = self.try_post("/execute/sync", &command).await;
            if is(&answer) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "never {wanted}: {answer}");
            if reload {
                self.post("/refresh", json!({})).await;
            }
        }
    }

    /// Pixels by which the page is wider than its window.
    pub async fn overflow(&self) -> i64 {
        let over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.run(over).await.as_i64().unwrap()
    }

    /// What the console holds since the last look.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes its browser with it when its session ends; a kill would leave it behind.
        let session = self.session.clone();
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(async { reqwest::Client::new().delete(session).send().await });
        });
        let _ = ended.join();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

//! A running marketplace, and people who use it.

use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use millstream_marketplace::accounts::{self, Role};
use millstream_marketplace::app::App;
use millstream_marketplace::clock::Clock;
use millstream_marketplace::config::Config;
use millstream_marketplace::serve;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// 2026-03-02, a Monday.
pub const START_MS: i64 = 1_772_409_600_000;

/// A marketplace on a free port, with a clock that the test moves.
pub struct Market {
    pub app: Arc<App>,
    pub url: String,
    pub clock: Clock,
    stop: Option<oneshot::Sender<()>>,
    _folder: tempfile::TempDir,
}

impl Drop for Market {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Market {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_on(database_url: String) -> Self {
        Self::start_with(|config| config.database_url = Some(database_url)).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        config.listen.set_port(0);
        change(&mut config);
        let clock = Clock::set_to(START_MS);
        let app = App::open(config, clock.clone()).await.unwrap();
        let listener = serve::bind(&app).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = app.clone();
        tokio::spawn(async move {
            serve::serve(served, listener, async {
                let _ = stopped.await;
            })
            .await
            .unwrap();
        });
        Self { url: app.public_url(), app, clock, stop: Some(stop), _folder: folder }
    }

    /// Somebody without an account.
    pub fn stranger(&self) -> Person {
        Person::new(&self.url, "stranger")
    }

    /// A new account, signed in.
    pub async fn person(&self, handle: &str) -> Person {
        let person = Person::new(&self.url, handle);
        let sign_up = json!({ "handle": handle, "email": format!("{handle}@example.org"), "password": PASSWORD });
        person.send(Method::POST, "/api/v1/accounts", sign_up).await.expect(StatusCode::CREATED);
        person.sign_in(PASSWORD).await.expect(StatusCode::NO_CONTENT);
        person
    }

    /// An account that is there, signed in.
    pub async fn again(&self, handle: &str) -> Person {
        let person = Person::new(&self.url, handle);
        person.sign_in(PASSWORD).await.expect(StatusCode::NO_CONTENT);
        person
    }

    /// A new account with a role; publishers have the namespace of their handle.
    pub async fn person_with(&self, handle: &str, role: Role) -> Person {
        let person = self.person(handle).await;
        if role >= Role::Publisher {
            person.send(Method::POST, "/api/v1/account/publisher", Value::Null).await.expect(StatusCode::NO_CONTENT);
        }
        accounts::grant(&self.app, "test", handle, role).await.unwrap();
        person
    }

    /// Publishes one version and has it approved.
    pub async fn publish(&self, publisher: &Person, moderator: &Person, agent: &str, version: &str) {
        let sent = publisher.upload(package(&manifest(agent, version), &[])).await.expect(StatusCode::CREATED);
        assert_eq!(sent.json["review_state"], "waiting");
        self.approve(moderator, agent, version).await;
    }

    pub async fn approve(&self, moderator: &Person, agent: &str, version: &str) {
        let queue = moderator.get("/api/v1/queue").await.expect(StatusCode::OK);
        let waiting = queue.json.as_array().unwrap().iter().rev();
        let mut id =
            waiting.filter(|w| w["agent"] == agent && w["version"] == version).map(|w| w["id"].as_str().unwrap());
        let path = format!("/api/v1/queue/{}", id.next().expect("the version waits"));
        moderator
            .send(Method::POST, &path, json!({ "approve": true, "reason": "fine" }))
            .await
            .expect(StatusCode::NO_CONTENT);
    }
}

pub const PASSWORD: &str = "correct horse battery";

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Self { status, headers, json: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }

    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Refused with this status and a detail that has these words.
    #[track_caller]
    pub fn refused(self, status: u16, words: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let detail = self.json["detail"].as_str().unwrap_or(&self.text);
        assert!(detail.contains(words), "'{detail}' does not say '{words}'");
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }
}

/// Somebody with a browser or a program.
#[derive(Clone)]
pub struct Person {
    pub client: reqwest::Client,
    pub url: String,
    pub handle: String,
    cookie: Arc<std::sync::Mutex<Option<String>>>,
    token: Option<String>,
}

impl Person {
    fn new(url: &str, handle: &str) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { client, url: url.to_string(), handle: handle.to_string(), cookie: Arc::default(), token: None }
    }

    pub async fn sign_in(&self, password: &str) -> Answer {
        let who = json!({ "email": format!("{}@example.org", self.handle), "password": password });
        let answer = self.send(Method::POST, "/api/v1/session", who).await;
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_string();
        *self.cookie.lock().unwrap() = Some(cookie).filter(|c| !c.is_empty());
        answer
    }

    pub fn cookie(&self) -> String {
        self.cookie.lock().unwrap().clone().unwrap_or_default()
    }

    /// The same account by a new token with these scopes.
    pub async fn with_token(&self, scopes: &[&str]) -> Self {
        let new = json!({ "name": "test", "scopes": scopes, "days": 30 });
        let answer = self.send(Method::POST, "/api/v1/tokens", new).await.expect(StatusCode::CREATED);
        self.with_secret(answer.json["secret"].as_str().unwrap())
    }

    pub fn with_secret(&self, secret: &str) -> Self {
        Self { token: Some(secret.to_string()), cookie: Arc::default(), ..self.clone() }
    }

    pub fn secret(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    /// A request as this person's browser (with its cookie and the proof of origin) or program (with its token) sends it.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") { path.to_string() } else { format!("{}{path}", self.url) };
        let request = self.client.request(method, url);
        match (&self.token, self.cookie.lock().unwrap().as_ref()) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(cookie)) => request.header("cookie", cookie).header("sec-fetch-site", "same-origin"),
            (None, None) => request,
        }
    }

    pub async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = self.request(method, path).header("content-type", "application/json");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Answer::of(request.body(body).send().await.unwrap()).await
    }

    pub async fn run(&self, request: reqwest::RequestBuilder) -> Answer {
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.run(self.request(Method::GET, path)).await
    }

    /// A page, as a browser asks for it.
    pub async fn page(&self, path: &str) -> Answer {
        self.run(self.request(Method::GET, path).header("accept", "text/html,*/*")).await
    }

    /// A form, as a browser sends it.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let encode = |t: &str| t.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        let body: Vec<String> = fields.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
        let request = self.request(Method::POST, path).header("accept", "text/html");
        self.run(request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"))).await
    }

    pub async fn upload(&self, package: Vec<u8>) -> Answer {
        let request = self.request(Method::POST, "/api/v1/publish").header("content-type", "application/gzip");
        self.run(request.body(package)).await
    }

    pub async fn install(&self, agent: &str, version: Option<&str>) -> Answer {
        self.send(Method::POST, &format!("/api/v1/agents/{agent}/install"), json!({ "version": version })).await
    }

    pub async fn review(&self, agent: &str, stars: i64, text: &str) -> Answer {
        let path = format!("/api/v1/agents/{agent}/reviews");
        self.send(Method::PUT, &path, json!({ "stars": stars, "text": text })).await
    }
}

/// An `agent.json` that is fine.
pub fn manifest(agent: &str, version: &str) -> Value {
    json!({
        "name": agent, "version": version, "title": format!("The agent {agent}"),
        "summary": "Does what the test needs it to do.", "license": "Apache-2.0",
        "categories": ["testing-qa"], "tags": ["test"], "entrypoint": "main.py",
        "runtime": { "kind": "python", "version": ">=3.11" }, "permissions": ["files:read"],
    })
}

/// A package with this manifest, a readme, an entry point and more files.
pub fn package(manifest: &Value, more: &[(&str, &[u8])]) -> Vec<u8> {
    let text = serde_json::to_vec(manifest).unwrap();
    let mut files: Vec<(&str, &[u8])> =
        vec![("agent.json", &text), ("README.md", b"# Readme\n\nWhat it *does*.\n"), ("main.py", b"print('works')\n")];
    files.extend(more);
    archive(|tar| {
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, bytes).unwrap();
        }
    })
}

/// A `.tar.gz` with what `fill` puts into it.
pub fn archive(fill: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    fill(&mut tar);
    tar.into_inner().unwrap().finish().unwrap()
}

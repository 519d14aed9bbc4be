//! Install, upgrade, roll back, remove; downloads; the command.

use std::process::Command;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use millstream_marketplace::accounts::Role;
use millstream_marketplace::installs::{Envelope, verify};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::market::{Market, Person};
use crate::on_both;

async fn linter(market: &Market, versions: &[&str]) -> (Person, Person) {
    let acme = market.person_with("acme", Role::Publisher).await;
    let mo = market.person_with("mo", Role::Moderator).await;
    for version in versions {
        market.publish(&acme, &mo, "acme/linter", version).await;
    }
    (acme, mo)
}

async fn history(market: &Market) -> Vec<(String, String)> {
    let rows = sqlx::query_as("SELECT version, action FROM install_history ORDER BY id");
    rows.fetch_all(market.app.db.read()).await.unwrap()
}

on_both! {
    async fn installing_twice_is_installing_once(market: Market) {
        linter(&market, &["1.0.0"]).await;
        let ada = market.person("ada").await;
        let first = ada.install("acme/linter", None).await.expect(StatusCode::OK).json;
        let again = ada.install("acme/linter", None).await.expect(StatusCode::OK).json;
        assert_eq!((&first["outcome"], &again["outcome"]), (&json!("installed"), &json!("unchanged")));
        assert_eq!(first["manifest"], again["manifest"], "the same answer, to the byte");
        let tries = (0..8).map(|_| { let bob = ada.clone(); async move { bob.install("acme/linter", None).await } });
        futures::future::join_all(tries).await.into_iter().for_each(|a| drop(a.expect(StatusCode::OK)));
        let agent = ada.get("/api/v1/agents/acme/linter").await.json;
        assert_eq!((&agent["installs"], &agent["active_installs"]), (&json!(1), &json!(1)));
        let (events,): (i64,) = sqlx::query_as("SELECT count(*) FROM outbox WHERE event LIKE '%\"installed\"%'")
            .fetch_one(market.app.db.read()).await.unwrap();
        assert_eq!(events, 1);
    }

    async fn upgrade_rollback_and_removal_are_kept_in_order(market: Market) {
        let (acme, _) = linter(&market, &["1.0.0", "1.1.0", "2.0.0"]).await;
        let ada = market.person("ada").await;
        ada.install("acme/linter", Some("1.0.0")).await.expect(StatusCode::OK);
        let updates = ada.get("/api/v1/updates").await.json;
        assert_eq!((&updates[0]["from"], &updates[0]["to"]), (&json!("1.0.0"), &json!("2.0.0")));
        assert_eq!(ada.install("acme/linter", Some("1.1.0")).await.json["outcome"], "upgraded");
        assert_eq!(ada.install("acme/linter", None).await.json["version"], "2.0.0");
        let back = |to: Value| ada.send(Method::POST, "/api/v1/agents/acme/linter/rollback", json!({ "version": to }));
        assert_eq!(back(Value::Null).await.json["version"], "1.1.0", "the one before");
        assert_eq!(back(json!("1.0.0")).await.json["outcome"], "rolled_back");
        back(json!("9.9.9")).await.refused(404, "you can go back to: 1.1.0, 2.0.0");
        // A version that was withdrawn is offered to nobody, but who has it is told.
        let yank = "/api/v1/agents/acme/linter/versions/1.1.0/yank";
        acme.send(Method::POST, yank, json!({ "reason": "Loses data." })).await.expect(StatusCode::NO_CONTENT);
        back(json!("1.1.0")).await.refused(404, "you can go back to: 2.0.0");
        ada.install("acme/linter", Some("1.1.0")).await.refused(404, "no version 1.1.0 that can be installed");
        ada.send(Method::DELETE, "/api/v1/agents/acme/linter/install", Value::Null).await.expect(StatusCode::NO_CONTENT);
        ada.send(Method::DELETE, "/api/v1/agents/acme/linter/install", Value::Null).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(ada.get("/api/v1/installs").await.json, json!([]));
        let expected = [("1.0.0", "installed"), ("1.1.0", "upgraded"), ("2.0.0", "upgraded"), ("1.1.0", "rolled_back"),
            ("1.0.0", "rolled_back"), ("1.0.0", "uninstalled")];
        assert_eq!(history(&market).await, expected.map(|(v, a)| (v.to_string(), a.to_string())));
        // Withdrawing the newest makes the one before the newest.
        let yank = "/api/v1/agents/acme/linter/versions/2.0.0/yank";
        acme.send(Method::POST, yank, json!({ "reason": "Oops." })).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(ada.get("/api/v1/agents/acme/linter").await.json["latest_version"], "1.0.0");
        acme.send(Method::DELETE, yank, Value::Null).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(ada.get("/api/v1/agents/acme/linter").await.json["latest_version"], "2.0.0");
    }

    async fn a_download_comes_whole_or_in_parts_and_a_cache_may_keep_it(market: Market) {
        linter(&market, &["1.0.0"]).await;
        let ada = market.person("ada").await;
        let offer = ada.install("acme/linter", None).await.json;
        let url = offer["download_url"].as_str().unwrap();
        let nobody = market.stranger();
        let get = |headers: &[(&str, &str)]| {
            let request = headers.iter().fold(nobody.client.get(url), |r, (n, v)| r.header(*n, *v));
            async { let r = request.send().await.unwrap(); let s = r.status().as_u16(); let h = r.headers().clone(); (s, h, r.bytes().await.unwrap()) }
        };
        let (status, headers, whole) = get(&[]).await;
        assert_eq!(status, 200);
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        let etag = headers["etag"].to_str().unwrap().to_string();
        let size = whole.len();
        let (status, headers, part) = get(&[("range", "bytes=10-19")]).await;
        assert_eq!((status, part.as_ref()), (206, &whole[10..20]));
        assert_eq!(headers["content-range"].to_str().unwrap(), format!("bytes 10-19/{size}"));
        assert_eq!(get(&[("range", "bytes=-5")]).await.2.as_ref(), &whole[size - 5..]);
        assert_eq!(get(&[("range", "bytes=10-")]).await.2.as_ref(), &whole[10..]);
        assert_eq!(get(&[("range", &format!("bytes={size}-"))]).await.0, 416);
        assert_eq!(get(&[("range", "bytes=0-1,3-4")]).await.0, 200);
        assert_eq!(get(&[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await.0, 200);
        assert_eq!(get(&[("if-none-match", &etag)]).await.0, 304);

        // The manifest is signed, and about just these bytes.
        let envelope: Envelope = serde_json::from_value(offer["manifest"].clone()).unwrap();
        let key = nobody.get(offer["key_url"].as_str().unwrap()).await.json["public_key"].as_str().unwrap().to_string();
        let promise = verify(&envelope, &key).unwrap();
        assert_eq!(promise.sha256, millstream_marketplace::secret::sha256_hex(&whole));
        let mut forged = envelope.clone();
        forged.payload.replace_range(8..9, if &forged.payload[8..9] == "A" { "B" } else { "A" });
        assert!(verify(&forged, &key).unwrap_err().detail().contains("signature does not hold"));
        let other = millstream_marketplace::secret::base64(&[7; 32]);
        assert!(verify(&envelope, &other).unwrap_err().detail().contains("signature does not hold"));
    }
}

/// The command, in a folder.
fn command(market: &Market, token: &str, dir: &std::path::Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_marketplace"))
        .args(args)
        .env("MARKETPLACE_URL", &market.url)
        .env("MARKETPLACE_TOKEN", token)
        .env("MARKETPLACE_AGENTS", dir)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_command_puts_files_in_place_and_back() {
    let market = Market::start().await;
    let (acme, mo) = linter(&market, &["1.0.0"]).await;
    let ada = market.person("ada").await.with_token(&["install"]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("agents");
    let run = |args: &[&str]| tokio::task::block_in_place(|| command(&market, ada.secret(), &dir, args));
    let (ok, told) = run(&["install", "acme/linter"]);
    assert!(ok && told.contains("acme/linter 1.0.0 installed in") && told.contains("(may use: files:read)"), "{told}");
    let current = dir.join("acme/linter/current");
    assert_eq!(std::fs::read_to_string(current.join("main.py")).unwrap(), "print('works')\n");
    market.publish(&acme, &mo, "acme/linter", "1.1.0").await;
    assert!(run(&["install", "acme/linter"]).1.contains("1.1.0 upgraded"));
    assert_eq!(run(&["installed"]), (true, "acme/linter 1.1.0\n".to_string()));
    assert!(run(&["rollback", "acme/linter"]).1.contains("1.0.0 rolled back"));
    assert_eq!(std::fs::read_link(&current).unwrap(), std::path::Path::new("versions/1.0.0"));
    let (ok, told) = run(&["install", "acme/nothing"]);
    assert_eq!((ok, told.as_str()), (false, "error: no agent 'acme/nothing'; search at /search\n"));
    let (ok, told) = run(&["install", "../../etc/passwd"]);
    assert!(!ok && told.contains("names no agent; write namespace/name"), "{told}");
    assert!(run(&["uninstall", "acme/linter"]).0 && !dir.join("acme/linter").exists());

    // Another key than the one seen first: nothing is installed.
    std::fs::write(dir.join("key"), millstream_marketplace::secret::base64(&[7; 32])).unwrap();
    let (ok, told) = run(&["install", "acme/linter"]);
    assert!(!ok && told.contains("another key signed it, or it was changed"), "{told}");
    assert!(!dir.join("acme/linter").exists());
    let (ok, told) = tokio::task::block_in_place(|| command(&market, "", &dir, &["install", "acme/linter"]));
    assert!(!ok && told.contains("set MARKETPLACE_TOKEN"), "{told}");
}

/// Packages at `url` are as those on a local disk, and none is on this one.
async fn packages_are_at(url: &str, options: &[(&str, &str)]) {
    let market = Market::start_with(|c| {
        c.packages_url = Some(url.to_string());
        c.packages = options.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    })
    .await;
    linter(&market, &["1.0.0"]).await;
    let ada = market.person("ada").await;
    let offer = ada.install("acme/linter", None).await.expect(StatusCode::OK).json;
    let url = offer["download_url"].as_str().unwrap();
    let get = |range: Option<&'static str>| {
        let request = ada.client.get(url);
        let request = if let Some(range) = range { request.header("range", range) } else { request };
        async move { request.send().await.unwrap().bytes().await.unwrap() }
    };
    let whole = get(None).await;
    assert!(url.contains(&millstream_marketplace::secret::sha256_hex(&whole)));
    assert_eq!(get(Some("bytes=10-19")).await, whole.slice(10..20));
    assert!(!market.app.config.data_dir.join("packages").exists(), "nothing is kept here");
}

/// An S3 server of another make.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_may_be_on_s3() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let venv = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let python = std::env::var_os("MILLSTREAM_PYTHON").map_or(venv, std::path::PathBuf::from);
    assert!(python.exists(), "{} is not there: run `make test`, which installs it", python.display());
    let mut server = Command::new(python)
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let endpoint = format!("http://127.0.0.1:{port}");
    let client = reqwest::Client::new();
    let started = std::time::Instant::now();
    while client.put(format!("{endpoint}/agents")).send().await.is_err() {
        assert!(started.elapsed().as_secs() < 60, "the S3 server answers");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let options = [
        ("aws_endpoint", endpoint.as_str()),
        ("aws_region", "us-east-1"),
        ("aws_access_key_id", "test"),
        ("aws_secret_access_key", "test"),
        ("aws_allow_http", "true"),
    ];
    packages_are_at("s3://agents/packages", &options).await;
    let _ = server.kill();
    let _ = server.wait();
}

type Objects = std::sync::Arc<std::sync::Mutex<std::collections::HashMap<String, bytes::Bytes>>>;

async fn put_object(State(objects): State<Objects>, Path(path): Path<String>, body: bytes::Bytes) -> impl IntoResponse {
    objects.lock().unwrap().insert(path, body);
    [("etag", "\"1\""), ("x-goog-generation", "1")]
}

async fn get_object(State(objects): State<Objects>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let whole = objects.lock().unwrap()[&path].clone();
    let range = headers["range"].to_str().unwrap().trim_start_matches("bytes=").split_once('-').unwrap();
    let (first, last): (usize, usize) = (range.0.parse().unwrap(), range.1.parse().unwrap());
    let shown = format!("bytes {first}-{last}/{}", whole.len());
    let headers = [
        ("content-range", shown.as_str()),
        ("etag", "\"1\""),
        ("last-modified", "Mon, 02 Mar 2026 00:00:00 GMT"),
        ("x-goog-generation", "1"),
    ];
    (StatusCode::PARTIAL_CONTENT, headers, whole.slice(first..=last)).into_response()
}

/// A server that speaks as much of Google Cloud Storage as packages need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_may_be_on_google_cloud_storage() {
    let objects = Objects::default();
    let router = Router::new().route("/{*path}", get(get_object).put(put_object)).with_state(objects.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let key = json!({ "gcs_base_url": url, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": "" });
    let key = key.to_string();
    let options = [("google_service_account_key", key.as_str()), ("allow_http", "true")];
    packages_are_at("gs://agents/packages", &options).await;
    let names: Vec<String> = objects.lock().unwrap().keys().cloned().collect();
    assert!(names.len() == 1 && names[0].starts_with("agents/packages/"), "{names:?}");
}

//! Signing in with an account elsewhere, against a provider of ours that speaks OpenID Connect: its discovery, its keys, its
//! code flow with PKCE, and tokens that it should never have made.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode as Status};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millstream_marketplace::config;
use millstream_marketplace::secret::{base64, base64_url, hmac_hex, sha256, unhex};
use reqwest::{Method, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use crate::chromium::Browser;
use crate::market::{Answer, Market, START_MS};

const CLIENT: &str = "market";
const SECRET: &str = "s:ecret & more";

enum Key {
    Curve(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Edwards(Ed25519KeyPair),
}

impl Key {
    fn curve() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::Curve(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap())
    }

    fn edwards() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Edwards(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    /// What most providers sign with; ring makes none.
    fn rsa() -> Self {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"])
            .output()
            .expect("openssl is installed: `make system` does it");
        Self::Rsa(RsaKeyPair::from_der(&made.stdout).or_else(|_| RsaKeyPair::from_pkcs8(&made.stdout)).unwrap())
    }

    fn public(&self, id: &str) -> Value {
        match self {
            Self::Curve(key) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
                    "x": base64_url(&point[1..33]), "y": base64_url(&point[33..65]) })
            }
            Self::Edwards(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64_url(key.public_key().as_ref()) })
            }
            Self::Rsa(key) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "kid": id, "n": base64_url(&n), "e": base64_url(&e) })
            }
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Curve(_) => "ES256",
            Self::Edwards(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match (self, algorithm) {
            (Self::Curve(key), _) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            (Self::Edwards(key), _) => key.sign(message).as_ref().to_vec(),
            (Self::Rsa(key), algorithm) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let way: &'static dyn ring::signature::RsaEncoding =
                    if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(way, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// Changes what the provider is about to sign: header and claims.
type Change = Box<dyn Fn(&mut Value, &mut Value) + Send>;

type Signs = Box<dyn Fn(&str) -> String + Send>;

struct Inside {
    url: String,
    keys: Vec<(String, Key)>,
    /// Who sits at the provider.
    person: Value,
    /// code -> (nonce, challenge, redirect_uri)
    codes: HashMap<String, (String, String, String)>,
    made: usize,
    change: Option<Change>,
    /// Signs instead of the key.
    signs: Option<Signs>,
    refuses: bool,
    down: bool,
    in_body: bool,
}

type Shared = Arc<Mutex<Inside>>;

#[derive(Clone)]
struct Provider {
    inside: Shared,
    url: String,
}

async fn discovery(State(inside): State<Shared>) -> Response {
    let inside = inside.lock().unwrap();
    if inside.down {
        return Status::BAD_GATEWAY.into_response();
    }
    let url = &inside.url;
    let way = if inside.in_body { "client_secret_post" } else { "client_secret_basic" };
    Json(json!({ "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"), "response_types_supported": ["code"], "token_endpoint_auth_methods_supported": [way] }))
    .into_response()
}

async fn keys(State(inside): State<Shared>) -> Json<Value> {
    let inside = inside.lock().unwrap();
    let keys: Vec<Value> = inside.keys.iter().map(|(id, key)| key.public(id)).collect();
    Json(json!({ "keys": keys }))
}

async fn authorize(State(inside): State<Shared>, Query(asked): Query<HashMap<String, String>>) -> Redirect {
    let mut inside = inside.lock().unwrap();
    let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
    assert_eq!(
        (of("response_type"), of("client_id"), of("code_challenge_method")),
        ("code".into(), CLIENT.into(), "S256".into())
    );
    assert!(of("scope").split(' ').any(|s| s == "openid"));
    let back = of("redirect_uri");
    if inside.refuses {
        return Redirect::to(&format!("{back}?error=access_denied&state={}", of("state")));
    }
    inside.made += 1;
    let code = format!("code-{}", inside.made);
    inside.codes.insert(code.clone(), (of("nonce"), of("code_challenge"), back.clone()));
    Redirect::to(&format!("{back}?code={code}&state={}", of("state")))
}

fn form(body: &str) -> HashMap<String, String> {
    let decode = |t: &str| {
        let mut parts = t.split('%');
        let mut text = parts.next().unwrap().to_string();
        for part in parts {
            text.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
            text.push_str(&part[2..]);
        }
        text
    };
    body.split('&').filter_map(|p| p.split_once('=')).map(|(n, v)| (decode(n), decode(v))).collect()
}

async fn token(State(inside): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let mut inside = inside.lock().unwrap();
    let refused = |why: &str| (Status::BAD_REQUEST, Json(json!({ "error": why }))).into_response();
    let form = form(&body);
    let of = |name: &str| form.get(name).cloned().unwrap_or_default();
    if inside.in_body {
        assert_eq!((of("client_id"), of("client_secret")), (CLIENT.to_string(), SECRET.to_string()));
    } else {
        let basic = format!("Basic {}", base64(format!("{CLIENT}:s%3Aecret%20%26%20more").as_bytes()));
        assert_eq!(headers["authorization"].to_str().unwrap(), basic);
    }
    // A code is good once, for the address and the verifier that it was made for.
    let Some((nonce, challenge, back)) = inside.codes.remove(&of("code")) else { return refused("invalid_grant") };
    if base64_url(&sha256(of("code_verifier").as_bytes())) != challenge || of("redirect_uri") != back {
        return refused("invalid_grant");
    }
    let now = START_MS / 1_000;
    let (id, key) = inside.keys.last().unwrap();
    let mut header = json!({ "alg": key.algorithm(), "kid": id, "typ": "JWT" });
    let mut claims = inside.person.clone();
    for (name, value) in [
        ("iss", json!(inside.url)),
        ("aud", json!(CLIENT)),
        ("nonce", json!(nonce)),
        ("iat", json!(now)),
        ("exp", json!(now + 300)),
    ] {
        claims[name] = value;
    }
    if let Some(change) = &inside.change {
        change(&mut header, &mut claims);
    }
    let message =
        format!("{}.{}", base64_url(header.to_string().as_bytes()), base64_url(claims.to_string().as_bytes()));
    let signature = match &inside.signs {
        Some(sign) => sign(&message),
        None => base64_url(&key.sign(header["alg"].as_str().unwrap(), message.as_bytes())),
    };
    Json(json!({ "access_token": "unused", "token_type": "Bearer", "id_token": format!("{message}.{signature}") }))
        .into_response()
}

impl Provider {
    async fn start(key: Key) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside = Inside {
            url: url.clone(),
            keys: vec![("first".into(), key)],
            person: json!({ "sub": "248289761001", "email": "Grace@example.org", "email_verified": true,
                "preferred_username": "Grace Hopper!", "name": "Grace Hopper" }),
            codes: HashMap::new(),
            made: 0,
            change: None,
            signs: None,
            refuses: false,
            down: false,
            in_body: false,
        };
        let inside = Arc::new(Mutex::new(inside));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(inside.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inside, url }
    }

    async fn market(&self) -> Market {
        self.market_on(None).await
    }

    async fn market_on(&self, database: Option<String>) -> Market {
        let oidc = config::Oidc {
            name: "Example".to_string(),
            issuer: self.url.clone(),
            client_id: CLIENT.to_string(),
            client_secret: SECRET.to_string(),
        };
        Market::start_with(|c| {
            c.oidc = Some(oidc);
            c.database_url = database;
        })
        .await
    }

    fn set(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.inside.lock().unwrap());
    }
}

fn cookie_of(answer: &Answer, name: &str) -> Option<String> {
    let all = answer.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap());
    let pairs = all.filter_map(|v| v.split(';').next()).filter(|v| v.len() > name.len() + 1);
    pairs.into_iter().find(|v| v.starts_with(&format!("{name}="))).map(str::to_string)
}

/// A browser's way to the provider and back: (the callback's address, the cookie that began it).
async fn to_the_provider_and_back(market: &Market, next: &str) -> (String, String) {
    let nobody = market.stranger();
    let begun = nobody.page(&format!("/sign-in/oidc?next={next}")).await.expect(StatusCode::SEE_OTHER);
    let cookie = cookie_of(&begun, "market_oidc").unwrap();
    let set = begun.header("set-cookie");
    assert!(set.contains("HttpOnly; SameSite=Lax; Max-Age=600") && set.contains("Path=/sign-in/oidc"), "{set}");
    let back = nobody.page(begun.header("location")).await.expect(StatusCode::SEE_OTHER);
    (back.header("location").to_string(), cookie)
}

async fn come_back(market: &Market, url: &str, cookies: &str) -> Answer {
    let nobody = market.stranger();
    nobody.run(nobody.request(Method::GET, url).header("accept", "text/html").header("cookie", cookies)).await
}

/// All of it; what the callback answers.
async fn sign_in(market: &Market) -> Answer {
    let (url, cookie) = to_the_provider_and_back(market, "/account").await;
    come_back(market, &url, &cookie).await
}

async fn account_of(market: &Market, answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/account"), "{}", answer.text);
    let session = cookie_of(answer, "market_session").expect("a session was opened");
    let nobody = market.stranger();
    let asked = nobody.request(Method::GET, "/api/v1/account").header("cookie", session);
    nobody.run(asked).await.expect(StatusCode::OK).json
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_was_here_gets_an_account_and_finds_it_again() {
    let postgres = Some(crate::postgres::database().await);
    for (key, in_body, database) in
        [(Key::curve(), false, None), (Key::edwards(), true, None), (Key::rsa(), false, postgres)]
    {
        let provider = Provider::start(key).await;
        provider.set(|p| p.in_body = in_body);
        let market = provider.market_on(database).await;
        market.person("grace-hopper").await;
        assert!(market.stranger().page("/sign-in").await.text.contains("Sign in with Example"));
        let first = account_of(&market, &sign_in(&market).await).await;
        assert_eq!(
            (&first["handle"], &first["email"], &first["display_name"], &first["role"]),
            (&json!("grace-hopper-2"), &json!("grace@example.org"), &json!("Grace Hopper"), &json!("consumer"))
        );
        // The provider's name for somebody counts, not an address, which may change.
        provider.set(|p| p.person["email"] = json!("hopper@example.org"));
        assert_eq!(account_of(&market, &sign_in(&market).await).await["id"], first["id"]);
        // No password opens such an account.
        let empty = json!({ "email": "grace@example.org", "password": "" });
        market.stranger().send(Method::POST, "/api/v1/session", empty).await.refused(401, "do not fit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_opens_no_account_but_its_owner_connects_both() {
    let provider = Provider::start(Key::curve()).await;
    let market = provider.market().await;
    let grace = market.person("grace").await;
    let refused = sign_in(&market).await.expect(StatusCode::CONFLICT);
    assert!(
        refused.text.contains("sign in with its password, then connect Example under /account"),
        "{}",
        refused.text
    );
    assert!(cookie_of(&refused, "market_session").is_none());
    assert!(grace.page("/account").await.text.contains("Connect Example"));
    let (url, cookie) = to_the_provider_and_back(&market, "/account").await;
    let both = format!("{cookie}; {}", grace.cookie());
    assert_eq!(come_back(&market, &url, &both).await.header("location"), "/account");
    assert!(grace.page("/account").await.text.contains("Connected with Example."));
    assert_eq!(account_of(&market, &sign_in(&market).await).await["handle"], "grace");
    // It is connected to one account only.
    let bob = market.person("bob").await;
    let (url, cookie) = to_the_provider_and_back(&market, "/account").await;
    let taken = come_back(&market, &url, &format!("{cookie}; {}", bob.cookie())).await.expect(StatusCode::CONFLICT);
    assert!(taken.text.contains("connected to another account here"), "{}", taken.text);
    // A disabled account stays so.
    sqlx::query("UPDATE accounts SET disabled_at = 1 WHERE handle = 'grace'")
        .execute(market.app.db.read())
        .await
        .unwrap();
    assert!(sign_in(&market).await.expect(StatusCode::FORBIDDEN).text.contains("this account is disabled"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forged_stolen_or_stale_signs_nobody_in() {
    let provider = Provider::start(Key::curve()).await;
    let market = provider.market().await;
    let refused = |answer: Answer, status: u16, words: &str| {
        assert!(cookie_of(&answer, "market_session").is_none(), "{words}");
        assert_eq!(answer.status.as_u16(), status, "{words}: {}", answer.text);
        assert!(answer.text.contains(words), "'{words}' is not in {}", answer.text);
    };
    let begin_again = "did not begin in this browser, or too long ago";
    // Another browser is sent to the address: it has no cookie, or one of a sign-in of its own.
    let (url, cookie) = to_the_provider_and_back(&market, "/").await;
    refused(come_back(&market, &url, "").await, 400, begin_again);
    let (_, other) = to_the_provider_and_back(&market, "/").await;
    refused(come_back(&market, &url, &other).await, 400, begin_again);
    refused(come_back(&market, &url, "market_oidc=bm9uc2Vuc2U").await, 400, begin_again);
    refused(come_back(&market, &format!("{}/sign-in/oidc/callback", market.url), &cookie).await, 400, begin_again);
    // A code is good once.
    assert_eq!(come_back(&market, &url, &cookie).await.status, StatusCode::SEE_OTHER);
    refused(come_back(&market, &url, &cookie).await, 403, "did not take the sign-in");
    // A stolen code, with the thief's own beginning: its verifier does not fit.
    let (url, _) = to_the_provider_and_back(&market, "/").await;
    let (own, cookie) = to_the_provider_and_back(&market, "/").await;
    let code = url.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let state = own.split("state=").nth(1).unwrap();
    let stolen = format!("{}/sign-in/oidc/callback?code={code}&state={state}", market.url);
    refused(come_back(&market, &stolen, &cookie).await, 403, "did not take the sign-in");

    let (mine, now) = (provider.url.clone(), START_MS / 1_000);
    let other = Key::curve();
    let cases: Vec<(&str, Change)> = vec![
        ("another provider made it", Box::new(|_, c| c["iss"] = json!("https://evil.example"))),
        ("it is for another client", Box::new(|_, c| c["aud"] = json!("another"))),
        ("it is for another client", Box::new(|_, c| c["aud"] = json!(["another", "third"]))),
        ("it is for another client", Box::new(|_, c| c["azp"] = json!("another"))),
        ("it says too little", Box::new(|_, c| drop(c.as_object_mut().unwrap().remove("aud")))),
        ("it says too little", Box::new(|_, c| drop(c.as_object_mut().unwrap().remove("iss")))),
        ("the token cannot be read", Box::new(|_, c| drop(c.as_object_mut().unwrap().remove("exp")))),
        ("the token cannot be read", Box::new(|_, c| c["exp"] = json!("never"))),
        ("the token cannot be read", Box::new(|_, c| drop(c.as_object_mut().unwrap().remove("sub")))),
        ("it is over", Box::new(move |_, c| c["exp"] = json!(now - 61))),
        ("it is over", Box::new(move |_, c| c["iat"] = json!(now + 61))),
        ("it is not for this sign-in", Box::new(|_, c| c["nonce"] = json!("another"))),
        ("it is not for this sign-in", Box::new(|_, c| drop(c.as_object_mut().unwrap().remove("nonce")))),
        ("it is not for this sign-in", Box::new(|_, c| c["sub"] = json!(""))),
        ("its signature does not hold", Box::new(|h, _| h["alg"] = json!("RS256"))),
        ("signs with a key that it does not show", Box::new(|h, _| h["alg"] = json!("none"))),
        ("signs with a key that it does not show", Box::new(|h, _| h["kid"] = json!("another"))),
    ];
    let tried = cases.len();
    for (words, change) in cases {
        provider.set(|p| p.change = Some(change));
        let answer = sign_in(&market).await;
        refused(answer, 403, words);
    }
    println!("{tried} tokens of {mine}");
    provider.set(|p| p.change = None);
    // Signed by another key, not at all, or with the public key as a secret.
    let public = provider.inside.lock().unwrap().keys[0].1.public("first").to_string();
    provider.set(|p| p.signs = Some(Box::new(move |m| base64_url(&other.sign("ES256", m.as_bytes())))));
    refused(sign_in(&market).await, 403, "its signature does not hold");
    provider.set(|p| p.signs = Some(Box::new(|_| String::new())));
    refused(sign_in(&market).await, 403, "its signature does not hold");
    provider.set(|p| {
        p.change = Some(Box::new(|h, _| h["alg"] = json!("HS256")));
        p.signs = Some(Box::new(move |m| base64_url(&unhex(&hmac_hex(public.as_bytes(), m.as_bytes())).unwrap())));
    });
    refused(sign_in(&market).await, 403, "its kind of signature is not taken");
    provider.set(|p| (p.change, p.signs) = (None, None));

    // Somebody new whose address nobody proved.
    provider.set(|p| (p.person["sub"], p.person["email_verified"]) = (json!("new"), json!(false)));
    refused(sign_in(&market).await, 403, "Example did not prove your e-mail address");
    provider.set(|p| p.refuses = true);
    refused(sign_in(&market).await, 403, "Example did not sign you in: access_denied");
    provider.set(|p| p.refuses = false);
    let (url, cookie) = to_the_provider_and_back(&market, "/").await;
    market.clock.advance(601_000);
    refused(come_back(&market, &url, &cookie).await, 400, begin_again);
    // Sending people on to elsewhere.
    let begun = market.stranger().page("/sign-in/oidc?next=//evil.example").await;
    let cookie = cookie_of(&begun, "market_oidc").unwrap();
    assert!(
        !String::from_utf8_lossy(
            &millstream_marketplace::secret::unbase64_url(cookie.split_once('=').unwrap().1).unwrap()
        )
        .contains("evil")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_changed_and_outages_are_told() {
    let provider = Provider::start(Key::curve()).await;
    let market = provider.market().await;
    provider.set(|p| p.down = true);
    let down = market.stranger().page("/sign-in/oidc").await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(down.text.contains("Example does not answer as it should now"), "{}", down.text);
    provider.set(|p| p.down = false);
    let first = account_of(&market, &sign_in(&market).await).await;
    // A new key is read, but not more often than once a minute.
    provider.set(|p| p.keys.push(("second".into(), Key::edwards())));
    assert!(sign_in(&market).await.text.contains("signs with a key that it does not show"));
    market.clock.advance(60_000);
    provider.set(|p| {
        p.change = Some(Box::new(|_, c| {
            c["iat"] = json!(START_MS / 1_000 + 60);
            c["exp"] = json!(START_MS / 1_000 + 360);
        }))
    });
    assert_eq!(account_of(&market, &sign_in(&market).await).await["id"], first["id"]);
    // Without a provider there is no button and no way.
    let without = Market::start().await;
    assert!(!without.stranger().page("/sign-in").await.text.contains("Sign in with"));
    without.stranger().page("/sign-in/oidc").await.expect(StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_goes_to_the_provider_and_comes_back_signed_in() {
    let provider = Provider::start(Key::curve()).await;
    let market = provider.market().await;
    let browser = Browser::open().await;
    browser.go(&format!("{}/account", market.url)).await;
    browser.press("Sign in with Example").await;
    browser.sees("grace@example.org").await;
    assert_eq!(browser.url().await, format!("{}/account", market.url));
    browser.sees("Connected with Example.").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

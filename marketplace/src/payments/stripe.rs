//! A client of the few calls of Stripe's API that we make.
//!
//! Our own because async-stripe is a release candidate of 121 crates, and its enumerations fail on events newer than itself.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;

use crate::config;
use crate::problem::{Problem, Result};

/// The version whose objects we read: invoices still name their subscription and payment.
const API_VERSION: &str = "2024-06-20";
const TIMEOUT: Duration = Duration::from_secs(15);
/// A call that may or may not have happened is made again with the same key, and happens once.
const TRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Stripe, or something that speaks its language.
#[derive(Debug)]
pub struct Stripe {
    client: reqwest::Client,
    base_url: String,
    secret_key: String,
    webhook_secret: String,
    /// Held while an object is read and written down: what is read later is newer.
    pub(super) reading: Mutex<()>,
}

impl Stripe {
    /// A client; connects when it is used.
    pub fn new(config: &config::Stripe) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|e| Problem::unavailable(format!("no HTTP client: {e}")))?;
        Ok(Self {
            client,
            base_url: config.base_url.trim_end_matches('/').to_string(),
            secret_key: config.secret_key.clone(),
            webhook_secret: config.webhook_secret.clone(),
            reading: Mutex::new(()),
        })
    }

    pub(super) fn webhook_secret(&self) -> &str {
        &self.webhook_secret
    }

    /// Where its pages for people are, as a content security policy names them.
    pub fn pages(&self) -> String {
        if self.base_url == config::STRIPE_URL {
            return "https://checkout.stripe.com https://connect.stripe.com".to_string();
        }
        reqwest::Url::parse(&self.base_url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    /// Reads an object.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = || self.client.get(format!("{}/v1/{path}", self.base_url));
        self.run(path, request).await
    }

    /// Makes or does something, once for each `key`.
    pub async fn post(&self, path: &str, form: &[(&str, String)], key: &str) -> Result<Value> {
        let body: Vec<String> = form.iter().map(|(n, v)| format!("{}={}", encoded(n), encoded(v))).collect();
        let request = || {
            self.client
                .post(format!("{}/v1/{path}", self.base_url))
                .header("idempotency-key", key)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.join("&"))
        };
        self.run(path, request).await
    }

    async fn run(&self, path: &str, request: impl Fn() -> reqwest::RequestBuilder) -> Result<Value> {
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = request().bearer_auth(&self.secret_key).header("stripe-version", API_VERSION).send().await;
            let outcome = match sent {
                Ok(response) => {
                    let status = response.status();
                    let text = response.text().await.unwrap_or_default();
                    let value: Value = serde_json::from_str(&text).unwrap_or_default();
                    match status.as_u16() {
                        200..=299 => return Ok(value),
                        409 | 429 | 500..=599 => format!("{status}"),
                        _ => return Err(refusal(path, &value)),
                    }
                }
                Err(e) => e.to_string(),
            };
            if tries == TRIES {
                return Err(Problem::unavailable(format!(
                    "Stripe does not answer now ({outcome}); try again in a minute"
                )));
            }
            tokio::time::sleep(RETRY_AFTER * tries).await;
        }
    }
}

fn refusal(path: &str, value: &Value) -> Problem {
    let message = value.pointer("/error/message").and_then(Value::as_str).unwrap_or("no reason given");
    tracing::error!(path, message, "Stripe refused a call");
    Problem::conflict(format!("Stripe refused: {message}"))
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~[]".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A member's text.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str).filter(|t| !t.is_empty())
}

/// A member's number.
pub(super) fn number(value: &Value, path: &str) -> i64 {
    value.pointer(path).and_then(Value::as_i64).unwrap_or_default()
}

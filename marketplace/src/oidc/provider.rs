//! The provider: what it says of itself, its keys, and the one call that turns a code into an ID token.

use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::token::{self, Claims};
use crate::clock::{Clock, SECOND_MS};
use crate::config;
use crate::pages::encoded;
use crate::problem::{Problem, Result};

const TIMEOUT: Duration = Duration::from_secs(10);
/// What a provider says of itself is read again after a day.
const KNOWN_MS: i64 = 86_400 * SECOND_MS;
/// Keys are read again for one that is not known, so often at most.
const KEYS_MS: i64 = 60 * SECOND_MS;

/// A provider of identities.
#[derive(Debug)]
pub struct Provider {
    client: reqwest::Client,
    config: config::Oidc,
    known: Mutex<Option<Known>>,
}

/// What the provider says of itself.
#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// `client_secret_basic` when absent.
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
struct Known {
    metadata: Metadata,
    at_ms: i64,
    keys: Vec<Jwk>,
    keys_at_ms: i64,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    id_token: String,
}

impl Provider {
    /// Connects when it is used.
    pub fn new(config: &config::Oidc) -> Result<Self> {
        let issuer = &config.issuer;
        let url = reqwest::Url::parse(issuer).map_err(|e| Problem::invalid(format!("oidc.issuer '{issuer}': {e}")))?;
        let here = ["127.0.0.1", "localhost", "[::1]"].contains(&url.host_str().unwrap_or_default());
        if url.scheme() != "https" && !here {
            return Err(Problem::invalid(format!("oidc.issuer '{issuer}' is not https; write its https:// address")));
        }
        token::use_ring();
        // No redirects: an answer comes from the address that was asked, or not at all.
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|e| Problem::unavailable(format!("no HTTP client: {e}")))?;
        Ok(Self { client, config: config.clone(), known: Mutex::default() })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its address, which names it.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Where to send a browser.
    pub(super) async fn address(
        &self,
        clock: &Clock,
        back: &str,
        state: &str,
        nonce: &str,
        challenge: &str,
    ) -> Result<String> {
        let endpoint = self.known(clock).await?.metadata.authorization_endpoint;
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!(
            "{endpoint}{joint}response_type=code&scope=openid%20email%20profile&client_id={}&redirect_uri={}&state={state}\
             &nonce={nonce}&code_challenge={challenge}&code_challenge_method=S256",
            encoded(&self.config.client_id),
            encoded(back)
        ))
    }

    /// Turns a code into what the provider says of a person.
    pub(super) async fn claims(
        &self,
        clock: &Clock,
        code: &str,
        back: &str,
        verifier: &str,
        nonce: &str,
    ) -> Result<Claims> {
        let known = self.known(clock).await?;
        let mut form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={verifier}",
            encoded(code),
            encoded(back)
        );
        let (id, secret) = (encoded(&self.config.client_id), encoded(&self.config.client_secret));
        let ways = known.metadata.token_endpoint_auth_methods_supported.as_deref();
        let basic = ways.is_none_or(|ways| ways.iter().any(|way| way == "client_secret_basic"));
        let mut request = self.client.post(&known.metadata.token_endpoint);
        if basic {
            request = request.basic_auth(id, Some(secret));
        } else {
            form.push_str(&format!("&client_id={id}&client_secret={secret}"));
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let tokens: Tokens = self.ask(request).await?;
        let key = self.key(clock, &tokens.id_token).await?;
        let expected = token::Expected {
            issuer: &self.config.issuer,
            client: &self.config.client_id,
            nonce,
            now_s: clock.now_ms() / SECOND_MS,
        };
        token::verify(&tokens.id_token, &key, &expected).map_err(|why| {
            tracing::warn!(issuer = self.config.issuer, why, "an ID token does not hold");
            Problem::forbidden(format!("what {} says of you does not hold: {why}; sign in again", self.config.name))
        })
    }

    /// The key that signed a token.
    async fn key(&self, clock: &Clock, id_token: &str) -> Result<Jwk> {
        let known = self.known(clock).await?;
        if let Some(key) = token::key_of(id_token, &known.keys) {
            return Ok(key.clone());
        }
        // A new key: providers change theirs from time to time.
        let mut held = self.known.lock().await;
        let now = clock.now_ms();
        if let Some(known) = held.as_mut().filter(|k| now - k.keys_at_ms >= KEYS_MS) {
            known.keys = self.ask::<JwkSet>(self.client.get(&known.metadata.jwks_uri)).await?.keys;
            known.keys_at_ms = now;
        }
        let key = held.as_ref().and_then(|known| token::key_of(id_token, &known.keys).cloned());
        key.ok_or_else(|| Problem::forbidden(format!("{} signs with a key that it does not show", self.config.name)))
    }

    async fn known(&self, clock: &Clock) -> Result<Known> {
        let mut held = self.known.lock().await;
        let now = clock.now_ms();
        if let Some(known) = held.as_ref().filter(|k| now - k.at_ms < KNOWN_MS) {
            return Ok(known.clone());
        }
        let url = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let metadata: Metadata = self.ask(self.client.get(url)).await?;
        if metadata.issuer != self.config.issuer {
            return Err(Problem::unavailable(format!(
                "oidc.issuer is '{}', but the provider there calls itself '{}'; write it just so",
                self.config.issuer, metadata.issuer
            )));
        }
        let keys = self.ask::<JwkSet>(self.client.get(&metadata.jwks_uri)).await?.keys;
        let known = Known { metadata, at_ms: now, keys, keys_at_ms: now };
        *held = Some(known.clone());
        Ok(known)
    }

    async fn ask<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        let failed = |why: String| {
            tracing::warn!(issuer = self.config.issuer, why, "the provider of identities failed");
            Problem::unavailable(format!("{} does not answer as it should now; try again later", self.config.name))
        };
        let response = request.header("accept", "application/json").send().await.map_err(|e| failed(e.to_string()))?;
        let status = response.status();
        let text = response.text().await.map_err(|e| failed(e.to_string()))?;
        if status.is_client_error() {
            let why: String = text.chars().take(300).collect();
            tracing::warn!(issuer = self.config.issuer, %status, why, "the provider of identities refused");
            return Err(Problem::forbidden(format!("{} did not take the sign-in; begin again", self.config.name)));
        }
        if !status.is_success() {
            return Err(failed(status.to_string()));
        }
        serde_json::from_str(&text).map_err(|e| failed(e.to_string()))
    }
}

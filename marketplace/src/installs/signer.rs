//! Signs what an install gets: Ed25519 over a DSSE envelope, so that a package can come from any cache.
//!
//! Source: DSSE 1.0 (Dead Simple Signing Envelope), its pre-authentication encoding and JSON form.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::{Problem, Result};
use crate::secret;

/// The type of what is signed.
pub const PAYLOAD_TYPE: &str = "application/vnd.millstream.install+json";

/// What the marketplace promises about a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Promise {
    /// `namespace/name`.
    pub agent: String,
    /// The version.
    pub version: String,
    /// Of the package.
    pub sha256: String,
    /// Of the package.
    pub size_bytes: i64,
    /// The file that starts the agent.
    pub entrypoint: String,
    /// What runs it: `python`, ...
    pub runtime: String,
    /// What it may be allowed.
    pub permissions: Vec<String>,
}

/// A promise with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Envelope {
    /// Of the payload.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// A [`Promise`] as JSON, in base64.
    pub payload: String,
    /// One.
    pub signatures: Vec<Signature>,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signature {
    /// The first 16 digits of the public key's SHA-256.
    pub keyid: String,
    /// Ed25519, in base64.
    pub sig: String,
}

/// Holds the key.
#[derive(Debug)]
pub struct Signer {
    key: Ed25519KeyPair,
}

fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn key_id(public: &[u8]) -> String {
    secret::sha256_hex(public).chars().take(16).collect()
}

impl Signer {
    /// Reads the key from `path`, or makes one there that only its owner can read.
    pub fn open(path: &Path) -> Result<Self> {
        let broken = |e: &dyn std::fmt::Display| {
            Problem::unavailable(format!("the signing key {}: {e}; restore it from a copy", path.display()))
        };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|e| broken(&e))?;
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| broken(&e))?;
                file.write_all(made.as_ref()).and_then(|()| file.sync_all()).map_err(|e| broken(&e))?;
                made.as_ref().to_vec()
            }
            Err(e) => return Err(broken(&e)),
        };
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).map_err(|e| broken(&e))?;
        Ok(Self { key })
    }

    /// The public key, in base64.
    pub fn public_key(&self) -> String {
        secret::base64(self.key.public_key().as_ref())
    }

    /// Which key it is.
    pub fn key_id(&self) -> String {
        key_id(self.key.public_key().as_ref())
    }

    /// Signs a promise: the same one gives the same bytes.
    pub fn sign(&self, promise: &Promise) -> Result<Envelope> {
        let payload = serde_json::to_vec(promise)?;
        let sig = self.key.sign(&encoded(PAYLOAD_TYPE, &payload));
        Ok(Envelope {
            payload_type: PAYLOAD_TYPE.to_string(),
            payload: secret::base64(&payload),
            signatures: vec![Signature { keyid: self.key_id(), sig: secret::base64(sig.as_ref()) }],
        })
    }

    /// A signature of an address that is good until a time: for packages that are not free.
    pub fn sign_address(&self, sha256: &str, until_ms: i64) -> String {
        secret::base64_url(self.key.sign(address(sha256, until_ms).as_bytes()).as_ref())
    }

    /// Is it a signature of this address?
    pub fn fits_address(&self, sha256: &str, until_ms: i64, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.key.public_key().as_ref());
        secret::unbase64_url(signature).is_some_and(|s| key.verify(address(sha256, until_ms).as_bytes(), &s).is_ok())
    }
}

fn address(sha256: &str, until_ms: i64) -> String {
    format!("millstream package address {sha256} until {until_ms}")
}

/// The promise in an envelope, if `public_key` (base64) signed it.
pub fn verify(envelope: &Envelope, public_key: &str) -> Result<Promise> {
    let bad =
        |why: &str| Problem::invalid(format!("the manifest's signature does not hold ({why}); nothing was installed"));
    let public = secret::unbase64(public_key).ok_or_else(|| bad("the key is not base64"))?;
    let payload = secret::unbase64(&envelope.payload).ok_or_else(|| bad("the payload is not base64"))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(bad("it is about something else"));
    }
    let signed = encoded(&envelope.payload_type, &payload);
    let key = UnparsedPublicKey::new(&ED25519, &public);
    let holds = envelope.signatures.iter().any(|s| {
        s.keyid == key_id(&public) && secret::unbase64(&s.sig).is_some_and(|sig| key.verify(&signed, &sig).is_ok())
    });
    if !holds {
        return Err(bad("another key signed it, or it was changed"));
    }
    serde_json::from_slice(&payload).map_err(|e| bad(&e.to_string()))
}

//! ID tokens: which key signed one, whether it holds, and what it says. The format is jsonwebtoken's, the signatures ring's,
//! which is here already.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value;

/// How far clocks may be apart.
const LEEWAY_S: i64 = 60;

/// What an ID token says.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    /// The provider's own name for the person; it never changes.
    pub sub: String,
    exp: i64,
    iat: i64,
    #[serde(default)]
    nonce: String,
    azp: Option<String>,
    email: Option<String>,
    /// Some providers write a text.
    #[serde(default)]
    email_verified: Value,
    pub preferred_username: Option<String>,
    pub name: Option<String>,
}

impl Claims {
    /// The address, if the provider proved it.
    pub fn proven_email(&self) -> Option<String> {
        let proven = self.email_verified == Value::Bool(true) || self.email_verified == "true";
        self.email.as_ref().filter(|_| proven).map(|email| email.trim().to_lowercase())
    }
}

/// What a token must say.
pub(super) struct Expected<'a> {
    pub issuer: &'a str,
    pub client: &'a str,
    pub nonce: &'a str,
    pub now_s: i64,
}

/// The key that a token says signed it; the only one, if it names none.
pub(super) fn key_of<'a>(token: &str, keys: &'a [Jwk]) -> Option<&'a Jwk> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    let mut signing = keys.iter().filter(|k| k.common.public_key_use != Some(PublicKeyUse::Encryption));
    match header.kid {
        Some(kid) => signing.find(|k| k.common.key_id.as_ref() == Some(&kid)),
        None => signing.next().filter(|_| signing.next().is_none()),
    }
}

/// Does a token hold? If not, why.
pub(super) fn verify(token: &str, key: &Jwk, expected: &Expected<'_>) -> Result<Claims, &'static str> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| "the token cannot be read")?;
    // A secret shared by both sides signs nothing here: whoever knows a public key could.
    if [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512].contains(&header.alg) {
        return Err("its kind of signature is not taken");
    }
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // By our own clock, below.
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(key).map_err(|_| "its key cannot be read")?;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|e| match e.kind() {
        ErrorKind::InvalidSignature => "its signature does not hold",
        ErrorKind::InvalidIssuer => "another provider made it",
        ErrorKind::InvalidAudience => "it is for another client",
        ErrorKind::InvalidAlgorithm => "its kind of signature is not that of the key",
        ErrorKind::MissingRequiredClaim(_) => "it says too little",
        _ => "the token cannot be read",
    })?;
    let claims = claims.claims;
    if claims.azp.as_deref().is_some_and(|azp| azp != expected.client) {
        return Err("it is for another client");
    }
    if claims.exp <= expected.now_s - LEEWAY_S || claims.iat > expected.now_s + LEEWAY_S {
        return Err("it is over, or a clock is wrong");
    }
    if claims.nonce != expected.nonce || claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err("it is not for this sign-in");
    }
    Ok(claims)
}

/// Has jsonwebtoken check signatures with ring.
pub(super) fn use_ring() {
    // Once a process.
    let _ = RING.install_default();
}

static RING: CryptoProvider = CryptoProvider {
    // Nothing is signed here.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() })),
    key_utils: KeyUtils::new_unimplemented(),
};

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let rsa = |parameters: &'static RsaParameters| match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            DecodingKeyKind::SecretOrDer(_) => false,
        };
        let curve = |family: AlgorithmFamily, algorithm: &'static dyn VerificationAlgorithm| match self.key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) if self.key.family() == family => {
                UnparsedPublicKey::new(algorithm, bytes).verify(message, signature).is_ok()
            }
            _ => false,
        };
        let holds = match self.algorithm {
            Algorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => curve(AlgorithmFamily::Ec, &ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => curve(AlgorithmFamily::Ec, &ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => curve(AlgorithmFamily::Ed, &ED25519),
            _ => false,
        };
        if holds { Ok(()) } else { Err(signature::Error::new()) }
    }
}

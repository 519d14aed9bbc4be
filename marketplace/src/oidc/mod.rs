//! Signing in with an account elsewhere: OpenID Connect's code flow with PKCE, at one provider that the configuration names.
//!
//! ```text
//! /sign-in/oidc --state, nonce, challenge--> provider --code--> /sign-in/oidc/callback --code, verifier--> ID token
//!   known (issuer, subject): its account       signed in: connected to that account       else: a new account
//! ```
//!
//! What begins a sign-in is in a cookie of the browser that began it, so no other browser can be made to finish it. Addresses
//! of accounts are not proven, so a provider's address never opens an account that is there already: its owner connects both.

mod provider;
mod sign_in;
mod token;

pub use self::provider::Provider;
pub use self::sign_in::{CALLBACK, COOKIE, PATIENCE_S, Returned, begin, finish, is_connected};

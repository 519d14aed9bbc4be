//! Passwords: Argon2id with its recommended cost, a bounded number at a time.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::problem::{Problem, Result};

const LENGTH_MIN: usize = 10;
const BYTES_MAX: usize = 128;

/// Each hash takes 19 MiB and tens of milliseconds: so many run at once, others wait.
const AT_ONCE: usize = 2;

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    /// Checked where there is no account, so that the answer takes the same time.
    nobody: Arc<str>,
}

impl Passwords {
    /// Ready to hash.
    pub fn new() -> Result<Self> {
        let nobody = hash_now("nobody has this password")?;
        Ok(Self { permits: Arc::new(Semaphore::new(AT_ONCE)), nobody: nobody.into() })
    }

    /// The hash to keep.
    pub async fn hash(&self, password: &str) -> Result<String> {
        if password.chars().count() < LENGTH_MIN || password.len() > BYTES_MAX {
            return Err(Problem::invalid(format!(
                "the password must have {LENGTH_MIN} characters or more, and at most {BYTES_MAX} bytes"
            )));
        }
        let password = password.to_string();
        self.run(move || hash_now(&password)).await?
    }

    /// Does `password` fit `hash`? Takes as long if there is none.
    pub async fn fits(&self, password: &str, hash: Option<&str>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.nobody).to_string();
        let password: String = password.chars().take(BYTES_MAX).collect();
        let fits = self
            .run(move || {
                PasswordHash::new(&hash)
                    .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
            })
            .await?;
        Ok(fits && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let stopped = |_| Problem::internal("the server is stopping");
        let _permit = self.permits.acquire().await.map_err(stopped)?;
        tokio::task::spawn_blocking(work).await.map_err(|e| Problem::internal(format!("a password's hash: {e}")))
    }
}

fn hash_now(password: &str) -> Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|e| Problem::internal(format!("a password's hash: {e}")))?.to_string())
}

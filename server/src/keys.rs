//! API keys: who may do what. A key is shown once, when it is made; only its SHA-256 is kept.
//!
//! Keys are 256 random bits, so a plain hash is enough: there is no dictionary to try. A key is found by its hash, so that no
//! comparison leaks how much of a guess was right. The file is written whole, atomically and durably, and is read again when
//! it changes: `millstream keys` works beside a running server.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use millstream::time::{Clock, SECOND};
use millstream::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What every key begins with, so that leak scanners can tell it.
pub const PREFIX: &str = "millstream_";

/// The file's name in the data directory.
pub const FILE_NAME: &str = "keys.json";

/// What the holder of a key may do. An admin may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Send events.
    Producer,
    /// Read tables, metrics and reports.
    Analyst,
    /// Publish to the marketplace.
    Publisher,
    /// Everything.
    Admin,
}

impl Role {
    /// The role's name: `producer`, `analyst`, `publisher` or `admin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Analyst => "analyst",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Producer, Self::Analyst, Self::Publisher, Self::Admin]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| Error::Config(format!("unknown role '{text}'; use producer, analyst, publisher or admin")))
    }
}

/// What is known of a key. Times are RFC 3339, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What people call it; unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The SHA-256 of the key, in lower-case hexadecimal digits.
    pub sha256: String,
    /// When it was made.
    pub created_at: String,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Since when it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
}

/// Why a key was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The caller is not who may call: no key, or one that is unknown, expired or revoked.
    Unauthenticated(String),
    /// The key may do other things.
    Forbidden(String),
    /// The key made too many requests.
    TooMany {
        /// The limit.
        message: String,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The file of keys cannot be read.
    Storage(String),
}

/// A key that was accepted: for the checks of later requests without the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyId {
    sha256: String,
    /// The key's name.
    pub name: String,
    /// The key's role.
    pub role: Role,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    keys: Vec<Key>,
}

/// What tells that the file was replaced: a rename gives it another inode.
type Stamp = (u64, u64, i64, i64);

#[derive(Debug, Default)]
struct Loaded {
    stamp: Option<Stamp>,
    by_hash: HashMap<String, Key>,
    /// Tokens left and the time of the last refill, by hash.
    buckets: HashMap<String, (f64, i64)>,
}

/// The keys of one data directory.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    loaded: Mutex<Loaded>,
}

impl Keys {
    /// The keys in `data_dir`, which must exist. No file means no keys yet.
    ///
    /// *Errors*: `Storage` if the file cannot be read, `Corrupt` if it is not what was written.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let keys = Self { path: data_dir.join(FILE_NAME), clock, loaded: Mutex::default() };
        keys.reload(&mut keys.lock())?;
        Ok(keys)
    }

    /// Makes a key and returns it: the only time that it is seen.
    ///
    /// *Errors*: `Config` if the name is taken or empty, or the expiry is no RFC 3339 time; `Storage`.
    pub fn create(&self, name: &str, role: Role, expires_at: Option<&str>) -> Result<String> {
        if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
            return Err(Error::Config(
                "a key's name has 1 to 100 bytes and no control characters; choose another".into(),
            ));
        }
        if let Some(text) = expires_at {
            DateTime::parse_from_rfc3339(text).map_err(|e| {
                Error::Config(format!(
                    "expiry '{text}' is no RFC 3339 time ({e}); write one such as 2027-01-31T00:00:00Z"
                ))
            })?;
        }
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(|e| Error::Storage(format!("the system gives no random bytes: {e}")))?;
        let key = format!("{PREFIX}{}", hex(&random));
        let created_at = self.now_text();
        self.change(|keys| {
            if keys.iter().any(|key| key.name == name) {
                return Err(Error::Config(format!("a key named '{name}' exists; choose another name")));
            }
            let expires_at = expires_at.map(Into::into);
            keys.push(Key { name: name.into(), role, sha256: hash(&key), created_at, expires_at, revoked_at: None });
            Ok(())
        })?;
        Ok(key)
    }

    /// All keys, revoked ones included, in the order in which they were made.
    ///
    /// *Errors*: `Storage`, `Corrupt`.
    pub fn list(&self) -> Result<Vec<Key>> {
        Ok(read(&self.path)?.keys)
    }

    /// Refuses a key from now on. A running server knows within a second.
    ///
    /// *Errors*: `Config` if there is no such key; `Storage`.
    pub fn revoke(&self, name: &str) -> Result<()> {
        let now = self.now_text();
        self.change(|keys| {
            let known: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
            let key = keys
                .iter_mut()
                .find(|key| key.name == name)
                .ok_or_else(|| Error::Config(format!("no key is named '{name}'; there are: {}", known.join(", "))))?;
            key.revoked_at.get_or_insert(now);
            Ok(())
        })
    }

    /// Who calls, by the value of the header `authorization`: `Bearer millstream_...`. `allowed` are the roles that may call
    /// besides admin.
    pub fn authenticate(&self, authorization: Option<&str>, allowed: &[Role]) -> Result<KeyId, Denied> {
        let Some(key) = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim) else {
            let message = format!(
                "no API key; send the header authorization: Bearer {PREFIX}... (`millstream keys create` makes one)"
            );
            return Err(Denied::Unauthenticated(message));
        };
        let sha256 = hash(key);
        let mut loaded = self.lock();
        self.reload(&mut loaded).map_err(|e| Denied::Storage(e.to_string()))?;
        let key = self.valid(&loaded, &sha256)?;
        if key.role != Role::Admin && !allowed.contains(&key.role) {
            let roles: Vec<&str> = allowed.iter().map(|role| role.name()).collect();
            let message = format!(
                "the API key '{}' has the role {}; this needs {} or admin",
                key.name,
                key.role.name(),
                roles.join(", ")
            );
            return Err(Denied::Forbidden(message));
        }
        Ok(KeyId { name: key.name.clone(), role: key.role, sha256 })
    }

    /// Takes one request of a key that was accepted before: checks that it still is, and counts it against
    /// `requests_per_second` (0: unlimited; as many may come at once).
    pub fn take(&self, id: &KeyId, requests_per_second: u32) -> Result<(), Denied> {
        let mut loaded = self.lock();
        self.reload(&mut loaded).map_err(|e| Denied::Storage(e.to_string()))?;
        self.valid(&loaded, &id.sha256)?;
        if requests_per_second == 0 {
            return Ok(());
        }
        let (now, rate) = (self.clock.now(), f64::from(requests_per_second));
        let (tokens, refilled) = loaded.buckets.entry(id.sha256.clone()).or_insert((rate, now));
        let elapsed = now.saturating_sub(*refilled).max(0) as f64 / SECOND as f64;
        *tokens = (*tokens + elapsed * rate).min(rate);
        *refilled = now;
        if *tokens < 1.0 {
            let retry_after_ms = ((1.0 - *tokens) / rate * 1_000.0).ceil() as u64;
            let message = format!("the API key '{}' sends more than {requests_per_second} requests a second", id.name);
            return Err(Denied::TooMany { message, retry_after_ms });
        }
        *tokens -= 1.0;
        Ok(())
    }

    fn valid<'a>(&self, loaded: &'a Loaded, sha256: &str) -> Result<&'a Key, Denied> {
        let denied = |message: String| Err(Denied::Unauthenticated(message));
        let Some(key) = loaded.by_hash.get(sha256) else {
            return denied("the API key is not known here; check it, or make one with `millstream keys create`".into());
        };
        if let Some(at) = &key.revoked_at {
            return denied(format!("the API key '{}' was revoked at {at}; ask for another", key.name));
        }
        let expires = key.expires_at.as_deref().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        if expires.and_then(|time| time.timestamp_nanos_opt()).is_some_and(|expires| expires <= self.clock.now()) {
            let at = key.expires_at.as_deref().unwrap_or_default();
            return denied(format!("the API key '{}' expired at {at}; ask for another", key.name));
        }
        Ok(key)
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again if it was replaced. Keys that are gone lose their buckets.
    fn reload(&self, loaded: &mut Loaded) -> Result<()> {
        let stamp = stamp(&self.path)?;
        if stamp == loaded.stamp {
            return Ok(());
        }
        let file = read(&self.path)?;
        loaded.by_hash = file.keys.into_iter().map(|key| (key.sha256.clone(), key)).collect();
        let Loaded { by_hash, buckets, .. } = loaded;
        buckets.retain(|sha256, _| by_hash.contains_key(sha256));
        loaded.stamp = stamp;
        Ok(())
    }

    /// Changes the file under its lock: `millstream keys` may run twice at once.
    fn change(&self, edit: impl FnOnce(&mut Vec<Key>) -> Result<()>) -> Result<()> {
        let lock_path = self.path.with_extension("json.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(|e| Error::file(&lock_path, "open", e))?;
        lock.lock().map_err(|e| Error::file(&lock_path, "lock", e))?;
        let mut file = read(&self.path)?;
        edit(&mut file.keys)?;
        write(&self.path, &file)
    }

    fn now_text(&self) -> String {
        DateTime::<Utc>::from_timestamp_nanos(self.clock.now()).to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

fn stamp(path: &Path) -> Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file(path, "look at", e)),
    }
}

fn read(path: &Path) -> Result<KeyFile> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(KeyFile::default()),
        Err(e) => return Err(Error::file(path, "read", e)),
    };
    serde_json::from_slice(&text)
        .map_err(|e| Error::Corrupt(format!("{} is no file of keys ({e}); restore it or remove it", path.display())))
}

fn write(path: &Path, keys: &KeyFile) -> Result<()> {
    let text =
        serde_json::to_vec_pretty(keys).map_err(|e| Error::Bug(format!("keys cannot be written as JSON: {e}")))?;
    let new = path.with_extension("json.new");
    let attempt = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    attempt().map_err(|e| Error::file(path, "write", e))
}

fn hash(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! API keys.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use millstream::time::{ManualClock, SECOND};
use millstream_server::keys::{Denied, FILE_NAME, Keys, PREFIX, Role};

/// 2026-11-23T00:00:00Z.
const NOW: i64 = 1_795_392_000 * SECOND;

fn open() -> (tempfile::TempDir, ManualClock, Keys) {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW);
    let keys = Keys::open(dir.path(), Arc::new(clock.clone())).unwrap();
    (dir, clock, keys)
}

fn bearer(key: &str) -> Option<String> {
    Some(format!("Bearer {key}"))
}

#[test]
fn a_key_is_shown_once_and_only_its_hash_is_kept() {
    let (dir, _, keys) = open();
    let key = keys.create("ci", Role::Producer, None).unwrap();
    assert_eq!(key.len(), PREFIX.len() + 64);
    let text = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    assert!(!text.contains(&key[PREFIX.len()..]), "the key is in the file");
    let mode = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let listed = keys.list().unwrap();
    assert_eq!(
        (listed[0].name.as_str(), listed[0].role, listed[0].created_at.as_str()),
        ("ci", Role::Producer, "2026-11-23T00:00:00Z")
    );
    assert_eq!(keys.authenticate(bearer(&key).as_deref(), &[Role::Producer]).unwrap().name, "ci");
    assert_ne!(keys.create("ci2", Role::Producer, None).unwrap(), key);
}

#[test]
fn keys_made_and_revoked_elsewhere_count_at_once() {
    let (dir, clock, serving) = open();
    let elsewhere = Keys::open(dir.path(), Arc::new(clock)).unwrap();
    let key = elsewhere.create("late", Role::Admin, None).unwrap();
    let id = serving.authenticate(bearer(&key).as_deref(), &[Role::Producer]).unwrap();
    serving.take(&id, 0).unwrap();
    elsewhere.revoke("late").unwrap();
    let message = "the API key 'late' was revoked at 2026-11-23T00:00:00Z; ask for another".to_string();
    assert_eq!(serving.take(&id, 0).unwrap_err(), Denied::Unauthenticated(message));
}

#[test]
fn a_key_expires() {
    let (_dir, clock, keys) = open();
    let key = keys.create("trial", Role::Analyst, Some("2026-11-23T00:01:00Z")).unwrap();
    let may = || keys.authenticate(bearer(&key).as_deref(), &[Role::Analyst]);
    may().unwrap();
    clock.set(NOW + 60 * SECOND);
    let message = "the API key 'trial' expired at 2026-11-23T00:01:00Z; ask for another".to_string();
    assert_eq!(may().unwrap_err(), Denied::Unauthenticated(message));
}

#[test]
fn requests_of_a_key_are_limited() {
    let (_dir, clock, keys) = open();
    let key = keys.create("fast", Role::Producer, None).unwrap();
    let id = keys.authenticate(bearer(&key).as_deref(), &[Role::Producer]).unwrap();
    for _ in 0..10 {
        keys.take(&id, 10).unwrap();
    }
    let message = "the API key 'fast' sends more than 10 requests a second".to_string();
    assert_eq!(keys.take(&id, 10).unwrap_err(), Denied::TooMany { message, retry_after_ms: 100 });
    clock.set(NOW + SECOND / 10);
    keys.take(&id, 10).unwrap();
    assert!(keys.take(&id, 10).is_err());
    // A clock that is set back gives nothing and takes nothing.
    clock.set(NOW);
    assert!(keys.take(&id, 10).is_err());
}

#[test]
fn mistakes_are_named() {
    let (dir, clock, keys) = open();
    keys.create("ci", Role::Producer, None).unwrap();
    let said = |outcome: millstream::Result<String>| outcome.unwrap_err().to_string();
    assert_eq!(
        said(keys.create("ci", Role::Admin, None)),
        "configuration: a key named 'ci' exists; choose another name"
    );
    assert_eq!(
        said(keys.create("", Role::Admin, None)),
        "configuration: a key's name has 1 to 100 bytes and no control characters; choose another"
    );
    assert!(said(keys.create("x", Role::Admin, Some("tomorrow"))).contains("write one such as 2027-01-31T00:00:00Z"));
    assert_eq!(keys.revoke("cd").unwrap_err().to_string(), "configuration: no key is named 'cd'; there are: ci");
    let role = "root".parse::<Role>().unwrap_err().to_string();
    assert_eq!(role, "configuration: unknown role 'root'; use producer, analyst, publisher or admin");
    std::fs::write(dir.path().join(FILE_NAME), "{").unwrap();
    let error = Keys::open(dir.path(), Arc::new(clock)).unwrap_err().to_string();
    assert!(error.starts_with("corrupt: ") && error.contains("keys.json is no file of keys"), "{error}");
    assert!(matches!(keys.authenticate(Some("Bearer x"), &[]), Err(Denied::Storage(_))));
}

//! Packages: `.tar.gz` archives, looked through without being unpacked.
//!
//! Every bound is checked while reading, so that a small archive that unpacks to a large one is given up as soon as it is
//! over, and never held in memory.

use std::collections::HashSet;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::manifest::Manifest;
use super::secrets;
use crate::config::Uploads;
use crate::problem::{Problem, Result};

const PATH_BYTES_MAX: usize = 200;
const DEPTH_MAX: usize = 16;
const MANIFEST_BYTES_MAX: u64 = 64 << 10;
const README_BYTES_MAX: u64 = 256 << 10;
/// Of one file, looked through for secrets.
const SCANNED_BYTES_MAX: u64 = 1 << 20;
/// Real source shrinks to a tenth, at best to a hundredth.
const RATIO_MAX: u64 = 200;

/// What is in a package.
#[derive(Debug, Clone)]
pub struct Contents {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its README.md, or nothing.
    pub readme: String,
    /// Files in it.
    pub files: Vec<String>,
    /// What a person should look at.
    pub findings: Vec<String>,
}

/// Looks through an archive.
///
/// *Errors*: 400 or 413 that names the entry and the fix.
pub fn read(archive: &[u8], bounds: &Uploads) -> Result<Contents> {
    if archive.len() > bounds.package_bytes_max {
        return Err(Problem::too_large(format!(
            "the package has {} bytes; at most {} are taken",
            archive.len(),
            bounds.package_bytes_max
        )));
    }
    if !archive.starts_with(&[0x1f, 0x8b]) {
        return Err(Problem::invalid("the package is not gzip; send a .tar.gz made by tar czf"));
    }
    // Headers and padding count too: 1 KiB an entry.
    let ratio_bound = (archive.len() as u64).saturating_mul(RATIO_MAX).max(1 << 20);
    let unpacked_max = bounds.unpacked_bytes_max.min(ratio_bound) + 1_024 * bounds.entries_max as u64;
    let unpacked = Bounded { inner: MultiGzDecoder::new(archive), left: unpacked_max };
    let mut reading =
        Reading { bounds, seen: HashSet::new(), manifest: None, readme: None, found: Vec::new(), files: Vec::new() };
    let mut tar = Archive::new(unpacked);
    for (index, entry) in tar.entries().map_err(damaged)?.enumerate() {
        if index >= bounds.entries_max {
            return Err(Problem::invalid(format!("the package has more than {} entries", bounds.entries_max)));
        }
        reading.entry(entry.map_err(damaged)?)?;
    }
    reading.finish()
}

fn damaged(error: std::io::Error) -> Problem {
    if error.get_ref().is_some_and(|inner| inner.is::<OverBound>()) {
        return Problem::too_large(
            "the package unpacks to more than is taken, or than its size allows; make it smaller",
        );
    }
    Problem::invalid(format!("the package is damaged: {error}; make it anew with tar czf"))
}

#[derive(Debug, thiserror::Error)]
#[error("over the bound")]
struct OverBound;

/// Gives up after so many bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| std::io::Error::other(OverBound))?;
        Ok(read)
    }
}

struct Reading<'a> {
    bounds: &'a Uploads,
    seen: HashSet<String>,
    manifest: Option<Manifest>,
    readme: Option<String>,
    found: Vec<String>,
    files: Vec<String>,
}

impl Reading<'_> {
    fn entry<R: Read>(&mut self, entry: tar::Entry<'_, R>) -> Result<()> {
        let raw = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let folder = match entry.header().entry_type() {
            EntryType::Regular => false,
            EntryType::Directory => true,
            other => {
                return Err(Problem::invalid(format!(
                    "entry '{shown}' is a {}; only files and folders are taken",
                    kind_name(other)
                )));
            }
        };
        let path = check_path(&raw, folder)?;
        // "." itself, as `tar czf x.tar.gz .` writes it.
        if path.is_empty() {
            return Ok(());
        }
        // Two names that differ in case are one file on some machines.
        if !self.seen.insert(path.to_lowercase()) && !folder {
            return Err(Problem::invalid(format!("entry '{path}' is there twice; each name once, whatever its case")));
        }
        if folder {
            return Ok(());
        }
        self.file(path, entry)
    }

    fn file<R: Read>(&mut self, path: String, entry: tar::Entry<'_, R>) -> Result<()> {
        let size = entry.size();
        let head_max = match path.as_str() {
            "agent.json" => bounded(&path, size, MANIFEST_BYTES_MAX)?,
            "README.md" => bounded(&path, size, README_BYTES_MAX)?,
            _ => SCANNED_BYTES_MAX.min(self.bounds.unpacked_bytes_max),
        };
        let mut head = Vec::new();
        entry.take(head_max).read_to_end(&mut head).map_err(damaged)?;
        self.found.extend(secrets::find(&path, &head));
        match path.as_str() {
            "agent.json" => self.manifest = Some(Manifest::of(&head)?),
            "README.md" => {
                let text =
                    String::from_utf8(head).map_err(|_| Problem::invalid("README.md is not UTF-8; save it so"))?;
                self.readme = Some(text);
            }
            _ => {}
        }
        self.files.push(path);
        Ok(())
    }

    fn finish(self) -> Result<Contents> {
        let missing = || Problem::invalid("there is no agent.json at the top of the package; add it");
        let manifest = self.manifest.ok_or_else(missing)?;
        if !self.files.contains(&manifest.entrypoint) {
            return Err(Problem::invalid(format!(
                "agent.json: entrypoint '{}' is not a file of the package; name one that is",
                manifest.entrypoint
            )));
        }
        let readme = self.readme.unwrap_or_default();
        let mut findings = self.found;
        if manifest.permissions.iter().any(|p| p == "shell") {
            findings.push("asks for the permission to run a shell".to_string());
        }
        Ok(Contents { manifest, readme, files: self.files, findings })
    }
}

fn bounded(path: &str, size: u64, max: u64) -> Result<u64> {
    if size > max {
        return Err(Problem::too_large(format!("{path} has {size} bytes; at most {max} are taken")));
    }
    Ok(max)
}

/// The entry's path, plain: no way out of the folder that it will be put in, on any machine.
fn check_path(raw: &[u8], folder: bool) -> Result<String> {
    let shown = String::from_utf8_lossy(raw).into_owned();
    let bad = |why: &str| Err(Problem::invalid(format!("entry '{shown}' {why}")));
    let Ok(text) = std::str::from_utf8(raw) else { return bad("is not UTF-8; rename it") };
    let text = text.strip_prefix("./").unwrap_or(text);
    let text = if folder { text.trim_end_matches('/') } else { text };
    if folder && (text.is_empty() || text == ".") {
        return Ok(String::new());
    }
    if text.is_empty() || text.len() > PATH_BYTES_MAX {
        return bad("has no name or one longer than 200 bytes; rename it");
    }
    if text.starts_with('/') || text.contains(['\\', ':']) || text.chars().any(char::is_control) {
        return bad("is absolute or has a backslash, colon or control character; use plain relative names");
    }
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > DEPTH_MAX {
        return bad("lies more than 16 folders deep; flatten it");
    }
    if parts.iter().any(|p| p.is_empty() || *p == "." || *p == ".." || p.ends_with(['.', ' '])) {
        return bad("leaves its folder or has an empty part; use plain relative names");
    }
    if parts.iter().any(|p| is_reserved(p)) {
        return bad("is a name that Windows keeps for a device; rename it");
    }
    Ok(text.to_string())
}

fn is_reserved(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let numbered =
        |p: &str| stem.strip_prefix(p).is_some_and(|d| d.len() == 1 && d.bytes().all(|b| b.is_ascii_digit()));
    ["con", "prn", "aux", "nul"].contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "special entry",
    }
}

//! `agent.json`: what a package says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::check_name;
use crate::catalogue::{Category, PER_AGENT_MAX};
use crate::problem::{Problem, Result};

/// What a package says of itself. Unknown keys are refused, so that a misspelt permission is not a missing one; what is
/// meant for other tools goes under `_meta`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `namespace/name`.
    pub name: String,
    /// Semantic version; one with a pre-release part goes to the channel `pre`.
    pub version: String,
    /// On pages, at most 80 characters.
    pub title: String,
    /// One sentence, at most 200 characters.
    pub summary: String,
    /// SPDX identifier, such as Apache-2.0.
    pub license: String,
    /// One to three categories.
    pub categories: Vec<String>,
    /// At most ten lower-case words.
    #[serde(default)]
    pub tags: Vec<String>,
    /// https address of the source.
    #[serde(default)]
    pub repository: String,
    /// https addresses of pictures, at most eight.
    #[serde(default)]
    pub screenshots: Vec<String>,
    /// The file that starts the agent.
    pub entrypoint: String,
    /// What runs it.
    pub runtime: Runtime,
    /// What it will be allowed, shown before the install: `network:host`, `files:read`, `files:write`, `shell`,
    /// `environment:NAME`.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// For other tools, passed on as it is.
    #[serde(default, rename = "_meta", skip_serializing_if = "serde_json::Value::is_null")]
    #[schema(value_type = Object)]
    pub meta: serde_json::Value,
}

/// What runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// python, node, wasm, binary or mcp.
    pub kind: String,
    /// Which versions of it, such as `>=3.11`.
    #[serde(default)]
    pub version: String,
}

const RUNTIMES: [&str; 5] = ["python", "node", "wasm", "binary", "mcp"];

impl Manifest {
    /// Reads and checks the text of an `agent.json`.
    ///
    /// *Errors*: 400 that names the key and the fix.
    pub fn of(text: &[u8]) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(text).map_err(|e| Problem::invalid(format!("agent.json: {e}")))?;
        manifest.check().map_err(|p| Problem::invalid(format!("agent.json: {}", p.detail())))?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        let (namespace, name) = self.full_name()?;
        check_name("the namespace", namespace)?;
        check_name("the name", name)?;
        self.semver()?;
        check_length("title", &self.title, 1, 80)?;
        check_length("summary", &self.summary, 10, 200)?;
        check_length("license", &self.license, 2, 64)?;
        if self.categories.is_empty() || self.categories.len() > PER_AGENT_MAX {
            return Err(Problem::invalid(format!("categories has {}; choose one to three", self.categories.len())));
        }
        for category in &self.categories {
            Category::of(category)?;
        }
        check_tags(&self.tags)?;
        check_links(&self.repository, &self.screenshots)?;
        if !RUNTIMES.contains(&self.runtime.kind.as_str()) {
            let kinds = RUNTIMES.join(", ");
            return Err(Problem::invalid(format!("runtime.kind is '{}'; use one of {kinds}", self.runtime.kind)));
        }
        check_length("runtime.version", &self.runtime.version, 0, 64)?;
        if self.permissions.len() > 50 {
            return Err(Problem::invalid("permissions has more than 50; ask for less"));
        }
        self.permissions.iter().try_for_each(|p| check_permission(p))
    }

    /// (namespace, name).
    pub fn full_name(&self) -> Result<(&str, &str)> {
        self.name
            .split_once('/')
            .ok_or_else(|| Problem::invalid(format!("name is '{}'; write namespace/name", self.name)))
    }

    /// The version, read.
    pub fn semver(&self) -> Result<semver::Version> {
        let version: semver::Version = self.version.parse().map_err(|e| {
            Problem::invalid(format!("version '{}': {e}; write a semantic version such as 1.2.0", self.version))
        })?;
        if !version.build.is_empty() || self.version.len() > 64 {
            return Err(Problem::invalid("version has build metadata or more than 64 characters; leave it out"));
        }
        Ok(version)
    }
}

fn check_length(what: &str, text: &str, min: usize, max: usize) -> Result<()> {
    let length = text.chars().count();
    if !(min..=max).contains(&length) || text.trim() != text {
        return Err(Problem::invalid(format!(
            "{what} has {length} characters; use {min} to {max}, without blanks at its ends"
        )));
    }
    if text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Err(Problem::invalid(format!("{what} has control or invisible characters; take them out")));
    }
    Ok(())
}

/// Characters that show nothing or turn the reading direction: they make one name look like another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Are these fit for tags?
pub fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > 10 {
        return Err(Problem::invalid(format!("tags has {}; choose at most ten", tags.len())));
    }
    let bad = tags.iter().find(|t| {
        t.is_empty() || t.len() > 30 || !t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    });
    match bad {
        Some(tag) => Err(Problem::invalid(format!(
            "tag '{tag}' cannot be used; write at most 30 lower-case letters, digits and hyphens"
        ))),
        None => Ok(()),
    }
}

/// Are these fit for links on a page?
pub fn check_links(repository: &str, screenshots: &[String]) -> Result<()> {
    if screenshots.len() > 8 {
        return Err(Problem::invalid(format!("screenshots has {}; choose at most eight", screenshots.len())));
    }
    let links = screenshots.iter().map(String::as_str).chain(Some(repository).filter(|r| !r.is_empty()));
    for link in links {
        let fits = link.starts_with("https://") && link.len() <= 300 && link.bytes().all(|b| b.is_ascii_graphic());
        if !fits || link.contains(['"', '\'', '<', '>']) {
            return Err(Problem::invalid(format!("link '{link}' cannot be used; write an https:// address")));
        }
    }
    Ok(())
}

fn check_permission(permission: &str) -> Result<()> {
    let (kind, rest) = permission.split_once(':').unwrap_or((permission, ""));
    let fits = match kind {
        "network" | "environment" => {
            !rest.is_empty() && rest.len() <= 100 && rest.bytes().all(|b| b.is_ascii_graphic())
        }
        "files" => rest == "read" || rest == "write",
        "shell" => rest.is_empty(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "permission '{permission}' is unknown; use network:host, files:read, files:write, shell or environment:NAME"
    )))
}

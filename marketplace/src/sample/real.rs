//! A real catalogue: the plugins of an editor, as their community lists them.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::accounts::check_name;
use crate::problem::{Problem, Result};

/// One entry of a real catalogue.
#[derive(Debug, Clone, Deserialize)]
pub struct Real {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) repo: String,
}

/// Reads the real catalogue of a folder; nothing if the folder has none.
pub fn real_catalogue(folder: &Path) -> Result<Vec<Real>> {
    let path = folder.join("market_obsidian_catalog_2023-12-31.json.gz");
    let Ok(file) = std::fs::File::open(&path) else { return Ok(Vec::new()) };
    let mut text = String::new();
    let read = GzDecoder::new(file).read_to_string(&mut text);
    read.map_err(|e| Problem::invalid(format!("{}: {e}", path.display())))?;
    let mut all: Vec<Real> =
        serde_json::from_str(&text).map_err(|e| Problem::invalid(format!("{}: {e}", path.display())))?;
    all.retain(|r| check_name("", &r.id).is_ok());
    Ok(all)
}

/// The category whose words a text has; research where there are none.
pub(super) fn category_of(text: &str) -> &'static str {
    const WORDS: [(&str, &[&str]); 9] = [
        ("database-data", &["database", "sql", "table", "csv", "query"]),
        ("security-compliance", &["encrypt", "password", "secret", "privacy"]),
        ("devops-deployment", &["deploy", "git", "sync", "publish", "backup"]),
        ("testing-qa", &["test", "lint", "check"]),
        ("code-analysis-review", &["code", "syntax", "review"]),
        ("frontend-ui", &["theme", "style", "css", "icon", "color", "sidebar", "button"]),
        ("backend-api", &["api", "server", "http"]),
        ("business-intelligence", &["chart", "dashboard", "track", "kanban", "task"]),
        ("documentation-generation", &["document", "template", "export", "markdown", "note"]),
    ];
    let text = text.to_lowercase();
    let fits = |words: &[&str]| words.iter().any(|w| text.contains(w));
    WORDS.iter().find(|(_, words)| fits(words)).map_or("research-analysis", |(slug, _)| slug)
}

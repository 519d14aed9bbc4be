//! The project's own source files, for checks of their form.

use std::path::{Path, PathBuf};

use crate::root;

/// The Rust files below some folders of the checkout, sorted.
pub fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    files(folders, "rs")
}

/// The files with an extension below some folders of the checkout, sorted.
pub fn files(folders: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        walk(&root().join(folder), extension, &mut found);
    }
    found.sort();
    found
}

fn walk(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// What of a file is not its tests.
pub fn code(text: &str) -> &str {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

/// A function and its lines, from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// How many lines.
    pub lines: usize,
}

/// The functions of formatted Rust: one ends at the first brace as far left as it began.
pub fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some((before, rest)) = trimmed.split_once("fn ") else { continue };
        let starts = before.split_whitespace().all(|w| matches!(w, "pub" | "const" | "async") || w.starts_with("pub("));
        if !starts || !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let closing = format!("{indent}}}");
        // Without a body, as in a trait: it ends with the first semicolon.
        let body = lines[at..].iter().position(|l| l.ends_with('{') || l.ends_with('}'));
        let semicolon = lines[at..].iter().position(|l| l.ends_with(';')).filter(|s| body.is_none_or(|b| *s < b));
        let length = semicolon.or_else(|| {
            let one_line = line.ends_with('}').then_some(0);
            one_line.or_else(|| lines[at..].iter().position(|l| **l == closing))
        });
        let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.push(Function { name, line: at + 1, lines: length.unwrap_or(0) + 1 });
    }
    found
}

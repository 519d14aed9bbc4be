//! The SQL files that ship: a folder is a catalogue, a file's name is a name, its header comment is its description.
//!
//! A file is looked at whenever it is asked for, and read again when it has changed, so an edited metric answers anew without
//! a restart. Comments describe and never configure: the first comment line is the title, the rest the definition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use millstream::{Error, Result};

/// One SQL file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    /// The file's name without `.sql`: the name of the metric, rollup or pipeline.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub sql: String,
    /// The first line of its header comment, or its name.
    pub title: String,
    /// The other lines of its header comment, joined with line feeds.
    pub definition: String,
    words: Arc<Words>,
}

/// What its SQL mentions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    /// Without the dollar sign.
    parameters: BTreeSet<String>,
    /// Names and keywords, in lower case.
    names: BTreeSet<String>,
}

/// Files as they were read last, by path, with the time of change and the length that they had.
type FilesRead = HashMap<PathBuf, (SystemTime, u64, SqlFile)>;

static READ: Mutex<Option<FilesRead>> = Mutex::new(None);

/// Files remembered at most; then all are forgotten.
const READ_MAX: usize = 10_000;

/// A file that changed so shortly before it was read may change again without another time of change: clocks of file
/// systems tick in milliseconds.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

impl SqlFile {
    /// Reads one file, unless it is as it was.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |e| Error::file(path, "read", e);
        let about = std::fs::metadata(path).map_err(failed)?;
        let changed = about.modified().map_err(failed)?;
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.get_or_insert_with(HashMap::new);
        if let Some((_, _, file)) = read.get(path).filter(|(at, bytes, _)| (*at, *bytes) == (changed, about.len())) {
            return Ok(file.clone());
        }
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let file = Self::of(name, path.to_path_buf(), std::fs::read_to_string(path).map_err(failed)?);
        if changed.elapsed().is_ok_and(|age| age > SETTLED_AFTER) {
            if read.len() >= READ_MAX {
                read.clear();
            }
            read.insert(path.to_path_buf(), (changed, about.len(), file.clone()));
        }
        Ok(file)
    }

    /// What a text of that name says.
    pub fn of(name: String, path: PathBuf, sql: String) -> Self {
        let mut comments = sql
            .lines()
            .map(str::trim)
            .skip_while(|line| line.is_empty())
            .map_while(|line| line.strip_prefix("--"))
            .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
        let title = comments.next().filter(|t| !t.is_empty()).unwrap_or(&name).to_string();
        let definition = comments.collect::<Vec<_>>().join("\n").trim().to_string();
        let mut found = Words::default();
        for word in words(&sql) {
            match word.strip_prefix('$') {
                Some(parameter) => found.parameters.insert(parameter.to_string()),
                None => found.names.insert(word.to_ascii_lowercase()),
            };
        }
        Self { name, path, title, definition, sql, words: Arc::new(found) }
    }

    /// The names of the `$name` parameters, sorted, without the dollar sign.
    pub fn parameters(&self) -> BTreeSet<String> {
        self.words.parameters.clone()
    }

    /// Whether the SQL mentions the table (or anything else) `name`.
    pub fn mentions(&self, name: &str) -> bool {
        self.words.names.contains(&name.to_ascii_lowercase())
    }
}

/// The `.sql` files of a folder, sorted by name; none if the folder is missing.
pub fn list(dir: &Path) -> Result<Vec<SqlFile>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::file(dir, "list", e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::file(dir, "list", e))?.path();
        if path.extension().is_some_and(|e| e == "sql") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| SqlFile::read(path)).collect()
}

/// The views of a folder: name to SELECT.
pub fn views(dir: &Path) -> Result<BTreeMap<String, String>> {
    Ok(list(dir)?.into_iter().map(|file| (file.name, file.sql)).collect())
}

/// The names of the views of a folder that anybody can read: neither they nor what they use has parameters.
pub fn plain_views(dir: &Path) -> Result<Vec<String>> {
    let all = list(dir)?;
    let plain = all.iter().filter(|view| with_views(view, &all).iter().all(|text| text.parameters().is_empty()));
    Ok(plain.map(|view| view.name.clone()).collect())
}

/// A file and the views that it uses, directly or through others.
pub fn with_views<'a>(file: &'a SqlFile, views: &'a [SqlFile]) -> Vec<&'a SqlFile> {
    let mut used = vec![file];
    let mut next = 0;
    while let Some(text) = used.get(next).copied() {
        for view in views.iter().filter(|view| text.mentions(&view.name)) {
            if !used.iter().any(|known| known.name == view.name) {
                used.push(view);
            }
        }
        next += 1;
    }
    used
}

/// As [`list`], `sources.sql` first: pipelines use the tables that it defines.
pub fn pipelines(dir: &Path) -> Result<Vec<SqlFile>> {
    let mut files = list(dir)?;
    files.sort_by_key(|file| file.name != "sources");
    Ok(files)
}

/// The file `name` of a folder; `what` (metric, rollup) is the word of the error, which lists the names there are.
pub fn find(dir: &Path, what: &str, name: &str) -> Result<SqlFile> {
    let path = dir.join(format!("{name}.sql"));
    if is_name(name) && path.is_file() {
        return SqlFile::read(&path);
    }
    let names: Vec<String> = list(dir)?.into_iter().map(|file| file.name).collect();
    let known = if names.is_empty() { "none".to_string() } else { names.join(", ") };
    Err(Error::Config(format!("no {what} `{name}` in {}; there are: {known}", dir.display())))
}

/// Whether `name` can be the name of a file and of a table: no way out of the folder.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Identifiers and `$parameters` of a SQL text, outside comments and string literals. Quoted identifiers lose their quotes.
pub(crate) fn words(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            let skipped = if rest.starts_with("--") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            } else if first == '\'' {
                rest.get(1..).and_then(|r| r.find('\'')).map_or(rest.len(), |end| end + 2)
            } else if first == '$' || first == '_' || first.is_alphanumeric() {
                let end = rest
                    .char_indices()
                    .find(|(at, c)| *at > 0 && *c != '_' && !c.is_alphanumeric())
                    .map_or(rest.len(), |(at, _)| at);
                let (word, after) = rest.split_at(end);
                rest = after;
                return Some(word);
            } else {
                first.len_utf8()
            };
            rest = rest.get(skipped..)?;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sql: &str) -> SqlFile {
        let dir = std::env::temp_dir().join(format!("millstream-catalog-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("dau.sql");
        std::fs::write(&path, sql).unwrap();
        let file = SqlFile::read(&path).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        file
    }

    #[test]
    fn the_header_comment_is_title_and_definition() {
        let f = file("\n-- Daily active users\n--\n-- Grain: one row per UTC day.\n-- Units: users.\nSELECT 1 -- no\n");
        assert_eq!(f.name, "dau");
        assert_eq!(f.title, "Daily active users");
        assert_eq!(f.definition, "Grain: one row per UTC day.\nUnits: users.");
        assert_eq!(file("SELECT 1").title, "dau");
    }

    #[test]
    fn parameters_are_found_outside_comments_and_strings() {
        let f = file("-- $no\nSELECT '$no', 'it''s $no' FROM t /* $no */ WHERE a >= $from AND a < $to AND b=$agent_id");
        assert_eq!(f.parameters().into_iter().collect::<Vec<_>>(), ["agent_id", "from", "to"]);
        assert!(f.mentions("t") && f.mentions("T"));
        assert!(!f.mentions("no") && !f.mentions("it"));
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let error = find(Path::new("sql/metrics"), "metric", "../../etc/passwd").unwrap_err().to_string();
        assert!(error.starts_with("configuration: no metric `../../etc/passwd` in sql/metrics; there are:"), "{error}");
    }
}

//! The form of the project: sizes, names, headers, and what its documents claim to be there.

use std::fs;
use std::path::{Path, PathBuf};

use millstream_tests::root;
use millstream_tests::sources::{Function, code, files, functions, rust_files};

const OURS: [&str; 5] = ["engine/src", "server/src", "report/src", "proto/src", "marketplace/src"];
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const MOD_LINES_MAX: usize = 85;
const ARCHITECTURE_LINES_MAX: usize = 150;

/// `mod.rs` files that are more than a table of contents, and why.
const MOD_EXCEPTIONS: [(&str, &str); 8] = [
    ("engine/src/engine/mod.rs", "the engine itself"),
    ("engine/src/runtime/mod.rs", "starts and joins the threads that its files are"),
    ("engine/src/connectors/mod.rs", "the table of connectors and their three traits"),
    ("engine/src/operators/mod.rs", "what an operator is"),
    ("server/src/http/mod.rs", "the routes"),
    ("marketplace/src/api/mod.rs", "the routes"),
    ("server/src/ingest/mod.rs", "the gRPC listener"),
    ("server/src/cli/mod.rs", "the commands"),
];

/// Functions that are longer than the rest, and why.
const FUNCTION_EXCEPTIONS: [(&str, &str); 1] = [("runtime/mod.rs start", "one list of threads with their channels")];

/// Files that are compiled for tests only, though their names do not say so.
const TEST_FILES: [&str; 3] =
    ["engine/src/fs/sim.rs", "engine/src/runtime/back_pressure.rs", "engine/src/runtime/state_size.rs"];

/// Words that say nothing about a file's content.
const BANNED_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn ours() -> Vec<(String, String)> {
    let files = rust_files(&OURS);
    assert!(files.len() > 80, "the project's files were found");
    let read = |path: PathBuf| (shown(&path), fs::read_to_string(&path).unwrap());
    files.into_iter().map(read).filter(|(name, _)| !name.ends_with("tests.rs") && !name.contains("/tests/")).collect()
}

fn none(wrong: Vec<String>, fix: &str) {
    assert!(wrong.is_empty(), "{}\nfix: {fix}", wrong.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    let (mut long_files, mut long_functions) = (Vec::new(), Vec::new());
    for (name, text) in ours() {
        let text = code(&text);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            long_files.push(format!("{name}: {lines} lines before its tests"));
        }
        for Function { name: function, line, lines } in functions(text) {
            let known = |(which, _): &(&str, &str)| format!("{name} {function}").ends_with(which);
            if lines > FUNCTION_LINES_MAX && !FUNCTION_EXCEPTIONS.iter().any(known) {
                long_functions.push(format!("{name}:{line}: {function} has {lines} lines"));
            }
        }
    }
    none(long_files, "split the file by what it is about; at most 500 lines");
    none(long_functions, "name a part of it; at most 70 lines");
}

#[test]
fn mod_files_are_tables_of_contents() {
    let wrong = ours().into_iter().filter(|(name, _)| name.ends_with("/mod.rs"));
    let wrong = wrong.filter(|(name, text)| {
        code(text).lines().count() > MOD_LINES_MAX && !MOD_EXCEPTIONS.iter().any(|(known, _)| known == name)
    });
    let wrong = wrong.map(|(name, text)| format!("{name}: {} lines", text.lines().count())).collect();
    none(wrong, "move the code into a file named after what it does");
}

#[test]
fn nothing_that_users_run_can_panic_on_purpose() {
    let mut wrong = Vec::new();
    for (name, text) in ours().into_iter().filter(|(name, _)| !TEST_FILES.contains(&name.as_str())) {
        for (i, line) in code(&text).lines().enumerate() {
            let line = line.split("//").next().unwrap_or("");
            if [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("].iter().any(|w| line.contains(w)) {
                wrong.push(format!("{name}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    none(wrong, "return millstream::Error with what, where and the fix");
}

#[test]
fn names_say_what_a_file_is_about() {
    let all = rust_files(&["engine", "server", "report", "proto", "marketplace", "tests", "benches"]);
    let wrong = all.iter().filter(|path| {
        let inside = path.strip_prefix(root()).unwrap();
        let mut names = inside.components().map(|c| c.as_os_str().to_string_lossy().into_owned());
        names.any(|n| BANNED_NAMES.contains(&n.trim_end_matches(".rs")))
    });
    none(wrong.map(|p| shown(p)).collect(), "name the file after the thing in it");
}

#[test]
fn every_sql_file_begins_with_its_definition() {
    let all = files(&["pipelines", "sql"], "sql");
    assert!(all.len() > 10, "the SQL files were found");
    let wrong = all.iter().filter(|path| !fs::read_to_string(path).unwrap().starts_with("-- "));
    none(wrong.map(|p| shown(p)).collect(), "begin with a comment: title, grain, units, source of the definition");
}

#[test]
fn versions_are_in_one_place() {
    let mut wrong = Vec::new();
    for folder in ["engine", "server", "report", "proto", "marketplace", "tests", "benches"] {
        let name = format!("{folder}/Cargo.toml");
        let text = fs::read_to_string(root().join(&name)).unwrap();
        let mut in_dependencies = false;
        for (i, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                wrong.push(format!("{name}:{i}: {line}"));
            }
        }
    }
    none(wrong, "write `name.workspace = true` and the version in the root Cargo.toml");
}

/// Paths in backticks: with a slash or a known ending, and without a blank, wildcard or placeholder.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |p: &&str| {
        let plain = p.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
        let known = [".rs", ".md", ".sql", ".toml", ".proto", ".py", ".sh"].iter().any(|e| p.ends_with(e));
        plain && !p.starts_with('/') && (known || (p.contains('/') && p.ends_with('/')))
    };
    quoted.filter(is_path).collect()
}

#[test]
fn the_architecture_is_short_and_true() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let lines = text.lines().count();
    assert!(
        lines <= ARCHITECTURE_LINES_MAX,
        "ARCHITECTURE.md has {lines} lines; fix: say less, at most {ARCHITECTURE_LINES_MAX}"
    );
    let named = paths(&text);
    assert!(named.len() >= 10, "ARCHITECTURE.md names the files it speaks of");
    let places = ["", "engine/src", "server/src"].map(|p| root().join(p));
    let missing = named.iter().filter(|p| !places.iter().any(|place| place.join(p).exists()));
    none(
        missing.map(|p| format!("ARCHITECTURE.md names `{p}`, which is not there")).collect(),
        "name the file as it is now",
    );
}

/// The tests that a text names: `module::function`.
fn tests_named(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let named = quoted.filter_map(|name| name.rsplit_once("::").map(|(_, function)| function.to_string()));
    named
        .filter(|f| f.contains('_') && f.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .collect()
}

#[test]
fn the_tests_that_promises_name_are_there() {
    let mut known: Vec<String> = Vec::new();
    for file in rust_files(&["tests/tests/it", "engine/tests/it", "engine/src", "server/tests/it", "server/src"]) {
        let text = fs::read_to_string(&file).expect("a source file can be read");
        known.extend(functions(&text).into_iter().map(|f| f.name));
    }
    for document in ["docs/guarantees.md", "docs/limits.md"] {
        let text = fs::read_to_string(root().join(document)).expect("the document is there");
        let named = tests_named(&text);
        assert!(named.len() > 10, "{document} names its tests");
        let missing = named.iter().filter(|name| !known.contains(name));
        none(
            missing.map(|n| format!("{document} names the test `{n}`, which is not there")).collect(),
            "name it as it is now",
        );
    }
}

#[test]
fn the_checks_find_what_they_look_for() {
    let text = "impl A {\n    pub fn a(\n        b: u8,\n    ) {\n        c();\n    }\n\n    fn d(&self);\n}\nconst fn e() {}\n";
    let found: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("a".into(), 2, 5), ("d".into(), 8, 1), ("e".to_string(), 10, 1)]);
    assert_eq!(
        paths("`a/b.rs` and `cargo test` `pipelines/` `x::y` `README.md` `sql/*.sql`"),
        ["a/b.rs", "pipelines/", "README.md"]
    );
}

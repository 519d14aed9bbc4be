//! The order of the engine's modules, as data: a module uses only those below it.

use std::fs;
use std::path::Path;

use millstream_tests::root;
use millstream_tests::sources::{code, rust_files};

/// From the ground up. Modules of one line know nothing of each other.
const LAYERS: [&[&str]; 11] = [
    &["error", "planted", "time"],
    &["contained", "fs", "message"],
    &["log", "lake"],
    &["operators"],
    &["connectors"],
    &["checkpoint"],
    &["sql"],
    &["runtime"],
    &["batch"],
    &["engine"],
    &["lib"],
];

/// Modules that a file names with `crate::`, in code.
fn used(text: &str) -> Vec<String> {
    let name = |rest: &str| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // What the crate's root gives out again is the engine's, but for the error type.
        match name.as_str() {
            "Error" | "Result" | "SqlError" => "error".to_string(),
            other if other.starts_with(char::is_uppercase) => "engine".to_string(),
            _ => name,
        }
    };
    let lines = code(text).lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names: Vec<String> = lines.split("crate::").skip(1).map(name).collect();
    names.sort();
    names.dedup();
    names
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What a module may not use, and does.
fn violations(file: &str, module: &str, text: &str) -> Vec<String> {
    let Some(own) = layer(module) else {
        return vec![format!("{file}: module `{module}` has no layer; fix: add it to LAYERS in {}", file!())];
    };
    let wrong = |other: &String| {
        let at = layer(other)?;
        (other != module && at >= own).then(|| {
            format!(
                "{file}: `{module}` uses `{other}`, which is not below it; fix: move what both need into a module below \
                 `{module}`, or pass it in from above"
            )
        })
    };
    used(text).iter().filter_map(wrong).collect()
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("engine/src")).expect("a file of the engine");
    let first = inside.components().next().expect("a file has a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

#[test]
fn modules_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    let files = rust_files(&["engine/src"]);
    assert!(files.len() > 30, "the engine's files were found");
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let module = module_of(path);
        if module != "lib" {
            wrong.extend(violations(&path.display().to_string(), &module, &text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_use_of_something_above_is_found() {
    let wrong = violations("log/x.rs", "log", "use crate::error::Error;\nuse crate::engine::Engine;\n// crate::sql\n");
    assert_eq!(
        wrong,
        [
            "log/x.rs: `log` uses `engine`, which is not below it; fix: move what both need into a module below `log`, or pass \
          it in from above"
        ]
    );
    assert_eq!(violations("lake/x.rs", "lake", "crate::log::Log").len(), 1, "no order between log and lake");
    assert_eq!(
        violations("x.rs", "attic", "")[0],
        format!("x.rs: module `attic` has no layer; fix: add it to LAYERS in {}", file!())
    );
}

//! Packages that must not get in: each is refused with a status, a reason and what to do, and leaves nothing behind.

use millstream_marketplace::config::Uploads;
use millstream_marketplace::publish::read_package;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::market::{archive, manifest, package};

/// A package that must not get in, and what its sender is told.
pub struct Bad {
    pub name: String,
    pub bytes: Vec<u8>,
    pub status: u16,
    pub words: &'static str,
}

impl Bad {
    fn new(name: impl Into<String>, bytes: Vec<u8>, status: u16, words: &'static str) -> Self {
        Self { name: name.into(), bytes, status, words }
    }

    fn is_refused(&self) {
        let Self { name, bytes, status, words } = self;
        let problem = read_package(bytes, &Uploads::default()).expect_err(name);
        assert_eq!(problem.status().as_u16(), *status, "{name}: {problem}");
        assert!(problem.detail().contains(words), "{name}: '{problem}' does not say '{words}'");
    }
}

/// All of them.
pub fn bad_packages() -> Vec<Bad> {
    [paths(), kinds(), sizes(), damage(), manifests()].into_iter().flatten().collect()
}

/// A package with one entry of this raw name; the tar crate itself would refuse to write most of them.
fn with_entry(name: &[u8], kind: EntryType, link: Option<&str>) -> Vec<u8> {
    let text = serde_json::to_vec(&manifest("acme/linter", "1.0.0")).unwrap();
    archive(|tar| {
        for (path, bytes) in [("agent.json", text.as_slice()), ("main.py", b"x")] {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes).unwrap();
        }
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(0);
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
    })
}

#[test]
fn a_good_package_is_read() {
    let good = package(&manifest("acme/linter", "1.0.0"), &[("src/a.py", b"x"), ("src/b.py", b"y")]);
    let contents = read_package(&good, &Uploads::default()).unwrap();
    assert_eq!(contents.files, ["agent.json", "README.md", "main.py", "src/a.py", "src/b.py"]);
    assert!(contents.findings.is_empty() && contents.readme.starts_with("# Readme"));
}

#[test]
fn no_entry_leaves_its_folder() {
    paths().iter().for_each(Bad::is_refused);
}

fn paths() -> Vec<Bad> {
    let paths: [&[u8]; 33] = [
        b"../evil",
        b"a/../../evil",
        b"a/..",
        b"..",
        b"/etc/passwd",
        b"//etc/passwd",
        b"./../evil",
        b"a//b",
        b"a/./b",
        b"C:/evil",
        b"C:evil",
        b"a\\..\\..\\evil",
        b"\\\\host\\share",
        b"a:stream",
        b"evil\n",
        b"evil\x01",
        b"evil\x7f",
        b"a/\x1b[31m",
        b"evil.",
        b"evil ",
        b"a./b",
        b"a /b",
        b"con",
        b"CON.txt",
        b"a/nul",
        b"aux.py",
        b"prn",
        b"com1",
        b"lpt9.log",
        b"\xff\xfe",
        b"a/\xc3\x28",
        b"./",
        b"a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q",
    ];
    let bad = |path: &[u8]| {
        Bad::new(String::from_utf8_lossy(path), with_entry(path, EntryType::Regular, None), 400, "entry '")
    };
    paths.into_iter().map(bad).collect()
}

#[test]
fn only_files_and_folders_are_taken() {
    kinds().iter().for_each(Bad::is_refused);
}

fn kinds() -> Vec<Bad> {
    let all = [
        (EntryType::Symlink, "/etc/passwd", "symbolic link"),
        (EntryType::Symlink, "main.py", "symbolic link"),
        (EntryType::Symlink, "../..", "symbolic link"),
        (EntryType::Link, "/etc/passwd", "hard link"),
        (EntryType::Link, "main.py", "hard link"),
        (EntryType::Char, "", "device"),
        (EntryType::Block, "", "device"),
        (EntryType::Fifo, "", "pipe"),
        (EntryType::GNUSparse, "", ""),
        (EntryType::Continuous, "", "special entry"),
        (EntryType::new(b'Z'), "", "special entry"),
    ];
    let bad = |(kind, target, words): (EntryType, &str, &'static str)| {
        let link = Some(target).filter(|t| !t.is_empty());
        Bad::new(words, with_entry(b"evil", kind, link), 400, words)
    };
    all.into_iter().map(bad).collect()
}

#[test]
fn sizes_and_numbers_are_bounded() {
    sizes().iter().for_each(Bad::is_refused);
    let zeros = vec![0; 30 << 20];
    let inner = archive(|tar| {
        let mut header = Header::new_gnu();
        header.set_size(zeros.len() as u64);
        tar.append_data(&mut header, "zeros", zeros.as_slice()).unwrap();
    });
    // A bomb within is a file like any other: it is never unpacked here.
    let outer = package(&manifest("acme/linter", "1.0.0"), &[("inner.tar.gz", &inner)]);
    assert!(read_package(&outer, &Uploads::default()).is_ok());
}

fn sizes() -> Vec<Bad> {
    let bounds = Uploads::default();
    let bomb = package(&manifest("acme/linter", "1.0.0"), &[("zeros", &vec![0; 30 << 20])]);
    assert!(bomb.len() < 200_000);
    let many = archive(|tar| {
        for i in 0..=bounds.entries_max {
            let mut header = Header::new_gnu();
            header.set_size(0);
            tar.append_data(&mut header, format!("f{i}"), std::io::empty()).unwrap();
        }
    });
    let (blanks, long) = (vec![b' '; (64 << 10) + 1], vec![b'x'; (256 << 10) + 1]);
    let twice = package(&manifest("a1/b1", "1.0.0"), &[("x/README.md", &long), ("README.MD", b"")]);
    vec![
        Bad::new("too large", vec![0; bounds.package_bytes_max + 1], 413, "at most 20971520 are taken"),
        Bad::new("bomb", bomb, 413, "unpacks to more than is taken"),
        Bad::new("entries", many, 400, "more than 2000 entries"),
        Bad::new("manifest", archive_of(&[("agent.json", &blanks)]), 413, "agent.json has 65537 bytes"),
        Bad::new("readme twice", twice, 400, "there twice"),
        Bad::new("readme", archive_of(&[("README.md", &long)]), 413, "README.md has 262145 bytes"),
    ]
}

fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    archive(|tar| {
        for (path, bytes) in files {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, *bytes).unwrap();
        }
    })
}

#[test]
fn what_is_damaged_is_told() {
    damage().iter().for_each(Bad::is_refused);
    let good = package(&manifest("acme/linter", "1.0.0"), &[]);
    // Any byte changed: refused, or the very same content (bytes of the gzip header that say nothing).
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        if let Ok(contents) = read_package(&bad, &Uploads::default()) {
            assert_eq!(contents.manifest.name, "acme/linter", "byte {at}");
        }
    }
}

fn damage() -> Vec<Bad> {
    let good = package(&manifest("acme/linter", "1.0.0"), &[]);
    let text = serde_json::to_vec(&manifest("a1/b1", "1.0.0")).unwrap();
    let missing = "no agent.json at the top";
    let not_utf8 = archive_of(&[("agent.json", &text), ("README.md", b"\xff\xfe")]);
    vec![
        Bad::new("empty", Vec::new(), 400, "not gzip"),
        Bad::new("zip", b"PK\x03\x04".to_vec(), 400, "not gzip"),
        Bad::new("plain tar", vec![b'a'; 512], 400, "not gzip"),
        Bad::new("cut", good[..good.len() / 2].to_vec(), 400, "damaged"),
        Bad::new("header alone", good[..10].to_vec(), 400, ""),
        Bad::new("no manifest", archive_of(&[("main.py", b"x")]), 400, missing),
        Bad::new("deep manifest", archive_of(&[("x/agent.json", b"{}")]), 400, missing),
        Bad::new("twice", archive_of(&[("main.py", b"x"), ("MAIN.py", b"y")]), 400, "there twice"),
        Bad::new("readme", not_utf8, 400, "README.md is not UTF-8"),
    ]
}

#[test]
fn a_manifest_must_be_right_in_every_key() {
    manifests().iter().for_each(Bad::is_refused);
}

fn manifests() -> Vec<Bad> {
    let long = "x".repeat(301);
    let cases: Vec<(&str, Value, &'static str)> = vec![
        ("name", json!("linter"), "write namespace/name"),
        ("name", json!("acme/Linter"), "lower-case letters"),
        ("name", json!("acme/a"), "2 to 39"),
        ("name", json!("acme/../x"), "lower-case letters"),
        ("name", json!("-acme/linter"), "lower-case letters"),
        ("name", json!("acme/li--nter"), "single hyphens"),
        ("name", json!("acme/lintér"), "lower-case letters"),
        ("name", json!(7), "invalid type"),
        ("version", json!("1.0"), "write a semantic version"),
        ("version", json!("v1.0.0"), "write a semantic version"),
        ("version", json!("1.0.0+build"), "build metadata"),
        ("version", json!("latest"), "write a semantic version"),
        ("version", json!("^1.0.0"), "write a semantic version"),
        ("title", json!(""), "use 1 to 80"),
        ("title", json!("x".repeat(81)), "use 1 to 80"),
        ("title", json!("a\u{202e}b"), "invisible"),
        ("title", json!("a\u{200b}b"), "invisible"),
        ("title", json!("a\nb"), "control"),
        ("summary", json!("short"), "use 10 to 200"),
        ("summary", json!(" leading blanks are wrong"), "without blanks at its ends"),
        ("license", json!(""), "use 2 to 64"),
        ("categories", json!([]), "choose one to three"),
        ("categories", json!(["a", "b", "c", "d"]), "choose one to three"),
        ("categories", json!(["games"]), "no category 'games'"),
        ("tags", json!(["Upper"]), "tag 'Upper' cannot be used"),
        ("tags", json!(["a b"]), "tag 'a b' cannot be used"),
        ("tags", json!(vec!["t"; 11]), "choose at most ten"),
        ("repository", json!("http://plain.example"), "write an https:// address"),
        ("repository", json!("javascript:alert(1)"), "write an https:// address"),
        ("repository", json!("https://x/\"onload=1"), "write an https:// address"),
        ("repository", json!(format!("https://{long}")), "write an https:// address"),
        ("screenshots", json!(["data:image/png,1"]), "write an https:// address"),
        ("screenshots", json!(vec!["https://a"; 9]), "choose at most eight"),
        ("entrypoint", json!("nothing.py"), "is not a file of the package"),
        ("entrypoint", json!("../main.py"), "is not a file of the package"),
        ("runtime", json!({ "kind": "cobol" }), "use one of python, node, wasm, binary, mcp"),
        ("runtime", json!({ "kind": "python", "x": 1 }), "unknown field"),
        ("runtime", json!("python"), "invalid type"),
        ("permissions", json!(["everything"]), "permission 'everything' is unknown"),
        ("permissions", json!(["files:delete"]), "permission 'files:delete' is unknown"),
        ("permissions", json!(["network:"]), "permission 'network:' is unknown"),
        ("permissions", json!(["shell:rm"]), "permission 'shell:rm' is unknown"),
        ("permissions", json!(vec!["shell"; 51]), "ask for less"),
        ("permission", json!(["shell"]), "unknown field `permission`"),
        ("price", json!(5), "unknown field `price`"),
    ];
    let mut all = Vec::new();
    for (key, value, words) in cases {
        let mut bad = manifest("acme/linter", "1.0.0");
        bad[key] = value.clone();
        all.push(Bad::new(format!("{key} {value}"), package(&bad, &[]), 400, words));
    }
    for (key, words) in [
        ("name", "missing field `name`"),
        ("version", "missing field `version`"),
        ("title", "missing field `title`"),
        ("summary", "missing field `summary`"),
        ("license", "missing field `license`"),
        ("categories", "missing field `categories`"),
        ("entrypoint", "missing field `entrypoint`"),
        ("runtime", "missing field `runtime`"),
    ] {
        let mut bad = manifest("acme/linter", "1.0.0");
        bad.as_object_mut().unwrap().remove(key);
        all.push(Bad::new(key, package(&bad, &[]), 400, words));
    }
    let mut deep = String::from("{\"_meta\":");
    deep.push_str(&"[".repeat(10_000));
    all.push(Bad::new("deep JSON", archive_of(&[("agent.json", deep.as_bytes())]), 400, "recursion limit"));
    all.push(Bad::new("not JSON", archive_of(&[("agent.json", b"name: x")]), 400, "agent.json:"));
    all
}

//! Packages that must not get in: each is refused with a status, a reason and what to do, and leaves nothing behind.

use millstream_marketplace::config::Uploads;
use millstream_marketplace::publish::read_package;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::market::{archive, manifest, package};

fn refused(name: &str, package: &[u8], status: u16, words: &str) {
    let problem = read_package(package, &Uploads::default()).expect_err(name);
    assert_eq!(problem.status().as_u16(), status, "{name}: {problem}");
    assert!(problem.detail().contains(words), "{name}: '{problem}' does not say '{words}'");
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
    for path in paths {
        let name = String::from_utf8_lossy(path).into_owned();
        refused(&name, &with_entry(path, EntryType::Regular, None), 400, "entry '");
    }
}

#[test]
fn only_files_and_folders_are_taken() {
    for (kind, target, words) in [
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
    ] {
        let link = Some(target).filter(|t| !t.is_empty());
        refused(words, &with_entry(b"evil", kind, link), 400, words);
    }
}

#[test]
fn sizes_and_numbers_are_bounded() {
    let bounds = Uploads::default();
    refused("too large", &vec![0; bounds.package_bytes_max + 1], 413, "at most 20971520 are taken");
    let zeros = vec![0; 30 << 20];
    let bomb = package(&manifest("acme/linter", "1.0.0"), &[("zeros", &zeros)]);
    assert!(bomb.len() < 200_000);
    refused("bomb", &bomb, 413, "unpacks to more than is taken");
    let inner = archive(|tar| {
        let mut header = Header::new_gnu();
        header.set_size(zeros.len() as u64);
        tar.append_data(&mut header, "zeros", zeros.as_slice()).unwrap();
    });
    // A bomb within is a file like any other: it is never unpacked here.
    assert!(read_package(&package(&manifest("acme/linter", "1.0.0"), &[("inner.tar.gz", &inner)]), &bounds).is_ok());
    let many = archive(|tar| {
        for i in 0..=bounds.entries_max {
            let mut header = Header::new_gnu();
            header.set_size(0);
            tar.append_data(&mut header, format!("f{i}"), std::io::empty()).unwrap();
        }
    });
    refused("entries", &many, 400, "more than 2000 entries");
    let long = vec![b' '; (64 << 10) + 1];
    refused("manifest", &archive_of(&[("agent.json", &long)]), 413, "agent.json has 65537 bytes");
    let long = vec![b'x'; (256 << 10) + 1];
    refused(
        "readme",
        &package(&manifest("a1/b1", "1.0.0"), &[("x/README.md", &long), ("README.MD", b"")]),
        400,
        "there twice",
    );
    refused("readme", &archive_of(&[("README.md", &long)]), 413, "README.md has 262145 bytes");
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
    let good = package(&manifest("acme/linter", "1.0.0"), &[]);
    refused("empty", b"", 400, "not gzip");
    refused("zip", b"PK\x03\x04", 400, "not gzip");
    refused("plain tar", &[b'a'; 512], 400, "not gzip");
    refused("cut", &good[..good.len() / 2], 400, "damaged");
    refused("header alone", &good[..10], 400, "");
    // Any byte changed: refused, or the very same content (bytes of the gzip header that say nothing).
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        if let Ok(contents) = read_package(&bad, &Uploads::default()) {
            assert_eq!(contents.manifest.name, "acme/linter", "byte {at}");
        }
    }
    refused("no manifest", &archive_of(&[("main.py", b"x")]), 400, "no agent.json at the top");
    refused("deep manifest", &archive_of(&[("x/agent.json", b"{}")]), 400, "no agent.json at the top");
    refused("twice", &archive_of(&[("main.py", b"x"), ("MAIN.py", b"y")]), 400, "there twice");
    let text = serde_json::to_vec(&manifest("a1/b1", "1.0.0")).unwrap();
    refused("readme", &archive_of(&[("agent.json", &text), ("README.md", b"\xff\xfe")]), 400, "README.md is not UTF-8");
}

#[test]
fn a_manifest_must_be_right_in_every_key() {
    let long = "x".repeat(301);
    let cases: Vec<(&str, Value, &str)> = vec![
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
    for (key, value, words) in cases {
        let mut bad = manifest("acme/linter", "1.0.0");
        bad[key] = value.clone();
        refused(&format!("{key} {value}"), &package(&bad, &[]), 400, words);
    }
    for key in ["name", "version", "title", "summary", "license", "categories", "entrypoint", "runtime"] {
        let mut bad = manifest("acme/linter", "1.0.0");
        bad.as_object_mut().unwrap().remove(key);
        refused(key, &package(&bad, &[]), 400, &format!("missing field `{key}`"));
    }
    let mut deep = String::from("{\"_meta\":");
    deep.push_str(&"[".repeat(10_000));
    refused("deep JSON", &archive_of(&[("agent.json", deep.as_bytes())]), 400, "recursion limit");
    refused("not JSON", &archive_of(&[("agent.json", b"name: x")]), 400, "agent.json:");
}

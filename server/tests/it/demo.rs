//! The demo's story end to end: every total that it checks is right.

use std::path::Path;
use std::sync::Arc;

use millstream::time::SystemClock;
use millstream_server::demo::platform::Size;
use millstream_server::demo::real::Files;
use millstream_server::demo::{Steps, Story, tell};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

async fn all_checks_are_ok(story: Story, checks_min: usize) {
    let told = tell(&story, Arc::new(SystemClock), &mut Steps::new()).await.unwrap();
    let wrong: Vec<String> =
        told.checks.iter().filter_map(|c| c.outcome.as_ref().err().map(|e| format!("{}: {e}", c.what))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(told.checks.len() >= checks_min, "only {} checks", told.checks.len());
    let files: Vec<_> = std::fs::read_dir(&story.out).unwrap().map(|entry| entry.unwrap().path()).collect();
    let pdf = files.iter().find(|path| path.extension().is_some_and(|e| e == "pdf")).unwrap();
    assert!(std::fs::read(pdf).unwrap().starts_with(b"%PDF-"));
    assert!(files.iter().any(|path| path.join("10_headline.csv").is_file()), "{files:?}");
    told.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_platform_from_end_to_end() {
    let out = tempfile::tempdir().unwrap();
    let story = Story { root: root().into(), data: None, size: Size::SMALL, out: out.path().join("report") };
    all_checks_are_ok(story, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_files_against_their_stored_answers() {
    let data = root().join("../shared/data");
    if !data.is_dir() {
        eprintln!("left out: {} is not there", data.display());
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let data = Some((data, Files::Small));
    let story = Story { root: root().into(), data, size: Size::SMALL, out: out.path().join("report") };
    all_checks_are_ok(story, 12).await;
}

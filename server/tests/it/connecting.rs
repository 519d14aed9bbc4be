//! docs/connecting.md, command by command: what it says is run, and what it says comes out comes out.

use std::path::Path;
use std::process::Command;

use millstream_server::keys::Role;

use crate::http::{Running, config_with};
use crate::metrics::roll_up;

/// A fenced block: its language, its text, and its line.
struct Block {
    language: String,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(language) if !open => {
                open = true;
                blocks.push(Block { language: language.into(), text: String::new(), line: number + 1 });
            }
            Some(_) => open = false,
            None if open => {
                let text = &mut blocks.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "a block without an end");
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_page_does_what_the_page_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/connecting.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = config_with(&dir.path().join("d"), "[postgres]\nlisten = '127.0.0.1:0'\n");
    let rollups = config.sql.rollups.clone();
    let running = Running::start_with(config).await;
    let key = running.server.keys.create("me", Role::Admin, None).unwrap();
    let ports = [
        ("127.0.0.1:7070", running.server.http_address.to_string()),
        ("127.0.0.1:7171", running.server.grpc_address.to_string()),
        ("127.0.0.1:7432", running.server.postgres_address.unwrap().to_string()),
        ("-p 7432", format!("-p {}", running.server.postgres_address.unwrap().port())),
        ("port=7432", format!("port={}", running.server.postgres_address.unwrap().port())),
    ];
    let blocks = blocks(&page);
    assert!(blocks.len() >= 14, "the page has its commands");
    for (number, block) in blocks.iter().enumerate().filter(|(_, block)| block.language != "text") {
        let here = |port: String, (from, to): &(&str, String)| port.replace(from, to);
        let text = ports.iter().fold(block.text.clone(), here);
        let mut command = match block.language.as_str() {
            "sh" => Command::new("bash"),
            "python" => Command::new(root.join(".venv/bin/python")),
            other => panic!("docs/connecting.md:{}: what is {other}?", block.line),
        };
        if block.language == "sh" {
            command.arg("-e");
        }
        command.args(["-c", &text]).env("KEY", &key).env("PGPASSWORD", &key).env("PSQLRC", "/dev/null");
        command.current_dir(dir.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let at = format!("docs/connecting.md:{}", block.line);
        assert!(output.status.success(), "{at}: {out}{err}");
        running.server.engine.flush().await.unwrap();
        // As the server does every ten minutes.
        roll_up(&running.server.engine, &rollups).await;
        let expected = blocks.get(number + 1).filter(|next| next.language == "text").map_or("", |next| &next.text);
        assert_eq!(out.replace("\r\n", "\n").trim_end(), expected.trim_end(), "{at}: {err}");
    }
    running.server.stop().await.unwrap();
}

//! The command line as people meet it: the program itself, its exit status, what it says.

use std::path::Path;
use std::process::{Command, Output};

fn millstream(args: &[&str], dir: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_millstream"));
    Command::new(program).args(args).current_dir(dir).env_remove("MILLSTREAM_API_KEY").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The workspace: where pipelines/ and sql/ are.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[track_caller]
fn fails(args: &[&str], dir: &Path, status: i32, expected: &str) {
    let output = millstream(args, dir);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}\n{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(stderr.contains(expected), "expected {expected:?} in\n{stderr}");
    assert!(output.stdout.is_empty(), "errors go to stderr, answers to stdout");
}

#[test]
fn wrong_usage_is_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fails(&["frobnicate"], dir, 2, "unrecognized subcommand 'frobnicate'");
    fails(
        &["run", "a.sql", "--checkpoint-interval", "10"],
        dir,
        2,
        "`10` has no unit; write a whole number and a unit",
    );
    fails(&["run", "a.sql", "-p", "0"], dir, 2, "0 is not in 1..=65535");
    fails(&["rollup", "run", "x", "--day", "yesterday"], dir, 2, "`yesterday` is not a day; write it like 2026-11-23");
    fails(&["report", "weekly"], dir, 2, "--format <FORMAT>");
    fails(&["keys", "create", "--name", "a", "--role", "boss"], dir, 2, "write producer, analyst, publisher or admin");
}

#[test]
fn errors_are_status_1_and_tell_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fails(&["run", "missing.sql"], dir, 1, "cannot read missing.sql");
    fails(&["check", "missing.sql"], dir, 1, "there is no missing.sql; name an existing file or folder");
    fails(&["sql", "SELECT 1"], dir, 1, "there is no data directory millstream-data; name one with --data-dir");
    fails(&["sql", "--url", "http://127.0.0.1:9", "SELECT 1"], dir, 1, "give --key or set MILLSTREAM_API_KEY");
    fails(&["ingest", "ide_events", "missing.jsonl"], dir, 1, "cannot read missing.jsonl");
    std::fs::write(dir.join("rows.xlsx"), "").unwrap();
    fails(&["ingest", "ide_events", "rows.xlsx"], dir, 1, "rows.xlsx has no known format; name it .jsonl");
    fails(&["keys", "revoke", "nobody", "--data-dir", "d"], dir, 1, "no key is named 'nobody'");
    fails(&["serve", "--config", "missing.toml"], dir, 1, "cannot read missing.toml");
    std::fs::write(dir.join("millstream.toml"), "[http]\nlistn = '127.0.0.1:1'\n").unwrap();
    fails(&["serve"], dir, 1, "millstream.toml:2: unknown field `listn`, expected one of `listen`");
}

#[test]
fn help_shows_examples_and_is_a_success() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["demo", "serve", "run", "check", "explain", "sql", "ingest", "generate", "rollup", "report", "keys"]
    {
        let output = millstream(&[command, "--help"], dir.path());
        assert!(output.status.success(), "{command}");
        assert!(text(&output.stdout).contains("Example"), "{command} has no example");
    }
}

#[test]
fn a_key_is_shown_once_and_its_hash_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let made = millstream(&["keys", "create", "--name", "ci", "--role", "producer", "--data-dir", "d"], dir);
    let key = text(&made.stdout).trim().to_string();
    assert!(key.starts_with("millstream_"), "{key}");
    let listed = text(&millstream(&["keys", "list", "--data-dir", "d"], dir).stdout);
    assert!(listed.contains("ci") && listed.contains("producer") && listed.contains("valid"), "{listed}");
    assert!(!listed.contains(&key));
    assert!(millstream(&["keys", "revoke", "ci", "--data-dir", "d"], dir).status.success());
    assert!(text(&millstream(&["keys", "list", "--data-dir", "d"], dir).stdout).contains("revoked"));
}

#[test]
fn check_names_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE t (a INT, event_time TIMESTAMP, WATERMARK FOR event_time)\n  WITH (connector = 'single_file', path = 'x', \
               format = 'json', type = 'source', event_time_field = 'event_time');\nINSERT INTO u SELECT a,\n  b FROM t;\n";
    std::fs::write(dir.path().join("bad.sql"), sql).unwrap();
    fails(&["check", "bad.sql"], dir.path(), 1, "bad.sql:4:3:");
    std::fs::write(dir.path().join("worse.sql"), "SELEKT 1;\n").unwrap();
    fails(&["check", "worse.sql"], dir.path(), 1, "worse.sql:1:1:");
}

#[test]
fn everything_that_ships_is_right() {
    let output = millstream(&["check"], root());
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("files are right"), "{stderr}");
}

#[test]
fn run_counts_what_it_read_and_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let rows = "{\"a\":1,\"t\":\"2026-01-01T00:00:00Z\"}\n{\"a\":2,\"t\":\"2026-01-01T00:00:30Z\"}\n";
    std::fs::write(dir.path().join("in.json"), rows).unwrap();
    let sql = "CREATE TABLE t (a BIGINT, t TIMESTAMP) WITH (connector = 'single_file', path = 'in.json', format = 'json', \
               type = 'source', event_time_field = 't');\n\
               CREATE TABLE u (n BIGINT) WITH (connector = 'single_file', path = 'out.json', format = 'json', type = 'sink');\n\
               INSERT INTO u SELECT a + 1 FROM t;\n";
    std::fs::write(dir.path().join("p.sql"), sql).unwrap();
    let output = millstream(&["run", "p.sql"], dir.path());
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.starts_with("2 rows in, 2 out, 0 late, 0 rejected"), "{stderr}");
    let plan = millstream(&["explain", "p.sql"], dir.path());
    assert!(plan.status.success() && !plan.stdout.is_empty(), "{}", text(&plan.stderr));
}

/// The log of a command may lie on a disk that is full.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.json"), "{\"a\":1,\"t\":\"2026-01-01T00:00:00Z\"}\n").unwrap();
    let sql = "CREATE TABLE t (a BIGINT, t TIMESTAMP) WITH (connector = 'single_file', path = 'in.json', format = 'json', \
               type = 'source', event_time_field = 't');\nSELECT a FROM t;\n";
    std::fs::write(dir.path().join("p.sql"), sql).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["run", "p.sql"]).current_dir(dir.path()).env("MILLSTREAM_LOG", "trace");
    let heard = command.output().unwrap();
    assert!(text(&heard.stderr).contains("TRACE"), "{}", text(&heard.stderr));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let unheard = command.stderr(full).output().unwrap();
    assert_eq!((unheard.status.code(), text(&unheard.stdout)), (Some(0), text(&heard.stdout)));
}

#[test]
fn check_warns_of_state_that_grows_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE t (k TEXT) WITH (connector = 'ingest');
CREATE TABLE o WITH (connector = 'lake', format = 'debezium_json');
SET updating_ttl = 0;
INSERT INTO o SELECT k, count(*) AS n FROM t GROUP BY k;
";
    std::fs::write(dir.path().join("p.sql"), sql).unwrap();
    let output = millstream(&["check", "p.sql"], dir.path());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.starts_with("warning: p.sql:4:1: the state of 'updating "), "{stderr}");
    assert!(stderr.contains("grows with every new key"), "{stderr}");
    assert!(stderr.contains("\n  INSERT INTO o SELECT k, count(*) AS n FROM t GROUP BY k;\n  ^\n"), "{stderr}");
    std::fs::write(dir.path().join("p.sql"), sql.replace("SET updating_ttl = 0;", "")).unwrap();
    assert!(!text(&millstream(&["check", "p.sql"], dir.path()).stderr).contains("warning"));
}

//! Python as an independent reader, and real servers that come as Python packages.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::program::{PATIENCE, free_port, http, wait_for};
use crate::root;

/// The interpreter with duckdb, deltalake, pyarrow and moto: `$MILLSTREAM_PYTHON`, or the checkout's `.venv`.
pub fn interpreter() -> PathBuf {
    let given = std::env::var_os("MILLSTREAM_PYTHON").map(PathBuf::from);
    let path = given.unwrap_or_else(|| root().join(".venv/bin/python"));
    assert!(path.exists(), "{} is not there: run `make test`, which installs it", path.display());
    path
}

/// Ends a script at its last line: pyarrow's threads now and then abort an interpreter that shuts down, when all has been said.
const END: &str = "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n";

/// Runs a script and returns what it prints.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let script = script.to_string() + END;
    let output = Command::new(interpreter()).arg("-c").arg(script).args(arguments).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("python prints UTF-8")
}

/// A script that stays: a line goes in, a line comes out.
pub struct Conversation {
    child: Child,
    asks: ChildStdin,
    answers: Receiver<String>,
}

impl Conversation {
    /// Starts the script.
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(interpreter());
        command.arg("-c").arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python starts");
        let asks = child.stdin.take().expect("it was asked for");
        let lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        let (tell, answers) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, asks, answers }
    }

    /// Says a line and waits for the answer, at most a minute.
    pub fn ask(&mut self, line: &str) -> Result<String, String> {
        writeln!(self.asks, "{line}").map_err(|e| format!("python has ended: {e}"))?;
        self.answers.recv_timeout(PATIENCE).map_err(|e| format!("no answer: {e}"))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An S3 server with one bucket; ends with the value.
pub struct S3 {
    server: Child,
    /// Where it listens.
    pub port: u16,
}

impl S3 {
    /// Starts it on a free port.
    pub fn start(bucket: &str) -> Self {
        let port = free_port();
        let server = Command::new(interpreter())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python starts");
        let s3 = Self { server, port };
        let signed =
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let made = || http(port, "PUT", &format!("/{bucket}"), signed, "").ok().filter(|(status, _)| *status == 200);
        wait_for("the S3 server makes a bucket", made);
        s3
    }

    /// How a store is told where it is, in the words of object stores.
    pub fn options(&self) -> BTreeMap<String, String> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("aws_region", "us-east-1"),
            ("allow_http", "true"),
        ]
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .into()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

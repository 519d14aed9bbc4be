//! Python as an independent reader, and real servers that come as Python packages.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The interpreter with duckdb, deltalake, pyarrow and moto: `$MILLSTREAM_PYTHON`, or the checkout's `.venv`.
fn interpreter() -> PathBuf {
    let given = std::env::var_os("MILLSTREAM_PYTHON").map(PathBuf::from);
    let path = given.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"));
    assert!(
        path.exists(),
        "{} is not there: `make test` installs it; or set MILLSTREAM_PYTHON to a Python with duckdb, deltalake, pyarrow \
         and moto[server]",
        path.display()
    );
    path
}

/// Ends a script at its last line: pyarrow's threads now and then abort an interpreter that shuts down, when all has been said.
const END: &str = "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n";

/// Runs a script and returns what it prints.
pub fn run(script: &str, arguments: &[&str]) -> String {
    let script = script.to_string() + END;
    let output = Command::new(interpreter()).arg("-c").arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An S3 server of its own; ends with the value.
pub struct S3 {
    server: Child,
    pub endpoint: String,
}

impl S3 {
    /// Starts the server on a free port and makes a bucket.
    pub fn start(bucket: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new(interpreter())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let s3 = Self { server, endpoint: format!("http://127.0.0.1:{port}") };
        let started = Instant::now();
        while !request(port, "PUT", &format!("/{bucket}")) {
            assert!(started.elapsed() < Duration::from_secs(60), "moto did not start within a minute");
            std::thread::sleep(Duration::from_millis(20));
        }
        s3
    }

    /// The options of a lake on it.
    pub fn options(&self) -> std::collections::BTreeMap<String, String> {
        [
            ("aws_endpoint", self.endpoint.as_str()),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("aws_region", "us-east-1"),
            ("allow_http", "true"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Whether the server answers 200.
fn request(port: u16, method: &str, path: &str) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\nAuthorization: \
         AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n"
    );
    let mut answer = String::new();
    stream.write_all(head.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.lines().next().is_some_and(|l| l.contains(" 200 "))
}

//! Python as an independent reader, and real servers that come as Python packages.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::program::{free_port, http, wait_for};
use crate::root;

/// The interpreter with duckdb, deltalake, pyarrow and moto: `$MILLSTREAM_PYTHON`, or the checkout's `.venv`.
pub fn interpreter() -> PathBuf {
    let given = std::env::var_os("MILLSTREAM_PYTHON").map(PathBuf::from);
    let path = given.unwrap_or_else(|| root().join(".venv/bin/python"));
    assert!(path.exists(), "{} is not there: run `make test`, which installs it", path.display());
    path
}

/// Runs a script and returns what it prints.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new(interpreter()).arg("-c").arg(script).args(arguments).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("python prints UTF-8")
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

//! The program `millstream` as users have it: a process that is started, asked, killed and stopped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{Table, parse_csv};

/// No condition of a test may take longer to come true.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program beside the running test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let target = test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
    let path = target.join("millstream");
    assert!(path.is_file(), "{} is not there: run `make test`, or `cargo build --workspace` first", path.display());
    path
}

/// Runs the program to its end in `dir`.
pub fn millstream(args: &[&str], dir: &Path) -> Output {
    Command::new(binary())
        .args(args)
        .current_dir(dir)
        .env_remove("MILLSTREAM_API_KEY")
        .output()
        .expect("the program starts")
}

/// Waits until `condition` gives something; at most [`PATIENCE`].
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, condition)
}

fn wait_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < patience, "{what}: not within {} s", patience.as_secs());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// One request of HTTP/1.0 with a body of JSON: status and body.
pub fn http(port: u16, method: &str, path: &str, authorization: &str, body: &str) -> std::io::Result<(u16, String)> {
    let headers = format!("Authorization: {authorization}\r\nContent-Type: application/json");
    request(port, method, path, &headers, body)
}

/// One request of HTTP/1.0 with headers of its own: status and body.
pub fn request(port: u16, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_string());
    Ok((status, body))
}

/// `millstream serve` on a directory of its own: data, configuration, pipelines and what it says.
pub struct Server {
    dir: PathBuf,
    /// The port of gRPC, the same after every start.
    pub grpc: u16,
    /// The port of HTTP, the same after every start.
    pub http: u16,
    /// A key of an admin.
    pub key: String,
    child: Option<Child>,
}

impl Server {
    /// Prepares `dir` with `files` of `pipelines/`; `settings` come first in the configuration.
    pub fn new(dir: &Path, settings: &str, files: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(dir.join("pipelines")).expect("a temporary directory can be written");
        for (name, sql) in files {
            std::fs::write(dir.join("pipelines").join(name), sql).expect("a temporary directory can be written");
        }
        let (grpc, http) = (free_port(), free_port());
        let config = format!(
            "data_dir = 'data'\n{settings}\n[http]\nlisten = '127.0.0.1:{http}'\n[ingest]\nlisten = '127.0.0.1:{grpc}'\n\
             [query]\nrows_max = 10000000\n"
        );
        std::fs::write(dir.join("millstream.toml"), config).expect("a temporary directory can be written");
        let made = millstream(&["keys", "create", "--name", "test", "--role", "admin"], dir);
        let key = String::from_utf8_lossy(&made.stdout).trim().to_string();
        assert!(key.starts_with("millstream_"), "{}", String::from_utf8_lossy(&made.stderr));
        Self { dir: dir.to_path_buf(), grpc, http, key, child: None }
    }

    /// What it has said on stderr since its last start.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join("stderr.log")).unwrap_or_default()
    }

    /// Starts it; returns when it listens, which is before it has recovered.
    pub fn begin(&mut self) {
        let log = File::create(self.dir.join("stderr.log")).expect("a temporary directory can be written");
        let child =
            Command::new(binary()).arg("serve").current_dir(&self.dir).stdout(Stdio::null()).stderr(log).spawn();
        let mut child = child.expect("the program starts");
        wait_for("the server listens", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the server ended with {status}: {}", self.said());
            }
            TcpStream::connect(("127.0.0.1", self.http)).ok()
        });
        self.child = Some(child);
    }

    /// Starts it; returns when it answers.
    pub fn start(&mut self) {
        self.begin();
        wait_for("the server answers", || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                panic!("the server ended with {status}: {}", self.said());
            }
            http(self.http, "GET", "/healthz", "", "").ok().filter(|(status, _)| *status == 200)
        });
    }

    /// The running process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("the server runs")
    }

    /// What it said, if it has ended by itself; it can then be started again.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten())?;
        self.child = None;
        Some(format!("{status}: {}", self.said()))
    }

    /// SIGKILL: it cannot finish anything.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            assert!(matches!(child.try_wait(), Ok(None)), "the server had ended by itself: {}", self.said());
            child.kill().and_then(|()| child.wait()).expect("a child can be killed");
        }
    }

    /// SIGTERM, and waits for its good end.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(told.is_ok_and(|s| s.success()), "the server had ended by itself: {}", self.said());
        let status = wait_for("the server stops", || child.try_wait().expect("a child can be waited for"));
        assert!(status.success(), "the server ended with {status}: {}", self.said());
    }

    /// Posts rows of JSON to a table: status and receipt.
    pub fn post(&self, table: &str, producer: &str, sequence: u64, rows: &str) -> (u16, serde_json::Value) {
        let path = format!("/api/v1/ingest/{table}?producer={producer}&epoch=1&sequence={sequence}");
        let (status, body) =
            http(self.http, "POST", &path, &format!("Bearer {}", self.key), rows).expect("the server answers");
        (status, serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)))
    }

    /// One number of `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let (_, text) = http(self.http, "GET", "/metrics", "", "").unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}: {}", self.said()))
    }

    /// Waits until the tables hold everything that was acknowledged.
    pub fn settle(&self) {
        self.settle_within(PATIENCE);
    }

    /// As [`Server::settle`], where there is much to be written.
    pub fn settle_within(&self, patience: Duration) {
        wait_within(patience, "a checkpoint that covers the log", || {
            assert_eq!(self.metric("millstream_pipelines_failed"), 0, "{}", self.said());
            (self.metric("millstream_log_checkpointed") == self.metric("millstream_log_end")).then_some(())
        });
    }

    /// A query over the stopped server's tables, by `millstream sql`.
    pub fn sql(&self, query: &str) -> Table {
        let output = millstream(&["sql", "--format", "csv", query], &self.dir);
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        let mut rows = parse_csv(&String::from_utf8_lossy(&output.stdout));
        rows.remove(0);
        rows
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

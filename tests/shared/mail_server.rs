//! A real mail server, aiosmtpd, which keeps each mail as a file.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct MailServer {
    process: Child,
    dir: PathBuf,
}

impl MailServer {
    pub fn start(dir: &Path, port: u16) -> Self {
        // A Maildir that is not there yet is made whole.
        let dir = dir.join("mails");
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
        let python = std::env::var_os("MILLSTREAM_PYTHON").map_or(venv, PathBuf::from);
        assert!(python.exists(), "{} is not there: run `make test`, which installs it", python.display());
        let process = Command::new(python)
            .args(["-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{port}"), "-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "the mail server listens");
            std::thread::yield_now();
        }
        Self { process, dir }
    }

    /// What has come, in the order of the files' names.
    pub fn mails(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.dir.join("new")).into_iter().flatten().map(|f| f.unwrap().path());
        let mut mails: Vec<String> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        mails.sort();
        mails
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! A PostgreSQL server of a test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::program::{free_port, wait_for};

/// The password of the user `tester`.
pub const PASSWORD: &str = "p@ss, word";

/// A server with the database `postgres`; ends with the value.
pub struct Postgres {
    /// It listens on 127.0.0.1 here.
    pub port: u16,
    dir: TempDir,
    server: Child,
}

impl Postgres {
    /// Makes a cluster in a fresh directory and starts it.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// As [`start`](Self::start), with TLS: `server.pem` and `server.key` are in `certificates`.
    pub fn start_with_tls(certificates: &Path) -> Self {
        Self::start_with(Some(certificates))
    }

    fn start_with(certificates: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let data = dir.path().join("data");
        std::fs::write(dir.path().join("password"), PASSWORD).unwrap();
        for (name, from) in
            ["server.pem", "server.key"].iter().filter_map(|name| Some((name, certificates?.join(name))))
        {
            let copy = dir.path().join(name);
            std::fs::copy(from, &copy).unwrap();
            // The server takes no key that others can read.
            std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        if is_root() {
            // The server refuses to run as root.
            let owner = Command::new("chown").args(["-R", "postgres"]).arg(dir.path()).status().unwrap();
            assert!(owner.success(), "there is no user 'postgres': run `make test`, which installs the server");
        }
        let made = server_command("initdb")
            .args(["-U", "tester", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--pwfile"])
            .arg(dir.path().join("password"))
            .arg("-D")
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = server_command("postgres");
        server.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F", "-k", ""]).arg("-D").arg(&data);
        if certificates.is_some() {
            let file = |name: &str| dir.path().join(name).display().to_string();
            server.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", file("server.pem"))]);
            server.args(["-c", &format!("ssl_key_file={}", file("server.key"))]);
        }
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let own = Self { port, dir, server };
        wait_for("PostgreSQL answers", || own.psql("SELECT 1").ok());
        own
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("postgres://tester:p%40ss%2C%20word@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs SQL.
    pub fn execute(&self, sql: &str) {
        self.psql(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    fn psql(&self, sql: &str) -> Result<(), String> {
        let output = Command::new(program("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "tester", "-d", "postgres", "-q"])
            .args(["-v", "ON_ERROR_STOP=1", "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .current_dir(self.dir.path())
            .output()
            .map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The process id is in the first line; the child may be the program that changed the user.
        let file = std::fs::read_to_string(self.dir.path().join("data/postmaster.pid")).unwrap_or_default();
        if let Some(pid) = file.lines().next() {
            let _ = Command::new("kill").args(["-INT", pid]).status();
        }
        let _ = self.server.wait();
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

/// A program of the server, as a user who is not root.
fn server_command(name: &str) -> Command {
    let program = program(name);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

/// The newest installed version of a program.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|v| v.path().join("bin").join(name)).filter(|p| p.is_file()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(name).to_path_buf())
}

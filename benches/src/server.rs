//! A server in a process of its own, so that its CPU time and memory are read from `/proc` and nobody else's work is in them.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::cpu_s;

/// What a benchmark's step gives.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Prepares a folder for the SQL of this checkout; rollups are looked for every `recheck`. Gives a key that may do everything.
pub fn prepare(dir: &Path, recheck: &str) -> Outcome<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let root = root.display();
    let text = format!(
        "data_dir = 'data'\n[http]\nlisten = '127.0.0.1:0'\n[ingest]\nlisten = '127.0.0.1:0'\n\
         [rollups]\nrecheck_interval = '{recheck}'\n\
         [sql]\npipelines = '{root}/pipelines'\nviews = '{root}/sql/views'\nrollups = '{root}/sql/rollups'\n\
         metrics = '{root}/sql/metrics'\nreports = '{root}/sql/reports'\n"
    );
    std::fs::write(dir.join("millstream.toml"), text)?;
    let name = format!("bench-{}", std::process::id());
    let made = millstream(dir)?.args(["keys", "create", "--name", &name, "--role", "admin"]).output()?;
    let text = String::from_utf8(made.stdout)?;
    let key = text.lines().find(|line| line.starts_with("millstream_"));
    Ok(key.ok_or_else(|| format!("no key: {}", String::from_utf8_lossy(&made.stderr)))?.to_string())
}

/// The program beside this one, to be run in `dir`.
fn millstream(dir: &Path) -> Outcome<Command> {
    let binary = std::env::current_exe()?.with_file_name("millstream");
    if !binary.is_file() {
        return Err(format!("{} is not there; run cargo build --workspace", binary.display()).into());
    }
    let mut command = Command::new(binary);
    command.current_dir(dir);
    Ok(command)
}

/// `millstream serve`; killed when dropped. Its warnings go to stderr.
pub struct Server {
    child: Child,
    /// The address of HTTP.
    pub http: String,
    /// The address of gRPC.
    pub grpc: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts it in a prepared folder; returns when it listens.
    pub fn start(dir: &Path) -> Outcome<Self> {
        let mut child = millstream(dir)?.arg("serve").env("MILLSTREAM_LOG", "warn").stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("no stderr")?;
        let mut server = Self { child, http: String::new(), grpc: String::new() };
        let mut lines = BufReader::new(stderr).lines();
        while server.http.is_empty() || server.grpc.is_empty() {
            let line = lines.next().ok_or("the server ended before it listened")??;
            let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default();
            match line.split_whitespace().next() {
                Some("HTTP") => server.http = url.to_string(),
                Some("gRPC") => server.grpc = url.to_string(),
                _ => eprintln!("{line}"),
            }
        }
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// User and system seconds so far.
    pub fn cpu_s(&self) -> f64 {
        cpu_s(self.pid())
    }

    /// A line of `/proc/<pid>/status`, such as `VmRSS`, in MB.
    pub fn memory_mb(&self, what: &str) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with(what)).unwrap_or("");
        Ok(line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) * 1_024.0 / 1e6)
    }

    /// From now on the greatest memory is that of from now on.
    pub fn forget_peak(&self) -> Outcome {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")?)
    }

    /// SIGTERM, and waits for its end: it takes a last checkpoint.
    pub fn stop(mut self) -> Outcome {
        Command::new("kill").arg(self.pid().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

//! A PostgreSQL server for the tests of this process: on a free port, by a user that is not root, gone with the process.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor};

static SERVER: OnceLock<String> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed: run `make system`");
    let mut all: Vec<PathBuf> = versions.map(|v| v.unwrap().path().join("bin")).collect();
    all.sort();
    all.pop().expect("PostgreSQL is installed: run `make system`")
}

/// The server refuses to run as root: then it runs as the user that its Debian package made.
fn command(program: &str) -> Command {
    let path = binaries().join(program);
    let root = std::fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&root) == 0 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
        return command;
    }
    Command::new(path)
}

fn start() -> String {
    let folder = tempfile::Builder::new().prefix("market-postgres-").tempdir().unwrap().keep();
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    // Whoever runs the server must own its folder.
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if root {
        assert!(Command::new("chown").args(["-R", "postgres"]).arg(&folder).status().unwrap().success());
    }
    let made = command("initdb")
        .args(["--auth=trust", "--username=market", "--no-sync", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .current_dir("/")
        .status()
        .unwrap();
    assert!(made.success(), "initdb");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = command("postgres");
    let line: Vec<String> = std::iter::once(server.get_program())
        .chain(server.get_args())
        .map(|a| a.to_str().unwrap().to_string())
        .collect();
    // The shell ends the server, and takes its folder away, when this process is gone.
    let script = format!(
        "{} -D {data} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
         -c max_connections=300 >{log} 2>&1 & server=$!; \
         while kill -0 {parent} 2>/dev/null; do sleep 1; done; kill -INT $server; wait $server; rm -rf {folder}",
        line.join(" "),
        data = data.display(),
        log = folder.join("log").display(),
        parent = std::process::id(),
        folder = folder.display(),
    );
    // It outlives this process; nobody waits for it.
    let script = format!("({script}) &");
    let started = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).current_dir("/").status().unwrap();
    assert!(started.success(), "{script}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "PostgreSQL does not answer: see {}", folder.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    format!("postgres://market@127.0.0.1:{port}")
}

/// The address of a new, empty database.
pub async fn database() -> String {
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(start).clone()).await.unwrap();
    let name = format!("market_{}", DATABASES.fetch_add(1, Ordering::SeqCst));
    let mut tries = 0;
    let mut connection = loop {
        match sqlx::postgres::PgConnection::connect(&format!("{server}/postgres")).await {
            Ok(connection) => break connection,
            // It listens a moment before it takes connections.
            Err(e) if tries > 100 => panic!("{e}"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    format!("{server}/{name}")
}

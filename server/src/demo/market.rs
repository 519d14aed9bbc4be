//! The marketplace beside the demo: its own program, one more producer of events. It makes up a week of consumers and publishers,
//! sends it over gRPC as it always does, and then serves its pages if the demo goes on.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use millstream::{Error, Result};

use super::Told;
use crate::cli::print;

/// The program while it runs; it ends with this.
#[derive(Debug)]
pub struct Market {
    child: Child,
    /// Where its pages are and how to sign in; nothing if it does not go on.
    pub address: Option<String>,
}

impl Drop for Market {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `program` with the server's addresses and tells its lines, until the week is in the tables.
pub async fn start(program: &Path, told: &Told, data: Option<&Path>, keep: bool) -> Result<Market> {
    let server = &told.server;
    let mut command = Command::new(program);
    command
        .args(["demo", "--dir"])
        .arg(told.dir.path().join("marketplace"))
        .args(["--ingest-url", &format!("http://{}", server.grpc_address)])
        .args(["--metrics-url", &format!("http://{}", server.http_address)])
        .env("MILLSTREAM_KEY", &told.key)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    if !keep {
        command.arg("--once");
    }
    let failed = move |what: String| Error::Config(format!("the marketplace: {what}; `make demo` builds it"));
    let shown = program.display().to_string();
    let mut child = command.spawn().map_err(|e| failed(format!("{shown}: {e}")))?;
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    let mut market = Market { child, address: None };
    let Some(lines) = lines else { return Ok(market) };
    let told = tokio::task::spawn_blocking(move || tell(lines)).await;
    market.address = told.map_err(|e| Error::Bug(format!("reading what the marketplace tells: {e}")))??;
    if market.address.is_none() {
        let status = market.child.wait().map_err(|e| failed(e.to_string()))?;
        if !status.success() {
            return Err(failed(format!("{shown} ended with {status}")));
        }
    }
    Ok(market)
}

/// Tells lines until the one with the address of the pages, or the last.
fn tell(mut lines: Lines<BufReader<ChildStdout>>) -> Result<Option<String>> {
    for line in lines.by_ref() {
        let line = line.map_err(|e| Error::Bug(format!("reading what the marketplace tells: {e}")))?;
        if let Some(address) = line.strip_prefix("marketplace  ") {
            // Its pipe is read on, so that it never waits for a reader.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(Some(address.to_string()));
        }
        print(format!("          {line}\n").as_bytes())?;
    }
    Ok(None)
}

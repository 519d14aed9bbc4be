//! `marketplace demo`: a sample catalogue, a simulated week, and a Millstream server that takes the week's events: one that
//! runs already, or one that it starts.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::accounts::{self, Role, SignUp};
use crate::app::App;
use crate::clock::{Clock, DAY_MS, rfc3339};
use crate::config::{Config, Millstream};
use crate::events::Sender;
use crate::problem::{Problem, Result};
use crate::sandbox::Sandbox;
use crate::usage::Usage;
use crate::{cli, sample, secret, serve};

/// Patience with a server that starts.
const TRIES: usize = 600;
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `marketplace demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// The folder; it is emptied first.
    #[arg(long, default_value = "target/market")]
    dir: PathBuf,
    /// The `millstream` program, to be started; without it and --ingest-url events wait in the database.
    #[arg(long, conflicts_with = "ingest_url")]
    millstream: Option<PathBuf>,
    /// A Millstream server that runs already: http://host:port of its gRPC ingest.
    #[arg(long, requires = "metrics_url")]
    ingest_url: Option<String>,
    /// http://host:port of its HTTP.
    #[arg(long, requires = "ingest_url")]
    metrics_url: Option<String>,
    /// Its key, of the role admin.
    #[arg(long, env = "MILLSTREAM_KEY", hide_env_values = true, default_value = "")]
    key: String,
    /// A folder with a real catalogue (market_obsidian_catalog_2023-12-31.json.gz), to be listed too.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Stop once the week is in Millstream's table.
    #[arg(long)]
    once: bool,
}

/// A server that ends with this.
struct Server {
    child: Child,
    config: Millstream,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Runs the demo.
pub async fn run(demo: &Demo, say: fn(&str)) -> Result<()> {
    let dir = demo.dir.as_path();
    let failed = |e: std::io::Error| Problem::unavailable(format!("{}: {e}", dir.display()));
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(failed)?;
    }
    std::fs::create_dir_all(dir).map_err(failed)?;
    let server = demo.millstream.as_deref().map(|binary| start(binary, &dir.join("millstream"))).transpose()?;
    let running = demo.ingest_url.as_ref().map(|ingest_url| Millstream {
        ingest_url: Some(ingest_url.clone()),
        ingest_key: demo.key.clone(),
        metrics_url: demo.metrics_url.clone(),
        metrics_key: demo.key.clone(),
        producer: "marketplace".to_string(),
    });
    let millstream = server.as_ref().map(|s| s.config.clone()).or(running);
    let mut config = Config { data_dir: dir.join("marketplace"), ..Config::default() };
    config.listen.set_port(0);
    config.millstream.clone_from(&millstream);
    config.uploads.versions_per_day_max = i64::MAX;
    let real = demo.data.as_deref().map(sample::real_catalogue).transpose()?.unwrap_or_default();
    // The week ends a few minutes ago.
    let began = Clock::system().now_ms() - 7 * DAY_MS - sample::publishing_ms(real.len()) - DAY_MS / 288;
    let clock = Clock::set_to(began);
    let sandbox = bank(&clock).await?;
    config.stripe = Some(sandbox.config());
    let app = App::open(config.clone(), clock.clone()).await?;
    let runs = sample::fill(&app, &clock, &sandbox, &real).await?;
    let (agents, real) = (app.catalogue.now().cards.len(), real.len());
    say(&format!("{agents} agents, {real} of them from a real catalogue, and a week of their users and publishers"));
    drop(app);
    let app = App::open(config, Clock::system()).await?;
    let password = secret::random("")?;
    let admin = SignUp {
        handle: "admin".to_string(),
        email: "admin@example.org".to_string(),
        password: password.clone(),
        display_name: String::new(),
    };
    accounts::sign_up(&app, "demo", &admin).await?;
    accounts::grant(&app, "demo", "admin", Role::Admin).await?;
    accounts::set_password(&app, "demo", sample::SELLER, &password).await?;
    if let Some(millstream) = &millstream {
        let sent = send(&app, millstream).await?;
        say(&format!("sent {sent} events over gRPC"));
        say(&format!("the agents' own {} runs came over HTTP", execute(millstream, &runs).await?));
        for line in table(millstream, began, sent).await? {
            say(&line);
        }
    }
    if demo.once {
        return Ok(());
    }
    let listener = serve::bind(&app).await?;
    sandbox.tells(&format!("{}/webhooks/stripe", app.public_url()), Clock::system());
    say("What is bought here is paid at a stand-in for Stripe; no money moves. Ctrl-C ends it.");
    if let Some(Millstream { metrics_url: Some(url), metrics_key, .. }) = server.as_ref().map(|s| &s.config) {
        say(&format!("Millstream   {url}  (key {metrics_key})"));
    }
    // The last: whoever started this reads on to here.
    say(&format!(
        "marketplace  {}  (sign in as admin@example.org or {}@example.org, {password})",
        app.public_url(),
        sample::SELLER
    ));
    serve::serve(app, listener, cli::stop_signal()).await
}

/// A Stripe that moves no money, on a free port, for as long as the demo goes on.
async fn bank(clock: &Clock) -> Result<Sandbox> {
    let failed = |e: std::io::Error| Problem::unavailable(format!("no free port: {e}"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let sandbox = Sandbox::new(clock.clone(), &format!("http://{}", listener.local_addr().map_err(failed)?));
    tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
    Ok(sandbox)
}

fn free_address() -> Result<SocketAddr> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    bound.map_err(|e| Problem::unavailable(format!("no free port: {e}")))
}

/// Starts Millstream with the SQL of this folder; its key is made first.
fn start(binary: &Path, dir: &Path) -> Result<Server> {
    let failed = |e: std::io::Error| Problem::unavailable(format!("{}: {e}", binary.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let (http, grpc) = (free_address()?, free_address()?);
    let sql = std::env::current_dir().map_err(failed)?;
    let sql = |name: &str| format!("{:?}", sql.join(name).display().to_string());
    let text = format!(
        "data_dir = \"data\"\ncheckpoint_interval = \"1s\"\n[http]\nlisten = \"{http}\"\n[ingest]\nlisten = \"{grpc}\"\n\
         [sql]\npipelines = {}\nrollups = {}\nmetrics = {}\nreports = {}\n",
        sql("pipelines"),
        sql("sql/rollups"),
        sql("sql/metrics"),
        sql("sql/reports")
    );
    let config = dir.join("millstream.toml");
    std::fs::write(&config, text).map_err(failed)?;
    let made = Command::new(binary)
        .args(["keys", "create", "--name", "marketplace-demo", "--role", "admin", "--config"])
        .arg(&config)
        .output()
        .map_err(failed)?;
    let told = String::from_utf8_lossy(&made.stdout).into_owned();
    let key = told.split_whitespace().find(|w| w.starts_with("millstream_"));
    let key = key.ok_or_else(|| Problem::unavailable(format!("no key: {}", String::from_utf8_lossy(&made.stderr))))?;
    let log = std::fs::File::create(dir.join("log")).map_err(failed)?;
    let child = Command::new(binary)
        .args(["serve", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    let config = Millstream {
        ingest_url: Some(format!("http://{grpc}")),
        ingest_key: key.to_string(),
        metrics_url: Some(format!("http://{http}")),
        metrics_key: key.to_string(),
        producer: "marketplace".to_string(),
    };
    Ok(Server { child, config })
}

async fn send(app: &Arc<App>, to: &Millstream) -> Result<u64> {
    let mut sender = Sender::new(app.db.clone(), app.clock.clone(), to)?;
    for _ in 0..TRIES {
        match sender.drain().await {
            Ok(events) => return Ok(events),
            Err(error) => tracing::debug!("{error}"),
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    Err(Problem::unavailable("Millstream does not take events; its log is in the demo's folder"))
}

/// Sends what the agents did where they were installed, as their own programs would.
async fn execute(to: &Millstream, runs: &[Value]) -> Result<usize> {
    let failed = |what: String| Problem::unavailable(format!("Millstream does not take the agents' runs: {what}"));
    let client = reqwest::Client::new();
    let url = format!("{}/api/v1/ingest/agent_events", to.metrics_url.as_deref().unwrap_or_default());
    for some in runs.chunks(1_000) {
        let lines: Vec<String> = some.iter().map(ToString::to_string).collect();
        let request = client.post(&url).bearer_auth(&to.ingest_key).header("content-type", "application/x-ndjson");
        let response = request.body(lines.join("\n")).send().await.map_err(|e| failed(e.to_string()))?;
        if !response.status().is_success() {
            return Err(failed(response.text().await.unwrap_or_default()));
        }
    }
    Ok(runs.len())
}

/// What Millstream says happened since `began`, once its table has all that was `sent`.
async fn table(at: &Millstream, began: i64, sent: u64) -> Result<Vec<String>> {
    let Some(usage) = Usage::new(at) else { return Ok(Vec::new()) };
    let sql = "SELECT name, count(*) AS events, count(DISTINCT user_id) AS users FROM raw_marketplace_events
               WHERE day >= CAST($from AS DATE) AND event_time >= $from AND source_version = $version GROUP BY name ORDER BY events DESC";
    let parameters = json!({ "from": rfc3339(began), "version": env!("CARGO_PKG_VERSION") });
    for _ in 0..TRIES {
        let rows = usage.rows(sql, parameters.clone()).await.unwrap_or_default();
        let all: u64 = rows.iter().filter_map(|r| r.get("events").and_then(Value::as_u64)).sum();
        if all >= sent {
            let line = |r: &serde_json::Value| {
                let of = |key: &str| r.get(key).map(ToString::to_string).unwrap_or_default();
                format!("  {:>6} {} by {} accounts", of("events"), of("name").trim_matches('"'), of("users"))
            };
            return Ok(rows.iter().map(line).collect());
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    Err(Problem::unavailable("not all events come to Millstream's table; its log is in the demo's folder"))
}

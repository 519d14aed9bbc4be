//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::accounts::{self, Role, SignUp};
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::installs::client;
use crate::problem::{Problem, Result};
use crate::sandbox::Sandbox;
use crate::{demo, events, serve};

/// The marketplace for AI agents.
#[derive(Debug, Parser)]
#[command(name = "marketplace", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve pages, API and packages.
    Serve(Place),
    /// Install an agent here: verify its signature, put its files in place at once or not at all.
    Install(client::Install),
    /// Go back to the version before.
    Rollback(client::Rollback),
    /// Show what is installed and what is newer.
    Installed(client::Here),
    /// Remove an installed agent.
    Uninstall(client::Uninstall),
    /// Make an account, or give one a role, on this machine's database.
    Account {
        #[command(flatten)]
        place: Place,
        /// The account's handle.
        handle: String,
        /// Make it, with this address; the password is read from the environment variable MARKETPLACE_PASSWORD.
        #[arg(long)]
        email: Option<String>,
        /// consumer, publisher, moderator or admin.
        #[arg(long)]
        role: Option<String>,
        /// Give it the password in MARKETPLACE_PASSWORD, in place of one that was forgotten.
        #[arg(long, conflicts_with = "email")]
        new_password: bool,
    },
    /// Fill a folder with a sample catalogue and a simulated week, send its events to a Millstream server, then serve it.
    Demo(demo::Demo),
    /// Stand in for Stripe, to try out selling: it moves no money and keeps everything in memory.
    #[command(after_help = "Put what it prints into marketplace.toml, then start `marketplace serve`.")]
    Sandbox {
        /// host:port
        #[arg(long, default_value = "127.0.0.1:8091")]
        listen: std::net::SocketAddr,
        /// Where the marketplace takes webhooks.
        #[arg(long, default_value = "http://127.0.0.1:8090/webhooks/stripe")]
        webhooks: String,
    },
    /// Number waiting events anew: only if Millstream lost its log.
    Renumber(Place),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// marketplace.toml
    #[arg(long)]
    config: Option<PathBuf>,
    /// Instead of the file's.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Instead of the file's: host:port.
    #[arg(long)]
    listen: Option<std::net::SocketAddr>,
}

impl Place {
    fn config(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        if let Some(folder) = &self.data_dir {
            config.data_dir.clone_from(folder);
        }
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        Ok(config)
    }
}

/// Runs the command line; errors go to stderr.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,tantivy=warn,sqlx=warn"));
    // A log whose disk is full is no reason to end: the subscriber would complain of it with a panic.
    tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = tokio::runtime::Runtime::new()
        .map_err(|e| Problem::unavailable(format!("no threads: {e}")))
        .and_then(|runtime| runtime.block_on(run(command.verb)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Standard error is all there is to tell it to.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("error: {problem}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Serve(place) => {
            let app = App::open(place.config()?, Clock::system()).await?;
            let listener = serve::bind(&app).await?;
            say(&format!("marketplace at {}", app.public_url()));
            serve::serve(app, listener, stop_signal()).await
        }
        Verb::Demo(demo) => demo::run(&demo, say).await,
        Verb::Install(install) => client::install(&install).await.map(|line| say(&line)),
        Verb::Rollback(rollback) => client::rollback(&rollback).await.map(|line| say(&line)),
        Verb::Installed(here) => client::installed(&here).map(|text| say(&text)),
        Verb::Uninstall(uninstall) => client::uninstall(&uninstall).await.map(|line| say(&line)),
        Verb::Account { place, handle, email, role, new_password } => {
            let app = App::open(place.config()?, Clock::system()).await?;
            if let Some(email) = email {
                let new = SignUp { handle: handle.clone(), email, password: password()?, display_name: String::new() };
                accounts::sign_up(&app, "command line", &new).await?;
            }
            if new_password {
                accounts::set_password(&app, "command line", &handle, &password()?).await?;
            }
            if let Some(role) = role {
                accounts::grant(&app, "command line", &handle, Role::of(&role)?).await?;
            }
            let account = accounts::by_handle(&app, &handle).await?;
            say(&format!("{} is a {}", account.handle, account.role.name()));
            Ok(())
        }
        Verb::Sandbox { listen, webhooks } => {
            let bound = tokio::net::TcpListener::bind(listen).await.and_then(|l| Ok((l.local_addr()?, l)));
            let (address, listener) = bound.map_err(|e| Problem::unavailable(format!("{listen}: {e}")))?;
            let sandbox = Sandbox::new(Clock::system(), &format!("http://{address}"));
            sandbox.tells(&webhooks, Clock::system());
            let config = sandbox.config();
            say(&format!(
                "[stripe]\nbase_url = \"{}\"\nsecret_key = \"{}\"\nwebhook_secret = \"{}\"",
                config.base_url, config.secret_key, config.webhook_secret
            ));
            sandbox.serve(listener, stop_signal()).await
        }
        Verb::Renumber(place) => {
            let app = App::open(place.config()?, Clock::system()).await?;
            let producer = app.config.millstream.as_ref().map_or("marketplace", |m| m.producer.as_str()).to_string();
            let epoch = events::renumber(&app.db, &producer).await?;
            say(&format!("'{producer}' sends in epoch {epoch} from now on"));
            Ok(())
        }
    }
}

fn password() -> Result<String> {
    std::env::var("MARKETPLACE_PASSWORD")
        .map_err(|_| Problem::invalid("set MARKETPLACE_PASSWORD to the account's password"))
}

fn say(line: &str) {
    // A closed pipe is the reader's wish.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes());
}

/// Ends when somebody asks this process to stop.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = interrupt.await;
        }
    }
}

//! `marketplace install ns/name`: asks for the manifest, checks its signature, puts the files in place at once or not at all.
//!
//! ```text
//! <dir>/<namespace>/<name>/versions/<version>/...   one folder a version, renamed into place when it is whole
//! <dir>/<namespace>/<name>/current                  a link to one of them, replaced by a rename: install, upgrade, rollback
//! <dir>/key                                         the key seen first; another one later is refused
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::install::Offer;
use super::signer::{Promise, verify};
use crate::config::Uploads;
use crate::problem::{Problem, Result};
use crate::{publish, secret};

/// Which marketplace, as whom, and where to.
#[derive(Debug, clap::Args)]
pub struct Here {
    /// The marketplace.
    #[arg(long, env = "MARKETPLACE_URL", default_value = "http://127.0.0.1:8090")]
    url: String,
    /// An API token with the scope install.
    #[arg(long, env = "MARKETPLACE_TOKEN", default_value = "", hide_env_values = true)]
    token: String,
    /// The folder of installed agents.
    #[arg(long, env = "MARKETPLACE_AGENTS", default_value = "agents")]
    dir: PathBuf,
}

/// `marketplace install`
#[derive(Debug, clap::Args)]
pub struct Install {
    /// namespace/name, or namespace/name@version.
    agent: String,
    /// latest or pre.
    #[arg(long)]
    channel: Option<String>,
    #[command(flatten)]
    here: Here,
}

/// `marketplace rollback`
#[derive(Debug, clap::Args)]
pub struct Rollback {
    /// namespace/name, or namespace/name@version; the version before when absent.
    agent: String,
    #[command(flatten)]
    here: Here,
}

/// `marketplace uninstall`
#[derive(Debug, clap::Args)]
pub struct Uninstall {
    /// namespace/name
    agent: String,
    #[command(flatten)]
    here: Here,
}

fn split(agent: &str) -> Result<(&str, Option<&str>)> {
    let (name, version) = agent.split_once('@').map_or((agent, None), |(n, v)| (n, Some(v)));
    let parts: Vec<&str> = name.split('/').collect();
    let [namespace, short] = parts.as_slice() else {
        return Err(Problem::invalid(format!(
            "'{agent}' names no agent; write namespace/name or namespace/name@1.2.0"
        )));
    };
    crate::accounts::check_name("namespace", namespace)?;
    crate::accounts::check_name("name", short)?;
    Ok((name, version))
}

/// Installs or upgrades; gives what to tell.
pub async fn install(args: &Install) -> Result<String> {
    let (name, version) = split(&args.agent)?;
    let body = serde_json::json!({ "version": version, "channel": args.channel });
    let offer = args.here.post(&format!("agents/{name}/install"), &body).await?;
    args.here.take(name, &offer).await
}

/// Goes back; gives what to tell.
pub async fn rollback(args: &Rollback) -> Result<String> {
    let (name, version) = split(&args.agent)?;
    let offer = args.here.post(&format!("agents/{name}/rollback"), &serde_json::json!({ "version": version })).await?;
    args.here.take(name, &offer).await
}

/// Removes; gives what to tell.
pub async fn uninstall(args: &Uninstall) -> Result<String> {
    let (name, _) = split(&args.agent)?;
    let request = args.here.client()?.delete(args.here.address(&format!("agents/{name}/install")));
    args.here.send(request).await?;
    let folder = args.here.dir.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|e| disk(&folder, &e))?;
    }
    Ok(format!("{name} is removed"))
}

/// What is installed here.
pub fn installed(here: &Here) -> Result<String> {
    let mut lines = Vec::new();
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
    };
    for agent in folders(&here.dir).iter().flat_map(|namespace| folders(namespace)) {
        let Ok(current) = fs::read_link(agent.join("current")) else { continue };
        let version = current.file_name().map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
        let name = agent.strip_prefix(&here.dir).unwrap_or(&agent).display().to_string();
        lines.push(format!("{name} {version}"));
    }
    lines.sort();
    Ok(if lines.is_empty() { format!("nothing is installed in {}", here.dir.display()) } else { lines.join("\n") })
}

fn disk(path: &Path, error: &std::io::Error) -> Problem {
    Problem::unavailable(format!("{}: {error}", path.display()))
}

#[derive(Deserialize)]
struct Key {
    keyid: String,
    public_key: String,
}

#[derive(Deserialize)]
struct Refusal {
    detail: String,
}

impl Here {
    fn client(&self) -> Result<reqwest::Client> {
        reqwest::Client::builder().build().map_err(|e| Problem::unavailable(format!("no HTTP client: {e}")))
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.url.trim_end_matches('/'))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<bytes::Bytes> {
        let failed = |e: reqwest::Error| Problem::unavailable(format!("{}: {e}; is --url right?", self.url));
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        if status.is_success() {
            return Ok(body);
        }
        let told = serde_json::from_slice::<Refusal>(&body).map(|r| r.detail);
        let told = told.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        let told = if status == 401 { format!("{told}; set MARKETPLACE_TOKEN") } else { told };
        Err(Problem::invalid(told))
    }

    async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Offer> {
        let request = self.client()?.post(self.address(path)).header("content-type", "application/json");
        let answer = self.send(request.body(body.to_string())).await?;
        serde_json::from_slice(&answer).map_err(|e| Problem::invalid(format!("{} answers no offer: {e}", self.url)))
    }

    /// The key that was seen first from this marketplace.
    async fn trusted_key(&self, offer: &Offer) -> Result<String> {
        let path = self.dir.join("key");
        if let Ok(known) = fs::read_to_string(&path) {
            return Ok(known.trim().to_string());
        }
        let keyid = offer.manifest.signatures.first().map(|s| s.keyid.clone()).unwrap_or_default();
        let answer = self.send(self.client()?.get(self.address(&format!("keys/{keyid}")))).await?;
        let key: Key = serde_json::from_slice(&answer)?;
        if key.keyid != keyid {
            return Err(Problem::invalid("the marketplace answers another key than it signs with"));
        }
        fs::create_dir_all(&self.dir).map_err(|e| disk(&self.dir, &e))?;
        fs::write(&path, &key.public_key).map_err(|e| disk(&path, &e))?;
        Ok(key.public_key)
    }

    async fn take(&self, name: &str, offer: &Offer) -> Result<String> {
        let promise = verify(&offer.manifest, &self.trusted_key(offer).await?)?;
        if promise.agent != name || promise.version != offer.version {
            return Err(Problem::invalid(
                "the signed manifest is about another agent or version; nothing was installed",
            ));
        }
        let home = self.dir.join(name);
        let folder = home.join("versions").join(&promise.version);
        if !folder.exists() {
            let request = self.client()?.get(&offer.download_url);
            let response = request.send().await.and_then(reqwest::Response::error_for_status);
            let response = response.map_err(|e| Problem::unavailable(format!("the download: {e}")))?;
            let package = response.bytes().await.map_err(|e| Problem::unavailable(format!("the download: {e}")))?;
            unpack(&package, &promise, &folder)?;
        }
        point(&home, &promise.version)?;
        let done = if offer.outcome == "unchanged" { "in place" } else { &offer.outcome };
        let allowed = match promise.permissions.as_slice() {
            [] => "asks for no permissions".to_string(),
            some => format!("may use: {}", some.join(", ")),
        };
        Ok(format!("{name} {} {} in {} ({allowed})", promise.version, done.replace('_', " "), folder.display()))
    }
}

/// Checks a package and puts its files into `folder`, which appears whole.
fn unpack(package: &[u8], promise: &Promise, folder: &Path) -> Result<()> {
    if secret::sha256_hex(package) != promise.sha256 {
        return Err(Problem::invalid("the package is not what the manifest promises; nothing was installed"));
    }
    // The same rules as at the upload: a marketplace that forgot them cannot hurt this machine.
    publish::read_package(package, &Uploads::default())?;
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|e| disk(parent, &e))?;
    let staging = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent).map_err(|e| disk(parent, &e))?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(package));
    for entry in archive.entries().map_err(|e| disk(folder, &e))? {
        let mut entry = entry.map_err(|e| disk(folder, &e))?;
        entry.unpack_in(staging.path()).map_err(|e| disk(folder, &e))?;
    }
    let staged = staging.keep();
    fs::rename(&staged, folder).map_err(|e| disk(folder, &e))?;
    sync(parent)
}

/// Makes `current` point to a version.
fn point(home: &Path, version: &str) -> Result<()> {
    let (link, new) = (home.join("current"), home.join(".current-new"));
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(Path::new("versions").join(version), &new).map_err(|e| disk(&new, &e))?;
    fs::rename(&new, &link).map_err(|e| disk(&link, &e))?;
    sync(home)
}

fn sync(folder: &Path) -> Result<()> {
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| disk(folder, &e))
}

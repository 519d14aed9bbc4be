//! The analytics at scale: a made-up platform is sent to a server of its own, rolled up, and looked at page by page.
//!
//! ```text
//! analytics [users] [days] [events a day]      (default 1000 30 20; 15500 90 200 makes 85 million events)
//! options: --loads N (20)   --dir DIR (a temporary one; a directory that has a platform already is measured as it is)
//! ```
//!
//! The server is the `millstream` beside this binary, in a process of its own, so that its CPU time and memory are read from
//! `/proc` and nobody else's work is in them. Printed beside each figure: the goal for 5,000 active users a day over 90 days,
//! with 200 events each, on two cores.
//!
//! A page is loaded *cold* in another time zone each time, so that no answer is remembered, and *warm* again and again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono_tz::TZ_VARIANTS;
use millstream::time::{Clock, SystemClock, day_of};
use millstream_benches::cpu_s;
use millstream_benches::server::{self, Outcome, Server};
use millstream_server::config::Config;
use millstream_server::generate::send::{Target, send};
use millstream_server::generate::{Shape, World};
use millstream_server::schedule;
use millstream_server::tables::Tables;

const PAGES: [&str; 9] =
    ["/", "/users", "/agents", "/business", "/system", "/pipelines", "/sql", "/reports", "/catalogue"];

const REPORTS: [&str; 4] = ["weekly", "monthly_business", "platform", "agent_publisher"];

struct Wanted {
    users: u32,
    days: u32,
    events_per_user: u32,
    loads: usize,
    dir: Option<PathBuf>,
}

fn main() -> Outcome {
    let wanted = arguments()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench(&wanted))
}

fn arguments() -> Outcome<Wanted> {
    let mut wanted = Wanted { users: 1_000, days: 30, events_per_user: 20, loads: 20, dir: None };
    let (mut place, mut arguments) = (0, std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match (argument.as_str(), place) {
            ("--loads", _) => wanted.loads = value()?.parse()?,
            ("--dir", _) => wanted.dir = Some(value()?.into()),
            (number, 0) => (place, wanted.users) = (1, number.parse()?),
            (number, 1) => (place, wanted.days) = (2, number.parse()?),
            (number, 2) => (place, wanted.events_per_user) = (3, number.parse()?),
            (other, _) => return Err(format!("one number or option too many: {other}").into()),
        }
    }
    Ok(wanted)
}

async fn bench(wanted: &Wanted) -> Outcome {
    let made = tempfile::tempdir()?;
    let dir = wanted.dir.clone().unwrap_or_else(|| made.path().to_path_buf());
    std::fs::create_dir_all(&dir)?;
    let key = server::prepare(&dir, "24h")?;
    println!("{:<34}{:>12}{:>12}{:>12}{:>14}   goal", "", "p50", "p95", "max", "server CPU");
    if !dir.join("data/lake/raw_ide_events").is_dir() {
        let server = Server::start(&dir)?;
        fill(&server, wanted, &key).await?;
        // Stopping takes a checkpoint: all that was sent is in the tables.
        server.stop()?;
    }
    nights(&dir).await?;
    let begun = Instant::now();
    let server = Server::start(&dir)?;
    figure("start", begun.elapsed(), server.cpu_s(), "");
    let web = Web { client: reqwest::Client::new(), base: server.http.clone(), key };
    pages(&web, &server, wanted.loads).await?;
    reports(&web, &server, &dir).await?;
    csv(&web, &server).await?;
    server.stop()
}

fn figure(name: &str, wall: Duration, cpu_s: f64, goal: &str) {
    println!("{name:<34}{:>36.2} s{:>12.2} s   {goal}", wall.as_secs_f64(), cpu_s);
}

/// Sends the platform.
async fn fill(server: &Server, wanted: &Wanted, key: &str) -> Outcome {
    let first_day = day_of(SystemClock.now()) - wanted.days as i32;
    let shape =
        Shape { seed: 1, users: wanted.users, first_day, days: wanted.days, events_per_user: wanted.events_per_user };
    let (begun, before_s) = (Instant::now(), server.cpu_s());
    let target = Target { endpoint: server.grpc.clone(), key: key.to_string(), rate: None };
    let totals = send(&mut World::new(shape), &target, |_| ()).await?;
    let (wall, cpu_s) = (begun.elapsed(), server.cpu_s() - before_s);
    figure(&format!("{} events sent", totals.accepted), wall, cpu_s, "");
    let millions = totals.accepted as f64 / 1e6;
    println!("{:<34}{:>36.2} s{:>12.2} s", "  a million", wall.as_secs_f64() / millions, cpu_s / millions);
    Ok(())
}

/// The rollups that are missing of days before, then those of the last full day, which is what a night costs. They run in this process;
/// the server is stopped.
async fn nights(dir: &Path) -> Outcome {
    let config = Config::load(Some(&dir.join("millstream.toml")))?;
    let tables = Tables::open(&config, Arc::new(SystemClock)).await?;
    let rollups = schedule::rollups(&config.sql.rollups)?;
    let yesterday = day_of(SystemClock.now()) - 1;
    let (begun, before_s) = (Instant::now(), cpu_s(std::process::id()));
    let mut due = 0;
    for rollup in &rollups {
        // What has been before decides some: those days first.
        let mut days = tables.rollup_days_due(rollup, yesterday - 1).await?;
        days.retain(|day| *day < yesterday);
        due += days.len();
        for run in tables.rollup_days(rollup, &days.into_iter().collect::<Vec<_>>()).await? {
            run?;
        }
    }
    if due > 0 {
        figure(&format!("{due} rollups of days before"), begun.elapsed(), cpu_s(std::process::id()) - before_s, "");
    }
    let (begun, before_s) = (Instant::now(), cpu_s(std::process::id()));
    for rollup in &rollups {
        let (begun, before_s) = (Instant::now(), cpu_s(std::process::id()));
        tables.rollup(rollup, yesterday).await?;
        figure(&format!("  {}", rollup.name), begun.elapsed(), cpu_s(std::process::id()) - before_s, "");
    }
    figure("rollups of a day", begun.elapsed(), cpu_s(std::process::id()) - before_s, "60 s");
    Ok(())
}

/// The pages, as a browser asks them.
struct Web {
    client: reqwest::Client,
    base: String,
    key: String,
}

impl Web {
    async fn get(&self, path: &str) -> Outcome<Vec<u8>> {
        let answer = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.key).send().await?;
        let status = answer.status();
        let body = answer.bytes().await?.to_vec();
        if !status.is_success() {
            return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body)
    }
}

async fn pages(web: &Web, server: &Server, loads: usize) -> Outcome {
    for page in PAGES {
        for (mood, goal) in [("cold", "1000 ms"), ("warm", "1000 ms")] {
            let (mut took_ms, before_s) = (Vec::with_capacity(loads), server.cpu_s());
            // No two loads of a page have the same zone, as long as there are zones.
            for zone in TZ_VARIANTS.iter().map(|tz| tz.name()).filter(|name| name.contains('/')).cycle().take(loads) {
                let zone = if mood == "cold" { zone } else { "UTC" };
                let begun = Instant::now();
                let body = web.get(&format!("{page}?range=90d&tz={zone}")).await?;
                took_ms.push(begun.elapsed().as_secs_f64() * 1e3);
                for sign in ["could not be drawn", "cannot be read"] {
                    if String::from_utf8_lossy(&body).contains(sign) {
                        return Err(format!("{page} in {zone}: something {sign}").into());
                    }
                }
            }
            took_ms.sort_by(f64::total_cmp);
            let at = |q: f64| took_ms.get(((took_ms.len() as f64 * q).ceil() as usize).max(1) - 1).copied();
            let [p50, p95, max] = [at(0.5), at(0.95), at(1.0)].map(Option::unwrap_or_default);
            let cpu_ms = (server.cpu_s() - before_s) * 1e3 / loads as f64;
            println!(
                "{:<34}{p50:>9.0} ms{p95:>9.0} ms{max:>9.0} ms{cpu_ms:>11.0} ms   {goal}",
                format!("{page}, {mood}")
            );
        }
    }
    Ok(())
}

async fn reports(web: &Web, server: &Server, dir: &Path) -> Outcome {
    for report in REPORTS {
        for range in ["30d", "90d"] {
            let before_s = server.cpu_s();
            let begun = Instant::now();
            // One that needs a publisher or another parameter is made for nobody.
            let Ok(pdf) = web.get(&format!("/reports/{report}/pdf?range={range}")).await else { continue };
            let (wall, cpu_s) = (begun.elapsed(), server.cpu_s() - before_s);
            figure(&format!("PDF {report} of {range}, {} pages", pages_of(dir, &pdf)?), wall, cpu_s, "1 s");
        }
    }
    Ok(())
}

/// As `pdfinfo` counts them; `?` where it is not installed.
fn pages_of(dir: &Path, pdf: &[u8]) -> Outcome<String> {
    let path = dir.join("report.pdf");
    std::fs::write(&path, pdf)?;
    let Ok(about) = Command::new("pdfinfo").arg(&path).output() else { return Ok("?".into()) };
    let about = String::from_utf8_lossy(&about.stdout).into_owned();
    Ok(about.lines().find_map(|line| line.strip_prefix("Pages:")).map_or("?".into(), |n| n.trim().to_string()))
}

/// Ten million rows as CSV, or as many as there are.
async fn csv(web: &Web, server: &Server) -> Outcome {
    server.forget_peak()?;
    let before_mb = server.memory_mb("VmRSS")?;
    let (begun, before_s) = (Instant::now(), server.cpu_s());
    let form = "sql=SELECT+*+FROM+raw_ide_events+LIMIT+10000000";
    let asked = web.client.post(format!("{}/sql/csv", web.base)).bearer_auth(&web.key);
    let asked = asked.header("content-type", "application/x-www-form-urlencoded").body(form);
    let mut answer = asked.send().await?.error_for_status()?;
    let (mut rows, mut bytes) = (0, 0);
    while let Some(chunk) = answer.chunk().await? {
        bytes += chunk.len();
        rows += chunk.iter().filter(|byte| **byte == b'\n').count();
    }
    let peak_mb = server.memory_mb("VmHWM")? - before_mb;
    figure(&format!("CSV, {rows} rows, {} MB", bytes / 1_000_000), begun.elapsed(), server.cpu_s() - before_s, "");
    println!("{:<34}{peak_mb:>35.0} MB{:>14}   100 MB", "  memory beyond the server's own", "");
    std::io::stdout().flush()?;
    Ok(())
}

//! The steps of the story, in the order they are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::time::{Clock, DAY, EventTime, day_of};
use millstream::{Engine, Error, Result};
use tempfile::TempDir;
use tokio::time::Instant;

use super::check::{Check, grouped};
use super::platform::{DAY_NUMBER, Platform, Size};
use super::stream::{Manner, Receipts, Stream, Target};
use super::{answers, git_history, market, platform, real, results};
use crate::cli::demo::DemoArgs;
use crate::cli::progress::Progress;
use crate::cli::{clock, interrupted, print};
use crate::config::Config;
use crate::generate::send;
use crate::generate::{Shape, World};
use crate::keys::Role;
use crate::range::{Range, midnight, show_day};
use crate::schedule;
use crate::serve::Server;

/// How fresh the tables are.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Days of the made-up platform, and those that the dashboard shows at first.
const WEEKS_DAYS: u32 = 60;
const DASHBOARD_DAYS: i32 = 30;

/// Streams that are open at once.
const CONCURRENT_STREAMS: usize = 16;

/// What to tell.
#[derive(Debug)]
pub struct Story {
    /// The checkout, or any folder with `pipelines/` and `sql/`.
    pub root: PathBuf,
    /// A folder of real files; without it, a small platform that is made up.
    pub data: Option<(PathBuf, real::Files)>,
    /// How much happens on the platform.
    pub size: Size,
    /// Where CSV and PDF go.
    pub out: PathBuf,
}

/// The story after its end: the server still runs.
#[derive(Debug)]
pub struct Told {
    /// The server; stop it.
    pub server: Server,
    /// Everything that was compared.
    pub checks: Vec<Check>,
    /// A key that may do everything on this server.
    pub key: String,
    /// The time that results are about.
    pub range: Range,
    /// Where the server's data is, until this is dropped.
    pub dir: TempDir,
    /// (table, producer) of all that has ended.
    pub producers: Vec<(String, String)>,
}

/// What is sent, and what is known of it.
struct Events {
    streams: Vec<Stream>,
    /// Sent when all else is over.
    late: Option<Stream>,
    truth: Option<platform::Truth>,
    commits: u64,
    range: Range,
    /// The days whose metrics are asked for.
    asked: Vec<Range>,
}

/// Runs the demo; an error if a total differs.
pub async fn run(args: DemoArgs) -> Result<()> {
    let here = std::env::current_dir().map_err(|e| Error::Config(format!("the working directory: {e}")))?;
    let data = args.data.map(|dir| (dir, real::Files::All));
    let story = Story { root: root_of(&here)?, data, size: Size::FULL, out: args.out };
    let mut steps = Steps::new();
    let mut told = tell(&story, clock(), &mut steps).await?;
    made_up_weeks(&mut told, &mut steps).await?;
    let market = match &args.marketplace {
        Some(program) => {
            steps.heading("The marketplace")?;
            let data = story.data.as_ref().map(|(dir, _)| dir.as_path());
            Some(market::start(program, &told, data, args.keep).await?)
        }
        None => None,
    };
    close_weeks(&story, &told, &mut steps).await?;
    let differing = told.checks.iter().filter(|check| check.outcome.is_err()).count();
    steps.heading("How to go on")?;
    print(how_to_go_on(&told, args.keep).as_bytes())?;
    if args.keep {
        let (http, today) = (told.server.http_address, day_of(clock().now()));
        let (from, to) = (show_day(today - DASHBOARD_DAYS), show_day(today + 1));
        print(format!("  Dashboard    http://{http}/?from={from}&to={to}\n").as_bytes())?;
    }
    if let Some(address) = market.as_ref().and_then(|m| m.address.as_ref()) {
        print(format!("  Marketplace  {address}\n").as_bytes())?;
    }
    if args.keep {
        interrupted().await?;
        crate::tell!("stopping");
    }
    drop(market);
    told.server.stop().await?;
    steps.end()?;
    match differing {
        0 => Ok(()),
        n => Err(Error::Bug(format!("{n} of {} checks differ; they are listed above", told.checks.len()))),
    }
}

/// The last weeks of a made-up platform, so that every page of the dashboard has something to show.
async fn made_up_weeks(told: &mut Told, steps: &mut Steps) -> Result<()> {
    steps.heading("The dashboard")?;
    let today = day_of(clock().now());
    let first_day = today - WEEKS_DAYS as i32;
    let shape = Shape { seed: 1, users: 300, first_day, days: WEEKS_DAYS, events_per_user: 20 };
    let endpoint = format!("http://{}", told.server.grpc_address);
    let target = send::Target { endpoint, key: told.key.clone(), rate: None };
    let sent = send::send(&mut World::new(shape), &target, |_| ()).await?;
    let tables = told.server.engine.tables().into_iter().filter(|table| table.connector == "ingest");
    told.producers.extend(tables.map(|table| (table.name.clone(), send::producer(&shape, &table.name))));
    steps.done(&format!("{} events of a platform that is made up, until yesterday", grouped(sent.accepted)))
}

/// Closes what waits for producers that have ended, and rolls up the last weeks.
async fn close_weeks(story: &Story, told: &Told, steps: &mut Steps) -> Result<()> {
    let (engine, now) = (&told.server.engine, clock().now());
    for (table, producer) in &told.producers {
        engine.promise(table, producer, now).await?;
    }
    engine.flush().await?;
    let days = Range { from: midnight(day_of(now) - WEEKS_DAYS as i32), to: midnight(day_of(now) + 1) };
    roll_up(engine, &config_of(story, told.dir.path()), &[days], steps).await
}

/// The nearest folder from `here` upwards with the SQL that ships.
fn root_of(here: &Path) -> Result<PathBuf> {
    let found = here.ancestors().find(|dir| dir.join("pipelines/sources.sql").is_file() && dir.join("sql").is_dir());
    found.map(Path::to_path_buf).ok_or_else(|| {
        let here = here.display();
        Error::Config(format!("no pipelines/ and sql/ in {here} or above it; run the demo in a checkout of Millstream"))
    })
}

/// Says what is done and how long it took.
#[derive(Debug)]
pub struct Steps {
    began: Instant,
    step: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

impl Steps {
    /// The clock runs from now on.
    pub fn new() -> Self {
        Self { began: Instant::now(), step: Instant::now() }
    }

    pub(super) fn done(&mut self, what: &str) -> Result<()> {
        let took = std::mem::replace(&mut self.step, Instant::now());
        let seconds = took.elapsed().as_secs_f64();
        print(format!("{seconds:6.1} s  {what}\n").as_bytes())
    }

    pub(super) fn heading(&mut self, what: &str) -> Result<()> {
        print(format!("\n{what}\n\n").as_bytes())
    }

    pub(super) fn end(&self) -> Result<()> {
        print(format!("\nDone in {:.1} s.\n", self.began.elapsed().as_secs_f64()).as_bytes())
    }
}

/// Tells the story up to its checks.
pub async fn tell(story: &Story, clock: Arc<dyn Clock>, steps: &mut Steps) -> Result<Told> {
    let dir = tempfile::Builder::new().prefix("millstream-demo-").tempdir();
    let dir = dir.map_err(|e| Error::Storage(format!("cannot make a temporary directory: {e}")))?;
    let config = config_of(story, dir.path());
    steps.heading("What happens")?;
    let server = Server::start(config.clone(), clock.clone()).await?;
    let (http, grpc) = (server.http_address, server.grpc_address);
    steps.done(&format!("started a server: HTTP {http}, gRPC {grpc}, data in {}", dir.path().display()))?;
    let key = server.keys.create("demo", Role::Admin, None)?;
    let events = events_of(story, steps).await?;
    let receipts = stream_all(&server, &events, steps).await?;
    roll_up(&server.engine, &config, &events.asked, steps).await?;
    let analyst = results::Analyst::new(&server, &key, events.range);
    results::write_report(&server, &config, &story.out, events.range, clock.now(), steps).await?;
    results::show(&server.engine, &analyst, steps).await?;
    let mut checks = results::delivery_checks(&server.engine, &events.streams, &events.late, &receipts).await?;
    let refused = receipts.values().map(|receipt| receipt.rejected).sum();
    if let Some(truth) = &events.truth {
        checks.extend(results::platform_checks(&server.engine, &analyst, truth, refused, events.commits).await?);
    }
    if let Some((data, files)) = &story.data {
        checks.extend(answers::checks(&server.engine, data, *files).await?);
        if *files == real::Files::All {
            checks.push(results::real_metric_check(&analyst, data).await?);
        }
    }
    steps.heading("Is it right?")?;
    for check in &checks {
        let line = match &check.outcome {
            Ok(text) => format!("      ok  {}: {text}\n", check.what),
            Err(text) => format!(" DIFFERS  {}: {text}\n", check.what),
        };
        print(line.as_bytes())?;
    }
    print(b"\n")?;
    steps.done(&format!(
        "compared {} totals with {}",
        checks.len(),
        if story.data.is_some() {
            "answers that another engine computed from the files"
        } else {
            "what the events' generator knows"
        }
    ))?;
    let ended = events.streams.iter().chain(&events.late);
    let producers = ended.map(|s| (s.table.to_string(), s.producer.clone())).collect();
    Ok(Told { server, checks, key, range: events.range, dir, producers })
}

fn config_of(story: &Story, dir: &Path) -> Config {
    let mut config =
        Config { data_dir: dir.to_path_buf(), checkpoint_interval: CHECKPOINT_INTERVAL, ..Config::default() };
    config.http.listen.set_port(0);
    config.ingest.listen.set_port(0);
    config.sql.pipelines = story.root.join("pipelines");
    config.sql.views = story.root.join("sql/views");
    config.sql.rollups = story.root.join("sql/rollups");
    config.sql.metrics = story.root.join("sql/metrics");
    config.sql.reports = story.root.join("sql/reports");
    // The demo runs the rollups itself, of the days that it has; the schedule would do all days since the first.
    config.rollups.schedule = "0 0 1 1 *".to_string();
    config.rollups.recheck_interval = Duration::from_secs(7 * 86_400);
    config
}

async fn events_of(story: &Story, steps: &mut Steps) -> Result<Events> {
    let (data, size, root) = (story.data.clone(), story.size, story.root.clone());
    let work = move || match data {
        Some((dir, files)) => real::streams(&dir, files).map(real_events),
        None => Ok(platform_events(platform::day(size), &root)),
    };
    let made = tokio::task::spawn_blocking(work).await;
    let (events, remarks) = made.map_err(|e| Error::Bug(format!("making the events: {e}")))??;
    let rows: u64 = events.streams.iter().map(|stream| stream.rows).sum();
    let what = match &story.data {
        Some((dir, _)) => format!("read real events from {}", dir.display()),
        None => format!("made up a platform's {}", show_day(DAY_NUMBER)),
    };
    steps.done(&format!("{what}: {} events of {} producers", grouped(rows), events.streams.len()))?;
    for remark in remarks {
        print(format!("          {remark}\n").as_bytes())?;
    }
    Ok(events)
}

fn platform_events(platform: Platform, root: &Path) -> (Events, Vec<String>) {
    let mut streams = platform.streams;
    let (mut commits, mut remarks) = (0, Vec::new());
    match git_history::commits(root) {
        Ok(events) if !events.is_empty() => {
            commits = events.len() as u64;
            streams.push(Stream::new("git-history", Manner::Steady, events));
            remarks.push(format!("with the {} commits of this clone as real workflow events", grouped(commits)));
        }
        Ok(_) => remarks.push("without git history: there is no commit yet".to_string()),
        Err(why) => remarks.push(format!("without git history: {why}")),
    }
    let range = Range { from: midnight(DAY_NUMBER - 6), to: midnight(DAY_NUMBER + 1) };
    let asked = vec![range];
    (Events { streams, late: Some(platform.late), truth: Some(platform.truth), commits, range, asked }, remarks)
}

fn real_events(streams: Vec<Stream>) -> (Events, Vec<String>) {
    // What metrics and the report are about.
    let reported = |s: &&Stream| ["agent_events", "api_events", "ide_events"].contains(&s.table);
    let first = streams.iter().filter(reported).map(|s| s.first).min().unwrap_or_default();
    let last = streams.iter().filter(reported).map(|s| s.last).max().unwrap_or_default();
    let range = Range { from: midnight(day_of(first)), to: midnight(day_of(last) + 1) };
    // Of years with gaps, the last month of each.
    let month = |s: &Stream| Range {
        from: midnight(day_of(s.first).max(day_of(s.last) - 30)),
        to: midnight(day_of(s.last) + 1),
    };
    let asked = streams.iter().filter(reported).map(month).collect();
    let remark = format!("the editor log's month {} of 14 months, all else whole", real::IDE_MONTH);
    (Events { streams, late: None, truth: None, commits: 0, range, asked }, vec![remark])
}

/// Sends everything and waits until it is in the tables; the receipts by table.
async fn stream_all(server: &Server, events: &Events, steps: &mut Steps) -> Result<BTreeMap<&'static str, Receipts>> {
    let key = server.keys.create("demo-producers", Role::Producer, None)?;
    let endpoint = format!("http://{}", server.grpc_address);
    let target = Target { endpoint, key, acknowledged: Arc::new(AtomicU64::new(0)) };
    register(&server.engine, &events.streams).await?;
    let began = Instant::now();
    let mut receipts = send_all(&events.streams, &target).await?;
    let sent: u64 = receipts.values().map(|r| r.sent).sum();
    let rate = sent as f64 / began.elapsed().as_secs_f64().max(1e-3);
    steps.done(&format!(
        "streamed {} rows over gRPC, each durable before its receipt ({} a second)",
        grouped(sent),
        grouped(rate as u64)
    ))?;
    let (accepted, duplicates, rejected) =
        receipts.values().fold((0, 0, 0), |(a, d, r), one| (a + one.accepted, d + one.duplicates, r + one.rejected));
    let (accepted, duplicates, rejected) = (grouped(accepted), grouped(duplicates), grouped(rejected));
    print(
        format!("          {accepted} accepted, {duplicates} known already (sent again), {rejected} refused (no event time)\n")
            .as_bytes(),
    )?;
    close_windows(&server.engine, &events.streams).await?;
    server.engine.flush().await?;
    steps.done("windows closed; every event is in the Delta tables, exactly once")?;
    if let Some(late) = &events.late {
        receipts.entry(late.table).or_default().add(late.send(&target).await?);
        server.engine.flush().await?;
        let rows = late.rows;
        steps.done(&format!("{rows} events arrived hours late: in the raw table and in agent_usage_1m__late"))?;
    }
    Ok(receipts)
}

/// Tells the watermarks of all producers before the first event, so that none is late only because another was faster.
async fn register(engine: &Engine, streams: &[Stream]) -> Result<()> {
    let mut order: Vec<&Stream> = streams.iter().collect();
    order.sort_by_key(|stream| stream.first);
    for stream in order {
        engine.promise(stream.table, &stream.producer, stream.first.saturating_sub(DAY)).await?;
    }
    Ok(())
}

/// Producers that have ended promise so; a window would wait for their next event else.
async fn close_windows(engine: &Engine, streams: &[Stream]) -> Result<()> {
    let mut ends: BTreeMap<&str, EventTime> = BTreeMap::new();
    for stream in streams {
        let end = ends.entry(stream.table).or_insert(stream.last);
        *end = stream.last.max(*end);
    }
    for stream in streams {
        let end = ends.get(stream.table).copied().unwrap_or(stream.last);
        engine.promise(stream.table, &stream.producer, end.saturating_add(DAY)).await?;
    }
    Ok(())
}

async fn send_all(streams: &[Stream], target: &Target) -> Result<BTreeMap<&'static str, Receipts>> {
    use futures::{StreamExt, TryStreamExt};
    let progress = Progress::steps(streams.iter().map(|stream| stream.rows + stream.resent()).sum());
    let sending = futures::stream::iter(streams)
        .map(|stream| async move { stream.send(target).await.map(|receipts| (stream.table, receipts)) })
        .buffer_unordered(CONCURRENT_STREAMS)
        .try_collect::<Vec<_>>();
    tokio::pin!(sending);
    let sent = loop {
        tokio::select! {
            sent = &mut sending => break sent?,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                progress.set(target.acknowledged.load(Ordering::Relaxed), "rows");
            }
        }
    };
    let mut receipts: BTreeMap<&'static str, Receipts> = BTreeMap::new();
    for (table, one) in sent {
        receipts.entry(table).or_default().add(one);
    }
    Ok(receipts)
}

/// Runs the rollups that ship: the daily ones, whose sums are checked, on every day that their input has; those that metrics
/// read on the days that metrics are asked about.
async fn roll_up(engine: &Engine, config: &Config, asked: &[Range], steps: &mut Steps) -> Result<()> {
    let rollups = schedule::rollups(&config.sql.rollups)?;
    let progress = Progress::steps(rollups.len() as u64);
    let mut count = 0;
    for (done, rollup) in rollups.iter().enumerate() {
        let days = engine.rollup_days_due(rollup, i32::MAX).await?;
        let asked = |day: &i32| asked.iter().any(|range| (range.from..range.to).contains(&midnight(*day)));
        let days: Vec<i32> = days.into_iter().filter(|day| rollup.name.ends_with("_daily") || asked(day)).collect();
        for run in engine.rollup_days(rollup, &days).await? {
            run?;
            count += 1;
        }
        progress.set(done as u64 + 1, rollup.name.clone());
    }
    progress.finish();
    let days = if count == 1 { "day" } else { "days" };
    steps.done(&format!("ran {} nightly rollups: {count} {days}", rollups.len()))
}

fn how_to_go_on(told: &Told, keep: bool) -> String {
    let http = told.server.http_address;
    let (from, to) = (show_day(day_of(told.range.from)), show_day(day_of(told.range.to)));
    let key = &told.key;
    let first = if keep {
        "The server runs until Ctrl-C. Ask it:"
    } else {
        "The server stops now. `millstream demo --keep` keeps it, with another port and key; then ask it:"
    };
    format!(
        "  {first}\n\n\
         \x20   curl -H 'authorization: Bearer {key}' \\\n\
         \x20     'http://{http}/api/v1/metrics/tokens_per_agent?from={from}&to={to}'\n\
         \x20   millstream sql --url http://{http} --key {key} 'SELECT * FROM agent_usage_daily LIMIT 5'\n\n\
         \x20 Change a query in sql/metrics and ask again: there is nothing to restart.\n\
         \x20 `millstream serve` in this folder runs the same pipelines for good.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_found_from_below_and_missed_elsewhere() {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(root_of(crate_dir).ok().as_deref(), crate_dir.parent());
        let error = root_of(Path::new("/")).map(|_| ()).map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.contains("run the demo in a checkout")));
    }
}

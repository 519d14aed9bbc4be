//! What must not grow while a server runs for hours: memory, open files, live Parquet files of a table and day, the time
//! to read the tables' Delta logs, and the time until a batch is acknowledged.
//!
//! `target/debug/soak [minutes] [events a second] [folder]`: 120 minutes and 5,000 by default. It starts the `millstream`
//! beside it with the pipelines, rollups and metrics of this checkout, sends a made-up platform at an even pace (a day of
//! it in about a minute and a half), opens a page of the dashboard at every sample, and writes `soak.csv` and `soak.svg` to the
//! folder as it goes on. 5,000 users with 200 events a day each cause 12 events a second on average.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use millstream::lake::Lake;
use millstream_benches::server::{self, Outcome, Server};
use millstream_report::{ChartKind, ChartSpec, Theme};
use millstream_server::generate::send::{Target, send};
use millstream_server::generate::{Shape, World};

const SAMPLE: Duration = Duration::from_secs(30);
/// Events that the platform below causes on an average day, at least.
const EVENTS_A_DAY: f64 = 300_000.0;
const USERS: u32 = 5_000;
const PAGES: [&str; 5] = ["/", "/users", "/agents", "/business", "/system"];

/// What is drawn: column, heading, unit.
const CHARTS: [(&str, &str, &str); 6] = [
    ("rss_mb", "Resident memory", "MB"),
    ("open_files", "Open files and sockets", ""),
    ("files_per_day", "Live Parquet files of one table and day, at most", ""),
    ("delta_read_ms", "Time to read the Delta log, slowest table", "ms"),
    ("page_ms", "Time until a page of the dashboard is there", "ms"),
    ("cpu_share", "CPU seconds a second", ""),
];

/// One look at the server, by the names of the columns.
type Sample = BTreeMap<&'static str, f64>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let minutes: f64 = arguments.next().map_or(Ok(120.0), |a| a.parse())?;
    let rate: u64 = arguments.next().map_or(Ok(5_000), |a| a.parse())?;
    let out = PathBuf::from(arguments.next().unwrap_or_else(|| "soak".into()));
    std::fs::create_dir_all(&out)?;
    let dir = tempfile::tempdir()?;
    let key = server::prepare(dir.path(), "1m")?;
    let mut server = Server::start(dir.path())?;
    println!("pid {} on {}, data in {}", server.pid(), server.http, dir.path().display());
    let sent = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let days = (minutes * 60.0 * rate as f64 / EVENTS_A_DAY).ceil() as u32 + 1;
    produce(&server, &key, days, rate, sent.clone(), done.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (started, mut samples, mut cpu) = (Instant::now(), Vec::new(), (Instant::now(), 0.0));
    while started.elapsed().as_secs_f64() < minutes * 60.0 && !done.load(Ordering::Relaxed) {
        std::thread::sleep(SAMPLE);
        if let Some(status) = server.ended()? {
            return Err(format!("the server ended with {status}; its data is kept in {}", dir.keep().display()).into());
        }
        let mut sample = look(&server, &key, &runtime, &dir.path().join("data/lake"), samples.len())?;
        let (now, used) = (Instant::now(), server.cpu_s());
        sample.insert("cpu_share", (used - cpu.1) / (now - cpu.0).as_secs_f64());
        cpu = (now, used);
        sample.insert("minute", started.elapsed().as_secs_f64() / 60.0);
        sample.insert("days_sent", sent.load(Ordering::Relaxed) as f64);
        println!("{}", line(&sample));
        samples.push(sample);
        write(&out, &samples)?;
    }
    summary(&samples);
    Ok(())
}

/// Sends the platform in a thread of its own, until it is over or the program ends.
fn produce(server: &Server, key: &str, days: u32, rate: u64, sent: Arc<AtomicU64>, done: Arc<AtomicBool>) {
    let target = Target { endpoint: server.grpc.clone(), key: key.to_string(), rate: Some(rate) };
    std::thread::spawn(move || {
        let shape = Shape { seed: 1, users: USERS, first_day: 20_300, days, events_per_user: 200 };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
        let outcome = runtime.block_on(send(&mut World::new(shape), &target, |events| {
            sent.store(events, Ordering::Relaxed);
        }));
        match outcome {
            Ok(totals) => println!("{} events accepted, {} rejected", totals.accepted, totals.rejected),
            Err(e) => println!("the producer stopped: {e}"),
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// The status of a page, and the milliseconds until it was there.
fn get(server: &Server, key: &str, path: &str) -> Outcome<(u16, f64)> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(server.http.trim_start_matches("http://"))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = String::from_utf8_lossy(&answer[..answer.len().min(32)]);
    let status = status.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((status, started.elapsed().as_secs_f64() * 1e3))
}

fn look(server: &Server, key: &str, runtime: &tokio::runtime::Runtime, lake: &Path, number: usize) -> Outcome<Sample> {
    let pid = server.pid();
    let count = |folder: String| std::fs::read_dir(folder).map_or(0, Iterator::count) as f64;
    let mut sample = Sample::from([
        ("rss_mb", server.memory_mb("VmRSS")?),
        ("open_files", count(format!("/proc/{pid}/fd"))),
        ("threads", count(format!("/proc/{pid}/task"))),
    ]);
    let (status, page_ms) = get(server, key, PAGES[number % PAGES.len()])?;
    sample.insert("page_ms", page_ms);
    sample.insert("page_refused", f64::from(u8::from(status != 200)));
    let url = lake.display().to_string();
    runtime.block_on(async {
        let names = Lake::open(&url, &BTreeMap::new()).await?.names().await?;
        let (mut slowest, mut most, mut files, mut commits) = (0.0_f64, 0, 0, 0);
        for name in names {
            let started = Instant::now();
            let Some(table) = Lake::open(&url, &BTreeMap::new()).await?.existing(&name).await? else { continue };
            let days = table.files_by_day().await?;
            slowest = slowest.max(started.elapsed().as_secs_f64() * 1e3);
            most = most.max(days.values().copied().max().unwrap_or(0));
            files += days.values().sum::<usize>();
            commits += table.version().await?;
        }
        sample.insert("delta_read_ms", slowest);
        sample.insert("files_per_day", most as f64);
        sample.insert("files", files as f64);
        sample.insert("commits", commits as f64);
        Ok::<_, millstream::Error>(())
    })?;
    Ok(sample)
}

fn line(sample: &Sample) -> String {
    sample.iter().map(|(name, value)| format!("{name} {value:.1}")).collect::<Vec<_>>().join("  ")
}

/// The samples as a table, and as one picture of several charts.
fn write(out: &Path, samples: &[Sample]) -> Outcome {
    let names: Vec<_> = samples.first().map(|s| s.keys().copied().collect()).unwrap_or_default();
    let mut csv = names.join(",") + "\n";
    for sample in samples {
        let values: Vec<_> = names.iter().map(|n| format!("{:.3}", sample[n])).collect();
        csv += &(values.join(",") + "\n");
    }
    std::fs::write(out.join("soak.csv"), csv)?;
    let (width, height) = (760, 190);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"14\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
        CHARTS.len() * (height + 30)
    );
    let column = |name| Arc::new(samples.iter().map(|s| s.get(name).copied()).collect::<Float64Array>()) as ArrayRef;
    for (i, (name, heading, unit)) in CHARTS.iter().enumerate() {
        let rows = RecordBatch::try_from_iter([("minute", column("minute")), (*name, column(name))])?;
        let mut chart = ChartSpec::new(ChartKind::Line, vec![rows], "minute", *name);
        (chart.title, chart.unit) = (heading.to_string(), unit.to_string());
        (chart.width_px, chart.height_px) = (width, height as u32);
        let y = i * (height + 30);
        write!(svg, "<text x=\"8\" y=\"{}\">{heading}, by minute</text>", y + 20)?;
        write!(svg, "<g transform=\"translate(0 {})\">{}</g>", y + 28, chart.to_svg(Theme::Print)?)?;
    }
    std::fs::write(out.join("soak.svg"), svg + "</svg>")?;
    Ok(())
}

/// Each column's mean in the second quarter of the time and in the last: flat is about one.
fn summary(samples: &[Sample]) {
    let quarter = samples.len() / 4;
    if quarter == 0 {
        return;
    }
    let mean = |part: &[Sample], name: &str| part.iter().map(|s| s[name]).sum::<f64>() / part.len() as f64;
    println!("{:.0} pages were refused", samples.iter().map(|s| s["page_refused"]).sum::<f64>());
    println!("{:<16}{:>16}{:>16}{:>8}", "", "second quarter", "last quarter", "ratio");
    for (name, ..) in CHARTS {
        let (early, late) =
            (mean(&samples[quarter..2 * quarter], name), mean(&samples[samples.len() - quarter..], name));
        println!("{name:<16}{early:>16.2}{late:>16.2}{:>8.2}", late / early);
    }
}

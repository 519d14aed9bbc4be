//! One schedule: a server that lives, dies and starts again, until everything is acknowledged; then the audit.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use futures::FutureExt;
use millstream::engine::stepped::{Ground, Stepped};
use millstream::fs::Fs;
use millstream::lake::{Lake, Maintenance};
use millstream::log::{FatalHook, LogOptions, PendingAck};
use millstream::planted::{Bug, plant};
use millstream::{Error, Result};
use tokio::runtime::Handle;

use super::delta::Delta;
use super::disk::SimFs;
use super::model::{Tables, expected};
use super::producers::{Producer, START};
use super::store::SimStore;
use super::world::{Cut, PowerCut, Weather, World};
use crate::random::{Random, hash};

const SQL: &str = "
CREATE TABLE clicks (producer BIGINT, sequence BIGINT, key BIGINT, value BIGINT, payload VARCHAR, event_time TIMESTAMP,
  WATERMARK FOR event_time AS event_time - INTERVAL '2 seconds')
  WITH (connector = 'ingest', future_skew = INTERVAL '1000 days', idle_timeout = INTERVAL '1000 days');
INSERT INTO raw SELECT producer, sequence, key, value, payload FROM clicks;
INSERT INTO windows SELECT w['start'] AS start, key, n, total
  FROM (SELECT tumble(INTERVAL '10 seconds') AS w, key, count(*) AS n, sum(value) AS total FROM clicks GROUP BY 1, 2);
";

/// What a schedule came to.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong; empty if nothing was.
    pub violations: Vec<String>,
    /// One line an event.
    pub trace: Vec<String>,
    /// What the trace comes to.
    pub trace_hash: u64,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Times that the process ended.
    pub deaths: u64,
    /// Faults that happened, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// The store, for other readers.
    pub store: SimStore,
}

/// Runs the schedule of a seed, with a bug planted or without.
pub fn run(seed: u64, bug: Option<Bug>, handle: &Handle) -> Outcome {
    plant(bug);
    let mut schedule = Schedule::new(seed, handle.clone());
    let ended = schedule.live_through();
    plant(None);
    match ended {
        Ok(()) => schedule.audit(),
        Err(violation) => schedule.violations.push(violation),
    }
    schedule.outcome()
}

/// Runs the schedule of a seed in good weather, kills the server, flips one bit of one of its files, and starts it again.
/// Gives the file, and the error that the start was refused with; without one the tables were audited.
pub fn run_damaged(seed: u64, bug: Option<Bug>, handle: &Handle) -> (String, Option<String>, Outcome) {
    plant(bug);
    let ended = damaged(seed, handle);
    plant(None);
    ended
}

fn damaged(seed: u64, handle: &Handle) -> (String, Option<String>, Outcome) {
    let mut schedule = Schedule::new(seed, handle.clone());
    schedule.world.power_on(Cut::Steps(150 + schedule.random.below(150)));
    let mut refused = None;
    let (mut file, mut ended) = (String::new(), schedule.live(true).map(drop));
    if ended.is_ok() {
        schedule.deaths += 1;
        schedule.waiting.clear();
        schedule.fs = schedule.fs.kill();
        file = schedule.flip();
        // Some starts after the damage are cut short themselves.
        while schedule.random.one_in(2) {
            schedule.world.power_on(Cut::Steps(1 + schedule.random.below(80)));
            if schedule.live(false).is_err() {
                break;
            }
            schedule.deaths += 1;
            schedule.waiting.clear();
            schedule.fs = schedule.fs.kill();
        }
        schedule.world.power_on(Cut::Never);
        match schedule.live(false) {
            Ok(_) => {}
            Err(why) if why.starts_with("the server fails: ") => refused = Some(why),
            Err(why) => ended = Err(why),
        }
    }
    match ended {
        Ok(()) if refused.is_none() => schedule.audit(),
        Ok(()) => {}
        Err(violation) => schedule.violations.push(violation),
    }
    (file, refused, schedule.outcome())
}

struct Schedule {
    world: World,
    random: Random,
    fs: SimFs,
    store: SimStore,
    handle: Handle,
    producers: Vec<Producer>,
    /// Messages on the network: producer and sequence.
    network: Vec<(usize, u64)>,
    /// Appends that wait for their acknowledgement.
    waiting: Vec<(usize, u64, PendingAck)>,
    /// Whether the server only takes rows in.
    ingests_only: bool,
    /// Memory is short always, now and then (also between two checkpoints), or never.
    spill_at: Option<usize>,
    violations: Vec<String>,
    deaths: u64,
}

/// How a life ended.
enum End {
    /// The power went out, or the process was killed.
    Died,
    /// Every batch but the closing ones is acknowledged.
    Quiet,
}

impl Schedule {
    fn new(seed: u64, handle: Handle) -> Self {
        let world = World::new(seed, START);
        let mut random = Random(hash(&[seed, 1]));
        let producers =
            (0..2 + random.below(2) as usize).map(|n| Producer::new(seed, n, 4 + random.below(8))).collect();
        Self {
            fs: SimFs::new(),
            store: SimStore::new(world.clone()),
            world,
            random,
            handle,
            producers,
            network: Vec::new(),
            waiting: Vec::new(),
            ingests_only: false,
            spill_at: [Some(0), Some(hash(&[seed, 3]) as usize % 4_000), None][(hash(&[seed, 2]) % 3) as usize],
            violations: Vec::new(),
            deaths: 0,
        }
    }

    /// Every schedule has a weather of its own, so that each fault is also seen without the others.
    fn weather(&mut self) -> Weather {
        if self.random.one_in(4) {
            return Weather::default();
        }
        let mut often = |n: u64| if self.random.one_in(2) { 0 } else { n };
        Weather {
            full_disk: often(12),
            failed_sync: often(60),
            failed_io: often(400),
            store_refuses: often(40),
            answer_lost: often(12),
            commit_answer_lost: 0,
            lost_race: often(6),
        }
    }

    fn ground(&self) -> Ground {
        self.fs.direct(Arc::new(self.world.clone()));
        let (dying, world) = (self.world.clone(), self.world.clone());
        let on_fatal = FatalHook::new(move |why| {
            dying.note(&format!("log    is fatal: {why}"));
            dying.power_off();
        });
        let url = "memory:///lake/".parse().expect("a URL");
        Ground {
            fs: Arc::new(self.fs.clone()),
            dir: PathBuf::from("data"),
            lake: Lake::with_store(url, Arc::new(self.store.clone()), Arc::new(world.clone())),
            clock: Arc::new(world),
            log: LogOptions { segment_bytes_max: 6_000, recent_bytes_max: 3_000, on_fatal, ..LogOptions::default() },
            workers: 2,
            state_spill_at: self.spill_at,
            handle: self.handle.clone(),
        }
    }

    /// Lives until everything is acknowledged, then once more in good weather until all of it is in the tables.
    fn live_through(&mut self) -> Result<(), String> {
        let lives = 4 + self.random.below(5);
        for _ in 0..lives {
            let weather = self.weather();
            self.world.set_weather(weather);
            // Some die while they start.
            let cut = match self.random.below(8) {
                0 => Cut::Steps(1 + self.random.below(60)),
                1..4 => Cut::Steps(40 + self.random.below(500)),
                4 => Cut::DiskSteps(1 + self.random.below(60)),
                5 => Cut::LogSteps(1 + self.random.below(30)),
                6 => Cut::LogSyncs(1 + self.random.below(10)),
                _ => Cut::LogSyncs(1 + self.random.below(2)),
            };
            // Some lives are too short to read what comes in.
            self.ingests_only = !matches!(cut, Cut::Steps(_)) && self.random.one_in(2);
            self.world.power_on(cut);
            self.world.note(&format!("server starts; power for {cut:?}"));
            if let End::Died = self.live(true)? {
                self.die();
            }
        }
        self.ingests_only = false;
        self.world.set_weather(Weather::default());
        self.world.power_on(Cut::Never);
        self.world.note("server starts; good weather from here on");
        self.live(false).map(drop)
    }

    /// After a kill everything written is still there; after a power cut only what was synced.
    fn die(&mut self) {
        self.deaths += 1;
        self.waiting.clear();
        // Producers see the connection end, and send again what they have no receipt for.
        self.network.clear();
        self.producers.iter_mut().for_each(Producer::rewind);
        self.fs = if self.random.one_in(3) {
            self.world.note("process killed: the disk's cache survives");
            self.fs.kill()
        } else {
            let seed = self.random.bits();
            self.world.note(&format!("power cut: unsynced sectors are lost by {seed:016x}"));
            self.fs.crash(seed)
        };
    }

    /// Flips a bit of any file on the disk.
    fn flip(&mut self) -> String {
        let mut files = Vec::new();
        for dir in ["data/log", "data/checkpoints", "data/state"] {
            let names = self.fs.list(std::path::Path::new(dir)).unwrap_or_default();
            files.extend(names.into_iter().map(|name| PathBuf::from(dir).join(name)));
        }
        files.retain(|f| self.fs.len(f).is_ok_and(|len| len > 0));
        let Some(file) = files.get(self.random.below(files.len().max(1) as u64) as usize) else { return String::new() };
        let bytes = self.fs.len(file).unwrap_or(1);
        let (byte, bit) = (self.random.below(bytes), self.random.below(8));
        self.fs.flip_bit(file, byte as usize, bit as u32);
        self.world.note(&format!("disk   bit {bit} of byte {byte} of {} flips", file.display()));
        file.display().to_string()
    }

    fn live(&mut self, stormy: bool) -> Result<End, String> {
        let mut server = None;
        let lived = catch_unwind(AssertUnwindSafe(|| self.life(&mut server, stormy)));
        // Acknowledgements that left before the end count.
        self.hear(stormy)?;
        drop(server);
        match lived {
            Ok(end) => end,
            Err(panic) if panic.is::<PowerCut>() => Ok(End::Died),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                Err(format!("panicked: {}", text.unwrap_or_else(|| "no message".into())))
            }
        }
    }

    fn life(&mut self, server: &mut Option<Stepped>, stormy: bool) -> Result<End, String> {
        let ground = self.ground();
        match Stepped::open(&ground, SQL) {
            Ok(s) => *server = Some(s),
            Err(e) => return self.failed(&e, stormy),
        }
        let Some(server) = server else { return Ok(End::Died) };
        for _ in 0..20_000 {
            if self.world.is_down() {
                return Ok(End::Died);
            }
            let quiet = self.producers.iter().all(|p| p.acknowledged.len() + 1 >= p.batches.len());
            if stormy && quiet && self.random.one_in(40) {
                return Ok(End::Died);
            }
            let acted = if stormy { self.act(server) } else { self.finish(server) };
            match acted {
                Ok(false) => {}
                Ok(true) => return Ok(End::Quiet),
                Err(e) => return self.failed(&e, stormy),
            }
            self.hear(stormy)?;
        }
        Err(format!("no progress: {:?}", self.producers.iter().map(|p| p.acknowledged.len()).collect::<Vec<_>>()))
    }

    /// An error ends the process. It must be one that the weather explains.
    fn failed(&mut self, e: &Error, stormy: bool) -> Result<End, String> {
        self.world.note(&format!("server fails: {e}"));
        // A file that cannot be read is as good as damaged.
        let explained = stormy && (matches!(e, Error::Storage(_) | Error::Stopped(_)) || e.to_string().contains("EIO"));
        if explained || self.world.is_down() { Ok(End::Died) } else { Err(format!("the server fails: {e}")) }
    }

    /// One thing that happens, whichever.
    fn act(&mut self, server: &mut Stepped) -> Result<bool> {
        match self.random.below(100) {
            0..30 => self.send(false),
            30..55 => self.deliver(server),
            55..72 => server.write(),
            72..96 if self.ingests_only => {}
            72..88 => server.read()?,
            88..94 => server.checkpoint()?,
            94..96 => {
                self.world.note("server maintains raw");
                let policy =
                    Maintenance { small_files_per_day_max: 2, commits_per_checkpoint: 3, ..Maintenance::default() };
                match server.maintain("raw", &policy) {
                    Err(e) if !matches!(e, Error::Storage(_)) => return Err(e),
                    _ => {}
                }
            }
            _ => self.world.pass(self.random.below(200) as i64 * 1_000_000),
        }
        Ok(false)
    }

    /// In good weather: everything arrives, is acknowledged, checkpointed and committed. Whether that is so.
    fn finish(&mut self, server: &mut Stepped) -> Result<bool> {
        let all_but_last = self.producers.iter().all(|p| p.acknowledged.len() + 1 >= p.batches.len());
        self.send(all_but_last);
        self.deliver(server);
        server.write();
        server.read()?;
        server.checkpoint()?;
        if !self.producers.iter().all(Producer::is_done) {
            return Ok(false);
        }
        Ok(server.position().1 >= server.log_end())
    }

    fn send(&mut self, last: bool) {
        let number = self.random.below(self.producers.len() as u64) as usize;
        let Some(sequence) = self.producers[number].next(&mut self.random, last) else { return };
        if self.random.one_in(10) && !last {
            self.world.note(&format!("net    p{number} sends {sequence}, lost"));
            return;
        }
        self.world.note(&format!("net    p{number} sends {sequence}"));
        self.network.push((number, sequence));
    }

    /// Any message on the network arrives; some arrive twice.
    fn deliver(&mut self, server: &Stepped) {
        if self.network.is_empty() {
            return;
        }
        let at = self.random.below(self.network.len().min(4) as u64) as usize;
        let (number, sequence) = self.network[at];
        if !self.random.one_in(8) {
            self.network.remove(at);
        }
        match server.append(self.producers[number].entry(sequence)) {
            Ok(pending) => {
                self.world.note(&format!("ingest p{number} {sequence} taken"));
                self.waiting.push((number, sequence, pending));
            }
            Err(e) => self.refused(number, sequence, &e),
        }
    }

    fn refused(&mut self, number: usize, sequence: u64, e: &Error) {
        self.world.note(&format!("ingest p{number} {sequence} refused: {e}"));
        let producer = &mut self.producers[number];
        match e {
            Error::Event { code: "OUT_OF_ORDER", .. } => producer.rewind(),
            Error::Event { code: "UNKNOWN_PRODUCER", .. } if producer.acknowledged.is_empty() => producer.rewind(),
            Error::Storage(_) | Error::Stopped(_) | Error::Limit { .. } => {}
            e => self.violations.push(format!("p{number} {sequence} is refused: {e}")),
        }
    }

    /// Takes the acknowledgements that have come; some are lost on the way.
    fn hear(&mut self, stormy: bool) -> Result<(), String> {
        let mut waiting = Vec::new();
        for (number, sequence, mut pending) in std::mem::take(&mut self.waiting) {
            match (&mut pending).now_or_never() {
                None => waiting.push((number, sequence, pending)),
                Some(Err(e)) => self.refused(number, sequence, &e),
                Some(Ok(_)) if stormy && self.random.one_in(10) => {
                    self.world.note(&format!("net    receipt of p{number} {sequence} lost"));
                }
                Some(Ok(ack)) => {
                    self.world.note(&format!("ledger p{number} {sequence} at {}", ack.offset));
                    let before = self.producers[number].acknowledged.insert(sequence, ack.offset);
                    if before.is_some_and(|b| b != ack.offset) {
                        return Err(format!("p{number} {sequence} was at {before:?} and is at {}", ack.offset));
                    }
                }
            }
        }
        self.waiting = waiting;
        match self.violations.first() {
            Some(first) => Err(first.clone()),
            None => Ok(()),
        }
    }

    /// Compares the tables with what the ledger says.
    fn audit(&mut self) {
        let (store, handle) = (self.store.calm(), self.handle.clone());
        let wanted = expected(&self.producers);
        let mut found = Tables::default();
        for name in ["raw", "windows", "windows__late"] {
            let directory = format!("lake/{name}");
            let loaded = handle.block_on(Delta::load(&store, &directory));
            let Some(mut table) = loaded else {
                self.violations.push(format!("there is no table {name}"));
                continue;
            };
            let files = table.appended.clone();
            let rows = handle.block_on(table.rows(&store, &directory, &files));
            let live = table.live.clone();
            let live = handle.block_on(table.rows(&store, &directory, &live));
            let count = |rows: &[RecordBatch]| rows.iter().map(RecordBatch::num_rows).sum::<usize>();
            if count(&rows) != count(&live) {
                table.wrong.push(format!("{name}: {} rows came, {} are there", count(&rows), count(&live)));
            }
            self.violations.append(&mut table.wrong);
            rows.iter().for_each(|batch| take(name, batch, &mut found));
        }
        found.late.sort_unstable();
        self.compare(&found, &wanted);
    }

    fn compare(&mut self, found: &Tables, wanted: &Tables) {
        if found.raw != wanted.raw {
            let place = found.raw.iter().zip(&wanted.raw).position(|(a, b)| a != b);
            let at = place.unwrap_or(found.raw.len().min(wanted.raw.len()));
            let short = |rows: &[(i64, i64, i64, i64, String)]| rows.get(at).map(|r| (r.0, r.1, r.2, r.3));
            self.violations.push(format!(
                "raw: {} rows instead of {}; row {at} is {:?} instead of {:?}",
                found.raw.len(),
                wanted.raw.len(),
                short(&found.raw),
                short(&wanted.raw)
            ));
        }
        if found.windows != wanted.windows {
            let different = wanted.windows.iter().find(|(k, v)| found.windows.get(k) != Some(v));
            self.violations.push(format!(
                "windows: {} instead of {}; first difference {different:?}, found {:?}",
                found.windows.len(),
                wanted.windows.len(),
                different.map(|(k, _)| found.windows.get(k))
            ));
        }
        if found.late != wanted.late {
            self.violations.push(format!("late rows: {:?} instead of {:?}", found.late, wanted.late));
        }
    }

    fn outcome(self) -> Outcome {
        Outcome {
            violations: self.violations,
            trace: self.world.trace(),
            trace_hash: self.world.trace_hash(),
            acknowledged: self.producers.iter().map(|p| p.acknowledged.len() as u64).sum(),
            deaths: self.deaths,
            faults: self.world.faults(),
            store: self.store,
        }
    }
}

/// The rows of a table's file.
fn take(table: &str, batch: &RecordBatch, into: &mut Tables) {
    let number = |name: &str, row: usize| batch[name].as_primitive::<Int64Type>().value(row);
    let time = |name: &str, row: usize| batch[name].as_primitive::<TimestampMicrosecondType>().value(row) * 1_000;
    for row in 0..batch.num_rows() {
        match table {
            "raw" => {
                let payload = batch["payload"].as_string::<i32>().value(row).to_string();
                let key = (number("producer", row), number("sequence", row));
                into.raw.push((key.0, key.1, number("key", row), number("value", row), payload));
            }
            "windows" => {
                let key = (time("start", row), number("key", row));
                let before = into.windows.insert(key, (number("n", row), number("total", row)));
                if before.is_some() {
                    // A window that came twice differs from any that came once.
                    into.windows.insert(key, (-1, -1));
                }
            }
            _ => into.late.push((
                time("late_window_start", row),
                time("late_event_time", row),
                number("key", row),
                number("value", row),
            )),
        }
    }
}

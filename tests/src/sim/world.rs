//! Time, power and misfortune: every step of disk and store passes here and is written down.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream::time::Clock;

use super::disk::Director;
use crate::random::hash;

/// How often things fail: once in so many steps, on average; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// The disk becomes full for a few writes.
    pub full_disk: u64,
    /// A sync of a file fails.
    pub failed_sync: u64,
    /// A read or a write fails, and not for want of space.
    pub failed_io: u64,
    /// The store refuses some calls in a row (429, 503, reset).
    pub store_refuses: u64,
    /// The store does what it was asked to, and the answer is lost.
    pub answer_lost: u64,
    /// A commit is made, and its answer is lost.
    pub commit_answer_lost: u64,
    /// Another writer commits to the table just before us.
    pub lost_race: u64,
}

/// Where the power goes out, or the process is killed.
#[derive(Debug, Clone, Copy, Default)]
pub enum Cut {
    /// After so many steps of any kind.
    Steps(u64),
    /// After so many steps on the disk.
    DiskSteps(u64),
    /// After so many steps on the log's files: they are few, and the most delicate.
    LogSteps(u64),
    /// Instead of the so-manieth sync of a file of the log: everything is written, nothing is durable.
    LogSyncs(u64),
    /// Not at all.
    #[default]
    Never,
}

/// What becomes of a call to the store.
pub(super) enum Fate {
    Done,
    /// Nothing happens.
    Refused(&'static str),
    /// It happens, and the caller is told otherwise.
    Lost(&'static str),
    /// Another commit was a moment faster.
    Overtaken,
}

/// The panic that ends a process whose power went out while it waited.
pub(super) struct PowerCut;

#[derive(Debug, Default)]
struct Inner {
    seed: u64,
    now: i64,
    steps: u64,
    reads: u64,
    /// How far it is to the power cut.
    cut: Cut,
    down: bool,
    weather: Weather,
    full_until: u64,
    refusing_until: u64,
    lines: Vec<String>,
    hash: u64,
    /// Faults that happened, by name.
    faults: std::collections::BTreeMap<&'static str, u64>,
}

/// The world; clones share it.
#[derive(Debug, Clone, Default)]
pub struct World(Arc<Mutex<Inner>>);

impl World {
    /// A world whose clock stands at `now`.
    pub fn new(seed: u64, now: i64) -> Self {
        let inner = Inner { seed, now, hash: hash(&[seed]), ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on things fail this often.
    pub fn set_weather(&self, weather: Weather) {
        let mut inner = self.inner();
        (inner.weather, inner.full_until, inner.refusing_until) = (weather, 0, 0);
    }

    /// The power is on.
    pub fn power_on(&self, cut: Cut) {
        let mut inner = self.inner();
        (inner.down, inner.cut) = (false, cut);
    }

    /// The process ends here.
    pub fn power_off(&self) {
        self.inner().down = true;
    }

    /// Whether the process has ended.
    pub fn is_down(&self) -> bool {
        self.inner().down
    }

    /// Lets time pass.
    pub fn pass(&self, nanoseconds: i64) {
        self.inner().now += nanoseconds;
    }

    /// Writes a line into the trace.
    pub fn note(&self, line: &str) {
        self.inner().note(line);
    }

    /// The trace so far: one line an event.
    pub fn trace(&self) -> Vec<String> {
        self.inner().lines.clone()
    }

    /// What the trace comes to.
    pub fn trace_hash(&self) -> u64 {
        self.inner().hash
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.inner().steps
    }

    /// The faults that happened, and how often.
    pub fn faults(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.inner().faults.clone()
    }

    /// A call to the store. `commits` is whether it puts a commit that must not exist yet.
    pub(super) fn store_step(&self, operation: &str, path: &str, writes: bool, commits: bool) -> Fate {
        let mut inner = self.inner();
        let fate = inner.store_fate(writes, commits);
        let outcome = match &fate {
            Fate::Done => "",
            Fate::Refused(why) | Fate::Lost(why) => why,
            Fate::Overtaken => "another commit was faster",
        };
        let happened = if let Fate::Lost(_) = fate { ", done all the same" } else { "" };
        inner.note(&format!("store  {operation} {path} {outcome}{happened}"));
        fate
    }
}

impl Inner {
    fn note(&mut self, line: &str) {
        let line = format!("{:>6} {:>12} {}", self.steps, self.now % 1_000_000_000_000, line.trim_end());
        let words: Vec<u64> = line.as_bytes().iter().map(|b| u64::from(*b)).collect();
        self.hash = hash(&[self.hash, hash(&words)]);
        self.lines.push(line);
    }

    fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    fn one_in(&self, n: u64, what: u64) -> bool {
        n > 0 && hash(&[self.seed, self.steps, what]).is_multiple_of(n)
    }

    /// Counts a step, of the disk at `path` or of the store; whether the power is out, and whether just now.
    fn step(&mut self, operation: &str, path: Option<&Path>) -> Option<bool> {
        self.steps += 1;
        if self.down {
            return Some(false);
        }
        let left = match (&mut self.cut, path) {
            (Cut::Steps(left), _) | (Cut::DiskSteps(left), Some(_)) => Some(left),
            (Cut::LogSteps(left), Some(path)) if is_log(path) => Some(left),
            (Cut::LogSyncs(left), Some(path)) if operation == "sync" && is_log(path) => Some(left),
            _ => None,
        };
        let cut = left.is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        });
        if cut {
            self.down = true;
            self.fault("power cut or kill");
            return Some(true);
        }
        None
    }

    fn disk_step(&mut self, operation: &str, path: &Path, writes: bool) -> io::Result<()> {
        if self.step(operation, Some(path)).is_some() {
            return Err(io::Error::other("the power is out"));
        }
        if writes && self.steps >= self.full_until && self.one_in(self.weather.full_disk, 1) {
            self.full_until = self.steps + 1 + hash(&[self.seed, self.steps, 2]) % 6;
        }
        if writes && self.steps < self.full_until {
            self.fault("full disk");
            return Err(ErrorKind::StorageFull.into());
        }
        if operation == "write" && self.one_in(self.weather.failed_io, 10) {
            self.fault("failed read or write");
            return Err(io::Error::other("EIO"));
        }
        if operation == "sync" && self.one_in(self.weather.failed_sync, 3) {
            self.fault("failed sync");
            return Err(io::Error::other("EIO"));
        }
        Ok(())
    }

    /// Reads are no steps, and not in the trace unless they fail.
    fn disk_read(&mut self, path: &Path) -> io::Result<()> {
        self.reads += 1;
        let fails = self.weather.failed_io > 0
            && hash(&[self.seed, self.steps, self.reads, 11]).is_multiple_of(self.weather.failed_io);
        if !fails {
            return Ok(());
        }
        self.fault("failed read or write");
        self.note(&format!("disk   read {} EIO", path.display()));
        Err(io::Error::other("EIO"))
    }

    fn store_fate(&mut self, writes: bool, commits: bool) -> Fate {
        self.now += 5_000_000;
        match self.step("", None) {
            // The call may have left before the power went out.
            Some(true) if writes && self.one_in(2, 4) => return Fate::Lost("the power goes out"),
            Some(true) => return Fate::Refused("the power goes out"),
            Some(false) => return Fate::Refused("the power is out"),
            None => {}
        }
        if self.steps >= self.refusing_until && self.one_in(self.weather.store_refuses, 5) {
            self.refusing_until = self.steps + 1 + hash(&[self.seed, self.steps, 6]) % 8;
        }
        if self.steps < self.refusing_until {
            self.fault("store refuses");
            return Fate::Refused("503 slow down");
        }
        if writes && self.one_in(self.weather.answer_lost, 7) {
            self.fault("answer lost");
            return Fate::Lost("connection reset");
        }
        if commits && self.one_in(self.weather.commit_answer_lost, 9) {
            self.fault("answer lost");
            return Fate::Lost("connection reset");
        }
        if commits && self.one_in(self.weather.lost_race, 8) {
            self.fault("lost race");
            return Fate::Overtaken;
        }
        Fate::Done
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "log")
}

impl Director for World {
    fn decide(&self, operation: &'static str, path: &Path, bytes: usize) -> io::Result<()> {
        let mut inner = self.inner();
        if operation == "read" {
            return inner.disk_read(path);
        }
        let result = inner.disk_step(operation, path, matches!(operation, "write" | "create"));
        let outcome = result.as_ref().err().map(|e| e.to_string()).unwrap_or_default();
        inner.note(&format!("disk   {operation} {} {bytes} {outcome}", path.display()));
        result
    }
}

impl Clock for World {
    fn now(&self) -> i64 {
        self.inner().now
    }

    fn sleep(&self, duration: Duration) {
        self.pass(duration.as_nanos() as i64);
        if self.is_down() {
            // Not a failure of ours: nothing is printed.
            std::panic::resume_unwind(Box::new(PowerCut));
        }
    }
}

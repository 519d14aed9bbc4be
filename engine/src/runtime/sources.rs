//! The one thread that reads: the log's entries in their order, bounded sources in turn. It stamps rows, feeds the
//! pipelines and places the barriers, so every pipeline sees the same order, and a checkpoint one exact place in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::Result;
use super::complete::{as_rejected, complete};
use super::coordinator::Event;
use super::lookups::refresh;
use super::pipeline::{Feed, Running};
use super::stamp::Stamper;
use crate::checkpoint::SourceState;
use crate::connectors::ingest::rejected_batch;
use crate::connectors::metadata::Origin;
use crate::connectors::{Rejected, Source};
use crate::error::Error;
use crate::log::{Log, LogBody, LogEntry, LogOffset, LogReader, Mark};
use crate::operators::join::lookup::Lookup;
use crate::planted::{self, Bug};
use crate::sql::catalog::Table;
use crate::time::{Clock, WATERMARK_MIN, Watermark};

/// How long to wait for a new log entry before looking for a command.
const LOG_WAIT: Duration = Duration::from_millis(20);

/// Log entries read before looking for a command.
const ENTRIES_PER_LOOK: usize = 64;

/// Pieces a second into which a rate-limited source is cut.
const PIECES_PER_SECOND: f64 = 20.0;

/// Where a source's rows come from.
pub enum Input {
    /// A file or table that ends.
    Bounded {
        /// The reader.
        source: Box<dyn Source>,
        /// Rows a second at most.
        rate_limit: Option<f64>,
        /// Whether a rejected row stops everything.
        fail_on_bad_data: bool,
    },
    /// The log.
    Log,
    /// What another source rejects.
    Rejected,
}

/// A source to read.
pub struct SourceSpec {
    /// The table.
    pub table: Table,
    /// Its rows.
    pub input: Input,
    /// The index of the source for its rejected rows, if some pipeline keeps them.
    pub rejected: Option<usize>,
}

/// What the coordinator asks of the sources.
pub enum Command {
    /// Read the log up to an entry, then place a barrier.
    Barrier {
        /// The checkpoint.
        checkpoint: u64,
        /// The first log entry that need not be read before.
        through: LogOffset,
    },
    /// End all pipelines.
    End,
}

struct Reading {
    spec: SourceSpec,
    stamper: Stamper,
    sent: Watermark,
    state: SourceState,
    /// A batch that is being handed out in pieces, and how much of it has been.
    piece: Option<(RecordBatch, usize)>,
    ended: bool,
    next_at: Option<Instant>,
    /// When each partition was last heard of, by the clock, and whether an idle mark is on its way.
    heard: BTreeMap<Arc<str>, (i64, bool)>,
}

/// Counters of all sources.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Rows that could not be decoded or had no event time.
    pub rejected: std::sync::atomic::AtomicU64,
    /// Events too far ahead of their arrival to move the watermark.
    pub future: std::sync::atomic::AtomicU64,
    /// The next log entry to read.
    pub log_position: std::sync::atomic::AtomicU64,
    /// Whether anything was read since the last barrier.
    pub dirty: std::sync::atomic::AtomicBool,
}

/// Everything the reading thread holds.
pub struct Sources {
    readings: Vec<Reading>,
    by_table: BTreeMap<String, usize>,
    log: Option<(Arc<Log>, LogReader)>,
    pipelines: Vec<Running>,
    clock: Arc<dyn Clock>,
    events: Sender<Event>,
    counters: Arc<SourceCounters>,
    idle_checked_at: i64,
    /// Whether every bounded source was read to its end.
    bounded_ended: bool,
    /// Lookup tables that are read again from time to time.
    lookups: Vec<Lookup>,
    /// Places in the log where the next barriers belong: nothing is read beyond the first before its barrier.
    stops: VecDeque<LogOffset>,
}

impl Sources {
    /// Sources at their restored places.
    pub fn new(
        specs: Vec<SourceSpec>,
        restored: &BTreeMap<String, SourceState>,
        log: Option<(Arc<Log>, LogOffset)>,
        pipelines: Vec<Running>,
        clock: Arc<dyn Clock>,
        events: Sender<Event>,
        counters: Arc<SourceCounters>,
    ) -> Result<Self> {
        let now = clock.now();
        let mut readings = Vec::with_capacity(specs.len());
        for spec in specs {
            let fresh = SourceState { opened_at: now, ..SourceState::default() };
            let state = restored.get(&spec.table.name).cloned().unwrap_or(fresh);
            let stamp = if planted::is(Bug::WatermarkNotRestored) { Default::default() } else { state.stamp.clone() };
            let stamper = Stamper::new(&spec.table, stamp);
            let ended = !matches!(spec.input, Input::Bounded { .. });
            let heard = state
                .stamp
                .partitions
                .iter()
                .filter(|(_, p)| !p.idle)
                .map(|(name, _)| (Arc::from(name.as_str()), (now, false)));
            let heard = heard.collect();
            let mut reading =
                Reading { spec, stamper, sent: WATERMARK_MIN, state, piece: None, ended, next_at: None, heard };
            reading.skip()?;
            readings.push(reading);
        }
        let by_table = readings.iter().enumerate().map(|(i, r)| (r.spec.table.name.clone(), i)).collect();
        let log = match log {
            Some((log, from)) => {
                counters.log_position.store(from, std::sync::atomic::Ordering::Relaxed);
                let reader = log.reader(from)?;
                Some((log, reader))
            }
            None => None,
        };
        Ok(Self {
            readings,
            by_table,
            log,
            pipelines,
            clock,
            events,
            counters,
            idle_checked_at: now,
            lookups: Vec::new(),
            stops: VecDeque::new(),
            bounded_ended: false,
        })
    }

    /// Tells the pipelines where the restored watermarks are.
    pub fn begin(&mut self) -> Result<()> {
        (0..self.readings.len()).try_for_each(|source| self.send_watermark(source))
    }

    /// With lookup tables to read again from time to time.
    pub fn refreshing(self, lookups: Vec<Lookup>) -> Self {
        Self { lookups, ..self }
    }

    /// With the places in the log where the next barriers belong.
    pub fn stopping_at(self, stops: impl IntoIterator<Item = LogOffset>) -> Self {
        if planted::is(Bug::AgainTooFar) {
            return self;
        }
        Self { stops: stops.into_iter().collect(), ..self }
    }

    /// Reads until told to end.
    pub fn run(mut self, commands: &Receiver<Command>) -> Result<()> {
        self.begin()?;
        loop {
            let idle = self.bounded_ended && self.log.is_none();
            let command =
                if idle { commands.recv().map_err(|_| TryRecvError::Disconnected) } else { commands.try_recv() };
            if self.step(command, LOG_WAIT)? {
                return Ok(());
            }
        }
    }

    /// Follows a command, then reads a little, waiting for at most `wait`; whether that was the end.
    pub fn step(&mut self, command: std::result::Result<Command, TryRecvError>, wait: Duration) -> Result<bool> {
        match command {
            Ok(Command::Barrier { checkpoint, through }) => self.barrier(checkpoint, through)?,
            Ok(Command::End) => {
                self.feed_all(&Feed::End)?;
                return Ok(true);
            }
            Err(TryRecvError::Disconnected) => return Ok(true),
            Err(TryRecvError::Empty) => {}
        }
        if !self.bounded_ended {
            self.bounded_ended = self.read_bounded()?;
            if self.bounded_ended && self.log.is_none() {
                self.end_side_sources()?;
                let _ = self.events.send(Event::SourcesEnded);
            }
        }
        let wait = if self.bounded_ended { wait } else { Duration::ZERO };
        self.read_log(wait, LogOffset::MAX, ENTRIES_PER_LOOK)?;
        self.mark_idle()?;
        Ok(false)
    }

    fn feed_all(&mut self, feed: &Feed) -> Result<()> {
        self.pipelines.iter_mut().try_for_each(|p| p.feed(feed.clone()))
    }

    fn barrier(&mut self, checkpoint: u64, through: LogOffset) -> Result<()> {
        while self.log.as_ref().is_some_and(|(_, r)| r.position() < through) {
            self.read_log(LOG_WAIT, through, usize::MAX)?;
        }
        self.stops.pop_front();
        self.counters.dirty.store(false, std::sync::atomic::Ordering::Relaxed);
        // All workers have passed the barrier before, and look for new rows at this one.
        refresh(&self.lookups, self.clock.now());
        self.feed_all(&Feed::Barrier(checkpoint))?;
        let mut sources = BTreeMap::new();
        for r in &mut self.readings {
            r.state.stamp = r.stamper.state.clone();
            sources.insert(r.spec.table.name.clone(), r.state.clone());
        }
        let mut log_offset = self.log.as_ref().map_or(0, |(_, r)| r.position());
        log_offset += u64::from(planted::is(Bug::PlaceTooFar));
        log_offset = log_offset.saturating_sub(u64::from(planted::is(Bug::PlaceTooEarly)));
        let _ = self.events.send(Event::SourcesAt { checkpoint, log_offset, sources });
        Ok(())
    }

    /// One step of each bounded source; whether all have ended.
    fn read_bounded(&mut self) -> Result<bool> {
        let mut all_ended = true;
        let mut soonest: Option<Instant> = None;
        let mut progressed = false;
        for source in 0..self.readings.len() {
            let Some(reading) = self.readings.get_mut(source).filter(|r| !r.ended) else { continue };
            all_ended = false;
            if let Some(at) = reading.next_at.filter(|at| *at > Instant::now()) {
                soonest = Some(soonest.map_or(at, |s| s.min(at)));
                continue;
            }
            progressed = true;
            let (batch, rejected) = reading.step()?;
            self.counters.dirty.store(true, std::sync::atomic::Ordering::Relaxed);
            let arrived = self.readings.get(source).map_or(0, |r| r.state.opened_at);
            self.rejected(source, &rejected, arrived)?;
            match batch {
                Some(batch) => self.rows(source, &Origin { producer: "", offset: 0, received_at: arrived }, batch)?,
                None => {
                    if let Some(r) = self.readings.get_mut(source) {
                        r.ended = true;
                        r.stamper.end();
                    }
                    self.send_watermark(source)?;
                }
            }
        }
        if let (false, Some(at)) = (progressed, soonest) {
            std::thread::sleep(at.saturating_duration_since(Instant::now()).min(LOG_WAIT));
        }
        Ok(all_ended)
    }

    fn end_side_sources(&mut self) -> Result<()> {
        for source in 0..self.readings.len() {
            if let Some(r) = self.readings.get_mut(source) {
                r.stamper.end();
            }
            self.send_watermark(source)?;
        }
        Ok(())
    }

    fn read_log(&mut self, wait: Duration, through: LogOffset, most: usize) -> Result<()> {
        let through = self.stops.front().map_or(through, |stop| through.min(*stop));
        for n in 0..most {
            let Some((_, reader)) = &mut self.log else { return Ok(()) };
            if reader.position() >= through {
                return Ok(());
            }
            let Some(entry) = reader.next(if n == 0 { wait } else { Duration::ZERO })? else { return Ok(()) };
            let next = reader.position();
            self.entry(entry)?;
            self.counters.log_position.store(next, std::sync::atomic::Ordering::Relaxed);
            self.counters.dirty.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    fn entry(&mut self, entry: LogEntry) -> Result<()> {
        // Rows of a table that no SQL declares any more stay in the log until it is cut.
        let Some(source) = self.by_table.get(entry.table.as_ref()).copied() else { return Ok(()) };
        let now = self.clock.now();
        let Some(reading) = self.readings.get_mut(source) else { return Ok(()) };
        match entry.body {
            LogBody::Rows(batch) => {
                reading.heard.insert(entry.producer.clone(), (now, false));
                let (offset, received_at) = (entry.offset, entry.received_at);
                self.rows(source, &Origin { producer: &entry.producer, offset, received_at }, batch)
            }
            LogBody::Idle => {
                reading.heard.remove(&entry.producer);
                reading.stamper.idle(&entry.producer);
                self.send_watermark(source)
            }
            LogBody::Watermark(time) => {
                reading.heard.insert(entry.producer.clone(), (now, false));
                reading.stamper.promise(&entry.producer, time);
                self.send_watermark(source)
            }
        }
    }

    fn rows(&mut self, source: usize, origin: &Origin<'_>, batch: RecordBatch) -> Result<()> {
        let Some(reading) = self.readings.get_mut(source) else { return Ok(()) };
        let (partition, arrived) = (origin.producer, origin.received_at);
        let (batch, mut rejected) = complete(&reading.spec.table, batch, origin)?;
        let future = reading.stamper.future;
        let stamped = reading.stamper.stamp(partition, batch, arrived)?;
        let future = reading.stamper.future - future;
        self.counters.future.fetch_add(future, std::sync::atomic::Ordering::Relaxed);
        if let Some(untimed) = &stamped.untimed {
            let name = &reading.spec.table.name;
            rejected.extend(as_rejected(
                untimed,
                "MISSING_EVENT_TIME",
                &format!("{name}: the event time is null or not between the years 1700 and 2200"),
            )?);
        }
        if !stamped.rows.is_empty() {
            let feed = Feed::Batch(source, Box::new(stamped.rows));
            self.feed_all(&feed)?;
        }
        self.rejected(source, &rejected, arrived)?;
        self.send_watermark(source)
    }

    fn rejected(&mut self, source: usize, rows: &[Rejected], arrived: i64) -> Result<()> {
        let (Some(first), Some(reading)) = (rows.first(), self.readings.get(source)) else { return Ok(()) };
        if let Input::Bounded { fail_on_bad_data: true, .. } = reading.spec.input {
            let message = format!(
                "{} (bad_data = 'fail'; leave it out to send such rows to {}__rejected)",
                first.message, reading.spec.table.name
            );
            return Err(Error::event("BAD_DATA", message));
        }
        self.counters.rejected.fetch_add(rows.len() as u64, std::sync::atomic::Ordering::Relaxed);
        if let Some(side) = reading.spec.rejected {
            let batch = rejected_batch(rows, arrived, |_| None)?;
            return self.rows(side, &Origin { producer: "", offset: 0, received_at: arrived }, batch);
        }
        for row in rows.iter().take(3) {
            tracing::warn!("rejected: {} ({})", row.message, row.code);
        }
        Ok(())
    }

    fn send_watermark(&mut self, source: usize) -> Result<()> {
        let Some(reading) = self.readings.get_mut(source) else { return Ok(()) };
        let now = reading.stamper.state.watermark;
        if now <= reading.sent {
            return Ok(());
        }
        reading.sent = now;
        self.feed_all(&Feed::Watermark(source, now))
    }

    /// Writes a mark into the log for every partition that has been silent for too long, so that a replay of the log
    /// sees it go idle at the same place.
    fn mark_idle(&mut self) -> Result<()> {
        let now = self.clock.now();
        let Some((log, reader)) = &self.log else { return Ok(()) };
        // Only what has been read can tell who is silent.
        if now - self.idle_checked_at < crate::time::SECOND || reader.position() < log.end() {
            return Ok(());
        }
        self.idle_checked_at = now;
        for reading in &mut self.readings {
            let after = reading.spec.table.idle_after;
            for (partition, (heard, marked)) in &mut reading.heard {
                if after > 0 && !*marked && now - *heard > after {
                    *marked = true;
                    drop(log.append_mark(&reading.spec.table.name, partition, Mark::Idle)?);
                }
            }
        }
        Ok(())
    }
}

impl Reading {
    /// The next rows to hand out, `None` at the end, and what was rejected on the way.
    fn step(&mut self) -> Result<(Option<RecordBatch>, Vec<Rejected>)> {
        let Input::Bounded { source, rate_limit, .. } = &mut self.spec.input else { return Ok((None, Vec::new())) };
        let mut rejected = Vec::new();
        let (batch, from) = match self.piece.take() {
            Some(piece) => piece,
            None => {
                let read = source.read()?;
                rejected = read.rejected;
                match read.batch {
                    Some(batch) => (batch, 0),
                    None => return Ok((None, rejected)),
                }
            }
        };
        let rest = batch.num_rows() - from;
        let length = match rate_limit {
            Some(rate) => rest.min((*rate / PIECES_PER_SECOND).ceil() as usize),
            None => rest,
        };
        if let Some(rate) = rate_limit {
            let start = self.next_at.unwrap_or_else(Instant::now);
            self.next_at = Some(start + Duration::from_secs_f64(length as f64 / *rate));
        }
        let piece = batch.slice(from, length);
        if from + length < batch.num_rows() {
            self.state.rows += length as u64;
            self.piece = Some((batch, from + length));
        } else {
            (self.state.batches, self.state.rows) = (self.state.batches + 1, 0);
        }
        Ok((Some(piece), rejected))
    }

    /// Reads past what the checkpoint covers.
    fn skip(&mut self) -> Result<()> {
        let Input::Bounded { source, .. } = &mut self.spec.input else { return Ok(()) };
        let name = &self.spec.table.name;
        let shorter = || {
            Error::Config(format!(
                "the file of table '{name}' is shorter than what the checkpoint covers; restore it, or start with a new state directory"
            ))
        };
        if !source.skip(self.state.batches)? {
            return Err(shorter());
        }
        if self.state.rows > 0 {
            let batch = source.read()?.batch.ok_or_else(shorter)?;
            self.piece = Some((batch, self.state.rows as usize));
        }
        Ok(())
    }
}

//! What the log promises, on a real disk and on a simulated one that loses what was not synced.

mod crashes;
mod damage;
mod throughput;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};

use super::writer::Writer;
use super::*;
use crate::error::{Error, Result};
use crate::fs::sim::{Rng, SimFs};
use crate::fs::{DiskFs, Fs};
use crate::time::ManualClock;

const DIR: &str = "log";
const HOUR_NS: i64 = 3_600_000_000_000;

fn rows(ids: &[&str]) -> RecordBatch {
    let id: StringArray = ids.iter().map(|id| Some(*id)).collect();
    let length: Int64Array = ids.iter().map(|id| Some(id.len() as i64)).collect();
    RecordBatch::try_from_iter([("id", Arc::new(id) as ArrayRef), ("length", Arc::new(length) as ArrayRef)]).unwrap()
}

fn entry(producer: &str, sequence: Option<(u64, u64)>, ids: &[&str]) -> NewEntry {
    let sequence = sequence.map(|(epoch, sequence)| Sequence { epoch, sequence });
    NewEntry { table: "events".into(), producer: producer.into(), sequence, event_id: Some(0), batch: rows(ids) }
}

fn code(result: Result<impl std::fmt::Debug>) -> &'static str {
    match result.unwrap_err() {
        Error::Event { code, .. } => code,
        other => panic!("not an event error: {other}"),
    }
}

fn ack(offset: u64, accepted: u64, duplicates: u64) -> LogAck {
    LogAck { offset, accepted, duplicates }
}

/// The ids of every entry, by a reader from the start.
fn contents(log: &Arc<Log>) -> Vec<Vec<String>> {
    let mut reader = log.reader(log.start()).unwrap();
    let mut all = Vec::new();
    while reader.position() < log.end() {
        let entry = reader.next(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(entry.offset, log.start() + all.len() as u64);
        all.push(match entry.body {
            LogBody::Rows(batch) => {
                batch.column(0).as_string::<i32>().iter().map(|id| id.unwrap().to_string()).collect()
            }
            mark => vec![format!("{mark:?} {} {}", entry.table, entry.producer)],
        });
    }
    all
}

/// A log whose writer the test steps by hand, on a simulated disk.
struct Stepped {
    log: Arc<Log>,
    writer: Writer,
}

impl Stepped {
    fn open(fs: &SimFs, options: LogOptions, clock: &ManualClock) -> Result<Self> {
        let fs: Arc<dyn Fs> = Arc::new(fs.clone());
        let (log, writer) = Log::open_parts(fs, Path::new(DIR), options, Arc::new(clock.clone()))?;
        Ok(Self { log, writer })
    }

    fn append(&mut self, entry: NewEntry) -> Result<LogAck> {
        let pending = self.log.append(entry)?;
        self.writer.step();
        pending.wait()
    }
}

fn never_fatal() -> LogOptions {
    LogOptions { on_fatal: FatalHook::new(|message| panic!("{message}")), ..LogOptions::default() }
}

fn quietly_fatal() -> LogOptions {
    LogOptions { on_fatal: FatalHook::new(|_| {}), ..LogOptions::default() }
}

fn open_disk(dir: &Path, options: LogOptions) -> Arc<Log> {
    Log::open(Arc::new(DiskFs), dir, options, Arc::new(ManualClock::at(1_000))).unwrap()
}

#[test]
fn entries_come_back_as_they_went_in_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let tags: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let other: DictionaryArray<Int32Type> = ["x", "x", "y"].into_iter().collect();
    let tagged =
        RecordBatch::try_from_iter([("tag", Arc::new(tags) as ArrayRef), ("other", Arc::new(other) as ArrayRef)]);
    let tagged = tagged.unwrap();
    let check = |log: &Arc<Log>| {
        let mut reader = log.reader(0).unwrap();
        let mut next = || reader.next(Duration::from_secs(60)).unwrap().unwrap();
        let first = next();
        assert_eq!((first.offset, first.received_at, &*first.table, &*first.producer), (0, 1_000, "events", "ide-1"));
        assert!(matches!(first.body, LogBody::Rows(b) if b == rows(&["a", "b"])));
        assert!(matches!(next().body, LogBody::Idle));
        assert!(matches!(next().body, LogBody::Watermark(42)));
        let tags = next();
        assert_eq!(&*tags.table, "tags");
        assert!(matches!(tags.body, LogBody::Rows(b) if b == tagged));
        assert!(reader.next(Duration::ZERO).is_ok_and(|e| e.is_none()));
    };
    {
        let log = open_disk(dir.path(), never_fatal());
        assert_eq!(log.append(entry("ide-1", None, &["a", "b"])).unwrap().wait().unwrap(), ack(0, 2, 0));
        log.append_mark("events", "ide-1", Mark::Idle).unwrap();
        log.append_mark("events", "ide-1", Mark::Watermark(42)).unwrap();
        let tags = NewEntry {
            table: "tags".into(),
            producer: String::new(),
            sequence: None,
            event_id: None,
            batch: tagged.clone(),
        };
        assert_eq!(log.append(tags).unwrap().wait().unwrap(), ack(3, 3, 0));
        check(&log);
    }
    for _ in 0..2 {
        let log = open_disk(dir.path(), never_fatal());
        assert_eq!((log.start(), log.end()), (0, 4));
        check(&log);
        log.close();
        assert!(matches!(log.append(entry("ide-1", None, &["z"])), Err(Error::Stopped(_))));
    }
}

#[test]
fn many_producers_at_once_get_one_order_and_one_sync_for_many() {
    let dir = tempfile::tempdir().unwrap();
    // Memory for a few entries only, and small segments: the reader goes through the files too.
    let options = LogOptions { recent_bytes_max: 2_000, segment_bytes_max: 20_000, ..never_fatal() };
    let log = open_disk(dir.path(), options);
    let follower = log.clone();
    let followed = std::thread::spawn(move || {
        let mut reader = follower.reader(0).unwrap();
        (0..800)
            .map(|_| reader.next(Duration::from_secs(60)).unwrap().unwrap().producer.to_string())
            .collect::<Vec<_>>()
    });
    let acks = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for producer in 0..8 {
            let (log, acks) = (&log, &acks);
            scope.spawn(move || {
                let name = format!("p{producer}");
                let sent = |n| log.append(entry(&name, Some((1, n)), &[&format!("{name}-{n}")])).unwrap();
                let pending: Vec<_> = (1..=100).map(sent).collect();
                for (n, pending) in (1..=100).zip(pending) {
                    let ack = pending.wait().unwrap();
                    assert_eq!((ack.accepted, ack.duplicates), (1, 0));
                    acks.lock().unwrap().push((ack.offset, format!("{name}-{n}")));
                }
            });
        }
    });
    let mut acks = acks.into_inner().unwrap();
    acks.sort();
    let expected: Vec<Vec<String>> = acks.into_iter().map(|(_, id)| vec![id]).collect();
    assert_eq!(contents(&log), expected);
    let producers: Vec<String> = expected.iter().map(|ids| ids[0].split('-').next().unwrap().to_string()).collect();
    assert_eq!(followed.join().unwrap(), producers);
    let metrics = log.metrics();
    assert_eq!((metrics.entries, metrics.rows, metrics.producers), (800, 800, 8));
    assert!(metrics.groups <= 800, "{metrics:?}");
}

#[test]
fn everything_queued_is_covered_by_one_sync_and_answered_after_it() {
    let fs = SimFs::new();
    let mut log = Stepped::open(&fs, never_fatal(), &ManualClock::at(0)).unwrap();
    let pending: Vec<_> = (1..=5).map(|n| log.log.append(entry("p", Some((1, n)), &["x"])).unwrap()).collect();
    let retry = log.log.append(entry("p", Some((1, 2)), &["x"])).unwrap();
    assert_eq!(log.log.end(), 0, "nothing is durable before the writer ran");
    log.writer.step();
    assert_eq!(log.log.metrics().groups, 1);
    for (n, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap(), ack(n as u64, 1, 0));
    }
    assert_eq!(retry.wait().unwrap(), ack(1, 0, 1), "a retry in flight is answered with its first");
}

#[test]
fn a_producer_is_held_to_its_sequence() {
    let fs = SimFs::new();
    let clock = ManualClock::at(0);
    let mut log = Stepped::open(&fs, never_fatal(), &clock).unwrap();
    let refused = log.append(entry("p", Some((1, 2)), &["a"])).unwrap_err().to_string();
    assert!(refused.starts_with("UNKNOWN_PRODUCER: producer 'p' is not known and sent sequence 2"), "{refused}");
    assert_eq!(code(log.append(entry("p", Some((1, 0)), &["a"]))), "INVALID_SEQUENCE");
    assert_eq!(log.append(entry("p", Some((1, 1)), &["a"])).unwrap(), ack(0, 1, 0));
    assert_eq!(
        log.append(entry("p", Some((1, 2)), &["a"])).unwrap(),
        ack(1, 1, 0),
        "ids are for batches without sequence"
    );
    assert_eq!(log.append(entry("p", Some((1, 1)), &["a"])).unwrap(), ack(0, 0, 1));
    let refused = log.append(entry("p", Some((1, 4)), &["a"])).unwrap_err().to_string();
    assert!(refused.contains("OUT_OF_ORDER: producer 'p' epoch 1: expected sequence 3, got 4"), "{refused}");
    assert_eq!(code(log.append(entry("p", Some((2, 2)), &["a"]))), "OUT_OF_ORDER");
    assert_eq!(log.append(entry("p", Some((2, 1)), &[])).unwrap(), ack(2, 0, 0), "a batch may have no rows left");
    assert_eq!(code(log.append(entry("p", Some((1, 3)), &["a"]))), "STALE_EPOCH");
    let elsewhere = NewEntry { table: "other".into(), ..entry("p", Some((2, 1)), &["a"]) };
    assert_eq!(code(log.append(elsewhere)), "SEQUENCE_REUSED");
    drop(log);
    let mut log = Stepped::open(&fs, never_fatal(), &clock).unwrap();
    assert_eq!(log.append(entry("p", Some((2, 1)), &[])).unwrap(), ack(2, 0, 0));
    assert_eq!(code(log.append(entry("p", Some((2, 3)), &["a"]))), "OUT_OF_ORDER");
    assert_eq!(log.append(entry("p", Some((2, 2)), &["a"])).unwrap(), ack(3, 1, 0));
}

#[test]
fn one_producer_too_many_is_refused_and_old_retries_are_still_known() {
    let mut log =
        Stepped::open(&SimFs::new(), LogOptions { producers_max: 1, ..never_fatal() }, &ManualClock::at(0)).unwrap();
    for n in 1..=40 {
        log.append(entry("p", Some((1, n)), &["a"])).unwrap();
    }
    let old = log.append(entry("p", Some((1, 1)), &["a"])).unwrap();
    assert_eq!((old.accepted, old.duplicates), (0, 1));
    assert!(matches!(log.append(entry("q", Some((1, 1)), &["a"])), Err(Error::Limit { .. })));
    assert_eq!(
        log.append(entry("q", None, &["a"])).unwrap(),
        ack(40, 1, 0),
        "without a sequence nothing is remembered"
    );
}

#[test]
fn rows_with_a_known_event_id_are_dropped_within_the_horizon() {
    let fs = SimFs::new();
    let clock = ManualClock::at(0);
    let options = LogOptions { segment_bytes_max: 1, ..never_fatal() };
    let mut log = Stepped::open(&fs, options.clone(), &clock).unwrap();
    assert_eq!(log.append(entry("p", None, &["a", "b", "a"])).unwrap(), ack(0, 2, 1), "twice in one batch");
    clock.set(HOUR_NS);
    let (first, second) =
        (log.log.append(entry("p", None, &["c"])).unwrap(), log.log.append(entry("q", None, &["c", "a"])).unwrap());
    log.writer.step();
    assert_eq!(first.wait().unwrap(), ack(1, 1, 0));
    assert_eq!(second.wait().unwrap(), ack(1, 0, 2), "answered with the original");
    assert_eq!(log.append(entry("q", None, &["b", "d"])).unwrap(), ack(2, 1, 1));
    assert_eq!(contents(&log.log), [vec!["a", "b"], vec!["c"], vec!["d"]]);
    let elsewhere = NewEntry { table: "other".into(), ..entry("p", None, &["a"]) };
    assert_eq!(log.append(elsewhere).unwrap(), ack(3, 1, 0), "an id is its table's");
    drop(log);

    let mut log = Stepped::open(&fs, options.clone(), &clock).unwrap();
    assert_eq!(log.append(entry("q", None, &["a", "b", "c", "d"])).unwrap(), ack(3, 0, 4));
    log.log.retain_from(3).unwrap();
    assert_eq!(log.log.start(), 3);
    assert_eq!(log.append(entry("q", None, &["a", "c"])).unwrap().duplicates, 2);
    drop(log);

    let mut log = Stepped::open(&fs, options.clone(), &clock).unwrap();
    assert_eq!(
        log.append(entry("q", None, &["a", "b", "c", "d"])).unwrap().duplicates,
        4,
        "known after their segments went"
    );
    clock.set(24 * HOUR_NS + 1);
    assert_eq!(log.append(entry("q", None, &["a", "c"])).unwrap(), ack(4, 1, 1), "a is older than 24 h, c is not");
    clock.set(50 * HOUR_NS);
    log.log.retain_from(4).unwrap();
    let names = fs.list(Path::new(DIR)).unwrap();
    assert_eq!(names, ["00000000000000000004.log"], "ids past the horizon are removed");
}

#[test]
fn a_null_id_is_never_a_duplicate_and_the_oldest_ids_go_when_there_are_too_many() {
    let clock = ManualClock::at(0);
    let options = LogOptions { event_ids_max: 3, ..never_fatal() };
    let mut log = Stepped::open(&SimFs::new(), options, &clock).unwrap();
    let id: StringArray = [None, None, Some("a")].into_iter().collect();
    let batch = RecordBatch::try_from_iter_with_nullable([("id", Arc::new(id) as ArrayRef, true)]).unwrap();
    let nulls = NewEntry { table: "t".into(), producer: "p".into(), sequence: None, event_id: Some(0), batch };
    assert_eq!(log.append(nulls.clone()).unwrap(), ack(0, 3, 0));
    assert_eq!(log.append(nulls).unwrap(), ack(1, 2, 1));
    for id in ["b", "c", "d", "e"] {
        log.append(entry("p", None, &[id])).unwrap();
    }
    assert_eq!(log.append(entry("p", None, &["e"])).unwrap().duplicates, 1);
    let metrics = log.log.metrics();
    assert!(metrics.event_ids <= 4 && metrics.event_ids_forgotten > 0, "{metrics:?}");
}

#[test]
fn producers_are_known_after_their_segments_went() {
    let fs = SimFs::new();
    let clock = ManualClock::at(0);
    let options = LogOptions { segment_bytes_max: 1, ..never_fatal() };
    {
        let mut log = Stepped::open(&fs, options.clone(), &clock).unwrap();
        for n in 1..=5 {
            log.append(entry("p", Some((7, n)), &["a"])).unwrap();
        }
        for n in 1..=5 {
            log.append(entry("q", Some((1, n)), &["a"])).unwrap();
        }
        log.log.retain_from(9).unwrap();
        assert!(matches!(log.log.reader(8), Err(Error::Storage(_))));
    }
    let mut log = Stepped::open(&fs, options, &clock).unwrap();
    assert_eq!((log.log.start(), log.log.end()), (9, 10));
    assert_eq!(log.append(entry("p", Some((7, 5)), &["a"])).unwrap(), ack(4, 0, 1), "the first ack");
    assert_eq!(log.append(entry("p", Some((7, 6)), &["a"])).unwrap(), ack(10, 1, 0));
    assert_eq!(code(log.append(entry("p", Some((6, 1)), &["a"]))), "STALE_EPOCH");
    log.log.retain_from(1_000).unwrap();
    assert_eq!(log.log.start(), 10, "the newest segment stays");
}

#[test]
fn a_full_disk_refuses_the_batch_and_the_log_goes_on_when_there_is_room() {
    for first_in_segment in [false, true] {
        let fs = SimFs::new();
        let options = LogOptions { segment_bytes_max: if first_in_segment { 1 } else { 1 << 20 }, ..never_fatal() };
        let mut log = Stepped::open(&fs, options.clone(), &ManualClock::at(0)).unwrap();
        log.append(entry("p", Some((1, 1)), &["a"])).unwrap();
        log.append(entry("q", None, &["x"])).unwrap();
        fs.set_bytes_free(Some(200));
        let refused = log.append(entry("p", Some((1, 2)), &["b"])).unwrap_err();
        assert!(matches!(&refused, Error::Storage(m) if m.contains("nothing was taken")), "{refused}");
        assert!(matches!(log.append(entry("q", None, &["y"])), Err(Error::Storage(_))));
        assert!(matches!(log.append(entry("new", Some((1, 1)), &["n"])), Err(Error::Storage(_))));
        fs.set_bytes_free(None);
        assert_eq!(log.append(entry("p", Some((1, 2)), &["b"])).unwrap(), ack(2, 1, 0));
        assert_eq!(log.append(entry("q", None, &["x", "y"])).unwrap(), ack(3, 1, 1));
        assert_eq!(log.append(entry("new", Some((1, 1)), &["n"])).unwrap(), ack(4, 1, 0));
        let expected = [["a"], ["x"], ["b"], ["y"], ["n"]];
        assert_eq!(contents(&log.log), expected);
        drop(log);
        assert_eq!(contents(&Stepped::open(&fs, options, &ManualClock::at(0)).unwrap().log), expected);
    }
}

#[test]
fn a_failed_sync_is_fatal_and_is_never_tried_again() {
    let fs = SimFs::new();
    let called = Arc::new(AtomicBool::new(false));
    let seen = called.clone();
    let on_fatal = FatalHook::new(move |message| {
        assert!(message.contains("cannot sync log/00000000000000000000.log: simulated EIO"), "{message}");
        seen.store(true, Ordering::SeqCst);
    });
    let mut log = Stepped::open(&fs, LogOptions { on_fatal, ..LogOptions::default() }, &ManualClock::at(0)).unwrap();
    log.append(entry("p", Some((1, 1)), &["a"])).unwrap();
    let mut reader = log.log.reader(1).unwrap();
    fs.fail_sync(true);
    assert!(matches!(log.append(entry("p", Some((1, 2)), &["b"])), Err(Error::Stopped(_))));
    assert!(called.load(Ordering::SeqCst));
    fs.fail_sync(false);
    assert!(matches!(log.append(entry("p", Some((1, 3)), &["c"])), Err(Error::Stopped(_))));
    assert!(matches!(reader.next(Duration::from_secs(60)), Err(Error::Stopped(_))));
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let options = LogOptions { queue_bytes_max: 2_000, ..never_fatal() };
    let mut log = Stepped::open(&SimFs::new(), options, &ManualClock::at(0)).unwrap();
    let mut pending = Vec::new();
    let refused = loop {
        match log.log.append(entry("p", Some((1, pending.len() as u64 + 1)), &["a"])) {
            Ok(one) => pending.push(one),
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, Error::Limit { retry_after_ms: 100, .. }), "{refused}");
    log.writer.step();
    assert_eq!(log.append(entry("p", Some((1, pending.len() as u64 + 1)), &["a"])).unwrap().accepted, 1);
    assert_eq!(log.log.metrics().bytes_in_flight, 0);
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_disk(dir.path(), never_fatal());
    let second = Log::open(Arc::new(DiskFs), dir.path(), never_fatal(), Arc::new(ManualClock::at(0)));
    assert!(matches!(second, Err(Error::Config(m)) if m.contains("in use by another process")));
    drop(log);
    open_disk(dir.path(), never_fatal());
}

#[test]
fn receipt_times_never_go_back() {
    let fs = SimFs::new();
    let clock = ManualClock::at(500);
    let mut log = Stepped::open(&fs, never_fatal(), &clock).unwrap();
    log.append(entry("p", None, &["a"])).unwrap();
    clock.set(400);
    log.append(entry("p", None, &["b"])).unwrap();
    drop(log);
    let mut log = Stepped::open(&fs, never_fatal(), &clock).unwrap();
    log.append(entry("p", None, &["c"])).unwrap();
    let mut reader = log.log.reader(0).unwrap();
    let times: Vec<i64> = (0..3).map(|_| reader.next(Duration::ZERO).unwrap().unwrap().received_at).collect();
    assert_eq!(times, [500, 500, 500]);
}

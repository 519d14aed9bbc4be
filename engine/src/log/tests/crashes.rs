//! Seeded crashes at any step of the disk: what was acknowledged is there once.

use super::*;

/// One producer's own view, for the crash runs.
struct Sender {
    name: String,
    sequenced: bool,
    next: u64,
    /// Sent and not acknowledged: sent again after a crash.
    unacked: Vec<u64>,
    acked: Vec<u64>,
}

impl Sender {
    fn entry(&self, n: u64) -> NewEntry {
        entry(&self.name, self.sequenced.then_some((1, n)), &[&format!("{}-{n}", self.name)])
    }
}

/// Crashes at random places inside writes, syncs and retention; after each, what was acknowledged must be there once, and
/// producers send again what was not.
fn crash_run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut fs = SimFs::new();
    let clock = ManualClock::at(0);
    let options =
        LogOptions { segment_bytes_max: 1_000 + rng.below(6_000), recent_bytes_max: 1_000, ..quietly_fatal() };
    let sender = |n: u64| Sender { name: format!("p{n}"), sequenced: n < 2, next: 1, unacked: vec![], acked: vec![] };
    let mut senders: Vec<Sender> = (0..3).map(sender).collect();
    let mut retained = Vec::new();
    for round in 0..6 {
        let last = round == 5;
        // The power may go while the log is opened, too.
        if !last && rng.below(4) == 0 {
            fs.fail_after(rng.below(4));
        }
        if let Ok(log) = Stepped::open(&fs, options.clone(), &clock) {
            audit(seed, &log.log, &senders, &retained);
            if !last {
                fs.fail_after(rng.below(40));
            }
            work(&mut rng, log, &mut senders, &mut retained, &fs);
        } else {
            assert!(!last, "seed {seed}: the log does not open");
        }
        fs = fs.crash(rng.next());
        // Whatever a crash leaves must open, and again.
        let log = Stepped::open(&fs, options.clone(), &clock);
        let log = log.unwrap_or_else(|e| panic!("seed {seed} round {round}: {e}")).log;
        audit(seed, &log, &senders, &retained);
    }
}

fn work(rng: &mut Rng, mut log: Stepped, senders: &mut [Sender], retained: &mut Vec<Vec<String>>, fs: &SimFs) {
    for _ in 0..20 {
        let mut pending = Vec::new();
        for (i, sender) in senders.iter_mut().enumerate() {
            let again: Vec<u64> = sender.unacked.drain(..).collect();
            let fresh = rng.below(3);
            let new = sender.next..sender.next + fresh;
            sender.next += fresh;
            for n in again.into_iter().chain(new) {
                sender.unacked.push(n);
                if let Ok(one) = log.log.append(sender.entry(n)) {
                    pending.push((i, n, one));
                }
            }
        }
        log.writer.step();
        for (i, n, one) in pending {
            if one.wait().is_ok() {
                senders[i].unacked.retain(|m| *m != n);
                senders[i].acked.push(n);
            }
        }
        if rng.below(8) == 0 && log.log.end() > log.log.start() {
            let keep = log.log.start() + rng.below(log.log.end() - log.log.start());
            let before = contents(&log.log);
            let start = log.log.start();
            let _ = log.log.retain_from(keep);
            // What was removed, or will be after a crash in the middle of it, had been read.
            let gone = (log.log.start() - start) as usize;
            for ids in &before[..gone] {
                if !retained.contains(ids) {
                    retained.push(ids.clone());
                }
            }
        }
        if rng.below(16) == 0 {
            fs.set_bytes_free(Some(rng.below(2_000)));
        } else {
            fs.set_bytes_free(None);
        }
    }
}

fn audit(seed: u64, log: &Arc<Log>, senders: &[Sender], retained: &[Vec<String>]) {
    let held = contents(log);
    let mut all: Vec<&String> = held.iter().flatten().collect();
    // A segment whose removal a crash undid is in both.
    all.extend(retained.iter().filter(|ids| !held.contains(ids)).flatten());
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(count, all.len(), "seed {seed}: an event is there twice");
    for sender in senders {
        for n in &sender.acked {
            let id = format!("{}-{n}", sender.name);
            assert!(all.binary_search(&&id).is_ok(), "seed {seed}: {id} was acknowledged and is gone");
        }
        let prefix = format!("{}-", sender.name);
        let mut order: Vec<u64> =
            held.iter().flatten().filter_map(|id| id.strip_prefix(&prefix)?.parse().ok()).collect();
        if sender.sequenced {
            let sorted = {
                let mut o = order.clone();
                o.sort_unstable();
                o
            };
            assert_eq!(order, sorted, "seed {seed}: {} is out of order", sender.name);
            order.dedup();
            let contiguous = order.windows(2).all(|w| w[1] == w[0] + 1);
            assert!(contiguous, "seed {seed}: {} has a hole", sender.name);
        }
    }
}

#[test]
fn no_crash_loses_or_doubles_an_acknowledged_event() {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    for seed in 0..seeds {
        crash_run(seed);
    }
}

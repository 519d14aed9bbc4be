//! Schedules of faults on the simulated disk, store, network and clock: nothing lost, nothing doubled.

use std::fmt::Write as _;
use std::time::Instant;

use millstream::planted::Bug;
use millstream_tests::random::seeds;
use millstream_tests::sim::{Outcome, run};
use tokio::runtime::Runtime;

/// For the lake's I/O; the engine itself runs on the test's thread.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// `MILLSTREAM_SCHEDULES` says how many; a schedule takes about a fifth of a second.
fn schedules(n: u64) -> Vec<u64> {
    let wanted = std::env::var("MILLSTREAM_SCHEDULES").ok().map(|text| text.parse().expect("a number of schedules"));
    let first = std::env::var("MILLSTREAM_SCHEDULES_FROM").map_or(1, |text| text.parse().expect("a seed"));
    match std::env::var("MILLSTREAM_SEED") {
        Ok(_) => seeds(1),
        Err(_) => (first..first + wanted.unwrap_or(n)).collect(),
    }
}

fn assert_holds(seed: u64, outcome: &Outcome) {
    if outcome.violations.is_empty() {
        return;
    }
    let path = std::env::temp_dir().join(format!("millstream-simulated-{seed}.txt"));
    std::fs::write(&path, outcome.trace.join("\n")).unwrap();
    panic!("MILLSTREAM_SEED={seed}: {}\nthe trace is in {}", outcome.violations.join("\n"), path.display());
}

#[test]
fn nothing_is_lost_or_doubled_in_seeded_schedules() {
    let (runtime, started) = (runtime(), Instant::now());
    let (mut acknowledged, mut deaths, mut runs) = (0, 0, 0);
    let mut faults = std::collections::BTreeMap::<&str, u64>::new();
    for seed in schedules(100) {
        let outcome = run(seed, None, runtime.handle());
        assert_holds(seed, &outcome);
        (acknowledged, deaths, runs) = (acknowledged + outcome.acknowledged, deaths + outcome.deaths, runs + 1);
        outcome.faults.iter().for_each(|(name, n)| *faults.entry(name).or_default() += n);
    }
    println!(
        "{runs} schedules, {deaths} deaths, {acknowledged} acknowledged batches, {faults:?}, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    assert!(std::env::var("MILLSTREAM_SEED").is_ok() || faults.len() == 6, "every kind of fault happened: {faults:?}");
}

#[test]
fn a_seed_gives_the_same_trace_again() {
    let runtime = runtime();
    for seed in schedules(20).into_iter().take(100) {
        let (first, second) = (run(seed, None, runtime.handle()), run(seed, None, runtime.handle()));
        let differs = first.trace.iter().zip(&second.trace).find(|(a, b)| a != b);
        assert_eq!(first.trace_hash, second.trace_hash, "MILLSTREAM_SEED={seed}: {differs:?}");
    }
}

/// Seeds that a planted bug may take to be seen.
const SEEDS_PER_BUG: u64 = 100;

#[test]
fn planted_bugs_are_seen() {
    let runtime = runtime();
    let (mut table, mut missed) = (String::new(), Vec::new());
    for bug in Bug::ALL {
        let caught = (1..=SEEDS_PER_BUG).find_map(|seed| {
            let outcome = run(seed, Some(bug), runtime.handle());
            outcome.violations.first().map(|v| (seed, v.lines().next().unwrap_or_default().to_string()))
        });
        let what: String = caught.as_ref().map_or("missed".into(), |c| c.1.chars().take(90).collect());
        let _ = writeln!(table, "{:<26} {:>4}  {what}", format!("{bug:?}"), caught.as_ref().map_or(0, |c| c.0));
        if caught.is_none() {
            missed.push(bug);
        }
    }
    println!("bug                        seeds until seen\n{table}");
    assert!(missed.len() * 20 <= Bug::ALL.len(), "fewer than 95 % of the planted bugs are seen; missed: {missed:?}");
}

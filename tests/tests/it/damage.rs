//! Bits that flip in the files of a stopped engine: log, manifests, state, Parquet, Delta log. Each flip is found by
//! `repair` or does not matter; what is saved is exact, and what is lost is said, batch by batch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int64Type;
use millstream::engine::{ASIDE, RepairReport, repair};
use millstream::lake::Maintenance;
use millstream::time::{SECOND, SystemClock};
use millstream::{Append, Engine, Options, ProducerSequence, QueryLimits};
use millstream_tests::random::Random;
use millstream_tests::reopened;
use tokio::runtime::Runtime;

const SQL: &str = "
CREATE TABLE clicks (producer BIGINT, sequence BIGINT, t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '3 seconds')
  WITH (connector = 'ingest', future_skew = INTERVAL '10000 days', idle_timeout = INTERVAL '10000 days');
INSERT INTO raw SELECT * FROM clicks;
INSERT INTO windows SELECT w['start'] AS start, producer, n FROM
  (SELECT tumble(INTERVAL '10 seconds') AS w, producer, count(*) AS n FROM clicks GROUP BY 1, 2);
INSERT INTO totals SELECT producer, n FROM
  (SELECT tumble(INTERVAL '10 minutes') AS w, producer, count(*) AS n FROM clicks GROUP BY 1, 2);
";
/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200 * SECOND;
const PRODUCERS: i64 = 3;
const ROWS: i64 = 4;
const ROUNDS: i64 = 30;
/// Rounds that the newest checkpoint covers; between checkpoints there are six.
const COVERED: i64 = 24;

type Batches = BTreeSet<(i64, i64)>;

/// Batches of the raw table, windows that close soon, and one that is open through all checkpoints.
type Tables = [Vec<Vec<i64>>; 3];

fn time(sequence: i64) -> i64 {
    START + sequence * SECOND
}

async fn open(dir: &Path) -> millstream::Result<Engine> {
    let mut options = Options::new(dir);
    options.checkpoint_interval = std::time::Duration::from_secs(3_600);
    let engine = reopened(async || Engine::open(options.clone()).await).await?;
    engine.execute(SQL, "pipelines.sql").await.unwrap();
    Ok(engine)
}

async fn append(engine: &Engine, producer: i64, sequence: i64) -> u64 {
    let same = |v: i64| Arc::new(Int64Array::from(vec![v; ROWS as usize])) as ArrayRef;
    let t = Arc::new(TimestampNanosecondArray::from(vec![time(sequence); ROWS as usize])) as ArrayRef;
    let schema = engine.table("clicks").unwrap().schema;
    let batch = RecordBatch::try_new(schema, vec![same(producer), same(sequence), t]).unwrap();
    let sequence = Some(ProducerSequence { epoch: 1, sequence: sequence as u64 });
    let (table, producer) = ("clicks".into(), format!("p{producer}"));
    engine.append(Append { table, producer, sequence, batch, rejected: Vec::new() }).await.unwrap().offset
}

/// A directory with three checkpoints and entries after them; where each batch is in the log.
async fn prepared(dir: &Path) -> BTreeMap<(i64, i64), u64> {
    let engine = open(dir).await.unwrap();
    engine.start().await.unwrap();
    let mut places = BTreeMap::new();
    for sequence in 1..=ROUNDS {
        for producer in 0..PRODUCERS {
            places.insert((producer, sequence), append(&engine, producer, sequence).await);
        }
        if sequence <= COVERED && sequence % 6 == 0 {
            engine.flush().await.unwrap();
        }
    }
    places
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
    into.sort();
}

fn copy(from: &Path, to: &Path) {
    let mut all = Vec::new();
    files(from, &mut all);
    for file in all {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

/// Flips one bit of one of the files below `dir` that `wanted` takes.
fn flip(dir: &Path, random: &mut Random, wanted: impl Fn(&str) -> bool) -> String {
    let mut all = Vec::new();
    files(dir, &mut all);
    all.retain(|f| wanted(&f.display().to_string()) && f.metadata().unwrap().len() > 0);
    let file = &all[random.below(all.len() as u64) as usize];
    let mut bytes = std::fs::read(file).unwrap();
    let (byte, bit) = (random.below(bytes.len() as u64) as usize, random.below(8));
    bytes[byte] ^= 1 << bit;
    std::fs::write(file, bytes).unwrap();
    format!("bit {bit} of byte {byte} of {}", file.display())
}

async fn numbers(engine: &Engine, sql: &str) -> millstream::Result<Vec<Vec<i64>>> {
    let answer = engine.query(sql, &BTreeMap::new(), &QueryLimits::default()).await?;
    let row = |b: &RecordBatch, i: usize| b.columns().iter().map(|c| c.as_primitive::<Int64Type>().value(i)).collect();
    Ok(answer.batches.iter().flat_map(|b| (0..b.num_rows()).map(|i| row(b, i)).collect::<Vec<_>>()).collect())
}

/// What the tables hold once everything is read.
async fn tables(dir: &Path) -> millstream::Result<Tables> {
    let engine = open(dir).await?;
    engine.start().await?;
    for producer in 0..PRODUCERS {
        engine.promise("clicks", &format!("p{producer}"), START + 1_000 * SECOND).await?;
    }
    engine.flush().await?;
    let raw = "SELECT producer, sequence, count(*) AS n FROM raw GROUP BY 1, 2 ORDER BY 1, 2";
    let windows = "SELECT CAST(start AS BIGINT) / 1000000 AS s, producer, n FROM windows ORDER BY 1, 2";
    let totals = "SELECT producer, n FROM totals ORDER BY 1";
    let found = [numbers(&engine, raw).await?, numbers(&engine, windows).await?, numbers(&engine, totals).await?];
    engine.close().await?;
    Ok(found)
}

/// What they must hold if exactly `lost` is.
fn expected(lost: &Batches) -> Tables {
    let (mut raw, mut windows, mut totals) = (Vec::new(), BTreeMap::<(i64, i64), i64>::new(), Vec::new());
    for producer in 0..PRODUCERS {
        let mut total = 0;
        for sequence in (1..=ROUNDS).filter(|s| !lost.contains(&(producer, *s))) {
            raw.push(vec![producer, sequence, ROWS]);
            *windows.entry((time(sequence).div_euclid(10 * SECOND) * 10, producer)).or_default() += ROWS;
            total += ROWS;
        }
        totals.push(vec![producer, total]);
    }
    [raw, windows.into_iter().map(|((start, producer), n)| vec![start, producer, n]).collect(), totals]
}

async fn examined(dir: &Path, save: bool) -> RepairReport {
    reopened(async || repair(dir, None, &BTreeMap::new(), Arc::new(SystemClock), save).await).await.unwrap()
}

/// The batches that a report says are lost.
fn said_lost(report: &RepairReport) -> Batches {
    let producer = |name: &str| name.trim_start_matches('p').parse().unwrap();
    let all = report.log.lost.iter();
    all.flat_map(|l| (l.first..=l.last).map(move |s| (producer(&l.producer), s as i64))).collect()
}

struct Prepared {
    _temporary: tempfile::TempDir,
    dir: PathBuf,
    places: BTreeMap<(i64, i64), u64>,
    runtime: Runtime,
}

impl Prepared {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let (dir, runtime) = (temporary.path().join("data"), Runtime::new().unwrap());
        let places = runtime.block_on(prepared(&dir));
        Self { _temporary: temporary, dir, places, runtime }
    }

    /// Runs `check` on a damaged copy for each seed; the copy is made anew each time.
    fn each_flip(
        &self,
        seeds: u64,
        wanted: impl Fn(&str) -> bool + Copy,
        mut check: impl FnMut(&Path, &str, &Runtime),
    ) {
        for seed in 1..=seeds {
            let temporary = tempfile::tempdir().unwrap();
            let dir = temporary.path().join("data");
            copy(&self.dir, &dir);
            let what = flip(&dir, &mut Random(seed), wanted);
            check(&dir, &format!("seed {seed}, {what}"), &self.runtime);
        }
    }
}

#[test]
fn nothing_is_damaged_in_a_healthy_directory() {
    let prepared = Prepared::new();
    let report = prepared.runtime.block_on(examined(&prepared.dir, true));
    assert!(report.is_whole(), "{report:?}");
    assert!(!prepared.dir.join(ASIDE).exists());
    assert_eq!(prepared.runtime.block_on(tables(&prepared.dir)).unwrap(), expected(&Batches::new()));
    let report = prepared.runtime.block_on(examined(&prepared.dir, false));
    assert!(report.is_whole(), "{report:?}");
}

#[test]
fn damage_of_the_log_is_found_and_exactly_the_lost_batches_are_named() {
    let prepared = Prepared::new();
    let (mut found, mut losses) = (0, 0);
    prepared.each_flip(
        40,
        |f| f.contains("/log/") && f.ends_with(".log"),
        |dir, what, runtime| {
            let report = runtime.block_on(examined(dir, false));
            let started = runtime.block_on(tables(dir));
            if report.log.damage.is_empty() {
                // The unused bytes of a header.
                assert_eq!(started.unwrap(), expected(&Batches::new()), "{what}");
                return;
            }
            found += 1;
            let refused = started.unwrap_err().to_string();
            assert!(
                refused.contains(".log is damaged at byte ") && refused.contains("`millstream repair`"),
                "{what}: {refused}"
            );
            let in_damage = |place: u64| report.log.damage.iter().any(|d| d.entries.contains(&place));
            let lost: Batches = prepared.places.iter().filter(|(_, p)| in_damage(**p)).map(|(b, _)| *b).collect();
            assert_eq!(said_lost(&report), lost, "{what}");
            let covered = report.checkpoints.usable.as_ref().unwrap().log_offset;
            let saved = runtime.block_on(examined(dir, true));
            assert_eq!(saved.log, report.log, "{what}");
            assert!(dir.join(ASIDE).is_dir(), "{what}");
            let gone: Batches = lost.into_iter().filter(|b| prepared.places[b] >= covered).collect();
            losses += gone.len();
            assert_eq!(runtime.block_on(tables(dir)).unwrap(), expected(&gone), "{what}");
            assert!(runtime.block_on(examined(dir, false)).is_whole(), "{what}");
        },
    );
    println!("{found} of 40 flips found, {losses} batches lost");
    assert!(found > 30 && losses > 0);
}

#[test]
fn a_flipped_bit_in_a_manifest_does_not_matter() {
    let prepared = Prepared::new();
    prepared.each_flip(
        20,
        |f| f.contains("/checkpoints/"),
        |dir, what, runtime| {
            assert_eq!(runtime.block_on(tables(dir)).unwrap(), expected(&Batches::new()), "{what}");
        },
    );
}

#[test]
fn a_checkpoint_takes_over_from_damaged_state_or_the_pipeline_is_rebuilt() {
    let prepared = Prepared::new();
    let (mut again, mut rebuilt) = (0, 0);
    prepared.each_flip(
        20,
        |f| f.contains("/state/"),
        |dir, what, runtime| {
            let report = runtime.block_on(examined(dir, false));
            assert!(!report.checkpoints.damage.is_empty(), "{what}");
            match runtime.block_on(tables(dir)) {
                Ok(found) => {
                    again += 1;
                    assert_eq!(found, expected(&Batches::new()), "{what}");
                }
                Err(e) => {
                    let refused = e.to_string();
                    assert!(
                        refused.contains("is usable") && refused.contains("`millstream repair`"),
                        "{what}: {refused}"
                    );
                    rebuilt += 1;
                    runtime.block_on(async {
                        let saved = examined(dir, true).await;
                        assert_eq!(saved.checkpoints.set_aside, ["totals"], "{what}");
                        let refused = tables(dir).await.unwrap_err().to_string();
                        assert!(
                            refused.contains("has been set aside") && refused.contains("`millstream rebuild totals`")
                        );
                        let engine = open(dir).await.unwrap();
                        engine.rebuild("totals").await.unwrap();
                        engine.close().await.unwrap();
                        drop(engine);
                        assert_eq!(tables(dir).await.unwrap(), expected(&Batches::new()), "{what}");
                    });
                }
            }
        },
    );
    println!("{again} taken again from the checkpoint before, {rebuilt} rebuilt");
    assert!(again > 0 && rebuilt > 0);
}

#[test]
fn a_damaged_parquet_file_is_named_and_given_up_and_the_rest_is_read() {
    let prepared = Prepared::new();
    prepared.each_flip(
        20,
        |f| f.contains("/lake/raw/day=") && f.ends_with(".parquet"),
        |dir, what, runtime| {
            // Compaction does not write damage again under a checksum that fits.
            let compacted = runtime.block_on(async {
                let engine = open(dir).await.unwrap();
                engine.maintain(&Maintenance { small_files_per_day_max: 1, ..Maintenance::default() }).await
            });
            let refused = compacted.unwrap_err().to_string();
            assert!(refused.contains("`millstream repair` takes it out"), "{what}: {refused}");
            let report = runtime.block_on(examined(dir, true));
            let damage = &report.tables["raw"].as_ref().unwrap().damage;
            assert_eq!(damage.len(), 1, "{what}");
            assert!(what.contains(&damage[0].path), "{what}: {damage:?}");
            let [raw, windows, totals] = runtime.block_on(tables(dir)).unwrap();
            let [all, same_windows, same_totals] = expected(&Batches::new());
            let rows = |batches: &[Vec<i64>]| batches.len() as u64 * ROWS as u64;
            assert_eq!(rows(&raw) + damage[0].rows, rows(&all), "{what}");
            assert_eq!((windows, totals), (same_windows, same_totals), "{what}");
            assert!(runtime.block_on(examined(dir, false)).is_whole(), "{what}");
        },
    );
}

#[test]
fn a_flipped_bit_in_a_delta_log_is_found_or_does_not_matter() {
    let prepared = Prepared::new();
    let (mut found, mut harmless) = (0, 0);
    prepared.each_flip(
        60,
        |f| f.contains("/_delta_log/"),
        |dir, what, runtime| {
            let whole = runtime.block_on(examined(dir, false)).is_whole();
            match runtime.block_on(tables(dir)) {
                // The server or the query says so.
                Err(_) => found += 1,
                Ok(_) if !whole => found += 1,
                Ok(tables) => {
                    harmless += 1;
                    assert_eq!(tables, expected(&Batches::new()), "{what}");
                }
            }
        },
    );
    println!("{found} found, {harmless} harmless");
    assert!(found > 0 && harmless > 0);
}

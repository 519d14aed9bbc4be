//! Bytes and text that somebody broke: a reader may refuse them, and must not panic. Seeded, so that a failure can be seen
//! again: `MILLSTREAM_SEED=n`. `MILLSTREAM_FUZZ` says how many inputs each reader gets.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use millstream::checkpoint::Checkpoints;
use millstream::fs::DiskFs;
use millstream::log::{Log, LogOptions};
use millstream::time::{ManualClock, SECOND};
use millstream::{Append, Engine, Error, Options, QueryLimits, TableInfo};
use millstream_proto::v1::{IdeEvent, IdeEvents};
use millstream_server::ingest::decode::{Decoder, schema_of};
use millstream_server::ingest::{ipc, json};
use millstream_tests::random::{Random, hash};
use millstream_tests::{reopened, root};
use prost::Message;

/// Rows that a batch may have: a length that somebody broke must not be believed.
const ROWS_MAX: usize = 10_000;

/// The seeds of the inputs.
fn inputs() -> Vec<u64> {
    if let Ok(seed) = std::env::var("MILLSTREAM_SEED") {
        return vec![seed.parse().expect("a seed is a number")];
    }
    let wanted = std::env::var("MILLSTREAM_FUZZ").map_or(2_000, |n| n.parse().expect("a number of inputs"));
    (1..=wanted).collect()
}

/// Runs a reader on each input; it may fail, but not panic.
fn each<T>(what: &str, mut make: impl FnMut(&mut Random) -> T, mut read: impl FnMut(T) -> bool) {
    let (mut taken, mut refused) = (0, 0);
    for seed in inputs() {
        let input = make(&mut Random(hash(&[seed, what.len() as u64])));
        match catch_unwind(AssertUnwindSafe(|| read(input))) {
            Ok(true) => taken += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("{what}: MILLSTREAM_SEED={seed} panics"),
        }
    }
    println!("{what}: {taken} taken, {refused} refused");
    assert!(std::env::var("MILLSTREAM_SEED").is_ok() || refused > 0, "{what}: nothing was broken");
}

/// Breaks bytes in one to four places.
fn broken(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            bytes.push(random.bits() as u8);
        }
        let at = random.below(bytes.len() as u64) as usize;
        let end = (at + 1 + random.below(16) as usize).min(bytes.len());
        match random.below(8) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let number = [0, 1, u32::MAX, i32::MAX as u32, 1 << 31, 1 << 20][random.below(6) as usize];
                for (place, byte) in bytes.iter_mut().skip(at).zip(number.to_le_bytes()) {
                    *place = byte;
                }
            }
            _ => bytes.insert(at, random.bits() as u8),
        }
    }
    bytes
}

/// Breaks text word by word; `words` are what is put in.
fn broken_text(random: &mut Random, text: &str, words: &[&str]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for c in text.chars() {
        match parts.last_mut() {
            Some(last) if c.is_alphanumeric() && last.chars().all(char::is_alphanumeric) => last.push(c),
            _ => parts.push(c.to_string()),
        }
    }
    for _ in 0..1 + random.below(2) {
        if parts.is_empty() {
            break;
        }
        let (at, other) = (random.below(parts.len() as u64) as usize, random.below(parts.len() as u64) as usize);
        let word = words[random.below(words.len() as u64) as usize].to_string();
        match random.below(6) {
            0 => drop(parts.remove(at)),
            1 => parts.swap(at, other),
            2 => parts.insert(at, parts[other].clone()),
            3 => parts.insert(at, format!(" {word} ")),
            _ => parts[at] = word,
        }
    }
    parts.concat()
}

const WORDS: [&str; 40] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "NULL",
    "0",
    "-1",
    "9223372036854775807",
    "1e400",
    "''",
    "'x'",
    "INTERVAL '0 seconds'",
    "INTERVAL '-1 day'",
    "INTERVAL '999999999 years'",
    "tumble",
    "hop",
    "session",
    "OVER",
    "(",
    ")",
    ",",
    "*",
    "count",
    "sum",
    "array_agg",
    "unnest",
    "CAST",
    "AS",
    "JOIN",
    "ON true",
    "UNION ALL",
    "DISTINCT",
    "t",
    "\u{1F600}",
    "\"",
    "TIMESTAMP '9999-12-31'",
    "[1]",
    "::BIGINT",
    "CASE",
];

fn table(name: &str, schema: SchemaRef, event_time: &str) -> TableInfo {
    let (name, connector, event_time) = (name.to_string(), "ingest".to_string(), Some(event_time.to_string()));
    TableInfo { name, schema, connector, event_time }
}

fn rows() -> RecordBatch {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(StringArray::from(vec![Some("a"), Some("ü"), None]))),
        ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)]))),
        ("x", Arc::new(Float64Array::from(vec![0.5, f64::NAN, f64::MAX]))),
        ("l", Arc::new(lists)),
        ("t", Arc::new(TimestampNanosecondArray::from(vec![SECOND, 2 * SECOND, 3 * SECOND]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

#[test]
fn typed_events() {
    let event_time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 });
    let event = |n: u32| IdeEvent { event_id: format!("e{n}"), event_time, ..Default::default() };
    let whole = IdeEvents { events: (0..5).map(event).collect() }.encode_to_vec();
    let schema = schema_of("IdeEvent").unwrap();
    let decoder = Decoder::new("IdeEvent", &schema, Some("event_time")).unwrap();
    assert_eq!(decoder.decode(&whole.clone().into(), ROWS_MAX).unwrap().batch.num_rows(), 5);
    each("protobuf", |random| broken(random, &whole), |bytes| decoder.decode(&bytes.into(), ROWS_MAX).is_ok());
}

#[test]
fn envelopes() {
    let batch = millstream_proto::v1::EventBatch {
        producer: "p".into(),
        epoch: 1,
        sequence: 2,
        sent_at: None,
        events: Some(millstream_proto::v1::event_batch::Events::Json(millstream_proto::v1::JsonRows {
            table: "t".into(),
            rows: vec![b"{}".to_vec().into()],
        })),
    };
    let whole = batch.encode_to_vec();
    each(
        "envelope",
        |random| broken(random, &whole),
        |bytes| millstream_proto::envelope::EventBatch::decode(Bytes::from(bytes)).is_ok(),
    );
}

#[test]
fn json_rows() {
    let table = table("t", rows().schema(), "t");
    let whole = r#"{"id": "a\u00fc\n", "n": -12, "x": 1.5e3, "l": [1, null, 3], "t": "2024-01-01T00:00:00.123Z"}"#;
    let decoded = json::decode(&table, &[Bytes::from_static(whole.as_bytes())], ROWS_MAX).unwrap();
    assert_eq!(decoded.batch.num_rows(), 1, "{:?}", decoded.rejected);
    each(
        "JSON rows",
        |random| broken(random, whole.as_bytes()),
        |bytes| json::decode(&table, &[bytes.into()], ROWS_MAX).is_ok_and(|d| d.rejected.is_empty()),
    );
}

#[test]
fn arrow_streams() {
    let (batch, mut whole) = (rows(), Vec::new());
    let mut writer = StreamWriter::try_new(&mut whole, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch.slice(1, 2)).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let table = table("t", batch.schema(), "t");
    assert_eq!(ipc::decode(&table, whole.clone().into(), ROWS_MAX).unwrap().batch.num_rows(), 5);
    each(
        "Arrow IPC",
        |random| broken(random, &whole),
        |bytes| ipc::decode(&table, bytes.into(), ROWS_MAX).is_ok_and(|d| d.rejected.is_empty()),
    );
}

const SQL: &str = "
CREATE TABLE e (id TEXT, n BIGINT, x DOUBLE, l BIGINT[], t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '1 second')
  WITH (connector = 'ingest');
INSERT INTO raw SELECT id, n, x, t FROM e;
INSERT INTO w SELECT id, count(*) AS n FROM e GROUP BY tumble(INTERVAL '10 seconds'), id;
";

/// A data directory with a log, a checkpoint and entries after it.
async fn data_dir(dir: &Path) {
    let options = Options { checkpoint_interval: Duration::from_secs(3_600), ..Options::new(dir) };
    let engine = Engine::open(options).await.unwrap();
    engine.execute(SQL, "fuzz.sql").await.unwrap();
    engine.start().await.unwrap();
    for n in 0..6 {
        let batch = rows();
        let (table, producer) = ("e".to_string(), format!("p{}", n % 2));
        engine.append(Append { table, producer, sequence: None, batch, rejected: Vec::new() }).await.unwrap();
        if n == 3 {
            engine.flush().await.unwrap();
        }
    }
}

fn only_file(dir: &Path, ending: &str) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.display().to_string().ends_with(ending));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// The log is opened and read to its end: every frame passes, with its checksum mended or not.
#[test]
fn logs() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(data_dir(dir.path()));
    let file = only_file(&dir.path().join("log"), ".log");
    let whole = std::fs::read(&file).unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join(file.file_name().unwrap());
    each(
        "log",
        |random| {
            let mut bytes = broken(random, &whole);
            if random.one_in(2) {
                mend_checksums(&mut bytes);
            }
            bytes
        },
        |bytes| {
            std::fs::write(&target, bytes).unwrap();
            let clock = Arc::new(ManualClock::at(SECOND));
            let Ok(log) = Log::open(Arc::new(DiskFs), place.path(), LogOptions::default(), clock) else { return false };
            let mut reader = log.reader(log.start()).unwrap();
            while reader.position() < log.end() {
                if reader.next(Duration::ZERO).is_err() {
                    return false;
                }
            }
            true
        },
    );
}

/// Gives every frame that can be found the checksum of its bytes, so that what is broken in it is read.
fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 32;
    while let Some(prefix) = bytes.get(at..at + 4) {
        let length = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let Some(covered) = bytes.get(at + 8..at + 8 + length).filter(|_| length >= 56) else { break };
        let crc = crc32fast::hash(covered);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += 8 + length;
    }
}

/// Manifests, with their checksum mended or not.
#[test]
fn manifests() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(data_dir(dir.path()));
    let file = only_file(&dir.path().join("checkpoints"), ".json");
    let whole = std::fs::read(&file).unwrap();
    let json = whole[..whole.len() / 2 - 10].to_vec();
    let open = || Checkpoints::open(Arc::new(DiskFs), dir.path(), Arc::new(ManualClock::at(0))).unwrap();
    assert_eq!(open().newest().unwrap().map(|m| m.checkpoint), Some(1));
    each(
        "manifest",
        |random| {
            if random.one_in(2) {
                return broken(random, &whole);
            }
            let mut bytes = broken(random, &json);
            let sum = format!("\n{:08x}\n", crc32fast::hash(&bytes));
            bytes.extend_from_slice(sum.as_bytes());
            bytes.repeat(2)
        },
        |bytes| {
            std::fs::write(&file, bytes).unwrap();
            open().newest().is_ok()
        },
    );
}

/// Queries as people write them, broken.
#[test]
fn queries() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = runtime.block_on(async {
        data_dir(dir.path()).await;
        let engine = reopened(async || Engine::open(Options::new(dir.path())).await).await.unwrap();
        engine.execute(SQL, "fuzz.sql").await.unwrap();
        engine
    });
    let whole = [
        "SELECT id, count(*) AS n, sum(n) FILTER (WHERE x > 1) FROM raw WHERE t >= TIMESTAMP '1970-01-01' GROUP BY id ORDER BY 2 DESC LIMIT 5",
        "WITH a AS (SELECT id, row_number() OVER (PARTITION BY id ORDER BY t) AS r FROM raw) SELECT * FROM a WHERE r = 1",
        "SELECT date_trunc('hour', t) AS h, avg(x), max(n) FROM raw GROUP BY 1 HAVING count(*) > 0",
        "SELECT a.id, b.n FROM raw a LEFT JOIN raw b ON a.id = b.id AND a.n < b.n WHERE a.id IN ('a', 'b') UNION ALL SELECT 'x', 1",
        "SELECT unnest(range(1, 5)) AS v, CASE WHEN 1 = 1 THEN 'a' ELSE repeat('b', 3) || 'c' END",
        "EXPLAIN SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM raw",
    ];
    let limits = QueryLimits { timeout: Duration::from_secs(5), memory_bytes_max: 64 << 20, rows_max: 1_000 };
    each(
        "SQL",
        |random| {
            let text = whole[random.below(whole.len() as u64) as usize];
            broken_text(random, text, &WORDS)
        },
        |sql| match runtime.block_on(engine.query(&sql, &BTreeMap::new(), &limits)) {
            Err(Error::Bug(e)) if e.contains("panic") => panic!("{sql}: {e}"),
            answer => answer.is_ok(),
        },
    );
}

/// Pipelines with windows, and the DDL of sources, broken.
#[test]
fn window_ddl() {
    let mut whole = vec![SQL.to_string()];
    for name in ["hop_counts_overlap", "session_with_aggregates", "tumble_by_an_expression_key", "top_n_per_window"] {
        let path = root().join(format!("tests/pipelines/{name}.test"));
        // What a script says before its rows.
        let script = std::fs::read_to_string(path).unwrap();
        let sql = script.split("\n>> ").next().unwrap_or_default();
        whole.push(sql.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n"));
    }
    whole.push(
        "CREATE TABLE s (a TEXT NOT NULL, b TIMESTAMP, c DOUBLE GENERATED ALWAYS AS (1.5) STORED, WATERMARK FOR b AS b - INTERVAL '5' SECOND)
           WITH (connector = 'single_file', path = '/nowhere/x.json', format = 'json', type = 'source', idle_timeout = INTERVAL '10 seconds');
         CREATE VIEW v AS SELECT a, hop(INTERVAL '1 minute', INTERVAL '5 minutes') AS w, max(c) AS m FROM s GROUP BY 1, 2;
         INSERT INTO o SELECT a, m, row_number() OVER (PARTITION BY w ORDER BY m DESC) AS r FROM v;
         INSERT INTO j SELECT x.a FROM s x JOIN s y ON x.a = y.a AND x.b BETWEEN y.b - INTERVAL '1 hour' AND y.b;
         INSERT INTO z SELECT session(INTERVAL '30 seconds') AS w, a, count(DISTINCT c) FROM s GROUP BY 1, 2;"
            .into(),
    );
    each(
        "window DDL",
        |random| {
            let text = &whole[random.below(whole.len() as u64) as usize];
            broken_text(random, text, &WORDS)
        },
        |sql| millstream::engine::check(&sql, "fuzz.sql").is_empty(),
    );
}

//! Random streams with all that happens to streams, as files of every format.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use parquet::arrow::ArrowWriter;

use crate::random::Random;

/// 2024-01-01T00:00:00Z, milliseconds.
const START_MS: i64 = 1_704_067_200_000;

/// An event.
#[derive(Debug, Clone)]
pub struct Row {
    /// Unique but for duplicates.
    pub id: i64,
    /// `k`
    pub key: Option<String>,
    /// `v`
    pub value: Option<i64>,
    /// `f`
    pub float: Option<f64>,
    /// `ts`, since 1970.
    pub time_ms: i64,
}

impl Row {
    /// Its time as `2024-01-01T00:00:00.000`.
    pub fn time_text(&self) -> String {
        time_text(self.time_ms)
    }
}

/// A stream: disorder, duplicates, nulls, ties, gaps; `disorder_ms` is how far back an event may lie.
pub fn stream(random: &mut Random, rows: u64, disorder_ms: u64) -> Vec<Row> {
    let keys = 1 + random.below(6);
    let pace = 1 + random.below(400);
    let (mut now, mut stream) = (START_MS, Vec::<Row>::new());
    for id in 0..rows as i64 {
        if random.one_in(20) && !stream.is_empty() {
            let again = random.below(stream.len() as u64) as usize;
            if stream[again].time_ms + disorder_ms as i64 > now {
                stream.push(stream[again].clone());
                continue;
            }
        }
        now += if random.one_in(50) { random.below(30_000) as i64 } else { random.below(pace) as i64 };
        let back = if random.one_in(3) { random.below(disorder_ms + 1) as i64 } else { 0 };
        let time_ms = if random.one_in(4) { (now - back) / 1_000 * 1_000 } else { now - back };
        stream.push(Row {
            id,
            key: (!random.one_in(10)).then(|| format!("key-{}", random.below(keys))),
            value: (!random.one_in(10)).then(|| random.below(200) as i64 - 50),
            float: (!random.one_in(10)).then(|| random.below(10_000) as f64 / 8.0),
            time_ms,
        });
    }
    stream
}

fn time_text(time_ms: i64) -> String {
    let of_day = time_ms - START_MS;
    let (day, rest) = (1 + of_day.div_euclid(86_400_000), of_day.rem_euclid(86_400_000));
    assert!((0..31).contains(&day), "streams begin on 2024-01-01 and are short");
    let (month, year) = if day == 0 { (12, 2023) } else { (1, 2024) };
    let day = if day == 0 { 31 } else { day };
    let (hours, minutes, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest % 60_000);
    format!("{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}.{:03}", ms / 1_000, ms % 1_000)
}

/// Writes the rows as `name.format`.
pub fn write(dir: &Path, name: &str, format: &str, rows: &[Row]) {
    let path = dir.join(format!("{name}.{format}"));
    match format {
        "parquet" => write_parquet(&path, rows),
        "csv" => {
            let cell = |v: Option<String>| v.unwrap_or_default();
            let line = |r: &Row| {
                let (v, f) = (r.value.map(|v| v.to_string()), r.float.map(|v| v.to_string()));
                format!("{},{},{},{},{}\n", r.id, cell(r.key.clone()), cell(v), cell(f), time_text(r.time_ms))
            };
            let lines: String = rows.iter().map(line).collect();
            std::fs::write(path, format!("id,k,v,f,ts\n{lines}")).expect("a temporary directory can be written");
        }
        _ => {
            let line = |r: &Row| {
                let row = serde_json::json!({
                    "id": r.id, "k": r.key, "v": r.value, "f": r.float, "ts": time_text(r.time_ms), "unread": [1, {}]
                });
                format!("{row}\n")
            };
            std::fs::write(path, rows.iter().map(line).collect::<String>())
                .expect("a temporary directory can be written");
        }
    }
}

fn write_parquet(path: &Path, rows: &[Row]) {
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(rows.iter().map(|r| Some(r.id)).collect::<Int64Array>()), true),
        ("k", Arc::new(rows.iter().map(|r| r.key.clone()).collect::<StringArray>()), true),
        ("v", Arc::new(rows.iter().map(|r| r.value).collect::<Int64Array>()), true),
        ("f", Arc::new(rows.iter().map(|r| r.float).collect::<Float64Array>()), true),
        ("ts", Arc::new(rows.iter().map(|r| Some(r.time_ms * 1_000_000)).collect::<TimestampNanosecondArray>()), true),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("a temporary directory can be written");
    let mut writer = ArrowWriter::try_new(
        std::fs::File::create(path).expect("a temporary directory can be written"),
        batch.schema(),
        None,
    )
    .expect("a temporary directory can be written");
    writer.write(&batch).expect("a temporary directory can be written");
    writer.close().expect("a temporary directory can be written");
}

/// A source in SQL.
pub fn source(name: &str, file: &str, format: &str, delay: &str) -> String {
    format!(
        "CREATE TABLE {name} (id BIGINT, k TEXT, v BIGINT, f DOUBLE, ts TIMESTAMP,
           WATERMARK FOR ts AS ts - INTERVAL '{delay}')
         WITH (connector = 'single_file', format = '{format}', path = '$dir/{file}.{format}');\n"
    )
}

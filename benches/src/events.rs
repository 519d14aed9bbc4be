//! Seeded rows of a time, a key and a number: 10,000 a second of event time.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream::connectors::{Read, Source};
use millstream::time::SECOND;

const ROWS_PER_BATCH: usize = 8192;

/// Declares the rows as a source; where they come from is replaced.
pub const TABLE: &str = "CREATE TABLE events (ts TIMESTAMP NOT NULL, key BIGINT NOT NULL, v BIGINT NOT NULL, \
                         WATERMARK FOR ts) WITH (connector = 'single_file', path = '-', format = 'json'); ";

/// The columns.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("key", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
    ]))
}

/// Batches of rows, made as they are asked for.
#[derive(Debug)]
pub struct Events {
    rows: usize,
    keys: u64,
    from: usize,
    state: u64,
}

impl Events {
    /// So many rows of so many keys.
    pub fn new(rows: usize, keys: u64) -> Self {
        Self { rows, keys, from: 0, state: 7 }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Iterator for Events {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let n = ROWS_PER_BATCH.min(self.rows - self.from);
        if n == 0 {
            return None;
        }
        let ts: Vec<i64> = (self.from..self.from + n).map(|i| 1_700_000_000 * SECOND + i as i64 * 100_000).collect();
        let key: Vec<i64> = (0..n).map(|_| (self.random() % self.keys) as i64).collect();
        let v: Vec<i64> = (0..n).map(|_| (self.random() % 1000) as i64).collect();
        self.from += n;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(ts)),
            Arc::new(Int64Array::from(key)),
            Arc::new(Int64Array::from(v)),
        ];
        Some(RecordBatch::try_new(schema(), columns).expect("columns fit"))
    }
}

impl Source for Events {
    fn read(&mut self) -> millstream::Result<Read> {
        Ok(Read { batch: self.next(), ..Read::default() })
    }
}

//! What is sent: idempotent producers over a network that delays, reorders, doubles and drops.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use millstream::log::{NewEntry, Sequence};
use millstream::time::SECOND;

use crate::random::{Random, hash};

/// When the simulated world begins: 2024-01-01T12:00:00Z, so that one day holds all but the closing rows.
pub const START: i64 = 1_704_110_400 * SECOND;

/// A row of `clicks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: i64,
    pub value: i64,
    pub event_time: i64,
    pub payload: String,
}

/// One producer and what it still has to do.
#[derive(Debug)]
pub struct Producer {
    pub number: usize,
    /// All that it will ever send.
    pub batches: Vec<Vec<Row>>,
    /// The receipts: where each batch is in the log. Contiguous from the first batch.
    pub acknowledged: BTreeMap<u64, u64>,
    /// Sequences sent and not acknowledged: up to here.
    pub sent: u64,
}

/// Sequences in flight at most.
const WINDOW: u64 = 3;

impl Producer {
    /// A producer whose batches the seed gives. The last batch closes every window.
    pub fn new(seed: u64, number: usize, batches: u64) -> Self {
        let mut random = Random(hash(&[seed, number as u64, 77]));
        let batch = |n: u64, random: &mut Random| {
            let rows = 1 + random.below(4);
            (0..rows).map(|i| row(random, n, i, number as u64)).collect::<Vec<_>>()
        };
        let mut batches: Vec<Vec<Row>> = (0..batches).map(|n| batch(n, &mut random)).collect();
        let end = Row { key: 0, value: 0, event_time: START + 86_400 * SECOND, payload: String::new() };
        batches.push(vec![end]);
        Self { number, batches, acknowledged: BTreeMap::new(), sent: 0 }
    }

    /// Its name in the log.
    pub fn name(&self) -> String {
        format!("p{}", self.number)
    }

    /// Whether every batch has its receipt.
    pub fn is_done(&self) -> bool {
        self.acknowledged.len() == self.batches.len()
    }

    fn first_open(&self) -> u64 {
        (1..).find(|s| !self.acknowledged.contains_key(s)).unwrap_or(1)
    }

    /// The next sequence to send: a new one if there is room, else the oldest without a receipt again. `last` is whether
    /// the closing batch may go.
    pub fn next(&mut self, random: &mut Random, last: bool) -> Option<u64> {
        let total = self.batches.len() as u64 - u64::from(!last);
        let open = self.first_open();
        if open > total {
            return None;
        }
        self.sent = self.sent.max(open - 1);
        if self.sent < total && self.sent + 1 < open + WINDOW && !random.one_in(4) {
            self.sent += 1;
            return Some(self.sent);
        }
        Some(open)
    }

    /// The log has forgotten, or has not seen, what comes before: begin with the oldest without a receipt.
    pub fn rewind(&mut self) {
        self.sent = self.first_open() - 1;
    }

    /// The entry of a sequence.
    pub fn entry(&self, sequence: u64) -> NewEntry {
        let rows = &self.batches[sequence as usize - 1];
        let numbers = |f: &dyn Fn(&Row) -> i64| Arc::new(rows.iter().map(f).collect::<Int64Array>()) as ArrayRef;
        let times: TimestampNanosecondArray = rows.iter().map(|r| Some(r.event_time)).collect();
        let payloads: StringArray = rows.iter().map(|r| Some(r.payload.as_str())).collect();
        let columns = [
            ("producer", numbers(&|_| self.number as i64)),
            ("sequence", numbers(&|_| sequence as i64)),
            ("key", numbers(&|r| r.key)),
            ("value", numbers(&|r| r.value)),
            ("payload", Arc::new(payloads) as ArrayRef),
            ("event_time", Arc::new(times) as ArrayRef),
        ];
        NewEntry {
            table: "clicks".into(),
            producer: self.name(),
            sequence: Some(Sequence { epoch: 1, sequence }),
            event_id: None,
            batch: RecordBatch::try_from_iter(columns).expect("columns of one length"),
        }
    }
}

fn row(random: &mut Random, batch: u64, i: u64, producer: u64) -> Row {
    // Mostly in order; one row in five lags by up to half a minute, and some of those are late.
    let lag = if random.one_in(5) { random.below(30) as i64 * SECOND } else { 0 };
    let event_time = START + batch as i64 * 4 * SECOND + random.below(3_000) as i64 * 1_000_000 - lag;
    // Some frames span several sectors.
    let long = if random.one_in(3) { 1_500 } else { 60 };
    let payload = format!("{producer}/{batch}/{i}/{:016x}", random.bits()).repeat(1 + random.below(long) as usize / 20);
    Row { key: random.below(4) as i64, value: random.below(1_000) as i64, event_time, payload }
}

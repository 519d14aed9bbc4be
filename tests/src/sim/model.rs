//! What the tables must hold, computed from the ledger by the definition of a watermark, row by row.

use std::collections::BTreeMap;

use millstream::time::SECOND;

use super::producers::{Producer, Row};

/// The delay of the source's watermark.
const DELAY: i64 = 2 * SECOND;

/// The width of the windows.
const WIDTH: i64 = 10 * SECOND;

/// The tables that belong to an order of batches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `(producer, sequence, key, value, payload)`, in the log's order.
    pub raw: Vec<(i64, i64, i64, i64, String)>,
    /// `(start, key)` to `(rows, total)`.
    pub windows: BTreeMap<(i64, i64), (i64, i64)>,
    /// `(window start, event time, key, value)`, sorted.
    pub late: Vec<(i64, i64, i64, i64)>,
}

/// Runs the acknowledged batches, in the order of their places in the log.
pub fn expected(producers: &[Producer]) -> Tables {
    let mut ledger: Vec<(u64, usize, u64)> = Vec::new();
    for p in producers {
        ledger.extend(p.acknowledged.iter().map(|(sequence, offset)| (*offset, p.number, *sequence)));
    }
    ledger.sort_unstable();
    let mut tables = Tables::default();
    let mut seen: BTreeMap<usize, i64> = BTreeMap::new();
    let mut watermark = i64::MIN;
    for (_, producer, sequence) in ledger {
        for row in &producers[producer].batches[sequence as usize - 1] {
            seen.entry(producer).or_insert(i64::MIN);
            // The place of a row is before its own time counts.
            watermark = watermark.max(seen.values().copied().min().unwrap_or(i64::MIN));
            tables.take(producer, sequence, row, watermark);
            let own = seen.entry(producer).or_insert(i64::MIN);
            *own = (*own).max(row.event_time - DELAY);
        }
        watermark = watermark.max(seen.values().copied().min().unwrap_or(i64::MIN));
    }
    // Windows that the watermark has not passed are not there.
    tables.windows.retain(|(start, _), _| start + WIDTH <= watermark);
    tables.late.sort_unstable();
    tables
}

impl Tables {
    fn take(&mut self, producer: usize, sequence: u64, row: &Row, watermark: i64) {
        self.raw.push((producer as i64, sequence as i64, row.key, row.value, row.payload.clone()));
        let start = row.event_time.div_euclid(WIDTH) * WIDTH;
        if start + WIDTH <= watermark {
            self.late.push((start, row.event_time, row.key, row.value));
            return;
        }
        let window = self.windows.entry((start, row.key)).or_default();
        *window = (window.0 + 1, window.1 + row.value);
    }
}

//! What other engines cost, to be printed beside our figures: CPU-seconds per million rows read.
//!
//! Measured on a machine of this class (2 cores), each engine with 2 threads, its start left out, the CPU of its whole
//! process tree: Nexmark events of the published generator's parameters (1 person to 3 auctions to 46 bids, 10,000 events
//! a second of event time), 10 million of them (1 million where a streaming engine keeps state without bound: q4, q7,
//! q15, q17, q18, q19) from Parquet files, medians of 3. Streaming: clink 0.12 (embedded, C++), Flink 2.3 (one JVM, a
//! block file read without parsing). Batch: DuckDB 2.0, DataFusion 55; a batch may reorder, skip columns and see the end
//! of the input, so it is a limit and no peer.

/// An engine and what it costs.
pub type Figure = (&'static str, f64);

/// A query's best streaming engine and best batch.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The query.
    pub query: &'static str,
    /// The best streaming engine.
    pub streaming: Figure,
    /// The best batch.
    pub batch: Figure,
}

const fn peer(query: &'static str, streaming: Figure, batch: Figure) -> Peer {
    Peer { query, streaming, batch }
}

/// From Parquet files. q12 is on event time.
pub const NEXMARK: [Peer; 13] = [
    peer("q0", ("clink", 0.32), ("DataFusion", 0.15)),
    peer("q1", ("Flink", 0.85), ("DataFusion", 0.22)),
    peer("q2", ("clink", 0.165), ("DuckDB", 0.033)),
    peer("q4", ("Flink", 8.0), ("DuckDB", 0.10)),
    peer("q5", ("clink", 1.71), ("DuckDB", 0.16)),
    peer("q7", ("Flink", 15.0), ("DuckDB", 0.23)),
    peer("q8", ("clink", 2.27), ("DataFusion", 0.11)),
    peer("q11", ("clink", 0.40), ("DuckDB", 0.65)),
    peer("q12", ("clink", 0.36), ("DataFusion", 0.037)),
    peer("q15", ("clink", 11.4), ("DataFusion", 0.23)),
    peer("q17", ("Flink", 8.9), ("DuckDB", 0.13)),
    peer("q18", ("Flink", 8.4), ("DuckDB", 0.67)),
    peer("q19", ("clink", 9.9), ("DuckDB", 0.88)),
];

/// From JSON lines. a1: a one-minute window's count, average and 95th percentile by two texts, of 13 fields.
pub const JSON_LINES: [Peer; 3] = [
    peer("q0", ("Flink", 2.4), ("DataFusion", 0.66)),
    peer("q12", ("Flink", 3.2), ("DuckDB", 0.50)),
    peer("a1", ("Flink", 5.4), ("DuckDB", 0.88)),
];

/// The peers of a query, as two cells of a table.
pub fn cells(peers: &[Peer], query: &str) -> String {
    let shown = |(name, cpu): Figure| format!("{cpu} {name}");
    match peers.iter().find(|p| p.query == query) {
        Some(p) => format!(" {} | {} |", shown(p.streaming), shown(p.batch)),
        None => " | |".to_string(),
    }
}

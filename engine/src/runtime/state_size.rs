//! An hour of event time with keys that never come again: what each stateful query keeps must not grow with it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampNanosecondArray};
use arrow::record_batch::RecordBatch;

use super::lower::Blueprints;
use crate::message::{Message, Rows};
use crate::operators::graph::{Exit, Graph, Next};
use crate::operators::{FILES_MAX, StateChange};
use crate::sql::program::Program;
use crate::time::SECOND;

const ROWS_A_SECOND: i64 = 50;

const TABLES: &str = "
CREATE TABLE t (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts AS ts) WITH (connector = 'ingest');
CREATE TABLE u (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts AS ts) WITH (connector = 'ingest');
CREATE TABLE o WITH (connector = 'blackhole', format = 'debezium_json');
SET updating_ttl = INTERVAL '1 minute';";

const QUERIES: [&str; 19] = [
    "SELECT l.k, r.v FROM (SELECT ts, k, k % 3 AS g FROM t) AS l ASOF JOIN (SELECT ts, v, k % 3 AS g FROM u) AS r MATCH_CONDITION (l.ts >= r.ts) ON l.g = r.g",
    "SELECT k, count(*) AS n FROM t GROUP BY hop(INTERVAL '5 seconds', INTERVAL '30 seconds'), k",
    "SELECT k, count(*) AS n FROM t GROUP BY k",
    "SELECT k, count(DISTINCT v) AS n, array_agg(v) AS l FROM t GROUP BY k",
    "SELECT n, count(*) AS m, max(k) AS k FROM (SELECT k, count(*) AS n FROM t GROUP BY k) GROUP BY n",
    "SELECT DISTINCT k, v FROM t",
    "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY v) AS n FROM t) WHERE n <= 3",
    "SELECT k, v, n FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY v) AS n FROM t) WHERE n <= 3",
    "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts) AS n FROM t) WHERE n = 1",
    "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM t) WHERE n = 1",
    "SELECT k, sum(v) OVER (PARTITION BY k ORDER BY ts) AS s, lag(v) OVER (PARTITION BY k ORDER BY ts) AS b FROM t",
    "SELECT k, sum(v) OVER (PARTITION BY k ORDER BY ts RANGE INTERVAL '10 seconds' PRECEDING) AS s FROM t",
    "SELECT k, sum(v) OVER (PARTITION BY k ORDER BY v DESC) AS s FROM t",
    "SELECT t.k, u.v FROM t JOIN u ON t.k = u.k",
    "SELECT t.k, u.v FROM t FULL JOIN u ON t.k = u.k",
    "SELECT t.k FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k + 1)",
    "SELECT t.k, u.v FROM t LEFT JOIN u ON t.k = u.k AND u.ts BETWEEN t.ts - INTERVAL '10 seconds' AND t.ts + INTERVAL '10 seconds'",
    "SELECT k, first_value(v) AS f, array_agg(v) AS l FROM t GROUP BY hop(INTERVAL '5 seconds', INTERVAL '30 seconds'), k",
    "SELECT k, first_value(v) AS f FROM t GROUP BY session(INTERVAL '30 seconds'), k",
];

/// One worker and the final thread of a query.
struct Running {
    blueprints: Blueprints,
    worker: Graph,
    last: Graph,
}

impl Running {
    fn of(query: &str) -> Self {
        let mut program = Program::default();
        program.execute(&format!("{TABLES}\nINSERT INTO o {query};"), "state_size.sql").unwrap();
        let blueprints = Blueprints::new(&program.pipelines["o"].plan).unwrap();
        let (worker, last) = (blueprints.worker().unwrap(), blueprints.last().unwrap());
        Self { blueprints, worker, last }
    }

    /// Sends a message to every source.
    fn push(&mut self, message: &Message) {
        let entries: Vec<Next> = self.blueprints.entries.iter().map(|(_, next)| *next).collect();
        for entry in entries {
            let mut left = Vec::new();
            let mut leave = |one| {
                left.push(one);
                Ok(())
            };
            self.worker.push(entry, message.clone(), &mut leave).unwrap();
            for (exit, message) in left {
                let Exit::Main(exit) = exit else { panic!("{message:?} is late or failed") };
                self.last.push(self.blueprints.exits[exit], message, &mut |_| Ok(())).unwrap();
            }
        }
        self.last.pause(&mut |_| Ok(())).unwrap();
    }

    fn bytes(&self) -> usize {
        self.worker.state_bytes() + self.last.state_bytes()
    }
}

fn rows(second: i64) -> Rows {
    let keys = || second * ROWS_A_SECOND..(second + 1) * ROWS_A_SECOND;
    let times = || keys().map(|_| second * SECOND);
    let ts: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(times()));
    let k: ArrayRef = Arc::new(Int64Array::from_iter_values(keys()));
    let v: ArrayRef = Arc::new(Int64Array::from_iter_values(keys().map(|k| k % 7)));
    let batch = RecordBatch::try_from_iter_with_nullable([("ts", ts, true), ("k", k, true), ("v", v, true)]).unwrap();
    Rows::new(batch, Int64Array::from_iter_values(times()))
}

#[test]
fn an_hour_of_new_keys_takes_the_memory_of_some_minutes() {
    for query in QUERIES {
        let mut running = Running::of(query);
        let (mut early, mut late) = (0, 0);
        for second in 0..3600 {
            running.push(&Message::Batch(rows(second)));
            running.push(&Message::Watermark(second * SECOND));
            let most = if second < 300 { &mut early } else { &mut late };
            *most = running.bytes().max(*most);
        }
        assert!(early > 0, "{query}: no state at all");
        assert!(
            late <= early * 5 / 4,
            "{query}: {early} bytes in the first five minutes, {late} in the rest of an hour"
        );
        assert!(late < 8 << 20, "{query}: {late} bytes for a minute or two of {ROWS_A_SECOND} keys a second");
    }
}

#[test]
fn a_checkpoint_every_second_leaves_few_files() {
    const WINDOWS: &str =
        "SELECT a.n, b.n AS m FROM (SELECT tumble(INTERVAL '1 hour') AS w, k, count(*) AS n FROM t GROUP BY 1, 2) a
        JOIN (SELECT tumble(INTERVAL '1 hour') AS w, k, count(*) AS n FROM u GROUP BY 1, 2) b ON a.k = b.k";
    for query in
        QUERIES.into_iter().chain([WINDOWS, "SELECT t.k, u.v FROM t JOIN u FOR SYSTEM_TIME AS OF t.ts ON t.k = u.k"])
    {
        let mut running = Running::of(query);
        let mut files = vec![0; running.last.len()];
        for second in 0..150 {
            running.push(&Message::Batch(rows(second)));
            running.push(&Message::Watermark(second * SECOND));
            running.last.barrier(&mut |_| Ok(())).unwrap();
            for (stage, files) in files.iter_mut().enumerate() {
                let parts = |batches: &[RecordBatch]| batches.chunk_by(|a, b| a.schema() == b.schema()).count();
                match running.last.snapshot(stage, *files >= FILES_MAX).unwrap() {
                    StateChange::None => {}
                    StateChange::Append { batches, .. } => *files += parts(&batches),
                    StateChange::Replace(batches) => *files = parts(&batches),
                }
                // One checkpoint may add a file for each part of a state.
                assert!(*files < FILES_MAX + 8, "{query}: {files} files after {second} checkpoints");
            }
        }
    }
}

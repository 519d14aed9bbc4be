//! A sink that takes nothing holds up the source, after as many batches as the queues between the threads hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int64Type;
use serde_json::Value;

use super::pipeline::{PipelineSpec, QUEUE, Target};
use super::sides::Sides;
use super::sources::{Input, SourceSpec};
use super::{Runtime, Setup};
use crate::connectors::{Read, Sink, Source};
use crate::error::Result;
use crate::message::Rows;
use crate::sql::program::Program;
use crate::time::SECOND;

const BATCHES: i64 = 600;
const ROWS: i64 = 10;

/// Rows `0..BATCHES * ROWS`, a batch at a time; counts what was read.
struct Numbers {
    next: i64,
    read: Arc<AtomicI64>,
}

impl Source for Numbers {
    fn read(&mut self) -> Result<Read> {
        if self.next == BATCHES {
            return Ok(Read::default());
        }
        let rows = self.next * ROWS..(self.next + 1) * ROWS;
        self.next += 1;
        self.read.store(self.next, Ordering::SeqCst);
        let ts: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(rows.clone().map(|v| v * SECOND)));
        let v: ArrayRef = Arc::new(Int64Array::from_iter_values(rows));
        let batch = RecordBatch::try_from_iter_with_nullable([("ts", ts, true), ("v", v, true)])?;
        Ok(Read { batch: Some(batch), ..Read::default() })
    }
}

/// Takes a batch when the source has come to a stop.
struct Slow {
    read: Arc<AtomicI64>,
    written: i64,
    ahead: Arc<AtomicI64>,
}

impl Sink for Slow {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        // As far as it comes: a thousand times another thread had its turn, and the source went no further.
        let (mut read, mut turns) = (0, 0);
        while turns < 1_000 {
            std::thread::yield_now();
            let now = self.read.load(Ordering::SeqCst);
            turns = if now == read { turns + 1 } else { 0 };
            read = now;
        }
        self.ahead.fetch_max(read - self.written / ROWS, Ordering::SeqCst);
        for v in rows.batch.column(0).as_primitive::<Int64Type>().values() {
            assert_eq!(*v, self.written, "rows come in the order of the source");
            self.written += 1;
        }
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: u64) -> Result<Value> {
        Ok(Value::Null)
    }

    fn finish(&mut self) -> Result<()> {
        assert_eq!(self.written, BATCHES * ROWS, "every row is there");
        Ok(())
    }
}

#[test]
fn a_sink_that_takes_nothing_holds_up_the_source() {
    for workers in [1, 2, 4] {
        let mut program = Program::default();
        let sql = "CREATE TABLE t (ts TIMESTAMP, v BIGINT, WATERMARK FOR ts AS ts) WITH (connector = 'ingest');
                   CREATE TABLE o WITH (connector = 'blackhole'); INSERT INTO o SELECT v FROM t WHERE v >= 0;";
        program.execute(sql, "back_pressure.sql").unwrap();
        let (read, ahead) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let source = Box::new(Numbers { next: 0, read: read.clone() });
        let sink = Box::new(Slow { read, written: 0, ahead: ahead.clone() });
        let source = SourceSpec {
            table: program.catalog.tables["t"].clone(),
            input: Input::Bounded { source, rate_limit: None, fail_on_bad_data: false },
            rejected: None,
        };
        let pipeline = PipelineSpec {
            name: "o".into(),
            plan: program.pipelines["o"].plan.clone(),
            target: Target { sink, commit: None },
            sides: Sides::default(),
        };
        let runtime = Runtime::start(Setup::new(vec![source], vec![pipeline], workers)).unwrap();
        runtime.join().unwrap();
        // Full queues to and from each worker, and a batch in the hands of each thread.
        let most = workers * (2 * QUEUE + 1) + 2;
        let ahead = ahead.load(Ordering::SeqCst);
        println!("{workers} workers: the source was {ahead} batches ahead, {most} at most");
        assert!((QUEUE as i64..=most as i64).contains(&ahead), "{workers} workers: {ahead} batches ahead, not {most}");
    }
}

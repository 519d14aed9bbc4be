//! The engine's place in these tests: keeps what is appended, and keeps the promises on sequences.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampNanosecondType};
use millstream::{Ack, Append, Error, Result, TableInfo};
use millstream_server::ingest::{MESSAGES, Sink, schema_of};
use tokio::sync::Semaphore;

/// 2090-01-01 in nanoseconds: later events are flagged.
const FUTURE: i64 = 3_786_912_000_000_000_000;

#[derive(Debug)]
pub struct Recorder {
    tables: Vec<TableInfo>,
    state: Mutex<State>,
    /// One permit an append; unbounded unless a test holds it.
    pub gate: Arc<Semaphore>,
    /// Appends that came to the gate.
    pub waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    appends: Vec<Append>,
    last: HashMap<String, (u64, u64, Ack)>,
    failures: VecDeque<Error>,
}

impl Recorder {
    pub fn new() -> Self {
        let mut tables: Vec<TableInfo> = MESSAGES
            .iter()
            .map(|(message, table)| TableInfo {
                name: (*table).into(),
                schema: schema_of(message).unwrap(),
                connector: "ingest".into(),
                event_time: Some("event_time".into()),
            })
            .collect();
        let time = |unit| DataType::Timestamp(unit, None);
        tables.push(TableInfo {
            name: "orders".into(),
            schema: Arc::new(Schema::new(vec![
                Field::new("ordered_at", time(TimeUnit::Nanosecond), true),
                Field::new("customer", DataType::Utf8, false),
                Field::new("units", DataType::Int32, true),
                Field::new("price", DataType::Float64, true),
                Field::new("paid", DataType::Boolean, true),
                Field::new("shipped_at", time(TimeUnit::Microsecond), true),
                Field::new("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true),
            ])),
            connector: "ingest".into(),
            event_time: Some("ordered_at".into()),
        });
        tables.push(TableInfo {
            name: "orders_raw".into(),
            schema: Arc::new(Schema::empty()),
            connector: "lake".into(),
            event_time: None,
        });
        Self {
            tables,
            state: Mutex::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The next appends fail so.
    pub fn fail(&self, errors: impl IntoIterator<Item = Error>) {
        self.state.lock().unwrap().failures.extend(errors);
    }

    /// What was appended, in order.
    pub fn appends(&self) -> Vec<Append> {
        self.state.lock().unwrap().appends.clone()
    }

    /// The only append.
    pub fn appended(&self) -> Append {
        let mut appends = self.appends();
        assert_eq!(appends.len(), 1, "appends");
        appends.remove(0)
    }
}

impl Sink for Recorder {
    async fn append(&self, rows: Append) -> Result<Ack> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.failures.pop_front() {
            return Err(error);
        }
        let table = self.table(&rows.table).unwrap();
        assert_eq!(rows.batch.schema(), table.schema);
        let future = match rows.batch.column_by_name(table.event_time.as_deref().unwrap()) {
            Some(times) => {
                let times = times.as_primitive::<TimestampNanosecondType>();
                (0..times.len() as u32).filter(|i| times.value(*i as usize) > FUTURE).collect()
            }
            None => Vec::new(),
        };
        let ack =
            Ack { offset: state.appends.len() as u64, accepted: rows.batch.num_rows() as u64, duplicates: 0, future };
        if let Some(place) = &rows.sequence {
            let (epoch, last, first) = state.last.get(&rows.producer).cloned().unwrap_or((place.epoch, 0, ack.clone()));
            if place.sequence == last && place.epoch == epoch {
                return Ok(first);
            }
            if place.sequence != last + 1 {
                let message = format!("batch {} came but {} is next; send from there", place.sequence, last + 1);
                return Err(Error::event("OUT_OF_ORDER", message));
            }
            state.last.insert(rows.producer.clone(), (place.epoch, place.sequence, ack.clone()));
        }
        state.appends.push(rows);
        Ok(ack)
    }

    fn table(&self, name: &str) -> Option<TableInfo> {
        self.tables.iter().find(|table| table.name == name).cloned()
    }

    fn tables(&self) -> Vec<TableInfo> {
        self.tables.clone()
    }
}

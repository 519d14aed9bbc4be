//! `connector = 'nexmark'`: the events of an online auction, made up on the spot, for benchmarks and examples.
//!
//! Of every 50 events one is a new person, three are new auctions and 46 are bids (Tucker, Tufte, Papadimos, Maier:
//! "NEXMark, a benchmark for queries over data streams"), with the parameters that Beam and Flink have made customary.
//! An event is a pure function of the seed and its number, so a restart computes where it was and generates nothing
//! again, and any split into batches gives the same rows.
//!
//! | option | meaning |
//! |---|---|
//! | `table` | `bid`, `auction` or `person`: the rows are those events. Without it a row is any event, in struct columns `person`, `auction` and `bid`, of which one is not null, and `datetime` |
//! | `events` | events of all three kinds together, made as fast as they are read |
//! | `event_rate` | events per second of event time, 10,000 by default; without `events` also per second of the clock |
//! | `runtime` | without `events`: seconds until the source ends; else it never does |
//! | `seed` | other numbers give other events; 0 by default |
//! | `first_event_time` | the event time of event 0, `2015-07-15T00:00:00Z` by default |
//! | `batch_events` | events that one batch covers, 10,000 by default; tables of one run step together |
//!
//! Columns left out of `CREATE TABLE` come from here; named ones may be a subset. `datetime` is the event time, if
//! nothing else is said. Columns that are not asked for are not generated.

mod events;
mod text;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::options::Options;
use super::{Read, Source};
use crate::error::{Error, Result};
use events::Events;

/// The event time of the first event in Beam's configuration.
const FIRST_EVENT_TIME: &str = "2015-07-15T00:00:00Z";
const EVENT_RATE: f64 = 10_000.0;
const BATCH_EVENTS: u64 = 10_000;
const BATCH_EVENTS_MAX: u64 = 1_000_000;

/// The column that is the event time if nothing else is said.
pub const EVENT_TIME: &str = "datetime";

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Person,
    Auction,
    Bid,
}

const KINDS: [Kind; 3] = [Kind::Person, Kind::Auction, Kind::Bid];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }

    /// Columns with a letter for the type: `i` integer, `s` string, `t` timestamp.
    fn columns(self) -> &'static [(&'static str, char)] {
        match self {
            Self::Person => &[
                ("id", 'i'),
                ("name", 's'),
                ("emailaddress", 's'),
                ("creditcard", 's'),
                ("city", 's'),
                ("state", 's'),
                ("datetime", 't'),
                ("extra", 's'),
            ],
            Self::Auction => &[
                ("id", 'i'),
                ("itemname", 's'),
                ("description", 's'),
                ("initialbid", 'i'),
                ("reserve", 'i'),
                ("datetime", 't'),
                ("expires", 't'),
                ("seller", 'i'),
                ("category", 'i'),
                ("extra", 's'),
            ],
            Self::Bid => &[
                ("auction", 'i'),
                ("bidder", 'i'),
                ("price", 'i'),
                ("channel", 's'),
                ("url", 's'),
                ("datetime", 't'),
                ("extra", 's'),
            ],
        }
    }

    fn fields(self, nullable: bool) -> Fields {
        let time = || DataType::Timestamp(TimeUnit::Nanosecond, None);
        let field = |(name, letter): &(&str, char)| {
            let data_type = match letter {
                'i' => DataType::Int64,
                't' => time(),
                _ => DataType::Utf8,
            };
            Field::new(*name, data_type, nullable)
        };
        self.columns().iter().map(field).collect()
    }

    /// The fields of a struct, under the names they have in Arroyo.
    fn nested_fields(self) -> Fields {
        let rename = |f: &Arc<Field>| {
            let name = match f.name().as_str() {
                "emailaddress" => "email_address",
                "creditcard" => "credit_card",
                "itemname" => "item_name",
                "initialbid" => "initial_bid",
                name => name,
            };
            f.as_ref().clone().with_name(name)
        };
        self.fields(true).iter().map(rename).collect()
    }
}

/// The options of the source.
#[derive(Debug, Clone)]
pub struct NexmarkOptions {
    kind: Option<Kind>,
    events_end: u64,
    event_rate: f64,
    paced: bool,
    seed: u64,
    first_event_time: i64,
    batch_events: u64,
}

impl NexmarkOptions {
    /// Takes the connector's options.
    pub fn from_options(options: &mut Options) -> Result<Self> {
        let kind = match options.word("table", &["bid", "auction", "person"])?.as_deref() {
            Some("bid") => Some(Kind::Bid),
            Some("auction") => Some(Kind::Auction),
            Some(_) => Some(Kind::Person),
            None => None,
        };
        let events = options.whole("events")?;
        let event_rate = options.positive("event_rate")?;
        let runtime_s = options.positive("runtime")?;
        if events.is_some() && runtime_s.is_some() {
            return Err(Error::sql("connector 'nexmark' takes either events or runtime, not both"));
        }
        if events.is_none() && event_rate.is_none() {
            return Err(Error::sql(
                "connector 'nexmark' needs the option events = N, or event_rate = N for a source paced by the clock",
            ));
        }
        let event_rate = event_rate.unwrap_or(EVENT_RATE);
        let events_end = match (events, runtime_s) {
            (Some(events), _) => events,
            (None, Some(seconds)) => (seconds * event_rate).ceil() as u64,
            (None, None) => u64::MAX,
        };
        let text = options.text("first_event_time")?;
        let first_event_time =
            string_to_timestamp_nanos(text.as_deref().unwrap_or(FIRST_EVENT_TIME)).map_err(|_| {
                Error::sql("option 'first_event_time' must be a time such as '2026-01-01T00:00:00Z'".to_string())
            })?;
        let batch_events = options.whole("batch_events")?.unwrap_or(BATCH_EVENTS);
        if !(1..=BATCH_EVENTS_MAX).contains(&batch_events) {
            return Err(Error::sql(format!("option 'batch_events' must be from 1 to {BATCH_EVENTS_MAX}")));
        }
        let seed = options.whole("seed")?.unwrap_or(0);
        Ok(Self { kind, events_end, event_rate, paced: events.is_none(), seed, first_event_time, batch_events })
    }

    /// All columns that the source has.
    pub fn columns(&self) -> SchemaRef {
        let fields = match self.kind {
            Some(kind) => kind.fields(false),
            None => {
                let nested = KINDS.map(|k| Field::new(k.name(), DataType::Struct(k.nested_fields()), true));
                let time = Field::new(EVENT_TIME, DataType::Timestamp(TimeUnit::Nanosecond, None), false);
                nested.into_iter().chain([time]).collect()
            }
        };
        Arc::new(Schema::new(fields))
    }

    /// Rows a second at most; `None`: as fast as they are read.
    pub fn rate_limit(&self) -> Option<f64> {
        let share = match self.kind {
            Some(Kind::Person) => 1.0 / 50.0,
            Some(Kind::Auction) => 3.0 / 50.0,
            Some(Kind::Bid) => 46.0 / 50.0,
            None => 1.0,
        };
        self.paced.then_some(self.event_rate * share)
    }

    /// A source of `schema`'s columns.
    pub fn open(&self, schema: SchemaRef) -> Result<Box<dyn Source>> {
        let known = self.columns();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let Some((place, _)) = known.column_with_name(field.name()) else {
                let names = known.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
                let of = self.kind.map_or("nexmark".to_string(), |k| format!("nexmark '{}'", k.name()));
                return Err(Error::sql(format!("{of} has no column '{}'; it has: {names}", field.name())));
            };
            columns.push(place);
        }
        let events = Events::new(self.seed, self.first_event_time, self.event_rate);
        Ok(Box::new(Nexmark { options: self.clone(), events, schema, known, columns, next: 0 }))
    }
}

/// The source.
struct Nexmark {
    options: NexmarkOptions,
    events: Events,
    schema: SchemaRef,
    known: SchemaRef,
    /// For each column of `schema` its place in `known`.
    columns: Vec<usize>,
    /// The number of the next event.
    next: u64,
}

impl Source for Nexmark {
    fn read(&mut self) -> Result<Read> {
        if self.next >= self.options.events_end {
            return Ok(Read::default());
        }
        let end = self.next.saturating_add(self.options.batch_events).min(self.options.events_end);
        let range = self.next..end;
        self.next = end;
        let batch = match self.options.kind {
            Some(kind) => self.flat(kind, range)?,
            None => self.nested(range)?,
        };
        Ok(Read { batch: Some(batch), ..Read::default() })
    }

    fn skip(&mut self, batches: u64) -> Result<bool> {
        let covered = batches.saturating_mul(self.options.batch_events);
        self.next = covered.min(self.options.events_end);
        Ok(batches <= self.options.events_end.div_ceil(self.options.batch_events))
    }
}

impl Nexmark {
    fn flat(&self, kind: Kind, range: Range<u64>) -> Result<RecordBatch> {
        let numbers = events::numbers(kind, range);
        self.batch(numbers.len(), |place| self.events.column(kind, kind.columns().get(place)?.0, &numbers))
    }

    fn nested(&self, range: Range<u64>) -> Result<RecordBatch> {
        let rows = (range.end - range.start) as usize;
        self.batch(rows, |place| match KINDS.get(place) {
            Some(kind) => self.column_of_structs(*kind, range.clone()),
            None => Some(self.events.times(&range.clone().collect::<Vec<_>>())),
        })
    }

    /// A struct for every event of the range, null where the event is of another kind.
    fn column_of_structs(&self, kind: Kind, range: Range<u64>) -> Option<ArrayRef> {
        let numbers = events::numbers(kind, range.clone());
        let mut at = 0;
        let place = |n: u64| {
            let own = events::kind(n) == kind;
            at += u32::from(own);
            own.then(|| at - 1)
        };
        let indices: UInt32Array = range.map(place).collect();
        let children = kind
            .columns()
            .iter()
            .map(|(name, _)| take(&self.events.column(kind, name, &numbers)?, &indices, None).ok())
            .collect::<Option<Vec<_>>>()?;
        let nulls = indices.nulls().cloned().unwrap_or_else(|| NullBuffer::new_valid(indices.len()));
        StructArray::try_new(kind.nested_fields(), children, Some(nulls)).ok().map(|a| Arc::new(a) as ArrayRef)
    }

    fn batch(&self, rows: usize, generate: impl Fn(usize) -> Option<ArrayRef>) -> Result<RecordBatch> {
        let column = |(place, field): (&usize, &Arc<Field>)| {
            let name = || self.known.fields().get(*place).map_or(String::new(), |f| f.name().clone());
            let array = generate(*place).ok_or_else(|| Error::Bug(format!("nexmark column {}", name())))?;
            Ok(if array.data_type() == field.data_type() { array } else { cast(&array, field.data_type())? })
        };
        let columns = self.columns.iter().zip(self.schema.fields()).map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

#[cfg(test)]
mod tests;

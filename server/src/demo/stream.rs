//! What one producer sends: batches of encoded events, and the manner in which a real client sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream::time::{EventTime, SECOND};
use millstream::{Error, Result};
use millstream_proto::envelope::EventBatch;
use millstream_proto::envelope::ingest_client::IngestClient;
use millstream_proto::v1::{self, event_batch::Events};
use tonic::metadata::MetadataValue;

use crate::ingest::client::{Client, ClientError, Options, Totals};

/// Rows of one batch.
const BATCH_ROWS: usize = 500;

/// A typed event of one table.
pub trait Typed: Sized {
    /// Its table.
    const TABLE: &'static str;
    /// Rows as the batch carries them.
    fn wrap(events: Vec<Self>) -> Events;
    /// When it happened; `None` for a broken event.
    fn time(&self) -> Option<EventTime>;
}

macro_rules! typed {
    ($event:ident, $rows:ident, $variant:ident, $table:literal) => {
        impl Typed for v1::$event {
            const TABLE: &'static str = $table;

            fn wrap(events: Vec<Self>) -> Events {
                Events::$variant(v1::$rows { events })
            }

            fn time(&self) -> Option<EventTime> {
                self.event_time.as_ref().map(|t| t.seconds * SECOND + i64::from(t.nanos))
            }
        }
    };
}

typed!(IdeEvent, IdeEvents, Ide, "ide_events");
typed!(WorkflowEvent, WorkflowEvents, Workflow, "workflow_events");
typed!(ApiEvent, ApiEvents, Api, "api_events");
typed!(AgentEvent, AgentEvents, Agent, "agent_events");
typed!(MarketplaceEvent, MarketplaceEvents, Marketplace, "marketplace_events");
typed!(SubscriptionEvent, SubscriptionEvents, Subscription, "subscription_events");
typed!(PaymentEvent, PaymentEvents, Payment, "payment_events");
typed!(PriceEvent, PriceEvents, Price, "price_events");
typed!(CostEvent, CostEvents, Cost, "cost_events");
typed!(StorageEvent, StorageEvents, Storage, "storage_events");
typed!(IncidentEvent, IncidentEvents, Incident, "incident_events");
typed!(IdentityEvent, IdentityEvents, Identity, "identity_events");

/// How a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Every batch once.
    Steady,
    /// It loses its connection halfway and, not knowing what has arrived, sends everything again under the same numbers.
    Restarts,
    /// Without numbers, as a browser does; every third batch goes out twice, and the events' ids tell.
    Unnumbered,
}

/// Everything that one producer sends to one table.
#[derive(Debug)]
pub struct Stream {
    /// The table.
    pub table: &'static str,
    /// The producer's name.
    pub producer: String,
    /// How it sends.
    pub manner: Manner,
    /// The time of its earliest event.
    pub first: EventTime,
    /// The time of its last event.
    pub last: EventTime,
    /// Rows in all batches, each counted once.
    pub rows: u64,
    batches: Vec<(EventBatch, u64)>,
}

/// What the receipts of some producers add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipts {
    /// Rows that were put on the wire, those sent again included.
    pub sent: u64,
    /// Rows that were written.
    pub accepted: u64,
    /// Rows that were there already.
    pub duplicates: u64,
    /// Rows that were refused.
    pub rejected: u64,
}

impl Receipts {
    /// Adds up.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.rejected += other.rejected;
    }
}

/// The server, as a producer sees it, and how many rows have their receipt.
#[derive(Debug, Clone)]
pub struct Target {
    /// `http://host:port` of the gRPC face.
    pub endpoint: String,
    /// An API key for producers.
    pub key: String,
    /// Rows with a receipt, over all producers.
    pub acknowledged: Arc<AtomicU64>,
}

impl Stream {
    /// Packs events in the order in which they are sent.
    pub fn new<E: Typed>(producer: impl Into<String>, manner: Manner, events: Vec<E>) -> Self {
        let (mut first, mut last, mut rows) = (EventTime::MAX, EventTime::MIN, 0);
        let mut batches = Vec::new();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let batch: Vec<E> = events.by_ref().take(BATCH_ROWS).collect();
            for time in batch.iter().filter_map(E::time) {
                (first, last) = (first.min(time), last.max(time));
            }
            let count = batch.len() as u64;
            rows += count;
            let batch = v1::EventBatch { events: Some(E::wrap(batch)), ..Default::default() };
            batches.push((EventBatch::from(batch), count));
        }
        Self { table: E::TABLE, producer: producer.into(), manner, first, last, rows, batches }
    }

    /// Batches of the first half: what a restarting producer sends twice.
    fn half(&self) -> usize {
        self.batches.len().div_ceil(2)
    }

    /// Rows that this producer sends a second time.
    pub fn resent(&self) -> u64 {
        let rows = |batches: &mut dyn Iterator<Item = &(EventBatch, u64)>| batches.map(|(_, rows)| rows).sum();
        match self.manner {
            Manner::Steady => 0,
            Manner::Restarts => rows(&mut self.batches.iter().take(self.half())),
            Manner::Unnumbered => rows(&mut self.batches.iter().step_by(3)),
        }
    }

    /// Sends everything; returns when every batch has its receipt.
    pub async fn send(&self, target: &Target) -> Result<Receipts> {
        let totals = match self.manner {
            Manner::Steady => self.send_first(self.batches.len(), target).await?,
            Manner::Restarts => {
                let mut totals = self.send_first(self.half(), target).await?;
                let again = self.send_first(self.batches.len(), target).await?;
                totals.accepted += again.accepted;
                totals.duplicates += again.duplicates;
                totals.rejected += again.rejected;
                totals
            }
            Manner::Unnumbered => self.send_unnumbered(target).await?,
        };
        let Totals { accepted, duplicates, rejected, .. } = totals;
        Ok(Receipts { sent: self.rows + self.resent(), accepted, duplicates, rejected })
    }

    async fn send_first(&self, count: usize, target: &Target) -> Result<Totals> {
        let acknowledged = target.acknowledged.clone();
        let options = Options::new(&target.endpoint, &target.key, &self.producer, 1);
        let mut client = Client::start(options, move |ack| {
            acknowledged.fetch_add(ack.accepted + ack.duplicates + ack.rejected_rows, Ordering::Relaxed);
        })
        .map_err(client_error)?;
        for (batch, _) in self.batches.iter().take(count) {
            if !client.send_encoded(batch.clone()).await {
                break;
            }
        }
        client.finish().await.map_err(client_error)
    }

    async fn send_unnumbered(&self, target: &Target) -> Result<Totals> {
        let failed = |e: &dyn std::fmt::Display| Error::Storage(format!("producer {}: {e}", self.producer));
        let mut client = IngestClient::connect(target.endpoint.clone()).await.map_err(|e| failed(&e))?;
        let authorization = MetadataValue::try_from(format!("Bearer {}", target.key)).map_err(|e| failed(&e))?;
        let mut totals = Totals::default();
        for (index, (batch, _)) in self.batches.iter().enumerate() {
            for _ in 0..if index % 3 == 0 { 2 } else { 1 } {
                let batch = EventBatch { producer: self.producer.clone(), ..batch.clone() };
                let mut request = tonic::Request::new(batch);
                request.metadata_mut().insert("authorization", authorization.clone());
                let ack = client.send(request).await.map_err(|e| failed(&e.message()))?.into_inner();
                totals.accepted += ack.accepted;
                totals.duplicates += ack.duplicates;
                totals.rejected += ack.rejected_rows;
                let rows = ack.accepted + ack.duplicates + ack.rejected_rows;
                target.acknowledged.fetch_add(rows, Ordering::Relaxed);
            }
        }
        Ok(totals)
    }
}

/// A time of an event, on the wire.
pub fn timestamp(time: EventTime) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: time.div_euclid(SECOND), nanos: time.rem_euclid(SECOND) as i32 })
}

fn client_error(error: ClientError) -> Error {
    match error {
        ClientError::Options(message) => Error::Config(message),
        error => Error::Storage(error.to_string()),
    }
}

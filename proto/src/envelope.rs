//! The ingest service over batches whose rows are still encoded: the same bytes on the wire, decoded once and only once.
//!
//! The server decodes rows straight into columns, and a client that keeps batches for retries clones them for nothing.

use bytes::Bytes;
use prost::Message;

use crate::v1;

/// `millstream.v1.EventBatch` with its rows left as bytes. Exactly one of the row fields is set.
#[derive(Clone, PartialEq, Message)]
pub struct EventBatch {
    /// As in `millstream.v1.EventBatch`.
    #[prost(string, tag = "1")]
    pub producer: String,
    /// As in `millstream.v1.EventBatch`.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// As in `millstream.v1.EventBatch`.
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    /// As in `millstream.v1.EventBatch`.
    #[prost(message, optional, tag = "4")]
    pub sent_at: Option<prost_types::Timestamp>,
    /// An encoded `IdeEvents`.
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub ide: Option<Bytes>,
    /// An encoded `WorkflowEvents`.
    #[prost(bytes = "bytes", optional, tag = "11")]
    pub workflow: Option<Bytes>,
    /// An encoded `ApiEvents`.
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub api: Option<Bytes>,
    /// An encoded `AgentEvents`.
    #[prost(bytes = "bytes", optional, tag = "13")]
    pub agent: Option<Bytes>,
    /// An encoded `MarketplaceEvents`.
    #[prost(bytes = "bytes", optional, tag = "14")]
    pub marketplace: Option<Bytes>,
    /// An encoded `SubscriptionEvents`.
    #[prost(bytes = "bytes", optional, tag = "15")]
    pub subscription: Option<Bytes>,
    /// An encoded `PaymentEvents`.
    #[prost(bytes = "bytes", optional, tag = "16")]
    pub payment: Option<Bytes>,
    /// An encoded `PriceEvents`.
    #[prost(bytes = "bytes", optional, tag = "17")]
    pub price: Option<Bytes>,
    /// An encoded `CostEvents`.
    #[prost(bytes = "bytes", optional, tag = "18")]
    pub cost: Option<Bytes>,
    /// An encoded `StorageEvents`.
    #[prost(bytes = "bytes", optional, tag = "19")]
    pub storage: Option<Bytes>,
    /// An encoded `IncidentEvents`.
    #[prost(bytes = "bytes", optional, tag = "20")]
    pub incident: Option<Bytes>,
    /// An encoded `IdentityEvents`.
    #[prost(bytes = "bytes", optional, tag = "21")]
    pub identity: Option<Bytes>,
    /// An encoded `JsonRows`.
    #[prost(bytes = "bytes", optional, tag = "30")]
    pub json: Option<Bytes>,
    /// An encoded `ArrowRows`.
    #[prost(bytes = "bytes", optional, tag = "31")]
    pub arrow: Option<Bytes>,
}

impl From<v1::EventBatch> for EventBatch {
    fn from(batch: v1::EventBatch) -> Self {
        use v1::event_batch::Events;
        let mut envelope = Self {
            producer: batch.producer,
            epoch: batch.epoch,
            sequence: batch.sequence,
            sent_at: batch.sent_at,
            ..Self::default()
        };
        match batch.events {
            Some(Events::Ide(rows)) => envelope.ide = Some(rows.encode_to_vec().into()),
            Some(Events::Workflow(rows)) => envelope.workflow = Some(rows.encode_to_vec().into()),
            Some(Events::Api(rows)) => envelope.api = Some(rows.encode_to_vec().into()),
            Some(Events::Agent(rows)) => envelope.agent = Some(rows.encode_to_vec().into()),
            Some(Events::Marketplace(rows)) => envelope.marketplace = Some(rows.encode_to_vec().into()),
            Some(Events::Subscription(rows)) => envelope.subscription = Some(rows.encode_to_vec().into()),
            Some(Events::Payment(rows)) => envelope.payment = Some(rows.encode_to_vec().into()),
            Some(Events::Price(rows)) => envelope.price = Some(rows.encode_to_vec().into()),
            Some(Events::Cost(rows)) => envelope.cost = Some(rows.encode_to_vec().into()),
            Some(Events::Storage(rows)) => envelope.storage = Some(rows.encode_to_vec().into()),
            Some(Events::Incident(rows)) => envelope.incident = Some(rows.encode_to_vec().into()),
            Some(Events::Identity(rows)) => envelope.identity = Some(rows.encode_to_vec().into()),
            Some(Events::Json(rows)) => envelope.json = Some(rows.encode_to_vec().into()),
            Some(Events::Arrow(rows)) => envelope.arrow = Some(rows.encode_to_vec().into()),
            None => {}
        }
        envelope
    }
}

#[allow(missing_docs, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/envelope/millstream.v1.rs"));
}

pub use generated::{ingest_client, ingest_server};

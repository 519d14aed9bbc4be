//! Sends the outbox to Millstream, each event once.
//!
//! One sender works at a time: whoever holds the lease in `outbox_sender`. Should one that lost it go on for a moment,
//! nothing is doubled: both send the same rows under the same number.

use std::time::Duration;

use millstream_proto::envelope::EventBatch;
use millstream_proto::envelope::ingest_client::IngestClient;
use millstream_proto::v1::{self, event_batch::Events};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::Event;
use crate::clock::Clock;
use crate::config::Millstream;
use crate::db::{Db, new_id};
use crate::problem::{Problem, Result};

/// Rows of one batch.
const BATCH_ROWS_MAX: i64 = 500;
/// A sender that was killed is followed by the next after so long.
const LEASE_MS: i64 = 3_000;
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing more is sent.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The server does not answer, or is busy: try again.
    #[error("Millstream does not take events now ({0}); they wait in the database")]
    Busy(String),
    /// The server refuses the batch for good.
    #[error("Millstream refuses events ({code}): {message}; {fix}")]
    Refused {
        /// The server's stable word.
        code: String,
        /// What it says.
        message: String,
        /// What to do.
        fix: &'static str,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Problem),
}

/// A batch with its number.
struct Batch {
    epoch: i64,
    sequence: i64,
    events: Vec<Event>,
}

/// The one who sends.
#[derive(Debug)]
pub struct Sender {
    db: Db,
    clock: Clock,
    producer: String,
    holder: String,
    key: MetadataValue<tonic::metadata::Ascii>,
    client: IngestClient<Channel>,
}

impl Sender {
    /// Ready to send; connects when there is something.
    pub fn new(db: Db, clock: Clock, to: &Millstream) -> Result<Self> {
        let url = to.ingest_url.clone().ok_or_else(|| Problem::invalid("millstream.ingest_url is missing"))?;
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|e| Problem::invalid(format!("millstream.ingest_url '{url}': {e}; write http://host:port")))?
            .connect_timeout(Duration::from_secs(5))
            .timeout(SEND_TIMEOUT);
        let key = MetadataValue::try_from(format!("Bearer {}", to.ingest_key))
            .map_err(|_| Problem::invalid("millstream.ingest_key has characters that no key has; check it"))?;
        let client = IngestClient::new(endpoint.connect_lazy());
        Ok(Self { db, clock, producer: to.producer.clone(), holder: new_id(), key, client })
    }

    /// Sends until the outbox is empty; gives how many events went.
    pub async fn drain(&mut self) -> Result<u64, SenderError> {
        let mut sent = 0;
        while let Some(batch) = self.next_batch().await? {
            let events = batch.events.len() as u64;
            self.send(&batch).await?;
            self.forget(batch.sequence).await?;
            sent += events;
        }
        Ok(sent)
    }

    /// The oldest batch without a receipt, or a new one; none if there is nothing, or another one sends.
    async fn next_batch(&self) -> Result<Option<Batch>> {
        let now = self.clock.now_ms();
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "INSERT INTO outbox_sender (producer, epoch, sequence, holder, lease_until) VALUES ($1, 1, 0, '', 0)
             ON CONFLICT (producer) DO NOTHING",
        )
        .bind(&self.producer)
        .execute(tx.on())
        .await?;
        // The row stays locked until the commit: no two senders number rows at once.
        let held: Option<(i64, i64)> = sqlx::query_as(
            "UPDATE outbox_sender SET holder = $1, lease_until = $2
             WHERE producer = $3 AND (holder = $1 OR lease_until < $4) RETURNING epoch, sequence",
        )
        .bind(&self.holder)
        .bind(now + LEASE_MS)
        .bind(&self.producer)
        .bind(now)
        .fetch_optional(tx.on())
        .await?;
        let Some((epoch, last)) = held else { return Ok(None) };
        let (oldest,): (Option<i64>,) = sqlx::query_as("SELECT min(sequence) FROM outbox").fetch_one(tx.on()).await?;
        let sequence = match oldest {
            Some(sequence) => sequence,
            None => {
                let numbered = sqlx::query(
                    "UPDATE outbox SET sequence = $1 WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $2)",
                )
                .bind(last + 1)
                .bind(BATCH_ROWS_MAX)
                .execute(tx.on())
                .await?;
                if numbered.rows_affected() == 0 {
                    return Ok(None);
                }
                sqlx::query("UPDATE outbox_sender SET sequence = $1 WHERE producer = $2")
                    .bind(last + 1)
                    .bind(&self.producer)
                    .execute(tx.on())
                    .await?;
                last + 1
            }
        };
        let rows: Vec<(String,)> = sqlx::query_as("SELECT event FROM outbox WHERE sequence = $1 ORDER BY id")
            .bind(sequence)
            .fetch_all(tx.on())
            .await?;
        tx.commit().await?;
        let events = rows.iter().map(|(text,)| serde_json::from_str(text)).collect::<Result<_, _>>()?;
        Ok(Some(Batch { epoch, sequence, events }))
    }

    async fn send(&mut self, batch: &Batch) -> Result<(), SenderError> {
        let events = batch.events.iter().map(to_proto).collect();
        let mut envelope: EventBatch = v1::EventBatch {
            events: Some(Events::Marketplace(v1::MarketplaceEvents { events })),
            ..Default::default()
        }
        .into();
        envelope.producer.clone_from(&self.producer);
        envelope.epoch = batch.epoch.cast_unsigned();
        envelope.sequence = batch.sequence.cast_unsigned();
        envelope.sent_at = Some(timestamp(self.clock.now_ms()));
        let mut request = Request::new(envelope);
        request.metadata_mut().insert("authorization", self.key.clone());
        let ack = self.client.send(request).await.map_err(refusal)?.into_inner();
        if ack.rejected_rows > 0 {
            let first = ack.rejected.first().map(|r| format!("{}: {}", r.code, r.message)).unwrap_or_default();
            tracing::error!(rows = ack.rejected_rows, first, "Millstream put events into marketplace_events__rejected");
        }
        Ok(())
    }

    async fn forget(&self, sequence: i64) -> Result<()> {
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM outbox WHERE sequence = $1").bind(sequence).execute(tx.on()).await?;
        tx.commit().await
    }
}

/// Begins a new epoch: for when Millstream lost its log, or this database was restored from a copy. Batches without a
/// receipt are numbered anew, so those that Millstream has already come twice: the operator decides.
pub async fn renumber(db: &Db, producer: &str) -> Result<i64> {
    let mut tx = db.begin().await?;
    let epoch: Option<(i64,)> =
        sqlx::query_as("UPDATE outbox_sender SET epoch = epoch + 1, sequence = 0 WHERE producer = $1 RETURNING epoch")
            .bind(producer)
            .fetch_optional(tx.on())
            .await?;
    sqlx::query("UPDATE outbox SET sequence = NULL").execute(tx.on()).await?;
    tx.commit().await?;
    epoch.map(|(e,)| e).ok_or_else(|| Problem::not_found(format!("the producer '{producer}' never sent anything")))
}

fn refusal(status: tonic::Status) -> SenderError {
    use tonic::Code;
    let code = status.metadata().get("millstream-code").and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
    let fix = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => "give millstream.ingest_key a key of the role producer",
        Code::FailedPrecondition | Code::OutOfRange | Code::InvalidArgument | Code::Aborted => {
            "compare both machines; if Millstream lost its data, run `marketplace renumber`"
        }
        _ => return SenderError::Busy(status.message().to_string()),
    };
    SenderError::Refused { code, message: status.message().to_string(), fix }
}

fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 }
}

fn to_proto(event: &Event) -> v1::MarketplaceEvent {
    let mut properties = event.properties.clone();
    let mut price_usd = None;
    if let Some(minor) = event.amount_minor {
        properties.insert("amount_minor".into(), minor.to_string());
        properties.insert("currency".into(), event.currency.clone());
        price_usd = (event.currency == "usd").then_some(minor as f64 / 100.0);
    }
    v1::MarketplaceEvent {
        event_id: event.id.clone(),
        event_time: Some(timestamp(event.at)),
        user_id: event.user.clone(),
        anonymous_id: event.anonymous.clone(),
        source_version: env!("CARGO_PKG_VERSION").to_string(),
        name: event.name.clone(),
        properties: properties.into_iter().collect(),
        agent: event.agent.clone(),
        agent_version: event.version.clone(),
        publisher_id: event.publisher.clone(),
        category: event.category.clone(),
        search_text: event.search_text.clone(),
        price_usd,
        rating: event.stars,
        status: v1::Status::Ok.into(),
        referrer: event.referrer.clone(),
        tier: event.tier.clone(),
        ..Default::default()
    }
}

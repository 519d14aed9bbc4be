//! A producer: numbers its batches, keeps some in flight, and sends again what has no receipt, so that every row arrives once.
//!
//! The order never changes and no batch is dropped: after a lost connection or a busy server, everything without a receipt is
//! sent again from the oldest on, and the server knows what it has by (producer, epoch, sequence).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream::time::{Clock, SECOND, SystemClock};
use millstream_proto::envelope::EventBatch;
use millstream_proto::envelope::ingest_client::IngestClient;
use millstream_proto::v1::{self, event_batch::Events};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::status::{CODE_METADATA, retry_after_ms};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Whom to send to, and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://host:port`, or `https://host:port` for TLS.
    pub endpoint: String,
    /// The certificate authority to trust, PEM; needed for https.
    pub tls_ca: Option<Vec<u8>>,
    /// The API key.
    pub key: String,
    /// The producer's name, the same on every run.
    pub producer: String,
    /// Greater than on every earlier run of this producer: the caller keeps it. Sequences begin at 1 in each.
    pub epoch: u64,
    /// Batches without receipt at once; [`Client::send`] waits at the bound.
    pub in_flight_max: usize,
    /// How long to try without one receipt before giving up.
    pub give_up_after: Duration,
}

impl Options {
    /// A producer with 32 batches in flight that gives up after a minute.
    pub fn new(endpoint: impl Into<String>, key: impl Into<String>, producer: impl Into<String>, epoch: u64) -> Self {
        Self {
            endpoint: endpoint.into(),
            tls_ca: None,
            key: key.into(),
            producer: producer.into(),
            epoch,
            in_flight_max: 32,
            give_up_after: Duration::from_secs(60),
        }
    }
}

/// Why a producer stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The options cannot be used.
    #[error("{0}")]
    Options(String),
    /// The server refused a batch for good. Batches before it have receipts.
    #[error("{message}")]
    Refused {
        /// The server's stable word, such as `OUT_OF_ORDER`.
        code: String,
        /// What was wrong and how to mend it.
        message: String,
    },
    /// No receipt came for `give_up_after`.
    #[error("no answer from {endpoint} for {seconds} s; {unsent} batches have no receipt; last error: {message}")]
    Unreachable {
        /// Whom we tried.
        endpoint: String,
        /// How long.
        seconds: u64,
        /// Batches that may or may not have arrived.
        unsent: usize,
        /// What happened last.
        message: String,
    },
}

/// What all receipts of a producer say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Batches with a receipt.
    pub batches: u64,
    /// Rows that were written.
    pub accepted: u64,
    /// Rows that were there already.
    pub duplicates: u64,
    /// Rows that were refused.
    pub rejected: u64,
    /// Connections that were made: more than one means that batches were sent again.
    pub connections: u64,
}

/// A producer that sends in the background.
#[derive(Debug)]
pub struct Client {
    outgoing: mpsc::UnboundedSender<EventBatch>,
    permits: Arc<Semaphore>,
    driver: JoinHandle<Result<Totals, ClientError>>,
    producer: String,
    epoch: u64,
    sequence: u64,
}

impl Client {
    /// Starts a producer; `on_ack` sees every receipt, in order. Must be called within a Tokio runtime.
    ///
    /// *Errors*: `Options` for a bad endpoint or key; that nobody answers is seen later.
    pub fn start(options: Options, on_ack: impl FnMut(&v1::Ack) + Send + 'static) -> Result<Self, ClientError> {
        let endpoint = endpoint_of(&options)?;
        let authorization = MetadataValue::try_from(format!("Bearer {}", options.key))
            .map_err(|_| ClientError::Options("the API key has characters that no key has; check it".into()))?;
        // The permits bound this queue.
        let (outgoing, batches) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(options.in_flight_max.max(1)));
        let (producer, epoch) = (options.producer.clone(), options.epoch);
        let driver = Driver {
            options,
            endpoint,
            authorization,
            batches,
            all_queued: false,
            unacknowledged: VecDeque::new(),
            permits: permits.clone(),
            on_ack: Box::new(on_ack),
            totals: Totals::default(),
        };
        let driver = tokio::spawn(driver.run());
        Ok(Self { outgoing, permits, driver, producer, epoch, sequence: 0 })
    }

    /// Queues one batch; waits while `in_flight_max` batches have no receipt. False if the producer has stopped: then
    /// [`Client::finish`] says why.
    pub async fn send(&mut self, events: Events) -> bool {
        let batch = v1::EventBatch { events: Some(events), ..Default::default() };
        self.send_encoded(batch.into()).await
    }

    /// As [`Client::send`] for rows that are encoded already; everything else in `batch` is filled in here.
    pub async fn send_encoded(&mut self, mut batch: EventBatch) -> bool {
        let Ok(permit) = self.permits.acquire().await else { return false };
        permit.forget();
        self.sequence += 1;
        batch.producer.clone_from(&self.producer);
        batch.epoch = self.epoch;
        batch.sequence = self.sequence;
        self.outgoing.send(batch).is_ok()
    }

    /// Waits until everything has its receipt.
    ///
    /// *Errors*: why the producer stopped before.
    pub async fn finish(self) -> Result<Totals, ClientError> {
        drop(self.outgoing);
        match self.driver.await {
            Ok(outcome) => outcome,
            Err(e) => Err(ClientError::Options(format!("the producer's task ended early: {e}"))),
        }
    }
}

fn endpoint_of(options: &Options) -> Result<Endpoint, ClientError> {
    let bad = |e: tonic::transport::Error| {
        ClientError::Options(format!(
            "endpoint '{}' cannot be used ({e}); write http://host:port or https://host:port",
            options.endpoint
        ))
    };
    let endpoint = Endpoint::from_shared(options.endpoint.clone()).map_err(bad)?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .http2_keep_alive_interval(Duration::from_secs(30));
    let Some(ca) = &options.tls_ca else { return Ok(endpoint) };
    super::choose_tls_provider();
    endpoint.tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca))).map_err(bad)
}

struct Driver {
    options: Options,
    endpoint: Endpoint,
    authorization: MetadataValue<tonic::metadata::Ascii>,
    batches: mpsc::UnboundedReceiver<EventBatch>,
    /// The caller is done: `batches` is closed and empty.
    all_queued: bool,
    unacknowledged: VecDeque<EventBatch>,
    permits: Arc<Semaphore>,
    on_ack: Box<dyn FnMut(&v1::Ack) + Send>,
    totals: Totals,
}

impl Driver {
    async fn run(mut self) -> Result<Totals, ClientError> {
        let outcome = self.drive().await;
        self.permits.close();
        outcome.map(|()| self.totals)
    }

    async fn drive(&mut self) -> Result<(), ClientError> {
        let mut backoff = BACKOFF_MIN;
        let mut progress = Instant::now();
        loop {
            // Idle: a connection is made, and patience counted, from the first batch that has no receipt.
            if self.unacknowledged.is_empty() {
                let Some(batch) = self.batches.recv().await else { return Ok(()) };
                self.take(batch);
                progress = Instant::now();
            }
            let batches = self.totals.batches;
            let Err(status) = self.session().await else { return Ok(()) };
            if !worth_retrying(&status) {
                let code = status.metadata().get(CODE_METADATA).and_then(|code| code.to_str().ok());
                let code = code.map_or_else(|| format!("{:?}", status.code()), str::to_string);
                return Err(ClientError::Refused { code, message: status.message().to_string() });
            }
            if self.totals.batches > batches {
                (backoff, progress) = (BACKOFF_MIN, Instant::now());
            }
            let waited = progress.elapsed();
            if waited >= self.options.give_up_after {
                return Err(ClientError::Unreachable {
                    endpoint: self.options.endpoint.clone(),
                    seconds: waited.as_secs(),
                    unsent: self.unacknowledged.len(),
                    message: status.message().to_string(),
                });
            }
            tracing::debug!("ingest client: {status}; trying again");
            tokio::time::sleep(retry_after_ms(&status).map_or(backoff, Duration::from_millis)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One connection: sends again what has no receipt, then what comes, until all is acknowledged or something fails.
    async fn session(&mut self) -> Result<(), Status> {
        let channel: Channel =
            self.endpoint.connect().await.map_err(|e| Status::unavailable(format!("cannot connect: {}", chain(&e))))?;
        self.totals.connections += 1;
        // Never full: the permits bound what has no receipt.
        let (outgoing, requests) = mpsc::channel(self.options.in_flight_max.max(1));
        for batch in &self.unacknowledged {
            let _ = outgoing.send(batch.clone()).await;
        }
        let mut request = Request::new(ReceiverStream::new(requests));
        request.metadata_mut().insert("authorization", self.authorization.clone());
        let mut acks = IngestClient::new(channel).stream(request).await?.into_inner();
        let patience = self.options.give_up_after;
        while !(self.all_queued && self.unacknowledged.is_empty()) {
            tokio::select! {
                batch = self.batches.recv(), if !self.all_queued => match batch {
                    Some(batch) => {
                        let batch = self.take(batch);
                        // It fails only if the call has ended; then the receipts' stream says why.
                        let _ = outgoing.send(batch).await;
                    }
                    None => self.all_queued = true,
                },
                ack = acks.message() => match ack? {
                    Some(ack) => self.acknowledge(&ack).await?,
                    None => return Err(Status::unavailable("the server ended the stream")),
                },
                () = tokio::time::sleep(patience), if !self.unacknowledged.is_empty() => {
                    return Err(Status::deadline_exceeded("the server sends no receipts"));
                }
            }
        }
        Ok(())
    }

    /// Keeps a batch until its receipt comes.
    fn take(&mut self, mut batch: EventBatch) -> EventBatch {
        batch.sent_at = Some(now());
        self.unacknowledged.push_back(batch.clone());
        batch
    }

    async fn acknowledge(&mut self, ack: &v1::Ack) -> Result<(), Status> {
        if self.unacknowledged.front().is_none_or(|batch| batch.sequence != ack.sequence) {
            return Err(Status::data_loss(format!("a receipt for batch {} came out of order", ack.sequence)));
        }
        self.unacknowledged.pop_front();
        self.permits.add_permits(1);
        self.totals.batches += 1;
        self.totals.accepted += ack.accepted;
        self.totals.duplicates += ack.duplicates;
        self.totals.rejected += ack.rejected_rows;
        (self.on_ack)(ack);
        if ack.retry_after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(ack.retry_after_ms).min(BACKOFF_MAX)).await;
        }
        Ok(())
    }
}

/// Whether the same batches may succeed later. A status without our word comes from the transport.
fn worth_retrying(status: &Status) -> bool {
    let from_server = status.metadata().get(CODE_METADATA).is_some();
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted => true,
        Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded => !from_server,
        _ => false,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}

fn now() -> prost_types::Timestamp {
    let now = SystemClock.now();
    prost_types::Timestamp { seconds: now.div_euclid(SECOND), nanos: now.rem_euclid(SECOND) as i32 }
}

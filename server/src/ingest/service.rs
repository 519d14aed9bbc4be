//! The gRPC service: keys, limits, many batches in flight, receipts in order, an orderly stop.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use millstream::{Append, Error, ProducerSequence, Result, TableInfo};
use millstream_proto::envelope::EventBatch;
use millstream_proto::envelope::ingest_server::{Ingest, IngestServer};
use millstream_proto::v1;
use prost::Message;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use super::decode::{Decoder, MESSAGES};
use super::status::{retry, status, status_of};
use super::{Decoded, IngestConfig, Sink, ipc, json};
use crate::connections::Places;
use crate::keys::{Denied, KeyId, Keys, Role};

/// Rejected and flagged rows that a receipt lists: a receipt must stay far below the client's message limit.
const LISTED_ROWS_MAX: usize = 1_000;

/// When to come back if all bytes in flight are taken: they are on their way to a disk, which takes milliseconds.
const BUSY_RETRY_MS: u64 = 50;

/// The longest name of a producer, bytes: the log keeps every producer's name.
const PRODUCER_BYTES_MAX: usize = 256;

/// How long open calls may take to end once the server is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves ingest, and `others` beside it, on `listener` until `shutdown` ends. Then nothing more is read, batches in flight get their receipts, and
/// streams end with UNAVAILABLE, which a client takes as "connect again".
///
/// *Errors*: `Config` for bad bounds or a certificate that cannot be used, `Storage` if the listener fails.
pub async fn serve<S: Sink>(
    sink: Arc<S>,
    keys: Arc<Keys>,
    config: IngestConfig,
    listener: TcpListener,
    others: Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    config.check()?;
    let tls = tls_of(&config)?;
    let (stop, stopping) = watch::channel(false);
    let (message_bytes_max, places) = (config.message_bytes_max, Places::new(config.connections_max));
    let service = Service::new(sink, keys.clone(), config, stopping.clone());
    let server = IngestServer::new(service).max_decoding_message_size(message_bytes_max);
    // Before the body is read: who has no key cannot make us hold one.
    let server = InterceptedService::new(server, move |request| authenticate(&keys, request));
    let mut builder = Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        // A batch is tens of kilobytes: fewer, larger frames than the default of 16 KiB.
        .max_frame_size(Some(256 << 10))
        .max_concurrent_streams(256)
        .http2_keepalive_interval(Some(Duration::from_secs(30)));
    if let Some(tls) = tls {
        builder =
            builder.tls_config(tls).map_err(|e| Error::Config(format!("ingest.tls_cert, ingest.tls_key: {e}")))?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let incoming = stream::unfold((incoming, places), |(mut incoming, places)| async move {
        let place = places.take().await;
        let connection = incoming.next().await?.map(|io| places.hold(io, place));
        Some((connection, (incoming, places)))
    });
    let stopped = async {
        shutdown.await;
        let _ = stop.send(true);
    };
    let serving = builder.add_routes(others).add_service(server).serve_with_incoming_shutdown(incoming, stopped);
    let mut forced = stopping;
    let give_up = async {
        // A client that does not read its receipts must not keep the server from stopping.
        let _ = forced.wait_for(|stop| *stop).await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => served.map_err(|e| Error::Storage(format!("the gRPC listener failed: {e}"))),
        () = give_up => Ok(()),
    }
}

fn tls_of(config: &IngestConfig) -> Result<Option<ServerTlsConfig>> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let read = |name: &str, path: &std::path::Path| {
        std::fs::read(path).map_err(|e| Error::Config(format!("ingest.{name}: cannot read {}: {e}", path.display())))
    };
    super::choose_tls_provider();
    let identity = Identity::from_pem(read("tls_cert", cert)?, read("tls_key", key)?);
    Ok(Some(ServerTlsConfig::new().identity(identity)))
}

/// Lets a call through whose key may send.
pub(crate) fn authenticate(keys: &Keys, mut request: Request<()>) -> Result<Request<()>, Status> {
    let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let id = keys.authenticate(header, &[Role::Producer]).map_err(denied)?;
    request.extensions_mut().insert(id);
    Ok(request)
}

/// Why a key was refused, for the client.
pub(crate) fn denied(denied: Denied) -> Status {
    match denied {
        Denied::Unauthenticated(message) => status(Code::Unauthenticated, "UNAUTHENTICATED", message),
        Denied::Forbidden(message) => status(Code::PermissionDenied, "FORBIDDEN", message),
        Denied::TooMany { message, retry_after_ms } => {
            retry(Code::ResourceExhausted, "RATE_LIMIT", message, retry_after_ms)
        }
        Denied::Storage(message) => retry(Code::Unavailable, "STORAGE", message, 1_000),
    }
}

/// The ingest service over a sink.
#[derive(Debug)]
pub struct Service<S> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    sink: Arc<S>,
    keys: Arc<Keys>,
    config: IngestConfig,
    /// One permit a byte of a request in flight.
    bytes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
    /// By table. Replaced when the table's columns change.
    decoders: Mutex<HashMap<&'static str, Arc<Decoder>>>,
}

impl<S: Sink> Service<S> {
    /// A service; `stopping` turns true when the server is to stop.
    pub fn new(sink: Arc<S>, keys: Arc<Keys>, config: IngestConfig, stopping: watch::Receiver<bool>) -> Self {
        let bytes = Arc::new(Semaphore::new(config.bytes_in_flight_max));
        let streams = Arc::new(Semaphore::new(config.streams_max));
        Self { shared: Arc::new(Shared { sink, keys, config, bytes, streams, stopping, decoders: Mutex::default() }) }
    }
}

impl<S: Sink> Service<S> {
    /// Rows that came in another product's protocol; they take the way of every batch.
    pub async fn send_json(
        &self,
        key: KeyId,
        table: &str,
        producer: &str,
        rows: Vec<Value>,
    ) -> Result<v1::Ack, Status> {
        let rows = rows.into_iter().map(|row| Bytes::from(row.to_string())).collect();
        let rows = v1::JsonRows { table: table.to_string(), rows };
        // The unit of the watermark: one key is one application.
        let producer = format!("{producer}/{}", key.name);
        let batch = EventBatch { producer, json: Some(rows.encode_to_vec().into()), ..EventBatch::default() };
        let mut call = Request::new(batch);
        call.extensions_mut().insert(key);
        self.send(call).await.map(Response::into_inner)
    }
}

#[tonic::async_trait]
impl<S: Sink> Ingest for Service<S> {
    async fn send(&self, request: Request<EventBatch>) -> Result<Response<v1::Ack>, Status> {
        let shared = &self.shared;
        let id = key_of(&request)?;
        shared.keys.take(&id, shared.config.requests_per_second_per_key).map_err(denied)?;
        let batch = request.into_inner();
        let size = size_of(&batch);
        let _permit = shared.bytes.clone().try_acquire_many_owned(size).map_err(|_| {
            let bytes = shared.config.bytes_in_flight_max;
            retry(
                Code::ResourceExhausted,
                "BUSY",
                format!("requests of {bytes} bytes are in flight already"),
                BUSY_RETRY_MS,
            )
        })?;
        Ok(Response::new(shared.append(batch).await?))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<v1::Ack, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<EventBatch>>) -> Result<Response<Self::StreamStream>, Status> {
        let shared = self.shared.clone();
        let id = key_of(&request)?;
        let permit = shared.streams.clone().try_acquire_owned().map_err(|_| {
            let streams = shared.config.streams_max;
            retry(Code::ResourceExhausted, "BUSY", format!("{streams} streams are open already"), 1_000)
        })?;
        let stopping = shared.stopping.clone();
        let reader = Reader { shared: shared.clone(), id, incoming: request.into_inner(), stopping, _stream: permit };
        let batches = stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await? {
                Ok(batch) => Some((Ok(batch), Some(reader))),
                Err(status) => Some((Err(status), None)),
            }
        });
        // `buffered` polls the appends for the first time in the order of the batches, and yields in that order.
        let in_flight_max = shared.config.batches_in_flight_max;
        let acks = batches.map(move |read| {
            let shared = shared.clone();
            async move {
                let (batch, _permit) = read?;
                shared.append(batch).await
            }
        });
        Ok(Response::new(Box::pin(acks.buffered(in_flight_max))))
    }
}

/// The key that [`authenticate`] found.
pub(crate) fn key_of<T>(request: &Request<T>) -> Result<KeyId, Status> {
    let id = request.extensions().get::<KeyId>().cloned();
    id.ok_or_else(|| status(Code::Unauthenticated, "UNAUTHENTICATED", "no API key"))
}

/// What a request takes of the bytes in flight.
fn size_of(batch: &EventBatch) -> u32 {
    u32::try_from(batch.encoded_len()).unwrap_or(u32::MAX)
}

/// Reads one stream, no faster than the limits allow.
struct Reader<S> {
    shared: Arc<Shared<S>>,
    id: KeyId,
    incoming: Streaming<EventBatch>,
    stopping: watch::Receiver<bool>,
    _stream: OwnedSemaphorePermit,
}

impl<S: Sink> Reader<S> {
    async fn next(&mut self) -> Option<Result<(EventBatch, OwnedSemaphorePermit), Status>> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => {
                let message = "the server is stopping; connect again and send what has no receipt";
                Some(Err(retry(Code::Unavailable, "STOPPED", message, 1_000)))
            }
            read = self.read() => read.transpose(),
        }
    }

    async fn read(&mut self) -> Result<Option<(EventBatch, OwnedSemaphorePermit)>, Status> {
        let shared = &self.shared;
        let batch = match self.incoming.message().await {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(None),
            Err(e) if e.code() == Code::OutOfRange => {
                let bytes = shared.config.message_bytes_max;
                let message =
                    format!("the batch is larger than {bytes} bytes (ingest.message_bytes_max); send it in parts");
                return Err(status(Code::OutOfRange, "TOO_LARGE", message));
            }
            Err(e) => return Err(e),
        };
        loop {
            match shared.keys.take(&self.id, shared.config.requests_per_second_per_key) {
                Ok(()) => break,
                Err(Denied::TooMany { retry_after_ms, .. }) => {
                    tokio::time::sleep(Duration::from_millis(retry_after_ms.max(1))).await;
                }
                Err(e) => return Err(denied(e)),
            }
        }
        let permit = shared.bytes.clone().acquire_many_owned(size_of(&batch)).await;
        let permit = permit.map_err(|_| retry(Code::Unavailable, "STOPPED", "the server is stopping", 1_000))?;
        Ok(Some((batch, permit)))
    }
}

impl<S: Sink> Shared<S> {
    async fn append(&self, batch: EventBatch) -> Result<v1::Ack, Status> {
        self.try_append(batch).await.map_err(|e| {
            if matches!(e, Error::Bug(_) | Error::Storage(_) | Error::Corrupt(_)) {
                tracing::error!("ingest: {e}");
            }
            status_of(&e)
        })
    }

    async fn try_append(&self, batch: EventBatch) -> Result<v1::Ack> {
        let sequence = sequence_of(&batch)?;
        let (table, decoded) = self.decode(&batch)?;
        let indices = decoded.request_indices();
        let Decoded { batch: rows, rejected, .. } = decoded;
        let kept = rejected
            .iter()
            .map(|row| (row.index, row.refusal.code.to_string(), row.refusal.message.clone(), row.raw.to_vec()));
        let append = Append {
            table: table.name,
            producer: batch.producer.clone(),
            sequence,
            batch: rows,
            rejected: kept.collect(),
        };
        let receipt = self.sink.append(append).await?;
        let listed = rejected.iter().take(LISTED_ROWS_MAX).map(|row| v1::Rejected {
            index: row.index,
            code: row.refusal.code.into(),
            message: row.refusal.message.clone(),
        });
        let flagged = receipt.future.iter().take(LISTED_ROWS_MAX).map(|row| v1::Flagged {
            index: indices.get(*row as usize).copied().unwrap_or(*row),
            code: "FUTURE_EVENT".into(),
            message: "the event's time is further ahead than the table allows; it was accepted but does not move the watermark; check the producer's clock".into(),
        });
        let busy = self.bytes.available_permits() < self.config.bytes_in_flight_max / 4;
        Ok(v1::Ack {
            producer: batch.producer,
            epoch: batch.epoch,
            sequence: batch.sequence,
            accepted: receipt.accepted,
            duplicates: receipt.duplicates,
            rejected: listed.collect(),
            flagged: flagged.collect(),
            log_offset: receipt.offset,
            retry_after_ms: if busy { BUSY_RETRY_MS } else { 0 },
            rejected_rows: rejected.len() as u64,
        })
    }

    fn decode(&self, batch: &EventBatch) -> Result<(TableInfo, Decoded)> {
        let rows_max = self.config.batch_rows_max;
        match rows_of(batch)? {
            Rows::Typed { message, table: name, events } => {
                let table = find_table(&*self.sink, name)?;
                let decoder = self.decoder(message, name, &table)?;
                Ok((table, decoder.decode(events, rows_max)?))
            }
            Rows::Json(rows) => {
                let rows = v1::JsonRows::decode(rows.clone()).map_err(|e| malformed("JsonRows", &e))?;
                let table = find_table(&*self.sink, &rows.table)?;
                let decoded = json::decode(&table, &rows.rows, rows_max)?;
                Ok((table, decoded))
            }
            Rows::Arrow(rows) => {
                let rows = v1::ArrowRows::decode(rows.clone()).map_err(|e| malformed("ArrowRows", &e))?;
                let table = find_table(&*self.sink, &rows.table)?;
                let decoded = ipc::decode(&table, rows.ipc_stream, rows_max)?;
                Ok((table, decoded))
            }
        }
    }

    fn decoder(&self, message: &'static str, name: &'static str, table: &TableInfo) -> Result<Arc<Decoder>> {
        let mut decoders = self.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoder) = decoders.get(name)
            && (Arc::ptr_eq(decoder.schema(), &table.schema) || *decoder.schema() == table.schema)
        {
            return Ok(decoder.clone());
        }
        let decoder = Arc::new(Decoder::new(message, &table.schema, table.event_time.as_deref())?);
        decoders.insert(name, decoder.clone());
        Ok(decoder)
    }
}

fn malformed(what: &str, e: &prost::DecodeError) -> Error {
    Error::event("MALFORMED", format!("the batch is not a valid {what}: {e}"))
}

fn sequence_of(batch: &EventBatch) -> Result<Option<ProducerSequence>> {
    if batch.producer.len() > PRODUCER_BYTES_MAX {
        let message = format!("the producer's name has more than {PRODUCER_BYTES_MAX} bytes; choose a shorter one");
        return Err(Error::event("INVALID_PRODUCER", message));
    }
    if batch.sequence == 0 {
        return Ok(None);
    }
    if batch.producer.is_empty() {
        let message = "a sequence needs a producer's name; set producer, or leave sequence 0";
        return Err(Error::event("INVALID_PRODUCER", message));
    }
    Ok(Some(ProducerSequence { epoch: batch.epoch, sequence: batch.sequence }))
}

enum Rows<'a> {
    Typed { message: &'static str, table: &'static str, events: &'a Bytes },
    Json(&'a Bytes),
    Arrow(&'a Bytes),
}

/// The rows of a batch: exactly one kind.
fn rows_of(batch: &EventBatch) -> Result<Rows<'_>> {
    let typed = [
        &batch.ide,
        &batch.workflow,
        &batch.api,
        &batch.agent,
        &batch.marketplace,
        &batch.subscription,
        &batch.payment,
        &batch.price,
        &batch.cost,
        &batch.storage,
        &batch.incident,
        &batch.identity,
    ];
    let mut found = Vec::with_capacity(1);
    for ((message, table), events) in MESSAGES.into_iter().zip(typed) {
        found.extend(events.as_ref().map(|events| Rows::Typed { message, table, events }));
    }
    found.extend(batch.json.as_ref().map(Rows::Json));
    found.extend(batch.arrow.as_ref().map(Rows::Arrow));
    match (found.pop(), found.is_empty()) {
        (Some(rows), true) => Ok(rows),
        (None, _) => {
            Err(Error::event("EMPTY_BATCH", "the batch has no rows of a kind known here; set one of its `events`"))
        }
        (Some(_), false) => {
            Err(Error::event("MALFORMED", "the batch has rows of several kinds; send one batch a table"))
        }
    }
}

/// The table that takes rows under `name`.
///
/// *Errors*: `UNKNOWN_TABLE` naming the nearest ones, `NOT_INGEST` for a table that is filled otherwise.
pub fn find_table<S: Sink>(sink: &S, name: &str) -> Result<TableInfo> {
    if let Some(table) = sink.table(name) {
        if table.connector == "ingest" {
            return Ok(table);
        }
        let message = format!(
            "table {name} has connector = '{}' and takes no rows from outside; use one with connector = 'ingest'",
            table.connector
        );
        return Err(Error::event("NOT_INGEST", message));
    }
    // A client's name may be of any length.
    let shown: String = name.chars().take(100).collect();
    let mut names: Vec<(usize, String)> = (sink.tables().into_iter().filter(|table| table.connector == "ingest"))
        .map(|table| (strsim::levenshtein(&shown, &table.name), table.name))
        .collect();
    names.sort();
    let near: Vec<String> = names.into_iter().take(3).map(|(_, name)| name).collect();
    let message = match near.as_slice() {
        [] => format!("there is no table '{shown}', nor any with connector = 'ingest'; declare it in SQL"),
        near => format!("there is no table '{shown}'; nearest with connector = 'ingest': {}", near.join(", ")),
    };
    Err(Error::event("UNKNOWN_TABLE", message))
}

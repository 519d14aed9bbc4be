//! Keys, sizes, rates and failures.

use std::sync::atomic::Ordering;

use millstream::Error;
use millstream_proto::v1::event_batch::Events;
use millstream_proto::v1::{EventBatch, IdeEvent, IdeEvents, JsonRows};
use millstream_server::ingest::{IngestConfig, RETRY_METADATA};
use millstream_server::keys::Role;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::{Running, failure};

fn one_event() -> Events {
    let event_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    Events::Ide(IdeEvents { events: vec![IdeEvent { event_id: "e".into(), event_time, ..Default::default() }] })
}

fn batch(sequence: u64) -> EventBatch {
    EventBatch { producer: "p".into(), sequence, events: Some(one_event()), ..Default::default() }
}

async fn send_as(server: &Running, authorization: Option<&str>) -> (Code, String, String) {
    let mut request = Request::new(batch(0));
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    failure(server.client().await.send(request).await.map(tonic::Response::into_inner))
}

#[tokio::test]
async fn only_producers_and_admins_may_send() {
    let server = Running::start(IngestConfig::default()).await;
    let denied = |message: &str| (Code::Unauthenticated, "UNAUTHENTICATED".to_string(), message.to_string());
    let none = "no API key; send the header authorization: Bearer millstream_... (`millstream keys create` makes one)";
    assert_eq!(send_as(&server, None).await, denied(none));
    assert_eq!(send_as(&server, Some("Basic abc")).await, denied(none));
    let unknown = "the API key is not known here; check it, or make one with `millstream keys create`";
    assert_eq!(send_as(&server, Some("Bearer millstream_0000")).await, denied(unknown));

    let analyst = server.keys.create("ana", Role::Analyst, None).unwrap();
    let forbidden = "the API key 'ana' has the role analyst; this needs producer or admin";
    let outcome = send_as(&server, Some(&format!("Bearer {analyst}"))).await;
    assert_eq!(outcome, (Code::PermissionDenied, "FORBIDDEN".into(), forbidden.into()));

    let old = server.keys.create("old", Role::Producer, Some("2020-01-01T00:00:00Z")).unwrap();
    let expired = "the API key 'old' expired at 2020-01-01T00:00:00Z; ask for another";
    assert_eq!(send_as(&server, Some(&format!("Bearer {old}"))).await, denied(expired));

    server.send(one_event()).await.unwrap();
    server.keys.revoke("plugin").unwrap();
    let (code, word, message) = failure(server.send(one_event()).await);
    assert_eq!((code, word.as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
    assert!(message.starts_with("the API key 'plugin' was revoked at "), "{message}");
    assert_eq!(server.recorder.appends().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_its_streams() {
    let server = Running::start(IngestConfig::default()).await;
    let (outgoing, requests) = tokio::sync::mpsc::channel(4);
    let mut client = server.client().await;
    let request = server.request(tokio_stream::wrappers::ReceiverStream::new(requests));
    let mut acks = client.stream(request).await.unwrap().into_inner();
    outgoing.send(batch(1)).await.unwrap();
    assert_eq!(acks.message().await.unwrap().unwrap().sequence, 1);
    server.keys.revoke("plugin").unwrap();
    outgoing.send(batch(2)).await.unwrap();
    assert_eq!(acks.message().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_oversized_batch_is_refused() {
    let config = IngestConfig { message_bytes_max: 100_000, batch_rows_max: 10, ..IngestConfig::default() };
    let server = Running::start(config).await;
    let rows = |bytes: usize| Events::Json(JsonRows { table: "orders".into(), rows: vec![vec![b' '; bytes].into()] });
    let (code, _, message) = failure(server.send(rows(200_000)).await);
    assert_eq!(code, Code::OutOfRange);
    assert_eq!(message, "Error, decoded message length too large: found 200020 bytes, the limit is: 100000 bytes");
    // A stream says what to do.
    let big = EventBatch { events: Some(rows(200_000)), ..Default::default() };
    let request = server.request(tokio_stream::iter([batch(0), big]));
    let mut acks = server.client().await.stream(request).await.unwrap().into_inner();
    assert_eq!(acks.message().await.unwrap().unwrap().accepted, 1);
    let status = acks.message().await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(status.message(), "the batch is larger than 100000 bytes (ingest.message_bytes_max); send it in parts");

    let many = Events::Json(JsonRows { table: "orders".into(), rows: vec![b"{}".to_vec().into(); 11] });
    let message = "TOO_MANY_ROWS: the batch has 11 rows, more than 10; send it in parts";
    assert_eq!(failure(server.send(many).await), (Code::InvalidArgument, "TOO_MANY_ROWS".into(), message.into()));
}

#[tokio::test]
async fn errors_of_the_engine_tell_who_must_act() {
    let server = Running::start(IngestConfig::default()).await;
    let cases = [
        (
            Error::event("STALE_EPOCH", "raise it"),
            Code::FailedPrecondition,
            "STALE_EPOCH",
            "STALE_EPOCH: raise it",
            None,
        ),
        (
            Error::event("UNKNOWN_PRODUCER", "begin at 1"),
            Code::FailedPrecondition,
            "UNKNOWN_PRODUCER",
            "UNKNOWN_PRODUCER: begin at 1",
            None,
        ),
        (Error::Storage("disk full".into()), Code::Unavailable, "STORAGE", "storage: disk full", Some(1_000)),
        (Error::Stopped("closing".into()), Code::Unavailable, "STOPPED", "stopped: closing", Some(1_000)),
        (
            Error::Limit { message: "queue".into(), retry_after_ms: 250 },
            Code::ResourceExhausted,
            "LIMIT",
            "limit: queue (try again in 250 ms)",
            Some(250),
        ),
        (Error::Config("bad".into()), Code::FailedPrecondition, "CONFIG", "configuration: bad", None),
        (Error::Corrupt("bits".into()), Code::DataLoss, "CORRUPT", "corrupt: bits", None),
        (Error::Bug("ours".into()), Code::Internal, "INTERNAL", "internal error, please report it: ours", None),
    ];
    for (error, code, word, message, retry_ms) in cases {
        server.recorder.fail([error]);
        let status = server.send(one_event()).await.unwrap_err();
        let retry = status.metadata().get(RETRY_METADATA).map(|ms| ms.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(retry, retry_ms, "{word}");
        // google.rpc.RetryInfo within google.rpc.Status, for clients that know only that.
        let details = status.details().windows(9).any(|bytes| bytes == b"RetryInfo");
        assert_eq!(details, retry_ms.is_some(), "{word}");
        assert_eq!(failure(Err(status)), (code, word.to_string(), message.to_string()));
    }
    let outcome = server.client().await.send(server.request(batch(7))).await.map(tonic::Response::into_inner);
    let message = "OUT_OF_ORDER: batch 7 came but 1 is next; send from there";
    assert_eq!(failure(outcome), (Code::FailedPrecondition, "OUT_OF_ORDER".into(), message.into()));
    let names = [
        ("".into(), "INVALID_PRODUCER: a sequence needs a producer's name; set producer, or leave sequence 0"),
        ("p".repeat(257), "INVALID_PRODUCER: the producer's name has more than 256 bytes; choose a shorter one"),
    ];
    for (producer, message) in names {
        let named = EventBatch { producer, ..batch(1) };
        let outcome = server.client().await.send(server.request(named)).await.map(tonic::Response::into_inner);
        assert_eq!(failure(outcome), (Code::InvalidArgument, "INVALID_PRODUCER".into(), message.into()));
    }
}

#[tokio::test]
async fn a_key_that_sends_too_fast_is_told_when_to_come_back() {
    let server = Running::start(IngestConfig { requests_per_second_per_key: 1, ..IngestConfig::default() }).await;
    server.send(one_event()).await.unwrap();
    let status = server.send(one_event()).await.unwrap_err();
    let wait: u64 = status.metadata().get(RETRY_METADATA).unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=1_000).contains(&wait));
    let message = "the API key 'plugin' sends more than 1 requests a second".to_string();
    assert_eq!(failure(Err(status)), (Code::ResourceExhausted, "RATE_LIMIT".into(), message));
}

#[tokio::test]
async fn bytes_and_streams_in_flight_are_bounded() {
    let config = IngestConfig {
        message_bytes_max: 1 << 10,
        bytes_in_flight_max: 1 << 10,
        streams_max: 1,
        ..IngestConfig::default()
    };
    let server = Running::start(config).await;
    let all = server.recorder.gate.available_permits();
    server.recorder.gate.forget_permits(all);
    let rows = || Events::Json(JsonRows { table: "orders".into(), rows: vec![vec![b' '; 900].into()] });
    let first = server.request(EventBatch { events: Some(rows()), ..Default::default() });
    let mut client = server.client().await;
    let first = tokio::spawn(async move { client.send(first).await });
    while server.recorder.waiting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let message = "requests of 1024 bytes are in flight already".to_string();
    assert_eq!(failure(server.send(rows()).await), (Code::ResourceExhausted, "BUSY".into(), message));
    server.recorder.gate.add_permits(10);
    first.await.unwrap().unwrap();

    let open = server.request(tokio_stream::pending::<EventBatch>());
    let _held = server.client().await.stream(open).await.unwrap();
    let status: Status =
        server.client().await.stream(server.request(tokio_stream::iter([batch(1)]))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "1 streams are open already"));
}

#[test]
fn bounds_of_the_configuration_are_checked() {
    let error = |config: IngestConfig| config.check().unwrap_err().to_string();
    let big = IngestConfig { message_bytes_max: 17 << 20, ..IngestConfig::default() };
    assert_eq!(
        error(big),
        "configuration: ingest.message_bytes_max = 17825792 is out of bounds; set it from 1024 to 16777216"
    );
    let half = IngestConfig { tls_cert: Some("cert.pem".into()), ..IngestConfig::default() };
    assert_eq!(error(half), "configuration: ingest.tls_cert and ingest.tls_key belong together; set both or neither");
    IngestConfig::default().check().unwrap();
    let config: IngestConfig = serde_json::from_str(r#"{"listen":"127.0.0.1:1"}"#).unwrap();
    assert_eq!(config.streams_max, 256);
    assert!(serde_json::from_str::<IngestConfig>(r#"{"lisen":"127.0.0.1:1"}"#).is_err());
}

//! The producer client against a server that fails, stops and comes back.

use std::collections::HashSet;
use std::time::Duration;

use arrow::array::AsArray;
use millstream::Error;
use millstream_proto::v1::event_batch::Events;
use millstream_proto::v1::{EventBatch, IdeEvent, IdeEvents};
use millstream_server::ingest::IngestConfig;
use millstream_server::ingest::client::{Client, ClientError, Options};
use tonic::Code;

use super::Running;

fn events(from: usize, rows: usize) -> Events {
    let event_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let event = |i: usize| IdeEvent { event_id: format!("e{i}"), event_time, ..Default::default() };
    Events::Ide(IdeEvents { events: (from..from + rows).map(event).collect() })
}

fn options(server: &Running) -> Options {
    Options::new(server.url(), server.key.clone(), "producer", 1)
}

/// Every event that arrived, which must be once.
fn ids(server: &Running) -> Vec<String> {
    let appends = server.recorder.appends();
    let ids = appends
        .iter()
        .flat_map(|append| append.batch.column(0).as_string::<i32>().iter().flatten().map(str::to_string));
    let ids: Vec<String> = ids.collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "doubled events");
    ids
}

#[tokio::test]
async fn everything_arrives_in_order_and_once() {
    let server = Running::start(IngestConfig::default()).await;
    let (acks, seen) = std::sync::mpsc::channel();
    let mut client = Client::start(options(&server), move |ack| acks.send(ack.sequence).unwrap()).unwrap();
    for i in 0..200 {
        assert!(client.send(events(i * 10, 10)).await);
    }
    let totals = client.finish().await.unwrap();
    assert_eq!((totals.batches, totals.accepted, totals.connections), (200, 2_000, 1));
    assert_eq!(seen.iter().collect::<Vec<_>>(), (1..=200).collect::<Vec<u64>>());
    assert_eq!(ids(&server), (0..2_000).map(|i| format!("e{i}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn failures_that_pass_are_tried_again() {
    let server = Running::start(IngestConfig::default()).await;
    let busy = || Error::Limit { message: "queue".into(), retry_after_ms: 1 };
    server.recorder.fail([busy(), busy(), busy(), busy(), busy(), busy(), busy(), busy(), busy(), busy()]);
    let mut client = Client::start(options(&server), |_| {}).unwrap();
    for i in 0..50 {
        assert!(client.send(events(i, 1)).await);
    }
    let totals = client.finish().await.unwrap();
    assert_eq!(totals.accepted, 50);
    assert!(totals.connections > 1, "{totals:?}");
    assert_eq!(ids(&server).len(), 50);
}

#[tokio::test]
async fn a_server_that_stops_and_returns_loses_nothing() {
    let mut server = Running::start(IngestConfig::default()).await;
    let (address, recorder, keys) = (server.address, server.recorder.clone(), server.keys.clone());
    let (first_ack, first_acked) = tokio::sync::oneshot::channel();
    let mut first_ack = Some(first_ack);
    let on_ack = move |_: &_| {
        if let Some(first) = first_ack.take() {
            first.send(()).unwrap();
        }
    };
    let mut client = Client::start(options(&server), on_ack).unwrap();
    let sender = tokio::spawn(async move {
        for i in 0..300 {
            assert!(client.send(events(i, 1)).await);
        }
        client.finish().await
    });
    first_acked.await.unwrap();
    server.stop();
    let _data_dir = server.stopped().await.unwrap();
    let listener = loop {
        // The old connections may hold the port for a moment.
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let again = millstream_server::ingest::serve(
        recorder.clone(),
        keys,
        IngestConfig::default(),
        listener,
        Default::default(),
        std::future::pending(),
    );
    let again = tokio::spawn(again);
    let totals = sender.await.unwrap().unwrap();
    assert_eq!(totals.batches, 300);
    let rows: usize = recorder.appends().iter().map(|append| append.batch.num_rows()).sum();
    assert_eq!(rows, 300);
    again.abort();
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_producer() {
    let server = Running::start(IngestConfig::default()).await;
    server.recorder.fail([Error::event("STALE_EPOCH", "a newer epoch is known; raise it")]);
    let mut client = Client::start(options(&server), |_| {}).unwrap();
    client.send(events(0, 1)).await;
    let error = client.finish().await.unwrap_err();
    let ClientError::Refused { code, message } = error else { panic!("{error}") };
    assert_eq!((code.as_str(), message.as_str()), ("STALE_EPOCH", "STALE_EPOCH: a newer epoch is known; raise it"));

    let wrong = Options { key: "millstream_no".into(), ..options(&server) };
    let mut client = Client::start(wrong, |_| {}).unwrap();
    client.send(events(0, 1)).await;
    let message = "the API key is not known here; check it, or make one with `millstream keys create`";
    assert_eq!(client.finish().await.unwrap_err().to_string(), message);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let gone = Options { give_up_after: Duration::ZERO, ..Options::new(&url, "millstream_k", "producer", 1) };
    let mut client = Client::start(gone, |_| {}).unwrap();
    client.send(events(0, 1)).await;
    let message = client.finish().await.unwrap_err().to_string();
    assert!(
        message.starts_with(&format!(
            "no answer from {url} for 0 s; 1 batches have no receipt; last error: cannot connect"
        )),
        "{message}"
    );
    let bad = Client::start(Options::new("not a url", "k", "p", 1), |_| {}).unwrap_err().to_string();
    assert!(bad.starts_with("endpoint 'not a url' cannot be used"), "{bad}");
}

#[tokio::test]
async fn a_server_that_sends_no_receipts_is_given_up() {
    let server = Running::start(IngestConfig::default()).await;
    server.recorder.gate.forget_permits(server.recorder.gate.available_permits());
    let stuck = Options { give_up_after: Duration::from_millis(50), ..options(&server) };
    let mut client = Client::start(stuck, |_| {}).unwrap();
    client.send(events(0, 1)).await;
    let message = client.finish().await.unwrap_err().to_string();
    assert!(message.ends_with("1 batches have no receipt; last error: the server sends no receipts"), "{message}");
    // Who has nothing to send needs no server.
    let idle = Client::start(Options { endpoint: "http://127.0.0.1:1".into(), ..options(&server) }, |_| {}).unwrap();
    assert_eq!(idle.finish().await.unwrap().batches, 0);
}

#[tokio::test]
async fn receipts_of_one_stream_come_in_order() {
    let server = Running::start(IngestConfig::default()).await;
    let batch = |sequence| EventBatch {
        producer: "p".into(),
        sequence,
        events: Some(events(sequence as usize, 1)),
        ..Default::default()
    };
    // A retry of 2 gets the first receipt; the gap after 3 ends the stream.
    let request = server.request(tokio_stream::iter([1, 2, 2, 3, 9, 4].map(batch)));
    let mut acks = server.client().await.stream(request).await.unwrap().into_inner();
    let mut offsets = Vec::new();
    let status = loop {
        match acks.message().await {
            Ok(Some(ack)) => offsets.push((ack.sequence, ack.log_offset)),
            Ok(None) => panic!("the stream ended without an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(offsets, [(1, 0), (2, 1), (2, 1), (3, 2)]);
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "OUT_OF_ORDER: batch 9 came but 4 is next; send from there");
}

#[tokio::test]
async fn tls_is_spoken_where_a_certificate_is_given() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls");
    let config = IngestConfig {
        tls_cert: Some(folder.join("server.pem")),
        tls_key: Some(folder.join("server.key")),
        ..IngestConfig::default()
    };
    let server = Running::start(config).await;
    let ca = std::fs::read(folder.join("ca.pem")).unwrap();
    let secure = Options {
        endpoint: format!("https://localhost:{}", server.address.port()),
        tls_ca: Some(ca),
        ..options(&server)
    };
    let mut client = Client::start(secure, |_| {}).unwrap();
    client.send(events(0, 3)).await;
    assert_eq!(client.finish().await.unwrap().accepted, 3);
    // Who does not speak TLS is not heard.
    let plain = Options { give_up_after: Duration::ZERO, ..options(&server) };
    let mut client = Client::start(plain, |_| {}).unwrap();
    client.send(events(3, 1)).await;
    assert!(matches!(client.finish().await, Err(ClientError::Unreachable { .. })));
    assert_eq!(ids(&server).len(), 3);
}

//! What happens at the bounds that only a whole server has: state, connections, slow clients, temporary disk. The table of
//! all limits with their tests is docs/limits.md.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use millstream::{Engine, Error, Options, QueryLimits};
use millstream_proto::v1::JsonRows;
use millstream_proto::v1::event_batch::Events;
use millstream_server::ingest::client::{Client, Options as ClientOptions};
use millstream_tests::program::{PATIENCE, Server, http};

const PIPELINES: [(&str, &str); 3] = [
    (
        "sources.sql",
        "CREATE TABLE clicks (key BIGINT, event_time TIMESTAMP, WATERMARK FOR event_time AS event_time)
         WITH (connector = 'ingest');",
    ),
    ("raw.sql", "INSERT INTO raw SELECT key FROM clicks;"),
    (
        "windows.sql",
        "INSERT INTO windows SELECT key, n FROM
         (SELECT session(INTERVAL '1 hour') AS w, key, count(*) AS n FROM clicks GROUP BY 1, 2);",
    ),
];

/// Changes the configuration of a server that is not running.
fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join("millstream.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// A thousand rows with keys of their own.
fn rows(batch: u64, time: &str) -> String {
    let row = |i: u64| format!(r#"{{"key":{i},"event_time":"{time}"}}"#);
    (batch * 1_000..(batch + 1) * 1_000).map(row).collect::<Vec<_>>().join("\n")
}

fn post(server: &Server, sequence: u64, rows: &str) -> Option<u16> {
    let path = format!("/api/v1/ingest/clicks?producer=p&epoch=1&sequence={sequence}");
    http(server.http, "POST", &path, &format!("Bearer {}", server.key), rows).ok().map(|(status, _)| status)
}

#[test]
fn state_over_its_bound_stops_the_server_by_name_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::new(dir.path(), "checkpoint_interval = '200ms'\nstate_bytes_max = 4000000", &PIPELINES);
    server.start();
    let mut taken = 0;
    let said = loop {
        if let Some(said) = server.ended() {
            break said;
        }
        // No answer: the batch may be in the log. It is sent again below.
        if post(&server, taken + 1, &rows(taken, "2024-01-01T00:00:00Z")) == Some(200) {
            taken += 1;
        }
        assert!(taken < 1_000, "a million keys fit into 4 MB");
    };
    assert!(said.contains("exit status: 1"), "{said}");
    assert!(said.contains("more than 4000000 (state_bytes_max); a thread of 'windows' has"), "{said}");
    edit(dir.path(), "state_bytes_max = 4000000", "state_bytes_max = 4000000000");
    server.start();
    for sequence in [taken + 1, taken + 2] {
        assert_eq!(post(&server, sequence, &rows(sequence - 1, "2024-01-01T00:00:00Z")), Some(200));
    }
    assert_eq!(post(&server, taken + 3, &rows(taken + 2, "2024-01-01T02:00:00Z")), Some(200));
    server.settle();
    server.stop();
    let keys = ((taken + 2) * 1_000).to_string();
    let found = server.sql("SELECT count(*), count(DISTINCT key), min(n), max(n) FROM windows");
    assert_eq!(found, [[keys.clone(), keys, "1".into(), "1".into()]]);
}

/// A connection on which only a piece of a request was sent.
fn half_open(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /healthz HT").unwrap();
    stream
}

#[test]
fn connections_over_the_bound_wait_and_silent_ones_hold_up_nobody_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::new(dir.path(), "", &PIPELINES);
    edit(dir.path(), "[http]", "[http]\nconnections_max = 4");
    edit(dir.path(), "[ingest]", "[ingest]\nconnections_max = 2");
    server.start();
    let mut silent: Vec<TcpStream> = (0..3).map(|_| half_open(server.http)).collect();
    assert_eq!(http(server.http, "GET", "/healthz", "", "").unwrap().0, 200);
    silent.push(half_open(server.http));
    let mut waiting = TcpStream::connect(("127.0.0.1", server.http)).unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0; 12];
    let error = waiting.read(&mut answer).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    silent.pop();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.0 200");

    // The same over gRPC: the client waits, and its batch is taken when there is a place.
    let mut silent: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(("127.0.0.1", server.grpc)).unwrap()).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (acks, acked) = channel();
    let endpoint = format!("http://127.0.0.1:{}", server.grpc);
    let client = runtime.block_on(async {
        let options = ClientOptions::new(endpoint, server.key.clone(), "q", 1);
        let mut client = Client::start(options, move |_: &millstream_proto::v1::Ack| acks.send(()).unwrap()).unwrap();
        let row = br#"{"key":1,"event_time":"2024-01-01T00:00:00Z"}"#.to_vec();
        let batch = Events::Json(JsonRows { table: "clicks".into(), rows: vec![row.into()] });
        assert!(client.send(batch).await);
        client
    });
    assert!(acked.recv_timeout(Duration::from_millis(300)).is_err(), "both places were taken");
    silent.clear();
    acked.recv_timeout(PATIENCE).expect("a receipt");
    runtime.block_on(client.finish()).unwrap();
    server.stop();
}

#[test]
fn a_client_that_does_not_read_its_answer_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::new(dir.path(), "", &PIPELINES);
    server.start();
    let body = r#"{"sql": "SELECT value, repeat('x', 100) AS x FROM generate_series(1, 100000)"}"#;
    let deaf: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.http)).unwrap();
            let (key, length) = (&server.key, body.len());
            write!(
                stream,
                "POST /api/v1/sql HTTP/1.0\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            stream
        })
        .collect();
    let key = format!("Bearer {}", server.key);
    for sequence in 1..=5 {
        assert_eq!(post(&server, sequence, &rows(sequence, "2024-01-01T00:00:00Z")), Some(200));
        let answer = http(server.http, "POST", "/api/v1/sql", &key, r#"{"sql": "SELECT 1 AS one"}"#).unwrap();
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
    server.stop();
    drop(deaf);
}

#[test]
fn a_query_that_spills_more_than_its_share_of_the_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let engine = Engine::open(Options::new(dir.path())).await.unwrap();
        let sort = |rows: u64| {
            let numbered = "SELECT row_number() OVER (ORDER BY value % 1009, value) AS r";
            format!("SELECT max(r) FROM ({numbered} FROM generate_series(1, {rows}))")
        };
        let limits = QueryLimits { memory_bytes_max: 12 << 20, ..QueryLimits::default() };
        let answer = engine.query(&sort(1_500_000), &BTreeMap::new(), &limits).await.unwrap();
        assert_eq!(answer.batches.iter().map(|b| b.num_rows()).sum::<usize>(), 1, "it spills, and is answered");
        let error = engine.query(&sort(20_000_000), &BTreeMap::new(), &limits).await.unwrap_err();
        assert!(matches!(&error, Error::Limit { .. }), "{error}");
        assert!(error.to_string().contains("more temporary disk than 8 times its memory"), "{error}");
    });
}

fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Requests over HTTP/2 that are taken back as soon as they are sent; whether the server ended the connection.
fn requests_taken_back(port: u16, requests: u32) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for n in 0..requests {
        // POST, http, /, and an authority, without a body; then CANCEL.
        bytes.extend(frame(1, 0x5, 2 * n + 1, &[0x83, 0x86, 0x84, 0x41, 0x01, b'x']));
        bytes.extend(frame(3, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    let mut reading = stream.try_clone().unwrap();
    let read = std::thread::spawn(move || reading.read_to_end(&mut Vec::new()));
    let written = stream.write_all(&bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = read.join();
    written.is_err()
}

#[test]
fn requests_that_are_taken_back_at_once_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::new(dir.path(), "", &PIPELINES);
    server.start();
    assert_eq!(post(&server, 1, &rows(0, "2024-01-01T00:00:00Z")), Some(200));
    let before = memory(&server);
    let ended = (0..20).filter(|_| requests_taken_back(server.grpc, 20_000)).count();
    assert_eq!(post(&server, 2, &rows(1, "2024-01-01T00:00:00Z")), Some(200));
    let grown = memory(&server).saturating_sub(before) >> 20;
    println!("20 connections of 20,000 requests: {ended} were ended, the process grew by {grown} MiB");
    assert!(grown < 64, "{grown} MiB for requests that nobody waits for");
}

//! What producers are told about rows that cannot be taken, by HTTP and gRPC, and that the good rows are not disturbed.

use std::io::{Read, Write};

use millstream_proto::v1::JsonRows;
use millstream_proto::v1::event_batch::Events;
use millstream_server::ingest::client::{Client, ClientError, Options};
use millstream_tests::program::{Server, http, millstream};
use serde_json::json;

const SOURCES: &str = "\
CREATE TABLE events (user_id TEXT, amount BIGINT, event_time TIMESTAMP, WATERMARK FOR event_time)
  WITH (connector = 'ingest');
";
const WINDOWS: &str = "\
INSERT INTO windows SELECT w['start'] AS window_start, n, total
FROM (SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS n, sum(amount) AS total FROM events GROUP BY 1);";

fn server(dir: &tempfile::TempDir, settings: &str) -> Server {
    let mut server = Server::new(dir.path(), settings, &[("sources.sql", SOURCES), ("windows.sql", WINDOWS)]);
    server.start();
    server
}

fn row(second: u32, amount: i64) -> String {
    format!("{{\"user_id\":\"a\",\"amount\":{amount},\"event_time\":\"2024-01-01T00:00:{second:02}Z\"}}\n")
}

/// Closes all windows, stops the server and gives the windows.
fn windows(mut server: Server, sequence: u64) -> Vec<Vec<String>> {
    let (status, ack) = server.post("events", "p", sequence, &row(0, 0).replace("2024", "2025"));
    assert_eq!(status, 200, "{ack}");
    server.settle();
    server.stop();
    let mut rows = server.sql("SELECT n, total FROM windows ORDER BY window_start");
    rows.sort();
    rows
}

#[test]
fn rows_that_cannot_be_taken_are_named_and_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir, "checkpoint_interval = '100ms'");
    let bad = [
        r#"{"user_id":"a","amount":1,"event_time":"2024-01-01T00:00:01Z","colour":"red"}"#,
        r#"{"user_id":"a","amount":"many","event_time":"2024-01-01T00:00:01Z"}"#,
        r#"{"user_id":"a","amount":1.5,"event_time":"2024-01-01T00:00:01Z"}"#,
        r#"{"user_id":7,"amount":1,"event_time":"2024-01-01T00:00:01Z"}"#,
        r#"{"user_id":"a","amount":1,"event_time":"yesterday"}"#,
        r#"{"user_id":"a","amount":1}"#,
        r#"{"user_id":"a","amount":1,"event_time":null}"#,
        r#"{"user_id":"a","amount":1,"#,
        r#"nonsense"#,
        r#"[1,2]"#,
    ];
    let rows = row(1, 10) + &bad.join("\n") + "\n" + &row(2, 20);
    let (status, ack) = server.post("events", "p", 1, &rows);
    assert_eq!(status, 200, "{ack}");
    assert_eq!((&ack["accepted"], &ack["rejected_rows"]), (&json!(2), &json!(bad.len())), "{ack}");
    let told: Vec<String> = ack["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| format!("{} {}: {}", r["index"], r["code"].as_str().unwrap(), r["message"].as_str().unwrap()))
        .collect();
    assert_eq!(told, TOLD);
    assert_eq!(windows(server, 2), [["2", "30"]]);
    let query = "SELECT position, code, message, raw FROM events__rejected ORDER BY position";
    let output = millstream(&["sql", "--format", "json", query], dir.path());
    let kept: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(kept.as_array().unwrap().len(), bad.len());
    for (kept, bad) in kept.as_array().unwrap().iter().zip(bad) {
        let hex: String = bad.bytes().map(|b| format!("{b:02x}")).collect();
        assert_eq!(kept["raw"], hex, "the row as it came");
    }
}

const TOLD: [&str; 10] = [
    "1 UNKNOWN_COLUMN: table events has no column 'colour'; its columns are user_id, amount, event_time",
    "2 WRONG_TYPE: column amount is BIGINT but the row has the text 'many'; send a JSON number without a fraction that fits",
    "3 WRONG_TYPE: column amount is BIGINT but the row has the number 1.5; send a JSON number without a fraction that fits",
    "4 WRONG_TYPE: column user_id is TEXT but the row has the number 7; send a JSON string",
    "5 WRONG_TYPE: column event_time is TIMESTAMP but the row has the text 'yesterday'; send RFC 3339 text such as \
     \"2026-01-31T12:00:00Z\" or a number since 1970",
    "6 MISSING_EVENT_TIME: column event_time is missing or null; every event needs the time at which it happened",
    "7 MISSING_EVENT_TIME: column event_time is missing or null; every event needs the time at which it happened",
    "8 MALFORMED_JSON: the row is not valid JSON: EOF while parsing a value at line 1 column 26",
    "9 MALFORMED_JSON: the row is not valid JSON: expected ident at line 1 column 2",
    "10 MALFORMED_JSON: the row is not a JSON object: invalid type: sequence, expected an object with the table's columns as \
     keys at line 1 column 0",
];

#[test]
fn an_event_from_the_future_does_not_move_the_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir, "checkpoint_interval = '100ms'");
    let future = row(0, 1_000).replace("2024", "2100");
    let (status, ack) = server.post("events", "p", 1, &(row(1, 10) + &future + &row(2, 20)));
    assert_eq!(status, 200, "{ack}");
    assert_eq!(ack["accepted"], 3, "{ack}");
    let message = "the event's time is further ahead than the table allows; it was accepted but does not move the watermark; \
                   check the producer's clock";
    assert_eq!(ack["flagged"], json!([{ "index": 1, "code": "FUTURE_EVENT", "message": message }]), "{ack}");
    let (_, ack) = server.post("events", "p", 2, &row(3, 30));
    assert_eq!((&ack["accepted"], &ack["flagged"]), (&json!(1), &json!([])), "{ack}");
    // Nothing was late: the three events of 2024 are in one window.
    assert_eq!(windows(server, 3), [["3", "60"]]);
}

#[test]
fn batches_that_cannot_be_taken_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir, "checkpoint_interval = '100ms'");
    let refused = |table: &str, sequence: u64, rows: &str| {
        let (status, problem) = server.post(table, "p", sequence, rows);
        (
            status,
            problem["code"].as_str().unwrap_or("").to_string(),
            problem["detail"].as_str().unwrap_or("").to_string(),
        )
    };
    let check = |found: (u16, String, String), status: u16, code: &str, detail: &str| {
        let detail = if code.is_empty() { detail.to_string() } else { format!("{code}: {detail}") };
        assert_eq!(found, (status, code.to_string(), detail));
    };
    let one = row(1, 1);
    let nearest = "there is no table 'event'; nearest with connector = 'ingest': events";
    check(refused("event", 1, &one), 404, "UNKNOWN_TABLE", nearest);
    let sink = "table windows has connector = 'lake' and takes no rows from outside; use one with connector = 'ingest'";
    check(refused("windows", 1, &one), 409, "NOT_INGEST", sink);
    let first = "producer 'p' is not known and sent sequence 2; a new producer starts at 1: start a new epoch and send again what \
                 was not acknowledged";
    check(refused("events", 2, &one), 409, "UNKNOWN_PRODUCER", first);
    let empty = "the body holds no row; send a JSON array of objects, or one object a line";
    check(refused("events", 1, ""), 400, "", empty);
    let many = "the batch has 100001 rows, more than 100000; send it in parts";
    check(refused("events", 1, &"{}\n".repeat(100_001)), 400, "TOO_MANY_ROWS", many);
    check(refused_by_length(server.http, &server.key), 413, "", TOO_LARGE);
    let with_key = |key: &str| {
        let (status, body) = http(server.http, "POST", "/api/v1/ingest/events", key, &one).unwrap();
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        (status, String::new(), problem["detail"].as_str().unwrap().to_string())
    };
    check(with_key("Bearer millstream_wrong"), 401, "", WRONG_KEY);
    let no_key =
        "no API key; send the header authorization: Bearer millstream_... (`millstream keys create` makes one)";
    check(with_key(""), 401, "", no_key);
    let (status, ack) = server.post("events", "p", 1, &row(1, 7));
    assert_eq!((status, &ack["accepted"]), (200, &json!(1)), "{ack}");
    let order = "producer 'p' epoch 1: expected sequence 2, got 3; send the batches from 2 on, in order";
    check(refused("events", 3, &one), 409, "OUT_OF_ORDER", order);
    assert_eq!(windows(server, 2), [["1", "7"]]);
}

const TOO_LARGE: &str = "the body is over 4194304 bytes (http.request_bytes_max); send fewer rows at a time";
const WRONG_KEY: &str = "the API key is not known here; check it, or make one with `millstream keys create`";

/// Announces five million bytes; the refusal comes before they are sent.
fn refused_by_length(port: u16, key: &str) -> (u16, String, String) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head =
        "POST /api/v1/ingest/events HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\nAuthorization: Bearer";
    write!(stream, "{head} {key}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, String::new(), problem["detail"].as_str().unwrap().to_string())
}

#[test]
fn producers_over_grpc_are_told_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir, "checkpoint_interval = '100ms'");
    let endpoint = format!("http://127.0.0.1:{}", server.grpc);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = |key: &str, table: &str| {
        let rows = JsonRows { table: table.into(), rows: vec![row(1, 1).into(), r#"{"amount":"x"}"#.into()] };
        let options = Options::new(endpoint.clone(), key, format!("grpc-{table}"), 1);
        tokio.block_on(async {
            let mut client = Client::start(options, |_| {}).unwrap();
            client.send(Events::Json(rows)).await;
            client.finish().await
        })
    };
    let refused = |outcome| match outcome {
        Err(ClientError::Refused { code, message }) => (code, message),
        other => panic!("{other:?}"),
    };
    let totals = send(&server.key, "events").unwrap();
    assert_eq!((totals.accepted, totals.rejected), (1, 1));
    let (code, message) = refused(send("millstream_wrong", "other"));
    assert_eq!((code.as_str(), message.as_str()), ("UNAUTHENTICATED", WRONG_KEY));
    let (code, message) = refused(send(&server.key, "event"));
    let nearest = "UNKNOWN_TABLE: there is no table 'event'; nearest with connector = 'ingest': events";
    assert_eq!((code.as_str(), message.as_str()), ("UNKNOWN_TABLE", nearest));
}

#[test]
fn a_server_with_wrong_sql_does_not_start_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = WINDOWS.replace("amount", "amuont");
    let _prepared = Server::new(dir.path(), "", &[("sources.sql", SOURCES), ("windows.sql", &wrong)]);
    let output = millstream(&["serve"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    let line = wrong.lines().nth(1).unwrap();
    let caret = " ".repeat(line.find("amuont").unwrap());
    let expected = format!(
        "error: pipelines/windows.sql:2:{}: there is no column 'amuont'\n  {line}\n  {caret}^\n  fix: use one of: user_id, amount, \
         event_time\n",
        line.find("amuont").unwrap() + 1
    );
    assert_eq!(told, expected);
}

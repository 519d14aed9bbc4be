//! JSON rows of tables that analysts declare.

use arrow::util::pretty::pretty_format_batches;
use millstream_proto::v1::JsonRows;
use millstream_proto::v1::event_batch::Events;
use millstream_server::ingest::IngestConfig;
use tonic::Code;

use super::{Running, failure, told};

fn orders(rows: &[&str]) -> Events {
    json("orders", rows)
}

fn json(table: &str, rows: &[&str]) -> Events {
    Events::Json(JsonRows {
        table: table.into(),
        rows: rows.iter().map(|row| row.as_bytes().to_vec().into()).collect(),
    })
}

#[tokio::test]
async fn json_rows_become_columns() {
    let server = Running::start(IngestConfig::default()).await;
    let ack = server
        .send(orders(&[
            // Any order of keys, any way to write a time.
            r#"{"ordered_at":"2026-01-31T12:00:00.5Z","customer":"ada","units":3,"price":1.5,"paid":true,"shipped_at":"2026-02-01T00:00:00+02:00","tags":["a","b"]}"#,
            r#"{"customer":"bob","ordered_at":1769860800,"price":2}"#,
            r#"{"customer":"cid","ordered_at":1769860800123,"units":null,"units":4.0}"#,
            r#" {"customer":"dan","ordered_at":1769860800123456} "#,
            r#"{"customer":"eve","ordered_at":1769860800123456789}"#,
            r#"{"customer":"f\u00e9","ordered_at":1769860800.25}"#,
            r#"{"customer":"gil","ordered_at":"2026-01-31 12:00:00"}"#,
        ]))
        .await
        .unwrap();
    assert_eq!(told(&ack.rejected), [""; 0]);
    let shown = pretty_format_batches(&[server.recorder.appended().batch]).unwrap().to_string();
    let expected = "\
+-------------------------------+----------+-------+-------+------+---------------------+--------+
| ordered_at                    | customer | units | price | paid | shipped_at          | tags   |
+-------------------------------+----------+-------+-------+------+---------------------+--------+
| 2026-01-31T12:00:00.500       | ada      | 3     | 1.5   | true | 2026-01-31T22:00:00 | [a, b] |
| 2026-01-31T12:00:00           | bob      |       | 2.0   |      |                     |        |
| 2026-01-31T12:00:00.123       | cid      | 4     |       |      |                     |        |
| 2026-01-31T12:00:00.123456    | dan      |       |       |      |                     |        |
| 2026-01-31T12:00:00.123456789 | eve      |       |       |      |                     |        |
| 2026-01-31T12:00:00.250       | fé       |       |       |      |                     |        |
| 2026-01-31T12:00:00           | gil      |       |       |      |                     |        |
+-------------------------------+----------+-------+-------+------+---------------------+--------+";
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_bad_row_is_refused_alone() {
    let server = Running::start(IngestConfig::default()).await;
    let rows = [
        r#"{"ordered_at":1769860800,"customer":"good"}"#,
        r#"{"ordered_at":1769860800,"customer":"a","colour":"red"}"#,
        r#"{"ordered_at":1769860800,"customer":"a","units":"three"}"#,
        r#"{"ordered_at":1769860800,"customer":"a","units":1.5}"#,
        r#"{"ordered_at":1769860800,"customer":"a","units":3000000000}"#,
        r#"{"ordered_at":1769860800,"customer":7}"#,
        r#"{"ordered_at":1769860800,"customer":{"name":"a"}}"#,
        r#"{"ordered_at":1769860800,"customer":"a","paid":1}"#,
        r#"{"ordered_at":1769860800,"customer":"a","price":"1"}"#,
        r#"{"ordered_at":"yesterday","customer":"a"}"#,
        r#"{"ordered_at":"3026-01-31T12:00:00Z","customer":"a"}"#,
        r#"{"ordered_at":1769860800}"#,
        r#"{"customer":"a"}"#,
        r#"{"ordered_at":null,"customer":"a"}"#,
        r#"{"ordered_at":1769860800,"customer":"a""#,
        r#"{"ordered_at":1769860800,"customer":"a"} {}"#,
        r#"[1]"#,
        r#"{"ordered_at":1769860800,"customer":"a","tags":[{"x":1}]}"#,
        "",
    ];
    let ack = server.send(orders(&rows)).await.unwrap();
    assert_eq!(
        told(&ack.rejected),
        [
            "1 UNKNOWN_COLUMN: table orders has no column 'colour'; its columns are ordered_at, customer, units, price, paid, shipped_at, tags",
            "2 WRONG_TYPE: column units is INT but the row has the text 'three'; send a JSON number without a fraction that fits",
            "3 WRONG_TYPE: column units is INT but the row has the number 1.5; send a JSON number without a fraction that fits",
            "4 WRONG_TYPE: column units is INT but the row has the number 3000000000; send a JSON number without a fraction that fits",
            "5 WRONG_TYPE: column customer is TEXT but the row has the number 7; send a JSON string",
            "6 WRONG_TYPE: column customer is TEXT but the row has an object; send a JSON string",
            "7 WRONG_TYPE: column paid is BOOLEAN but the row has the number 1; send true or false",
            "8 WRONG_TYPE: column price is DOUBLE but the row has the text '1'; send a JSON number",
            "9 WRONG_TYPE: column ordered_at is TIMESTAMP but the row has the text 'yesterday'; send RFC 3339 text such as \"2026-01-31T12:00:00Z\" or a number since 1970",
            "10 INVALID_EVENT_TIME: column ordered_at is out of range: '3026-01-31T12:00:00Z'; times go from 1677-09-21 to 2262-04-11",
            "11 MISSING_COLUMN: column customer is missing or null but is NOT NULL; send it",
            "12 MISSING_EVENT_TIME: column ordered_at is missing or null; every event needs the time at which it happened",
            "13 MISSING_EVENT_TIME: column ordered_at is missing or null; every event needs the time at which it happened",
            "14 MALFORMED_JSON: the row is not valid JSON: EOF while parsing an object at line 1 column 39",
            "15 MALFORMED_JSON: the row is not valid JSON: trailing characters at line 1 column 42",
            "16 MALFORMED_JSON: the row is not a JSON object: invalid type: sequence, expected an object with the table's columns as keys at line 1 column 0",
            "17 WRONG_TYPE: column tags is List(Utf8) but the row has the value '[{\"x\":1}]'; send a value of that type",
            "18 MALFORMED_JSON: the row is not valid JSON: EOF while parsing a value at line 1 column 0",
        ]
    );
    assert_eq!((ack.accepted, ack.rejected_rows), (1, 18));
    let append = server.recorder.appended();
    assert_eq!(append.batch.num_rows(), 1);
    assert_eq!(append.rejected[0].3, rows[1].as_bytes());
}

#[tokio::test]
async fn bad_utf8_is_refused() {
    let server = Running::start(IngestConfig::default()).await;
    let rows = vec![
        b"{\"ordered_at\":1,\"customer\":\"\xff\"}".to_vec().into(),
        b"{\"ordered_at\":1,\"customer\":\"a\"}".to_vec().into(),
    ];
    let ack = server.send(Events::Json(JsonRows { table: "orders".into(), rows })).await.unwrap();
    assert_eq!(
        told(&ack.rejected),
        ["0 MALFORMED_JSON: the row is not valid JSON: invalid unicode code point at line 1 column 29"]
    );
    assert_eq!(ack.accepted, 1);
}

#[tokio::test]
async fn typed_events_can_be_sent_as_json_too() {
    let server = Running::start(IngestConfig::default()).await;
    let row = r#"{"event_id":"e","event_time":1,"properties":{"a":{"b":1}}}"#;
    let ack = server.send(json("ide_events", &[row, r#"{"event_time":1}"#])).await.unwrap();
    assert_eq!(told(&ack.rejected), ["1 MISSING_COLUMN: column event_id is missing or null but is NOT NULL; send it"]);
    let batch = server.recorder.appended().batch;
    let properties = batch.column_by_name("properties").unwrap().clone();
    assert_eq!(arrow::array::AsArray::as_string::<i32>(&properties).value(0), r#"{"a":{"b":1}}"#);
}

#[tokio::test]
async fn a_table_that_takes_no_rows_is_named() {
    let server = Running::start(IngestConfig::default()).await;
    let message =
        "UNKNOWN_TABLE: there is no table 'order'; nearest with connector = 'ingest': orders, api_events, cost_events";
    assert_eq!(
        failure(server.send(json("order", &["{}"])).await),
        (Code::NotFound, "UNKNOWN_TABLE".into(), message.into())
    );
    let message = "NOT_INGEST: table orders_raw has connector = 'lake' and takes no rows from outside; use one with connector = 'ingest'";
    let outcome = server.send(json("orders_raw", &["{}"])).await;
    assert_eq!(failure(outcome), (Code::FailedPrecondition, "NOT_INGEST".into(), message.into()));
}

//! Arrow IPC rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use arrow::ipc::writer::StreamWriter;
use arrow::util::pretty::pretty_format_batches;
use millstream::TableInfo;
use millstream_proto::v1::ArrowRows;
use millstream_proto::v1::event_batch::Events;
use millstream_server::ingest::{IngestConfig, Sink, ipc};
use tonic::Code;

use super::recorder::Recorder;
use super::{Random, Running, failure, told};

const NOON: i64 = 1_769_860_800_000;

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn orders(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    stream(&[RecordBatch::try_from_iter(columns).unwrap()])
}

fn rows(ipc_stream: Vec<u8>) -> Events {
    Events::Arrow(ArrowRows { table: "orders".into(), ipc_stream: ipc_stream.into() })
}

fn times(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values.to_vec()))
}

fn table() -> TableInfo {
    Recorder::new().table("orders").unwrap()
}

#[tokio::test]
async fn columns_are_matched_by_name_and_cast() {
    let server = Running::start(IngestConfig::default()).await;
    let customers: DictionaryArray<Int32Type> = ["ada", "bob", "ada"].into_iter().collect();
    let utc = TimestampMillisecondArray::from(vec![NOON, NOON + 1, NOON + 2]).with_timezone("+02:00");
    let batch = RecordBatch::try_from_iter([
        ("units", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
        ("customer", Arc::new(customers)),
        ("ordered_at", Arc::new(utc)),
        ("paid", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ])
    .unwrap();
    let ack = server.send(rows(stream(&[batch.slice(0, 1), batch.slice(1, 2)]))).await.unwrap();
    assert_eq!((ack.accepted, ack.rejected_rows), (3, 0));
    let shown = pretty_format_batches(&[server.recorder.appended().batch]).unwrap().to_string();
    let expected = "\
+-------------------------+----------+-------+-------+-------+------------+------+
| ordered_at              | customer | units | price | paid  | shipped_at | tags |
+-------------------------+----------+-------+-------+-------+------------+------+
| 2026-01-31T12:00:00     | ada      | 1     |       | true  |            |      |
| 2026-01-31T12:00:00.001 | bob      |       |       | false |            |      |
| 2026-01-31T12:00:00.002 | ada      | 3     |       | true  |            |      |
+-------------------------+----------+-------+-------+-------+------------+------+";
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_bad_row_is_refused_alone() {
    let server = Running::start(IngestConfig::default()).await;
    let ordered = TimestampNanosecondArray::from(vec![Some(1), None, Some(3), Some(4)]);
    let ack = server
        .send(rows(orders(vec![
            ("ordered_at", Arc::new(ordered)),
            ("customer", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("d")]))),
            ("units", Arc::new(Int64Array::from(vec![1, 2, 3, 3_000_000_000]))),
        ])))
        .await
        .unwrap();
    assert_eq!(
        told(&ack.rejected),
        [
            "1 MISSING_EVENT_TIME: column ordered_at is missing or null; every event needs the time at which it happened",
            "2 MISSING_COLUMN: column customer is missing or null but is NOT NULL; send it",
            "3 WRONG_TYPE: column units is INT and cannot hold the row's value; send one that fits",
        ]
    );
    let append = server.recorder.appended();
    assert_eq!(append.batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a")]);
    // Arrow has no bytes of a row: it is kept as JSON.
    let kept = String::from_utf8(append.rejected[2].3.clone()).unwrap();
    assert_eq!(kept, r#"{"ordered_at":"1970-01-01T00:00:00.000000004","customer":"d","units":3000000000}"#);
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_refused_whole() {
    let server = Running::start(IngestConfig::default()).await;
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let refused = async |stream| {
        let (grpc, code, message) = failure(server.send(rows(stream)).await);
        assert_eq!(grpc, Code::InvalidArgument);
        assert!(message.starts_with(&code));
        message
    };
    let extra = orders(vec![("ordered_at", times(&[1])), ("customer", text("a")), ("colour", text("red"))]);
    assert_eq!(
        refused(extra).await,
        "UNKNOWN_COLUMN: table orders has no column 'colour'; its columns are ordered_at, customer, units, price, paid, shipped_at, tags"
    );
    let wrong = orders(vec![("ordered_at", text("now")), ("customer", text("a"))]);
    assert_eq!(
        refused(wrong).await,
        "WRONG_TYPE: column ordered_at is TIMESTAMP (Timestamp(ns)) but the batch has Utf8; cast it before sending"
    );
    let lossy = orders(vec![
        ("ordered_at", times(&[1])),
        ("customer", text("a")),
        ("units", Arc::new(Float64Array::from(vec![1.5]))),
    ]);
    assert_eq!(
        refused(lossy).await,
        "WRONG_TYPE: column units is INT (Int32) but the batch has Float64; cast it before sending"
    );
    let timeless = orders(vec![("customer", text("a"))]);
    assert_eq!(
        refused(timeless).await,
        "MISSING_EVENT_TIME: column ordered_at is missing or null; every event needs the time at which it happened"
    );
    let nameless = orders(vec![("ordered_at", times(&[1]))]);
    assert_eq!(refused(nameless).await, "MISSING_COLUMN: column customer is missing or null but is NOT NULL; send it");
    assert_eq!(
        refused(Vec::new()).await,
        "MALFORMED_ARROW: the batch is not a valid Arrow IPC stream: it is empty; write it without compression"
    );
    let message = refused(b"PAR1 this is no stream".to_vec()).await;
    assert!(message.starts_with("MALFORMED_ARROW: the batch is not a valid Arrow IPC stream: "), "{message}");
    let mut cut =
        orders(vec![("ordered_at", times(&[1, 2])), ("customer", Arc::new(StringArray::from(vec!["a", "b"])))]);
    cut.truncate(cut.len() - 100);
    let message = refused(cut).await;
    assert!(message.starts_with("MALFORMED_ARROW: the batch is not a valid Arrow IPC stream: "), "{message}");
    assert!(server.recorder.appends().is_empty());
}

#[test]
fn text_that_grows_without_bound_is_refused() {
    let long = "x".repeat(1 << 20);
    let keys = Int32Array::from(vec![0; 1_000]);
    let dictionary = DictionaryArray::new(keys, Arc::new(StringArray::from(vec![long.as_str()])));
    let ordered = times(&vec![1; 1_000]);
    let bytes = orders(vec![("ordered_at", ordered.clone()), ("customer", Arc::new(dictionary))]);
    let message =
        "TOO_LARGE: column customer holds more than 64 MiB of text once laid out plainly; send fewer rows a batch";
    assert_eq!(ipc::decode(&table(), bytes.into(), 100_000).unwrap_err().to_string(), message);
    let mut views = arrow::array::builder::StringViewBuilder::new();
    let block = views.append_block(long.into_bytes().into());
    (0..1_000).for_each(|_| views.try_append_view(block, 0, 1 << 20).unwrap());
    let views: StringViewArray = views.finish();
    let bytes = orders(vec![("ordered_at", ordered), ("customer", Arc::new(views))]);
    assert_eq!(ipc::decode(&table(), bytes.into(), 100_000).unwrap_err().to_string(), message);
}

/// Changed bytes never bring the server down, whatever Arrow's reader makes of them.
#[test]
fn changed_bytes_are_refused_or_accepted_but_never_panic() {
    let customers: DictionaryArray<Int32Type> =
        ["ada", "bob", "ada", "a longer name of a customer"].into_iter().collect();
    let valid = orders(vec![
        ("ordered_at", times(&[1, 2, 3, 4])),
        ("customer", Arc::new(customers)),
        ("units", Arc::new(Int64Array::from(vec![Some(1), None, Some(2), Some(3)]))),
    ]);
    let table = table();
    // A panic in Arrow's reader is contained; its report would only fill the screen.
    std::panic::set_hook(Box::new(|_| {}));
    let mut refused = 0;
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let mut bytes = valid.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                _ => bytes.truncate(at + 1),
            }
        }
        match ipc::decode(&table, bytes.into(), 1_000) {
            Ok(decoded) => {
                assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), decoded.rows, "seed {seed}");
                let _ = decoded.batch.column(0).as_primitive::<TimestampNanosecondType>();
            }
            Err(millstream::Error::Event { .. }) => refused += 1,
            Err(e) => panic!("seed {seed}: {e}"),
        }
    }
    let _ = std::panic::take_hook();
    assert!(refused > 500, "only {refused} of 3000 were refused");
}

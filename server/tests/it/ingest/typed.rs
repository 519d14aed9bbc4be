//! Typed events.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use arrow::util::pretty::pretty_format_batches;
use bytes::Bytes;
use millstream_proto::v1::event_batch::Events;
use millstream_proto::v1::{AgentEvent, AgentEvents, IdeEvent, IdeEvents, Status};
use millstream_server::ingest::decode::Decoder;
use millstream_server::ingest::{IngestConfig, MESSAGES, schema_of};
use prost::Message;
use prost_types::Timestamp;

use super::{Random, Running, failure, told};

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn agent_event(id: &str) -> AgentEvent {
    AgentEvent { event_id: id.into(), event_time: at(1_700_000_000), ..Default::default() }
}

#[tokio::test]
async fn a_typed_event_becomes_a_row() {
    let server = Running::start(IngestConfig::default()).await;
    let properties = [("quote".to_string(), "say \"hi\"\n".to_string())].into();
    let full = AgentEvent {
        event_id: "e1".into(),
        event_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
        user_id: "ada".into(),
        agent: "reviewer".into(),
        tokens_input: Some(0),
        tokens_output: Some(-3),
        cost_usd: Some(0.25),
        status: Status::Timeout.into(),
        properties,
        ..Default::default()
    };
    let unknown_status = AgentEvent { status: 77, ..agent_event("e2") };
    let ack = server.send(Events::Agent(AgentEvents { events: vec![full, unknown_status] })).await.unwrap();
    assert_eq!((ack.accepted, ack.rejected_rows, ack.producer.as_str()), (2, 0, "p"));
    let append = server.recorder.appended();
    assert_eq!(append.table, "agent_events");
    let columns = ["event_id", "event_time", "user_id", "agent", "tokens_input", "tokens_output", "cost_usd", "status"];
    let indices: Vec<usize> = columns.iter().map(|name| append.batch.schema().index_of(name).unwrap()).collect();
    let shown = pretty_format_batches(&[append.batch.project(&indices).unwrap()]).unwrap().to_string();
    let expected = "\
+----------+-------------------------------+---------+----------+--------------+---------------+----------+---------+
| event_id | event_time                    | user_id | agent    | tokens_input | tokens_output | cost_usd | status  |
+----------+-------------------------------+---------+----------+--------------+---------------+----------+---------+
| e1       | 2023-11-14T22:13:20.000000005 | ada     | reviewer | 0            | -3            | 0.25     | timeout |
| e2       | 2023-11-14T22:13:20           |         |          |              |               |          | 77      |
+----------+-------------------------------+---------+----------+--------------+---------------+----------+---------+";
    assert_eq!(shown, expected);
    let properties = append.batch.column_by_name("properties").unwrap().as_string::<i32>().clone();
    assert_eq!(properties.value(0), r#"{"quote":"say \"hi\"\u000a"}"#);
    assert!(properties.is_null(1));
    // An absent text is NULL, and not an empty one.
    assert!(append.batch.column_by_name("model").unwrap().is_null(0));
}

#[tokio::test]
async fn each_kind_of_event_has_its_table() {
    use millstream_proto::v1::*;
    let server = Running::start(IngestConfig::default()).await;
    let (event_id, event_time) = ("e".to_string(), at(1));
    let ide = IdeEvent { event_id: event_id.clone(), event_time, ..Default::default() };
    let workflow = WorkflowEvent { event_id: event_id.clone(), event_time, ..Default::default() };
    let api = ApiEvent { event_id: event_id.clone(), event_time, ..Default::default() };
    let agent = AgentEvent { event_id: event_id.clone(), event_time, ..Default::default() };
    let market = MarketplaceEvent { event_id: event_id.clone(), event_time, ..Default::default() };
    server.send(Events::Ide(IdeEvents { events: vec![ide] })).await.unwrap();
    server.send(Events::Workflow(WorkflowEvents { events: vec![workflow] })).await.unwrap();
    server.send(Events::Api(ApiEvents { events: vec![api] })).await.unwrap();
    server.send(Events::Agent(AgentEvents { events: vec![agent] })).await.unwrap();
    server.send(Events::Marketplace(MarketplaceEvents { events: vec![market] })).await.unwrap();
    macro_rules! send {
        ($($kind:ident $all:ident $one:ident),*) => {
            $(
                let event = $one { event_id: event_id.clone(), event_time, ..Default::default() };
                server.send(Events::$kind($all { events: vec![event] })).await.unwrap();
            )*
        };
    }
    send!(
        Subscription SubscriptionEvents SubscriptionEvent, Payment PaymentEvents PaymentEvent, Price PriceEvents PriceEvent,
        Cost CostEvents CostEvent, Storage StorageEvents StorageEvent, Incident IncidentEvents IncidentEvent,
        Identity IdentityEvents IdentityEvent
    );
    let tables: Vec<String> = server.recorder.appends().into_iter().map(|append| append.table).collect();
    assert_eq!(tables, MESSAGES.map(|(_, table)| table));
}

#[tokio::test]
async fn a_bad_event_is_refused_alone() {
    let server = Running::start(IngestConfig::default()).await;
    let rows: Vec<Vec<u8>> = vec![
        agent_event("good 1").encode_to_vec(),
        AgentEvent { event_id: "x".into(), user_id: "cut back".into(), ..Default::default() }.encode_to_vec(),
        AgentEvent { event_time: at(5), ..Default::default() }.encode_to_vec(),
        AgentEvent { event_time: at(99_999_999_999), ..agent_event("far") }.encode_to_vec(),
        AgentEvent { event_time: Some(Timestamp { seconds: 1, nanos: -1 }), ..agent_event("nanos") }.encode_to_vec(),
        [agent_event("utf8").encode_to_vec(), b"\x52\x02\xff\xfe".to_vec()].concat(),
        [agent_event("cut").encode_to_vec(), b"\x52\x09ab".to_vec()].concat(),
        [agent_event("wire").encode_to_vec(), b"\x50\x01".to_vec()].concat(),
        [agent_event("unknown field").encode_to_vec(), b"\xf8\x3f\x01".to_vec()].concat(),
        AgentEvent { event_time: at(4_102_444_800), ..agent_event("2100") }.encode_to_vec(),
    ];
    let mut list = Vec::new();
    for row in &rows {
        prost::encoding::bytes::encode(1, row, &mut list);
    }
    let batch =
        millstream_proto::envelope::EventBatch { producer: "p".into(), agent: Some(list.into()), ..Default::default() };
    let channel = tonic::transport::Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut client = millstream_proto::envelope::ingest_client::IngestClient::new(channel);
    let ack = client.send(server.request(batch)).await.unwrap().into_inner();
    assert_eq!(
        told(&ack.rejected),
        [
            "1 MISSING_EVENT_TIME: field event_time is missing; every event needs the time at which it happened",
            "2 MISSING_EVENT_ID: field event_id is missing; give every event an id of its own, such as a UUIDv7",
            "3 INVALID_EVENT_TIME: column event_time is out of range: 99999999999 s and 0 ns; times go from 1677-09-21 to 2262-04-11",
            "4 INVALID_EVENT_TIME: column event_time is out of range: 1 s and -1 ns; times go from 1677-09-21 to 2262-04-11",
            "5 INVALID_UTF8: field agent is not valid UTF-8; text is UTF-8 in protobuf",
            "6 MALFORMED: the event is not a valid AgentEvent: it breaks off",
            "7 MALFORMED: the event is not a valid AgentEvent: field agent has another wire type",
        ]
    );
    let flagged: Vec<(u32, &str)> = ack.flagged.iter().map(|row| (row.index, row.code.as_str())).collect();
    assert_eq!(flagged, [(9, "FUTURE_EVENT")]);
    assert_eq!((ack.accepted, ack.rejected_rows), (3, 7));
    let append = server.recorder.appended();
    let ids: Vec<Option<&str>> = append.batch.column(0).as_string::<i32>().iter().collect();
    assert_eq!(ids, [Some("good 1"), Some("unknown field"), Some("2100")]);
    assert!(append.batch.column_by_name("user_id").unwrap().is_null(1));
    // The refused rows are kept as they came.
    let kept: Vec<(u32, &Vec<u8>)> = append.rejected.iter().map(|(index, _, _, raw)| (*index, raw)).collect();
    assert_eq!(kept[0], (1, &rows[1]));
    assert_eq!(kept[6], (7, &rows[7]));
}

#[tokio::test]
async fn a_batch_that_is_no_list_is_refused_whole() {
    let server = Running::start(IngestConfig::default()).await;
    let channel = tonic::transport::Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut client = millstream_proto::envelope::ingest_client::IngestClient::new(channel);
    let batch =
        millstream_proto::envelope::EventBatch { ide: Some(Bytes::from_static(b"\x0a\x7fab")), ..Default::default() };
    let outcome = client.send(server.request(batch.clone())).await.map(tonic::Response::into_inner);
    let message = "MALFORMED: the list of IdeEvent breaks off or is no protobuf at byte 0";
    assert_eq!(failure(outcome), (tonic::Code::InvalidArgument, "MALFORMED".into(), message.into()));

    let two = millstream_proto::envelope::EventBatch { api: Some(Bytes::new()), ..batch };
    let outcome = client.send(server.request(two)).await.map(tonic::Response::into_inner);
    let message = "MALFORMED: the batch has rows of several kinds; send one batch a table";
    assert_eq!(failure(outcome), (tonic::Code::InvalidArgument, "MALFORMED".into(), message.into()));

    let none = millstream_proto::envelope::EventBatch::default();
    let outcome = client.send(server.request(none)).await.map(tonic::Response::into_inner);
    let message = "EMPTY_BATCH: the batch has no rows of a kind known here; set one of its `events`";
    assert_eq!(failure(outcome), (tonic::Code::InvalidArgument, "EMPTY_BATCH".into(), message.into()));
    assert!(server.recorder.appends().is_empty());
}

#[test]
fn the_proto_describes_the_columns() {
    let schema = schema_of("AgentEvent").unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names[..7],
        ["event_id", "event_time", "user_id", "anonymous_id", "account_id", "session_id", "source_version"]
    );
    let description = |name: &str| schema.field_with_name(name).unwrap().metadata().get("description").unwrap().clone();
    assert_eq!(description("cost_usd"), "What it cost, US dollars.");
    assert_eq!(description("event_time"), "When it ended (or began, if status is started), UTC. Required.");
    for (message, _) in MESSAGES {
        for field in schema_of(message).unwrap().fields() {
            assert!(
                field.metadata().get("description").is_some_and(|text| text.ends_with('.')),
                "{message}.{}",
                field.name()
            );
        }
    }
    let error = schema_of("Nothing").unwrap_err().to_string();
    assert_eq!(
        error,
        "configuration: unknown message 'Nothing'; the typed events are IdeEvent, WorkflowEvent, ApiEvent, AgentEvent, MarketplaceEvent, \
         SubscriptionEvent, PaymentEvent, PriceEvent, CostEvent, StorageEvent, IncidentEvent, IdentityEvent"
    );
}

#[test]
fn absent_numbers_are_told_from_zero() {
    // The decoder takes an absent number for NULL: so every number in the protos must be `optional`.
    let pool = prost_reflect::DescriptorPool::decode(millstream_proto::FILE_DESCRIPTOR_SET).unwrap();
    for (message, _) in MESSAGES {
        for field in pool.get_message_by_name(&format!("millstream.v1.{message}")).unwrap().fields() {
            use prost_reflect::Kind;
            let text = matches!(field.kind(), Kind::String | Kind::Enum(_) | Kind::Message(_));
            assert!(text || field.supports_presence(), "{} must be optional", field.full_name());
        }
    }
}

#[test]
fn a_table_may_leave_fields_out_and_add_columns() {
    use arrow::datatypes::{DataType, Field, Schema};
    let full = schema_of("IdeEvent").unwrap();
    let fields = vec![
        Field::new("added", DataType::Int64, true),
        full.field_with_name("user_id").unwrap().clone(),
        full.field_with_name("event_time").unwrap().clone(),
    ];
    let decoder = Decoder::new("IdeEvent", &Schema::new(fields).into(), Some("event_time")).unwrap();
    let event = IdeEvent { event_id: "e".into(), event_time: at(7), user_id: "ada".into(), ..Default::default() };
    let decoded = decoder.decode(&IdeEvents { events: vec![event] }.encode_to_vec().into(), 10).unwrap();
    assert_eq!(decoded.batch.column(0).null_count(), 1);
    assert_eq!(decoded.batch.column(1).as_string::<i32>().value(0), "ada");
    let wrong = Schema::new(vec![Field::new("user_id", DataType::Int64, true)]).into();
    let error = Decoder::new("IdeEvent", &wrong, None).unwrap_err().to_string();
    assert_eq!(error, "configuration: column user_id is Int64 but the field of IdeEvent is Utf8; declare it so");
}

/// What the decoder says of an event must be what prost says.
#[test]
fn the_decoder_agrees_with_prost() {
    let seed = 7;
    println!("seed {seed}");
    let mut random = Random(seed);
    let events: Vec<AgentEvent> = (0..2_000).map(|i| random_event(&mut random, i)).collect();
    let bytes: Bytes = AgentEvents { events: events.clone() }.encode_to_vec().into();
    let decoder = Decoder::new("AgentEvent", &schema_of("AgentEvent").unwrap(), Some("event_time")).unwrap();
    let decoded = decoder.decode(&bytes, 10_000).unwrap();
    assert!(decoded.rejected.is_empty());
    let column = |name: &str| decoded.batch.column_by_name(name).unwrap().clone();
    let text = |name: &str, row: usize| {
        let array = column(name);
        if array.is_valid(row) { array.as_string::<i32>().value(row).to_string() } else { String::new() }
    };
    let int = |name: &str, row: usize| {
        let array = column(name);
        array.is_valid(row).then(|| array.as_primitive::<Int64Type>().value(row))
    };
    for (row, event) in events.iter().enumerate() {
        assert_eq!(text("event_id", row), event.event_id);
        assert_eq!(text("agent", row), event.agent);
        assert_eq!(text("user_id", row), event.user_id);
        assert_eq!(int("tokens_input", row), event.tokens_input);
        assert_eq!(int("tokens_cache_write", row), event.tokens_cache_write);
        let cost = column("cost_usd");
        assert_eq!(cost.is_valid(row).then(|| cost.as_primitive::<Float64Type>().value(row)), event.cost_usd);
        let time = event.event_time.unwrap();
        let nanos = time.seconds * 1_000_000_000 + i64::from(time.nanos);
        assert_eq!(column("event_time").as_primitive::<TimestampNanosecondType>().value(row), nanos);
        let properties = text("properties", row);
        let properties: std::collections::HashMap<String, String> =
            if properties.is_empty() { Default::default() } else { serde_json::from_str(&properties).unwrap() };
        assert_eq!(properties, event.properties);
    }
}

fn random_event(random: &mut Random, i: usize) -> AgentEvent {
    let mut text = |max: usize| -> String {
        let len = random.below(max);
        (0..len).map(|_| ['a', 'é', '"', '\\', '\u{1}', '漢', '🙂', ' '][random.below(8)]).collect()
    };
    let (agent, user_id, key, value, key2) = (text(12), text(5), text(4), text(9), text(3));
    let mut maybe = |n: i64| (random.below(2) == 0).then_some(n);
    let (tokens_input, tokens_cache_write) = (maybe(i as i64), maybe(i64::MIN + i as i64));
    let cost_usd = (random.below(3) == 0).then_some(i as f64 / 3.0);
    let properties = match random.below(3) {
        0 => Default::default(),
        1 => [(key, value)].into(),
        _ => [(key, value), (key2 + "x", String::new())].into(),
    };
    AgentEvent {
        event_id: format!("e{i}"),
        event_time: Some(Timestamp {
            seconds: random.below(4_000_000_000) as i64 - 1_000_000_000,
            nanos: random.below(1_000_000_000) as i32,
        }),
        user_id,
        agent,
        tokens_input,
        tokens_cache_write,
        cost_usd,
        properties,
        ..Default::default()
    }
}

/// Changed bytes never panic, and every row is either accepted or refused.
#[test]
fn changed_bytes_are_refused_or_accepted_but_never_panic() {
    let decoder = Decoder::new("AgentEvent", &schema_of("AgentEvent").unwrap(), Some("event_time")).unwrap();
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let events = (0..4).map(|i| random_event(&mut random, i)).collect();
        let mut bytes = AgentEvents { events }.encode_to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes.truncate(at),
                _ => bytes.insert(at, random.next() as u8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        match decoder.decode(&bytes.into(), 1_000) {
            Ok(decoded) => {
                assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), decoded.rows, "seed {seed}");
                assert_eq!(decoded.request_indices().len(), decoded.batch.num_rows(), "seed {seed}");
            }
            Err(millstream::Error::Event { code, .. }) => assert_eq!(code, "MALFORMED", "seed {seed}"),
            Err(e) => panic!("seed {seed}: {e}"),
        }
    }
}

//! What files hold, as others read it: Avro, gzip, Parquet, and the options of JSON.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use millstream::engine::RunOptions;
use millstream_tests::python::python;
use millstream_tests::run;

const EVENTS: &str = r#"{"id":"a","n":1,"t":"2026-01-01T00:00:01.5Z","price":"12.34","at":{"x":1,"days":["2026-01-02"]}}
{"id":"b","n":-20,"t":"2026-01-01T00:00:02Z","price":"-0.01"}
{"n":300}
"#;

/// Runs `INSERT INTO out SELECT * FROM events` with these options of `out`.
fn written(dir: &Path, with: &str) {
    std::fs::write(dir.join("events.json"), EVENTS).unwrap();
    let sql = format!(
        "CREATE TABLE events (id TEXT, n INT, t TIMESTAMP, price DECIMAL(10, 2), at STRUCT<x BIGINT, days DATE[]>)
           WITH (connector = 'single_file', format = 'json', path = '$dir/events.json');
         CREATE TABLE out WITH (connector = 'single_file', path = '$dir/out', {with});
         INSERT INTO out SELECT * FROM events;"
    );
    run(&sql, dir, &RunOptions::default()).unwrap_or_else(|e| panic!("{with}: {e}"));
}

fn text(with: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), with);
    std::fs::read_to_string(dir.path().join("out")).unwrap()
}

/// What `out` holds when it is read as a table again.
fn read_again(dir: &Path, with: &str) -> String {
    let sql = format!(
        "CREATE TABLE out (id TEXT, n INT, t TIMESTAMP, price DECIMAL(10, 2), at STRUCT<x BIGINT, days DATE[]>)
           WITH (connector = 'single_file', path = '$dir/out', {with});
         CREATE TABLE again WITH (connector = 'single_file', format = 'json', path = '$dir/again.json', 'json.decimal_encoding' = 'string');
         INSERT INTO again SELECT * FROM out;"
    );
    run(&sql, dir, &RunOptions::default()).unwrap_or_else(|e| panic!("{with}: {e}"));
    std::fs::read_to_string(dir.join("again.json")).unwrap()
}

const AGAIN: &str = r#"{"id":"a","n":1,"t":"2026-01-01T00:00:01.500","price":"12.34","at":{"x":1,"days":["2026-01-02"]}}
{"id":"b","n":-20,"t":"2026-01-01T00:00:02","price":"-0.01"}
{"n":300}
"#;

#[test]
fn what_is_written_is_read_again() {
    for with in [
        "format = 'json'",
        "format = 'json', 'json.timestamp_format' = 'unix_millis', 'json.decimal_encoding' = 'bytes'",
        "format = 'json', 'json.decimal_encoding' = 'string', 'json.compression' = 'gzip'",
        "format = 'json', 'json.include_schema' = true, 'json.decimal_encoding' = 'string'",
        "format = 'avro'",
        "format = 'parquet', 'parquet.compression' = 'zstd', 'parquet.row_group_size' = 2",
        "format = 'parquet', 'parquet.compression' = 'snappy'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), with);
        assert_eq!(read_again(dir.path(), with), AGAIN, "{with}");
    }
}

#[test]
fn json_as_its_options_say() {
    let lines = text("format = 'json', 'json.timestamp_format' = 'unix_millis', 'json.decimal_encoding' = 'bytes'");
    let first = r#"{"id":"a","n":1,"t":1767225601500,"price":"BNI=","at":{"x":1,"days":["2026-01-02"]}}"#;
    assert_eq!(lines.lines().next().unwrap(), first);
    assert_eq!(lines.lines().nth(1).unwrap(), r#"{"id":"b","n":-20,"t":1767225602000,"price":"/w=="}"#);
    let lines = text("format = 'json', 'json.decimal_encoding' = 'number'");
    assert!(lines.contains(r#""price":12.34,"#), "{lines}");
    let lines = text("format = 'json', 'json.include_schema' = true");
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["payload"]["id"], "a");
    assert_eq!(first["schema"]["type"], "struct");
    assert_eq!(first["schema"]["fields"][1], serde_json::json!({"type": "int32", "field": "n", "optional": true}));
}

#[test]
fn gzip_is_one_text_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), "format = 'json', compression = 'gzip'");
    let mut text = String::new();
    let file = std::fs::File::open(dir.path().join("out")).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn avro_is_read_by_another_reader() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), "format = 'avro'");
    let script = "
import fastavro, sys
for row in fastavro.reader(open(sys.argv[1], 'rb')): print(row['id'], row['n'], row['t'], row['price'], row['at'])
";
    let told = python(script, &[&dir.path().join("out").display().to_string()]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "a 1 2026-01-01 00:00:01.500000+00:00 12.34 {'x': 1, 'days': [datetime.date(2026, 1, 2)]}");
    assert_eq!(lines[2], "None 300 None None None");
    // And one that it wrote is read by us.
    let script = "
import fastavro, sys
schema = {'type': 'record', 'name': 'e', 'fields': [
  {'name': 'extra', 'type': {'type': 'map', 'values': 'long'}},
  {'name': 'n', 'type': ['null', 'long']}, {'name': 'id', 'type': 'string'},
  {'name': 't', 'type': {'type': 'long', 'logicalType': 'timestamp-millis'}},
  {'name': 'kind', 'type': {'type': 'enum', 'name': 'k', 'symbols': ['X', 'Y']}}]}
rows = [{'extra': {'a': 1}, 'n': None, 'id': 'p', 't': 1767225601500, 'kind': 'Y'}, {'extra': {}, 'n': 7, 'id': 'q', 't': 0, 'kind': 'X'}]
fastavro.writer(open(sys.argv[1], 'wb'), schema, rows, codec='deflate')
";
    python(script, &[&dir.path().join("theirs").display().to_string()]);
    let sql = "CREATE TABLE e (id TEXT, n INT, t TIMESTAMP, kind TEXT, row BIGINT METADATA FROM 'row')
           WITH (connector = 'single_file', path = '$dir/theirs', format = 'avro');
         CREATE TABLE again WITH (connector = 'single_file', format = 'json', path = '$dir/again.json');
         INSERT INTO again SELECT * FROM e;";
    run(sql, dir.path(), &RunOptions::default()).unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("again.json")).unwrap(),
        "{\"id\":\"p\",\"t\":\"2026-01-01T00:00:01.500\",\"kind\":\"Y\",\"row\":1}\n{\"id\":\"q\",\"n\":7,\"t\":\"1970-01-01T00:00:00\",\"kind\":\"X\",\"row\":2}\n"
    );
    let e = run(&sql.replace("kind TEXT", "colour TEXT"), dir.path(), &RunOptions::default()).unwrap_err().to_string();
    assert!(e.ends_with("has no column 'colour'; it has: extra, n, id, t, kind"), "{e}");
}

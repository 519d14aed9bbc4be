//! What people are told about SQL that cannot run: the exact text, on stderr, with exit status 1, and nothing is written.

use millstream_tests::program::millstream;

const SOURCE: &str = "\
CREATE TABLE events (user_id TEXT, amount BIGINT, event_time TIMESTAMP, WATERMARK FOR event_time)
  WITH (connector = 'single_file', format = 'json', path = 'events.json');
";

/// Runs a file `p.sql` beside `events.json` and `rows.csv`; status and stderr. Nothing may be printed or written.
fn fails(sql: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let events = "{\"user_id\":\"a\",\"amount\":1,\"event_time\":\"2026-01-01T00:00:00Z\"}\n";
    std::fs::write(dir.path().join("events.json"), events).unwrap();
    std::fs::write(dir.path().join("rows.csv"), "b,c\n1,2\n").unwrap();
    std::fs::write(dir.path().join("p.sql"), sql).unwrap();
    let output = millstream(&["run", "p.sql"], dir.path());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{sql}\n{told}");
    assert!(output.stdout.is_empty(), "{sql}");
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|f| f.file_name()).collect();
    left.sort();
    assert_eq!(left, ["events.json", "p.sql", "rows.csv"], "{sql}");
    assert_eq!(std::fs::read_to_string(dir.path().join("events.json")).unwrap(), events, "{sql}");
    told
}

/// A statement after [`SOURCE`], so on line 3, and all that is said: `place: message`, the line, the caret, the fix.
#[track_caller]
fn statement(sql: &str, column: usize, message: &str, fix: &str) {
    let caret = " ".repeat(column - 1);
    let fix = if fix.is_empty() { String::new() } else { format!("  fix: {fix}\n") };
    let expected = format!("error: p.sql:3:{column}: {message}\n  {sql}\n  {caret}^\n{fix}");
    assert_eq!(fails(&format!("{SOURCE}{sql}\n")), expected);
}

/// As [`statement`] for a query over the events, whose place is its first word.
#[track_caller]
fn query(sql: &str, message: &str, fix: &str) {
    statement(sql, 1, message, fix);
}

#[test]
fn names_that_are_not_there() {
    let columns = "use one of: user_id, amount, event_time";
    statement("SELECT usr FROM events;", 8, "there is no column 'usr'", columns);
    statement("SELECT e.usr FROM events AS e;", 8, "there is no column 'e.usr'", columns);
    statement("SELECT * FROM event;", 15, "table 'event' not found; tables to read from: events", "");
    statement("SELECT nosuch(amount) FROM events;", 8, "there is no function 'nosuch'", "did you mean 'cosh'?");
}

#[test]
fn types_that_do_not_fit() {
    query(
        "SELECT sum(user_id) FROM events GROUP BY tumble(INTERVAL '1 minute');",
        "there is no function sum(TEXT)",
        "cast the arguments; there is sum(Decimal), sum(BIGINT UNSIGNED), sum(BIGINT), sum(DOUBLE), sum(Duration), sum(Interval)",
    );
    statement(
        "SELECT user_id + amount FROM events;",
        8,
        "TEXT + BIGINT has no meaning",
        "cast one side, such as CAST(x AS BIGINT)",
    );
    statement(
        "CREATE TABLE o (a TIMESTAMPTZ) WITH (connector = 'blackhole');",
        17,
        "timestamps with time zone are not supported ('TIMESTAMPTZ' of column 'a')",
        "write TIMESTAMP: every time is in UTC, and RFC 3339 texts with an offset are converted",
    );
    statement(
        "CREATE TABLE o (a GEOMETRY) WITH (connector = 'blackhole');",
        17,
        "unsupported SQL type 'GEOMETRY' of column 'a'",
        "use BOOLEAN, an integer or float type, DECIMAL(p, s) with p up to 38, TEXT, JSON, BYTEA, DATE, TIME, TIMESTAMP, \
         INTERVAL, STRUCT<...> or TYPE[]",
    );
    statement(
        "CREATE TABLE o (a TEXT, WATERMARK FOR a) WITH (connector = 'blackhole');",
        39,
        "event time column 'a' has type TEXT, but expected TIMESTAMP",
        "declare it TIMESTAMP, or add a generated TIMESTAMP column",
    );
    statement(
        "CREATE TABLE o (a TEXT, WATERMARK FOR b) WITH (connector = 'blackhole');",
        39,
        "event time column 'b' does not exist in the table",
        "use one of: a",
    );
}

#[test]
fn text_that_is_not_sql() {
    let fix = "write CREATE TABLE, CREATE VIEW, CREATE FUNCTION, SET, INSERT INTO ... SELECT, or SELECT";
    statement("SELEKT 1;", 1, "SELEKT is not supported in a pipeline", fix);
    let changes = "write a query whose result changes, into a table WITH (format = 'debezium_json')";
    statement("DELETE FROM events;", 1, "DELETE is not supported in a pipeline", changes);
    statement("SELECT amount FROM events WHERE (amount > 1;", 44, "expected: ), found: ;", "");
    let fix = "end each statement with a semicolon";
    statement("SELECT amount FRM events;", 19, "expected the end of the statement, found events", fix);
}

#[test]
fn options_and_connectors() {
    let connectors = "ingest, single_file, lake, memory, nexmark, postgres, stdout, blackhole";
    statement(
        "CREATE TABLE o (a BIGINT) WITH (connector = 'kafka');",
        1,
        "unknown connector 'kafka'",
        &format!("producers send to connector = 'ingest', over gRPC or HTTP; there are {connectors}"),
    );
    statement(
        "CREATE TABLE o (a TEXT) WITH (type = 'sink');",
        1,
        "table 'o' has no connector",
        &format!("add WITH (connector = '...'), one of: {connectors}"),
    );
    statement(
        "CREATE TABLE o (a BIGINT) WITH (connector = 'blackhole', colour = 'red');",
        58,
        "unknown option 'colour' for connector 'blackhole'",
        "use one of: event_time_field, watermark_field, idle_micros, idle_timeout, future_skew, message, type, connection_profile, \
         connector, format",
    );
    statement(
        "CREATE TABLE o (a BIGINT) WITH (connector = 'single_file', format = 'xml', path = 'o.json');",
        60,
        "option 'format' must be one of json, csv, parquet, avro, raw_string, raw_bytes, not 'xml'",
        "",
    );
}

#[test]
fn what_is_read_is_not_written() {
    query(
        "INSERT INTO events SELECT * FROM events;",
        "INSERT INTO events reads what it writes",
        "write to another table",
    );
}

#[test]
fn windows_that_are_none() {
    query(
        "SELECT count(*) FROM events GROUP BY tumble(INTERVAL '1 minute'), tumble(INTERVAL '2 minutes');",
        "2 windows in one GROUP BY; a query has one",
        "write one INSERT INTO for each window",
    );
    query(
        "SELECT count(*) FROM events GROUP BY tumble(INTERVAL '1 month');",
        "tumble: windows take literal intervals without months",
        "use days, hours, minutes or seconds, such as INTERVAL '30 days'",
    );
    let tumble = "tumble takes literal intervals: tumble(width), such as tumble(INTERVAL '10 seconds')";
    query("SELECT count(*) FROM events GROUP BY tumble('1 minute');", tumble, "");
    query("SELECT count(*) FROM events GROUP BY tumble(60);", tumble, "");
    query(
        "SELECT count(*) FROM events GROUP BY hop(INTERVAL '1 minute');",
        "hop takes literal intervals: hop(slide, width), such as hop(INTERVAL '10 seconds', INTERVAL '1 minute')",
        "",
    );
    query(
        "SELECT count(*) FROM events GROUP BY hop(INTERVAL '2 minutes', INTERVAL '1 minute');",
        "hop(slide, width): the slide is longer than the width, so rows would be dropped between windows",
        "",
    );
    query(
        "SELECT count(*) FROM events GROUP BY tumble(INTERVAL '0 seconds');",
        "tumble: an interval must be longer than zero",
        "",
    );
    query(
        "SELECT tumble(INTERVAL '1 minute') FROM events;",
        "tumble is only allowed in GROUP BY",
        "add it to the GROUP BY, then select it by the same expression or by its alias",
    );
    statement(
        "SELECT user_id, amount FROM events GROUP BY user_id, tumble(INTERVAL '1 minute');",
        17,
        "column events.amount is neither in GROUP BY nor inside an aggregate function",
        "Either add 'events.amount' to GROUP BY clause, or use an aggregate function like ANY_VALUE(events.amount)",
    );
}

#[test]
fn programs_that_do_nothing() {
    let nothing =
        "error: configuration: p.sql declares tables but no pipeline: add INSERT INTO ... SELECT, or a SELECT\n";
    assert_eq!(fails(SOURCE), nothing);
    assert_eq!(fails(""), nothing);
    assert_eq!(
        fails(&format!("{SOURCE}INSERT INTO t SELECT amount FROM events;")),
        "error: table 't' would be a Delta table, but this run has no place for tables\n  fix: give a state directory, or \
         declare CREATE TABLE t WITH (connector = 'single_file', ...)\n"
    );
}

#[test]
fn files_that_are_not_as_declared() {
    let csv = |path: &str| {
        format!(
            "CREATE TABLE e (a BIGINT) WITH (connector = 'single_file', format = 'csv', path = '{path}'); SELECT a FROM e;"
        )
    };
    assert_eq!(
        fails(&csv("missing.csv")),
        "error: configuration: cannot open missing.csv: No such file or directory (os error 2); paths are relative to the working directory\n"
    );
    assert_eq!(fails(&csv("rows.csv")), "error: UNKNOWN_COLUMN: rows.csv has no column 'a'; its header names: b, c\n");
    let strict = SOURCE.replace("TEXT", "BIGINT").replace("'events.json'", "'events.json', bad_data = 'fail'");
    assert_eq!(
        fails(&format!("{strict}SELECT user_id FROM events;")),
        "error: BAD_DATA: events.json:1: whilst decoding field 'user_id': failed to parse \"a\" as Int64 (bad_data = 'fail'; \
         leave it out to send such rows to events__rejected)\n"
    );
}

#[test]
fn bad_rows_of_a_file_go_aside_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        r#"{"a":1,"t":"2026-01-01T00:00:00Z"}"#,
        r#"{"a":"x","t":"2026-01-01T00:00:00Z"}"#,
        "nonsense",
        r#"{"a":2"#,
        r#"{"a":3}"#,
        r#"{"a":4,"t":"2026-01-01T00:00:01Z"}"#,
    ];
    std::fs::write(dir.path().join("rows.json"), rows.join("\n")).unwrap();
    let sql = "CREATE TABLE e (a BIGINT, t TIMESTAMP, WATERMARK FOR t)
                 WITH (connector = 'single_file', format = 'json', path = 'rows.json');
               CREATE TABLE e__rejected WITH (connector = 'single_file', format = 'json', path = 'rejected.json');
               SELECT a FROM e;";
    std::fs::write(dir.path().join("p.sql"), sql).unwrap();
    let output = millstream(&["run", "p.sql"], dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "{\"a\":1}\n{\"a\":4}\n");
    let rejected = std::fs::read_to_string(dir.path().join("rejected.json")).unwrap();
    let told = rejected.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{}: {}", row["code"].as_str().unwrap(), row["message"].as_str().unwrap())
    });
    let mut told: Vec<String> = told.collect();
    told.sort();
    let expected = [
        "MALFORMED_JSON: rows.json:3: Encountered unexpected 'o' whilst parsing literal",
        "MALFORMED_JSON: rows.json:4: Truncated record whilst reading object",
        "MISSING_EVENT_TIME: e: the event time is null or not between the years 1700 and 2200",
        "WRONG_TYPE: rows.json:2: whilst decoding field 'a': failed to parse \"x\" as Int64",
    ];
    assert_eq!(told, expected);
}

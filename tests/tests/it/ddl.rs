//! Statements that declare: what they do, and what is said when they cannot.

use std::path::Path;

use millstream::engine::{self, RunOptions};
use millstream_tests::run;

/// Rows of `events`.
const EVENTS: &str = r#"{"id":"a","n":1,"t":"2026-01-01T00:00:01Z"}
{"id":"b","n":20,"t":"2026-01-01T00:00:02Z"}
{"id":"a","n":300,"t":"2026-01-01T00:00:03Z"}
"#;

const SOURCE: &str = "CREATE TABLE events (id TEXT, n INT, t TIMESTAMP, WATERMARK FOR t)
  WITH (connector = 'single_file', format = 'json', path = '$dir/events.json');
CREATE TABLE out WITH (connector = 'single_file', format = 'json', path = '$dir/out.json');
";

/// Runs statements after [`SOURCE`] in a directory with these files; the lines of `out`, sorted.
fn lines_in(dir: &Path, sql: &str) -> Vec<String> {
    std::fs::write(dir.join("events.json"), EVENTS).unwrap();
    run(&format!("{SOURCE}{sql}"), dir, &RunOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let text = std::fs::read_to_string(dir.join("out.json")).unwrap();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    lines.sort();
    lines
}

/// As [`lines_in`] an empty directory.
fn lines(sql: &str) -> Vec<String> {
    lines_in(tempfile::tempdir().unwrap().path(), sql)
}

/// All that is said about statements after [`SOURCE`], whose lines are not counted.
#[track_caller]
fn refused(sql: &str, expected: &str) {
    let errors = engine::check(&format!("{}{sql}", SOURCE.replace('\n', " ")), "p.sql");
    let told: Vec<String> = errors.iter().map(|e| place_from_statement(&e.to_string())).collect();
    assert_eq!(told, [expected], "{sql}");
}

/// `1:300: message\n  line\n  ^\n  fix: ...` as `12: message\n  fix: ...`, with the column in the statement.
fn place_from_statement(told: &str) -> String {
    let parts: Vec<&str> = told.splitn(4, ':').collect();
    let [_, _, column, rest] = parts.as_slice() else { return told.to_string() };
    let column = column.parse::<usize>().unwrap() - SOURCE.len();
    let mut lines = rest.trim_start().lines();
    let mut kept = vec![format!("{column}: {}", lines.next().unwrap())];
    kept.extend(lines.skip(2).map(|l| l.trim().to_string()));
    kept.join("\n")
}

#[test]
fn set_takes_the_ttl_and_nothing_else() {
    assert_eq!(
        lines("SET updating_ttl = INTERVAL '5' SECOND; INSERT INTO out SELECT n FROM events WHERE n = 1;").len(),
        1
    );
    assert_eq!(lines("SET updating_ttl = 0; INSERT INTO out SELECT id FROM events;").len(), 3);
    refused(
        "SET ttl = INTERVAL '5' SECOND;",
        "1: invalid option 'ttl'; supported options are 'updating_ttl'\nfix: write SET updating_ttl = INTERVAL '1 day'",
    );
    let wrong = "1: updating_ttl must be an interval of zero or more\nfix: write SET updating_ttl = INTERVAL '1 day'; zero keeps \
                 everything for ever";
    refused("SET updating_ttl = '5 seconds';", wrong);
    refused("SET updating_ttl = INTERVAL '-1 second';", wrong);
}

#[test]
fn a_function_stands_for_its_expression() {
    let sql = "CREATE FUNCTION twice(a BIGINT) RETURNS BIGINT RETURN a * 2;
               CREATE FUNCTION Label(prefix TEXT, x INT) RETURNS TEXT LANGUAGE SQL IMMUTABLE RETURN prefix || '-' || twice(x);
               CREATE FUNCTION answer() RETURNS SMALLINT RETURN 42;
               INSERT INTO out SELECT label('x', n) AS l, label(n, '7') AS cast, answer() AS a FROM events WHERE twice(n) < 100;";
    assert_eq!(lines(sql), [r#"{"l":"x-2","cast":"1-14","a":42}"#, r#"{"l":"x-40","cast":"20-14","a":42}"#]);
    let sql = "CREATE FUNCTION minute_key(id TEXT, t TIMESTAMP) RETURNS TEXT RETURN upper(id) || to_char(t, '%H:%M');
               INSERT INTO out SELECT minute_key(id, t) AS k, sum(n) AS n
               FROM events GROUP BY tumble(INTERVAL '1 minute'), minute_key(id, t) HAVING minute_key(id, t) <> 'B00:00';";
    assert_eq!(lines(sql), [r#"{"k":"A00:00","n":301}"#]);
}

#[test]
fn functions_that_cannot_be() {
    let f = "CREATE FUNCTION f(a INT, b DECIMAL(5, 2)) RETURNS INT RETURN a + b; SELECT ";
    let column = f.len() + 1 - "SELECT ".len();
    refused(
        &format!("{f}f(n) FROM events;"),
        &format!("{column}: wrong number of arguments: 1 given, but the function is f(a INT, b DECIMAL(5, 2))"),
    );
    refused(
        &format!("{f}f(n, id, 3) FROM events;"),
        &format!("{column}: wrong number of arguments: 3 given, but the function is f(a INT, b DECIMAL(5, 2))"),
    );
    refused(
        "CREATE FUNCTION abs(a INT) RETURNS INT RETURN a;",
        "17: there is a function 'abs' already\nfix: choose another name",
    );
    refused(
        "CREATE FUNCTION g(a INT) RETURNS INT RETURN CASE WHEN a < 1 THEN 0 ELSE g(a - 1) END;",
        "73: function 'g' calls itself\nfix: write it without recursion",
    );
    refused(
        "CREATE FUNCTION g(a INT, a INT) RETURNS INT RETURN a;",
        "26: function 'g' has two arguments named 'a'\nfix: rename one of the two",
    );
    refused("CREATE FUNCTION g(a INT) RETURNS INT RETURN b;", "45: there is no column 'b'\nfix: use one of: a");
    refused(
        "CREATE FUNCTION g(a INT) RETURNS STRUCT<x INT> RETURN a;",
        "55: function 'g' returns STRUCT<x INT>, but its expression is INT, which does not cast to it\nfix: change RETURNS, or cast the \
         expression",
    );
    refused(
        "CREATE FUNCTION g(a INT) RETURNS INT RETURN sum(a);",
        "45: a function's expression sees one row, so it cannot aggregate\nfix: aggregate in the query that calls it",
    );
    refused(
        "CREATE FUNCTION g(a INT) RETURNS INT LANGUAGE python AS 'a';",
        "38: functions are written in SQL, not in python\nfix: write LANGUAGE SQL, or register a function of the embedding program",
    );
    refused(
        "CREATE FUNCTION g(a INT) RETURNS INT AS 'SELECT 1';",
        "38: expected RETURN and an expression, found AS\nfix: write CREATE FUNCTION name(a BIGINT, b TEXT) RETURNS BIGINT RETURN \
         expression",
    );
}

/// What expressions over one row give: `j` is JSON text, `i` an integer.
#[track_caller]
fn values(cases: &[(&str, &str)]) {
    let columns: Vec<String> = cases.iter().enumerate().map(|(i, (e, _))| format!("{e} AS c{i}")).collect();
    let sql = format!(
        "CREATE VIEW v AS (SELECT n::BIGINT AS i, '{}' AS j FROM events WHERE n = 1);
         INSERT INTO out SELECT {} FROM v;",
        r#"{"a":{"b":[10,{"c":"x\"y"},null,"z"]},"n":7,"f":1.5,"t":true,"s":"text","nil":null,"d":"5"}"#,
        columns.join(", ")
    );
    let row: serde_json::Value = serde_json::from_str(&lines(&sql)[0]).unwrap();
    for (i, (e, expected)) in cases.iter().enumerate() {
        // Null values are left out of the row.
        let found = row.get(format!("c{i}")).map_or("null".to_string(), |v| v.to_string());
        assert_eq!(found, *expected, "{e}");
    }
}

#[test]
fn json_operators_and_functions() {
    values(&[
        ("j -> 'a' -> 'b' -> 1", r#""{\"c\":\"x\\\"y\"}""#),
        ("j -> 'a' -> 'b' -> 1 ->> 'c'", r#""x\"y""#),
        ("j ->> 's'", r#""text""#),
        ("j -> 's'", r#""\"text\"""#),
        ("j -> 'nil'", "null"),
        ("j ->> 'nothing'", "null"),
        ("j ? 'nil'", "true"),
        ("j ? 'nothing'", "false"),
        ("CAST(j -> 'n' AS INT) + 1", "8"),
        ("(j -> 'n')::BIGINT", "7"),
        ("(j -> 's')::TEXT", r#""text""#),
        ("CAST(j -> 's' AS INT)", "null"),
        ("CAST(j ->> 'd' AS INT)", "5"),
        ("(j -> 't')::BOOLEAN", "true"),
        ("(j -> 'f')::DOUBLE", "1.5"),
        ("j -> 's' = 'text'", "true"),
        ("j -> 'n' > 6", "true"),
        ("j ->> 's' || '!' = 'text!' AND j ? 's'", "true"),
        ("j -> 'a' -> 'b' -> i ->> 'c'", r#""x\"y""#),
        ("json_get(j, 'a', 'b', -1)", r#""\"z\"""#),
        ("json_get_str(j, 's')", r#""text""#),
        ("json_get_str(j, 'n')", "null"),
        ("json_get_int(j, 'n')", "7"),
        ("json_get_int(j, 'f')", "null"),
        ("json_get_float(j, 'n')", "7.0"),
        ("json_get_bool(j, 't')", "true"),
        ("json_get_json(j, 'a', 'b')", r#""[10,{\"c\":\"x\\\"y\"},null,\"z\"]""#),
        ("json_get_array(j, 'a', 'b')", r#"["10","{\"c\":\"x\\\"y\"}","null","\"z\""]"#),
        ("json_as_text(j, 'a', 'b', 0)", r#""10""#),
        ("json_contains(j, 'a', 'b', 2)", "true"),
        ("json_contains(j, 'a', 'b', 9)", "false"),
        ("json_length(j)", "7"),
        ("json_length(j, 'a', 'b')", "4"),
        ("json_length(j, 'n')", "null"),
        ("json_object_keys(j, 'a')", r#"["b"]"#),
        ("json_get(upper('nonsense'), 'a')", "null"),
        ("json_get(j, NULL)", "null"),
        ("extract_json(j, '$.a.b[*].c')", r#"["\"x\\\"y\""]"#),
        ("extract_json(j, '$.a.b[5]')", "[]"),
        ("extract_json_string(j, '$.a.b[1][''c'']')", r#""x\"y""#),
        ("extract_json_string(j, '$.n')", "null"),
        ("get_first_json_object(j, '$.a.b[0]')", r#""10""#),
    ]);
    assert_eq!(
        lines("INSERT INTO out SELECT id || json_get_int('[1,2]', n) AS x FROM events WHERE n = 1;"),
        [r#"{"x":"a2"}"#]
    );
}

#[test]
fn json_that_is_called_wrongly() {
    refused(
        "SELECT json_get() FROM events;",
        "1: wrong number of arguments: 0 given, but the function is json_get(json, key or index, ...)",
    );
    refused(
        "SELECT n -> 'a' FROM events;",
        "1: wrong types of arguments: the function is json_get(json, key or index, ...)",
    );
    refused(
        "SELECT extract_json(id, id) FROM events;",
        "1: extract_json: the JSONPath must be a literal such as '$.a.b[0]'",
    );
    refused(
        "SELECT extract_json(id, '$..a') FROM events;",
        "1: JSONPath '$..a' is not supported; write $, then .name, ['name'], [0] or [*], such as $.a.b[0]",
    );
}

#[test]
fn a_memory_table_is_a_stream_with_a_name() {
    let sql = "CREATE TABLE m (name TEXT, big BIGINT, none DOUBLE);
               INSERT INTO m (big, name) SELECT n, id FROM events WHERE n < 100;
               INSERT INTO out SELECT name, sum(big) AS s, count(none) AS c FROM m GROUP BY tumble(INTERVAL '1 minute'), name;";
    assert_eq!(lines(sql), [r#"{"name":"a","s":1,"c":0}"#, r#"{"name":"b","s":20,"c":0}"#]);
    let m = "CREATE TABLE m (a TEXT); ";
    let column = m.len() + 1;
    refused(
        &format!("{m}SELECT a FROM m;"),
        &format!("{}: can't query from memory table 'm' without first inserting into it", column + 14),
    );
    refused(
        &format!("{m}INSERT INTO m SELECT id FROM events; INSERT INTO m SELECT id FROM events;"),
        &format!(
            "{}: can only insert into memory table 'm' once\nfix: write one INSERT INTO with UNION ALL",
            column + 37
        ),
    );
    refused(
        &format!("{m}INSERT INTO m SELECT id, n FROM events;"),
        &format!("{column}: the query has 2 columns but table 'm' takes 1\nfix: select exactly: a"),
    );
    refused(
        "CREATE TABLE m (a INT, b INT GENERATED ALWAYS AS (a + 1));",
        "24: column 'b' of memory table 'm' cannot be generated\nfix: compute it in the query that is inserted",
    );
    refused(
        "CREATE VIEW v AS SELECT id FROM events; INSERT INTO v SELECT id FROM events;",
        "41: attempted to insert into 'v', but it is a view",
    );
}

#[test]
fn tables_are_partitioned_by_day_and_columns() {
    refused(
        "CREATE TABLE p (a INT, t TIMESTAMP) WITH (connector = 'lake') PARTITIONED BY (day(t)); CREATE TABLE q (a INT) WITH (connector = 'lake') PARTITIONED BY (bucket(a, 4));",
        "153: a table of the lake cannot be partitioned by bucket(a, 4)\nfix: select id % 16 AS bucket, and write PARTITIONED BY (bucket)",
    );
}

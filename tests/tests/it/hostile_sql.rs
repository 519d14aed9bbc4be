//! SQL that means harm: files, URLs, settings, depth, size, time, memory. Every statement goes to a running server through
//! each of its faces and through the command line. Whatever it is, the process lives, opens nothing, calls nobody, answers
//! within the query's time and a quarter of a second, and takes no more memory than queries may.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_tests::program::{Server, binary, http, millstream};

use crate::hostile_faces::{Face, Faces, LANES, Said, postgres_port, postgres_settings};

const TIMEOUT: Duration = Duration::from_millis(400);
const GRACE: Duration = Duration::from_millis(250);
/// Of one query; four are asked at a time.
const MEMORY_BYTES: u64 = 64 << 20;
/// The process may grow by so many times that: operators hold a batch each beside what they account for, and allocators
/// keep what they had.
const MEMORY_MARGIN: u64 = 8;
const SECRET: &str = "canary-5f1d0e";

/// Attempts on a file or an address.
fn attempts(place: &str) -> Vec<String> {
    let forms = [
        "SELECT * FROM '{}'",
        "SELECT * FROM \"{}\"",
        "SELECT * FROM `{}`",
        "SELECT * FROM read_csv('{}')",
        "SELECT * FROM read_parquet('{}')",
        "SELECT * FROM read_json('{}')",
        "SELECT * FROM csv_scan('{}')",
        "SELECT * FROM delta_scan('{}')",
        "SELECT pg_read_file('{}')",
        "SELECT load_extension('{}')",
        "COPY (SELECT 1 AS a) TO '{}' STORED AS CSV",
        "COPY events TO '{}'",
        "COPY events FROM '{}'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{}'",
        "CREATE EXTERNAL TABLE x (a TEXT) STORED AS PARQUET LOCATION '{}' OPTIONS ('format.has_header' 'false')",
        "EXPLAIN ANALYZE SELECT * FROM '{}'",
        "EXPLAIN COPY (SELECT 1) TO '{}'",
        "WITH x AS (SELECT * FROM '{}') SELECT * FROM x",
        "SELECT (SELECT count(*) FROM '{}')",
        "INSERT INTO events SELECT * FROM '{}'",
        "CREATE TABLE x AS SELECT * FROM '{}'",
        "CREATE VIEW x AS SELECT * FROM '{}'",
        "ATTACH '{}' AS x",
        "DESCRIBE '{}'",
    ];
    forms.iter().map(|form| form.replace("{}", place)).collect()
}

/// Statements that change something, or try to.
fn changes() -> Vec<String> {
    let statements = "
        SET datafusion.execution.batch_size = 1; SET datafusion.catalog.information_schema = false;
        SET datafusion.runtime.memory_limit = '100G'; SET datafusion.execution.target_partitions = 4096;
        SET datafusion.runtime.temp_directory = '/tmp'; SET datafusion.catalog.location = '/'; SET TIME ZONE 'UTC';
        SET search_path = x; SET ROLE admin; SET SESSION AUTHORIZATION admin; RESET datafusion.execution.batch_size; RESET ALL;
        DROP TABLE events; DROP VIEW events; DROP SCHEMA public CASCADE; DROP DATABASE x; DROP FUNCTION abs; DELETE FROM events;
        DELETE FROM events WHERE id = 1; UPDATE events SET id = 2; TRUNCATE TABLE events; TRUNCATE events;
        INSERT INTO events VALUES (1, TIMESTAMP '2024-01-01'); INSERT OVERWRITE events SELECT 1; MERGE INTO events USING events e ON true WHEN MATCHED THEN DELETE;
        ALTER TABLE events ADD COLUMN x INT; ALTER TABLE events RENAME TO y; ALTER USER admin PASSWORD 'x'; CREATE TABLE x (a INT);
        CREATE TEMPORARY TABLE x AS SELECT 1; CREATE VIEW v AS SELECT 1; CREATE SCHEMA s; CREATE DATABASE d; CREATE INDEX i ON events (id);
        CREATE FUNCTION f(a INT) RETURNS INT RETURN a; CREATE ROLE r; CREATE USER u; GRANT ALL ON events TO PUBLIC; REVOKE ALL ON events FROM PUBLIC;
        BEGIN; COMMIT; ROLLBACK; START TRANSACTION; SAVEPOINT s; PREPARE p AS SELECT 1; EXECUTE p; DEALLOCATE p; DECLARE c CURSOR FOR SELECT 1;
        FETCH 1 FROM c; CLOSE c; LISTEN x; NOTIFY x; UNLISTEN x; VACUUM; ANALYZE events; CALL system(); DO 'x'; LOCK TABLE events; KILL 1; USE x;
        INSTALL httpfs; LOAD httpfs; PRAGMA version; EXPORT DATABASE '/tmp/x'; SHOW ALL; SHOW datafusion.runtime.memory_limit;
        COMMENT ON TABLE events IS 'x'; CACHE TABLE events; MSCK REPAIR TABLE events; SELECT 1; SELECT 2; SELECT 1 INTO x;
        EXPLAIN DELETE FROM events; EXPLAIN INSERT INTO events SELECT * FROM events; EXPLAIN DROP TABLE events; EXPLAIN SET a = 1";
    statements.split(';').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect()
}

/// What a parser may read in two ways, so that an error at the bottom costs it twice as much with each level.
fn ambiguous() -> Vec<String> {
    let forms = [
        ("CASE WHEN true THEN ", " END"),
        ("CASE ", " WHEN 1 THEN 2 END"),
        ("CAST(", " AS INT)"),
        ("EXISTS (SELECT ", ")"),
        ("(SELECT ", ")"),
        ("INTERVAL ", ""),
        ("ARRAY[", "]"),
        ("SUBSTRING(", " FROM 1)"),
        ("CEIL(", ")"),
        ("OVERLAY(", " PLACING 'b' FROM 1)"),
        ("CONVERT(", ", INT)"),
        ("ROW(", ")"),
        ("CASE WHEN CAST(", " AS INT) = 1 THEN 1 END"),
        ("sum(1) OVER (ORDER BY ", ")"),
    ];
    let text = |(open, close): (&str, &str), middle: &str, n: usize| {
        format!("SELECT {}{middle}{}", open.repeat(n), close.repeat(n))
    };
    let all = forms.into_iter().flat_map(|form| ["1", ")", "]"].map(|middle| (form, middle)));
    all.flat_map(|(form, middle)| [10, 30].map(|n| text(form, middle, n))).collect()
}

/// Texts that are deep or long.
fn shapes() -> Vec<String> {
    let mut all = ambiguous();
    for n in [50, 500, 5_000, 20_000] {
        all.push(format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)));
        all.push(format!("SELECT {}1{}", "[".repeat(n), "]".repeat(n)));
        all.push(format!("SELECT 1{}", " + 1".repeat(n)));
        all.push(format!("SELECT {}1", "- ".repeat(n)));
        all.push(format!("SELECT {}true", "NOT ".repeat(n)));
        all.push(format!("SELECT true{}", " AND true".repeat(n)));
        all.push(format!("SELECT 'a'{}", " || 'a'".repeat(n)));
        all.push(format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(n), " END".repeat(n)));
        all.push(format!("SELECT {}1{}", "abs(".repeat(n), ")".repeat(n)));
        all.push(format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n)));
        all.push(format!("SELECT * FROM {}(SELECT 1){}", "(SELECT * FROM ".repeat(n), " AS a)".repeat(n)));
        all.push(format!("SELECT 1 IN (1{})", ", 2".repeat(n)));
        all.push(format!("SELECT {}1", "1, ".repeat(n)));
        all.push(format!("SELECT '{}'", "x".repeat(n * 10)));
        all.push(format!("SELECT 1 AS {}", "x".repeat(n)));
        all.push(format!("SELECT {}1", "CAST(".repeat(n)));
        all.push(format!("SELECT * FROM events{}", ", events".repeat(n)));
        all.push(format!("SELECT * FROM events e0{}", " JOIN events ON true".repeat(n)));
        all.push(format!("{}SELECT 1", "EXPLAIN ".repeat(n)));
        all.push(format!("/*{}*/ SELECT 1", "/*".repeat(n)));
        all.push(format!("SELECT 1 WHERE id BETWEEN {} 1", "1 AND 2 BETWEEN ".repeat(n)));
        all.push(format!("SELECT id{} FROM events", "::BIGINT".repeat(n)));
        all.push(format!("SELECT id{} FROM events", "[1]".repeat(n)));
    }
    all
}

/// Queries that would take for ever or all the memory.
fn heavy() -> Vec<String> {
    let big = "generate_series(1, 1000000)";
    let forms = [
        "SELECT count(*) FROM {} a, {} b",
        "SELECT sum(a.value * b.value) FROM {} a CROSS JOIN {} b",
        "SELECT count(*) FROM {} a JOIN {} b ON a.value < b.value",
        "SELECT count(DISTINCT a.value + b.value) FROM {} a, {} b",
        "SELECT a.value, count(*) FROM {} a, {} b GROUP BY 1 ORDER BY 2",
        "SELECT * FROM {} a, {} b ORDER BY a.value * b.value",
        "SELECT sum(a.value) OVER (ORDER BY b.value) FROM {} a, {} b",
        "SELECT array_agg(a.value) FROM {} a, {} b",
        "SELECT string_agg(repeat('x', 1000), '') FROM {} a, {} b",
        "SELECT max(repeat('x', 100000)) FROM {} a, {} b",
        "SELECT approx_distinct(a.value) FROM {} a, {} b",
        "SELECT median(a.value) FROM {} a, {} b",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a.value) FROM {} a, {} b",
        "SELECT count(*) FROM {} a WHERE EXISTS (SELECT 1 FROM {} b WHERE b.value > a.value)",
        "SELECT count(*) FROM {} a WHERE a.value NOT IN (SELECT value * 2 FROM {} b)",
    ];
    let mut all: Vec<String> = forms.iter().map(|form| form.replace("{}", big)).collect();
    let others = [
        "SELECT count(*) FROM generate_series(1, 1000000000000)",
        "SELECT sum(value) FROM range(1, 1000000000000)",
        "SELECT repeat('x', 1000000000)",
        "SELECT length(repeat(repeat('x', 100000), 100000))",
        "SELECT lpad('x', 2000000000)",
        "SELECT rpad('x', 2000000000, 'yz')",
        "SELECT repeat('x', 9223372036854775807)",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT array_repeat(array_repeat(1, 100000), 100000)",
        "SELECT range(0, 1000000000000)",
        "SELECT generate_series(0, 1000000000000)",
        "SELECT array_length(range(0, 9223372036854775807))",
        "SELECT regexp_replace(repeat('a', 30000), '(a+)+$', 'b')",
        "SELECT regexp_like(repeat('a', 30000) || 'b', '(a|a|aa)+$')",
        "SELECT regexp_like('a', '(((a{1,100}){1,100}){1,100}){1,100}')",
        "SELECT regexp_count(repeat('ab', 100000), '(.*)(.*)(.*)(.*)b')",
        "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
        "SELECT replace(repeat('a', 1000000), 'a', repeat('b', 100000))",
        "SELECT translate(repeat('a', 10000000), 'a', 'b')",
        "SELECT 'a' LIKE repeat('%a', 100000)",
        "SELECT power(10, 400), exp(1e308), factorial(1000000)",
        "SELECT 1 / 0",
        "SELECT CAST('x' AS BIGINT)",
        "SELECT 9223372036854775807 + 1",
        "SELECT -9223372036854775808 / -1",
        "SELECT abs(-9223372036854775808)",
        "SELECT date_trunc('second', TIMESTAMP '9999-12-31') + INTERVAL '1000000 years'",
        "SELECT to_timestamp(9223372036854775807)",
        "SELECT date_bin(INTERVAL '0 seconds', TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-01')",
        "SELECT INTERVAL '999999999999999999 days'",
        "SELECT decode(repeat('f', 1000001), 'hex')",
        "SELECT chr(1114112), chr(-1), ascii('')",
        "SELECT substr('abc', -9223372036854775808, 9223372036854775807)",
        "SELECT split_part('a', '', -9223372036854775808)",
        "SELECT round(1.5, 2147483647), trunc(1.5, -2147483648)",
        "SELECT nth_value(value, -9223372036854775808) OVER () FROM generate_series(1, 3)",
        "SELECT ntile(0) OVER () FROM generate_series(1, 3)",
        "SELECT lag(value, 9223372036854775807) OVER (ORDER BY value) FROM generate_series(1, 3)",
        "SELECT sum(value) OVER (ROWS BETWEEN 18446744073709551615 PRECEDING AND CURRENT ROW) FROM generate_series(1, 3)",
        "SELECT * FROM generate_series(1, 10, 0)",
        "SELECT * FROM generate_series(1, 3) LIMIT 18446744073709551615 OFFSET 18446744073709551615",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT a.n FROM r a, r b) SELECT count(*) FROM r",
        "WITH RECURSIVE r AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM information_schema.tables",
        "SELECT current_user, session_user, version()",
        "SELECT * FROM events WHERE id = (SELECT id FROM events)",
        "SELECT arrow_cast(1, 'Timestamp(Nanosecond, Some(\"nowhere\"))')",
        "SELECT arrow_cast(repeat('1', 80), 'Decimal128(38, -38)')",
        "SELECT arrow_cast(1, 'FixedSizeBinary(2147483647)')",
        "SELECT make_array()[9223372036854775807], make_array(1)[-9223372036854775808]",
        "SELECT array_resize(make_array(1), 1000000000)",
        "SELECT overlay('x' PLACING repeat('y', 1000000) FROM 1 FOR 2147483647)",
        "SELECT \u{0}1",
        "SELECT '\u{feff}",
        "\u{202e}SELECT 1",
        ";;;;",
        "",
        "   ",
        "--",
        "/*",
        "'",
        "\"",
        "$1",
        "SELECT $1",
        "SELECT ?",
        "SELECT @x",
        "SELECT 1e999999",
        "SELECT 0x",
        "SELECT x'zz'",
        "SELECT U&'\\zzzz'",
        "SELECT E'\\u0000'",
        "SELECT E'\\xff'",
        "SELECT $$a$$",
        "SELECT $a$b$a$",
    ];
    all.extend(others.iter().map(|s| s.to_string()));
    all
}

/// What a statement may not do: end the server, show the secret, or take longer than it may. Each of a face's `requests` has
/// the query's time. What it takes is the shortest of up to twenty times, for the others keep the machine busy.
fn attempt(requests: u32, ask: impl Fn() -> Said) -> Result<(), String> {
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let (shown, took) = ask()?;
        fastest = fastest.min(took);
        if shown.contains(SECRET) || shown.contains("root:x:0") {
            return Err("a file was read".into());
        }
        if fastest <= (TIMEOUT + GRACE) * requests {
            return Ok(());
        }
    }
    Err(format!("it took {fastest:?}"))
}

/// Answers nothing, counts who comes.
fn trap() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, visitors) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counter = visitors.clone();
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, visitors)
}

fn statements(dir: &Path, port: u16) -> Vec<String> {
    let secret = dir.join("secret.csv").display().to_string();
    let places = [
        secret.clone(),
        format!("file://{secret}"),
        "/etc/passwd".into(),
        "../../../../../../../../etc/passwd".into(),
        format!("http://127.0.0.1:{port}/x.csv"),
        format!("s3://127.0.0.1:{port}/x.parquet"),
        dir.join("new.csv").display().to_string(),
    ];
    let mut all: Vec<String> = places.iter().flat_map(|p| attempts(p)).collect();
    all.extend(changes());
    all.extend(shapes());
    all.extend(heavy());
    all
}

/// All statements through some faces, one after the other; what went wrong.
fn go(lane: &[(&str, u32, Face)], all: &[String], faces: &Faces, before: u64, peak: &AtomicU64) -> Vec<String> {
    let mut wrong = Vec::new();
    // `make test` takes each statement to one face of each lane, in turn; `make test-all` to all of them.
    let every = std::env::var_os("MILLSTREAM_SEEDS").is_some();
    let asked = |(n, sql)| {
        let faces = lane.iter().enumerate().filter(move |(at, _)| every || n % lane.len() == *at);
        faces.map(move |(_, face)| (sql, face))
    };
    for (sql, (name, requests, face)) in all.iter().enumerate().flat_map(asked) {
        let mut outcome = attempt(*requests, || face(faces, sql));
        let now = memory_peak(&faces.server);
        let most = peak.fetch_max(now, Ordering::Relaxed).max(before + MEMORY_MARGIN * MEMORY_BYTES);
        if now > most {
            outcome = outcome.and(Err(format!("the process grew from {} to {} MiB", most >> 20, now >> 20)));
        }
        let health = http(faces.server.http, "GET", "/healthz", "", "").map(|a| a.0).ok();
        if health != Some(200) {
            outcome = Err(format!("the server is not well: {}", faces.server.said()));
        }
        let short: String = sql.chars().take(100).collect();
        wrong.extend(outcome.err().map(|why| format!("{name}: {short}: {why}")));
        if health.is_none() {
            break;
        }
    }
    wrong
}

/// The most memory that the process has ever had, in bytes; nothing of one that has ended, whose health tells that.
fn memory_peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.map_or(0, |kb| kb.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

/// A server whose queries have little time and memory, and a metric that takes a text.
fn hostile_server(dir: &Path) -> Server {
    let pipelines = [
        (
            "sources.sql",
            "CREATE TABLE events (id BIGINT, name TEXT, t TIMESTAMP, WATERMARK FOR t) WITH (connector = 'ingest');
             CREATE TABLE otel_logs (event_id TEXT, event_time TIMESTAMP NOT NULL, name TEXT, severity TEXT, body TEXT,
               service TEXT, user_id TEXT, session_id TEXT, trace_id TEXT, span_id TEXT, properties TEXT,
               WATERMARK FOR event_time) WITH (connector = 'ingest');",
        ),
        ("raw_otel_logs.sql", "INSERT INTO raw_otel_logs SELECT * FROM otel_logs;"),
        ("raw.sql", "INSERT INTO raw SELECT * FROM events;"),
    ];
    let mut server = Server::new(dir, "checkpoint_interval = '200ms'", &pipelines);
    let config = dir.join("millstream.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let limits = format!("timeout = '{}ms'\nmemory_bytes_max = {MEMORY_BYTES}\n", TIMEOUT.as_millis());
    std::fs::write(config, text + &limits + &postgres_settings()).unwrap();
    let metrics = dir.join("sql/metrics");
    std::fs::create_dir_all(&metrics).unwrap();
    let sql = "-- Hostile\n--\n-- Rows with a name.\nSELECT count(*) AS n FROM raw WHERE t >= $from AND t < $to AND name = $name\n";
    std::fs::write(metrics.join("hostile.sql"), sql).unwrap();
    server.start();
    let (status, receipt) = server.post("events", "p", 1, r#"{"id": 1, "name": "a", "t": "2024-01-01T00:00:00Z"}"#);
    assert_eq!(status, 200, "{receipt}");
    server.settle();
    server
}

#[test]
fn hostile_sql_opens_nothing_and_ends_in_time() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    std::fs::write(dir.join("secret.csv"), format!("a\n{SECRET}\n")).unwrap();
    let (port, visitors) = trap();
    let all = statements(dir, port);
    assert!(all.len() >= 300, "{}", all.len());
    let mut faces = Faces::of(hostile_server(dir), postgres_port(dir));
    let before = memory_peak(&faces.server);
    let peak = AtomicU64::new(before);
    let wrong = std::thread::scope(|scope| {
        let lane = |lane| {
            scope.spawn({
                let (all, faces, peak) = (&all, &faces, &peak);
                move || go(lane, all, faces, before, peak)
            })
        };
        let lanes = LANES.map(lane);
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect::<Vec<String>>()
    });
    println!(
        "{} statements through {} faces, {} MiB before, {} MiB at most",
        all.len(),
        LANES.concat().len(),
        before >> 20,
        peak.into_inner() >> 20
    );
    assert_eq!(faces.server.ended(), None, "{}", wrong.join("\n"));
    assert!(wrong.is_empty(), "{} of {} statements:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    assert_eq!(visitors.load(Ordering::SeqCst), 0, "nobody was called");
    assert!(!dir.join("new.csv").exists(), "nothing was written");
}

/// `millstream sql < file`.
fn piped(sql: &str, dir: &Path) -> std::process::Output {
    let file = dir.join(format!("{}.sql", sql.len()));
    std::fs::write(&file, sql).unwrap();
    let stdin = std::fs::File::open(file).unwrap();
    let mut command = std::process::Command::new(binary());
    command.args(["sql", "--format", "csv"]).current_dir(dir).stdin(stdin).output().unwrap()
}

/// The command line: the same statements by `millstream sql`, and as pipeline files by `millstream check`. A signal would
/// end it without a status.
#[test]
fn hostile_sql_ends_no_command() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    std::fs::write(dir.join("secret.csv"), format!("a\n{SECRET}\n")).unwrap();
    let (port, visitors) = trap();
    drop(hostile_server(dir));
    let all = statements(dir, port);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(sql) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                // An argument cannot hold the byte 0.
                let sql = sql.replace('\0', " ");
                // Nor more than the system takes.
                let output = match sql.len() {
                    0..100_000 => millstream(&["sql", "--format", "csv", "--", &sql], dir),
                    _ => piped(&sql, dir),
                };
                let shown =
                    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                let short: String = sql.chars().take(100).collect();
                assert!(matches!(output.status.code(), Some(0 | 1)), "{short}: {} {shown}", output.status);
                assert!(!shown.contains(SECRET) && !shown.contains("root:x:0"), "{short}: a file was read");
            }
        };
        scope.spawn(work);
        scope.spawn(work);
    });
    let checked = dir.join("checked");
    std::fs::create_dir(&checked).unwrap();
    for (n, sql) in all.iter().enumerate() {
        std::fs::write(checked.join(format!("{n:04}.sql")), sql).unwrap();
    }
    let output = millstream(&["check", "checked"], dir);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(visitors.load(Ordering::SeqCst), 0, "nobody was called");
    assert!(!dir.join("new.csv").exists(), "nothing was written");
}

//! Streaming results on real events against independently computed answers.

use millstream::engine::RunOptions;
use millstream_tests::{assert_same_rows, data, read_csv, run};

const SPANS: &str = r#"
CREATE TABLE spans (
  "TraceID" TEXT, "OperationName" TEXT, "PodName" TEXT, "StartTimeUnixNano" BIGINT, "Duration" BIGINT,
  ts TIMESTAMP GENERATED ALWAYS AS (arrow_cast("StartTimeUnixNano", 'Timestamp(Nanosecond, None)')),
  WATERMARK FOR ts AS ts - INTERVAL '$bound seconds'
) WITH (connector = 'single_file', format = 'csv', path = '$data/api_spans_nezha_onlineboutique.csv.gz');
"#;

fn out(name: &str, columns: &str) -> String {
    format!(
        "CREATE TABLE {name} ({columns}) WITH (connector = 'single_file', format = 'csv', path = '$dir/{name}.csv');\n"
    )
}

/// Runs and compares one output with one answer, with one worker and with four.
fn check(sql: &str, output: &str, answer: &str) {
    let Some(data) = data() else { return };
    for workers in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        run(sql, dir.path(), &RunOptions { workers, ..RunOptions::default() }).unwrap();
        let (_, ours) = read_csv(&dir.path().join(format!("{output}.csv")));
        let (_, theirs) = read_csv(&data.join("answers").join(format!("{answer}.csv")));
        assert_same_rows(&format!("{answer}, {workers} workers"), ours, theirs);
    }
}

#[test]
fn tumbling_windows_of_api_spans() {
    let sql = SPANS.replace("$bound", "120")
        + &out("tumble_10s", "window_start TIMESTAMP, n BIGINT, traces BIGINT, sum_us BIGINT")
        + r#"INSERT INTO tumble_10s
             SELECT w['start'], n, traces, sum_us FROM (
               SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS n, count(DISTINCT "TraceID") AS traces,
                      sum("Duration") AS sum_us
               FROM spans GROUP BY w);"#;
    check(&sql, "tumble_10s", "api_nezha__tumble_10s");
}

#[test]
fn hopping_windows_with_an_exact_percentile() {
    let sql = SPANS.replace("$bound", "120")
        + &out("hop", "window_start TIMESTAMP, n BIGINT, p95_us BIGINT")
        + r#"INSERT INTO hop
             SELECT hop(INTERVAL '10 seconds', INTERVAL '60 seconds')['start'], count(*), percentile_disc("Duration", 0.95)
             FROM spans GROUP BY hop(INTERVAL '10 seconds', INTERVAL '60 seconds');"#;
    check(&sql, "hop", "api_nezha__hop_60s_10s");
}

#[test]
fn late_rows_are_exactly_those_of_the_reference_rule() {
    let Some(data) = data() else { return };
    let (_, answer) = read_csv(&data.join("answers/api_nezha__late_drops_10s_window.csv"));
    for (bound, workers) in [(0, 1), (10, 1), (10, 2), (60, 3), (120, 2)] {
        let sql = SPANS.replace("$bound", &bound.to_string())
            + &out("tumble_10s", "window_start TIMESTAMP, n BIGINT")
            + "CREATE TABLE tumble_10s__late WITH (connector = 'single_file', format = 'csv', path = '$dir/late.csv');
               INSERT INTO tumble_10s SELECT tumble(INTERVAL '10 seconds')['start'], count(*)
               FROM spans GROUP BY tumble(INTERVAL '10 seconds');";
        let dir = tempfile::tempdir().unwrap();
        let summary = run(&sql, dir.path(), &RunOptions { workers, ..RunOptions::default() }).unwrap();
        let row = answer.iter().find(|r| r[0] == bound.to_string()).unwrap();
        assert_eq!(summary.rows_late.to_string(), row[2], "bound {bound} s");
        let (_, on_time) = read_csv(&dir.path().join("tumble_10s.csv"));
        let on_time: u64 = on_time.iter().map(|r| r[1].parse::<u64>().unwrap()).sum();
        let late = if summary.rows_late == 0 { 0 } else { read_csv(&dir.path().join("late.csv")).1.len() as u64 };
        assert_eq!(on_time + late, 216_304, "on time + late = sent, bound {bound} s");
    }
}

#[test]
fn sessions_of_the_ai_tool() {
    let sql = r#"
CREATE TABLE events (user_id TEXT, event TEXT, time BIGINT,
  ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp_seconds(time)), WATERMARK FOR ts)
WITH (connector = 'single_file', format = 'json', path = '$data/ai_aider_analytics_open.jsonl.gz');
"#
    .to_string()
        + &out("sessions", "user_id TEXT, session_start TIMESTAMP, session_end TIMESTAMP, n BIGINT, duration_s BIGINT")
        + "INSERT INTO sessions
             SELECT user_id, min(ts), max(ts), count(*),
                    (arrow_cast(max(ts), 'Int64') - arrow_cast(min(ts), 'Int64')) / 1000000000
             FROM events WHERE user_id IS NOT NULL GROUP BY session(INTERVAL '30 minutes'), user_id;";
    check(&sql, "sessions", "ai_aider__sessions_gap30m");
}

#[test]
fn sessions_of_sixty_developers() {
    let sql = r#"
CREATE TABLE events (timestamp TIMESTAMP, developer_id TEXT, message TEXT,
  WATERMARK FOR timestamp AS timestamp - INTERVAL '500 days')
WITH (connector = 'single_file', format = 'csv', path = '$data/ide_abb_open.csv.gz');
"#
    .to_string()
        + &out(
            "sessions",
            "developer_id TEXT, session_start TIMESTAMP, session_end TIMESTAMP, n BIGINT, duration_s BIGINT",
        )
        + "INSERT INTO sessions
             SELECT developer_id, min(timestamp), max(timestamp), count(*),
                    (arrow_cast(max(timestamp), 'Int64') - arrow_cast(min(timestamp), 'Int64')) / 1000000000
             FROM events GROUP BY session(INTERVAL '30 minutes'), developer_id;";
    check(&sql, "sessions", "ide_abb__sessions_gap30m");
}

#[test]
fn tokens_and_cost_per_day() {
    let sql = r#"
CREATE TABLE events (event TEXT, time BIGINT, properties STRUCT<main_model TEXT, total_tokens BIGINT, cost DOUBLE>,
  ts TIMESTAMP GENERATED ALWAYS AS (to_timestamp_seconds(time)), WATERMARK FOR ts)
WITH (connector = 'single_file', format = 'json', path = '$data/ai_aider_analytics_open.jsonl.gz');
CREATE VIEW sends AS SELECT properties['total_tokens'] AS total_tokens, properties['cost'] AS cost FROM events
  WHERE event = 'message_send';
"#
    .to_string()
        + &out("days", "d DATE, calls BIGINT, total_tokens BIGINT, cost DOUBLE")
        + "INSERT INTO days SELECT tumble(INTERVAL '1 day')['start'], count(*), sum(total_tokens), round(sum(cost), 6)
           FROM sends GROUP BY tumble(INTERVAL '1 day');";
    check(&sql, "days", "ai_aider__tokens_by_day");
}

//! What `check` warns of, and that each warning goes away when its advice is followed.

use millstream::engine::{check, warnings};
use millstream_tests::sources::{code, rust_files};

const TABLES: &str = "\
CREATE TABLE a (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts) WITH (connector = 'ingest');
CREATE TABLE b (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts) WITH (connector = 'ingest');
CREATE TABLE o WITH (connector = 'lake', format = 'debezium_json');
";

const WITHOUT_TTL: &str = "SET updating_ttl = 0;\n";

/// A query that is warned of, part of what is said, and the same as the advice has it; empty where the advice is a statement.
const WARNINGS: [(&str, &str, &str); 9] = [
    ("SELECT k, count(*) AS n FROM a GROUP BY k", "grows with every new key", ""),
    (
        "SELECT k, count(*) AS n FROM a GROUP BY k",
        "or group by a window",
        "SELECT k, count(*) AS n FROM a GROUP BY k, tumble(INTERVAL '1 minute')",
    ),
    ("SELECT DISTINCT k FROM a", "grows with every different row", ""),
    ("SELECT k, sum(v) OVER (PARTITION BY k ORDER BY ts) AS s FROM a", "OVER grows with every new partition", ""),
    (
        "SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY v) AS n FROM a) WHERE n = 1",
        "row_number() grows with every new partition",
        "",
    ),
    (
        "SELECT k, sum(v) OVER (PARTITION BY k ORDER BY v) AS s FROM a",
        "order it by the event time",
        "SELECT k, sum(v) OVER (PARTITION BY k ORDER BY ts) AS s FROM a",
    ),
    ("SELECT a.k, b.v FROM a JOIN b ON a.k = b.k", "a join keeps all rows of both sides for ever", ""),
    (
        "SELECT k FROM a WHERE v > (SELECT max(b.v) FROM b)",
        "bind the subquery to its row by a key, such as (SELECT max(b.v) FROM b WHERE b.k = a.k)",
        "SELECT k FROM a WHERE v > (SELECT max(b.v) FROM b WHERE b.k = a.k)",
    ),
    (
        "SELECT a.k, b.v FROM a JOIN b FOR SYSTEM_TIME AS OF a.ts ON a.k = b.k",
        "join within an interval: ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '1 hour' AND a.ts",
        "SELECT a.k, b.v FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '1 hour' AND a.ts",
    ),
];

fn warned(query: &str, set: &str) -> Vec<String> {
    let sql = format!("{TABLES}{set}INSERT INTO o {query};\n");
    assert!(check(&sql, "w.sql").is_empty(), "{sql}");
    warnings(&sql, "w.sql").iter().map(ToString::to_string).collect()
}

#[test]
fn a_warning_goes_away_when_its_advice_is_followed() {
    for (query, says, mended) in WARNINGS {
        let told = warned(query, WITHOUT_TTL).join("\n");
        assert!(told.contains(says), "{query}\n{told}");
        let (query, set) = match mended {
            "" => (query, statement(&told)),
            mended => (mended, "SET updating_ttl = INTERVAL '1 day';\n".to_string()),
        };
        assert_eq!(warned(query, &set), Vec::<String>::new(), "{query}");
    }
}

/// The statement that the advice of a warning tells to write.
fn statement(told: &str) -> String {
    let (_, rest) = told.split_once("  fix: SET ").unwrap_or_else(|| panic!("no statement in\n{told}"));
    let (interval, _) = rest.split_once(" before the query").unwrap_or_else(|| panic!("no end of it in\n{told}"));
    format!("SET {interval};\n")
}

#[test]
fn every_warning_of_an_operator_is_in_this_test() {
    let made = |text: &str| text.matches("Warning::new(").count() + text.matches("Warning::without_ttl(").count();
    let files = rust_files(&["engine/src/operators", "engine/src/sql"]);
    let files = files.iter().filter(|f| !f.ends_with("operators/spec.rs"));
    let in_code: usize = files.map(|f| made(code(&std::fs::read_to_string(f).unwrap()))).sum();
    let mut told: Vec<String> = WARNINGS
        .iter()
        .flat_map(|(query, ..)| warned(query, WITHOUT_TTL))
        .map(|w| w.split(": ").nth(1).unwrap_or_default().chars().take(20).collect())
        .collect();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), in_code, "add what is missing to WARNINGS: {told:#?}");
}

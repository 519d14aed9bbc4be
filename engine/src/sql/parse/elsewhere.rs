//! Statements and clauses of other engines, and what to write here instead.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Place, Source};
use crate::error::{Error, SqlError};

const STATEMENTS: &str = "write CREATE TABLE, CREATE VIEW, CREATE FUNCTION, SET, INSERT INTO ... SELECT, or SELECT";

/// First words of statements; a word that is followed by others stands before the same word alone.
const INSTEAD: [(&str, &str); 24] = [
    (
        "CREATE SOURCE",
        "write CREATE TABLE name (columns, WATERMARK FOR column) WITH (connector = 'ingest'), or 'single_file'",
    ),
    ("CREATE SINK", "write CREATE TABLE name WITH (connector = 'lake'), then INSERT INTO name SELECT ... FROM ..."),
    ("CREATE OR", "write CREATE VIEW or CREATE TABLE: a file declares each name once"),
    ("CREATE INDEX", "leave it out: state is found by the keys of GROUP BY and JOIN"),
    ("CREATE CONNECTION", "write the options in the WITH of each table"),
    ("CREATE CATALOG", "leave it out: a table's connector says where it is"),
    ("CREATE DATABASE", "leave it out: a data directory is one database"),
    ("CREATE SCHEMA", "leave it out: a data directory is one schema"),
    ("EXECUTE", "leave it out: all INSERT INTOs of a file run together"),
    ("BEGIN", "leave it out: all INSERT INTOs of a file run together"),
    ("END", "leave it out: all INSERT INTOs of a file run together"),
    ("USE", "leave it out: there is one catalogue, that of the file"),
    ("DROP", "take its CREATE out of the file: a file declares all that there is"),
    ("ALTER", "change its CREATE; `millstream rebuild NAME` computes a changed table again from the raw events"),
    ("SHOW", "run `millstream check FILE.sql` for a file, `millstream sql \"SHOW TABLES\"` for tables"),
    ("UPDATE", "write a query whose result changes, into a table WITH (format = 'debezium_json')"),
    ("DELETE", "write a query whose result changes, into a table WITH (format = 'debezium_json')"),
    ("MERGE", "write a query whose result changes, into a table WITH (format = 'debezium_json')"),
    ("TRUNCATE", "write a query whose result changes, into a table WITH (format = 'debezium_json')"),
    ("COPY", "run `millstream sql \"SELECT ...\" --format csv`, or write a table WITH (connector = 'single_file')"),
    ("EXPLAIN", "run `millstream explain FILE.sql` for columns, operators and state"),
    ("ANALYZE", "run `millstream explain FILE.sql` for columns, operators and state"),
    ("DESCRIBE", "run `millstream explain FILE.sql` for columns, operators and state"),
    ("DESC", "run `millstream explain FILE.sql` for columns, operators and state"),
];

/// The words that a statement begins with, and what to write instead.
pub(super) fn statement(parser: &Parser<'_>) -> (String, &'static str) {
    let word = |n: usize| match parser.peek_nth_token(n).token {
        Token::Word(w) => w.value.to_uppercase(),
        other => other.to_string().to_uppercase(),
    };
    let (first, two) = (word(0), format!("{} {}", word(0), word(1)));
    let known = |text: &str| INSTEAD.iter().find(|(words, _)| *words == text).map(|(_, fix)| *fix);
    match known(&two) {
        Some(fix) => (two, fix),
        None if first == "CREATE" => (two, STATEMENTS),
        None => (first.clone(), known(&first).unwrap_or(STATEMENTS)),
    }
}

/// Clauses that the parser stumbles over, as upper-case words with one blank between.
const CLAUSES: [(&str, &str); 13] = [
    ("ASOF LEFT JOIN", "write LEFT JOIN t FOR SYSTEM_TIME AS OF a.ts AS t ON a.key = t.key"),
    ("ASOF JOIN", "write ASOF JOIN t MATCH_CONDITION (a.ts >= t.ts) ON a.key = t.key"),
    ("TEMPORAL JOIN", "write JOIN t FOR SYSTEM_TIME AS OF a.ts AS t ON a.key = t.key, or join a lookup table"),
    ("EMIT CHANGES", "leave EMIT CHANGES out: a query without a window gives its changes"),
    ("ROW<", "write STRUCT<a INT, b TEXT>"),
    ("ROW (", "write STRUCT<a INT, b TEXT>"),
    ("MAP<", "write JSON, and read it by ->>"),
    ("FORMAT PLAIN", "write format = 'json' (or 'csv', 'avro', 'parquet') in WITH (...)"),
    ("FORMAT UPSERT", "write format = 'debezium_json' in WITH (...), and a PRIMARY KEY"),
    ("FORMAT DEBEZIUM", "write format = 'debezium_json' in WITH (...), and a PRIMARY KEY"),
    ("LIKE", "write the columns of the table out"),
    ("BETWEEN SYMMETRIC", "write BETWEEN least(a, b) AND greatest(a, b)"),
    ("WITHIN", "write the interval in ON: a.key = b.key AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'"),
];

/// The way out for an error of the parser that has none: by the clause just before its place.
pub(super) fn advise(source: Source<'_>, statement: Place, e: Error) -> Error {
    let Error::Query(SqlError { fix: None, place: Some(place), .. }) = &e else { return e };
    let text = between(source.text, statement, *place).to_uppercase();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let near = words.get(words.len().saturating_sub(60)..).unwrap_or(&words);
    let create = words.starts_with("CREATE TABLE");
    let found = CLAUSES.iter().find(|(clause, _)| near.contains(clause) && (create || *clause != "LIKE"));
    let fix = match (found, &e) {
        (Some((_, fix)), _) => Some((*fix).to_string()),
        (None, Error::Query(q)) if q.message.starts_with("expected the end") => {
            Some("end each statement with a semicolon".into())
        }
        _ => None,
    };
    match e {
        Error::Query(q) => Error::Query(SqlError { fix, ..q }),
        other => other,
    }
}

/// Characters behind an error that belong to what it stumbled over.
const NEAR: usize = 20;

/// The text from one place to a little behind another.
fn between(text: &str, from: Place, to: Place) -> String {
    let mut part = String::new();
    for (line, content) in (1_u64..).zip(text.lines()).skip(from.0.saturating_sub(1) as usize) {
        if line > to.0 {
            break;
        }
        let start = if line == from.0 { from.1.saturating_sub(1) as usize } else { 0 };
        let chars: Vec<char> = content.chars().collect();
        let mut end = chars.len();
        if line == to.0 {
            let at = (to.1.saturating_sub(1) as usize).min(chars.len());
            end = at + NEAR;
        }
        part.extend(chars.iter().take(end).skip(start));
        part.push(' ');
    }
    part
}

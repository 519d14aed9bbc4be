//! The demo checks itself: what the tables answer against what is known from elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use millstream::{Engine, Error, QueryLimits, Result};

use crate::format;

/// Rows as text; NULL is empty.
pub type Rows = Vec<Vec<String>>;

/// One comparison.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was compared.
    pub what: String,
    /// What both sides say, or how they differ.
    pub outcome: Result<String, String>,
}

impl Check {
    /// Compares one number.
    pub fn number(what: impl Into<String>, ours: u64, expected: u64) -> Self {
        let outcome = if ours == expected { Ok(grouped(ours)) } else { Err(format!("{ours}, expected {expected}")) };
        Self { what: what.into(), outcome }
    }

    /// Compares rows in any order, numbers with a fraction to one part in a million.
    pub fn rows(what: impl Into<String>, ours: Rows, expected: Rows) -> Self {
        let sorted = |rows: Rows| {
            let mut rows: Rows = rows.into_iter().map(|r| r.iter().map(|v| normal(v)).collect()).collect();
            rows.sort();
            rows
        };
        let (ours, expected) = (sorted(ours), sorted(expected));
        let same = |a: &Vec<String>, b: &Vec<String>| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b));
        let differing = ours.iter().zip(&expected).find(|(a, b)| !same(a, b));
        let outcome = match differing {
            Some((a, b)) => Err(format!("{}, expected {}", a.join(" "), b.join(" "))),
            None if ours.len() != expected.len() => Err(format!("{} rows, expected {}", ours.len(), expected.len())),
            None => Ok(format!("{} {}", grouped(ours.len() as u64), if ours.len() == 1 { "row" } else { "rows" })),
        };
        Self { what: what.into(), outcome }
    }
}

/// A value in one spelling: times without a blank, a zone or trailing zeros; numbers without a trailing `.0`.
fn normal(value: &str) -> String {
    let bytes = value.as_bytes();
    if value.len() >= 19 && bytes.get(4) == Some(&b'-') && bytes.get(13) == Some(&b':') {
        let value = value.replace(' ', "T");
        let value = value.trim_end_matches('Z');
        let cut = if value.contains('.') { value.trim_end_matches('0').trim_end_matches('.') } else { value };
        return cut.to_string();
    }
    value.strip_suffix(".0").unwrap_or(value).to_string()
}

fn equal(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0),
        _ => false,
    }
}

/// `1,719,516`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The rows of a query, all of them.
pub async fn rows_of(engine: &Engine, sql: &str) -> Result<Rows> {
    let limits = QueryLimits { rows_max: 1_000_000, ..QueryLimits::default() };
    let result = engine.query(sql, &BTreeMap::new(), &limits).await?;
    Ok(rows_of_csv(&format::csv(&result.schema, &result.batches)?)?.1)
}

/// A query's only value as a number; NULL is 0.
pub async fn number_of(engine: &Engine, sql: &str) -> Result<u64> {
    let rows = rows_of(engine, sql).await?;
    let text = rows.first().and_then(|row| row.first()).map_or("", String::as_str);
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| Error::Bug(format!("`{text}` is no count: {sql}")))
}

/// The rows of a `__late` table, which exists once a row was late.
pub async fn late_rows(engine: &Engine, pipeline: &str) -> Result<u64> {
    let table = format!("{pipeline}__late");
    match engine.lake().existing(&table).await? {
        Some(_) => number_of(engine, &format!("SELECT count(*) FROM {table}")).await,
        None => Ok(0),
    }
}

/// Header and rows of a CSV text.
pub fn rows_of_csv(text: &str) -> Result<(Vec<String>, Rows)> {
    let wrong = |e: csv::Error| Error::Corrupt(format!("CSV: {e}"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(wrong)?.iter().map(str::to_string).collect();
    let rows = reader.records().map(|row| row.map(|row| row.iter().map(str::to_string).collect()));
    Ok((header, rows.collect::<Result<Rows, _>>().map_err(wrong)?))
}

/// The named columns of a stored answer, in the order of the names.
pub fn answer(dir: &Path, name: &str, columns: &[&str]) -> Result<Rows> {
    let path = dir.join("answers").join(format!("{name}.csv"));
    let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, "read", e))?;
    let (header, rows) = rows_of_csv(&text)?;
    let places = columns.iter().map(|column| {
        let place = header.iter().position(|name| name == column);
        place.ok_or_else(|| Error::Corrupt(format!("{} has no column `{column}`", path.display())))
    });
    let places = places.collect::<Result<Vec<_>>>()?;
    let chosen = |row: Vec<String>| places.iter().map(|at| row.get(*at).cloned().unwrap_or_default()).collect();
    Ok(rows.into_iter().map(chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[&[&str]]) -> Rows {
        cells.iter().map(|row| row.iter().map(|cell| (*cell).to_string()).collect()).collect()
    }

    #[test]
    fn rows_are_compared_in_any_order_and_spelling() {
        let ours = rows(&[&["b", "1.5"], &["2024-08-13T14:40:31Z", "3"]]);
        let same = rows(&[&["2024-08-13 14:40:31", "3.0"], &["b", "1.5000001"]]);
        assert_eq!(Check::rows("", ours.clone(), same).outcome, Ok("2 rows".to_string()));
        let other = rows(&[&["2024-08-13 14:40:31", "4"], &["b", "1.5"]]);
        assert_eq!(
            Check::rows("", ours.clone(), other).outcome,
            Err("2024-08-13T14:40:31 3, expected 2024-08-13T14:40:31 4".to_string())
        );
        assert!(Check::rows("", ours, Vec::new()).outcome.is_err(), "a missing row differs");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([7, 1_000, 1_719_516].map(grouped), ["7", "1,000", "1,719,516"]);
    }
}

//! The SQL of a number: a metric's query as an analyst would type it, with the values of the question where the file has
//! parameters, and with the views that need parameters spelt out. It runs by itself, wherever SQL is taken.

use std::collections::BTreeMap;

use datafusion::scalar::ScalarValue;
use millstream::time::show;

use crate::catalog::{SqlFile, with_views, words};

/// The text for `sql` of the file `file`; `columns` are values that columns of the answer must have.
pub fn text(
    file: &SqlFile,
    sql: &str,
    views: &[SqlFile],
    values: &BTreeMap<String, ScalarValue>,
    columns: &BTreeMap<String, String>,
) -> String {
    let (comments, query) = parted(sql);
    let mut query = bound(query, values);
    if !columns.is_empty() {
        let equal = |(name, value): (&String, &String)| format!("CAST({name} AS TEXT) = {}", quoted(value));
        let conditions: Vec<String> = columns.iter().map(equal).collect();
        query = format!("SELECT *\nFROM (\n{query}\n) AS answer\nWHERE {}", conditions.join("\n  AND "));
    }
    let spelt: Vec<String> = in_order(file, views)
        .into_iter()
        .map(|view| format!("{} AS (\n{}\n)", view.name, bound(parted(&view.sql).1, values)))
        .collect();
    let query = match (spelt.is_empty(), own_with(&query)) {
        (true, _) => query,
        (false, Some(rest)) => format!("WITH {},\n{rest}", spelt.join(",\n")),
        (false, None) => format!("WITH {}\n{query}", spelt.join(",\n")),
    };
    format!("{comments}{query}")
}

/// The comment at the head, and what follows it.
fn parted(sql: &str) -> (String, &str) {
    let mut rest = sql.trim();
    let mut comments = String::new();
    while rest.starts_with("--") {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        comments.push_str(line.trim_end());
        comments.push('\n');
        rest = after.trim_start();
    }
    (comments, rest.trim_end().trim_end_matches(';').trim_end())
}

/// What follows the query's own `WITH`, if it begins with one.
fn own_with(query: &str) -> Option<&str> {
    let (word, rest) = query.split_once(char::is_whitespace)?;
    word.eq_ignore_ascii_case("with").then(|| rest.trim_start())
}

/// The views that the file uses and that need parameters, those first that others use.
fn in_order<'a>(file: &'a SqlFile, views: &'a [SqlFile]) -> Vec<&'a SqlFile> {
    let needs = |view: &SqlFile| with_views(view, views).iter().any(|text| !text.parameters().is_empty());
    let mut left: Vec<&SqlFile> = with_views(file, views).into_iter().skip(1).filter(|view| needs(view)).collect();
    let mut ordered: Vec<&SqlFile> = Vec::new();
    while !left.is_empty() {
        let free = |view: &&SqlFile| !left.iter().any(|other| other.name != view.name && view.mentions(&other.name));
        let (ready, waiting): (Vec<&SqlFile>, Vec<&SqlFile>) = left.iter().copied().partition(free);
        if ready.is_empty() {
            // Views that use each other are an error, which running the text tells.
            ordered.extend(waiting);
            break;
        }
        ordered.extend(ready);
        left = waiting;
    }
    ordered
}

/// The text with values for parameters. What has no value stays, and is an error that names it.
fn bound(sql: &str, values: &BTreeMap<String, ScalarValue>) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut rest = 0;
    for word in words(sql) {
        let Some(value) = word.strip_prefix('$').and_then(|name| values.get(name)) else { continue };
        // A word is a part of the text that it was found in.
        let at = word.as_ptr() as usize - sql.as_ptr() as usize;
        text.push_str(sql.get(rest..at).unwrap_or_default());
        text.push_str(&literal(value));
        rest = at + word.len();
    }
    text.push_str(sql.get(rest..).unwrap_or_default());
    text
}

fn literal(value: &ScalarValue) -> String {
    match value {
        ScalarValue::TimestampNanosecond(Some(at), _) => format!("TIMESTAMP '{}'", show(*at).trim_end_matches('Z')),
        ScalarValue::Utf8(Some(text)) => quoted(text),
        ScalarValue::Float64(Some(number)) => format!("{number:?}"),
        value if value.is_null() => "NULL".to_string(),
        value => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(name: &str, sql: &str) -> SqlFile {
        SqlFile::of(name.into(), PathBuf::from(format!("{name}.sql")), sql.into())
    }

    fn values() -> BTreeMap<String, ScalarValue> {
        BTreeMap::from([
            ("from".to_string(), ScalarValue::TimestampNanosecond(Some(0), None)),
            ("tz".to_string(), ScalarValue::Utf8(Some("O'Zone".into()))),
            ("tier".to_string(), ScalarValue::Null),
        ])
    }

    #[test]
    fn parameters_become_values_and_views_with_parameters_parts_of_the_query() {
        let views = [
            file("days", "-- Days.\nSELECT * FROM active WHERE at >= $from"),
            file("active", "SELECT * FROM raw WHERE $tier IS NULL"),
            file("plain", "SELECT 1 AS one"),
        ];
        let metric = file("m", "-- M, as $from says\nWITH own AS (SELECT '$tz')\nSELECT $tz FROM own, days, plain;\n");
        assert_eq!(
            text(&metric, &metric.sql, &views, &values(), &BTreeMap::new()),
            "-- M, as $from says\n\
             WITH active AS (\nSELECT * FROM raw WHERE NULL IS NULL\n),\n\
             days AS (\nSELECT * FROM active WHERE at >= TIMESTAMP '1970-01-01T00:00:00.000'\n),\n\
             own AS (SELECT '$tz')\nSELECT 'O''Zone' FROM own, days, plain"
        );
    }

    #[test]
    fn values_of_columns_are_conditions_around_it() {
        let metric = file("m", "SELECT $unknown AS tier");
        let columns = BTreeMap::from([("tier".to_string(), "te'am".to_string())]);
        assert_eq!(
            text(&metric, &metric.sql, &[], &values(), &columns),
            "SELECT *\nFROM (\nSELECT $unknown AS tier\n) AS answer\nWHERE CAST(tier AS TEXT) = 'te''am'"
        );
    }
}

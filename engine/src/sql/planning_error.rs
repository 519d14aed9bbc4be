//! DataFusion's planning errors in our words: one line of what is wrong, and the fix.

use datafusion::common::{DataFusionError, SchemaError};

/// What is wrong and what to write instead.
pub fn tell(e: &DataFusionError) -> (String, Option<String>) {
    let help = e.diagnostic().and_then(|d| d.helps.first().map(|h| h.message.clone()));
    let text = match e.find_root() {
        DataFusionError::SchemaError(s, _) => match s.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let known: Vec<String> = valid_fields.iter().map(|f| f.name().to_string()).collect();
                let fix = (!known.is_empty()).then(|| format!("use one of: {}", known.join(", ")));
                return (format!("there is no column '{}'", field.flat_name()), fix);
            }
            other => other.to_string(),
        },
        DataFusionError::Plan(m) | DataFusionError::NotImplemented(m) => m.clone(),
        root => root.strip_backtrace(),
    };
    known(&text, help.clone()).unwrap_or_else(|| (text.trim_end_matches('.').to_string(), help))
}

/// The messages that would show what is inside DataFusion.
fn known(text: &str, help: Option<String>) -> Option<(String, Option<String>)> {
    if let Some(rest) = text.strip_prefix("Invalid function ") {
        let (name, guess) = rest.split_once('.').unwrap_or((rest, ""));
        let guess = guess.trim();
        let fix = (!guess.is_empty()).then(|| guess.replacen("Did", "did", 1));
        return Some((format!("there is no function {name}"), fix));
    }
    for wrong in ["wrong number of arguments: ", "wrong types of arguments: "] {
        // Of a function of ours; DataFusion puts its own words around it.
        let Some((_, rest)) = text.split_once(wrong) else { continue };
        let (told, _) = rest.split_once(". No function matches").unwrap_or((rest, ""));
        return Some((format!("{wrong}{told}"), None));
    }
    if let Some((_, rest)) = text.split_once("argument types '") {
        let (call, rest) = rest.split_once('\'')?;
        let candidates = rest.split_once("Candidate functions:").map_or("", |(_, c)| c);
        let candidates: Vec<String> = candidates.split_whitespace().map(sql_types).collect();
        let fix = format!("cast the arguments; there is {}", candidates.join(", "));
        return Some((format!("there is no function {}", sql_types(call)), Some(fix)));
    }
    if let Some((_, rest)) = text.split_once("column \"").filter(|_| text.contains("must appear in the GROUP BY")) {
        let (column, _) = rest.split_once('"')?;
        return Some((format!("column {column} is neither in GROUP BY nor inside an aggregate function"), help));
    }
    if text.contains("Cannot run range queries on datatype") {
        let fix = "order by window.start, window.end, another time or a number".to_string();
        return Some(("an OVER cannot be ordered by a struct such as a window".into(), Some(fix)));
    }
    if let Some(rest) = text.strip_prefix("Cannot coerce arithmetic expression ") {
        let expression = sql_types(rest.strip_suffix(" to valid types").unwrap_or(rest));
        let fix = "cast one side, such as CAST(x AS BIGINT)".to_string();
        return Some((format!("{expression} has no meaning"), Some(fix)));
    }
    None
}

/// Arrow's names of types as they are written in SQL.
fn sql_types(text: &str) -> String {
    [("LargeUtf8", "TEXT"), ("Utf8View", "TEXT"), ("Utf8", "TEXT"), ("UInt64", "BIGINT UNSIGNED"), ("Int64", "BIGINT")]
        .iter()
        .chain(&[("Int32", "INT"), ("Float64", "DOUBLE"), ("Boolean", "BOOLEAN")])
        .fold(text.to_string(), |text, (arrow, sql)| text.replace(arrow, sql))
}

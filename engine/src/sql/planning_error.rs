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

/// Beginnings of messages that say too little, our words for them, and the fix.
const SAY_MORE: [(&str, &str, &str); 13] = [
    (
        "Unnest should be rewritten to LogicalPlan::Unnest",
        "unnest is only allowed in a SELECT list",
        "unnest in a subquery, then use its column",
    ),
    (
        "unnest() can only be applied to array, struct and null",
        "unnest takes a list or a struct",
        "declare the column as a list, such as BIGINT[], or give it to extract_json",
    ),
    (
        "Recursive CTE is not implemented",
        "WITH RECURSIVE is not supported in a pipeline",
        "unroll it into the steps you need",
    ),
    (
        "DISTINCT ON without an order",
        "DISTINCT ON without an order says not which row of a key it means",
        "add ORDER BY with the keys and then the order in which the first row counts, such as ORDER BY key, ts DESC",
    ),
    (
        "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
        "ORDER BY begins with other columns than DISTINCT ON",
        "add ORDER BY with the keys and then the order in which the first row counts, such as ORDER BY key, ts DESC",
    ),
    (
        "this subquery cannot be made a join",
        "this subquery cannot be made a join with its row",
        "let it be bound to its row by equalities in its WHERE, such as b.k = a.k, below no LIMIT, UNION or aggregate",
    ),
    (
        "Correlated scalar subquery must be aggregated",
        "a scalar subquery about its row may give many rows",
        "aggregate it, such as (SELECT max(b.v) FROM b WHERE b.k = a.k), or write a LEFT JOIN",
    ),
    (
        "Too many columns! The subquery should only return one column",
        "IN compares one value with a subquery of one column",
        "write (x, y) IN (SELECT b.x, b.y FROM b)",
    ),
    ("ANY in LIKE expression", "LIKE compares with one pattern", "write x LIKE 'a%' OR x LIKE 'b%'"),
    (
        "= ALL of a subquery",
        "= ALL of a subquery is not supported in a pipeline",
        "write x = (SELECT min(y) FROM s) AND x = (SELECT max(y) FROM s)",
    ),
    (
        "!= ANY of a subquery",
        "<> ANY of a subquery is not supported in a pipeline",
        "write x <> (SELECT min(y) FROM s) OR x <> (SELECT max(y) FROM s)",
    ),
    (
        "Source table contains ",
        "a subquery has other columns than the names that it is given, or than the row that is looked for in it",
        "give both as many columns",
    ),
    (
        "Physical plan does not support logical expression OuterReferenceColumn",
        "a subquery cannot use a column of the query around it here",
        "join the two on a key",
    ),
];

/// Functions of other engines, and what is written here.
const ELSEWHERE: [(&str, &str); 48] = [
    (
        "proctime",
        "a table without WATERMARK FOR has the arrival as its event time; as a column it is METADATA FROM 'received_at'",
    ),
    ("current_watermark", "compare with row_time(), the event time of the row"),
    ("to_timestamp_ltz", "write to_timestamp_millis(x) or to_timestamp_seconds(x)"),
    ("window", "write tumble(INTERVAL '1 minute'), or hop(INTERVAL '10 seconds', INTERVAL '1 minute')"),
    ("listagg", "write string_agg(x, ',')"),
    ("group_concat", "write string_agg(x, ',')"),
    ("collect", "write array_agg(x)"),
    ("collect_list", "write array_agg(x)"),
    ("collect_set", "write array_agg(DISTINCT x)"),
    ("max_by", "write first_value(x ORDER BY y DESC)"),
    ("arg_max", "write first_value(x ORDER BY y DESC)"),
    ("min_by", "write first_value(x ORDER BY y)"),
    ("arg_min", "write first_value(x ORDER BY y)"),
    ("latest_by_offset", "write last_value(x)"),
    ("earliest_by_offset", "write first_value(x)"),
    ("first", "write first_value(x)"),
    ("last", "write last_value(x)"),
    ("approx_count_distinct", "write approx_distinct(x)"),
    ("count_if", "write count(*) FILTER (WHERE condition)"),
    ("countif", "write count(*) FILTER (WHERE condition)"),
    ("sum_if", "write sum(x) FILTER (WHERE condition)"),
    ("unix_timestamp", "write to_unixtime(ts)"),
    ("date_format", "write to_char(ts, '%Y-%m-%d')"),
    ("timestampdiff", "write date_part('epoch', b - a), in seconds"),
    ("datediff", "write date_part('epoch', b - a) / 86400, in days"),
    ("timestampadd", "write ts + INTERVAL '1 hour'"),
    ("date_add", "write ts + INTERVAL '1 day'"),
    ("date_sub", "write ts - INTERVAL '1 day'"),
    ("year", "write date_part('year', ts)"),
    ("month", "write date_part('month', ts)"),
    ("hour", "write date_part('hour', ts)"),
    ("dayofweek", "write date_part('dow', ts)"),
    ("if", "write CASE WHEN condition THEN a ELSE b END"),
    ("iff", "write CASE WHEN condition THEN a ELSE b END"),
    ("isnull", "write x IS NULL, or coalesce(x, y)"),
    ("split_index", "write split_part(text, '-', 1): places count from 1"),
    ("regexp_extract", "write regexp_match(text, 'a(b)')[1]"),
    ("parse_url", "write regexp_match(url, '^https?://([^/]+)')[1]"),
    ("json_value", "write extract_json_string(text, '$.path'), or text ->> 'key'"),
    ("json_query", "write get_first_json_object(text, '$.path'), or text -> 'key'"),
    ("json_exists", "write text ? 'key'"),
    ("jsonb_array_elements", "write unnest(json_get_array(text, 'key'))"),
    ("json_array_elements", "write unnest(json_get_array(text, 'key'))"),
    ("array_filter", "unnest the list in a query, then WHERE, then array_agg(item) by the key of the row"),
    ("array_transform", "unnest the list in a query, then array_agg(...) by the key of the row"),
    ("array_any_match", "write array_has(list, value), or EXISTS over the items that a query unnests"),
    (
        "array_first",
        "write list[1], or unnest the list in a query, then WHERE, then first_value(item) by the key of the row",
    ),
    ("jsonb_extract_path_text", "write json_as_text(text, 'key', 'inner')"),
];

fn elsewhere(name: &str) -> Option<String> {
    let name = name.trim_matches('\'');
    ELSEWHERE.iter().find(|(known, _)| *known == name).map(|(_, fix)| (*fix).to_string())
}

/// Flink's functions for the bounds of a window, which here is a value with fields.
fn bound_of_window(name: &str) -> Option<String> {
    let (window, bound) = name.trim_matches('\'').rsplit_once('_')?;
    let is_window = matches!(window, "tumble" | "hop" | "session" | "cumulate");
    let field = match bound {
        "start" => "start",
        "end" | "rowtime" => "end",
        _ => return None,
    };
    is_window.then(|| format!("group by {window}(...) AS w, and select w['{field}'] in a query around it"))
}

/// `MatchRecognize` as `MATCH_RECOGNIZE`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(c.to_uppercase());
    }
    words
}

/// The messages that would show what is inside DataFusion.
fn known(text: &str, help: Option<String>) -> Option<(String, Option<String>)> {
    if let Some((_, message, fix)) = SAY_MORE.iter().find(|(begin, ..)| text.starts_with(begin)) {
        return Some(((*message).to_string(), Some((*fix).to_string())));
    }
    if let Some(rest) = text.strip_prefix("Unsupported ast node ") {
        let form = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or(rest);
        let fix = match form {
            "Pivot" => "write an aggregate with FILTER (WHERE ...) for each value",
            "MatchRecognize" => "compare neighbours with lag(...) OVER (PARTITION BY ... ORDER BY event time)",
            _ => "see the README for what a pipeline can hold",
        };
        return Some((format!("{} is not supported in a pipeline", words(form)), Some(fix.to_string())));
    }
    if text.starts_with("Query INSERT INTO") {
        let fix = "write INSERT INTO table WITH ... SELECT ...";
        return Some(("WITH stands before INSERT INTO".to_string(), Some(fix.to_string())));
    }
    if text.starts_with("attempted to read from table") {
        let fix = "read the table that its pipeline reads, or declare it with a connector that is a source";
        return Some((text.to_string(), Some(fix.to_string())));
    }
    if let Some(rest) = text.strip_prefix("Invalid function ") {
        let (name, guess) = rest.split_once('.').unwrap_or((rest, ""));
        let guess = guess.trim();
        let fix = bound_of_window(name)
            .or_else(|| elsewhere(name))
            .or_else(|| (!guess.is_empty()).then(|| guess.replacen("Did", "did", 1)));
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
    if text.starts_with("Projections require unique expression names") {
        let name = text.split('"').nth(1).unwrap_or_default();
        let name = name.rsplit_once('.').filter(|_| !name.contains('(')).map_or(name, |(_, column)| column);
        let fix = "name one of them: SELECT x AS a, ... AS b".to_string();
        return Some((format!("two columns of the SELECT list have the same name, {name}"), Some(fix)));
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

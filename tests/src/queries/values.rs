//! Lists, JSON, first rows and unions.

use super::{Pair, aggregate, key, number, pick, predicate, rows};
use crate::random::Random;

/// Rows of a list, and aggregates over them.
pub(super) fn unnested(random: &mut Random) -> Pair {
    let (rows, a, b) = (rows(random), number(random), number(random));
    let of = |list: &str| {
        let inner = format!("SELECT id, k, unnest({list}) AS u FROM {rows}");
        match b.len() % 2 {
            0 => inner,
            _ => format!("SELECT u, count(*) AS n, count(k) AS m FROM ({inner}) GROUP BY u"),
        }
    };
    let items = match random.below(3) {
        0 => format!("{a}, {b}"),
        1 => format!("{a}, NULL, {b}, id"),
        _ => a,
    };
    Pair(of(&format!("make_array({items})")), of(&format!("[{items}]")))
}

/// Values out of JSON text.
pub(super) fn json(random: &mut Random) -> Pair {
    let rows = rows(random);
    let text = "concat('{\"a\":', coalesce(CAST(v AS VARCHAR), 'null'), ',\"b\":[', CAST(id AS VARCHAR), ',\"', \
                coalesce(k, 'none'), '\"],\"c\":{\"d\":', CASE WHEN v > 10 THEN 'true' ELSE 'false' END, '}}')";
    let all = [
        ("json_get_int(j, 'a')", "CAST(j->>'$.a' AS BIGINT)"),
        ("json_get_int(j, 'b', 0)", "CAST(j->>'$.b[0]' AS BIGINT)"),
        ("j->'b'->>1", "j->>'$.b[1]'"),
        ("json_get_str(j, 'b', 1)", "j->>'$.b[1]'"),
        ("json_get_bool(j, 'c', 'd')", "CAST(j->>'$.c.d' AS BOOLEAN)"),
        ("j->>'a'", "j->>'$.a'"),
        ("json_length(j, 'b')", "json_array_length(j, '$.b')"),
        ("j ? 'a'", "json_exists(j, '$.a')"),
        ("j->'c' ? 'x'", "json_exists(j, '$.c.x')"),
        ("extract_json_string(j, '$.b[1]')", "j->>'$.b[1]'"),
    ];
    let mut value = || all[random.below(all.len() as u64) as usize];
    let (x, y) = (value(), value());
    let from = format!("(SELECT id, {text} AS j FROM {rows})");
    match random.below(3) {
        0 => Pair(
            format!("SELECT {} AS g, count(*) AS n FROM {from} GROUP BY 1", x.0),
            format!("SELECT {} AS g, count(*) AS n FROM {from} GROUP BY 1", x.1),
        ),
        1 => Pair(
            format!("SELECT id, {} AS a FROM {from} WHERE json_get_int(j, 'a') > 5", x.0),
            format!("SELECT id, {} AS a FROM {from} WHERE CAST(j->>'$.a' AS BIGINT) > 5", x.1),
        ),
        _ => Pair(
            format!("SELECT id, {} AS a, {} AS b FROM {from}", x.0, y.0),
            format!("SELECT id, {} AS a, {} AS b FROM {from}", x.1, y.1),
        ),
    }
}

/// The first row of each key.
pub(super) fn distinct_on(random: &mut Random) -> Pair {
    let rows = pick(random, &["t", "t2", "(SELECT * FROM t WHERE v > 10)"]);
    let g = pick(random, &["k", "v % 4", "id % 5"]);
    let order =
        pick(random, &["ts DESC, id, v NULLS LAST", "v DESC NULLS LAST, id, f NULLS LAST, ts", "ts, id, v NULLS LAST"]);
    Pair::same(format!("SELECT DISTINCT ON ({g}) {g} AS g, id, v FROM {rows} ORDER BY {g}, {order}"))
}

/// Results that change, and rows, one after the other.
pub(super) fn union(random: &mut Random) -> Pair {
    let part = |random: &mut Random| {
        let (rows, p) = (rows(random), predicate(random));
        match random.below(3) {
            0 => format!("SELECT CAST({} AS VARCHAR) AS g, v AS n FROM {rows} WHERE {p}", key(random)),
            1 => format!("SELECT CAST({} AS VARCHAR) AS g, count(*) AS n FROM {rows} GROUP BY 1", key(random)),
            _ => format!("SELECT DISTINCT CAST({} AS VARCHAR) AS g, {} AS n FROM {rows}", key(random), number(random)),
        }
    };
    let (x, y) = (part(random), part(random));
    let both = format!("({x}) {} ({y})", pick(random, &["UNION ALL", "UNION", "INTERSECT", "EXCEPT"]));
    Pair::same(match random.below(2) {
        0 => both,
        _ => format!(
            "SELECT g, {} AS a FROM (SELECT g, n AS v, n AS id, g AS k, CAST(n AS DOUBLE) AS f FROM ({both})) GROUP BY g",
            aggregate(random)
        ),
    })
}

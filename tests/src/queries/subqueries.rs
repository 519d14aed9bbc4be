//! Subqueries whose answer is a value.

use super::{Pair, pick, predicate, rows};
use crate::random::Random;

/// True, false or unknown, for a row of `x`.
fn answer(random: &mut Random) -> String {
    let p = predicate(random);
    let not = pick(random, &["", "NOT "]);
    match random.below(10) {
        0 => format!("x.v {not}IN (SELECT v FROM t2 WHERE {p})"),
        1 => format!("x.k {not}IN (SELECT k FROM t2 WHERE {p})"),
        2 => format!("x.v {not}IN (SELECT y.v FROM t2 AS y WHERE y.k = x.k)"),
        3 => format!("{not}EXISTS (SELECT 1 FROM t2 AS y WHERE y.v = x.v)"),
        4 => format!("{not}EXISTS (SELECT 1 FROM t2 AS y WHERE y.k = x.k AND y.v > x.v)"),
        5 => format!("{not}EXISTS (SELECT 1 FROM t2 WHERE {p})"),
        6 => format!("x.v {not}IN (SELECT max(v) FROM t2 WHERE {p} GROUP BY k)"),
        7 => format!("x.v > ANY (SELECT v FROM t2 WHERE {p})"),
        8 => format!("x.v <= ALL (SELECT v FROM t2 WHERE {p})"),
        _ => format!("x.v {not}IN (SELECT v FROM t2 WHERE v > 10 UNION ALL SELECT id FROM t2)"),
    }
}

/// `IN`, `EXISTS`, `ANY` and `ALL` in `OR`, in `CASE`, in the list of a `SELECT`, in aggregates and keys.
pub(super) fn marked(random: &mut Random) -> Pair {
    let (x, a, p) = (rows(random), answer(random), predicate(random));
    // Columns of the predicate are the row's.
    let p = p.replace("v ", "x.v ").replace("k ", "x.k ").replace("f ", "x.f ").replace("id ", "x.id ");
    Pair::same(match random.below(6) {
        0 => format!("SELECT x.id AS i, {a} AS a, {} AS b FROM {x} AS x", answer(random)),
        1 => format!("SELECT x.id AS i, x.v AS b FROM {x} AS x WHERE {a} OR {p}"),
        2 => format!("SELECT x.id AS i, x.v AS b FROM {x} AS x WHERE NOT ({a} AND {p})"),
        3 => {
            format!("SELECT x.id AS i, CASE WHEN {a} THEN 'yes' WHEN {p} THEN 'maybe' ELSE 'no' END AS b FROM {x} AS x")
        }
        4 => format!("SELECT {a} AS g, count(*) AS n, sum(x.v) AS s FROM {x} AS x GROUP BY 1"),
        _ => format!(
            "SELECT x.k AS g, count(*) FILTER (WHERE {a}) AS n, sum(CASE WHEN {a} THEN 1 ELSE 0 END) AS m FROM {x} AS x GROUP BY x.k"
        ),
    })
}

/// Scalar subqueries about a row, and `LATERAL`.
pub(super) fn of_row(random: &mut Random) -> Pair {
    let (x, p) = (rows(random), predicate(random));
    let on = pick(random, &["y.k = x.k", "y.v = x.v", "y.id = x.id AND y.k = x.k"]);
    let a = pick(
        random,
        &["count(*)", "max(y.v)", "sum(y.v)", "coalesce(sum(y.v), 0)", "count(DISTINCT y.k)", "min(y.f) + 1"],
    );
    let of = |a: &str| format!("(SELECT {a} FROM (SELECT * FROM t2 WHERE {p}) AS y WHERE {on})");
    Pair::same(match random.below(4) {
        0 => format!("SELECT x.id AS i, {} AS a, {} AS b FROM {x} AS x", of(a), of("count(y.v)")),
        1 => format!("SELECT x.id AS i, x.v AS b FROM {x} AS x WHERE x.v > {} OR x.v IS NULL", of("avg(y.v)")),
        2 => format!("SELECT x.id AS i, z.a FROM {x} AS x, LATERAL {} AS z", of(&format!("{a} AS a"))),
        _ => format!("SELECT x.id AS i, z.v AS a FROM {x} AS x LEFT JOIN LATERAL {} AS z ON true", of("y.v")),
    })
}

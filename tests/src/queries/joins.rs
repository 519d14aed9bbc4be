//! Joins within an interval, with a lookup table, and of results that change.

use super::{JOINS, Pair, aggregate, key, number, pick, predicate, rows};
use crate::random::Random;

/// A condition that bounds how far apart two rows are.
fn interval(random: &mut Random) -> String {
    let (before, after) = (random.below(20), random.below(30));
    let keys = pick(random, &["x.k = y.k", "x.v = y.v", "x.id % 3 = y.id % 3", "x.k = y.k AND x.v < y.v"]);
    match random.below(3) {
        0 => {
            format!("{keys} AND y.ts BETWEEN x.ts - INTERVAL '{before} seconds' AND x.ts + INTERVAL '{after} seconds'")
        }
        1 => format!("{keys} AND x.ts <= y.ts AND y.ts < x.ts + INTERVAL '{} seconds'", after + 1),
        _ => format!(
            "{keys} AND x.ts > y.ts - INTERVAL '{after} seconds' AND x.ts <= y.ts + INTERVAL '{before} seconds'"
        ),
    }
}

/// All types of joins within an interval.
pub(super) fn within(random: &mut Random) -> Pair {
    let (x, y, on) = (rows(random), rows(random), interval(random));
    Pair::same(match random.below(7) {
        0 => format!(
            "SELECT x.id AS i, x.k AS a, x.v AS b FROM {x} AS x WHERE EXISTS (SELECT 1 FROM {y} AS y WHERE {on})"
        ),
        1 => format!(
            "SELECT x.id AS i, x.k AS a, x.v AS b FROM {x} AS x WHERE NOT EXISTS (SELECT 1 FROM {y} AS y WHERE {on})"
        ),
        2 => format!("SELECT x.id AS i, x.k AS a, EXISTS (SELECT 1 FROM {y} AS y WHERE {on}) AS b FROM {x} AS x"),
        _ => {
            let kind = pick(random, &JOINS);
            format!("SELECT x.id AS i, x.k AS a, x.v AS b, y.id AS j, y.v AS c FROM {x} AS x {kind} {y} AS y ON {on}")
        }
    })
}

/// Windows over such a join: its rows are of the later of the two times.
pub(super) fn within_then_window(random: &mut Random) -> Pair {
    let (on, seconds) = (interval(random), [5, 10, 60][random.below(3) as usize]);
    let a = pick(random, &["count(*)", "sum(x.v)", "max(y.v)", "count(DISTINCT y.id)", "min(x.f)"]);
    Pair(
        format!(
            "SELECT w['start'], g, a FROM (SELECT tumble(INTERVAL '{seconds} seconds') AS w, x.k AS g, {a} AS a \
             FROM t AS x JOIN t2 AS y ON {on} GROUP BY 1, 2)"
        ),
        format!(
            "SELECT tumble_of(greatest(x.ts, y.ts), {seconds}), x.k, {a} FROM t AS x JOIN t2 AS y ON {on} GROUP BY 1, 2"
        ),
    )
}

/// Rows with what a lookup table holds for them.
pub(super) fn lookup(random: &mut Random) -> Pair {
    let (x, n) = (rows(random), number(random));
    let on = pick(random, &["x.id = d.id", "x.v = d.id", "x.id + 1 = d.id AND x.k = d.k", "d.id = x.id % 10"]);
    let on = on.replace("x.k = d.k", "d.v > 0");
    let of = pick(random, &["x.id", "x.v", "x.id % 10"]);
    Pair::same(match random.below(6) {
        0 => format!(
            "SELECT x.id AS i, x.v AS b FROM {x} AS x WHERE {of} IN (SELECT id FROM d WHERE {})",
            predicate(random)
        ),
        1 => format!("SELECT x.id AS i, x.v AS b FROM {x} AS x WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.id = {of})"),
        2 => format!("SELECT x.id AS i, {of} IN (SELECT id FROM d WHERE v > 20) AS b FROM {x} AS x"),
        3 => {
            let a = aggregate(random);
            format!(
                "SELECT g, {a} AS a FROM (SELECT x.id, x.k, x.v, x.f, d.k AS g FROM {x} AS x LEFT JOIN d ON {on}) GROUP BY g"
            )
        }
        _ => {
            let kind = pick(random, &["JOIN", "LEFT JOIN"]);
            format!(
                "SELECT x.id AS i, x.n, d.k AS a, d.v AS b FROM (SELECT *, {n} AS n FROM {x}) AS x {kind} d ON {on}"
            )
        }
    })
}

/// Joins of results that change, of all types, with each other and with rows.
pub(super) fn of_updating(random: &mut Random) -> Pair {
    let side = |random: &mut Random| {
        let (rows, a) = (rows(random), aggregate(random));
        let g = pick(random, &["k", "v % 3", "id % 4"]);
        (format!("(SELECT CAST({g} AS VARCHAR) AS g, {a} AS a, count(*) AS n FROM {rows} GROUP BY 1)"), g)
    };
    let ((x, _), (y, _)) = (side(random), side(random));
    let kind = pick(random, &JOINS);
    Pair::same(match random.below(4) {
        0 => {
            let (r, g) = (rows(random), key(random));
            format!(
                "SELECT x.g AS a, x.a AS b, y.id AS j, y.v AS c FROM {x} AS x {kind} (SELECT id, v, CAST({g} AS VARCHAR) AS g \
                 FROM {r}) AS y ON x.g = y.g"
            )
        }
        1 => format!("SELECT x.g AS a, x.a AS b, y.a AS c FROM {x} AS x {kind} {y} AS y ON x.g = y.g AND x.n > y.n"),
        2 => format!(
            "SELECT h, count(*) AS m, sum(n) AS s FROM (SELECT y.g AS h, x.n AS n FROM {x} AS x {kind} {y} AS y ON x.g = y.g) GROUP BY h"
        ),
        _ => format!("SELECT x.g AS a, x.a AS b, y.g AS c, y.a AS d FROM {x} AS x {kind} {y} AS y ON x.g = y.g"),
    })
}

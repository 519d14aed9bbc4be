//! Random streaming queries, each in our SQL and in DuckDB's.
//!
//! Both read `t` and `t2` (`id`, `k`, `v`, `f`, `ts`), and `d`, the rows of `t2` as a lookup table by `id`. DuckDB has the macro
//! `tumble_of(ts, seconds)`, and `rn`, the place of a row in its stream.

mod joins;
mod subqueries;
mod values;
mod windows;

use crate::random::Random;

/// One query in two dialects, with the same columns in the same order.
#[derive(Debug, Clone)]
pub struct Query {
    /// For the engine.
    pub ours: String,
    /// What `INSERT INTO ... SELECT` ends with: `EMIT EVERY`, or nothing.
    pub emit: String,
    /// For DuckDB.
    pub duckdb: String,
}

/// A query's text in both dialects while it is put together.
#[derive(Clone)]
struct Pair(String, String);

impl Pair {
    fn same(text: impl Into<String>) -> Self {
        let text = text.into();
        Self(text.clone(), text)
    }
}

/// The kinds of queries.
const KINDS: [fn(&mut Random) -> Pair; 27] = [
    windowed,
    second_window,
    window_join,
    window_top,
    session,
    updating,
    nested,
    join,
    join_aggregate,
    subquery,
    distinct,
    over,
    in_order,
    versions,
    top,
    windows::cumulating,
    windows::moved,
    joins::within,
    joins::within_then_window,
    joins::lookup,
    joins::of_updating,
    subqueries::marked,
    subqueries::of_row,
    values::unnested,
    values::json,
    values::distinct_on,
    values::union,
];

/// A random query.
pub fn query(random: &mut Random) -> Query {
    // One in eight is of windows that are shown before they close.
    if random.one_in(8) {
        return windows::early(random);
    }
    let kind = KINDS[random.below(KINDS.len() as u64) as usize];
    let Pair(ours, duckdb) = kind(random);
    Query { ours, emit: String::new(), duckdb }
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len() as u64) as usize]
}

/// A value of a row: never fails, and means the same in both dialects.
fn number(random: &mut Random) -> String {
    pick(
        random,
        &[
            "v",
            "v + 1",
            "v * 3 - 2",
            "coalesce(v, 0)",
            "abs(v)",
            "v % 7",
            "CASE WHEN v > 20 THEN v ELSE -1 END",
            "nullif(v, 5)",
            "length(k)",
            "id % 10",
        ],
    )
    .to_string()
}

fn key(random: &mut Random) -> String {
    pick(random, &["k", "coalesce(k, 'none')", "upper(k)", "substr(k, 5, 1)", "v % 3", "v > 10", "id % 4"]).to_string()
}

fn predicate(random: &mut Random) -> String {
    let one = |random: &mut Random| {
        pick(
            random,
            &[
                "v > 10",
                "v IS NOT NULL",
                "f < 600",
                "k LIKE '%1'",
                "k IN ('key-0', 'key-2')",
                "v BETWEEN 0 AND 60",
                "id % 3 <> 0",
                "f IS NULL",
                "k IS NOT NULL",
                "v <> 3",
            ],
        )
        .to_string()
    };
    match random.below(4) {
        0 => format!("({} OR {})", one(random), one(random)),
        1 => format!("{} AND {}", one(random), one(random)),
        2 => format!("NOT ({})", one(random)),
        _ => one(random),
    }
}

/// An aggregate whose value does not depend on the order of rows.
fn aggregate(random: &mut Random) -> String {
    let n = number(random);
    let call = match random.below(9) {
        0 => "count(*)".to_string(),
        1 => format!("count({n})"),
        2 => format!("sum({n})"),
        3 => format!("min({n})"),
        4 => format!("max({n})"),
        5 => format!("count(DISTINCT {n})"),
        6 => "avg(f)".to_string(),
        7 => "sum(f)".to_string(),
        _ => "max(f)".to_string(),
    };
    if random.one_in(4) { format!("{call} FILTER (WHERE {})", predicate(random)) } else { call }
}

/// Rows with the columns id, k, v, f, ts.
fn rows(random: &mut Random) -> String {
    match random.below(6) {
        0 | 1 => "t".into(),
        2 => format!("(SELECT id, k, v, f, ts FROM t WHERE {})", predicate(random)),
        3 => "(SELECT id, k, v, f, ts FROM t UNION ALL SELECT id, k, v, f, ts FROM t2)".into(),
        4 => format!("(SELECT id, {} AS k, v, f, ts FROM t2)", pick(random, &["upper(k)", "coalesce(k, 'none')", "k"])),
        _ => "t2".into(),
    }
}

const WIDTHS: [(&str, u64); 4] = [("5 seconds", 5), ("10 seconds", 10), ("1 minute", 60), ("1 hour", 3600)];

/// An aligned window: ours, and DuckDB's `FROM` that gives each row its window's start as `w`, and the width.
fn window(random: &mut Random, rows: &str) -> (String, String, u64) {
    if random.one_in(2) {
        let (text, seconds) = WIDTHS[random.below(4) as usize];
        let from = format!("(SELECT *, tumble_of(ts, {seconds}) AS w FROM {rows})");
        return (format!("tumble(INTERVAL '{text}')"), from, seconds);
    }
    let (slide, width) = [(10, 60), (7, 20), (5, 15), (4, 10)][random.below(4) as usize];
    let from = format!(
        "(SELECT r.*, make_timestamp(start) AS w FROM {rows} AS r, LATERAL (SELECT unnest(range(
            ((epoch_us(ts) - {width}000000) // {slide}000000 + 1) * {slide}000000, epoch_us(ts) + 1, {slide}000000)) AS start))"
    );
    (format!("hop(INTERVAL '{slide} seconds', INTERVAL '{width} seconds')"), from, width)
}

/// `w`, `g`, `a`, `b` by window and key; in DuckDB `w` is the start of the window, in ours the window.
fn aggregated(random: &mut Random) -> (Pair, u64) {
    let rows = rows(random);
    let (ours, from, width) = window(random, &rows);
    let (g, a, b) = (key(random), aggregate(random), aggregate(random));
    let having = if random.one_in(4) { " HAVING count(*) > 2" } else { "" };
    let pair = Pair(
        format!("(SELECT {ours} AS w, {g} AS g, {a} AS a, {b} AS b FROM {rows} GROUP BY 1, 2{having})"),
        format!("(SELECT w, {g} AS g, {a} AS a, {b} AS b FROM {from} GROUP BY 1, 2{having})"),
    );
    (pair, width)
}

fn windowed(random: &mut Random) -> Pair {
    let (Pair(ours, duckdb), width) = aggregated(random);
    Pair(
        format!("SELECT w['start'], w['end'], g, a, b FROM {ours}"),
        format!("SELECT w, w + INTERVAL {width} second, g, a, b FROM {duckdb}"),
    )
}

fn second_window(random: &mut Random) -> Pair {
    let (Pair(ours, duckdb), _) = aggregated(random);
    let outer = pick(random, &["max(a)", "count(*)", "sum(b)", "min(a)", "count(DISTINCT a)"]);
    Pair(
        format!("SELECT w['start'], m, n FROM (SELECT w, {outer} AS m, count(a) AS n FROM {ours} GROUP BY w)"),
        format!("SELECT w, {outer}, count(a) FROM {duckdb} GROUP BY w"),
    )
}

fn window_join(random: &mut Random) -> Pair {
    let (text, seconds) = WIDTHS[random.below(3) as usize];
    let g = pick(random, &["k", "v % 3", "upper(k)"]);
    let side = |random: &mut Random| {
        let (rows, a) = (rows(random), aggregate(random));
        Pair(
            format!("(SELECT tumble(INTERVAL '{text}') AS w, {g} AS g, {a} AS a FROM {rows} GROUP BY 1, 2)"),
            format!("(SELECT tumble_of(ts, {seconds}) AS w, {g} AS g, {a} AS a FROM {rows} GROUP BY 1, 2)"),
        )
    };
    let (x, y) = (side(random), side(random));
    let kind = pick(random, &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    Pair(
        format!(
            "SELECT x.w['start'], x.g, x.a, y.w['start'], y.g, y.a FROM {} AS x {kind} {} AS y ON x.g = y.g AND x.w = y.w",
            x.0, y.0
        ),
        format!("SELECT x.w, x.g, x.a, y.w, y.g, y.a FROM {} AS x {kind} {} AS y ON x.g = y.g AND x.w = y.w", x.1, y.1),
    )
}

fn window_top(random: &mut Random) -> Pair {
    let (Pair(ours, duckdb), _) = aggregated(random);
    let rank = pick(random, &["rank()", "dense_rank()"]);
    let (order, n) = (pick(random, &["a DESC NULLS LAST", "b NULLS FIRST, a NULLS LAST"]), 1 + random.below(3));
    let over = format!("{rank} OVER (PARTITION BY w ORDER BY {order})");
    Pair(
        format!("SELECT w['start'], g, a, b, p FROM (SELECT w, g, a, b, {over} AS p FROM {ours}) WHERE p <= {n}"),
        format!("SELECT w, g, a, b, p FROM (SELECT w, g, a, b, {over} AS p FROM {duckdb}) WHERE p <= {n}"),
    )
}

fn session(random: &mut Random) -> Pair {
    let (rows, a, gap) = (rows(random), aggregate(random), 1 + random.below(30));
    Pair(
        format!(
            "SELECT w['start'], w['end'], k, a, n FROM (SELECT session(INTERVAL '{gap} seconds') AS w, k, {a} AS a,
               count(*) AS n FROM {rows} GROUP BY 1, 2)"
        ),
        format!(
            "SELECT min(ts), max(ts) + INTERVAL {gap} second, k, {a}, count(*) FROM (
               SELECT *, sum(starts) OVER (PARTITION BY k ORDER BY ts, rn) AS s FROM (
                 SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k ORDER BY ts, rn) < INTERVAL {gap} second
                   THEN 0 ELSE 1 END AS starts FROM (SELECT *, row_number() OVER () AS rn FROM {rows}))) GROUP BY k, s"
        ),
    )
}

fn updating(random: &mut Random) -> Pair {
    let (rows, a, b) = (rows(random), aggregate(random), aggregate(random));
    match random.below(4) {
        0 => Pair::same(format!("SELECT {a} AS a, {b} AS b FROM {rows}")),
        1 => {
            let (g, h) = (key(random), key(random));
            Pair::same(format!("SELECT {g} AS g, {h} AS h, {a} AS a, {b} AS b FROM {rows} GROUP BY 1, 2"))
        }
        2 => {
            let g = key(random);
            Pair::same(format!("SELECT {g} AS g, {a} AS a, {b} AS b FROM {rows} GROUP BY 1 HAVING count(*) % 3 <> 0"))
        }
        _ => {
            let g = key(random);
            Pair::same(format!("SELECT {g} AS g, {a} AS a, {b} AS b FROM {rows} GROUP BY 1"))
        }
    }
}

fn nested(random: &mut Random) -> Pair {
    let (rows, a) = (rows(random), aggregate(random));
    let outer = pick(random, &["sum(a)", "count(*)", "max(a)", "min(a)", "avg(a)", "count(DISTINCT a)", "count(a)"]);
    let g = pick(random, &["v % 5", "k", "id % 6"]);
    Pair::same(format!(
        "SELECT h, {outer} AS m, count(*) AS n FROM (SELECT {g} AS g, k AS h, {a} AS a FROM {rows} GROUP BY 1, 2) GROUP BY h"
    ))
}

const JOINS: [&str; 4] = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// A join's condition between `x` and `y`, narrow enough for small results.
fn on(random: &mut Random) -> &'static str {
    pick(
        random,
        &[
            "x.k = y.k AND x.id % 10 = y.id % 10",
            "x.v = y.v",
            "x.k = y.k AND x.v = y.v",
            "x.id = y.id",
            "x.id = y.id AND x.v < y.v",
            "x.v = y.v AND x.f > y.f",
        ],
    )
}

fn join(random: &mut Random) -> Pair {
    let kind = pick(random, &JOINS);
    let (x, y, on) = (rows(random), rows(random), on(random));
    Pair::same(format!(
        "SELECT x.id AS i, x.k AS a, x.v AS b, y.id AS j, y.k AS c, y.v AS d FROM {x} AS x {kind} {y} AS y ON {on}"
    ))
}

fn join_aggregate(random: &mut Random) -> Pair {
    let kind = pick(random, &JOINS);
    let (x, y, on) = (rows(random), rows(random), on(random));
    let a = pick(random, &["count(*)", "sum(y.v)", "max(x.v)", "count(y.id)", "min(y.f)", "count(DISTINCT y.v)"]);
    Pair::same(format!(
        "SELECT x.k AS g, {a} AS a, count(x.id) AS n FROM {x} AS x {kind} {y} AS y ON {on} GROUP BY x.k"
    ))
}

fn subquery(random: &mut Random) -> Pair {
    let (x, p) = (rows(random), predicate(random));
    let condition = match random.below(7) {
        3 => format!("x.v NOT IN (SELECT v FROM t2 WHERE {p})"),
        4 => format!("x.v > (SELECT avg(v) FROM t2 WHERE {p})"),
        5 => format!("x.v = (SELECT max(v) FROM t) OR x.v IS NULL AND (SELECT count(*) FROM t2 WHERE {p}) < 9"),
        0 => format!("x.v IN (SELECT v FROM t2 WHERE {p})"),
        1 => format!("EXISTS (SELECT 1 FROM t2 AS y WHERE y.id = x.id AND {p})"),
        2 => "NOT EXISTS (SELECT 1 FROM t2 AS y WHERE y.v = x.v)".into(),
        _ => format!("x.id IN (SELECT max(id) FROM t2 WHERE {p} GROUP BY k)"),
    };
    Pair::same(format!("SELECT x.id AS i, x.k AS a, x.v AS b FROM {x} AS x WHERE {condition}"))
}

/// Rows with the version of the other stream at their time; of two versions of one time the later one.
fn versions(random: &mut Random) -> Pair {
    let on = pick(random, &["x.k = y.k", "x.id % 4 = y.id % 4", "x.v % 5 = y.v % 5 AND x.k = y.k"]);
    let columns = "x.id AS i, x.k AS a, x.v AS b, y.id AS j, y.v AS c";
    let (kind, join) = match random.below(3) {
        0 => ("JOIN", format!("JOIN t2 FOR SYSTEM_TIME AS OF x.ts AS y ON {on}")),
        1 => ("LEFT JOIN", format!("LEFT JOIN t2 FOR SYSTEM_TIME AS OF x.ts AS y ON {on}")),
        _ => ("LEFT JOIN", format!("ASOF JOIN t2 AS y MATCH_CONDITION (x.ts >= y.ts) ON {on}")),
    };
    Pair(
        format!("SELECT {columns} FROM t AS x {join}"),
        format!(
            "SELECT i, a, b, j, c FROM (SELECT {columns}, row_number() OVER (PARTITION BY x.rowid ORDER BY y.ts DESC, \
             y.rowid DESC) AS p FROM t AS x {kind} t2 AS y ON {on} AND y.ts <= x.ts) WHERE p = 1"
        ),
    )
}

fn distinct(random: &mut Random) -> Pair {
    let rows = rows(random);
    match random.below(4) {
        0 => Pair::same(format!("SELECT DISTINCT {} AS a, {} AS b FROM {rows}", key(random), number(random))),
        1 => Pair::same("SELECT k, v FROM t UNION SELECT k, v FROM t2".to_string()),
        2 => Pair::same(format!("SELECT count(*) AS n FROM (SELECT DISTINCT k, v FROM {rows})")),
        _ => Pair::same(format!("SELECT DISTINCT g, n FROM (SELECT k AS g, count(*) AS n FROM {rows} GROUP BY k)")),
    }
}

fn top(random: &mut Random) -> Pair {
    // One stream: ids of two would tie.
    let (rows, n) = (pick(random, &["t", "t2", "(SELECT * FROM t WHERE v > 10)"]), 1 + random.below(4));
    let order = pick(
        random,
        &[
            "v DESC NULLS LAST, id, f NULLS LAST, ts",
            "f NULLS FIRST, id DESC, v NULLS LAST, ts",
            "ts DESC, id, v NULLS LAST",
            "id, ts",
            "ts, id, v NULLS LAST",
        ],
    );
    let g = pick(random, &["k", "v % 4", "id % 5"]);
    let rank = if random.one_in(3) { ", p" } else { "" };
    Pair::same(format!(
        "SELECT id, k, v{rank} FROM (SELECT id, k, v, row_number() OVER (PARTITION BY {g} ORDER BY {order}) AS p FROM {rows}) WHERE p <= {n}"
    ))
}

/// Functions over a partition: by event time with and without peers, and in other orders. Where rows tie, they are equal.
fn over(random: &mut Random) -> Pair {
    let rows = pick(random, &["t", "t2", "(SELECT * FROM t WHERE v > 10)"]);
    let g = pick(random, &["k", "v % 4", "id % 5"]);
    let seconds = 1 + random.below(30);
    let range = format!("RANGE BETWEEN INTERVAL '{seconds} seconds' PRECEDING AND CURRENT ROW");
    let rows_before = format!("ROWS BETWEEN {} PRECEDING AND CURRENT ROW", random.below(4));
    let any = ["sum(v)", "count(*)", "count(v)", "min(v)", "max(v)", "avg(f)", "rank()", "dense_rank()", "sum(f)"];
    let single = ["lag(v)", "lag(v, 2)", "lead(v)", "row_number()", "first_value(v)", "last_value(v)", "ntile(3)"];
    let framed = ["sum(v)", "count(*)", "min(v)", "max(f)", "avg(v)", "first_value(v)"];
    let call = |random: &mut Random| match random.below(6) {
        0 | 1 => format!("{} OVER (PARTITION BY {g} ORDER BY ts)", pick(random, &any)),
        2 => format!("{} OVER (PARTITION BY {g} ORDER BY ts, id)", pick(random, &single)),
        3 => format!("{} OVER (PARTITION BY {g} ORDER BY ts {range})", pick(random, &framed[..5])),
        4 => format!("{} OVER (PARTITION BY {g} ORDER BY ts, id {rows_before})", pick(random, &framed)),
        _ => format!("{} OVER (PARTITION BY {g} ORDER BY v DESC NULLS LAST, id, ts)", pick(random, &any)),
    };
    let (a, b) = (call(random), call(random));
    let b = if random.one_in(2) { format!(", {b} AS b") } else { String::new() };
    Pair::same(format!("SELECT id, k, v, {a} AS a{b} FROM {rows}"))
}

/// Functions that follow the order in which rows came.
fn in_order(random: &mut Random) -> Pair {
    let rows = pick(random, &["t", "t2", "(SELECT * FROM t WHERE v > 10)"]);
    let (g, n) = (key(random), number(random));
    let list = format!("string_agg(CAST({n} AS VARCHAR), '-')");
    let ours = format!("{g} AS g, first_value({n}) AS a, last_value({n}) AS b, {list} AS c FROM {rows}");
    let theirs = format!("{g} AS g, first({n}) AS a, last({n}) AS b, {list} AS c FROM");
    if random.one_in(2) {
        return Pair(format!("SELECT {ours} GROUP BY 1"), format!("SELECT {theirs} {rows} GROUP BY 1"));
    }
    let (text, seconds) = WIDTHS[random.below(4) as usize];
    Pair(
        format!("SELECT w['start'], g, a, b, c FROM (SELECT tumble(INTERVAL '{text}') AS w, {ours} GROUP BY 1, 2)"),
        format!("SELECT tumble_of(ts, {seconds}) AS w, {theirs} {rows} GROUP BY 1, 2"),
    )
}

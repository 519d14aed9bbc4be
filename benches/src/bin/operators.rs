//! Each stateful operator at few, many and very many keys, beside the same question as a DataFusion batch and to DuckDB,
//! over the same rows in memory.
//!
//! `target/debug/operators [rows] [operators] [threads] [keys]`, such as `operators 1000000 tumble,updating 1,2 100`. A million rows are 100 s
//! of event time. Ratios are of CPU time but for one column: above 1, the stream is cheaper.

use std::collections::BTreeMap;

use millstream::sql::plan::Plan;
use millstream::sql::program::Program;
use millstream_benches::events::{Events, TABLE, schema};
use millstream_benches::sides::{batch, stream};
use millstream_benches::{duckdb, head, line, repeat};

struct Query {
    name: &'static str,
    ours: &'static str,
    /// The same as a batch; `$bin(width)` is the start of a window.
    batch: &'static str,
    /// Whether the batch has the rows that the stream sends; changes are more than what is left of them.
    same_rows: bool,
}

const QUERIES: [Query; 10] = [
    Query {
        name: "tumble",
        ours: "SELECT tumble(INTERVAL '10 seconds') AS w, key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY 1, 2",
        batch: "SELECT $bin(10) AS w, key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY 1, 2",
        same_rows: true,
    },
    Query {
        name: "hop",
        ours: "SELECT hop(INTERVAL '1 second', INTERVAL '12 seconds') AS w, key, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2",
        // Slices are counted once, as a batch would: a row is not repeated for each of its windows.
        batch: "WITH slices AS (SELECT $bin(1) AS p, key, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2)
                SELECT p - back AS w, key, sum(n) AS n, sum(s) AS s FROM slices CROSS JOIN (VALUES
                  (INTERVAL '0 seconds'), (INTERVAL '1 seconds'), (INTERVAL '2 seconds'), (INTERVAL '3 seconds'),
                  (INTERVAL '4 seconds'), (INTERVAL '5 seconds'), (INTERVAL '6 seconds'), (INTERVAL '7 seconds'),
                  (INTERVAL '8 seconds'), (INTERVAL '9 seconds'), (INTERVAL '10 seconds'), (INTERVAL '11 seconds')) AS o(back)
                GROUP BY 1, 2",
        same_rows: true,
    },
    Query {
        name: "session",
        ours: "SELECT session(INTERVAL '100 milliseconds') AS w, key, count(*) AS n FROM events GROUP BY 1, 2",
        batch: "WITH g AS (SELECT key, ts, CASE WHEN ts - lag(ts) OVER (PARTITION BY key ORDER BY ts)
                  < INTERVAL '100 milliseconds' THEN 0 ELSE 1 END AS begins FROM events),
                s AS (SELECT key, ts, sum(begins) OVER (PARTITION BY key ORDER BY ts) AS number FROM g)
                SELECT key, number, count(*) AS n, min(ts) AS a, max(ts) AS b FROM s GROUP BY 1, 2",
        same_rows: true,
    },
    Query {
        name: "count distinct",
        ours: "SELECT tumble(INTERVAL '10 seconds') AS w, v, count(DISTINCT key) AS n FROM events GROUP BY 1, 2",
        batch: "SELECT $bin(10) AS w, v, count(DISTINCT key) AS n FROM events GROUP BY 1, 2",
        same_rows: true,
    },
    Query {
        name: "updating",
        ours: "SELECT key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY key",
        batch: "SELECT key, count(*) AS n, sum(v) AS s, avg(v) AS a FROM events GROUP BY key",
        same_rows: false,
    },
    Query {
        name: "windowed join",
        ours: "SELECT a.w, a.key, a.n, b.s FROM
                 (SELECT tumble(INTERVAL '10 seconds') AS w, key, count(*) AS n FROM events WHERE v < 500 GROUP BY 1, 2) AS a
                 JOIN (SELECT tumble(INTERVAL '10 seconds') AS w, key, sum(v) AS s FROM events WHERE v >= 500 GROUP BY 1, 2) AS b
                 ON a.w = b.w AND a.key = b.key",
        batch: "SELECT a.w, a.key, a.n, b.s FROM
                 (SELECT $bin(10) AS w, key, count(*) AS n FROM events WHERE v < 500 GROUP BY 1, 2) AS a
                 JOIN (SELECT $bin(10) AS w, key, sum(v) AS s FROM events WHERE v >= 500 GROUP BY 1, 2) AS b
                 ON a.w = b.w AND a.key = b.key",
        same_rows: true,
    },
    Query {
        name: "interval join",
        ours: "SELECT a.key, a.v, b.v AS other FROM (SELECT * FROM events WHERE v < 100) AS a
                 JOIN (SELECT * FROM events WHERE v >= 900) AS b
                 ON a.key = b.key AND b.ts BETWEEN a.ts - INTERVAL '1 second' AND a.ts",
        // By second, so that a batch need not compare all rows of a key with each other.
        batch: "SELECT a.key, a.v, b.v AS other FROM
                 (SELECT *, $bin(1) AS bin FROM events WHERE v < 100) AS a
                 JOIN (SELECT ts, key, v, $bin(1) + later AS bin FROM events CROSS JOIN
                       (VALUES (INTERVAL '0 seconds'), (INTERVAL '1 seconds')) AS o(later) WHERE v >= 900) AS b
                 ON a.key = b.key AND a.bin = b.bin AND b.ts <= a.ts AND b.ts >= a.ts - INTERVAL '1 second'",
        same_rows: true,
    },
    Query {
        name: "as-of join",
        ours: "SELECT a.key, a.v, b.v AS rate FROM (SELECT * FROM events WHERE v >= 100) AS a
                 ASOF JOIN (SELECT * FROM events WHERE v < 100) AS b MATCH_CONDITION (a.ts >= b.ts) ON a.key = b.key",
        // The same without an as-of join, which DataFusion has not; left rows without a version are there too.
        batch: "SELECT key, v, rate FROM (SELECT key, v, last_value(CASE WHEN v < 100 THEN v END) IGNORE NULLS
                   OVER (PARTITION BY key ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS rate
                 FROM events) WHERE v >= 100",
        same_rows: true,
    },
    Query {
        name: "top-N of windows",
        ours: "SELECT w, key, n FROM (SELECT *, row_number() OVER (PARTITION BY w ORDER BY n DESC, key) AS place FROM
                 (SELECT tumble(INTERVAL '10 seconds') AS w, key, count(*) AS n FROM events GROUP BY 1, 2)) WHERE place <= 10",
        batch: "SELECT w, key, n FROM (SELECT *, row_number() OVER (PARTITION BY w ORDER BY n DESC, key) AS place FROM
                 (SELECT $bin(10) AS w, key, count(*) AS n FROM events GROUP BY 1, 2)) WHERE place <= 10",
        same_rows: true,
    },
    Query {
        name: "top-N that changes",
        ours: "SELECT key, v, ts, place FROM
                 (SELECT *, row_number() OVER (PARTITION BY key ORDER BY v DESC, ts) AS place FROM events) WHERE place <= 3",
        batch: "SELECT key, v, ts, place FROM
                 (SELECT *, row_number() OVER (PARTITION BY key ORDER BY v DESC, ts) AS place FROM events) WHERE place <= 3",
        same_rows: false,
    },
];

fn planned(sql: &str) -> (Program, Plan) {
    let mut program = Program::default();
    program.execute(&format!("{TABLE}{sql}"), "operators").expect("the query plans");
    // Changes are measured as the operator sends them, without the shape that sinks give them.
    let plan = &program.pipelines["stdout"].plan;
    let plan = plan.inputs().first().filter(|input| input.properties().updating).unwrap_or(plan).clone();
    (program, plan)
}

/// The start of a window of so many seconds, in the words of each engine.
fn with_bins(sql: &str, bin: &str) -> String {
    ["1", "10"].iter().fold(sql.to_string(), |sql, n| sql.replace(&format!("$bin({n})"), &bin.replace("$n", n)))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1_000_000);
    let wanted: Option<Vec<String>> =
        arguments.next().filter(|a| a != "all").map(|a| a.split(',').map(str::to_string).collect());
    let mut numbers = |default: &[u64]| -> Vec<u64> {
        arguments.next().map_or(default.to_vec(), |a| a.split(',').filter_map(|n| n.parse().ok()).collect())
    };
    let threads: Vec<usize> = numbers(&[1]).into_iter().map(|n| n as usize).collect();
    let keys = numbers(&[100, 10_000, 1_000_000]);
    let queries = || QUERIES.iter().filter(|q| wanted.as_ref().is_none_or(|w| w.iter().any(|w| w == q.name)));
    head("operator, keys", &[]);
    for keys in keys {
        let tables = [("events", schema(), Events::new(rows, keys).collect())];
        for threads in &threads {
            let asked: BTreeMap<String, String> = queries()
                .map(|q| (q.name.to_string(), with_bins(q.batch, "time_bucket(INTERVAL '$n seconds', ts)")))
                .map(|(name, sql)| (name, sql.replace(") IGNORE NULLS", " IGNORE NULLS)")))
                .collect();
            let duckdb = duckdb::costs(&tables, &asked, *threads).unwrap_or_else(|e| {
                println!("DuckDB: {e}");
                BTreeMap::new()
            });
            for query in queries() {
                let (program, plan) = planned(query.ours);
                let sql = with_bins(query.batch, "date_bin(INTERVAL '$n seconds', ts)");
                let (mut sent, mut found) = (0, 0);
                let ours = repeat(|| sent = stream(&program, &plan, &tables, *threads).expect("the stream runs"));
                let theirs = repeat(|| found = batch(&sql, &tables, *threads).expect("the batch runs"));
                assert!(
                    sent == found || !query.same_rows,
                    "{}, {keys} keys: {sent} rows, the batch has {found}",
                    query.name
                );
                let duckdb = duckdb.get(query.name).copied();
                let name = format!("{}, {keys}", query.name);
                println!("{}", line(&name, *threads, rows, ours, Some(theirs), duckdb));
            }
        }
    }
}

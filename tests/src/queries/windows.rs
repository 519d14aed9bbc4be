//! Windows that grow, are moved, or are shown before they close.

use super::{Pair, Query, WIDTHS, aggregate, aggregated, key, pick, rows, session, updating};
use crate::random::Random;

/// Windows of one start that grow by a step, as a table function or in a GROUP BY.
pub(super) fn cumulating(random: &mut Random) -> Pair {
    let (step, width) = [(5, 20), (10, 60), (15, 30), (7, 21)][random.below(4) as usize];
    let (rows, g, a) = (rows(random), key(random), aggregate(random));
    let intervals = format!("INTERVAL '{step}' SECOND, INTERVAL '{width}' SECOND");
    let ours = match random.below(2) {
        0 => format!(
            "SELECT window_start, window_end, {g} AS g, {a} AS a FROM TABLE(CUMULATE(TABLE s, DESCRIPTOR(ts), {intervals})) \
             GROUP BY window_start, window_end, 3"
        ),
        _ => format!(
            "SELECT w['start'], w['end'], g, a FROM (SELECT cumulate({intervals}) AS w, {g} AS g, {a} AS a FROM s GROUP BY 1, 2)"
        ),
    };
    let duckdb = format!(
        "SELECT w, w + to_seconds(n * {step}), {g} AS g, {a} AS a FROM (SELECT *, tumble_of(ts, {width}) AS w FROM {rows}), \
         range(1, {width} // {step} + 1) AS steps(n) WHERE ts < w + to_seconds(n * {step}) GROUP BY 1, 2, 3"
    );
    Pair(format!("WITH s AS (SELECT * FROM {rows}) {ours}"), duckdb)
}

/// Windows with an offset from the epoch, as a table function in either spelling or in a GROUP BY.
pub(super) fn moved(random: &mut Random) -> Pair {
    let (width, offset) = [(10, 3), (60, 25), (5, 2), (3600, 1800)][random.below(4) as usize];
    let (rows, g, a) = (rows(random), key(random), aggregate(random));
    let (width_text, offset_text) = (format!("INTERVAL '{width}' SECOND"), format!("INTERVAL '{offset}' SECOND"));
    let ours = match random.below(3) {
        0 => format!(
            "SELECT window_start, {g} AS g, {a} AS a FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), {width_text}, {offset_text})) \
             GROUP BY window_start, window_end, 2"
        ),
        1 => format!(
            "SELECT window_start, {g} AS g, {a} AS a FROM tumble(s, ts, {width_text}, {offset_text}) \
             GROUP BY window_start, window_end, 2"
        ),
        _ => format!(
            "SELECT w['start'], g, a FROM (SELECT tumble({width_text}, {offset_text}) AS w, {g} AS g, {a} AS a FROM s GROUP BY 1, 2)"
        ),
    };
    let start = format!("tumble_of(ts - INTERVAL {offset} second, {width}) + INTERVAL {offset} second");
    Pair(
        format!("WITH s AS (SELECT * FROM {rows}) {ours}"),
        format!("SELECT {start} AS w, {g} AS g, {a} AS a FROM {rows} GROUP BY 1, 2"),
    )
}

/// Results that are shown before they are final: what the changes add up to is the final result.
pub(super) fn early(random: &mut Random) -> Query {
    let every = pick(random, &["1 second", "10 seconds", "1 minute", "1 hour"]);
    let Pair(ours, duckdb) = match random.below(4) {
        0 => session(random),
        1 => updating(random),
        2 => {
            let (Pair(ours, duckdb), width) = aggregated(random);
            Pair(
                format!("SELECT w['start'], w['end'], g, a, b FROM {ours}"),
                format!("SELECT w, w + INTERVAL {width} second, g, a, b FROM {duckdb}"),
            )
        }
        _ => {
            let ((text, seconds), rows, a) = (WIDTHS[random.below(4) as usize], rows(random), aggregate(random));
            Pair(
                format!(
                    "SELECT w['start'], a FROM (SELECT tumble(INTERVAL '{text}') AS w, {a} AS a FROM {rows} GROUP BY 1)"
                ),
                format!("SELECT tumble_of(ts, {seconds}), {a} FROM {rows} GROUP BY 1"),
            )
        }
    };
    Query { ours, emit: format!(" EMIT EVERY INTERVAL '{every}'"), duckdb }
}

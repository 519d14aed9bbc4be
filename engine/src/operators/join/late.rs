//! Rows behind the watermark, where a join has let their partners go.

use arrow::array::{BooleanArray, Int64Array};

use crate::error::Result;
use crate::message::{LateRows, Rows};
use crate::operators::Output;
use crate::time::Watermark;

/// Hands the late rows on as such; the rest comes back. A row is late if it is behind its own watermark and behind
/// `other`, the watermark of the other input: its partners may be gone. What it missed are the partners from
/// `time + span.0` to `time + span.1`.
pub(super) fn divert(rows: Rows, other: Watermark, span: (i64, i64), out: &mut Output) -> Result<Rows> {
    let Some(watermarks) = &rows.row_watermark else { return Ok(rows) };
    let places: Vec<Watermark> = watermarks.values().iter().map(|w| (*w).min(other)).collect();
    let on_time: BooleanArray = rows.time.values().iter().zip(&places).map(|(t, w)| Some(t >= w)).collect();
    if on_time.true_count() == rows.len() {
        return Ok(rows);
    }
    let late: BooleanArray = on_time.iter().map(|t| t.map(|t| !t)).collect();
    let missed = Rows { row_watermark: Some(places.into()), ..rows.clone() }.filter(&late)?;
    let moved = |by: i64| missed.time.values().iter().map(|t| t.saturating_add(by)).collect::<Vec<_>>();
    out.late.push(LateRows {
        window_start: moved(span.0).into(),
        window_end: moved(span.1).into(),
        watermark: missed.row_watermark.unwrap_or_else(|| Int64Array::from(Vec::<i64>::new())),
        batch: missed.batch,
        time: missed.time,
    });
    rows.filter(&on_time)
}

//! How far data is complete: what every answer and report tells beside its numbers.

use std::collections::BTreeSet;

use millstream::Result;
use millstream::time::{DAY, EventTime, WATERMARK_MAX, WATERMARK_MIN, day_of};

use crate::catalog::{self, SqlFile};
use crate::config::Config;
use crate::range::midnight;
use crate::schedule;
use crate::tables::Tables;

/// A source from which nothing came for so long has nothing more to say about the past.
const SILENT_AFTER: EventTime = DAY;

/// The moment before which no event is expected to change the answer of `file`: the least watermark of what it reads, and the
/// first day that a rollup which it reads has still to do. `None` where nothing has arrived yet. Where all that it reads is silent:
/// the greatest watermark of the others.
///
/// Events later than the watermark allows may still change raw tables; they are counted in `<pipeline>__late`.
pub async fn through(tables: &Tables, config: &Config, file: &SqlFile, now: EventTime) -> Result<Option<EventTime>> {
    let rollups = schedule::rollups(&config.sql.rollups)?;
    let mut reads: BTreeSet<String> = tables.tables_read(&file.sql)?.into_iter().collect();
    let mut ends = Vec::new();
    // From the last to the first: a rollup's inputs come before it.
    for rollup in rollups.iter().rev() {
        if reads.contains(&rollup.name) {
            reads.extend(tables.tables_read(&rollup.sql)?);
            let due = tables.rollup_days_due(rollup, day_of(now)).await?;
            ends.extend(due.first().map(|day| midnight(*day)));
        }
    }
    let pipelines = catalog::pipelines(&config.sql.pipelines)?;
    let (mut watermarks, mut newest) = (Vec::new(), None);
    for (name, watermark) in tables.watermarks() {
        if watermark == WATERMARK_MIN || watermark == WATERMARK_MAX {
            continue;
        }
        newest = newest.max(Some(watermark));
        // A stored watermark is a source's: it counts where the file reads a pipeline that reads the source.
        if reads.contains(&name) || pipelines.iter().any(|p| reads.contains(&p.name) && p.mentions(&name)) {
            watermarks.push(watermark);
        }
    }
    let Some(newest) = newest.filter(|_| !watermarks.is_empty()) else { return Ok(None) };
    // Silent is who says nothing while others speak; in a replay of old data everybody's clock stands still.
    let live = watermarks.into_iter().filter(|watermark| *watermark >= newest.min(now.saturating_sub(SILENT_AFTER)));
    Ok(live.chain(ends).min().or(Some(newest)))
}

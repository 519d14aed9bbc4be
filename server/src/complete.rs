//! How far data is complete: what every answer and report tells beside its numbers.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Date32Type;
use millstream::Result;
use millstream::time::{EventTime, WATERMARK_MAX, WATERMARK_MIN};

use crate::catalog::{self, SqlFile};
use crate::config::Config;
use crate::range::midnight;
use crate::tables::Tables;

/// The moment before which no event is expected to change the answer of `file`: the least watermark of what it reads, and
/// the end of the last day of the rollups it reads. `None` where nothing has arrived yet.
///
/// Events later than the watermark allows may still change raw tables; they are counted in `<pipeline>__late`.
pub async fn through(tables: &Tables, config: &Config, file: &SqlFile) -> Result<Option<EventTime>> {
    let mut ends = Vec::new();
    let pipelines = catalog::pipelines(&config.sql.pipelines)?;
    for (name, watermark) in tables.watermarks() {
        // A stored watermark is a source's: it counts where the file reads a pipeline that reads the source.
        let read = |p: &&SqlFile| file.mentions(&p.name) && p.mentions(&name);
        if file.mentions(&name) || pipelines.iter().any(|p| read(&p)) {
            ends.push(watermark);
        }
    }
    for rollup in catalog::list(&config.sql.rollups)?.iter().filter(|r| file.mentions(&r.name)) {
        let day = last_day(tables, config, &rollup.name).await?;
        ends.push(day.map_or(WATERMARK_MIN, |day| midnight(day.saturating_add(1))));
    }
    Ok(ends.into_iter().min().filter(|end| *end != WATERMARK_MIN && *end != WATERMARK_MAX))
}

/// The last day that a rollup's table holds.
async fn last_day(tables: &Tables, config: &Config, table: &str) -> Result<Option<i32>> {
    if tables.lake().existing(table).await?.is_none() {
        return Ok(None);
    }
    let sql = format!("SELECT CAST(max(day) AS DATE) AS day FROM {table}");
    let result = tables.query(&sql, &BTreeMap::new(), &config.query_limits()).await?;
    let day = result.batches.iter().find_map(|batch| {
        let days = batch.columns().first()?.as_primitive_opt::<Date32Type>()?;
        days.iter().flatten().next()
    });
    Ok(day)
}

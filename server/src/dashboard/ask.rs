//! Pages ask metrics, the ones that the API answers: a number on a page is the number under its URL.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::DateTime;
use chrono_tz::Tz;
use millstream::time::{EventTime, show};
use millstream::{Error, Result};

use super::period::Period;
use crate::catalog;
use crate::http::App;
use crate::metric::{self, Metric, Refusal};
use crate::range::Range;
use crate::tables::Tables;

/// What is asked of one metric.
#[derive(Debug, Clone)]
pub struct Question {
    /// The time.
    pub range: Range,
    /// The zone of its days.
    pub zone: Tz,
    /// Its grain; `None` for the metric's own.
    pub interval: Option<&'static str>,
    /// The breakdown.
    pub by: Option<String>,
    /// Values of columns or of the metric's parameters.
    pub filters: BTreeMap<String, String>,
}

impl Question {
    /// The whole of a page's period.
    pub fn of(period: &Period) -> Self {
        Self { range: period.range, zone: period.zone, interval: None, by: None, filters: BTreeMap::new() }
    }

    /// The same of another time.
    pub fn over(&self, range: Range) -> Self {
        Self { range, ..self.clone() }
    }
}

/// What a metric answered: all its rows in one batch.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The rows.
    pub rows: RecordBatch,
    /// The length of its periods, as the calendar calls it; `None` where it has none of choice.
    pub interval: Option<String>,
    /// Up to when nothing more is expected.
    pub complete_through: Option<EventTime>,
    /// Whether there were more rows than the server's limit.
    pub truncated: bool,
    /// The relative error that the numbers may have; `None` for exact ones.
    pub error_bound: Option<f64>,
    /// The definition, from the head of the metric's file.
    pub definition: String,
}

/// The question as the API takes it. `Ok(None)`: there is no such file in sql/metrics.
fn asked(app: &App, metric: &str, question: &Question) -> Result<Option<(metric::Question, Metric)>> {
    if !catalog::is_name(metric) || !app.config.sql.metrics.join(format!("{metric}.sql")).is_file() {
        return Ok(None);
    }
    let known = Metric::find(&app.config, metric)?;
    let has = |list: &[String], word: &str| list.iter().any(|one| one == word);
    let asked = metric::Question {
        metric: metric.to_string(),
        from: Some(show(question.range.from)),
        to: Some(show(question.range.to)),
        tz: Some(question.zone.name().to_string()),
        // A page has one interval for all; a metric that does not know it has its own.
        interval: question.interval.filter(|word| has(&known.intervals, word)).map(str::to_string),
        breakdown: question.by.clone().filter(|word| has(&known.breakdowns, word)),
        filters: question.filters.clone(),
    };
    Ok(Some((asked, known)))
}

/// The SQL of an answer, for the SQL page. `Ok(None)`: there is no such file in sql/metrics.
pub async fn twin(app: &App, metric: &str, question: &Question) -> Result<Option<String>> {
    let Some((asked, _)) = asked(app, metric, question)? else { return Ok(None) };
    let tables = Tables::Running(app.engine.clone());
    match metric::prepare(&tables, &app.config, app.clock.now(), &asked).await {
        Ok(prepared) => prepared.twin(&app.config).map(Some),
        Err(Refusal::Unknown(_)) => Ok(None),
        Err(Refusal::Question(what)) => Err(Error::sql(what)),
        Err(Refusal::Failed(error)) => Err(error),
    }
}

/// Asks `metric`. `Ok(None)`: there is no such file in sql/metrics.
pub async fn ask(app: &App, metric: &str, question: &Question) -> Result<Option<Answer>> {
    let Some((mut asked, known)) = asked(app, metric, question)? else { return Ok(None) };
    // Columns are compared here, with a message that a page shows in the panel's place.
    let (own, columns): (BTreeMap<_, _>, BTreeMap<_, _>) =
        asked.filters.into_iter().partition(|(name, _)| known.parameters.contains_key(name));
    asked.filters = own;
    let tables = Tables::Running(app.engine.clone());
    let answered = metric::ask(&tables, &app.config, app.clock.now(), &app.answers, &asked).await;
    app.counters.query(answered.is_ok());
    let answered = match answered {
        Ok(answered) => answered,
        Err(Refusal::Unknown(_)) => return Ok(None),
        Err(Refusal::Question(what)) => return Err(Error::sql(what)),
        Err(Refusal::Failed(error)) => return Err(error),
    };
    let mut rows = concat_batches(&answered.result.schema, &answered.result.batches)?;
    for (name, value) in &columns {
        if rows.column_by_name(name).is_none() {
            return Err(Error::sql(format!(
                "the metric {metric} has no parameter and no column `{name}` to filter by"
            )));
        }
        rows = only(&rows, name, value)?;
    }
    Ok(Some(Answer {
        rows,
        interval: answered.interval.map(|interval| metric::word(&interval, &app.config)),
        complete_through: answered.complete_through,
        truncated: answered.result.truncated,
        error_bound: answered.metric.error_bound,
        definition: answered.metric.file.definition,
    }))
}

/// The rows whose column `name` reads `value`; all rows where there is no such column.
pub fn only(rows: &RecordBatch, name: &str, value: &str) -> Result<RecordBatch> {
    let Some(column) = rows.column_by_name(name) else { return Ok(rows.clone()) };
    let keep: BooleanArray = texts(column)?.into_iter().map(|t| Some(t.as_deref() == Some(value))).collect();
    Ok(filter_record_batch(rows, &keep)?)
}

/// The values of a column as text.
pub fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let text = |row: usize| -> Result<Option<String>> {
        if column.is_null(row) { Ok(None) } else { Ok(Some(formatter.value(row).try_to_string()?)) }
    };
    (0..column.len()).map(text).collect()
}

/// The values of a column as numbers; a column that is missing or no number has none.
pub fn numbers(rows: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let floats = rows.column_by_name(name).and_then(|column| cast(column, &DataType::Float64).ok());
    floats.map_or_else(Vec::new, |f| f.as_primitive::<Float64Type>().iter().collect())
}

/// The column that tells the time of each row: `period_start`, else the first one that is a time.
pub fn time_column(schema: &Schema) -> Option<&str> {
    let is_time = |f: &&std::sync::Arc<Field>| matches!(f.data_type(), DataType::Timestamp(..) | DataType::Date32);
    let fields = schema.fields();
    let named = fields.iter().find(|f| f.name() == "period_start").filter(is_time);
    named.or_else(|| fields.iter().find(is_time)).map(|f| f.name().as_str())
}

/// The rows with the times of `name` on the clocks of `zone`, for axes that show what people of the zone say.
pub fn on_clocks_of(rows: &RecordBatch, name: &str, zone: Tz, shift: EventTime) -> Result<RecordBatch> {
    let index = rows.schema().index_of(name)?;
    let column = rows.column(index);
    if !matches!(column.data_type(), DataType::Timestamp(..)) || (zone == chrono_tz::UTC && shift == 0) {
        return Ok(rows.clone());
    }
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let local = |micros: i64| {
        let time = DateTime::from_timestamp_micros(micros.saturating_add(shift / 1_000))?;
        Some(time.with_timezone(&zone).naive_local().and_utc().timestamp_micros())
    };
    let times = micros.as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or_else(|| Error::Bug("a cast gave another type than asked for".into()))?;
    let times: TimestampMicrosecondArray = times.iter().map(|t| t.and_then(local)).collect();
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    let mut columns = rows.columns().to_vec();
    if let (Some(field), Some(column)) = (fields.get_mut(index), columns.get_mut(index)) {
        *field = Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true);
        *column = std::sync::Arc::new(times);
    }
    Ok(RecordBatch::try_new(std::sync::Arc::new(Schema::new(fields)), columns)?)
}

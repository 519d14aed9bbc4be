//! Reports: a folder sql/reports/<name> with NN_section.sql, run over one range of time and printed as PDF or CSV.
//!
//! A section's heading is the first line of its header comment, its definition the rest; its chart is chosen by the shape
//! of the answer. One row of numbers becomes the headline figures, each compared with the time just before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, NaiveDateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt, stream};
use millstream::time::{DAY, EventTime, day_of};
use millstream::{Error, QueryResult, Result};
use millstream_report::{Better, CsvOptions, CsvWriter, Kpi, Report, Section};

use crate::adapt::report_error;
use crate::catalog::{self, SqlFile};
use crate::chart::{self, Drawing};
use crate::complete;
use crate::config::Config;
use crate::format;
use crate::range::Range;
use crate::schedule;
use crate::tables::Tables;

/// A report whose queries have run.
#[derive(Debug)]
pub struct Answers {
    /// The folder's name.
    pub name: String,
    /// What it is about.
    pub range: Range,
    /// The zone of its days.
    pub zone: Tz,
    /// When it was made.
    pub generated_at: EventTime,
    /// The least of its sections' completeness.
    pub complete_through: Option<EventTime>,
    /// In the order of the files' numbers.
    pub sections: Vec<Answer>,
}

/// The answer of one section.
#[derive(Debug)]
pub struct Answer {
    /// Its file.
    pub file: SqlFile,
    /// Its rows.
    pub result: QueryResult,
    /// The same query over the time just before, for headline figures only.
    pub previous: Option<QueryResult>,
    /// The same query over each day of the time, for the small lines of headline figures.
    pub trend: Vec<QueryResult>,
}

/// Days that a small line has at most; a longer time is cut into so many pieces.
const TREND_MAX: i64 = 31;
/// Pieces that are computed at a time.
const TREND_AT_ONCE: usize = 4;

/// The names of the reports in a folder, sorted.
pub fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::file(dir, "list", e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::file(dir, "list", e))?.path();
        if path.is_dir() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The sections of report `name`, in order.
///
/// *Errors*: `Config` if there is no such report (it names those there are) or it has no section.
pub fn sections(dir: &Path, name: &str) -> Result<Vec<SqlFile>> {
    if !catalog::is_name(name) || !dir.join(name).is_dir() {
        let names = list(dir)?;
        let known = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        return Err(Error::Config(format!("no report `{name}` in {}; there are: {known}", dir.display())));
    }
    let files = catalog::list(&dir.join(name))?;
    if files.is_empty() {
        let folder = dir.join(name);
        return Err(Error::Config(format!("the report {} has no section; add 10_headline.sql", folder.display())));
    }
    Ok(files)
}

/// Runs every section over `range`.
pub async fn run(
    tables: &Tables,
    config: &Config,
    name: &str,
    range: Range,
    zone: Tz,
    now: EventTime,
) -> Result<Answers> {
    schedule::make_missing(tables, &config.sql.rollups, day_of(range.from)).await?;
    let mut answers = Vec::new();
    let mut complete_through = Some(EventTime::MAX);
    for file in sections(&config.sql.reports, name)? {
        let result = query(tables, config, &file, range, zone).await?;
        let rows = result.batches.iter().map(RecordBatch::num_rows).sum();
        let (mut previous, mut trend) = (None, Vec::new());
        if chart::choose(&result.schema, rows) == Drawing::Headline {
            previous = Some(query(tables, config, &file, range.previous(), zone).await?);
            let pieces = stream::iter(pieces(range)).map(|piece| query(tables, config, &file, piece, zone));
            trend = pieces.buffered(TREND_AT_ONCE).try_collect().await?;
        }
        let complete = complete::through(tables, config, &file, now).await?;
        complete_through = complete_through.zip(complete).map(|(a, b)| a.min(b));
        answers.push(Answer { file, result, previous, trend });
    }
    let complete_through = complete_through.filter(|time| *time != EventTime::MAX);
    Ok(Answers { name: name.to_string(), range, zone, generated_at: now, complete_through, sections: answers })
}

/// The time cut into days, or into fewer pieces where it is long; nothing where there would be no line.
fn pieces(range: Range) -> Vec<Range> {
    let length = range.to.saturating_sub(range.from);
    let count = (length / DAY).min(TREND_MAX);
    if count < 2 {
        return Vec::new();
    }
    let at = |i: i64| range.from.saturating_add(length / count * i);
    (0..count).map(|i| Range { from: at(i), to: if i + 1 == count { range.to } else { at(i + 1) } }).collect()
}

/// A section has the time, the zone, and as `$interval` the month in a report of at least four weeks, else the day.
async fn query(tables: &Tables, config: &Config, file: &SqlFile, range: Range, zone: Tz) -> Result<QueryResult> {
    let mut parameters = range.parameters();
    let long = range.to.saturating_sub(range.from) >= 27 * DAY;
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_string()));
    parameters.insert("tz".into(), text(zone.name()));
    parameters.insert("interval".into(), text(if long { "month" } else { "day" }));
    let views = catalog::list(&config.sql.views)?;
    let texts = catalog::with_views(file, &views);
    let known: BTreeSet<String> = texts.into_iter().flat_map(SqlFile::parameters).collect();
    parameters.retain(|name, _| known.contains(name));
    let result = tables.query(&file.sql, &parameters, &config.query_limits()).await;
    result.map_err(|error| match error {
        Error::Query(mut sql) => {
            sql.file.get_or_insert_with(|| file.path.display().to_string());
            Error::Query(sql)
        }
        other => other,
    })
}

impl Answers {
    /// The report as a vector PDF; `organisation` is whose figures these are, and may be empty.
    pub fn pdf(&self, organisation: &str) -> Result<Vec<u8>> {
        self.document(organisation)?.to_pdf().map_err(report_error)
    }

    /// As [`Answers::csv`], for spreadsheets: a byte order mark, and no cell that would run as a formula.
    pub fn spreadsheets(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let options = CsvOptions { bom: true, formula_guard: true };
        let file = |section: &Answer| -> millstream_report::Result<Vec<u8>> {
            let mut writer = CsvWriter::new(Vec::new(), &section.result.schema, options)?;
            for batch in &section.result.batches {
                writer.write(batch)?;
            }
            Ok(writer.finish()?.1)
        };
        let named = |section: &Answer| Ok((format!("{}.csv", section.file.name), file(section).map_err(report_error)?));
        self.sections.iter().map(named).collect()
    }

    /// One CSV per section: the file's name and its bytes. Several tables in one file would be no CSV.
    pub fn csv(&self) -> Result<Vec<(String, String)>> {
        let files = self.sections.iter().map(|section| {
            let text = format::csv(&section.result.schema, &section.result.batches)?;
            Ok((format!("{}.csv", section.file.name), text))
        });
        files.collect()
    }

    /// `weekly_2026-11-16_2026-11-22`: the name of the file or folder to write, with the first and the last day.
    pub fn file_name(&self) -> String {
        let (first, last) = self.days();
        format!("{}_{first}_{last}", self.name)
    }

    fn days(&self) -> (String, String) {
        let day = |time: EventTime| self.local(time).date().to_string();
        (day(self.range.from), day(self.range.to.saturating_sub(1)))
    }

    fn local(&self, time: EventTime) -> NaiveDateTime {
        utc(time).with_timezone(&self.zone).naive_local()
    }

    /// What the PDF prints.
    pub fn document(&self, organisation: &str) -> Result<Report> {
        let (first, last) = self.days();
        let whole = [self.range.from, self.range.to].iter().all(|t| self.local(*t).time() == NaiveTime::MIN);
        let mut kpis = Vec::new();
        let mut sections = Vec::new();
        for answer in &self.sections {
            if let Some(previous) = &answer.previous {
                kpis.extend(figures(&answer.result, previous, &answer.trend)?);
                continue;
            }
            let table = shown(&answer.result)?;
            let schema = &answer.result.schema;
            sections.push(Section {
                title: answer.file.title.clone(),
                description: String::new(),
                chart: chart::spec(&answer.file.title, "", schema, &answer.result.batches),
                table,
                definition: paragraphs(&answer.file.definition),
                ..Section::default()
            });
        }
        Ok(Report {
            title: format!("{} report", capitalised(&chart::words(&self.name))),
            organisation: organisation.to_string(),
            period: if whole { format!("{first} to {last}") } else { format!("{first} to {last}, in part") },
            time_zone: self.zone.name().to_string(),
            generated_at: utc(self.generated_at),
            data_complete_through: self.complete_through.map(utc),
            kpis,
            sections,
        })
    }
}

/// The figures of a one-row answer, each with its change against the time before.
fn figures(now: &QueryResult, before: &QueryResult, trend: &[QueryResult]) -> Result<Vec<Kpi>> {
    let value = |result: &QueryResult, name: &str| -> Result<Option<f64>> {
        let Some(column) = result.batches.iter().find(|b| b.num_rows() > 0).and_then(|b| b.column_by_name(name)) else {
            return Ok(None);
        };
        let floats = cast(column, &DataType::Float64)?;
        Ok(floats.as_primitive::<Float64Type>().iter().next().flatten())
    };
    let names = now.schema.fields().iter().map(|field| field.name());
    names
        .map(|name| {
            let trend = trend.iter().map(|piece| value(piece, name)).collect::<Result<Vec<_>>>()?;
            let (value, before) = (value(now, name)?, value(before, name)?);
            let change = value.zip(before).filter(|(_, b)| *b != 0.0).map(|(v, b)| (v - b) / b.abs());
            let (label, unit) = unit_of(name);
            Ok(Kpi { label, value, unit: unit.to_string(), change, better: better(name), trend })
        })
        .collect()
}

/// The unit is the name's last word, as everywhere in this project.
fn unit_of(column: &str) -> (String, &'static str) {
    for (suffix, unit) in [("_ms", "ms"), ("_usd", "$"), ("_percent", "%"), ("_bytes", "B"), ("_seconds", "s")] {
        if let Some(name) = column.strip_suffix(suffix) {
            return (capitalised(&chart::words(name)), unit);
        }
    }
    (capitalised(&chart::words(column)), "")
}

fn better(column: &str) -> Better {
    let lower = ["latency", "error", "failure", "_ms", "bounce", "rejected", "late"];
    let neither = ["cost", "tokens"];
    if neither.iter().any(|word| column.contains(word)) {
        Better::Neither
    } else if lower.iter().any(|word| column.contains(word)) {
        Better::Lower
    } else {
        Better::Higher
    }
}

/// The rows with headings that people read.
fn shown(result: &QueryResult) -> Result<Vec<RecordBatch>> {
    let fields: Vec<Field> = result
        .schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_name(capitalised(&chart::words(field.name()))))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = |batch: &RecordBatch| -> Vec<ArrayRef> { batch.columns().to_vec() };
    let batches = result.batches.iter().map(|batch| RecordBatch::try_new(schema.clone(), columns(batch)));
    Ok(batches.collect::<Result<Vec<_>, _>>()?)
}

/// Lines of one paragraph are joined; an empty line parts two.
fn paragraphs(text: &str) -> String {
    text.split("\n\n").map(|p| p.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// With a capital first letter.
pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn utc(time: EventTime) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(time)
}

/// Writes the report: PDF to one file, CSV to a folder of files. Returns what was written.
pub fn save(answers: &Answers, organisation: &str, pdf: bool, out: Option<&Path>) -> Result<Vec<PathBuf>> {
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).map_err(|e| Error::file(path, "write", e));
    if pdf {
        let path = out.map_or_else(|| PathBuf::from(format!("{}.pdf", answers.file_name())), Path::to_path_buf);
        write(&path, &answers.pdf(organisation)?)?;
        return Ok(vec![path]);
    }
    let dir = out.map_or_else(|| PathBuf::from(answers.file_name()), Path::to_path_buf);
    std::fs::create_dir_all(&dir).map_err(|e| Error::file(&dir, "create", e))?;
    let mut paths = Vec::new();
    for (name, text) in answers.csv()? {
        let path = dir.join(name);
        write(&path, text.as_bytes())?;
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array};

    fn one_row(users: i64, p95: Option<f64>) -> QueryResult {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("active_users", Arc::new(Int64Array::from(vec![users]))),
            ("api_p95_ms", Arc::new(Float64Array::from(vec![p95]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        QueryResult { schema: batch.schema(), batches: vec![batch], truncated: false }
    }

    #[test]
    fn headline_figures_are_compared_with_the_time_before() {
        let trend = [one_row(50, None), one_row(60, Some(1.0))];
        let kpis = figures(&one_row(110, Some(50.0)), &one_row(100, None), &trend).unwrap();
        let (users, p95) = (&kpis[0], &kpis[1]);
        assert_eq!((users.label.as_str(), users.unit.as_str(), users.value), ("Active users", "", Some(110.0)));
        assert!((users.change.unwrap() - 0.1).abs() < 1e-12);
        assert_eq!((users.better, &users.trend), (Better::Higher, &vec![Some(50.0), Some(60.0)]));
        assert_eq!((p95.label.as_str(), p95.unit.as_str(), p95.change), ("Api p95", "ms", None));
        assert_eq!(p95.better, Better::Lower);
    }

    #[test]
    fn an_unknown_report_names_those_there_are() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/reports");
        let error = sections(&dir, "monthly").unwrap_err().to_string();
        assert!(
            error.contains("no report `monthly`")
                && error.ends_with("there are: agent_publisher, monthly_business, platform, weekly"),
            "{error}"
        );
        assert_eq!(sections(&dir, "weekly").unwrap()[0].name, "10_headline");
    }
}

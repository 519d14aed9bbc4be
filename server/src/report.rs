//! Reports: a folder sql/reports/<name> with NN_section.sql, run over one range of time and printed as PDF or CSV.
//!
//! A section's heading is the first line of its header comment, its definition the rest; its chart is chosen by the shape
//! of the answer. One row of numbers becomes the headline figures, each compared with the time just before; in a file named
//! `..._headline` also one row of numbers per currency. A section that names `$step`, or a view that does, tells its figures for each piece
//! of the time of that length, with the piece's start in the column `piece`: all that a line needs is one query, and not one for each day.

mod document;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Schema, TimeUnit, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt, stream};
use millstream::time::{DAY, EventTime, day_of};
use millstream::{Error, QueryResult, Result, SqlError};
use millstream_report::{CsvOptions, CsvWriter};

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
    /// The same query over pieces of the time, such as its days, for the small lines of headline figures.
    pub trend: Vec<QueryResult>,
}

/// Points that a small line has at most: days, of a longer time its last full weeks, else pieces of it.
const TREND_MAX: i64 = 31;
/// Where a section that names `$step` tells the start of a piece, and how.
const PIECE: &str = "piece";
const PIECE_FIX: &str = "select date_bin($step, at, $from) AS piece, or take it from report_pieces";
/// Pieces that are computed at a time.
const TREND_AT_ONCE: usize = 4;
/// Sections that are computed at a time.
const SECTIONS_AT_ONCE: usize = 2;

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
    let files = sections(&config.sql.reports, name)?;
    make_current(tables, config, &files, range, now).await?;
    let mut sections = Vec::new();
    let mut complete_through = Some(EventTime::MAX);
    let answers = files.into_iter().map(|file| answer(tables, config, file, (range, zone), now));
    let mut answers = stream::iter(answers.collect::<Vec<_>>()).buffered(SECTIONS_AT_ONCE);
    while let Some((answer, complete)) = answers.try_next().await? {
        complete_through = complete_through.zip(complete).map(|(a, b)| a.min(b));
        sections.push(answer);
    }
    let complete_through = complete_through.filter(|time| *time != EventTime::MAX);
    Ok(Answers { name: name.to_string(), range, zone, generated_at: now, complete_through, sections })
}

/// The answer of a section, and how far it is complete.
async fn answer(
    tables: &Tables,
    config: &Config,
    file: SqlFile,
    (range, zone): (Range, Tz),
    now: EventTime,
) -> Result<(Answer, Option<EventTime>)> {
    let complete = complete::through(tables, config, &file, now).await?;
    let line = pieces(over(range, now));
    if in_pieces(config, &file)? {
        let both = [range, range.previous()];
        let (both, trend) =
            tokio::try_join!(each(tables, config, &file, &both, zone), each(tables, config, &file, &line, zone))?;
        let mut both = both.into_iter();
        let result = both.next().ok_or_else(|| Error::Bug("a piece without an answer".into()))?;
        return Ok((Answer { file, result, previous: both.next(), trend }, complete));
    }
    let result = query(tables, config, &file, range, zone).await?;
    let rows = result.batches.iter().map(RecordBatch::num_rows).sum();
    let (mut previous, mut trend) = (None, Vec::new());
    if is_headline(&file, &result.schema, rows) {
        previous = Some(query(tables, config, &file, range.previous(), zone).await?);
        let pieces = line.into_iter().map(|piece| query(tables, config, &file, piece, zone));
        trend = stream::iter(pieces.collect::<Vec<_>>()).buffered(TREND_AT_ONCE).try_collect().await?;
    }
    Ok((Answer { file, result, previous, trend }, complete))
}

/// Whether the section tells its figures for each piece of the time: it, or a view that it reads, names `$step`.
fn in_pieces(config: &Config, file: &SqlFile) -> Result<bool> {
    let views = catalog::list(&config.sql.views)?;
    Ok(catalog::with_views(file, &views).iter().any(|text| text.parameters().contains("step")))
}

/// The answers of such a section about pieces of one length that follow each other, in the order of `pieces`: one query.
async fn each(
    tables: &Tables,
    config: &Config,
    file: &SqlFile,
    pieces: &[Range],
    zone: Tz,
) -> Result<Vec<QueryResult>> {
    let ends = pieces.iter().map(|piece| piece.from).min().zip(pieces.iter().map(|piece| piece.to).max());
    let Some(((from, to), first)) = ends.zip(pieces.first()) else { return Ok(Vec::new()) };
    let step = first.to.saturating_sub(first.from);
    let answer = asked(tables, config, file, (Range { from, to }, step), zone).await?;
    let mut rows = concat_batches(&answer.schema, &answer.batches)?;
    let Some((place, _)) = answer.schema.column_with_name(PIECE) else {
        let message = format!("{} names $step, or a view that does, and has no column `{PIECE}`", file.path.display());
        return Err(SqlError { message, fix: Some(PIECE_FIX.into()), ..SqlError::default() }.into());
    };
    let starts = cast(&rows.remove_column(place), &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
    let starts = starts.as_primitive::<TimestampNanosecondType>();
    let of_piece = |piece: &Range| -> Result<QueryResult> {
        let rows = filter_record_batch(&rows, &starts.iter().map(|start| Some(start == Some(piece.from))).collect())?;
        Ok(QueryResult { schema: rows.schema(), batches: vec![rows], truncated: answer.truncated })
    };
    pieces.iter().map(of_piece).collect()
}

/// The time without the days at its end that are not over: a line would fall to nothing with them.
fn over(range: Range, now: EventTime) -> Range {
    let open = range.to.saturating_sub(now).max(0);
    let days = open.div_euclid(DAY) + i64::from(open.rem_euclid(DAY) > 0);
    Range { to: range.to.saturating_sub(days.saturating_mul(DAY)).max(range.from), ..range }
}

/// Whether the answer is figures: one row of numbers, or one per currency where the file's name says so.
fn is_headline(file: &SqlFile, schema: &Schema, rows: usize) -> bool {
    let fields = schema.fields();
    let per_currency = fields.first().is_some_and(|field| field.name() == "currency")
        && fields.iter().skip(1).all(|field| field.data_type().is_numeric());
    chart::choose(schema, rows) == Drawing::Headline || per_currency && file.name.ends_with("headline")
}

/// One section of a report, by its file's name.
///
/// *Errors*: `Config` if there is no such report or section; it names those there are.
pub async fn section(
    tables: &Tables,
    config: &Config,
    (name, section): (&str, &str),
    range: Range,
    zone: Tz,
    now: EventTime,
) -> Result<QueryResult> {
    let files = sections(&config.sql.reports, name)?;
    let Some(file) = files.iter().find(|file| file.name == section) else {
        let known: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        return Err(Error::Config(format!(
            "the report {name} has no section `{section}`; it has: {}",
            known.join(", ")
        )));
    };
    make_current(tables, config, std::slice::from_ref(file), range, now).await?;
    if in_pieces(config, file)? {
        let answer = each(tables, config, file, &[range], zone).await?.pop();
        return answer.ok_or_else(|| Error::Bug("a piece without an answer".into()));
    }
    query(tables, config, file, range, zone).await
}

/// A report is about days that are over: what is rolled up of them is made to be what the events say. The day in progress is as the
/// last recheck left it.
async fn make_current(tables: &Tables, config: &Config, files: &[SqlFile], range: Range, now: EventTime) -> Result<()> {
    let queries: Vec<&str> = files.iter().map(|file| file.sql.as_str()).collect();
    let through_day = day_of(range.to.saturating_sub(1)).min(day_of(now) - 1);
    schedule::make_current(tables, &config.sql.rollups, &queries, through_day).await
}

/// The time cut into days, or into fewer pieces where it is long; nothing where there would be no line. A quarter has twelve weeks and
/// not ninety days: a line so small shows no more, and weeks have each weekday once.
fn pieces(range: Range) -> Vec<Range> {
    let length = range.to.saturating_sub(range.from);
    let (count, step) = match length {
        length if length < 2 * DAY => return Vec::new(),
        length if length <= TREND_MAX * DAY + DAY / 2 => (length / DAY, length / (length / DAY)),
        length if length < (TREND_MAX + 1) * 7 * DAY => (length / (7 * DAY), 7 * DAY),
        length => (TREND_MAX, length / TREND_MAX),
    };
    let at = |back: i64| range.to.saturating_sub(step * back);
    (0..count).map(|i| Range { from: at(count - i), to: at(count - i - 1) }).collect()
}

async fn query(tables: &Tables, config: &Config, file: &SqlFile, range: Range, zone: Tz) -> Result<QueryResult> {
    asked(tables, config, file, (range, range.to.saturating_sub(range.from)), zone).await
}

/// A section has the time, the length of its pieces, the zone, and as `$interval` the month in a report of at least four weeks, else the
/// day.
async fn asked(
    tables: &Tables,
    config: &Config,
    file: &SqlFile,
    (range, step): (Range, EventTime),
    zone: Tz,
) -> Result<QueryResult> {
    let mut parameters = range.parameters();
    parameters.insert("step".into(), ScalarValue::DurationNanosecond(Some(step)));
    let long = step >= 27 * DAY;
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

    #[test]
    fn a_small_line_has_days_or_weeks_that_are_over() {
        let days = |count: i64| Range { from: 0, to: count * DAY };
        let cut = |range: Range| pieces(range).iter().map(|p| (p.from / DAY, p.to / DAY)).collect::<Vec<_>>();
        assert_eq!(cut(days(1)), [], "one day is no line");
        assert_eq!(cut(days(3)), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(cut(days(31)).len(), 31);
        let weeks = cut(days(90));
        assert_eq!((weeks.len(), weeks[0], weeks[11]), (12, (6, 13), (83, 90)), "its last full weeks");
        assert_eq!(cut(days(365)).len(), 31);
        assert_eq!(over(days(3), 5 * DAY).to, 3 * DAY);
        assert_eq!(over(days(3), 2 * DAY + 1).to, 2 * DAY, "the day in progress is left out");
        assert_eq!(over(days(3), -DAY).to, 0);
    }
}

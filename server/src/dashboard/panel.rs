//! A panel: one metric, drawn, with its table and its CSV. Pages are lists of panels.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use maud::{Markup, PreEscaped, html};
use millstream::sql::calendar::Interval;
use millstream::time::{EventTime, show};
use millstream::{Error, Result};
use millstream_report::{ChartKind, ChartSpec, Theme};

use super::ask::{Answer, Question, ask, numbers, on_clocks_of, only, texts, time_column};
use super::gaps::with_gaps;
use super::period::Period;
use super::shape::{added_up, for_people, labels, ranked, renamed};
use super::table::{Format, heading, table};
use crate::adapt::report_error;
use crate::http::App;
use crate::label::minor_units;

/// Rows of the table behind a chart.
const TABLE_ROWS_MAX: usize = 100;
/// Charts as wide as the page, and others.
const WIDE_PX: u32 = 1_120;
const NARROW_PX: u32 = 560;
/// Lines of a ranking that are drawn; the table has more.
const RANKING_MAX: usize = 10;

/// How the rows are drawn; the names are columns.
#[derive(Debug, Clone, Copy)]
pub enum Draw {
    /// Values over time.
    Line(&'static [&'static str]),
    /// Values on top of each other over time; the second list counts downwards.
    Stacked(&'static [&'static str], &'static [&'static str]),
    /// Values of a column's names on top of each other over time: name, value. Rows of one name and time are added up.
    StackedBy(&'static str, &'static str),
    /// Upright bars over time.
    Bars(&'static str),
    /// Upright bars: number, value.
    Columns(&'static str, &'static str),
    /// A ranking: name, value.
    Ranking(&'static str, &'static str),
    /// A grid: across, down, value.
    Heat(&'static str, &'static str, &'static str),
    /// Steps: name, value.
    Funnel(&'static str, &'static str),
    /// The world: country code, value.
    Map(&'static str, &'static str),
    /// The rows alone.
    Table,
}

/// One metric on a page.
#[derive(Debug, Clone, Copy)]
pub struct Panel {
    title: &'static str,
    metric: &'static str,
    draw: Draw,
    /// The event table that fills it: told where it is empty.
    feeds: &'static str,
    interval: Option<&'static str>,
    /// The breakdowns that it takes.
    by: &'static [&'static str],
    /// A breakdown that it always has.
    always_by: Option<&'static str>,
    wide: bool,
    /// Whether its grain follows the page's time.
    follows: bool,
    money: bool,
    /// Where an open page asks for it again.
    refreshed: Option<&'static str>,
    /// Where a name in the table leads.
    link: Option<&'static str>,
    /// The column whose values are series.
    split: Option<&'static str>,
    /// What it takes to be in it, where rows are not enough.
    needs: &'static str,
}

impl Panel {
    /// A panel whose rows come from events of the table `feeds`.
    pub const fn new(title: &'static str, metric: &'static str, draw: Draw, feeds: &'static str) -> Self {
        let follows = matches!(draw, Draw::Line(_) | Draw::Stacked(..) | Draw::StackedBy(..) | Draw::Bars(_));
        Self {
            title,
            metric,
            draw,
            feeds,
            interval: None,
            by: &[],
            always_by: None,
            wide: false,
            follows,
            money: false,
            refreshed: None,
            link: None,
            split: None,
            needs: "",
        }
    }

    /// A grain of its own.
    pub const fn interval(self, interval: &'static str) -> Self {
        Self { interval: Some(interval), follows: false, ..self }
    }

    /// The breakdowns that a reader may choose.
    pub const fn by(self, by: &'static [&'static str]) -> Self {
        Self { by, ..self }
    }

    /// A breakdown that is part of the drawing.
    pub const fn always_by(self, by: &'static str) -> Self {
        Self { always_by: Some(by), ..self }
    }

    /// As wide as the page.
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    /// Money: one currency at a time.
    pub const fn money(self) -> Self {
        Self { money: true, ..self }
    }

    /// The grain follows the page's time, as that of lines does.
    pub const fn follow(self) -> Self {
        Self { follows: true, ..self }
    }

    /// A column whose values are series of their own.
    pub const fn split(self, column: &'static str) -> Self {
        Self { split: Some(column), ..self }
    }

    /// What is said where nothing is in it.
    pub const fn needs(self, needs: &'static str) -> Self {
        Self { needs, ..self }
    }

    /// Names in the table lead to `link` + name.
    pub const fn link(self, link: &'static str) -> Self {
        Self { link: Some(link), ..self }
    }

    /// An open page asks `path` for the panel again when rows have come.
    pub const fn refreshed(self, path: &'static str) -> Self {
        Self { refreshed: Some(path), ..self }
    }

    fn question(&self, period: &Period, filters: &[(&str, &str)]) -> Question {
        let chosen = (!period.by.is_empty() && self.by.contains(&period.by.as_str())).then(|| period.by.clone());
        let by = self.always_by.map(str::to_string).or(chosen);
        let interval = if self.follows { Some(period.interval()) } else { self.interval };
        let filters = filters.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
        Question { interval, by, filters, ..Question::of(period) }
    }

    /// Asks and draws. What goes wrong is said in its place: one bad metric must not hide the others.
    pub async fn render(&self, app: &App, period: &Period, filters: &[(&str, &str)]) -> Markup {
        let question = self.question(period, filters);
        let before = question.over(period.before);
        let compares = period.compare && question.by.is_none() && matches!(self.draw, Draw::Line([_]));
        let (answer, before) = tokio::join!(ask(app, self.metric, &question), async {
            if compares { ask(app, self.metric, &before).await } else { Ok(None) }
        });
        let body = match (answer, before) {
            (Err(error), _) | (_, Err(error)) => self.trouble(&error),
            (Ok(None), _) => self.missing(),
            (Ok(Some(answer)), before) => match self.body(&answer, before.ok().flatten().as_ref(), &question, period) {
                Ok(body) => body,
                Err(error) => self.trouble(&error),
            },
        };
        html! {
            section.card.wide-card[self.wide] aria-label=(self.title) id={ "panel-" (self.metric) } data-panel=(self.metric) data-live=[self.refreshed.map(|_| "/live")] data-refresh=[self.refreshed] {
                header.card-head {
                    h2 { (self.title) }
                    nav aria-label={ (self.title) ": export" } {
                        a href={ "/sql?metric=" (self.metric) "&" (self.query(period, &question)) } title="The query, to run and to change" { "SQL" }
                        a href={ "/chart/" (self.metric) "?" (self.query(period, &question)) } download { "CSV" }
                    }
                }
                (body)
            }
        }
    }

    fn query(&self, period: &Period, question: &Question) -> String {
        let mut change = vec![("by", question.by.as_deref().unwrap_or(""))];
        change.push(("interval", question.interval.unwrap_or("")));
        let mut query = period.query(&change);
        for (name, value) in &question.filters {
            query.push_str(&format!("&filter={}", super::access::url_encoded(&format!("{name}:{value}"))));
        }
        query
    }

    fn trouble(&self, error: &Error) -> Markup {
        html! { div.state.alert role="alert" { p { strong { "This chart could not be drawn." } } p { (error.to_string()) } } }
    }

    fn missing(&self) -> Markup {
        html! {
            div.state {
                p { strong { "This metric is not installed." } }
                p { "The chart reads " code { "sql/metrics/" (self.metric) ".sql" } ", which is not among this server’s files." }
            }
        }
    }

    fn empty(&self) -> Markup {
        html! {
            div.state {
                p { strong { "No data in this period yet." } }
                @if !self.needs.is_empty() { p { (self.needs) } }
                p { "This chart fills from " code { (self.feeds) } ". Choose another time, or send some:" }
                pre { code { "millstream ingest " (self.feeds) " events.jsonl" } }
            }
        }
    }

    fn body(&self, answer: &Answer, before: Option<&Answer>, question: &Question, period: &Period) -> Result<Markup> {
        let mut rows = answer.rows.clone();
        let mut currency = None;
        if self.money {
            currency = main_currency(&rows, &period.currency)?;
            if let Some(currency) = &currency {
                rows = only(&rows, "currency", currency)?;
            }
        }
        if rows.num_rows() == 0 {
            return Ok(self.empty());
        }
        if let Draw::Ranking("breakdown", value) = self.draw {
            rows = ranked(&rows, value)?;
        }
        let spaced = self.spaced(&rows, answer, period)?;
        let spec = self.spec(&spaced, before, question, period, currency.as_deref())?;
        let drawings = spec.map_or(Ok(Vec::new()), |spec| self.drawings(&spec))?;
        let drawn = !drawings.is_empty();
        let percentiles = rows.schema().fields().iter().any(|f| f.name().contains("_p95") || f.name().contains("_p90"));
        let open = !all_complete(&rows)?;
        let cut = matches!(self.draw, Draw::Ranking(..)) && rows.num_rows() > RANKING_MAX;
        let rows = for_people(&rows, period, question.by.as_deref())?;
        Ok(html! {
            @for (number, svg) in drawings.into_iter().enumerate() {
                figure.chart.narrow[number > 0] tabindex="0" aria-label={ (self.title) ", chart; arrow keys read its values" } { (PreEscaped(svg)) }
            }
            @if drawn {
                details { summary { "Data table" } (self.rows_table(&rows)?) }
            } @else {
                (self.rows_table(&rows)?)
            }
            p.foot {
                @if let Some(time) = answer.complete_through { span { "Complete through " time datetime=(show(time)) { (period.local(time).format("%-d %b %Y %H:%M")) } } }
                @if open { span.tag { "last period still open" } }
                @if cut { span.tag { "first " (RANKING_MAX) " of " (rows.num_rows()) } }
                @match answer.error_bound {
                    Some(bound) => span.tag title="Percentiles come from sketches with this bound on the relative error" { "approximate, within " (bound * 100.0) " %" },
                    None if percentiles => span.tag title="Percentiles come from every value" { "exact" },
                    None => {},
                }
                @if answer.truncated { span.tag { "rows cut at the server’s limit" } }
                @if let Some(currency) = &currency { span.tag { (currency) } }
                span.about title=(answer.definition) { "Definition" }
            }
        })
    }

    /// The chart, and if it is a wide one the same for a phone, where its labels would be too small to read. A page shows one of them.
    fn drawings(&self, spec: &ChartSpec) -> Result<Vec<String>> {
        let narrow =
            (self.wide && spec.kind != ChartKind::Map).then(|| ChartSpec { width_px: NARROW_PX, ..spec.clone() });
        std::iter::once(spec).chain(&narrow).map(|spec| spec.to_svg(Theme::Page).map_err(report_error)).collect()
    }

    /// The rows as bars over time need them: with the periods of which the metric says nothing.
    fn spaced(&self, rows: &RecordBatch, answer: &Answer, period: &Period) -> Result<RecordBatch> {
        let bars = matches!(self.draw, Draw::Bars(_) | Draw::Stacked(..) | Draw::StackedBy(..));
        let schema = rows.schema();
        let (true, Some(interval), Some(time)) = (bars, &answer.interval, time_column(&schema)) else {
            return Ok(rows.clone());
        };
        let interval = Interval::parse(interval).map_err(Error::sql)?;
        // What has not come yet is not nothing.
        let until = answer.complete_through.unwrap_or(EventTime::MIN).min(period.range.to);
        with_gaps(rows, time, interval, period.zone, until)
    }

    fn rows_table(&self, rows: &RecordBatch) -> Result<Markup> {
        let Some(link) = self.link else { return table(self.title, rows, TABLE_ROWS_MAX) };
        let name = match self.draw {
            Draw::Ranking(name, _) if name != "breakdown" => name,
            _ => "agent",
        };
        super::table::linked(self.title, rows, TABLE_ROWS_MAX, (name, link))
    }

    fn spec(
        &self,
        rows: &RecordBatch,
        before: Option<&Answer>,
        question: &Question,
        period: &Period,
        currency: Option<&str>,
    ) -> Result<Option<ChartSpec>> {
        let time = || {
            let schema = rows.schema();
            let name = time_column(&schema).map(str::to_string);
            name.ok_or_else(|| {
                Error::sql(format!("the metric {} has no column with a time; a line needs one", self.metric))
            })
        };
        let broken_down = question.by.is_some() && rows.schema().column_with_name("breakdown").is_some();
        let clocks = |rows: &RecordBatch, name: &str| on_clocks_of(rows, name, period.zone, 0);
        // One moment is no line.
        let draw = match self.draw {
            Draw::Line([y]) if rows.num_rows() == 1 => Draw::Bars(y),
            draw => draw,
        };
        let spec = match draw {
            Draw::Table => return Ok(None),
            Draw::Line([y]) if before.is_some() && !broken_down => {
                let time = time()?;
                let rows = overlaid(rows, before, (&time, y), period)?;
                let spec = self.chart(ChartKind::Line, &rows, &time, &["value"], Format::of(y), currency)?;
                ChartSpec { series: Some("series".into()), ..spec }
            }
            Draw::Line(y) => {
                let time = time()?;
                let rows = clocks(rows, &time)?;
                let spec = self.chart(ChartKind::Line, &rows, &time, y, Format::of(first(y)), currency)?;
                let split = self.split.or(broken_down.then_some("breakdown"));
                ChartSpec { series: split.map(str::to_string), ..spec }
            }
            Draw::Bars(y) => {
                let time = time()?;
                let rows = clocks(rows, &time)?;
                let kind = if broken_down { ChartKind::StackedBars } else { ChartKind::Bars };
                let spec = self.chart(kind, &rows, &time, &[y], Format::of(y), currency)?;
                ChartSpec { series: broken_down.then(|| "breakdown".to_string()), ..spec }
            }
            Draw::Stacked(up, down) => {
                let time = time()?;
                let all: Vec<&str> = up.iter().chain(down).copied().collect();
                let format = Format::of(first(&all));
                let spec = self.chart(ChartKind::StackedBars, &clocks(rows, &time)?, &time, &all, format, currency)?;
                ChartSpec {
                    downwards: spec.y.iter().skip(up.len()).cloned().collect(),
                    series: broken_down.then(|| "breakdown".to_string()),
                    ..spec
                }
            }
            Draw::StackedBy(name, y) => {
                let time = time()?;
                let rows = added_up(&clocks(rows, &time)?, &time, name, y)?;
                let spec = self.chart(ChartKind::StackedBars, &rows, &time, &[y], Format::of(y), currency)?;
                ChartSpec { series: Some(name.to_string()), ..spec }
            }
            other => self.spec_by_name(other, rows, period, currency)?,
        };
        Ok(Some(ChartSpec { clocks: period.zone.name().to_string(), ..spec }))
    }

    /// Drawings that have no axis of time.
    fn spec_by_name(
        &self,
        draw: Draw,
        rows: &RecordBatch,
        period: &Period,
        currency: Option<&str>,
    ) -> Result<ChartSpec> {
        Ok(match draw {
            Draw::Columns(x, y) => self.chart(ChartKind::Bars, rows, x, &[y], Format::of(y), currency)?,
            Draw::Funnel(x, y) => self.chart(ChartKind::Funnel, rows, x, &[y], Format::of(y), currency)?,
            Draw::Map(x, y) => ChartSpec {
                unit: heading(y).to_lowercase(),
                ..self.chart(ChartKind::Map, rows, x, &[y], Format::Number, None)?
            },
            Draw::Heat(x, down, value) => {
                let schema = rows.schema();
                let timed = schema.field_with_name(x).is_ok_and(|f| f.name().ends_with("_start"));
                let rows = if timed { on_clocks_of(rows, x, period.zone, 0)? } else { rows.clone() };
                let spec = self.chart(ChartKind::Heat, &rows, x, &[value], Format::of(value), currency)?;
                ChartSpec { series: Some(down.to_string()), ..spec }
            }
            Draw::Ranking(x, y) => {
                let rows = rows.slice(0, rows.num_rows().min(RANKING_MAX));
                self.chart(ChartKind::HorizontalBars, &rows, x, &[y], Format::of(y), currency)?
            }
            Draw::Line(_) | Draw::Stacked(..) | Draw::StackedBy(..) | Draw::Bars(_) | Draw::Table => {
                return Err(Error::Bug(format!("the panel {} has no drawing", self.title)));
            }
        })
    }

    fn chart(
        &self,
        kind: ChartKind,
        rows: &RecordBatch,
        x: &str,
        y: &[&str],
        format: Format,
        currency: Option<&str>,
    ) -> Result<ChartSpec> {
        let (factor, unit) = match format {
            Format::Milliseconds => span(y.iter().flat_map(|y| numbers(rows, y)).flatten().fold(0.0, f64::max)),
            Format::Bytes => bytes_unit(y.iter().flat_map(|y| numbers(rows, y)).flatten().fold(0.0, f64::max)),
            Format::Minor => (1.0 / minor_units(currency.unwrap_or_default()), ""),
            format => format.axis(),
        };
        let unit = if format == Format::Minor { currency.unwrap_or("") } else { unit };
        let names = labels(y);
        let spec = ChartSpec::new(kind, vec![renamed(rows, y, &names)?], x, "");
        Ok(ChartSpec {
            title: self.title.to_string(),
            y: names,
            factor,
            unit: unit.to_string(),
            width_px: if self.wide { WIDE_PX } else { NARROW_PX },
            height_px: if self.wide { 280 } else { 240 },
            ..spec
        })
    }
}

/// The factor and the unit of an axis up to so many milliseconds.
fn span(most_ms: f64) -> (f64, &'static str) {
    match most_ms {
        ms if ms >= 600_000.0 => (1.0 / 60_000.0, "min"),
        ms if ms >= 10_000.0 => (0.001, "s"),
        _ => (1.0, "ms"),
    }
}

/// The factor and the unit of an axis up to so many bytes.
fn bytes_unit(most: f64) -> (f64, &'static str) {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let power = (0..units.len() - 1).take_while(|power| most >= 1_024f64.powi(*power as i32 + 1)).count();
    (1_024f64.powi(-(power as i32)), units.get(power).copied().unwrap_or("B"))
}

fn first<'a>(names: &[&'a str]) -> &'a str {
    names.first().copied().unwrap_or("")
}

/// The currency of the URL, else the one of most rows.
pub fn main_currency(rows: &RecordBatch, chosen: &str) -> Result<Option<String>> {
    let Some(column) = rows.column_by_name("currency") else { return Ok(None) };
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for name in texts(column)?.into_iter().flatten().filter(|name| !name.is_empty()) {
        *counts.entry(name).or_default() += 1;
    }
    if counts.contains_key(chosen) {
        return Ok(Some(chosen.to_string()));
    }
    Ok(counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|(name, _)| name))
}

/// Whether every period of the answer is over; answers without periods are.
fn all_complete(rows: &RecordBatch) -> Result<bool> {
    let Some(column) = rows.column_by_name("complete") else { return Ok(true) };
    Ok(texts(column)?.iter().all(|t| t.as_deref() != Some("false")))
}

/// This time and the time before on one axis, as two series.
fn overlaid(
    rows: &RecordBatch,
    before: Option<&Answer>,
    (time, y): (&str, &str),
    period: &Period,
) -> Result<RecordBatch> {
    let now = on_clocks_of(rows, time, period.zone, 0)?;
    let shift = period.range.from.saturating_sub(period.before.from);
    let mut times: Vec<ArrayRef> = now.column_by_name(time).cloned().into_iter().collect();
    let mut values = numbers(&now, y);
    let mut series = vec!["this period"; values.len()];
    if let Some(before) = before.filter(|b| b.rows.num_rows() > 0) {
        let old = on_clocks_of(&before.rows, time, period.zone, shift)?;
        times.extend(old.column_by_name(time).cloned());
        values.extend(numbers(&old, y));
        series.resize(values.len(), "period before");
    }
    let times: Vec<&dyn arrow::array::Array> = times.iter().map(AsRef::as_ref).collect();
    let values: ArrayRef = Arc::new(Float64Array::from(values));
    let series: ArrayRef = Arc::new(StringArray::from(series));
    Ok(RecordBatch::try_from_iter([(time, arrow::compute::concat(&times)?), ("value", values), ("series", series)])?)
}

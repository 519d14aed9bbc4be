//! Headline figures: a value, its change against the time before, and a small line.

use arrow::record_batch::RecordBatch;
use maud::{Markup, PreEscaped, html};
use millstream::Result;
use millstream_report::chart::{compact, sparkline};
use millstream_report::{Better, Theme};

use super::ask::{Answer, Question, ask, numbers};
use super::period::Period;
use super::table::Format;
use crate::http::App;

/// Which rows make the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The one row that the metric gives for the whole time.
    Whole,
    /// The last period that is over (a snapshot, such as MRR).
    Last,
}

/// One figure.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// What it is.
    pub label: &'static str,
    /// The metric.
    pub metric: &'static str,
    /// The column.
    pub column: &'static str,
    /// Which rows.
    pub pick: Pick,
    /// Which direction is good.
    pub better: Better,
    /// The page that tells more.
    pub href: &'static str,
}

impl Figure {
    /// A figure over the whole time.
    pub const fn whole(
        label: &'static str,
        metric: &'static str,
        column: &'static str,
        better: Better,
        href: &'static str,
    ) -> Self {
        Self { label, metric, column, pick: Pick::Whole, better, href }
    }

    /// The newest value.
    pub const fn last(
        label: &'static str,
        metric: &'static str,
        column: &'static str,
        better: Better,
        href: &'static str,
    ) -> Self {
        Self { label, metric, column, pick: Pick::Last, better, href }
    }

    /// Asks for this time and the one before, and draws.
    pub async fn render(&self, app: &App, period: &Period, filters: &[(&str, &str)]) -> Markup {
        let filters = filters.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
        let series = Question { interval: Some(period.interval()), filters, ..Question::of(period) };
        let whole = Question { interval: Some("all"), ..series.clone() };
        let (value, before, trend) = match self.pick {
            Pick::Whole => {
                let before = whole.before(period);
                let (now, before, trend) = tokio::join!(
                    ask(app, self.metric, &whole),
                    ask(app, self.metric, &before),
                    ask(app, self.metric, &series)
                );
                (self.value(now, period), self.value(before, period), self.trend(trend, period))
            }
            Pick::Last => {
                let before = series.before(period);
                let (now, before) = tokio::join!(ask(app, self.metric, &series), ask(app, self.metric, &before));
                let trend = self.trend(now, period);
                let last = |trend: &Result<Vec<Option<f64>>>| match trend {
                    Ok(values) => Ok(values.iter().rev().flatten().next().copied()),
                    Err(e) => Err(e.to_string()),
                };
                let before = self.trend(before, period);
                (last(&trend), last(&before), trend)
            }
        };
        self.draw(value, before.ok().flatten(), trend.unwrap_or_default())
    }

    fn draw(&self, value: Result<Option<f64>, String>, before: Option<f64>, trend: Vec<Option<f64>>) -> Markup {
        let now = value.as_ref().ok().copied().flatten();
        let change = now.zip(before).filter(|(_, b)| *b != 0.0).map(|(v, b)| (v - b) / b.abs());
        let line = trend.iter().flatten().count() >= 2;
        let title = format!("{} over the period", self.label);
        html! {
            a.figure href=(self.href) {
                span.label { (self.label) }
                span.value { (now.map_or("–".to_string(), |v| self.text(v))) }
                span.change {
                    @match change {
                        Some(change) => (self.change(change)),
                        None if value.is_err() => span.muted title=(value.err().unwrap_or_default()) { "cannot be read" },
                        None => span.muted { (if now.is_some() { "no period before" } else { "no data yet" }) },
                    }
                }
                @if line { span.spark { (PreEscaped(sparkline(&trend, 150, 34, &title, Theme::Page))) } }
            }
        }
    }

    fn text(&self, value: f64) -> String {
        match Format::of(self.column) {
            Format::Number => compact(value),
            Format::Minor => compact(value / 100.0),
            Format::Dollars => format!("${}", compact(value)),
            other => other.text(value),
        }
    }

    /// The direction by shape, in words for screen readers, and in colour where one direction is good.
    fn change(&self, change: f64) -> Markup {
        let percent = change * 100.0;
        if percent.abs() < 0.05 {
            return html! { span.muted { "± 0 %" } };
        }
        let up = percent > 0.0;
        let mood = match self.better {
            Better::Neither => "neither",
            Better::Higher if up => "better",
            Better::Lower if !up => "better",
            _ => "worse",
        };
        let decimals = if percent.abs() < 100.0 { 1 } else { 0 };
        html! {
            span class=(mood) {
                span aria-hidden="true" { (if up { "▲" } else { "▼" }) }
                span.unseen { (if up { "up" } else { "down" }) }
                " " (format!("{:.decimals$} %", percent.abs()))
            }
        }
    }

    fn value(&self, answer: Result<Option<Answer>>, period: &Period) -> Result<Option<f64>, String> {
        let Some(answer) = answer.map_err(|e| e.to_string())? else { return Ok(None) };
        let rows = self.rows(&answer, period).map_err(|e| e.to_string())?;
        Ok(numbers(&rows, self.column).into_iter().flatten().next())
    }

    fn trend(&self, answer: Result<Option<Answer>>, period: &Period) -> Result<Vec<Option<f64>>> {
        let Some(answer) = answer? else { return Ok(Vec::new()) };
        Ok(numbers(&self.rows(&answer, period)?, self.column))
    }

    fn rows(&self, answer: &Answer, period: &Period) -> Result<RecordBatch> {
        super::panel::in_one_currency(&answer.rows, &period.currency)
    }
}

//! Headline figures: a value, its change against the time before, and a small line.

use maud::{Markup, PreEscaped, html};
use millstream::Result;
use millstream_report::chart::{change_size, compact, sparkline};
use millstream_report::{Better, Theme};

use super::ask::{Answer, Question, ask, numbers, only, texts};
use super::panel::main_currency;
use super::period::Period;
use super::table::Format;
use crate::http::App;
use crate::label::{minor_units, money};

/// Which rows make the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The one row that the metric gives for the whole time.
    Whole,
    /// The last period, which may be open: a snapshot, such as MRR.
    Last,
    /// The last period that is over: a count of a day, such as the day's users.
    Closed,
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

    /// The value of the last period that is over.
    pub const fn closed(
        label: &'static str,
        metric: &'static str,
        column: &'static str,
        better: Better,
        href: &'static str,
    ) -> Self {
        Self { label, metric, column, pick: Pick::Closed, better, href }
    }

    /// Asks for this time and the one before, and draws.
    pub async fn render(&self, app: &App, period: &Period, filters: &[(&str, &str)]) -> Markup {
        let filters = filters.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
        let series = Question { interval: Some(period.interval()), filters, ..Question::of(period) };
        let whole = Question { interval: Some("all"), ..series.clone() };
        let whole_before = whole.over(period.before_so_far);
        let (now, before, trend) = match self.pick {
            Pick::Whole => tokio::join!(
                ask(app, self.metric, &whole),
                ask(app, self.metric, &whole_before),
                ask(app, self.metric, &series)
            ),
            Pick::Last | Pick::Closed => {
                let before = series.over(period.before);
                let (now, before) = tokio::join!(ask(app, self.metric, &series), ask(app, self.metric, &before));
                let trend = now.as_ref().map_or(Ok(None), |now| Ok(now.clone()));
                (now, before, trend)
            }
        };
        let now = self.read(now, period);
        let before = self.read(before, period).ok();
        self.draw(now, before, self.read(trend, period).unwrap_or_default())
    }

    fn draw(&self, now: Result<Reading, String>, before: Option<Reading>, trend: Reading) -> Markup {
        let trouble = now.as_ref().err().cloned();
        let now = now.unwrap_or_default();
        let value = now.value(self.pick);
        let before = before.and_then(|before| before.value(self.pick));
        let change = value.zip(before).filter(|(_, b)| *b != 0.0).map(|(v, b)| (v - b) / b.abs());
        let trend = trend.points(self.pick);
        let line = trend.iter().flatten().count() >= 2;
        let title = format!("{} over the period", self.label);
        html! {
            a.figure href=(self.href) {
                span.label { (self.label) }
                span.value { (value.map_or("–".to_string(), |v| self.text(v, now.currency.as_deref()))) }
                span.change {
                    @match (change, trouble) {
                        (Some(change), _) => (self.change(change)),
                        (None, Some(trouble)) => span.muted title=(trouble) { "cannot be read" },
                        (None, None) => span.muted { (if value.is_some() { "no period before" } else { "no data yet" }) },
                    }
                }
                @if line { span.spark { (PreEscaped(sparkline(&trend, 220, 40, &title, Theme::Page))) } }
            }
        }
    }

    fn text(&self, value: f64, currency: Option<&str>) -> String {
        match Format::of(self.column) {
            Format::Number => compact(value),
            Format::Minor => {
                let currency = currency.unwrap_or_default();
                money(&compact(value / minor_units(currency)), currency)
            }
            Format::Dollars => format!("${}", compact(value)),
            other => other.text(value),
        }
    }

    /// The direction by shape, in words for screen readers, and in colour where one direction is good.
    fn change(&self, change: f64) -> Markup {
        if change.abs() < 0.0005 {
            return html! { span.muted { "± 0 %" } };
        }
        let up = change > 0.0;
        let mood = match self.better {
            Better::Neither => "neither",
            Better::Higher if up => "better",
            Better::Lower if !up => "better",
            _ => "worse",
        };
        html! {
            span class=(mood) {
                span aria-hidden="true" { (if up { "▲" } else { "▼" }) }
                span.unseen { (if up { "up" } else { "down" }) }
                " " (change_size(change))
            }
        }
    }

    fn read(&self, answer: Result<Option<Answer>>, period: &Period) -> Result<Reading, String> {
        let Some(answer) = answer.map_err(|e| e.to_string())? else { return Ok(Reading::default()) };
        let currency = main_currency(&answer.rows, &period.currency).map_err(|e| e.to_string())?;
        let rows = match &currency {
            Some(currency) => only(&answer.rows, "currency", currency).map_err(|e| e.to_string())?,
            None => answer.rows,
        };
        let complete = match rows.column_by_name("complete") {
            Some(column) => {
                texts(column).map_err(|e| e.to_string())?.iter().map(|t| t.as_deref() == Some("true")).collect()
            }
            None => vec![true; rows.num_rows()],
        };
        Ok(Reading { values: numbers(&rows, self.column), complete, currency })
    }
}

/// One column of an answer.
#[derive(Debug, Clone, Default)]
struct Reading {
    values: Vec<Option<f64>>,
    complete: Vec<bool>,
    currency: Option<String>,
}

impl Reading {
    fn value(&self, pick: Pick) -> Option<f64> {
        match pick {
            Pick::Whole => self.values.iter().flatten().next().copied(),
            Pick::Last | Pick::Closed => self.points(pick).into_iter().rev().flatten().next(),
        }
    }

    /// What the small line shows. Where nothing is over yet, what there is.
    fn points(&self, pick: Pick) -> Vec<Option<f64>> {
        let over =
            || self.values.iter().zip(&self.complete).filter(|(_, complete)| **complete).map(|(value, _)| *value);
        match pick {
            Pick::Closed if self.complete.contains(&true) => over().collect(),
            _ => self.values.clone(),
        }
    }
}

//! Figures on top, then panels under headings: the form of most pages.

use futures::future::join_all;
use maud::{Markup, html};

use super::figure::Figure;
use super::panel::Panel;
use super::period::Period;
use crate::http::App;

/// Panels under one heading.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// What is under it.
    pub panels: &'static [Panel],
}

/// Asks everything at once and renders it in order.
pub async fn render(
    app: &App,
    period: &Period,
    figures: &[Figure],
    sections: &[Section],
    filters: &[(&str, &str)],
) -> Markup {
    let (figures, sections) = tokio::join!(
        join_all(figures.iter().map(|figure| figure.render(app, period, filters))),
        join_all(sections.iter().map(|section| async {
            (section.title, join_all(section.panels.iter().map(|panel| panel.render(app, period, filters))).await)
        })),
    );
    html! {
        @if !figures.is_empty() { section.figures aria-label="Key figures" { @for figure in figures { (figure) } } }
        @for (title, panels) in sections {
            section.group aria-label=(title) { h2.group-title { (title) } div.cards { @for panel in panels { (panel) } } }
        }
    }
}

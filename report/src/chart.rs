//! Charts as SVG text, drawn from record batches. In: batches and the names of their columns. Out: one `<svg>` element.
//! The same code draws dashboard pages and the PDF. It never aggregates: one row is one mark; group in the SELECT.
//!
//! ```text
//! ChartSpec -> data (columns read and checked) -> scale (ticks) -> line | bar -> svg (text)
//! ```

mod bar;
mod data;
mod funnel;
mod heat;
mod line;
mod map;
mod scale;
mod svg;

use arrow::array::RecordBatch;

use crate::Result;
use data::Data;
use svg::{Anchor, Canvas, Px, SERIES_MAX, fit, text_width};

pub use map::country_name;
pub(crate) use scale::utc;
pub use scale::{change_size, compact, full};
pub(crate) use svg::PRINT_FONT;
pub use svg::{Theme, page_css};

/// How the rows are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChartKind {
    /// A line per series over time or a number; a null is a gap.
    Line,
    /// Upright bars per category, side by side for several series. Good for few categories with short names, and days.
    Bars,
    /// Lying bars, one line per category with its value written out. Good for rankings and long names.
    HorizontalBars,
    /// Upright bars, the series on top of each other: gains above zero, losses (negative values) below.
    StackedBars,
    /// A grid: x across, the series down, the value as the strength of a colour and, where there is room, written out.
    Heat,
    /// Steps below each other, each with its share of the step before and of the first.
    Funnel,
    /// The world as one tile per country: x holds ISO 3166 alpha-2 codes.
    Map,
}

/// A chart: rows, which columns to draw, and how.
///
/// *Shape*: `x` is a time, date, number or text column; every `y` column is a number of any width (decimals too);
/// `series`, when given, splits the rows by its value. Times without a zone are taken as UTC, and axes are in UTC.
/// *Order*: lines are drawn in order of x; bars keep the order of the rows.
#[derive(Debug, Clone)]
pub struct ChartSpec {
    /// Line or bars.
    pub kind: ChartKind,
    /// What screen readers and tooltips call the chart; not drawn, since page and report have a heading.
    pub title: String,
    /// A sentence for screen readers; may be empty.
    pub description: String,
    /// The rows, all of one schema. No rows make an empty chart that says so.
    pub data: Vec<RecordBatch>,
    /// The column of the axis.
    pub x: String,
    /// The columns with the values.
    pub y: Vec<String>,
    /// The column that names the series of each row.
    pub series: Option<String>,
    /// The columns of `y` whose values count downwards, such as losses given as positive numbers.
    pub downwards: Vec<String>,
    /// What values are multiplied with before they are drawn: 100 for shares shown as percent.
    pub factor: f64,
    /// The unit of the values, written above the axis; may be empty.
    pub unit: String,
    /// The width of the drawing; pages and PDF scale it.
    pub width_px: u32,
    /// The height of the drawing.
    pub height_px: u32,
    /// Whose clocks the times are on, for tooltips; they are drawn as they are.
    pub clocks: String,
}

impl ChartSpec {
    /// A chart of one value column, 720 by 260 pixels; set further fields as needed.
    pub fn new(kind: ChartKind, data: Vec<RecordBatch>, x: impl Into<String>, y: impl Into<String>) -> Self {
        Self {
            kind,
            title: String::new(),
            description: String::new(),
            data,
            x: x.into(),
            y: vec![y.into()],
            series: None,
            downwards: Vec::new(),
            factor: 1.0,
            unit: String::new(),
            width_px: 720,
            height_px: 260,
            clocks: "UTC".to_string(),
        }
    }

    /// Draws the chart as one `<svg>` element, readable as a file of its own.
    ///
    /// At most eight series are drawn (those with the greatest totals) and at most 60 upright or 30 lying categories
    /// (the first); what is left out is counted in a note under the chart. A line with more points than pixels keeps
    /// the first, least, greatest and last point of each pixel column, so the text stays small and no peak is lost.
    ///
    /// # Errors
    /// A named column is missing or not a number, or two rows give one bar of one series.
    pub fn to_svg(&self, theme: Theme) -> Result<String> {
        let mut data = Data::read(self)?;
        // The rows of a grid are series too, and need no colours of their own.
        let max = if self.kind == ChartKind::Heat { heat::ROWS_MAX } else { SERIES_MAX };
        let left_out = data.keep_largest(max);
        let note = (left_out > 0).then(|| format!("{left_out} smaller series not shown"));
        match self.kind {
            ChartKind::Line => line::draw(self, &data, theme, note),
            ChartKind::Bars => bar::draw_upright(self, &data, theme, note),
            ChartKind::HorizontalBars => bar::draw_lying(self, &data, theme, note),
            ChartKind::StackedBars => bar::draw_stacked(self, &data, theme, note),
            ChartKind::Heat => heat::draw(self, &data, theme, note),
            ChartKind::Funnel => funnel::draw(self, &data, theme),
            ChartKind::Map => map::draw(self, &data, theme),
        }
    }
}

/// A line without axes, for a headline figure; nulls are gaps. Its last value is marked.
pub fn sparkline(values: &[Option<f64>], width_px: u32, height_px: u32, title: &str, theme: Theme) -> String {
    let (width, height) = (f64::from(width_px), f64::from(height_px));
    let mut canvas = Canvas::open(theme, width, height, title, "");
    line::draw_sparkline(&mut canvas, values, width, height);
    canvas.close()
}

/// The rectangle that marks are drawn in, in pixels from the upper left corner of the chart.
#[derive(Debug, Clone, Copy)]
struct Plot {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Plot {
    fn width(&self) -> f64 {
        self.right - self.left
    }

    fn height(&self) -> f64 {
        self.bottom - self.top
    }
}

const LEGEND_ROW_PX: f64 = 18.0;
/// The height of the line that holds the unit.
const UNIT_ROW_PX: f64 = 18.0;
/// Room between the plot and the edge where nothing else is.
const PADDING_PX: f64 = 8.0;

/// Tells the script of a page where the plot is, and of which time, so that it can follow the pointer and zoom.
fn mark_plot(canvas: &mut Canvas, plot: &Plot, time_ms: Option<(i64, i64)>) {
    use std::fmt::Write as _;
    if canvas.theme == Theme::Print {
        return;
    }
    let (left, top, right, bottom) = (Px(plot.left), Px(plot.top), Px(plot.right), Px(plot.bottom));
    let _ = write!(canvas.out, r#"<g data-plot="{left} {top} {right} {bottom}""#);
    if let Some((low, high)) = time_ms {
        let _ = write!(canvas.out, r#" data-time="{low} {high}""#);
    }
    canvas.out.push_str("/>");
}

/// Opens the chart, writes legend and unit, and gives the place below them where the plot may begin.
fn open(spec: &ChartSpec, data: &Data, theme: Theme) -> (Canvas, f64) {
    let (width, height) = (f64::from(spec.width_px), f64::from(spec.height_px));
    let mut canvas = Canvas::open(theme, width, height, &spec.title, &spec.description);
    let mut top = PADDING_PX;
    if data.series.len() > 1 {
        top = draw_legend(&mut canvas, data, width, top);
    }
    if !spec.unit.is_empty() {
        canvas.text((0.0, top + 9.0), Anchor::Start, "muted", &spec.unit);
        top += UNIT_ROW_PX;
    }
    (canvas, top)
}

fn draw_legend(canvas: &mut Canvas, data: &Data, width: f64, top: f64) -> f64 {
    use std::fmt::Write as _;
    let (mut x, mut y) = (0.0, top);
    for (index, series) in data.series.iter().enumerate() {
        let name = fit(&series.name, 200.0);
        let item = 15.0 + text_width(&name) + 16.0;
        if x > 0.0 && x + item > width {
            (x, y) = (0.0, y + LEGEND_ROW_PX);
        }
        let colour = canvas.theme.series_colour(data.colour(index));
        let (rect_x, rect_y) = (Px(x), Px(y));
        let _ =
            write!(canvas.out, r#"<rect x="{rect_x}" y="{rect_y}" width="10" height="10" rx="2" fill="{colour}"/>"#);
        canvas.text((x + 15.0, y + 9.0), Anchor::Start, "ink", &name);
        x += item;
    }
    y + LEGEND_ROW_PX + 4.0
}

/// Horizontal grid lines with their numbers left of the plot.
fn draw_number_axis(canvas: &mut Canvas, plot: &Plot, scale: &scale::NumberScale) {
    for tick in scale.ticks() {
        let y = plot.bottom - scale.fraction(tick) * plot.height();
        let colour = if tick == 0.0 { "axis" } else { "grid" };
        canvas.line((plot.left, y), (plot.right, y), colour);
        canvas.text((plot.left - 8.0, y + 4.0), Anchor::End, "muted", &scale.label(tick));
    }
}

/// How far left the plot begins, so that the widest number fits.
fn number_axis_width(scale: &scale::NumberScale) -> f64 {
    scale.ticks().iter().map(|t| text_width(&scale.label(*t))).fold(0.0, f64::max) + 10.0
}

/// What is left out is said under the chart.
fn draw_note(canvas: &mut Canvas, spec: &ChartSpec, note: Option<&str>) {
    if let Some(note) = note {
        let place = (f64::from(spec.width_px), f64::from(spec.height_px) - 3.0);
        canvas.text(place, Anchor::End, "muted", note);
    }
}

fn note_height(note: Option<&str>) -> f64 {
    if note.is_some() { 16.0 } else { 0.0 }
}

/// A chart without a single value says so, in the middle, instead of drawing axes about nothing.
fn empty(spec: &ChartSpec, mut canvas: Canvas) -> String {
    let (width, height) = (f64::from(spec.width_px), f64::from(spec.height_px));
    canvas.line((0.0, height - PADDING_PX), (width, height - PADDING_PX), "grid");
    canvas.text((width / 2.0, height / 2.0), Anchor::Middle, "muted", "No data in this period");
    canvas.close()
}

#[cfg(test)]
mod tests;

//! Lines: one path per series, broken at nulls.

use std::fmt::Write as _;

use super::data::{Axis, Data, Series};
use super::scale::{self, NumberScale};
use super::svg::{Anchor, Canvas, Escaped, Px, text_width};
use super::{ChartSpec, PADDING_PX, Plot, Theme};
use crate::Result;

/// Above this many points tooltips would weigh more than the drawing.
const TOOLTIPS_MAX: usize = 400;
/// The least distance between the labels of two times.
const TIME_LABEL_PX: f64 = 84.0;

/// The x of every row as a position: milliseconds, a number, or the place of the category.
struct Horizontal {
    values: Vec<Option<f64>>,
    ticks: Vec<(f64, String, Option<String>)>,
    low: f64,
    high: f64,
}

pub(super) fn draw(spec: &ChartSpec, data: &Data, theme: Theme, note: Option<String>) -> Result<String> {
    let (mut canvas, top) = super::open(spec, data, theme);
    let Some((y_low, y_high)) = data.y_range() else { return Ok(super::empty(spec, canvas)) };
    let height = f64::from(spec.height_px);
    let y_scale = NumberScale::for_line(y_low, y_high, ((height - top) / 45.0).clamp(2.0, 8.0) as usize);
    let left = super::number_axis_width(&y_scale);
    let right = f64::from(spec.width_px) - 18.0;
    let x = horizontal(data, ((right - left) / TIME_LABEL_PX) as usize);
    let two_rows = x.ticks.iter().any(|(_, _, context)| context.is_some());
    let labels = if two_rows { 34.0 } else { 20.0 };
    let bottom = height - labels - super::note_height(note.as_deref());
    let plot = Plot { left, top: top + PADDING_PX, right, bottom };

    super::draw_number_axis(&mut canvas, &plot, &y_scale);
    draw_ticks(&mut canvas, &plot, &x);
    let mut marks = Vec::new();
    for (index, series) in data.series.iter().enumerate() {
        let segments = segments(series, &x, &plot, &y_scale);
        // A ground under a line says that its height counts from zero.
        if data.series.len() == 1 && y_scale.fraction(0.0) >= 0.0 && y_scale.fraction(0.0) <= 1.0 {
            draw_area(&mut canvas, &segments, &plot, &y_scale);
        }
        draw_segments(&mut canvas, &segments, data.colour(index), 2.0);
        marks.extend(segments.into_iter().flatten().map(|point| (index, point)));
    }
    if theme == Theme::Page && marks.len() <= TOOLTIPS_MAX {
        draw_tooltips(&mut canvas, spec, data, &x, &marks);
    }
    let time = matches!(data.axis, Axis::TimeMs(_)).then_some((x.low as i64, x.high as i64));
    super::mark_plot(&mut canvas, &plot, time);
    super::draw_note(&mut canvas, spec, note.as_deref());
    Ok(canvas.close())
}

/// A point of a line: where it is drawn, and the row and value it stands for.
#[derive(Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
    row: usize,
    value: f64,
}

fn horizontal(data: &Data, ticks_max: usize) -> Horizontal {
    match &data.axis {
        Axis::TimeMs(times) => {
            let known = || times.iter().flatten().copied();
            let (low, high) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
            let (low, high) = if low == high { (low - 1_000, high + 1_000) } else { (low, high) };
            let ticks = scale::time_ticks(low, high, ticks_max);
            Horizontal {
                values: times.iter().map(|t| t.map(|t| t as f64)).collect(),
                ticks: ticks.into_iter().map(|t| (t.time_ms as f64, t.label, t.context)).collect(),
                low: low as f64,
                high: high as f64,
            }
        }
        Axis::Number(numbers) => {
            let known = || numbers.iter().flatten().copied();
            let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
            let axis = NumberScale::over(low, high, ticks_max.min(8));
            let ticks = axis.ticks().into_iter().map(|t| (t, axis.label(t), None)).collect();
            Horizontal { values: numbers.clone(), ticks, low: axis.low, high: axis.high }
        }
        Axis::Category(names) => category_positions(names, ticks_max),
    }
}

fn category_positions(names: &[Option<String>], ticks_max: usize) -> Horizontal {
    let mut places = std::collections::HashMap::new();
    let mut order: Vec<&str> = Vec::new();
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        let name = name.as_deref().unwrap_or("(none)");
        let place = *places.entry(name).or_insert_with(|| {
            order.push(name);
            order.len() - 1
        });
        values.push(Some(place as f64));
    }
    let every = order.len().div_ceil(ticks_max.max(1)).max(1);
    let ticks = order.iter().enumerate().step_by(every);
    let ticks = ticks.map(|(i, name)| (i as f64, super::fit(name, TIME_LABEL_PX), None)).collect();
    // Half a place of room at both ends, so that the outer names stand under their points.
    Horizontal { values, ticks, low: -0.5, high: order.len() as f64 - 0.5 }
}

fn draw_ticks(canvas: &mut Canvas, plot: &Plot, x: &Horizontal) {
    for (value, label, context) in &x.ticks {
        let at = plot.left + (value - x.low) / (x.high - x.low) * plot.width();
        canvas.line((at, plot.bottom), (at, plot.bottom + 4.0), "axis");
        // The first label may not stand over the numbers of the other axis, nor the last over the edge.
        let half = text_width(label).max(context.as_deref().map_or(0.0, text_width)) / 2.0;
        let at = at.clamp(half.min(plot.left), (plot.right + 16.0 - half).max(plot.left));
        canvas.text((at, plot.bottom + 16.0), Anchor::Middle, "muted", label);
        if let Some(context) = context {
            canvas.text((at, plot.bottom + 29.0), Anchor::Middle, "muted", context);
        }
    }
}

/// The runs of values between nulls, in order of x.
fn segments(series: &Series, x: &Horizontal, plot: &Plot, y_scale: &NumberScale) -> Vec<Vec<Point>> {
    let mut rows: Vec<(f64, usize, Option<f64>)> = Vec::with_capacity(series.rows.len());
    for (row, value) in series.rows.iter().zip(&series.y) {
        if let Some(at) = x.values.get(*row).copied().flatten() {
            rows.push((at, *row, *value));
        }
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut segments = vec![Vec::new()];
    for (at, row, value) in rows {
        match (value, segments.last_mut()) {
            (Some(value), Some(segment)) => segment.push(Point {
                x: plot.left + (at - x.low) / (x.high - x.low) * plot.width(),
                y: plot.bottom - y_scale.fraction(value) * plot.height(),
                row,
                value,
            }),
            _ => segments.push(Vec::new()),
        }
    }
    segments.retain(|segment| !segment.is_empty());
    let points: usize = segments.iter().map(Vec::len).sum();
    if points as f64 > 4.0 * plot.width() { segments.into_iter().map(thin).collect() } else { segments }
}

/// Keeps the first, least, greatest and last point of every pixel column: the same picture from fewer points.
fn thin(segment: Vec<Point>) -> Vec<Point> {
    let mut kept = Vec::new();
    for column in segment.chunk_by(|a, b| a.x.floor() == b.x.floor()) {
        let least = column.iter().enumerate().min_by(|a, b| a.1.y.total_cmp(&b.1.y)).map_or(0, |(i, _)| i);
        let greatest = column.iter().enumerate().max_by(|a, b| a.1.y.total_cmp(&b.1.y)).map_or(0, |(i, _)| i);
        let mut places = [0, least, greatest, column.len() - 1];
        places.sort_unstable();
        let mut last = None;
        for place in places {
            if last != Some(place) {
                kept.extend(column.get(place));
            }
            last = Some(place);
        }
    }
    kept
}

/// A faint ground under a single line, down to zero or the foot of the axis.
fn draw_area(canvas: &mut Canvas, segments: &[Vec<Point>], plot: &Plot, y_scale: &NumberScale) {
    let foot = plot.bottom - y_scale.fraction(0.0).clamp(0.0, 1.0) * plot.height();
    let colour = canvas.theme.series_colour(0);
    for segment in segments {
        let (Some(first), Some(last)) = (segment.first(), segment.last()) else { continue };
        let _ = write!(canvas.out, r#"<path fill="{colour}" fill-opacity="0.08" d="M{} {}"#, Px(first.x), Px(foot));
        for point in segment {
            let _ = write!(canvas.out, "L{} {}", Px(point.x), Px(point.y));
        }
        let _ = write!(canvas.out, r#"L{} {}Z"/>"#, Px(last.x), Px(foot));
    }
}

fn draw_segments(canvas: &mut Canvas, segments: &[Vec<Point>], index: usize, width: f64) {
    let colour = canvas.theme.series_colour(index);
    let mut path = String::new();
    for segment in segments {
        match segment.as_slice() {
            // A value between two gaps has no line; a dot keeps it visible.
            [point] => {
                let (x, y) = (Px(point.x), Px(point.y));
                let _ = write!(canvas.out, r#"<circle cx="{x}" cy="{y}" r="{}" fill="{colour}"/>"#, Px(width * 1.2));
            }
            points => {
                for (i, point) in points.iter().enumerate() {
                    let _ = write!(path, "{}{} {}", if i == 0 { 'M' } else { 'L' }, Px(point.x), Px(point.y));
                }
            }
        }
    }
    if !path.is_empty() {
        let _ = write!(
            canvas.out,
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{}" stroke-linejoin="round" stroke-linecap="round"/>"#,
            Px(width)
        );
    }
}

/// Unseen dots that carry the value for whoever points at them.
fn draw_tooltips(canvas: &mut Canvas, spec: &ChartSpec, data: &Data, x: &Horizontal, marks: &[(usize, Point)]) {
    const DAY_MS: i64 = 86_400_000;
    // A value of a day needs no time of day.
    let days = matches!(&data.axis, Axis::TimeMs(times) if times.iter().flatten().all(|t| t.rem_euclid(DAY_MS) == 0));
    for (index, point) in marks {
        let name = data.series.get(*index).map_or("", |s| s.name.as_str());
        let place = match &data.axis {
            Axis::TimeMs(_) => {
                let time = x.values.get(point.row).copied().flatten().and_then(|t| scale::utc(t as i64));
                time.map_or_else(String::new, |t| {
                    let text = t.format(if days { "%-d %b %Y" } else { "%-d %b %Y %H:%M:%S" }).to_string();
                    if days { text } else { format!("{} {}", text.strip_suffix(":00").unwrap_or(&text), spec.clocks) }
                })
            }
            Axis::Number(numbers) => {
                numbers.get(point.row).copied().flatten().map_or_else(String::new, |v| v.to_string())
            }
            Axis::Category(names) => names.get(point.row).cloned().flatten().unwrap_or_default(),
        };
        let text = format!("{name}, {place}: {}", scale::full(point.value));
        let (cx, cy, text) = (Px(point.x), Px(point.y), Escaped(&text));
        let _ = write!(
            canvas.out,
            r#"<circle cx="{cx}" cy="{cy}" r="7" fill="none" pointer-events="all"><title>{text}</title></circle>"#
        );
    }
}

pub(super) fn draw_sparkline(canvas: &mut Canvas, values: &[Option<f64>], width: f64, height: f64) {
    let y: Vec<Option<f64>> = values.iter().map(|v| v.filter(|v| v.is_finite())).collect();
    let rows = (0..y.len()).collect();
    let data = Data { axis: Axis::Number(Vec::new()), series: vec![Series { name: String::new(), rows, y }] };
    let (Some((low, high)), Some(series)) = (data.y_range(), data.series.first()) else { return };
    let y_scale = NumberScale::for_sparkline(low, high);
    let plot = Plot { left: 3.0, top: 3.0, right: width - 3.0, bottom: height - 3.0 };
    let x = Horizontal {
        values: (0..values.len()).map(|i| Some(i as f64)).collect(),
        ticks: Vec::new(),
        low: 0.0,
        high: (values.len().max(2) - 1) as f64,
    };
    let segments = segments(series, &x, &plot, &y_scale);
    draw_segments(canvas, &segments, 0, 1.5);
    if let Some(last) = segments.last().and_then(|s| s.last()) {
        let (cx, cy, colour) = (Px(last.x), Px(last.y), canvas.theme.series_colour(0));
        let _ = write!(canvas.out, r#"<circle cx="{cx}" cy="{cy}" r="2.4" fill="{colour}"/>"#);
    }
}

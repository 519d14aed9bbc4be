//! A grid of values: cohorts by age, routes by hour. The colour tells how much, the text says it.

use std::fmt::Write as _;

use super::bar::group;
use super::data::Data;
use super::scale::{compact, full};
use super::svg::{Anchor, Canvas, Escaped, Px, fit, text_width};
use super::{ChartSpec, Plot, Theme};
use crate::Result;

/// More rows than this belong into a table.
pub(super) const ROWS_MAX: usize = 40;
const COLUMNS_MAX: usize = 200;
const ROW_PX: f64 = 26.0;
const HEAD_PX: f64 = 20.0;
/// The room for names is at most this share of the chart.
const NAMES_SHARE_MAX: f64 = 0.3;
/// The faintest and the strongest colour of a cell.
const OPACITY: (f64, f64) = (0.06, 0.92);
/// From here on, text on the cell has the colour of the ground.
const DARK_CELL: f64 = 0.55;

/// The grid takes the height that its rows need.
pub(super) fn draw(spec: &ChartSpec, data: &Data, theme: Theme, note: Option<String>) -> Result<String> {
    let groups = group(spec, data, COLUMNS_MAX)?;
    let note = groups.note(note);
    let (width, rows) = (f64::from(spec.width_px), data.series.len());
    let top = if spec.unit.is_empty() { HEAD_PX } else { HEAD_PX + super::UNIT_ROW_PX };
    let foot = 4.0 + super::note_height(note.as_deref());
    let height = if rows == 0 { f64::from(spec.height_px) } else { (top + ROW_PX * rows as f64 + foot).ceil() };
    let spec = ChartSpec { height_px: height as u32, data: Vec::new(), ..spec.clone() };
    let mut canvas = Canvas::open(theme, width, height, &spec.title, &spec.description);
    let Some((_, greatest)) = data.y_range() else { return Ok(super::empty(&spec, canvas)) };
    if !spec.unit.is_empty() {
        canvas.text((0.0, 9.0), Anchor::Start, "muted", &spec.unit);
    }
    let names = data.series.iter().map(|s| text_width(&s.name)).fold(0.0, f64::max).min(width * NAMES_SHARE_MAX);
    let plot = Plot { left: names + 10.0, top, right: width, bottom: height - foot };
    let cell = plot.width() / groups.names.len().max(1) as f64;
    let widest = groups.names.iter().map(|n| text_width(n)).fold(0.0, f64::max);
    let nth = ((widest + 8.0) / cell).ceil().max(1.0) as usize;
    for (place, name) in groups.names.iter().enumerate().step_by(nth) {
        let x = plot.left + (place as f64 + 0.5) * cell;
        let x = x.clamp(plot.left + text_width(name) / 2.0, plot.right - text_width(name) / 2.0);
        canvas.text((x, plot.top - 7.0), Anchor::Middle, "muted", name);
    }
    for (row, series) in data.series.iter().enumerate() {
        let y = plot.top + row as f64 * ROW_PX;
        let name = fit(&series.name, width * NAMES_SHARE_MAX);
        canvas.text((names, y + ROW_PX / 2.0 + 4.0), Anchor::End, "ink", &name);
        for (place, (column, values)) in groups.names.iter().zip(&groups.values).enumerate() {
            let Some(value) = values.get(row).copied().flatten() else { continue };
            let share = if greatest > 0.0 { (value / greatest).clamp(0.0, 1.0) } else { 0.0 };
            let rect = (plot.left + place as f64 * cell, y, cell, ROW_PX);
            let tip = format!("{}, {column}: {}{}", series.name, full(value), unit_after(&spec.unit));
            draw_cell(&mut canvas, rect, share, value, &tip);
        }
    }
    super::draw_note(&mut canvas, &spec, note.as_deref());
    Ok(canvas.close())
}

fn unit_after(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" {unit}") }
}

fn draw_cell(canvas: &mut Canvas, (x, y, width, height): (f64, f64, f64, f64), share: f64, value: f64, tip: &str) {
    let colour = canvas.theme.series_colour(0);
    let opacity = OPACITY.0 + share * (OPACITY.1 - OPACITY.0);
    let gap = if width > 6.0 { 1.0 } else { 0.0 };
    let (rect_x, rect_y, w, h) = (Px(x + gap), Px(y + 1.0), Px((width - 2.0 * gap).max(0.5)), Px(height - 2.0));
    let _ = write!(
        canvas.out,
        r#"<rect x="{rect_x}" y="{rect_y}" width="{w}" height="{h}" rx="{}" fill="{colour}" fill-opacity="{opacity:.2}""#,
        if gap > 0.0 { 3 } else { 0 }
    );
    if canvas.theme == Theme::Page {
        let _ = write!(canvas.out, "><title>{}</title></rect>", Escaped(tip));
    } else {
        canvas.out.push_str("/>");
    }
    let text = compact(value);
    if text_width(&text) + 6.0 <= width {
        let ink = if opacity > DARK_CELL { "ground" } else { "ink" };
        canvas.text((x + width / 2.0, y + height / 2.0 + 4.0), Anchor::Middle, ink, &text);
    }
}

//! Bars, upright and lying: from zero, grouped side by side for several series.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::data::{Axis, Data, labels_of_times};
use super::scale::{NumberScale, compact, full};
use super::svg::{Anchor, Canvas, Escaped, Px, fit, text_width};
use super::{ChartSpec, PADDING_PX, Plot, Theme};
use crate::{Error, Result};

/// More names than this are no longer told apart at the usual width.
const UPRIGHT_MAX: usize = 60;
/// Stacks need no room beside each other.
const STACKED_MAX: usize = 120;
/// Times and numbers stand in their order, so that a bar needs no name of its own, only to be seen.
const BAR_PX_MIN: usize = 2;
/// A ranking longer than this belongs into a table.
const LYING_MAX: usize = 30;
/// Values are written on upright bars only while they fit between them.
const VALUE_LABELS_MAX: usize = 12;

/// The values by category, in the order of the rows: `values[category][series]`.
pub(super) struct Groups {
    pub(super) names: Vec<String>,
    pub(super) values: Vec<Vec<Option<f64>>>,
    /// Whether the names are times or numbers, of which some may go unlabelled.
    ordered: bool,
    left_out: usize,
}

/// What tells the categories apart, row by row, and what is written for each: two times may have one short label.
fn keys_and_labels(axis: &Axis) -> (Vec<String>, Vec<String>) {
    let none = || "(none)".to_owned();
    match axis {
        Axis::TimeMs(times) => (
            times.iter().map(|t| t.map_or_else(none, |t| t.to_string())).collect(),
            labels_of_times(times).into_iter().map(|l| l.unwrap_or_else(none)).collect(),
        ),
        Axis::Number(numbers) => (
            numbers.iter().map(|n| n.map_or_else(none, |n| n.to_string())).collect(),
            numbers.iter().map(|n| n.map_or_else(none, compact)).collect(),
        ),
        Axis::Category(names) => {
            let names: Vec<_> = names.iter().map(|n| n.clone().unwrap_or_else(none)).collect();
            (names.clone(), names)
        }
    }
}

pub(super) fn group(spec: &ChartSpec, data: &Data, max: usize) -> Result<Groups> {
    let (keys, labels) = keys_and_labels(&data.axis);
    let ordered = !matches!(data.axis, Axis::Category(_));
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut groups = Groups { names: Vec::new(), values: Vec::new(), ordered, left_out: 0 };
    for (key, label) in keys.iter().zip(&labels) {
        places.entry(key).or_insert_with(|| {
            groups.names.push(label.clone());
            groups.values.push(vec![None; data.series.len()]);
            groups.names.len() - 1
        });
    }
    for (index, series) in data.series.iter().enumerate() {
        let mut seen = vec![false; groups.names.len()];
        for (row, value) in series.rows.iter().zip(&series.y) {
            let Some(place) = keys.get(*row).and_then(|key| places.get(key.as_str()).copied()) else { continue };
            let taken = seen.get_mut(place).is_some_and(|seen| std::mem::replace(seen, true));
            if taken {
                let name = groups.names.get(place).map_or("", String::as_str);
                return Err(Error::Input(format!(
                    "chart {:?} has two rows for {name:?} in series {:?}; aggregate to one row per {:?} in the SELECT",
                    spec.title, series.name, spec.x
                )));
            }
            if let Some(slot) = groups.values.get_mut(place).and_then(|v| v.get_mut(index)) {
                *slot = *value;
            }
        }
    }
    groups.left_out = groups.names.len().saturating_sub(max);
    groups.names.truncate(max);
    groups.values.truncate(max);
    Ok(groups)
}

/// How many upright bars there are at most. What is cut from a row of times is what a reader came for: its end.
fn upright_max(spec: &ChartSpec, data: &Data, names_max: usize) -> usize {
    let of_names = matches!(data.axis, Axis::Category(_));
    if of_names { names_max } else { spec.width_px as usize / BAR_PX_MIN }
}

impl Groups {
    fn scale(&self, target: usize) -> NumberScale {
        let values = || self.values.iter().flatten().flatten().copied();
        let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
        NumberScale::over(low, high, target)
    }

    pub(super) fn note(&self, note: Option<String>) -> Option<String> {
        if self.left_out == 0 {
            return note;
        }
        let shown = self.names.len();
        let text = format!("first {shown} of {} categories shown", shown + self.left_out);
        Some(note.map_or(text.clone(), |note| format!("{text}, {note}")))
    }
}

pub(super) fn draw_upright(spec: &ChartSpec, data: &Data, theme: Theme, note: Option<String>) -> Result<String> {
    let (mut canvas, top) = super::open(spec, data, theme);
    if data.y_range().is_none() {
        return Ok(super::empty(spec, canvas));
    }
    let groups = group(spec, data, upright_max(spec, data, UPRIGHT_MAX))?;
    let note = groups.note(note);
    let height = f64::from(spec.height_px);
    let y_scale = groups.scale(((height - top) / 45.0).clamp(2.0, 8.0) as usize);
    let left = super::number_axis_width(&y_scale);
    let right = f64::from(spec.width_px) - PADDING_PX;
    let band = (right - left) / groups.names.len().max(1) as f64;
    let labels = Labels::of(&groups, band);
    let bottom = height - labels.height() - super::note_height(note.as_deref());
    let with_values = data.series.len() == 1 && groups.names.len() <= VALUE_LABELS_MAX;
    let plot = Plot { left, top: top + if with_values { 16.0 } else { PADDING_PX }, right, bottom };

    super::draw_number_axis(&mut canvas, &plot, &y_scale);
    for (place, (name, values)) in groups.names.iter().zip(&groups.values).enumerate() {
        let middle = plot.left + (place as f64 + 0.5) * band;
        draw_upright_group(&mut canvas, &plot, &y_scale, (middle, band, with_values), (name, values, data));
        labels.draw(&mut canvas, place, name, (middle, plot.bottom));
    }
    super::mark_plot(&mut canvas, &plot, None);
    super::draw_note(&mut canvas, spec, note.as_deref());
    Ok(canvas.close())
}

/// Gains pile up from zero, losses down from it; a line at zero parts them.
pub(super) fn draw_stacked(spec: &ChartSpec, data: &Data, theme: Theme, note: Option<String>) -> Result<String> {
    let (mut canvas, top) = super::open(spec, data, theme);
    if data.y_range().is_none() {
        return Ok(super::empty(spec, canvas));
    }
    let groups = group(spec, data, upright_max(spec, data, STACKED_MAX))?;
    let note = groups.note(note);
    let height = f64::from(spec.height_px);
    let sum = |values: &[Option<f64>], keep: fn(f64) -> f64| values.iter().flatten().map(|v| keep(*v)).sum::<f64>();
    let highest = groups.values.iter().map(|v| sum(v, |v| v.max(0.0))).fold(0.0, f64::max);
    let lowest = groups.values.iter().map(|v| sum(v, |v| v.min(0.0))).fold(0.0, f64::min);
    let y_scale = NumberScale::over(lowest, highest, ((height - top) / 45.0).clamp(2.0, 8.0) as usize);
    let left = super::number_axis_width(&y_scale);
    let right = f64::from(spec.width_px) - PADDING_PX;
    let band = (right - left) / groups.names.len().max(1) as f64;
    let labels = Labels::of(&groups, band);
    let bottom = height - labels.height() - super::note_height(note.as_deref());
    let plot = Plot { left, top: top + PADDING_PX, right, bottom };

    super::draw_number_axis(&mut canvas, &plot, &y_scale);
    let y = |value: f64| plot.bottom - y_scale.fraction(value) * plot.height();
    let width = (band * 0.72).min(56.0);
    for (place, (name, values)) in groups.names.iter().zip(&groups.values).enumerate() {
        let middle = plot.left + (place as f64 + 0.5) * band;
        let (mut up, mut down) = (0.0, 0.0);
        for (index, value) in values.iter().enumerate() {
            let Some(value) = value.filter(|v| *v != 0.0) else { continue };
            let from = if value > 0.0 { &mut up } else { &mut down };
            let (start, end) = (y(*from), y(*from + value));
            *from += value;
            let rect = (middle - width / 2.0, start.min(end), width, (start - end).abs());
            draw_rect(&mut canvas, rect, data.colour(index), || tooltip(name, data, index, value));
        }
        labels.draw(&mut canvas, place, name, (middle, plot.bottom));
    }
    canvas.line((plot.left, y(0.0)), (plot.right, y(0.0)), "axis");
    super::mark_plot(&mut canvas, &plot, None);
    super::draw_note(&mut canvas, spec, note.as_deref());
    Ok(canvas.close())
}

/// How the names under upright bars are written, so that none runs into the next.
enum Labels {
    /// Times and numbers: every nth, since the others can be told from them.
    Every { nth: usize },
    /// Names in one line or, broken at a space, in two.
    Lines { widest_px: f64, two: bool },
    /// Names too long for that.
    Slanted { widest_px: f64 },
}

/// A slanted name longer than this is cut.
const SLANTED_MAX_PX: f64 = 130.0;
/// The cosine and sine of the slant of 35 degrees.
const SLANT: (f64, f64) = (0.82, 0.57);

impl Labels {
    fn of(groups: &Groups, band: f64) -> Self {
        let widest_px = groups.names.iter().map(|n| text_width(n)).fold(0.0, f64::max);
        if groups.ordered {
            return Self::Every { nth: ((widest_px + 12.0) / band).ceil().max(1.0) as usize };
        }
        let room = band - 6.0;
        let two_lines = groups.names.iter().map(|n| two_lines(n, room)).map(|(a, b)| text_width(a).max(text_width(b)));
        match () {
            () if widest_px <= room => Self::Lines { widest_px: room, two: false },
            () if two_lines.fold(0.0, f64::max) <= room => Self::Lines { widest_px: room, two: true },
            () => Self::Slanted { widest_px: widest_px.min(SLANTED_MAX_PX) },
        }
    }

    fn height(&self) -> f64 {
        match self {
            Self::Every { .. } | Self::Lines { two: false, .. } => 20.0,
            Self::Lines { two: true, .. } => 34.0,
            Self::Slanted { widest_px } => 22.0 + SLANT.1 * widest_px,
        }
    }

    fn draw(&self, canvas: &mut Canvas, place: usize, name: &str, (middle, bottom): (f64, f64)) {
        match self {
            Self::Every { nth } if !place.is_multiple_of(*nth) => {}
            Self::Every { .. } => canvas.text((middle, bottom + 16.0), Anchor::Middle, "muted", name),
            Self::Lines { widest_px, .. } => {
                let (first, second) = two_lines(name, *widest_px);
                canvas.text((middle, bottom + 16.0), Anchor::Middle, "muted", first);
                if !second.is_empty() {
                    canvas.text((middle, bottom + 29.0), Anchor::Middle, "muted", second);
                }
            }
            Self::Slanted { .. } => {
                // The first names may not run over the left edge.
                let room = (middle / SLANT.0).min(SLANTED_MAX_PX);
                canvas.slanted_text((middle + 4.0, bottom + 14.0), "muted", &fit(name, room));
            }
        }
    }
}

/// The name in one line if it fits, else broken at the space that makes the longer line shortest.
fn two_lines(name: &str, room: f64) -> (&str, &str) {
    if text_width(name) <= room {
        return (name, "");
    }
    let longer = |(a, b): &(&str, &str)| text_width(a).max(text_width(b));
    let breaks = name.char_indices().filter(|(_, c)| *c == ' ').filter_map(|(i, _)| {
        let (first, second) = name.split_at_checked(i)?;
        Some((first, second.trim_start()))
    });
    breaks.min_by(|a, b| longer(a).total_cmp(&longer(b))).unwrap_or((name, ""))
}

fn draw_upright_group(
    canvas: &mut Canvas,
    plot: &Plot,
    scale: &NumberScale,
    (middle, band, with_values): (f64, f64, bool),
    (name, values, data): (&str, &[Option<f64>], &Data),
) {
    let count = values.len().max(1) as f64;
    // A lone bar as wide as its band looks like a wall.
    let width = (band * 0.72 / count).min(56.0);
    let zero = plot.bottom - scale.fraction(0.0) * plot.height();
    for (index, value) in values.iter().enumerate() {
        let Some(value) = *value else { continue };
        let end = plot.bottom - scale.fraction(value) * plot.height();
        let x = middle + (index as f64 - count / 2.0) * width;
        let gap = if count > 1.0 { width * 0.06 } else { 0.0 };
        let rect = (x + gap, end.min(zero), width - 2.0 * gap, (end - zero).abs());
        draw_rect(canvas, rect, data.colour(index), || tooltip(name, data, index, value));
        if with_values {
            let y = if value < 0.0 { end + 12.0 } else { end - 5.0 };
            canvas.text((middle, y), Anchor::Middle, "ink", &compact(value));
        }
    }
}

const BAR_PX: f64 = 14.0;
const BAR_GAP_PX: f64 = 2.0;
const GROUP_GAP_PX: f64 = 9.0;
/// The room for names left of lying bars is at most this share of the chart.
const NAMES_SHARE_MAX: f64 = 0.34;

/// Lying bars take the height that their rows need, up to the height of the chart; few rows make a shorter chart.
pub(super) fn draw_lying(spec: &ChartSpec, data: &Data, theme: Theme, note: Option<String>) -> Result<String> {
    let (empty_canvas, top) = super::open(spec, data, theme);
    if data.y_range().is_none() {
        return Ok(super::empty(spec, empty_canvas));
    }
    let groups = group(spec, data, LYING_MAX)?;
    let note = groups.note(note);
    let series = data.series.len().max(1) as f64;
    let band = series * BAR_PX + (series - 1.0) * BAR_GAP_PX + GROUP_GAP_PX;
    let foot = 4.0 + super::note_height(note.as_deref());
    let height = (top + band * groups.names.len() as f64 + foot).ceil();
    let spec = ChartSpec { height_px: height as u32, data: Vec::new(), ..spec.clone() };
    let (mut canvas, top) = super::open(&spec, data, theme);

    let width = f64::from(spec.width_px);
    let names = groups.names.iter().map(|n| text_width(n)).fold(0.0, f64::max).min(width * NAMES_SHARE_MAX);
    let scale = groups.scale(5);
    let values = groups.values.iter().flatten().flatten().map(|v| text_width(&compact(*v))).fold(0.0, f64::max) + 10.0;
    // The longest bar ends at the edge, not at a round number: the values are written out and there is no axis.
    let (low, high) = groups.values.iter().flatten().flatten().fold((0f64, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
    let scale = if low < high { NumberScale { low, high, ..scale } } else { scale };
    let before = if low < 0.0 { values } else { 0.0 };
    let plot = Plot { left: names + 10.0 + before, top, right: width - values, bottom: height - foot };
    let zero = plot.left + scale.fraction(0.0) * plot.width();

    for (place, (name, values)) in groups.names.iter().zip(&groups.values).enumerate() {
        let band_top = plot.top + place as f64 * band;
        let middle = band_top + (band - GROUP_GAP_PX) / 2.0;
        canvas.text((names, middle + 4.0), Anchor::End, "ink", &fit(name, width * NAMES_SHARE_MAX));
        for (index, value) in values.iter().enumerate() {
            let y = band_top + index as f64 * (BAR_PX + BAR_GAP_PX);
            let Some(value) = *value else { continue };
            let end = plot.left + scale.fraction(value) * plot.width();
            let rect = (end.min(zero), y, (end - zero).abs(), BAR_PX);
            draw_rect(&mut canvas, rect, data.colour(index), || tooltip(name, data, index, value));
            let (at, anchor) = if value < 0.0 { (end - 6.0, Anchor::End) } else { (end + 6.0, Anchor::Start) };
            canvas.text((at, y + 11.0), anchor, "muted", &compact(value));
        }
    }
    canvas.line((zero, plot.top - 3.0), (zero, plot.bottom - GROUP_GAP_PX + 3.0), "axis");
    super::draw_note(&mut canvas, &spec, note.as_deref());
    Ok(canvas.close())
}

fn tooltip(name: &str, data: &Data, series: usize, value: f64) -> String {
    match data.series.get(series).filter(|_| data.series.len() > 1) {
        Some(series) => format!("{name}, {}: {}", series.name, full(value)),
        None => format!("{name}: {}", full(value)),
    }
}

fn draw_rect(
    canvas: &mut Canvas,
    (x, y, width, height): (f64, f64, f64, f64),
    series: usize,
    tooltip: impl FnOnce() -> String,
) {
    let colour = canvas.theme.series_colour(series);
    let radius = Px((width.min(height) / 4.0).min(1.5));
    let (x, y, width, height) = (Px(x), Px(y), Px(width), Px(height));
    let _ =
        write!(canvas.out, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{colour}""#);
    if canvas.theme == Theme::Page {
        let _ = write!(canvas.out, "><title>{}</title></rect>", Escaped(&tooltip()));
    } else {
        canvas.out.push_str("/>");
    }
}

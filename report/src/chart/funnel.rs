//! Steps below each other: how many reach each, what share of the step before, and what share of the first.

use std::fmt::Write as _;

use super::bar::group;
use super::data::Data;
use super::scale::full;
use super::svg::{Anchor, Canvas, Escaped, Px, fit};
use super::{ChartSpec, Theme};
use crate::Result;

const STEP_PX: f64 = 58.0;
const BAR_PX: f64 = 26.0;
const STEPS_MAX: usize = 20;

pub(super) fn draw(spec: &ChartSpec, data: &Data, theme: Theme) -> Result<String> {
    let groups = group(spec, data, STEPS_MAX)?;
    let values: Vec<f64> = groups.values.iter().map(|v| v.first().copied().flatten().unwrap_or(0.0)).collect();
    let width = f64::from(spec.width_px);
    let first = values.first().copied().unwrap_or(0.0);
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let height = if values.is_empty() { f64::from(spec.height_px) } else { STEP_PX * values.len() as f64 };
    let spec = ChartSpec { height_px: height as u32, data: Vec::new(), ..spec.clone() };
    let mut canvas = Canvas::open(theme, width, height, &spec.title, &spec.description);
    if greatest <= 0.0 {
        return Ok(super::empty(&spec, canvas));
    }
    let mut before = None;
    for (step, (name, value)) in groups.names.iter().zip(&values).enumerate() {
        let top = step as f64 * STEP_PX;
        canvas.text((0.0, top + 14.0), Anchor::Start, "ink", &fit(name, width * 0.5));
        let mut said = full(*value);
        if let Some(share) = percent(*value, before) {
            said = format!("{said} · {share} of the step before");
        }
        if let Some(share) = percent(*value, Some(first)).filter(|_| step > 1) {
            said = format!("{said} · {share} of the first");
        }
        canvas.text((width, top + 14.0), Anchor::End, "muted", &said);
        draw_bar(&mut canvas, (top + 21.0, width), value / greatest, &format!("{name}: {said}"));
        before = Some(*value);
    }
    Ok(canvas.close())
}

fn percent(value: f64, of: Option<f64>) -> Option<String> {
    let of = of.filter(|of| *of > 0.0)?;
    let percent = value / of * 100.0;
    Some(if percent.fract().abs() < 0.05 { format!("{percent:.0} %") } else { format!("{percent:.1} %") })
}

/// The whole of the greatest step as a faint ground, the step's own on it.
fn draw_bar(canvas: &mut Canvas, (y, width): (f64, f64), share: f64, tip: &str) {
    let (y, height, whole, own) = (Px(y), Px(BAR_PX), Px(width), Px((width * share).max(1.5)));
    let (ground, colour) = (canvas.theme.colour("grid"), canvas.theme.series_colour(0));
    let _ = write!(canvas.out, r#"<rect x="0" y="{y}" width="{whole}" height="{height}" rx="4" fill="{ground}"/>"#);
    let _ = write!(canvas.out, r#"<rect x="0" y="{y}" width="{own}" height="{height}" rx="4" fill="{colour}""#);
    if canvas.theme == Theme::Page {
        let _ = write!(canvas.out, "><title>{}</title></rect>", Escaped(tip));
    } else {
        canvas.out.push_str("/>");
    }
}

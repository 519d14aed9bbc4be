//! What a reader of a chart sees, checked on its SVG text.

use std::sync::Arc;

use arrow::array::*;

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> Vec<RecordBatch> {
    vec![RecordBatch::try_from_iter(columns).unwrap()]
}

fn days(days: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(days.map(|d| (20_640 + d) * 86_400_000)))
}

fn floats(values: Vec<Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn count(svg: &str, part: &str) -> usize {
    svg.matches(part).count()
}

/// The texts that are drawn, without title and tooltips.
fn drawn(svg: &str) -> Vec<String> {
    let parts = svg.split("<text ").skip(1);
    parts.map(|p| p.split_once('>').unwrap().1.split("</text>").next().unwrap().to_owned()).collect()
}

/// The values of an attribute of all elements of one kind.
fn attribute(svg: &str, element: &str, name: &str) -> Vec<f64> {
    let open = format!("<{element} ");
    let parts = svg.split(&open).skip(1);
    let value = |p: &str| p.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
    parts.filter_map(|p| value(&format!(" {p}"))).collect()
}

#[test]
fn a_line_breaks_at_a_null_and_a_lone_value_is_a_dot() {
    let y = floats(vec![Some(1.0), Some(2.0), None, Some(3.0), None, Some(2.0), Some(f64::NAN)]);
    let spec = ChartSpec::new(ChartKind::Line, batch(vec![("day", days(0..7)), ("calls", y)]), "day", "calls");
    let svg = spec.to_svg(Theme::Print).unwrap();
    let line = svg.split("<path ").find(|p| p.contains("fill=\"none\"")).unwrap();
    assert_eq!(count(line.split("fill").next().unwrap(), "M"), 1, "one run of two values: {line}");
    assert_eq!(count(&svg, "<circle"), 2, "two lone values");
    assert_eq!(drawn(&svg)[..4], ["0", "1", "2", "3"]);
    assert!(drawn(&svg).contains(&"6 Jul".to_owned()), "{:?}", drawn(&svg));
}

#[test]
fn series_get_a_legend_and_their_own_colours() {
    let agent = texts(&["coder", "planner", "coder", "planner"]);
    let day: ArrayRef = Arc::new(Date32Array::from(vec![20_640, 20_640, 20_641, 20_641]));
    let y = floats(vec![Some(1.0), Some(5.0), Some(2.0), Some(4.0)]);
    let data = batch(vec![("day", day), ("agent", agent), ("calls", y)]);
    let mut spec = ChartSpec::new(ChartKind::Line, data, "day", "calls");
    spec.series = Some("agent".into());
    let svg = spec.to_svg(Theme::Print).unwrap();
    assert_eq!(drawn(&svg)[..2], ["coder", "planner"]);
    assert_eq!((count(&svg, "stroke=\"#0072b2\""), count(&svg, "stroke=\"#d55e00\"")), (1, 1));
}

#[test]
fn screen_readers_get_title_and_description_with_special_characters_intact() {
    let data = batch(vec![("name", texts(&["a<b & \"c\""])), ("n", floats(vec![Some(1.0)]))]);
    let mut spec = ChartSpec::new(ChartKind::HorizontalBars, data, "name", "n");
    spec.title = "Errors <5 & more".into();
    spec.description = "One bar per \u{1}name".into();
    let svg = spec.to_svg(Theme::Page).unwrap();
    assert!(svg.contains("role=\"img\""));
    assert!(svg.contains("<title>Errors &lt;5 &amp; more</title><desc>One bar per  name</desc>"));
    assert!(svg.contains(">a&lt;b &amp; &quot;c&quot;</text>"));
}

#[test]
fn pages_follow_light_and_dark_and_print_is_plain() {
    let data = batch(vec![("day", days(0..3)), ("n", floats(vec![Some(1.0); 3]))]);
    let spec = ChartSpec::new(ChartKind::Line, data, "day", "n");
    let page = spec.to_svg(Theme::Page).unwrap();
    assert!(page.contains("stroke=\"var(--millstream-0, #0072b2)\""));
    assert!(!page.contains("<style") && !page.contains("style="), "a strict content security policy allows neither");
    assert!(
        page.contains(r#"<g data-plot=""#) && page.contains(r#" data-time="1783296000000 1783468800000"/>"#),
        "{page}"
    );
    assert!(page_css().contains("--millstream-0:#0072b2;") && page_css().contains("prefers-color-scheme:dark"));
    assert!(page.contains("<title>n, 6 Jul 2026: 1</title>"), "a tooltip without script");
    let print = spec.to_svg(Theme::Print).unwrap();
    assert!(!print.contains("var(") && !print.contains("<style") && !print.contains("style="));
}

#[test]
fn bars_begin_at_zero_and_are_as_long_as_their_values() {
    let names = texts(&["a", "b", "c"]);
    let n: ArrayRef = Arc::new(Int64Array::from(vec![10, 20, -10]));
    let data = batch(vec![("name", names), ("n", n)]);
    let upright = ChartSpec::new(ChartKind::Bars, data.clone(), "name", "n").to_svg(Theme::Print).unwrap();
    let heights = attribute(&upright, "rect", "height");
    assert!(
        (heights[1] / heights[0] - 2.0).abs() < 0.02 && (heights[2] / heights[0] - 1.0).abs() < 0.02,
        "{heights:?}"
    );
    let lying = ChartSpec::new(ChartKind::HorizontalBars, data, "name", "n").to_svg(Theme::Print).unwrap();
    let widths = attribute(&lying, "rect", "width");
    assert!((widths[1] / widths[0] - 2.0).abs() < 0.02 && (widths[2] / widths[0] - 1.0).abs() < 0.02, "{widths:?}");
    assert_eq!(drawn(&lying), ["a", "10", "b", "20", "c", "−10"]);
}

#[test]
fn a_half_year_of_days_is_drawn_to_its_end() {
    let day: ArrayRef = Arc::new(Date32Array::from_iter_values(20_000..20_190));
    let data = batch(vec![("day", day), ("n", floats(vec![Some(1.0); 190]))]);
    for kind in [ChartKind::Bars, ChartKind::StackedBars] {
        let mut spec = ChartSpec::new(kind, data.clone(), "day", "n");
        spec.width_px = 560;
        let svg = spec.to_svg(Theme::Print).unwrap();
        assert!(!svg.contains("categories shown"), "{svg}");
        assert_eq!(attribute(&svg, "rect", "height").len(), 190, "{kind:?}");
    }
}

#[test]
fn what_is_left_out_is_said() {
    let names: Vec<String> = (0..100).map(|i| format!("agent {i}")).collect();
    let names: ArrayRef = Arc::new(StringArray::from(names));
    let data = batch(vec![("name", names.clone()), ("n", floats(vec![Some(1.0); 100]))]);
    let svg = ChartSpec::new(ChartKind::HorizontalBars, data, "name", "n").to_svg(Theme::Print).unwrap();
    assert_eq!(drawn(&svg).last().unwrap(), "first 30 of 100 categories shown");

    let size = floats((0..100).map(|i| Some(f64::from(i))).collect());
    let day: ArrayRef = Arc::new(Date32Array::from(vec![0; 100]));
    let data = batch(vec![("day", day), ("name", names), ("n", size)]);
    let mut spec = ChartSpec::new(ChartKind::Line, data, "day", "n");
    spec.series = Some("name".into());
    let svg = spec.to_svg(Theme::Print).unwrap();
    assert_eq!(drawn(&svg)[..2], ["agent 92", "agent 93"], "the eight largest");
    assert_eq!(drawn(&svg).last().unwrap(), "92 smaller series not shown");
}

#[test]
fn a_million_points_stay_small_and_keep_their_peak() {
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from_iter_values(0..1_000_000));
    let y = floats((0..1_000_000).map(|i| Some(if i == 700_001 { 900.0 } else { f64::from(i % 10) })).collect());
    let spec = ChartSpec::new(ChartKind::Line, batch(vec![("at", seconds), ("n", y)]), "at", "n");
    let svg = spec.to_svg(Theme::Page).unwrap();
    assert!(svg.len() < 100_000, "{} bytes", svg.len());
    let top = attribute(&svg, "line", "y1").into_iter().fold(f64::MAX, f64::min);
    let foot = attribute(&svg, "line", "y1").into_iter().fold(0.0, f64::max);
    let peak = svg.split('L').filter_map(|p| p.split(' ').nth(1)?.split(['"', 'L']).next()?.parse::<f64>().ok());
    let peak = peak.fold(f64::MAX, f64::min);
    // 900 of an axis to 1000.
    assert!(peak < top + 0.12 * (foot - top), "peak at {peak}, axis from {top} to {foot}");
}

#[test]
fn no_rows_and_no_values_say_so() {
    let no_batch = ChartSpec::new(ChartKind::Line, Vec::new(), "day", "n").to_svg(Theme::Page).unwrap();
    assert_eq!(drawn(&no_batch), ["No data in this period"]);
    for kind in [ChartKind::Line, ChartKind::Bars, ChartKind::HorizontalBars] {
        let nulls = batch(vec![("day", days(0..2)), ("n", floats(vec![None, None]))]);
        assert_eq!(
            drawn(&ChartSpec::new(kind, nulls, "day", "n").to_svg(Theme::Print).unwrap()),
            ["No data in this period"]
        );
        let one = batch(vec![("day", days(0..1)), ("n", floats(vec![Some(0.0)]))]);
        let svg = ChartSpec::new(kind, one, "day", "n").to_svg(Theme::Print).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
    assert!(sparkline(&[], 100, 20, "none", Theme::Page).ends_with("</svg>"));
}

#[test]
fn mistakes_are_named_with_their_fix() {
    let data = || batch(vec![("name", texts(&["a", "a"])), ("n", floats(vec![Some(1.0); 2]))]);
    let error =
        |kind, x: &str, y: &str| ChartSpec::new(kind, data(), x, y).to_svg(Theme::Page).unwrap_err().to_string();
    assert_eq!(
        error(ChartKind::Line, "day", "n"),
        "chart column \"day\" is not among the columns [\"name\", \"n\"]; name one of them"
    );
    assert_eq!(
        error(ChartKind::Line, "n", "name"),
        "chart column \"name\" is Utf8, and only numbers can be drawn; cast it in the SELECT"
    );
    assert_eq!(
        error(ChartKind::Bars, "name", "n"),
        "chart \"\" has two rows for \"a\" in series \"n\"; aggregate to one row per \"name\" in the SELECT"
    );
}

#[test]
fn bars_of_moments_with_one_short_label_stay_apart() {
    let at: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![500, 700, 900]));
    let data = batch(vec![("at", at), ("n", floats(vec![Some(1.0); 3]))]);
    let svg = ChartSpec::new(ChartKind::Bars, data, "at", "n").to_svg(Theme::Print).unwrap();
    assert_eq!(count(&svg, "<rect"), 3);
}

#[test]
fn losses_pile_downwards_from_zero() {
    let data = batch(vec![
        ("month", texts(&["Jan"])),
        ("new", floats(vec![Some(300.0)])),
        ("expansion", floats(vec![Some(100.0)])),
        ("churn", floats(vec![Some(200.0)])),
    ]);
    let spec = ChartSpec {
        y: ["new", "expansion", "churn"].map(String::from).to_vec(),
        downwards: vec!["churn".into()],
        ..ChartSpec::new(ChartKind::StackedBars, data, "month", "new")
    };
    let svg = spec.to_svg(Theme::Page).unwrap();
    assert!(svg.contains("<title>Jan, churn: −200</title>"), "{svg}");
    // The legend has three squares before the bars.
    let y = attribute(&svg, "rect", "y").split_off(3);
    let height = attribute(&svg, "rect", "height").split_off(3);
    assert!((y[1] + height[1] - y[0]).abs() < 0.2, "expansion stands on new");
    assert!((y[0] + height[0] - y[2]).abs() < 0.2, "churn hangs from zero");
    assert!((height[0] - 3.0 * height[1]).abs() < 0.5 && (height[2] - 2.0 * height[1]).abs() < 0.5);
}

#[test]
fn a_grid_has_a_cell_per_value_and_writes_shares_as_percent() {
    let data = batch(vec![
        ("n", Arc::new(Int64Array::from(vec![0, 1, 0])) as ArrayRef),
        ("cohort", texts(&["w1", "w1", "w2"])),
        ("rate", floats(vec![Some(1.0), Some(0.25), Some(1.0)])),
    ]);
    let spec = ChartSpec {
        series: Some("cohort".into()),
        factor: 100.0,
        unit: "%".into(),
        ..ChartSpec::new(ChartKind::Heat, data, "n", "rate")
    };
    let svg = spec.to_svg(Theme::Page).unwrap();
    assert_eq!(svg.matches("<rect").count(), 3, "an unknown cell is not drawn");
    assert!(svg.contains("<title>w1, 1: 25 %</title>") && svg.contains(">25</text>"), "{svg}");
}

#[test]
fn a_funnel_tells_the_share_of_each_step() {
    let data = batch(vec![
        ("step", texts(&["free", "team", "enterprise"])),
        ("n", floats(vec![Some(200.0), Some(50.0), Some(5.0)])),
    ]);
    let svg = ChartSpec::new(ChartKind::Funnel, data, "step", "n").to_svg(Theme::Print).unwrap();
    assert!(
        svg.contains("50 · 25 % of the step before")
            && svg.contains("5 · 10 % of the step before · 2.5 % of the first")
    );
}

#[test]
fn the_map_has_every_country_once_and_counts_the_unknown() {
    let data = batch(vec![
        ("country", texts(&["DE", "SG", "unknown"])),
        ("users", floats(vec![Some(30.0), Some(1.0), Some(4.0)])),
    ]);
    let svg = ChartSpec { unit: "users".into(), ..ChartSpec::new(ChartKind::Map, data, "country", "users") };
    let svg = svg.to_svg(Theme::Page).unwrap();
    assert!(svg.contains("<title>Germany: 30 users</title>") && svg.contains("<title>Singapore: 1 users</title>"));
    assert!(svg.contains("4 without a known country"));
    let mut codes: Vec<&str> = svg
        .split("</text>")
        .filter_map(|t| t.rsplit_once('>'))
        .map(|(_, code)| code)
        .filter(|c| c.len() == 2)
        .collect();
    let all = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert!(all > 180 && codes.len() == all, "{all} tiles, {} codes", codes.len());
}

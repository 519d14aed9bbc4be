//! What a reader of the PDF sees, by poppler's tools, which `make test` installs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};

use crate::{Better, ChartKind, ChartSpec, Kpi, Report, Section};

/// Runs one of poppler's tools on a PDF and gives what it prints.
fn poppler(tool: &str, arguments: &[&str], pdf: &Path) -> String {
    let standard_output = (tool == "pdftotext").then_some("-");
    let output = Command::new(tool).args(arguments).arg(pdf).args(standard_output).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {tool} ({e}); `make test` installs poppler-utils"));
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes a PDF where people can look at it after the test.
fn saved(name: &str, report: &Report) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, report.to_pdf().unwrap()).unwrap();
    path
}

fn time(text: &str) -> chrono::DateTime<chrono::Utc> {
    text.parse().unwrap()
}

fn hours() -> ArrayRef {
    let start = time("2026-07-06T00:00:00Z").timestamp_millis();
    Arc::new(TimestampMillisecondArray::from_iter_values((0..168).map(|h| start + h * 3_600_000)))
}

/// A smooth day-and-night curve: nothing random, so that the picture can be compared.
fn wave(hour: i64, base: f64, swing: f64) -> f64 {
    let day = (hour as f64 / 24.0 * std::f64::consts::TAU - 2.2).sin();
    (base + swing * day + (hour * 37 % 23) as f64 * swing / 60.0).max(0.0)
}

fn calls_section() -> Section {
    let column = |base, swing| -> ArrayRef {
        let values = (0..168).map(|h| (!(70..76).contains(&h)).then(|| wave(h, base, swing).round()));
        Arc::new(Float64Array::from_iter(values))
    };
    let rows = [
        ("hour", hours()),
        ("coder", column(900.0, 700.0)),
        ("planner", column(420.0, 260.0)),
        ("reviewer", column(210.0, 90.0)),
    ];
    let rows = RecordBatch::try_from_iter(rows).unwrap();
    let mut chart = ChartSpec::new(ChartKind::Line, vec![rows], "hour", "coder");
    chart.y = vec!["coder".into(), "planner".into(), "reviewer".into()];
    chart.unit = "calls per hour".into();
    Section {
        title: "Calls per agent".into(),
        description: "Calls of each agent per hour; the gap on 8 July is the planned maintenance.".into(),
        chart: Some(chart),
        definition: "A call is one request of an agent to a model, counted at its end.".into(),
        ..Section::default()
    }
}

fn latency_section() -> Section {
    let p95: ArrayRef = Arc::new(Float64Array::from_iter_values((0..168).map(|h| wave(h, 320.0, 90.0))));
    let rows = RecordBatch::try_from_iter([("hour", hours()), ("p95_ms", p95)]).unwrap();
    let mut chart = ChartSpec::new(ChartKind::Line, vec![rows.clone()], "hour", "p95_ms");
    chart.unit = "ms".into();
    Section {
        title: "Latency of the API".into(),
        description: "95th percentile of the duration of API calls, per hour.".into(),
        chart: Some(chart),
        table: vec![rows],
        table_rows_max: 24,
        definition: "Exact percentile (nearest rank) over all calls of the hour, failed ones included.".into(),
    }
}

fn cost_section(rows: usize) -> Section {
    let names =
        ["coder", "planner", "reviewer", "test writer", "documentation helper", "triage", "release notes", "search"];
    let agent: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| match names.get(i) {
        Some(name) => (*name).to_owned(),
        None => format!("agent {i}"),
    })));
    let calls: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| 182_400 / (i + 1))));
    let tokens: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| 45_612_345 / (i + 1))));
    let cost: ArrayRef = Arc::new(Float64Array::from_iter_values((0..rows).map(|i| 1234.5 / (i + 1) as f64)));
    let rows = RecordBatch::try_from_iter([("agent", agent), ("calls", calls), ("tokens", tokens), ("cost_usd", cost)])
        .unwrap();
    let mut chart = ChartSpec::new(ChartKind::HorizontalBars, vec![rows.slice(0, 8)], "agent", "cost_usd");
    chart.unit = "US dollars".into();
    Section {
        title: "Cost per agent".into(),
        description: "What each agent spent on model calls in the week; the eight dearest in the chart.".into(),
        chart: Some(chart),
        table: vec![rows],
        definition: "Cost is tokens times the list price of the model on the day of the call.".into(),
        ..Section::default()
    }
}

fn users_section() -> Section {
    let day: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(
        (0..7).map(|d| time("2026-07-06T00:00:00Z").timestamp_millis() + d * 86_400_000),
    ));
    let users: ArrayRef = Arc::new(Int64Array::from(vec![154, 171, 120, 180, 166, 48, 39]));
    let rows = RecordBatch::try_from_iter([("day", day), ("users", users)]).unwrap();
    let mut chart = ChartSpec::new(ChartKind::Bars, vec![rows.clone()], "day", "users");
    chart.height_px = 200;
    Section { title: "Active users".into(), chart: Some(chart), table: vec![rows], ..Section::default() }
}

fn kpi(label: &str, value: f64, unit: &str, change: Option<f64>, better: Better) -> Kpi {
    let trend = (0..7).map(|d| Some(wave(d * 5, value, value / 9.0))).collect();
    Kpi { label: label.into(), value: Some(value), unit: unit.into(), change, better, trend }
}

fn weekly() -> Report {
    Report {
        title: "Weekly agent usage".into(),
        organisation: "Acme Robotics".into(),
        period: "6–12 July 2026".into(),
        time_zone: "UTC".into(),
        generated_at: time("2026-07-13T06:05:00Z"),
        data_complete_through: Some(time("2026-07-13T06:00:00Z")),
        kpis: vec![
            kpi("Tokens", 45_612_345.0, "", Some(0.125), Better::Neither),
            kpi("Cost", 1234.5, "$", Some(0.081), Better::Lower),
            kpi("API p95", 412.0, "ms", Some(-0.034), Better::Lower),
            kpi("Active users", 180.0, "", Some(0.02), Better::Higher),
        ],
        kpi_definition: "Tokens are those read and written by models.".into(),
        sections: vec![calls_section(), cost_section(200), users_section(), latency_section()],
    }
}

#[test]
fn a_weekly_report_has_everything_its_readers_look_for() {
    let pdf = saved("weekly.pdf", &weekly());
    let text = poppler("pdftotext", &["-layout"], &pdf);
    for expected in [
        "Acme Robotics",
        "Weekly agent usage",
        "6–12 July 2026 (UTC)",
        "Data complete through",
        "2026-07-13 06:00 UTC",
        "2026-07-13 06:05 UTC",
        "45.6M",
        "$1.23k",
        "412 ms",
        "▲ 12.5 %",
        "▼ 3.4 %",
        "Changes are against the previous period.",
        "calls per hour",
        "documentation helper",
        "45,612,345",
        "1,234.50",
        "Showing 24 of 168 rows.",
        "A call is one request of an agent",
        "Tokens are those read and written by models.",
        "page 1 of",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing from the text of the PDF:\n{text}");
    }
    assert_eq!(text.matches("agent 199").count(), 1, "the whole table is printed");
    let pages = poppler("pdfinfo", &[], &pdf);
    let count: usize = pages.lines().find_map(|l| l.strip_prefix("Pages:")).unwrap().trim().parse().unwrap();
    assert!(text.contains(&format!("page {count} of {count}")), "{count} pages");
    assert!(pages.contains("A4") && pages.contains("Title:           Weekly agent usage"), "{pages}");
}

#[test]
fn fonts_are_embedded_and_sections_have_bookmarks() {
    let pdf = saved("fonts.pdf", &weekly());
    let fonts = poppler("pdffonts", &[], &pdf);
    let fonts: Vec<&str> = fonts.lines().skip(2).collect();
    assert!(!fonts.is_empty());
    for font in fonts {
        // The columns before the object id: embedded, subset, with a map to Unicode.
        assert!(font.contains("yes yes yes"), "{font}");
    }
    let page = poppler("pdftotext", &["-f", "1", "-l", "1"], &pdf);
    assert!(page.contains("Calls per agent"));
    let bytes = std::fs::read(&pdf).unwrap();
    let has = |part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
    assert!(has(b"/Outlines") && has(b"(Cost per agent)"), "bookmarks");
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert!(weekly().to_pdf().unwrap() == weekly().to_pdf().unwrap());
}

#[test]
fn texts_are_shown_as_they_are() {
    let nasty = r##"#let x = 1; *bold* _it_ $y$ \ ] [ "quoted" 'q' <label> @ref `raw` // no -- ~ 🚀 #panic("x")"##;
    let agent: ArrayRef = Arc::new(StringArray::from(vec![nasty, "= heading", "- item", "zoë naïve Ωμέγα Привет"]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![4, 3, 2, 1]));
    let rows = RecordBatch::try_from_iter([("agent", agent), ("#n", n)]).unwrap();
    let report = Report {
        title: format!("T {nasty}"),
        organisation: "O #x ]".into(),
        period: "P $".into(),
        kpis: vec![Kpi { label: "K #x *y*".into(), value: Some(1.0), unit: "<u>".into(), ..Kpi::default() }],
        sections: vec![Section {
            title: "S #x *y* <z>".into(),
            description: format!("D {nasty}"),
            chart: Some(ChartSpec::new(ChartKind::HorizontalBars, vec![rows.clone()], "agent", "#n")),
            table: vec![rows],
            definition: format!("F {nasty}"),
            ..Section::default()
        }],
        ..weekly()
    };
    let pdf = saved("nasty.pdf", &report);
    let text = poppler("pdftotext", &["-layout"], &pdf);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for prefix in ["D", "F"] {
        assert!(words.contains(&format!("{prefix} {nasty}")), "{prefix}:\n{text}");
    }
    for expected in [
        "O #x ]",
        "P $",
        "K #x *y*",
        "1 <u>",
        "S #x *y* <z>",
        "= heading",
        "- item",
        "zoë naïve Ωμέγα Привет",
        "#n",
        "#let x",
    ] {
        assert!(words.contains(expected), "{expected:?} is missing:\n{text}");
    }
}

#[test]
fn other_scripts_are_set_in_fonts_of_the_machine_and_what_none_has_is_named() {
    let agent: ArrayRef = Arc::new(StringArray::from(vec!["代码审查员", "مساعد", "עוזר", "助手 🚀"]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![4, 3, 2, 1]));
    let rows = RecordBatch::try_from_iter([("agent", agent), ("runs", n)]).unwrap();
    let report = Report {
        organisation: "株式会社アクメ".into(),
        // Nobody has a font for private characters.
        title: "週報 \u{e123}".into(),
        sections: vec![Section {
            title: "エージェント".into(),
            chart: Some(ChartSpec::new(ChartKind::HorizontalBars, vec![rows.clone()], "agent", "runs")),
            table: vec![rows],
            ..Section::default()
        }],
        ..weekly()
    };
    let pdf = saved("scripts.pdf", &report);
    let text = poppler("pdftotext", &["-layout"], &pdf);
    for expected in ["株式会社アクメ", "週報", "エージェント", "代码审查员", "助手", "Shown as boxes: U+E123. No font"]
    {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
    let fonts = poppler("pdffonts", &[], &pdf);
    assert!(fonts.lines().count() > 4 && fonts.lines().skip(2).all(|font| font.contains("yes yes yes")), "{fonts}");
    assert!(!poppler("pdftotext", &[], &saved("weekly.pdf", &weekly())).contains("Shown as boxes"));
}

#[test]
fn an_empty_report_and_another_time_zone_are_fine() {
    let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(Vec::<i64>::new())) as ArrayRef)]).unwrap();
    let report = Report {
        time_zone: "Europe/Berlin".into(),
        data_complete_through: None,
        kpis: Vec::new(),
        sections: vec![Section {
            title: "Nothing".into(),
            chart: Some(ChartSpec::new(ChartKind::Line, Vec::new(), "x", "y")),
            table: vec![rows],
            ..Section::default()
        }],
        ..weekly()
    };
    let text = poppler("pdftotext", &["-layout"], &saved("empty.pdf", &report));
    for expected in [
        "6–12 July 2026 (Europe/Berlin)",
        "not known",
        "data may be incomplete",
        "No data in this period",
        "No rows in this period.",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
}

#[test]
fn a_wrong_chart_is_an_error_that_names_the_column() {
    let mut report = weekly();
    if let Some(chart) = report.sections.first_mut().and_then(|s| s.chart.as_mut()) {
        chart.x = "day".into();
    }
    let error = report.to_pdf().unwrap_err().to_string();
    assert!(error.starts_with("chart column \"day\" is not among the columns"), "{error}");
}

#[test]
fn every_kind_of_chart_can_be_embedded() {
    let names = ["documentation helper", "coder", "release notes writer", "planner", "security reviewer", "triage"];
    let category: ArrayRef = Arc::new(StringArray::from_iter_values((0..18).map(|i| names[i % 6])));
    let tier: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..18).map(|i| ["free", "team", "enterprise"][i / 6])));
    let n: ArrayRef = Arc::new(Float64Array::from_iter_values((0..18).map(|i| wave(i, 2e6, 9e5) - 5e5)));
    let x: ArrayRef = Arc::new(Int64Array::from_iter_values(0..18));
    let rows = RecordBatch::try_from_iter([("agent", category), ("tier", tier), ("delta", n), ("x", x)]).unwrap();
    let section = |title: &str, kind, x: &str, series: Option<&str>, rows: RecordBatch| {
        let mut chart = ChartSpec::new(kind, vec![rows], x, "delta");
        chart.series = series.map(Into::into);
        chart.unit = "tokens".into();
        Section { title: title.into(), chart: Some(chart), ..Section::default() }
    };
    let minutes: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(
        (0..48).map(|i| time("2026-07-07T22:00:00Z").timestamp_millis() + i * 300_000),
    ));
    let delta: ArrayRef = Arc::new(Int64Array::from_iter_values((0..48).map(|i| (i * 37) % 90 - 30)));
    let times = RecordBatch::try_from_iter([("at", minutes), ("delta", delta)]).unwrap();
    let report = Report {
        sections: vec![
            section("Grouped", ChartKind::Bars, "agent", Some("tier"), rows.clone()),
            section("Long names", ChartKind::Bars, "agent", None, rows.slice(0, 6)),
            section("Grouped, lying", ChartKind::HorizontalBars, "agent", Some("tier"), rows.clone()),
            section("By number", ChartKind::Line, "x", Some("tier"), rows.clone()),
            section("By category", ChartKind::Line, "agent", Some("tier"), rows),
            section("Bars of times", ChartKind::Bars, "at", None, times.clone()),
            section("Over midnight", ChartKind::Line, "at", None, times),
        ],
        ..weekly()
    };
    let text = poppler("pdftotext", &["-layout"], &saved("charts.pdf", &report));
    for expected in ["documentation helper", "enterprise", "3M", "23:00", "8 Jul 2026"] {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
}

#[test]
fn a_report_of_two_hundred_rows_fits_an_e_mail() {
    let bytes = weekly().to_pdf().unwrap().len();
    assert!(bytes < 400_000, "{bytes} bytes");
}

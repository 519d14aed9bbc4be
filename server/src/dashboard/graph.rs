//! What flows into what: sources on the left, then each pipeline and each rollup right of what it reads. Drawn as SVG, read as a
//! list too. Tables of rejected rows are drawn once they have one.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use millstream::time::{WATERMARK_MAX, WATERMARK_MIN};
use millstream::{Result, Status};
use millstream_report::chart::compact;

use super::table::moment;
use crate::catalog;
use crate::http::App;
use millstream::time::show;

const BOX: (u32, u32) = (210, 46);
const GAP: (u32, u32) = (70, 16);

/// Every pipeline with what it reads, from the files that define them.
pub fn edges(app: &App) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let files = catalog::pipelines(&app.config.sql.pipelines)?;
    let pipelines: BTreeSet<String> = app.engine.status().pipelines.into_iter().map(|p| p.name).collect();
    let sources: Vec<String> =
        app.engine.tables().into_iter().map(|t| t.name).filter(|name| !pipelines.contains(name)).collect();
    let reads = |name: &String| {
        if let Some(source) = name.strip_suffix("__rejected") {
            return (name.clone(), BTreeSet::from([source.to_string()]));
        }
        let file = files.iter().find(|file| file.name == *name);
        let file = file.or_else(|| files.iter().find(|file| file.mentions(name)));
        let all = sources.iter().chain(&pipelines).filter(|other| *other != name);
        let read = file.map_or_else(BTreeSet::new, |file| all.filter(|other| file.mentions(other)).cloned().collect());
        (name.clone(), read)
    };
    let mut edges: BTreeMap<String, BTreeSet<String>> = pipelines.iter().map(reads).collect();
    // Rollups read what pipelines write, and each other.
    let rollups = catalog::list(&app.config.sql.rollups)?;
    for rollup in &rollups {
        let known = pipelines.iter().chain(rollups.iter().map(|other| &other.name));
        let read = known.filter(|name| **name != rollup.name && rollup.mentions(name)).cloned().collect();
        edges.insert(rollup.name.clone(), read);
    }
    Ok(edges)
}

/// The column of each: a source is in the first, a pipeline right of all that it reads.
fn depths(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<&str, u32> {
    let mut depths: BTreeMap<&str, u32> = edges.values().flatten().map(|name| (name.as_str(), 0)).collect();
    // As many rounds as a chain can be long; a circle, which the engine refuses, would end here too.
    for _ in 0..=edges.len() {
        for (name, reads) in edges {
            let depth = reads.iter().filter_map(|r| depths.get(r.as_str())).max().map_or(0, |d| d + 1);
            depths.insert(name, depth.min(8));
        }
    }
    depths
}

/// The drawing.
pub fn draw(edges: &BTreeMap<String, BTreeSet<String>>, status: &Status) -> Markup {
    let silent = |name: &str| {
        name.ends_with("__rejected") && !status.pipelines.iter().any(|p| p.name == name && p.rows_in + p.rows_out > 0)
    };
    let edges: BTreeMap<String, BTreeSet<String>> =
        edges.iter().filter(|(name, _)| !silent(name)).map(|(name, reads)| (name.clone(), reads.clone())).collect();
    let depths = depths(&edges);
    let mut places: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let columns = depths.values().max().map_or(0, |d| d + 1);
    let mut height = 0;
    for column in 0..columns {
        let mut names: Vec<&str> = depths.iter().filter(|(_, d)| **d == column).map(|(n, _)| *n).collect();
        // Beside what they read, so that few lines cross.
        names.sort_by_key(|name| {
            let reads = edges.get(*name).into_iter().flatten();
            (reads.filter_map(|r| places.get(r.as_str())).map(|(_, y)| *y).min(), *name)
        });
        for (row, name) in names.into_iter().enumerate() {
            let y = row as u32 * (BOX.1 + GAP.1) + 4;
            places.insert(name, (column * (BOX.0 + GAP.0) + 4, y));
            height = height.max(y + BOX.1 + 4);
        }
    }
    let width = (columns * (BOX.0 + GAP.0)).saturating_sub(GAP.0) + 8;
    html! {
        div.wide.whole tabindex="0" role="region" aria-label="What flows into what" {
            svg.graph viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) role="img" aria-label="Sources, pipelines and rollups; the table below has the same in words" {
                @for (name, reads) in &edges { @for read in reads {
                    @if let (Some(from), Some(to)) = (places.get(read.as_str()), places.get(name.as_str())) { (line(*from, *to)) }
                } }
                @for (name, place) in &places { (node(name, *place, status, edges.contains_key(*name))) }
            }
        }
    }
}

fn line((x1, y1): (u32, u32), (x2, y2): (u32, u32)) -> Markup {
    let (x1, y1, y2) = (x1 + BOX.0, y1 + BOX.1 / 2, y2 + BOX.1 / 2);
    let middle = (x1 + x2) / 2;
    html! { path.edge d=(format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}")) {} }
}

fn node(name: &str, (x, y): (u32, u32), status: &Status, reads: bool) -> Markup {
    let pipeline = status.pipelines.iter().find(|p| p.name == name);
    let said = pipeline.map_or(if reads { "rollup" } else { "source" }.to_string(), |p| {
        format!("{} in · {} out", compact(p.rows_in as f64), compact(p.rows_out as f64))
    });
    let shown: String =
        if name.chars().count() > 27 { name.chars().take(26).chain(['…']).collect() } else { name.to_string() };
    let body = html! {
        title { (name) ": " (said) }
        rect.node.source[pipeline.is_none() && !reads] x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="9" {}
        text.node-name x=(x + 12) y=(y + 19) { (shown) }
        text.node-said x=(x + 12) y=(y + 36) data-said=[pipeline.map(|p| &p.name)] { (said) }
    };
    html! { @if pipeline.is_some() { a href={ "#pipeline-" (name) } { (body) } } @else { g { (body) } } }
}

/// A watermark in words.
pub fn watermark(time: i64) -> String {
    match time {
        WATERMARK_MIN => "no event yet".into(),
        WATERMARK_MAX => "ended".into(),
        time => moment(&show(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_stands_right_of_all_that_it_reads() {
        let set = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>();
        let edges = BTreeMap::from([
            ("clean".to_string(), set(&["events"])),
            ("per_minute".to_string(), set(&["clean", "events"])),
        ]);
        let depths = depths(&edges);
        assert_eq!((depths["events"], depths["clean"], depths["per_minute"]), (0, 1, 2));
        let svg = draw(&edges, &Status::default()).into_string();
        assert_eq!(svg.matches("class=\"edge\"").count(), 3);
    }
}

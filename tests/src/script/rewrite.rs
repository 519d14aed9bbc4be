//! `make complete`: puts what the engine gives in the place of what a script expects, for a person to review.

use std::cmp::Ordering;
use std::ops::Range;

use millstream::engine::explain;

use super::compare::{told, with_script};
use super::play::{Outcome, Run, Stage, play};
use super::read::Script;

/// The script's text with its expected rows and texts replaced; unchanged where they hold.
pub fn completed(script: &Script, text: &str) -> Result<String, String> {
    let mut changes: Vec<(Range<usize>, Vec<String>)> = Vec::new();
    if let Some(wanted) = &script.explain {
        let actual = explain(&script.sql, &script.name, 2).map_err(|e| e.to_string())?;
        if actual.trim_end() != wanted.text.trim_end() {
            changes.push((wanted.lines.clone(), actual.lines().map(str::to_string).collect()));
        }
    }
    if let Some(wanted) = &script.refusal {
        let actual = told(script)?;
        if actual.trim_end() != wanted.text.trim_end() {
            let marked = actual.lines().map(|l| format!("!! {l}").trim_end().to_string());
            changes.push((wanted.lines.clone(), marked.collect()));
        }
    }
    if script.refusal.is_none() && !script.expected.is_empty() {
        let answers = match play(script, &Run::first(), &Stage::default())? {
            Outcome::Rows(answers) => answers,
            Outcome::Failed(e) => return Err(format!("{}: the pipelines stopped: {e}", script.name)),
        };
        for expected in &script.expected {
            let alone = Script { name: script.name.clone(), expected: vec![expected.clone()], ..Script::default() };
            let Some(answer) = answers.get(&expected.table).filter(|_| !with_script(&alone, &answers).is_empty())
            else {
                continue;
            };
            let header = match expected.rows.header.is_empty() {
                true => answer.header(),
                false => expected.rows.header.clone(),
            };
            let mut rows = answer.rows(&header).map_err(|e| format!("{}: {e}", script.name))?;
            rows.sort_by(|a, b| by_value(a, b));
            rows.insert(0, header);
            changes.push((expected.rows.lines.clone(), aligned(&rows)));
        }
    }
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    changes.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    for (range, new) in changes {
        lines.splice(range, new);
    }
    Ok(lines.join("\n") + "\n")
}

/// Numbers by value, everything else as text.
fn by_value(a: &[String], b: &[String]) -> Ordering {
    let cell = |(a, b): (&String, &String)| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => x.total_cmp(&y),
        _ => a.cmp(b),
    };
    a.iter().zip(b).map(cell).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

/// Rows in columns of one width.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|v| v.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(v, w)| format!("{v}{}", " ".repeat(w - v.chars().count())));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

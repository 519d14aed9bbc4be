//! What a table holds, what it should hold, and the difference as people read it.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter, is_not_null};
use arrow::datatypes::{DataType, SchemaRef};
use millstream::engine::{RunOptions, check, explain as explained, run_file, warnings};

use super::Problems;
use super::cells::{column, expected, show};
use super::play::{Outcome, Run, Stage, play};
use super::read::{Expected, Script, Text};

/// Rows as text.
type Table = Vec<Vec<String>>;

/// The rows of a table: of an updating one (columns `before`, `after`, `op`) what its changes amount to.
#[derive(Debug, Clone)]
pub struct Answer {
    schema: SchemaRef,
    plus: RecordBatch,
    minus: Option<RecordBatch>,
}

impl Answer {
    /// From everything in the table.
    pub fn new(schema: SchemaRef, batches: &[RecordBatch]) -> Result<Self, String> {
        let all = concat_batches(&schema, batches).map_err(|e| e.to_string())?;
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).filter(|n| *n != "day").collect();
        let (Some(before), Some(after), ["before", "after", "op"]) =
            (all.column_by_name("before"), all.column_by_name("after"), names.as_slice())
        else {
            return Ok(Self { schema, plus: all, minus: None });
        };
        if !matches!(after.data_type(), DataType::Struct(_)) {
            return Ok(Self { schema, plus: all, minus: None });
        }
        for row in 0..all.num_rows() {
            let op = all.column_by_name("op").map(|op| show(op, row)).transpose()?.unwrap_or_default();
            let fits = match op.as_str() {
                "c" | "r" => before.is_null(row) && after.is_valid(row),
                "u" => before.is_valid(row) && after.is_valid(row),
                "d" => before.is_valid(row) && after.is_null(row),
                _ => false,
            };
            if !fits {
                return Err(format!("op '{op}' with before {} and after {}", show(before, row)?, show(after, row)?));
            }
        }
        Ok(Self { schema: schema.clone(), plus: side(after)?, minus: Some(side(before)?) })
    }

    /// The columns of the table itself.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// All columns but the partition's.
    pub fn header(&self) -> Vec<String> {
        self.plus.schema().fields().iter().map(|f| f.name().clone()).filter(|n| n != "day").collect()
    }

    fn data_type(&self, name: &str) -> Result<DataType, String> {
        let known = || format!("there is no column '{name}'; there are: {}", self.header().join(", "));
        column(&self.plus, name).map(|c| c.data_type().clone()).ok_or_else(known)
    }

    /// Some columns of all rows, sorted.
    pub fn rows(&self, header: &[String]) -> Result<Table, String> {
        let mut counts: BTreeMap<Vec<String>, i64> = BTreeMap::new();
        for (batch, sign) in [(Some(&self.plus), 1), (self.minus.as_ref(), -1)] {
            let Some(batch) = batch else { continue };
            let missing = |n: &String| format!("there is no column '{n}'; there are: {}", self.header().join(", "));
            let columns: Vec<ArrayRef> =
                header.iter().map(|n| column(batch, n).ok_or_else(|| missing(n))).collect::<Result<_, _>>()?;
            for row in 0..batch.num_rows() {
                let cells = columns.iter().map(|c| show(c, row)).collect::<Result<Vec<_>, _>>()?;
                *counts.entry(cells).or_default() += sign;
            }
        }
        if let Some((row, n)) = counts.iter().find(|(_, n)| **n < 0) {
            return Err(format!("row {} is taken back {} times more than it was given", row.join(" "), -n));
        }
        Ok(counts.into_iter().flat_map(|(row, n)| vec![row; n as usize]).collect())
    }

    /// Compares all columns of a batch's answer with a stream's, by position: the batch has its own names.
    pub fn differs_by_position(&self, streamed: &Self, table: &str) -> Problems {
        let (own, other) = (self.header(), streamed.header());
        if own.len() != other.len() {
            return vec![format!("{table} has {} columns, and the batch {}", other.len(), own.len())];
        }
        let rows = self.rows(&own).and_then(|own| Ok((own, streamed.rows(&other)?)));
        match rows {
            Err(e) => vec![format!("{table}: {e}")],
            Ok((batch, stream)) if batch != stream => {
                vec![format!(
                    "{table} is not what the batch gives\n{}",
                    side_by_side(&other, "batch", &batch, "stream", &stream)
                )]
            }
            Ok(_) => Vec::new(),
        }
    }
}

/// The rows of a struct column that are not null, as a batch of its fields.
fn side(column: &ArrayRef) -> Result<RecordBatch, String> {
    let kept = is_not_null(column).and_then(|mask| filter(column, &mask)).map_err(|e| e.to_string())?;
    let kept = kept.as_struct();
    let fields = kept.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(kept.len()));
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
    RecordBatch::try_new_with_options(schema, kept.columns().to_vec(), &options).map_err(|e| e.to_string())
}

/// The rows that a script expects, in the spelling of what is there.
fn wanted(script: &Script, expected_rows: &Expected, answer: &Answer) -> Result<Table, String> {
    let header = &expected_rows.rows.header;
    let types = header.iter().map(|n| answer.data_type(n)).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for (line, cells) in &expected_rows.rows.rows {
        let spelled = cells.iter().zip(&types).map(|(c, t)| expected(c, t)).collect::<Result<Vec<_>, _>>();
        rows.push(spelled.map_err(|e| format!("{}:{line}: {e}", script.name))?);
    }
    rows.sort();
    Ok(rows)
}

/// Compares tables with what a script says of them.
pub fn with_script(script: &Script, answers: &BTreeMap<String, Answer>) -> Problems {
    let mut problems = Vec::new();
    for expected in &script.expected {
        let (table, header) = (&expected.table, &expected.rows.header);
        let at = expected.rows.lines.start;
        let Some(answer) = answers.get(table) else {
            let known: Vec<&str> = answers.keys().map(String::as_str).collect();
            problems.push(format!(
                "{}:{at}: no table '{table}' was written; there are: {}",
                script.name,
                known.join(", ")
            ));
            continue;
        };
        if header.is_empty() {
            match answer.rows(&answer.header()) {
                Ok(rows) if rows.is_empty() => {}
                Ok(rows) => problems.push(format!(
                    "line {at}: {table} should be empty\n{}",
                    side_by_side(&answer.header(), "expected", &Vec::new(), "actual", &rows)
                )),
                Err(e) => problems.push(format!("line {at}: {table}: {e}")),
            }
            continue;
        }
        match wanted(script, expected, answer).and_then(|wanted| Ok((wanted, answer.rows(header)?))) {
            Err(e) => problems.push(format!("line {at}: {table}: {e}")),
            Ok((wanted, actual)) if wanted != actual => problems.push(format!(
                "line {at}: {table} does not hold what is expected\n{}",
                side_by_side(header, "expected", &wanted, "actual", &actual)
            )),
            Ok(_) => {}
        }
    }
    problems
}

/// Compares two runs of a script: all columns of all tables.
pub fn difference(
    first: &BTreeMap<String, Answer>,
    first_name: &str,
    second: &BTreeMap<String, Answer>,
    second_name: &str,
) -> Problems {
    let mut problems = Vec::new();
    let names: std::collections::BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    for table in names {
        let (Some(a), Some(b)) = (first.get(table), second.get(table)) else {
            problems.push(format!("table '{table}' is not there in every run"));
            continue;
        };
        // A rejected row's position is its place in the request, which is what differs between runs.
        let header = match table.ends_with("__rejected") {
            true => ["code", "message", "raw"].map(str::to_string).to_vec(),
            false => a.header(),
        };
        let rows = |answer: &Answer| answer.rows(&header).map(without_folders);
        match rows(a).and_then(|a| Ok((a, rows(b)?))) {
            Err(e) => problems.push(format!("{table}: {e}")),
            Ok((a, b)) if a != b => problems.push(format!(
                "{table} differs between runs\n{}",
                side_by_side(&header, first_name, &a, second_name, &b)
            )),
            Ok(_) => {}
        }
    }
    problems
}

/// Rows whose texts name files without their folders: every run has a folder of its own.
fn without_folders(rows: Table) -> Table {
    let cell = |text: String| match text.split_once(':') {
        Some((path, rest)) if path.trim_start_matches('"').starts_with('/') => {
            format!("{}:{rest}", path.rsplit('/').next().unwrap_or_default())
        }
        _ => text,
    };
    let mut rows: Table = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    rows.sort();
    rows
}

/// Two sorted tables beside each other, equal rows on one line; `!` where they differ.
pub fn side_by_side(header: &[String], left_name: &str, left: &Table, right_name: &str, right: &Table) -> String {
    let mut pairs = Vec::new();
    let (mut l, mut r) = (left.iter().peekable(), right.iter().peekable());
    loop {
        match (l.peek(), r.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => pairs.push((l.next(), r.next())),
            (Some(a), Some(b)) if a > b => pairs.push((None, r.next())),
            (None, Some(_)) => pairs.push((None, r.next())),
            (Some(_), _) => pairs.push((l.next(), None)),
        }
    }
    let line = |row: Option<&Vec<String>>| row.map_or_else(String::new, |r| r.join("  "));
    let head = header.join("  ");
    let mut lines = vec![(' ', left_name.to_string(), right_name.to_string()), (' ', head.clone(), head)];
    lines.extend(pairs.into_iter().map(|(a, b)| (if a == b { ' ' } else { '!' }, line(a), line(b))));
    let width = lines.iter().map(|(_, a, _)| a.chars().count()).max().unwrap_or(0);
    let shown = lines.into_iter().map(|(mark, a, b)| {
        let pad = " ".repeat(width - a.chars().count());
        format!("  {mark} {a}{pad} | {b}").trim_end().to_string()
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// What is said of a script: all errors of its SQL, else what it warns of, else why the run failed.
pub fn told(script: &Script) -> Result<String, String> {
    let errors = check(&script.sql, &script.name);
    if !errors.is_empty() {
        return Ok(errors.iter().map(|e| format!("{e}\n")).collect());
    }
    let warnings = warnings(&script.sql, &script.name);
    if !warnings.is_empty() {
        return Ok(warnings.iter().map(|w| format!("warning: {w}\n")).collect());
    }
    if script.steps.is_empty() && script.files.is_empty() {
        return match run_file(&script.sql, &script.name, &RunOptions::default()) {
            Ok(_) => Err(format!("{}: it runs, but an error is expected", script.name)),
            Err(e) => Ok(format!("{e}\n")),
        };
    }
    match play(script, &Run::first(), &Stage::default())? {
        Outcome::Failed(e) => Ok(format!("{e}\n")),
        Outcome::Rows(_) => Err(format!("{}: it runs, but an error is expected", script.name)),
    }
}

/// Compares what is said with what is expected.
pub fn refusal(script: &Script, expected: &Text) -> Problems {
    texts(script, expected, told(script))
}

/// Compares `explain` with what is expected.
pub fn explain(script: &Script, expected: &Text) -> Problems {
    texts(script, expected, explained(&script.sql, &script.name, 2).map_err(|e| e.to_string()))
}

fn texts(script: &Script, expected: &Text, actual: Result<String, String>) -> Problems {
    match actual {
        Err(e) => vec![e],
        Ok(actual) if actual.trim_end() != expected.text.trim_end() => {
            let at = expected.lines.start + 1;
            vec![format!("{}:{at}: expected\n{}but it says\n{actual}", script.name, expected.text)]
        }
        Ok(_) => Vec::new(),
    }
}

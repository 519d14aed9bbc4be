//! The text of a script to its parts. Errors name the file and the line.

use std::ops::Range;

/// Nanoseconds since the epoch at 2024-01-01T00:00:00Z, the day of times without a date.
pub const DAY_ONE: i64 = 1_704_067_200_000_000_000;

/// A value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Without its quotes.
    pub text: String,
    /// Whether it had quotes, and so is text whatever it says.
    pub quoted: bool,
}

/// Rows under a header, and the lines (from 0) that they fill in the file, the header among them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Names of columns.
    pub header: Vec<String>,
    /// One vector a row, with its line from 1.
    pub rows: Vec<(usize, Vec<Cell>)>,
    /// Where they are in the file.
    pub lines: Range<usize>,
}

/// Text after a marker, and the lines (from 0) that it fills in the file.
#[derive(Debug, Clone)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Where it is.
    pub lines: Range<usize>,
}

/// What happens to the engine, in order.
#[derive(Debug, Clone)]
pub enum Step {
    /// Rows of a table arrive.
    Rows {
        /// The table.
        table: String,
        /// Who sends them.
        producer: String,
        /// The rows.
        rows: Rows,
    },
    /// A producer promises that nothing before a time follows.
    Watermark {
        /// The table.
        table: String,
        /// Who promises.
        producer: String,
        /// Nanoseconds since the epoch.
        time: i64,
    },
    /// A checkpoint, in every run.
    Checkpoint,
    /// The wall clock moves, until so many producers have been marked as idle since the beginning.
    Wait {
        /// By so much.
        nanoseconds: i64,
        /// Marks in the log.
        idle: usize,
    },
}

impl Step {
    /// The same table, producer and header, without rows yet: for rows after a line such as `checkpoint`.
    fn continued(&self, i: usize) -> Option<Self> {
        let Self::Rows { table, producer, rows } = self else { return None };
        let rows = Rows { header: rows.header.clone(), rows: Vec::new(), lines: i..i };
        Some(Self::Rows { table: table.clone(), producer: producer.clone(), rows })
    }
}

/// The rows that a table must hold at the end.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The table.
    pub table: String,
    /// Its rows, perhaps not all columns.
    pub rows: Rows,
}

/// A script.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Its file's name.
    pub name: String,
    /// Its SQL: every other line is blank, so that places in errors are places in the file.
    pub sql: String,
    /// What happens.
    pub steps: Vec<Step>,
    /// What must be there at the end.
    pub expected: Vec<Expected>,
    /// The error that is expected instead.
    pub refusal: Option<Text>,
    /// What `explain` must say.
    pub explain: Option<Text>,
    /// `INSERT INTO`s for a batch that gives the same rows.
    pub batch: Option<String>,
    /// Why there is no batch that could be compared.
    pub no_batch: Option<String>,
    /// Why it is not run with crashes.
    pub no_crash: Option<String>,
    /// Files that the SQL reads: name and text.
    pub files: Vec<(String, String)>,
    /// Whether the inputs stay open at the end.
    pub open_ended: bool,
}

/// The part of a script that a line belongs to.
enum Part {
    Sql,
    In,
    Out,
    Refusal,
    Batch,
    Explain,
    File,
}

impl Script {
    /// Reads a script. The error says file, line and what is wrong.
    pub fn read(name: &str, text: &str) -> Result<Self, String> {
        let mut script = Self { name: name.to_string(), ..Self::default() };
        let mut part = Part::Sql;
        for (i, line) in text.lines().enumerate() {
            let wrong = |what: String| format!("{name}:{}: {what}", i + 1);
            let sql = matches!(part, Part::Sql | Part::Batch | Part::Explain | Part::File);
            if let Some(next) = script.marker(line, i, sql).map_err(wrong)? {
                part = next;
                script.sql.push('\n');
                continue;
            }
            if matches!(part, Part::Sql) && !line.starts_with('#') {
                script.sql.push_str(line);
            }
            script.sql.push('\n');
            script.line(&part, line, i).map_err(wrong)?;
        }
        if !text.starts_with("# ") {
            return Err(format!("{name}:1: a script begins with `# ` and one line on what it shows"));
        }
        if script.expected.is_empty() && script.refusal.is_none() && script.explain.is_none() {
            return Err(format!("{name}: it expects nothing; add `<< table` and rows, or `!! ` and an error"));
        }
        Ok(script)
    }

    /// A line that is not of the part before it; `in_sql` where lower-case words may be SQL.
    fn marker(&mut self, line: &str, i: usize, in_sql: bool) -> Result<Option<Part>, String> {
        let here = i + 1..i + 1;
        if let Some(rest) = line.strip_prefix(">> ") {
            let (table, producer) = table_and_producer(rest)?;
            self.steps.push(Step::Rows { table, producer, rows: Rows { lines: here, ..Rows::default() } });
            return Ok(Some(Part::In));
        }
        if let Some(rest) = line.strip_prefix("<< ") {
            let rows = Rows { lines: here, ..Rows::default() };
            self.expected.push(Expected { table: rest.trim().to_string(), rows });
            return Ok(Some(Part::Out));
        }
        if let Some(rest) = line.strip_prefix("!! ").or((line == "!!").then_some("")) {
            let refusal = self.refusal.get_or_insert(Text { text: String::new(), lines: i..i });
            refusal.text.push_str(rest);
            refusal.text.push('\n');
            refusal.lines.end = i + 1;
            return Ok(Some(Part::Refusal));
        }
        if let Some(what) = line.strip_prefix("== ").filter(|what| !what.starts_with("no ")) {
            return self.section(what.trim(), here).map(Some);
        }
        if let Some(what) = line.strip_prefix("== ").unwrap_or(line).strip_prefix("no ") {
            match what.split_once(": ") {
                Some(("batch", why)) => self.no_batch = Some(why.to_string()),
                Some(("crash", why)) => self.no_crash = Some(why.to_string()),
                None if what == "end" => self.open_ended = true,
                _ => return Err("write `no batch: reason`, `no crash: reason` or `no end`".into()),
            }
            return Ok(Some(Part::In));
        }
        if in_sql { Ok(None) } else { self.event(line) }
    }

    fn section(&mut self, what: &str, here: Range<usize>) -> Result<Part, String> {
        match what.split_once(' ') {
            None if what == "batch" => {
                self.batch = Some(String::new());
                Ok(Part::Batch)
            }
            None if what == "explain" => {
                self.explain = Some(Text { text: String::new(), lines: here });
                Ok(Part::Explain)
            }
            Some(("file", name)) => {
                self.files.push((name.to_string(), String::new()));
                Ok(Part::File)
            }
            _ => Err(format!("unknown section '{what}'; there are `== batch`, `== explain` and `== file NAME`")),
        }
    }

    /// `watermark`, `checkpoint`, `wait`: one line each.
    fn event(&mut self, line: &str) -> Result<Option<Part>, String> {
        let line = line.split(" #").next().unwrap_or(line).trim_end();
        let step = match line.split_once(' ').unwrap_or((line, "")) {
            ("checkpoint", "") => Step::Checkpoint,
            ("watermark", rest) => {
                let (whose, time) = rest.trim().rsplit_once(' ').ok_or("write `watermark TABLE TIME`")?;
                let (table, producer) = table_and_producer(whose)?;
                let time = time_of(time).ok_or_else(|| format!("'{time}' is not a time"))?;
                Step::Watermark { table, producer, time }
            }
            ("wait", rest) => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let number = |w: &str| w.parse::<i64>().ok();
                let (minutes, idle) = match words.as_slice() {
                    [n, "minutes"] => (number(n), Some(0)),
                    [n, "minutes", "until", idle, "idle"] => (number(n), number(idle)),
                    _ => (None, None),
                };
                let (Some(minutes), Some(idle)) = (minutes, idle) else {
                    return Err("write `wait N minutes` or `wait N minutes until M idle`".into());
                };
                Step::Wait { nanoseconds: minutes * 60_000_000_000, idle: idle as usize }
            }
            _ => return Ok(None),
        };
        self.steps.push(step);
        Ok(Some(Part::In))
    }

    fn line(&mut self, part: &Part, line: &str, i: usize) -> Result<(), String> {
        let rows = match part {
            Part::Sql => return Ok(()),
            Part::Batch => {
                let batch = self.batch.get_or_insert_default();
                batch.push_str(line);
                batch.push('\n');
                return Ok(());
            }
            Part::Explain => {
                if let Some(explain) = &mut self.explain {
                    explain.text.push_str(line);
                    explain.text.push('\n');
                    explain.lines.end = i + 1;
                }
                return Ok(());
            }
            Part::File => {
                if let Some((_, text)) = self.files.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
                return Ok(());
            }
            Part::In => {
                let continued = !matches!(self.steps.last(), Some(Step::Rows { .. }));
                if continued && blank(line).is_ok() {
                    return Ok(());
                }
                if continued {
                    let again = self.steps.iter().rev().find_map(|s| s.continued(i)).ok_or("begin with `>> table`")?;
                    self.steps.push(again);
                }
                match self.steps.last_mut() {
                    Some(Step::Rows { rows, .. }) => rows,
                    _ => return blank(line),
                }
            }
            Part::Out => match self.expected.last_mut() {
                Some(expected) => &mut expected.rows,
                None => return blank(line),
            },
            Part::Refusal => return blank(line),
        };
        let cells = cells(line)?;
        if cells.is_empty() {
            return Ok(());
        }
        rows.lines.end = i + 1;
        if rows.header.is_empty() {
            rows.header = cells.into_iter().map(|c| c.text).collect();
        } else if cells.len() == rows.header.len() {
            rows.rows.push((i + 1, cells));
        } else {
            return Err(format!("{} values under {} columns", cells.len(), rows.header.len()));
        }
        Ok(())
    }
}

fn blank(line: &str) -> Result<(), String> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(());
    }
    Err(format!("'{line}' does not belong here"))
}

/// `table`, or `table by producer`.
fn table_and_producer(text: &str) -> Result<(String, String), String> {
    let words: Vec<&str> = text.split_whitespace().take_while(|w| !w.starts_with('#')).collect();
    match words.as_slice() {
        [table] => Ok((table.to_string(), "p".into())),
        [table, "by", producer] => Ok((table.to_string(), producer.to_string())),
        _ => Err("write a table, or `table by producer`".into()),
    }
}

/// The values of a line: parted by blanks; in double quotes or brackets, blanks belong to the value. `#` ends the line.
pub fn cells(line: &str) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next().filter(|c| *c != '#') {
        let length = match first {
            '"' => quoted(rest)?,
            '{' | '[' => bracketed(rest)?,
            _ => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (own, after) = rest.split_at(length);
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err(format!("put a blank after {own}"));
        }
        let text =
            if first == '"' { serde_json::from_str(own).map_err(|e| format!("{own}: {e}"))? } else { own.to_string() };
        cells.push(Cell { text, quoted: first == '"' });
        rest = after.trim_start();
    }
    Ok(cells)
}

/// The length of the quoted text that `text` begins with.
fn quoted(text: &str) -> Result<usize, String> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(i + 1),
            _ => {}
        }
    }
    Err(format!("no closing quote: {text}"))
}

/// The length of the JSON that `text` begins with.
fn bracketed(text: &str) -> Result<usize, String> {
    let (mut depth, mut i) = (0, 0);
    while let Some(c) = text[i..].chars().next() {
        match c {
            '"' => i += quoted(&text[i..])? - 1,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        i += c.len_utf8();
        if depth == 0 {
            return Ok(i);
        }
    }
    Err(format!("no closing bracket: {text}"))
}

/// `HH:MM:SS[.f]` on 2024-01-01, or `YYYY-MM-DDTHH:MM:SS[.f]`, as nanoseconds since the epoch.
pub fn time_of(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (days, clock) = match text.split_once('T') {
        Some((date, clock)) => (days_of(date)?, clock),
        None => (DAY_ONE / 86_400_000_000_000, text),
    };
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = whole.split(':');
    let mut part = |below: i64| {
        let digits = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse::<i64>().ok().filter(|n| *n < below)
    };
    let (hours, minutes, seconds) = (part(24)?, part(60)?, part(60)?);
    if parts.next().is_some() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").parse().ok()?;
    let seconds = days * 86_400 + hours * 3_600 + minutes * 60 + seconds;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Days since the epoch of `YYYY-MM-DD`.
fn days_of(date: &str) -> Option<i64> {
    let mut parts = date.split('-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years from March, so that the leap day is the last one: Howard Hinnant's civil calendar.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_a_date() {
        assert_eq!(time_of("00:00:01.5"), Some(DAY_ONE + 1_500_000_000));
        assert_eq!(time_of("2024-01-01T00:00:00Z"), Some(DAY_ONE));
        assert_eq!(time_of("1970-01-01T00:00:00"), Some(0));
        assert_eq!(time_of("2024-03-01T00:00:00").map(|t| (t - DAY_ONE) / 86_400_000_000_000), Some(60));
        assert_eq!(time_of("24:00:00"), None);
        assert_eq!(time_of("1:00:00"), None);
    }

    #[test]
    fn values_of_a_line() {
        let texts = |line: &str| cells(line).unwrap().into_iter().map(|c| c.text).collect::<Vec<_>>();
        assert_eq!(texts("  1 \"a b\" null # why"), ["1", "a b", "null"]);
        assert_eq!(texts(r#"{"a": "}", "b": [1, 2]} [1, {}]"#), [r#"{"a": "}", "b": [1, 2]}"#, "[1, {}]"]);
        assert!(cells("\"open").is_err());
        assert!(cells("{1").is_err());
    }

    #[test]
    fn a_script_in_its_parts() {
        let text = "# Shows.\nSELECT 1;\n>> t by b  # why\na b\n1 null\nwatermark t 00:00:01\n2 3\n<< o\na\n1\n";
        let script = Script::read("x.test", text).unwrap();
        assert_eq!(script.sql.lines().collect::<Vec<_>>()[..2], ["", "SELECT 1;"]);
        assert!(matches!(&script.steps[0], Step::Rows { table, producer, .. } if table == "t" && producer == "b"));
        assert!(matches!(&script.steps[1], Step::Watermark { producer, .. } if producer == "p"));
        assert!(
            matches!(&script.steps[2], Step::Rows { producer, rows, .. } if producer == "b" && rows.rows[0].0 == 7)
        );
        assert_eq!(script.expected[0].rows.lines, 8..10);
        let wrong = Script::read("x.test", "# Shows.\n>> t\na b\n1\n<< o\n").unwrap_err();
        assert_eq!(wrong, "x.test:4: 1 values under 2 columns");
    }
}

//! The shell of `millstream sql`: a query ends with a semicolon; lines that begin with a backslash are for the shell.

use std::io::{BufRead, Write};

use millstream::{Error, Result};

use super::print;
use super::sql::{Answerer, warn_if_truncated};
use crate::format::{self, Format};

const HELP: &str = "\
End a query with ; and Enter. Queries only read.
\\d          the tables
\\d TABLE    the columns of a table
\\q          quit (Ctrl-D too)
";

/// Reads and answers until the end of input or `\q`. An error ends a query, not the shell.
pub async fn run(answerer: &Answerer, format: Format) -> Result<()> {
    crate::tell!("Millstream {}. \\h for help.", env!("CARGO_PKG_VERSION"));
    let mut pending = String::new();
    loop {
        eprint!("{}", if pending.trim().is_empty() { "millstream> " } else { "        ... " });
        std::io::stderr().flush().map_err(|e| Error::Storage(format!("cannot write to the terminal: {e}")))?;
        let Some(line) = read_line().await? else {
            crate::cli::tell("");
            return Ok(());
        };
        if pending.trim().is_empty() && line.trim_start().starts_with('\\') {
            match command(line.trim()) {
                Command::Quit => return Ok(()),
                Command::Help => eprint!("{HELP}"),
                Command::Query(sql) => show(answerer, &sql, format).await?,
                Command::Unknown => crate::tell!("error: {} is not known; \\h lists what is", line.trim()),
            }
            continue;
        }
        pending.push_str(&line);
        if !ends_query(&pending) {
            continue;
        }
        for query in split(&pending) {
            show(answerer, query, format).await?;
        }
        pending.clear();
    }
}

/// A line with its end, or none at the end of input. Off the runtime's threads: a person may think for hours.
async fn read_line() -> Result<Option<String>> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
    });
    match read.await {
        Ok(line) => line.map_err(|e| Error::Config(format!("cannot read stdin: {e}"))),
        Err(e) => Err(Error::Bug(format!("reading stdin: {e}"))),
    }
}

async fn show(answerer: &Answerer, sql: &str, format: Format) -> Result<()> {
    // Parquet bytes would only break the terminal.
    let format = if format == Format::Parquet { Format::Table } else { format };
    let mut bytes = Vec::new();
    let written = match answerer.query(sql).await {
        Ok(result) => format::write(format, &result.schema, &result.batches, &mut bytes).map(|()| result),
        Err(error) => Err(error),
    };
    match written {
        Ok(result) => {
            print(&bytes)?;
            warn_if_truncated(&result);
        }
        Err(error) => crate::tell!("error: {error}"),
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Quit,
    Help,
    Query(String),
    Unknown,
}

fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    match (words.next(), words.next()) {
        (Some("\\q"), None) => Command::Quit,
        (Some("\\h" | "\\?"), None) => Command::Help,
        (Some("\\d"), None) => Command::Query("SHOW TABLES".to_string()),
        (Some("\\d"), Some(table)) => Command::Query(format!("DESCRIBE {table}")),
        _ => Command::Unknown,
    }
}

fn ends_query(text: &str) -> bool {
    let mut end = false;
    scan(text, |_, c| end = c == ';' || (end && c.is_whitespace()));
    end
}

/// The queries of a text: parted by semicolons outside strings and comments, without empty ones.
pub fn split(text: &str) -> Vec<&str> {
    let mut cuts = vec![0];
    scan(text, |at, c| {
        if c == ';' {
            cuts.push(at + 1);
        }
    });
    cuts.push(text.len());
    let pieces = cuts.windows(2).filter_map(|pair| text.get(*pair.first()?..*pair.last()?));
    pieces.map(|piece| piece.trim().trim_end_matches(';').trim()).filter(|piece| !piece.is_empty()).collect()
}

/// Calls `visit` for every character outside quotes and comments.
fn scan(text: &str, mut visit: impl FnMut(usize, char)) {
    let mut inside: Option<&str> = None;
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let here = text.get(at..).unwrap_or("");
        match inside {
            Some(end) if here.starts_with(end) => {
                inside = None;
                for _ in 1..end.len() {
                    rest.next();
                }
            }
            Some(_) => {}
            None if c == '\'' => inside = Some("'"),
            None if c == '"' => inside = Some("\""),
            None if here.starts_with("--") => inside = Some("\n"),
            None if here.starts_with("/*") => inside = Some("*/"),
            None => visit(at, c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_parted_by_semicolons_outside_strings_and_comments() {
        let text = "SELECT ';' AS a; -- no; not here\nSELECT \";\" /* ; */ FROM t;\n;";
        assert_eq!(split(text), ["SELECT ';' AS a", "-- no; not here\nSELECT \";\" /* ; */ FROM t"]);
        assert_eq!(split("SELECT 1"), ["SELECT 1"]);
        assert_eq!(split(" \n"), Vec::<&str>::new());
    }

    #[test]
    fn a_query_may_take_several_lines() {
        assert!(!ends_query("SELECT 1\n"));
        assert!(!ends_query("SELECT ';\n"));
        assert!(ends_query("SELECT 1 ; \n"));
        assert!(!ends_query("SELECT 1; SELECT 2\n"));
    }

    #[test]
    fn backslash_commands() {
        assert_eq!(command("\\q"), Command::Quit);
        assert_eq!(command("\\d dau"), Command::Query("DESCRIBE dau".into()));
        assert_eq!(command("\\x"), Command::Unknown);
    }
}

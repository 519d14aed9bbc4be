//! `COPY (query) TO STDOUT`, which is what `\copy ... to 'file' csv` of psql and `cursor.copy` of drivers send: rows as
//! text or CSV, written while they are computed.

use std::fmt::Debug;
use std::sync::Arc;

use arrow_pg::encode_recordbatch;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::sqlparser::ast::{
    CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, Statement,
};
use futures::{Sink, SinkExt, StreamExt};
use millstream::batch::query_error;
use millstream::{Result, SqlError};
use pgwire::api::portal::Format;
use pgwire::api::results::{Response, Tag};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use pgwire::messages::data::DataRow;

use super::{encode, error};

/// A `COPY ... TO STDOUT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The SELECT whose rows are copied.
    pub query: String,
    /// CSV, or else PostgreSQL's text with a tab between values and a backslash before what would be misread.
    csv: bool,
    header: bool,
    delimiter: char,
    /// What stands for NULL.
    null: String,
    quote: char,
}

/// The copy that a statement is, if it is one.
///
/// *Errors*: `Query` for one that would read or write anything but the wire, and for an option that is not known here.
pub fn of(statement: &Statement) -> Result<Option<Copy>> {
    let Statement::Copy { source, to, target, options, legacy_options, .. } = statement else { return Ok(None) };
    if !to {
        return Err(refused(
            "COPY into a table is not allowed: queries only read",
            "send rows to POST /api/v1/ingest/{table}",
        ));
    }
    if *target != CopyTarget::Stdout {
        let fix = "write COPY ... TO STDOUT, or \\copy in psql, which writes a file of yours";
        return Err(refused("COPY to a file or program of the server is not allowed", fix));
    }
    let query = match source {
        CopySource::Query(query) => query.to_string(),
        CopySource::Table { table_name, columns } if columns.is_empty() => format!("SELECT * FROM {table_name}"),
        CopySource::Table { table_name, columns } => {
            let columns = columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("SELECT {columns} FROM {table_name}")
        }
    };
    let mut asked = Asked::default();
    for option in options {
        asked.take(option)?;
    }
    for option in legacy_options {
        asked.take_legacy(option)?;
    }
    asked.copy(query).map(Some)
}

/// What the options say.
#[derive(Default)]
struct Asked {
    csv: bool,
    header: bool,
    delimiter: Option<char>,
    null: Option<String>,
    quote: Option<char>,
}

impl Asked {
    fn take(&mut self, option: &CopyOption) -> Result<()> {
        match option {
            CopyOption::Format(name) => match name.value.to_ascii_lowercase().as_str() {
                "csv" => self.csv = true,
                "text" => self.csv = false,
                other => return Err(refused(&format!("COPY has no format {other}"), "use csv or text")),
            },
            CopyOption::Header(header) => self.header = *header,
            CopyOption::Delimiter(delimiter) => self.delimiter = Some(*delimiter),
            CopyOption::Null(null) => self.null = Some(null.clone()),
            CopyOption::Quote(quote) => self.quote = Some(*quote),
            CopyOption::Encoding(name) if name.replace('-', "").eq_ignore_ascii_case("utf8") => {}
            other => return Err(unknown(&other.to_string())),
        }
        Ok(())
    }

    fn take_legacy(&mut self, option: &CopyLegacyOption) -> Result<()> {
        match option {
            CopyLegacyOption::Csv(options) => {
                self.csv = true;
                for option in options {
                    match option {
                        CopyLegacyCsvOption::Header => self.header = true,
                        CopyLegacyCsvOption::Quote(quote) => self.quote = Some(*quote),
                        other => return Err(unknown(&other.to_string())),
                    }
                }
            }
            CopyLegacyOption::Header => self.header = true,
            CopyLegacyOption::Delimiter(delimiter) => self.delimiter = Some(*delimiter),
            CopyLegacyOption::Null(null) => self.null = Some(null.clone()),
            other => return Err(unknown(&other.to_string())),
        }
        Ok(())
    }

    fn copy(self, query: String) -> Result<Copy> {
        let (delimiter, null) = if self.csv { (',', "") } else { ('\t', "\\N") };
        let copy = Copy {
            query,
            csv: self.csv,
            header: self.header,
            delimiter: self.delimiter.unwrap_or(delimiter),
            null: self.null.unwrap_or_else(|| null.to_string()),
            quote: self.quote.unwrap_or('"'),
        };
        let plain = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '\n' | '\r' | '\\' | '.');
        if !plain(copy.delimiter) || !plain(copy.quote) || copy.csv && copy.delimiter == copy.quote {
            let fix = "use two different punctuation marks, such as ',' and '\"'";
            return Err(refused("the delimiter or quote of COPY would be misread", fix));
        }
        Ok(copy)
    }
}

fn unknown(option: &str) -> millstream::Error {
    let fix = "use FORMAT csv or text, HEADER, DELIMITER, NULL and QUOTE";
    refused(&format!("COPY ... TO STDOUT does not know {option}"), fix)
}

fn refused(message: &str, fix: &str) -> millstream::Error {
    SqlError { message: message.to_string(), fix: Some(fix.to_string()), ..SqlError::default() }.into()
}

/// Sends the rows; a batch of them is in memory at a time.
pub async fn send<C>(client: &mut C, copy: &Copy, mut rows: SendableRecordBatchStream) -> PgWireResult<Response>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let schema = rows.schema();
    let fields = Arc::new(encode::fields(&schema, &Format::UnifiedText)?);
    let columns = i16::try_from(fields.len()).unwrap_or(i16::MAX);
    let head = CopyOutResponse::new(0, columns, vec![0; fields.len()]);
    client.send(PgWireBackendMessage::CopyOutResponse(head)).await?;
    if copy.header {
        let names = schema.fields().iter().map(|field| Some(field.name().as_bytes()));
        client.feed(PgWireBackendMessage::CopyData(CopyData::new(copy.line(names)))).await?;
    }
    let mut sent = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|e| error::of(query_error(e), ""))?;
        let lines = encode_recordbatch(Arc::clone(&fields), batch).map(|row| Ok(copy.line(values(&row?))));
        for line in lines.collect::<PgWireResult<Vec<Bytes>>>()? {
            client.feed(PgWireBackendMessage::CopyData(CopyData::new(line))).await?;
            sent += 1;
        }
    }
    client.send(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
    Ok(Response::Execution(Tag::new("COPY").with_rows(sent)))
}

/// The values of a row in the wire's text format.
fn values(row: &DataRow) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest: &[u8] = &row.data;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        // A negative length is NULL.
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = after;
            return Some(None);
        };
        let (value, after) = after.split_at_checked(length)?;
        rest = after;
        Some(Some(value))
    })
}

impl Copy {
    fn line<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Bytes {
        let mut line = Vec::new();
        for (i, value) in values.enumerate() {
            if i > 0 {
                line.push(self.delimiter as u8);
            }
            match value {
                None => line.extend_from_slice(self.null.as_bytes()),
                Some(value) if self.csv => self.csv_value(&mut line, value),
                Some(value) => self.text_value(&mut line, value),
            }
        }
        line.push(b'\n');
        line.into()
    }

    fn csv_value(&self, line: &mut Vec<u8>, value: &[u8]) {
        let quote = self.quote as u8;
        let special = |b: &u8| [quote, self.delimiter as u8, b'\n', b'\r'].contains(b);
        // A value that reads as NULL is not NULL when it is quoted; `\.` would end the copy for older readers.
        if value != self.null.as_bytes() && value != b"\\." && !value.iter().any(special) {
            line.extend_from_slice(value);
            return;
        }
        line.push(quote);
        for byte in value {
            if *byte == quote {
                line.push(quote);
            }
            line.push(*byte);
        }
        line.push(quote);
    }

    fn text_value(&self, line: &mut Vec<u8>, value: &[u8]) {
        for byte in value {
            let escaped = match byte {
                8 => b'b',
                9 => b't',
                10 => b'n',
                11 => b'v',
                12 => b'f',
                13 => b'r',
                b'\\' => b'\\',
                other if *other == self.delimiter as u8 => *other,
                other => {
                    line.push(*other);
                    continue;
                }
            };
            line.extend_from_slice(&[b'\\', escaped]);
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn copy(sql: &str) -> Result<Option<Copy>> {
        of(&Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap()[0])
    }

    fn line(copy: &Copy, values: &[Option<&str>]) -> String {
        String::from_utf8(copy.line(values.iter().map(|v| v.map(str::as_bytes))).to_vec()).unwrap()
    }

    #[test]
    fn what_psql_and_drivers_send() {
        let csv = copy("COPY  ( SELECT 1 AS a ) TO STDOUT csv header").unwrap().unwrap();
        assert_eq!((csv.query.as_str(), csv.csv, csv.header), ("SELECT 1 AS a", true, true));
        let csv = copy("COPY t (a, b) TO STDOUT WITH (FORMAT csv, DELIMITER ';', NULL '-')").unwrap().unwrap();
        assert_eq!(csv.query, "SELECT a, b FROM t");
        assert_eq!(line(&csv, &[Some("x;y"), None, Some("-"), Some("")]), "\"x;y\";-;\"-\";\n");
        let text = copy("COPY t TO STDOUT").unwrap().unwrap();
        assert_eq!(line(&text, &[Some("a\tb\\c\n"), None, Some("")]), "a\\tb\\\\c\\n\t\\N\t\n");
        let csv = copy("COPY t TO STDOUT CSV").unwrap().unwrap();
        assert_eq!(line(&csv, &[Some("say \"x\""), None, Some("")]), "\"say \"\"x\"\"\",,\"\"\n");
        assert_eq!(copy("SELECT 1").unwrap(), None);
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        for (sql, expected) in [
            ("COPY t TO '/tmp/x'", "COPY to a file or program of the server is not allowed"),
            ("COPY t FROM STDIN", "COPY into a table is not allowed"),
            ("COPY t TO STDOUT WITH (FORMAT binary)", "COPY has no format binary\n  fix: use csv or text"),
            ("COPY t TO STDOUT WITH (FORCE_QUOTE (a))", "does not know FORCE_QUOTE (a)"),
            ("COPY t TO STDOUT WITH (FORMAT csv, DELIMITER '\"')", "would be misread"),
        ] {
            let error = copy(sql).unwrap_err().to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}

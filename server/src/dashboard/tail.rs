//! The newest rows of a table as they are committed, as server-sent events.
//!
//! A tail looks when the table's version changes. It shows the newest rows by the table's time column, at most so many a
//! commit, and each once: what it has shown is remembered by hash, within a bound. Rows equal in every column are one.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{Stream, unfold};
use millstream::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::time_column;
use super::live::Reader;
use crate::format;
use crate::http::{App, Problem};

const PERIOD: Duration = Duration::from_secs(1);
const ROWS_MAX: usize = 50;
/// Rows remembered as shown.
const SHOWN_MAX: usize = 500;

/// Which table.
#[derive(Debug, Deserialize)]
pub struct Choice {
    table: String,
}

struct Tail {
    reader: Reader,
    table: String,
    version: i64,
    shown: VecDeque<u64>,
}

/// `GET /sql/tail?table=`.
pub async fn rows(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let names = app.engine.lake().names().await?;
    if !names.contains(&choice.table) {
        return Err(Problem::not_found(format!("no table `{}`; there are: {}", choice.table, names.join(", "))));
    }
    let tail = Tail { reader: Reader::new(app, PERIOD)?, table: choice.table, version: -1, shown: VecDeque::new() };
    let stream = unfold(tail, |mut tail| async move {
        while tail.reader.tick().await {
            let event = match tail.look().await {
                Ok(rows) if rows.is_empty() => continue,
                Ok(rows) => Event::default().event("rows").data(Value::Array(rows).to_string()),
                Err(error) => {
                    Event::default().event("trouble").data(json!({ "detail": error.to_string() }).to_string())
                }
            };
            return Some((Ok(event), tail));
        }
        None
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Tail {
    /// The rows that were not shown before, oldest first.
    async fn look(&mut self) -> Result<Vec<Value>> {
        let app = &self.reader.app;
        let Some(table) = app.engine.lake().existing(&self.table).await? else { return Ok(Vec::new()) };
        let version = table.version().await?;
        if version == self.version {
            return Ok(Vec::new());
        }
        let schema = table.schema();
        let order = time_column(&schema).map_or_else(String::new, |c| format!(" ORDER BY \"{c}\" DESC"));
        let sql = format!("SELECT * FROM \"{}\"{order} LIMIT {ROWS_MAX}", self.table);
        let result = app.engine.query(&sql, &BTreeMap::new(), &app.config.query_limits()).await?;
        let rows: Vec<Value> = serde_json::from_slice(&format::json(&result.batches)?).unwrap_or_default();
        self.version = version;
        let mut new: Vec<Value> = rows.into_iter().filter(|row| self.remember(row)).collect();
        new.reverse();
        Ok(new)
    }

    fn remember(&mut self, row: &Value) -> bool {
        let mut hasher = DefaultHasher::new();
        row.to_string().hash(&mut hasher);
        let hash = hasher.finish();
        if self.shown.contains(&hash) {
            return false;
        }
        self.shown.push_back(hash);
        if self.shown.len() > SHOWN_MAX {
            self.shown.pop_front();
        }
        true
    }
}

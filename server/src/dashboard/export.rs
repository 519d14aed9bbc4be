//! `GET /chart/{metric}`: the CSV behind a chart, for readers who are signed in with a cookie; programs use the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use millstream_report::{CsvOptions, CsvWriter};

use super::ask::{Question, ask};
use super::period::Choice;
use crate::adapt::report_error;
use crate::http::{App, Problem};

/// For spreadsheets: a byte order mark, and no cell that would run as a formula.
pub const SPREADSHEET: CsvOptions = CsvOptions { bom: true, formula_guard: true };

const INTERVALS: [&str; 7] = ["hour", "day", "week", "month", "quarter", "year", "all"];

/// All rows that the chart was drawn from.
pub async fn csv(
    State(app): State<Arc<App>>,
    Path(metric): Path<String>,
    Query(choice): Query<Choice>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let question = question(&app, &choice, &query.unwrap_or_default())?;
    let Some(answer) = ask(&app, &metric, &question).await? else {
        return Err(Problem::not_found(format!("no metric `{metric}`; GET /catalogue lists them")));
    };
    let mut writer = CsvWriter::new(Vec::new(), &answer.rows.schema(), SPREADSHEET).map_err(report_error)?;
    writer.write(&answer.rows).map_err(report_error)?;
    let (_, bytes) = writer.finish().map_err(report_error)?;
    Ok(attachment(&format!("{metric}.csv"), bytes))
}

/// What a panel's link asks: the time of the page, and the panel's own interval, breakdown and filters.
pub fn question(app: &App, choice: &Choice, query: &str) -> Result<Question, Problem> {
    let period = choice.resolve(app, "7d", app.zone())?;
    let pairs: Vec<(String, String)> = url_pairs(query);
    let given = |name: &str| pairs.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.clone());
    let interval = given("interval").and_then(|i| INTERVALS.into_iter().find(|known| *known == i));
    let filters: BTreeMap<String, String> = pairs
        .iter()
        .filter(|(name, _)| name == "filter")
        .filter_map(|(_, pair)| pair.split_once(':').map(|(n, v)| (n.to_string(), v.to_string())))
        .collect();
    Ok(Question { interval, by: given("by"), filters, ..Question::of(&period) })
}

/// CSV to keep, under a name.
pub fn attachment(name: &str, body: impl IntoResponse) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_string()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, body).into_response()
}

/// The pairs of a query, decoded.
pub fn url_pairs(query: &str) -> Vec<(String, String)> {
    serde_pairs(query).unwrap_or_default()
}

fn serde_pairs(query: &str) -> Option<Vec<(String, String)>> {
    let uri: axum::http::Uri = format!("/?{query}").parse().ok()?;
    Query::<Vec<(String, String)>>::try_from_uri(&uri).ok().map(|Query(pairs)| pairs)
}

//! `GET /api/v1/metrics` and `GET /api/v1/metrics/{name}`: one SQL file = one metric = one URL.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use datafusion::scalar::ScalarValue;
use millstream::QueryResult;
use millstream::time::show;
use serde_json::{Map, Value, json};

use super::answer::{self, Wanted};
use super::gate::authorize;
use super::{App, Problem};
use crate::catalog::{self, SqlFile};
use crate::complete;
use crate::keys::Role;
use crate::range::{Range, parse_time};
use crate::tables::Tables;

/// Every metric, with its parameters.
pub async fn catalogue(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    authorize(&app, &headers, &[Role::Analyst])?;
    let metrics: Vec<Value> = catalog::list(&app.config.sql.metrics)?.iter().map(describe).collect();
    Ok(Json(json!({ "metrics": metrics })))
}

fn describe(file: &SqlFile) -> Value {
    let parameters: Vec<Value> = file
        .parameters()
        .into_iter()
        .map(|name| {
            let range = name == "from" || name == "to";
            json!({ "name": name, "type": if range { "timestamp" } else { "any" }, "required": !range })
        })
        .collect();
    json!({
        "name": file.name,
        "title": file.title,
        "description": file.definition,
        "url": format!("/api/v1/metrics/{}", file.name),
        "parameters": parameters,
        "sql_file": shown_path(file),
    })
}

/// The last three parts of the path: `sql/metrics/dau.sql` wherever the server keeps it.
fn shown_path(file: &SqlFile) -> String {
    let parts: Vec<_> = file.path.iter().map(|part| part.to_string_lossy()).collect();
    parts.iter().skip(parts.len().saturating_sub(3)).map(AsRef::as_ref).collect::<Vec<&str>>().join("/")
}

/// The rows of one metric.
pub async fn answer(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(mut parameters): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorize(&app, &headers, &[Role::Analyst])?;
    let wanted = Wanted::of(parameters.remove("format").as_deref(), &headers)?;
    if !catalog::is_name(&name) || !app.config.sql.metrics.join(format!("{name}.sql")).is_file() {
        return Err(Problem::not_found(format!("no metric `{name}`; GET /api/v1/metrics lists them")));
    }
    let file = catalog::find(&app.config.sql.metrics, "metric", &name)?;
    let range = take_range(&mut parameters, app.clock.now()).map_err(Problem::bad_request)?;
    let values = bind(&file, range, &parameters).map_err(Problem::bad_request)?;
    let result = run(&app, &file, &values).await?;
    let complete = complete::through(&Tables::Running(app.engine.clone()), &app.config, &file).await?;
    let mut about = Map::new();
    about.insert("metric".into(), file.name.clone().into());
    about.insert("title".into(), file.title.clone().into());
    about.insert("from".into(), show(range.from).into());
    about.insert("to".into(), show(range.to).into());
    about.insert("time_zone".into(), "UTC".into());
    about.insert("sql_file".into(), shown_path(&file).into());
    about.insert("complete_through".into(), complete.map(show).into());
    about.insert("generated_at".into(), show(app.clock.now()).into());
    let mut response = answer::write(&result, wanted, about)?;
    // CSV and Arrow have no room for it beside the rows.
    if let Some(Ok(value)) = complete.map(|time| show(time).parse()) {
        response.headers_mut().insert("x-complete-through", value);
    }
    Ok(response)
}

/// Runs a metric's SQL and counts it.
pub async fn run(app: &App, file: &SqlFile, values: &BTreeMap<String, ScalarValue>) -> millstream::Result<QueryResult> {
    let result = app.engine.query(&file.sql, values, &app.config.query_limits()).await;
    app.counters.query(result.is_ok());
    result
}

fn take_range(parameters: &mut BTreeMap<String, String>, now: i64) -> Result<Range, String> {
    let mut time = |name: &str| parameters.remove(name).map(|text| parse_time(&text)).transpose();
    let (from, to) = (time("from")?, time("to")?);
    Range::or_last_week(from, to, now)
}

/// The values of the file's parameters, or what is missing or unknown.
fn bind(
    file: &SqlFile,
    range: Range,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, ScalarValue>, String> {
    let known = file.parameters();
    if let Some(name) = given.keys().find(|name| !known.contains(*name)) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(format!("the metric {} has no parameter `{name}`; it has: {}", file.name, known.join(", ")));
    }
    let mut values = range.parameters();
    for name in known.iter().filter(|name| *name != "from" && *name != "to") {
        let text = given.get(name).ok_or_else(|| {
            format!("the metric {} needs the parameter `{name}`; add ?{name}=... to the URL", file.name)
        })?;
        values.insert(name.clone(), scalar(text));
    }
    values.retain(|name, _| known.contains(name));
    Ok(values)
}

/// A number if the text is exactly how that number is written, else text: `007` is a name.
fn scalar(text: &str) -> ScalarValue {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => ScalarValue::Int64(Some(number)),
        _ => ScalarValue::Utf8(Some(text.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(sql: &str) -> SqlFile {
        SqlFile {
            name: "m".into(),
            path: PathBuf::from("/srv/project/sql/metrics/m.sql"),
            sql: sql.into(),
            title: "M".into(),
            definition: "Users.".into(),
        }
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn parameters_are_bound_by_name() {
        let f = file("SELECT 1 WHERE a = $agent AND n = $n AND t >= $from AND t < $to");
        let range = Range { from: 1, to: 2 };
        let values = bind(&f, range, &given(&[("agent", "007"), ("n", "7")])).unwrap();
        assert_eq!(values["agent"], ScalarValue::Utf8(Some("007".into())));
        assert_eq!(values["n"], ScalarValue::Int64(Some(7)));
        assert_eq!(values["from"], ScalarValue::TimestampNanosecond(Some(1), None));
        let error = bind(&f, range, &given(&[("n", "7")])).unwrap_err();
        assert_eq!(error, "the metric m needs the parameter `agent`; add ?agent=... to the URL");
        let error = bind(&f, range, &given(&[("agnt", "7")])).unwrap_err();
        assert_eq!(error, "the metric m has no parameter `agnt`; it has: agent, from, n, to");
    }

    #[test]
    fn the_catalogue_tells_parameters_and_file() {
        let shown = describe(&file("SELECT $from, $agent"));
        assert_eq!(shown["sql_file"], "sql/metrics/m.sql");
        assert_eq!(shown["parameters"][0], json!({ "name": "agent", "type": "any", "required": true }));
        assert_eq!(shown["parameters"][1], json!({ "name": "from", "type": "timestamp", "required": false }));
    }
}

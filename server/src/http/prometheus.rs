//! `GET /metrics`: our own health as Prometheus text.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use millstream::Status;
use millstream::time::{EventTime, WATERMARK_MAX, WATERMARK_MIN};

use super::gate::authorize_local;
use super::{App, Counters, Problem};

/// All counters.
pub async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    authorize_local(&app, &headers)?;
    let text = render(&app.engine.status(), &app.counters, app.clock.now());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

fn render(status: &Status, counters: &Counters, now: EventTime) -> String {
    let mut text = Text(String::new());
    let pipelines = &status.pipelines;
    let by_pipeline = |value: fn(&millstream::engine::PipelineStatus) -> u64| {
        pipelines.iter().map(move |p| (labels(&[("pipeline", &p.name)]), value(p).to_string())).collect::<Vec<_>>()
    };
    text.family("millstream_rows_in_total", "counter", "Rows that a pipeline read.", by_pipeline(|p| p.rows_in));
    text.family("millstream_rows_out_total", "counter", "Rows that a pipeline wrote.", by_pipeline(|p| p.rows_out));
    let late = by_pipeline(|p| p.rows_late);
    text.family("millstream_rows_late_total", "counter", "Rows that were late for a window.", late);
    let lags = pipelines
        .iter()
        .filter(|p| p.watermark != WATERMARK_MIN && p.watermark != WATERMARK_MAX)
        .map(|p| (labels(&[("pipeline", &p.name)]), (now.saturating_sub(p.watermark) as f64 / 1e9).to_string()))
        .collect();
    text.family("millstream_watermark_lag_seconds", "gauge", "Wall clock minus watermark.", lags);
    let state = by_pipeline(|p| p.state_bytes);
    text.family("millstream_state_bytes", "gauge", "State at the newest checkpoint.", state);
    let one = |value: u64| vec![(String::new(), value.to_string())];
    let rejected = "Rows that could not be decoded or had no event time.";
    text.family("millstream_rows_rejected_total", "counter", rejected, one(status.rows_rejected));
    let future = "Events too far ahead of their arrival to move a watermark.";
    text.family("millstream_rows_future_total", "counter", future, one(status.rows_future));
    let failed = "1 if the pipelines have stopped after a failure.";
    text.family("millstream_pipelines_failed", "gauge", failed, one(u64::from(status.failure.is_some())));
    text.family("millstream_log_end", "counter", "Entries in the ingest log.", one(status.log_end));
    text.family("millstream_log_read", "counter", "Entries that the pipelines have read.", one(status.log_read));
    let covered = "Entries that the newest checkpoint covers.";
    text.family("millstream_log_checkpointed", "counter", covered, one(status.log_checkpointed));
    text.family("millstream_checkpoint", "counter", "Number of the newest checkpoint.", one(status.checkpoint));
    let requests = counters.requests();
    let label = |(method, route, status): &(String, &str, u16)| {
        labels(&[("method", method), ("route", route), ("status", &status.to_string())])
    };
    let counts = requests.iter().map(|(key, r)| (label(key), r.count.to_string())).collect();
    text.family("millstream_http_requests_total", "counter", "HTTP requests answered.", counts);
    let seconds = requests.iter().map(|(key, r)| (label(key), r.seconds.to_string())).collect();
    text.family("millstream_http_request_seconds_total", "counter", "Time spent on HTTP requests.", seconds);
    let queries = [("ok", &counters.queries_ok), ("failed", &counters.queries_failed)]
        .map(|(result, n)| (labels(&[("result", result)]), n.load(Ordering::Relaxed).to_string()))
        .to_vec();
    text.family("millstream_queries_total", "counter", "Queries and metrics answered.", queries);
    text.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: Vec<(String, String)>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let inner: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", inner.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream::engine::PipelineStatus;
    use std::time::Duration;

    #[test]
    fn counters_are_written_with_their_labels() {
        let pipeline = |name: &str, watermark| PipelineStatus {
            name: name.into(),
            rows_in: 10,
            rows_out: 4,
            rows_late: 1,
            watermark,
            ..PipelineStatus::default()
        };
        let status = Status {
            pipelines: vec![pipeline("a", 1_000_000_000), pipeline("b", WATERMARK_MIN)],
            checkpoint: 7,
            log_end: 12,
            log_checkpointed: 11,
            ..Status::default()
        };
        let counters = Counters::default();
        counters.request("GET", "/", 200, Duration::from_millis(500));
        counters.request("BREW", "other", 404, Duration::from_millis(250));
        counters.query(true);
        let text = render(&status, &counters, 3_500_000_000);
        for line in [
            "millstream_rows_in_total{pipeline=\"a\"} 10",
            "millstream_rows_late_total{pipeline=\"b\"} 1",
            "millstream_watermark_lag_seconds{pipeline=\"a\"} 2.5",
            "millstream_checkpoint 7",
            "millstream_log_end 12",
            "millstream_http_requests_total{method=\"GET\",route=\"/\",status=\"200\"} 1",
            "millstream_http_requests_total{method=\"other\",route=\"other\",status=\"404\"} 1",
            "millstream_queries_total{result=\"ok\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("lag_seconds{pipeline=\"b\"}"), "no watermark yet, so no lag");
    }
}

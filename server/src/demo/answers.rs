//! The stored answers about the real files, each computed from its file by another engine, against our tables.

use std::collections::BTreeSet;
use std::path::Path;

use millstream::{Engine, Result};

use super::check::{Check, answer, late_rows, number_of, rows_of};
use super::real::{Files, IDE_MONTH};

const IDE_MONTH_START: &str = "2014-03-01 00:00:00";
const IDE_MONTH_END: &str = "2014-04-01 00:00:00";

/// Compares the tables with the stored answers.
pub async fn checks(engine: &Engine, dir: &Path, files: Files) -> Result<Vec<Check>> {
    let mut checks = agent_checks(engine, dir).await?;
    checks.extend(agent_session_checks(engine, dir).await?);
    checks.extend(session_checks(engine, dir).await?);
    checks.push(commit_check(engine, dir).await?);
    if files == Files::All {
        checks.extend(span_checks(engine, dir).await?);
        checks.extend(review_checks(engine, dir).await?);
        checks.extend(editor_checks(engine, dir).await?);
    }
    Ok(checks)
}

async fn compared(engine: &Engine, dir: &Path, what: &str, sql: &str, name: &str, columns: &[&str]) -> Result<Check> {
    Ok(Check::rows(what, rows_of(engine, sql).await?, answer(dir, name, columns)?))
}

async fn agent_checks(engine: &Engine, dir: &Path) -> Result<Vec<Check>> {
    let by_model = "SELECT model, count(*), sum(tokens_input), sum(tokens_output), sum(tokens_input + tokens_output), \
        sum(cost_usd), sum(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) \
        FROM raw_agent_events WHERE agent = 'aider' AND name = 'message_send' GROUP BY model";
    let by_model_columns =
        ["model", "calls", "prompt_tokens", "completion_tokens", "total_tokens", "cost", "null_cost"];
    let by_hour = "SELECT date_trunc('hour', window_start), model, sum(successes), sum(tokens_input + tokens_output) \
        FROM agent_usage_1m WHERE agent = 'aider' GROUP BY 1, 2 HAVING sum(successes) > 0";
    let by_day = "SELECT day, sum(successes), sum(tokens_input + tokens_output), sum(cost_usd) \
        FROM agent_usage_daily WHERE agent = 'aider' GROUP BY day HAVING sum(successes) > 0";
    let rate = "SELECT (SELECT count(*) FROM raw_agent_events WHERE agent = 'aider' AND status = 'started'), \
        sum(successes), sum(failures) FROM agent_usage_1m WHERE agent = 'aider'";
    let totals = "SELECT count(*), count(DISTINCT user_id), count(*) - count(user_id), sum(tokens_input), \
        sum(tokens_output), sum(cost_usd) FROM raw_agent_events WHERE agent = 'aider'";
    let totals_columns = ["n", "users", "null_user", "prompt_tokens", "completion_tokens", "cost"];
    let [hour, day] = ["ai_aider__tokens_hourly_by_model", "ai_aider__tokens_by_day"];
    Ok(vec![
        compared(engine, dir, "AI tool: totals", totals, "ai_aider__totals", &totals_columns).await?,
        compared(
            engine,
            dir,
            "AI tool: tokens and cost per model",
            by_model,
            "ai_aider__tokens_by_model",
            &by_model_columns,
        )
        .await?,
        compared(
            engine,
            dir,
            "AI tool: tokens per hour and model, by the pipeline",
            by_hour,
            hour,
            &["window_start", "model", "calls", "total_tokens"],
        )
        .await?,
        compared(
            engine,
            dir,
            "AI tool: tokens and cost per day, by the rollup",
            by_day,
            day,
            &["d", "calls", "total_tokens", "cost"],
        )
        .await?,
        compared(
            engine,
            dir,
            "AI tool: started, succeeded, failed",
            rate,
            "ai_aider__send_success_rate",
            &["started", "completed", "failed"],
        )
        .await?,
    ])
}

async fn agent_session_checks(engine: &Engine, dir: &Path) -> Result<Vec<Check>> {
    let session = "SELECT model, sum(executions), sum(tokens_input), sum(tokens_output), sum(tokens_cache_read), \
        sum(tokens_cache_write), sum(cost_usd) FROM agent_usage_daily \
        WHERE agent = 'pi' AND model IS NOT NULL GROUP BY model";
    let session_columns = ["model", "calls", "input", "output", "cache_read", "cache_write", "cost"];
    let tools = "SELECT tool, count(*), sum(CASE WHEN status = 'error' THEN 1 ELSE 0 END) FROM raw_agent_events \
        WHERE agent = 'pi' AND tool IS NOT NULL GROUP BY tool";
    Ok(vec![
        compared(
            engine,
            dir,
            "agent session: tokens per model, by the rollup",
            session,
            "ai_pi__tokens_by_model",
            &session_columns,
        )
        .await?,
        compared(
            engine,
            dir,
            "agent session: tools and their errors",
            tools,
            "ai_pi__tools",
            &["tool_name", "n", "errors"],
        )
        .await?,
    ])
}

/// Sessions by a query over a raw table, where no pipeline makes them.
async fn session_checks(engine: &Engine, dir: &Path) -> Result<Vec<Check>> {
    let sql = "SELECT user_id, min(t), max(t), count(*) FROM (\
          SELECT user_id, t, sum(is_new) OVER (PARTITION BY user_id ORDER BY t) AS session FROM (\
            SELECT user_id, event_time AS t, CASE WHEN event_time - lag(event_time) OVER \
              (PARTITION BY user_id ORDER BY event_time) < INTERVAL '30 minutes' THEN 0 ELSE 1 END AS is_new \
            FROM raw_agent_events WHERE agent = 'aider' AND user_id IS NOT NULL)) \
        GROUP BY user_id, session";
    let columns = ["user_id", "session_start", "session_end", "n"];
    let what = "AI tool: sessions with a 30-minute gap, by a query";
    Ok(vec![compared(engine, dir, what, sql, "ai_aider__sessions_gap30m", &columns).await?])
}

async fn commit_check(engine: &Engine, dir: &Path) -> Result<Check> {
    let sql = "SELECT day, count(*), count(DISTINCT user_id) FROM raw_workflow_events \
        WHERE workflow = 'rust-analyzer' GROUP BY day";
    let name = "workflow_commits_rust-analyzer__daily";
    compared(engine, dir, "commits and authors per day", sql, name, &["d", "n", "authors"]).await
}

async fn span_checks(engine: &Engine, dir: &Path) -> Result<Vec<Check>> {
    let by_operation = "SELECT service, route, count(*), percentile_disc(latency_ms, 0.5) * 1000, \
        percentile_disc(latency_ms, 0.95) * 1000, percentile_disc(latency_ms, 0.99) * 1000, max(latency_ms) * 1000 \
        FROM raw_api_events GROUP BY service, route";
    let columns = ["service", "OperationName", "n", "p50_us", "p95_us", "p99_us", "max_us"];
    let totals = "SELECT count(*), count(DISTINCT trace_id), sum(CASE WHEN parent_span_id IS NULL THEN 1 ELSE 0 END) \
        FROM raw_api_events";
    let sent = answer(dir, "api_nezha__late_drops_10s_window", &["bound_s", "dropped_late"])?;
    let minute = sent.iter().find(|row| row.first().is_some_and(|bound| bound == "60"));
    let expected_late = minute.and_then(|row| row.get(1)).and_then(|n| n.parse().ok()).unwrap_or(0);
    let late = late_rows(engine, "api_latency_10s").await?;
    Ok(vec![
        compared(engine, dir, "API spans: totals", totals, "api_nezha__totals", &["n", "traces", "roots"]).await?,
        compared(
            engine,
            dir,
            "API spans: exact percentiles per service and operation",
            by_operation,
            "api_nezha__by_operation",
            &columns,
        )
        .await?,
        Check::number("API spans: late by the reference rule, all in api_latency_10s__late", late, expected_late),
    ])
}

async fn review_checks(engine: &Engine, dir: &Path) -> Result<Vec<Check>> {
    let ratings = "SELECT rating, count(*) FROM raw_marketplace_events WHERE name = 'reviewed' GROUP BY rating";
    let totals = "SELECT count(*), count(DISTINCT user_id), count(DISTINCT publisher_id), avg(rating) \
        FROM raw_marketplace_events WHERE name = 'reviewed'";
    let totals_columns = ["n", "reviewers", "vendors", "avg_rating"];
    Ok(vec![
        compared(engine, dir, "reviews: totals", totals, "market_reviews__totals", &totals_columns).await?,
        compared(engine, dir, "reviews: per rating", ratings, "market_reviews__ratings", &["rating", "n"]).await?,
    ])
}

async fn editor_checks(engine: &Engine, dir: &Path) -> Result<Vec<Check>> {
    let within = |time: &str| (IDE_MONTH_START..IDE_MONTH_END).contains(&time);
    let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
    let columns = ["developer_id", "session_start", "session_end", "n"];
    let answers = answer(dir, "ide_abb__sessions_gap30m", &columns)?;
    // A session that touches the month's edge is one session here too, but shorter.
    let touching = answers.iter().filter(|row| *cell(row, 1) < *IDE_MONTH_END && *cell(row, 2) >= *IDE_MONTH_START);
    let touching = touching.count() as u64;
    let whole: Vec<Vec<String>> =
        answers.into_iter().filter(|row| within(&cell(row, 1)) && within(&cell(row, 2))).collect();
    let crossing: u64 = touching - whole.len() as u64;
    let ours = rows_of(engine, "SELECT user_id, first_event, last_event, events FROM user_sessions").await?;
    let found = ours.len() as u64;
    let starts: BTreeSet<(String, String)> =
        whole.iter().map(|row| (cell(row, 0), cell(row, 1).replace(' ', "T"))).collect();
    let of_answers = |row: &Vec<String>| starts.contains(&(cell(row, 0), cell(row, 1).replace('Z', "")));
    let ours: Vec<Vec<String>> = ours.into_iter().filter(of_answers).collect();
    let rolled_up = number_of(engine, "SELECT sum(sessions) FROM user_sessions_daily").await?;
    let days = "SELECT day, count(DISTINCT user_id), count(*) FROM raw_ide_events GROUP BY day";
    let mut dau = answer(dir, "ide_abb__dau", &["d", "dau", "n"])?;
    dau.retain(|row| cell(row, 0).starts_with(IDE_MONTH));
    Ok(vec![
        Check::rows("editor log: developers and events per day", rows_of(engine, days).await?, dau),
        Check::rows("editor log: sessions within the month, by the pipeline", ours, whole),
        Check::number(format!("editor log: sessions, with {crossing} across its edges"), found, touching),
        Check::number("editor log: sessions, by the rollup", rolled_up, touching),
    ])
}

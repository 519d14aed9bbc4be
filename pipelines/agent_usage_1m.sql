-- Use of AI agents per minute, agent and model.
--
-- Grain: one row per minute (window_start inclusive, window_end exclusive, UTC), agent and model that had an event.
-- Executions: events that tell an end; a start (status 'started') is not counted. Successes ended 'ok', failures ended
-- 'error' or 'timeout'; what a user cancelled is an execution and neither (success rate = successes / (successes + failures)).
-- Units: tokens, US dollars, milliseconds. Cost is summed as decimals, so that it does not depend on the order of events.
-- Lateness: one minute (pipelines/sources.sql). The p95 is exact: sorted[ceil(0.95 * n) - 1].
-- Source of the definition: OpenTelemetry's semantic conventions for generative AI (token kinds, failure by error).
INSERT INTO agent_usage_1m
SELECT
  w['start'] AS window_start,
  w['end'] AS window_end,
  agent,
  model,
  executions,
  successes,
  failures,
  tokens_input,
  tokens_output,
  tokens_cache_read,
  tokens_cache_write,
  CAST(cost_usd AS DOUBLE) AS cost_usd,
  duration_p95_ms
FROM (
  SELECT
    tumble(INTERVAL '1 minute') AS w,
    agent,
    model,
    count(status) AS executions,
    sum(CASE WHEN status = 'ok' THEN 1 ELSE 0 END) AS successes,
    sum(CASE WHEN status IN ('error', 'timeout') THEN 1 ELSE 0 END) AS failures,
    sum(coalesce(tokens_input, 0)) AS tokens_input,
    sum(coalesce(tokens_output, 0)) AS tokens_output,
    sum(coalesce(tokens_cache_read, 0)) AS tokens_cache_read,
    sum(coalesce(tokens_cache_write, 0)) AS tokens_cache_write,
    sum(CAST(coalesce(cost_usd, 0) AS DECIMAL(24, 9))) AS cost_usd,
    percentile_disc(duration_ms, 0.95) AS duration_p95_ms
  FROM agent_events
  WHERE status IS DISTINCT FROM 'started'
  GROUP BY 1, agent, model
);

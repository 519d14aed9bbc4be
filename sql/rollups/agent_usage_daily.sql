-- Use of AI agents per day, agent and model.
--
-- Grain: one row per UTC day, agent and model that had an event. Columns as in pipelines/agent_usage_1m.sql.
-- Lateness: none is lost: it reads the raw table, and a day runs again when late events changed it. So its sums may exceed
-- those of agent_usage_1m by what is in agent_usage_1m__late.
-- Units: tokens, US dollars, milliseconds. The p95 is exact over the day, not an average of the minutes' p95.
SELECT
  agent,
  model,
  count(status) AS executions,
  sum(CASE WHEN status = 'ok' THEN 1 ELSE 0 END) AS successes,
  sum(CASE WHEN status IN ('error', 'timeout') THEN 1 ELSE 0 END) AS failures,
  count(DISTINCT user_id) AS users,
  sum(coalesce(tokens_input, 0)) AS tokens_input,
  sum(coalesce(tokens_output, 0)) AS tokens_output,
  sum(coalesce(tokens_cache_read, 0)) AS tokens_cache_read,
  sum(coalesce(tokens_cache_write, 0)) AS tokens_cache_write,
  CAST(sum(CAST(coalesce(cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd,
  percentile_disc(duration_ms, 0.95) AS duration_p95_ms
FROM raw_agent_events
WHERE day = $day AND status IS DISTINCT FROM 'started'
GROUP BY agent, model

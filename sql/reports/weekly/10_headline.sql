-- The week in numbers
--
-- Active users: people with an event other than a heartbeat. New users: those first seen ever. Executions: runs of agents that ended.
-- Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'. Tokens: read and written by models. p95: the latency that 95
-- of 100 API requests do not exceed, within 1 %.
SELECT
  (SELECT count(DISTINCT person) FROM activity_days
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to) AS active_users,
  (SELECT count(*) FROM first_seen WHERE first_at >= $from AND first_at < $to) AS new_users,
  agents.executions AS agent_executions,
  agents.success_percent,
  agents.tokens,
  agents.cost_usd,
  api.requests AS api_requests,
  api.latency_p95_ms AS api_p95_ms
FROM (
  SELECT
    coalesce(sum(executions), 0) AS executions,
    100.0 * sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_percent,
    coalesce(sum(tokens_input + tokens_output), 0) AS tokens,
    CAST(coalesce(sum(CAST(cost_usd AS DECIMAL(24, 9))), 0) AS DOUBLE) AS cost_usd
  FROM agent_totals
  WHERE cut IN ('day all', 'all')
) AS agents
CROSS JOIN (
  SELECT coalesce(sum(requests), 0) AS requests, sketch_percentile(sketch_merge(latency_sketch), 0.95) AS latency_p95_ms
  FROM api_totals
  WHERE cut IN ('day all', 'all')
) AS api

-- The week in numbers
--
-- Active users: distinct users with an event in the editor. Executions: agent events that tell an end.
-- Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'. p95: of all API requests.
SELECT
  (SELECT count(DISTINCT user_id) FROM raw_ide_events
    WHERE day >= CAST($from AS DATE) AND event_time >= $from AND event_time < $to AND name IS DISTINCT FROM 'heartbeat')
    AS active_users,
  agents.executions AS agent_executions,
  agents.success_percent,
  agents.tokens,
  agents.cost_usd,
  api.requests AS api_requests,
  api.latency_p95_ms AS api_p95_ms
FROM (
  SELECT
    count(status) AS executions,
    100.0 * sum(CASE WHEN status = 'ok' THEN 1 ELSE 0 END)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN 1 ELSE 0 END), 0) AS success_percent,
    sum(coalesce(tokens_input, 0) + coalesce(tokens_output, 0)) AS tokens,
    CAST(sum(CAST(coalesce(cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd
  FROM raw_agent_events
  WHERE day >= CAST($from AS DATE) AND event_time >= $from AND event_time < $to AND status IS DISTINCT FROM 'started'
) AS agents
CROSS JOIN (
  SELECT count(*) AS requests, percentile_disc(latency_ms, 0.95) AS latency_p95_ms
  FROM raw_api_events
  WHERE day >= CAST($from AS DATE) AND event_time >= $from AND event_time < $to
) AS api

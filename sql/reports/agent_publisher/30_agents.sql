-- Each agent
--
-- Every agent that ran: how often, how well, how fast (p95, exact), what it cost. Tokens: read and written, cached ones not included.
SELECT
  coalesce(agent, 'unnamed') AS agent,
  count(status) AS executions,
  count(DISTINCT user_id) AS users,
  100.0 * sum(CASE WHEN status = 'ok' THEN 1 ELSE 0 END)
    / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN 1 ELSE 0 END), 0) AS success_percent,
  percentile_disc(duration_ms, 0.95) AS duration_p95_ms,
  sum(coalesce(tokens_input, 0) + coalesce(tokens_output, 0)) AS tokens,
  sum(coalesce(cost_usd, 0)) AS cost_usd
FROM raw_agent_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND status IS DISTINCT FROM 'started'
GROUP BY 1
ORDER BY executions DESC, agent

-- The week in numbers
--
-- Active users: people with an event other than a heartbeat. New users: those first seen ever. Executions: runs of agents that ended.
-- Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'. Tokens: read and written by models. p95: the latency that 95
-- of 100 API requests do not exceed, within 1 %.
SELECT
  p.piece,
  coalesce(active.users, 0) AS active_users,
  coalesce(seen.users, 0) AS new_users,
  coalesce(agents.executions, 0) AS agent_executions,
  agents.success_percent,
  coalesce(agents.tokens, 0) AS tokens,
  coalesce(agents.cost_usd, 0) AS cost_usd,
  coalesce(api.requests, 0) AS api_requests,
  api.latency_p95_ms AS api_p95_ms
FROM report_pieces AS p
LEFT JOIN active_pieces AS active ON active.piece = p.piece
LEFT JOIN new_user_pieces AS seen ON seen.piece = p.piece
LEFT JOIN (
  SELECT
    piece,
    sum(executions) AS executions,
    100.0 * sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_percent,
    sum(tokens_input + tokens_output) AS tokens,
    CAST(sum(CAST(cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd
  FROM agent_pieces
  GROUP BY piece
) AS agents ON agents.piece = p.piece
LEFT JOIN (
  SELECT piece, sum(requests) AS requests, sketch_percentile(sketch_merge(latency_sketch), 0.95) AS latency_p95_ms
  FROM api_pieces
  GROUP BY piece
) AS api ON api.piece = p.piece
ORDER BY p.piece

-- Agents by tokens
--
-- Every agent that ran, most tokens first. Tokens: read and written by models, cached ones not included. Cost in US dollars, as
-- the agents told it. Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'.
SELECT
  coalesce(agent, 'unnamed') AS agent,
  sum(tokens_input + tokens_output) AS tokens,
  sum(executions) AS executions,
  100.0 * sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END)
    / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_percent,
  CAST(sum(CAST(cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd
FROM agent_totals
WHERE cut IN ('day agent', 'agent')
GROUP BY 1
ORDER BY tokens DESC, agent

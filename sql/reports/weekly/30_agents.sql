-- Agents by tokens
--
-- The twenty agents that used most tokens. Tokens: read and written by the model, cached ones not included. Cost in US dollars.
-- Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'. Whole UTC days.
SELECT
  coalesce(agent, 'unnamed') AS agent,
  sum(tokens_input + tokens_output) AS tokens,
  sum(executions) AS executions,
  100.0 * sum(successes) / nullif(sum(successes + failures), 0) AS success_percent,
  sum(cost_usd) AS cost_usd
FROM agent_usage_daily
WHERE day >= CAST($from AS DATE) AND day < CAST($to AS DATE)
GROUP BY 1
ORDER BY tokens DESC, agent
LIMIT 20

-- Tokens per agent
--
-- Tokens that each agent's models read and wrote, and their cost, most tokens first. Cached tokens are not in `tokens`.
-- Grain: one row per agent, over the minutes that start in [$from, $to). Units: tokens, US dollars.
-- Source: pipelines/agent_usage_1m.sql.
SELECT
  coalesce(agent, 'unnamed') AS agent,
  sum(tokens_input + tokens_output) AS tokens,
  sum(tokens_input) AS tokens_input,
  sum(tokens_output) AS tokens_output,
  sum(tokens_cache_read + tokens_cache_write) AS tokens_cached,
  sum(cost_usd) AS cost_usd,
  sum(executions) AS executions
FROM agent_usage_1m
WHERE day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND window_start >= $from
  AND window_start < $to
GROUP BY 1
ORDER BY tokens DESC, agent

-- Each agent
--
-- Every agent that ran: how often, for how many people, how well, how fast (p95, within 1 %), what it cost as it told. Tokens: read and
-- written, cached ones not included.
SELECT
  usage.agent,
  usage.executions,
  coalesce(people.users, 0) AS users,
  usage.success_percent,
  usage.duration_p95_ms,
  usage.tokens,
  usage.cost_usd
FROM (
  SELECT
    coalesce(agent, 'unnamed') AS agent,
    sum(executions) AS executions,
    100.0 * sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_percent,
    sketch_percentile(sketch_merge(duration_sketch), 0.95) AS duration_p95_ms,
    sum(tokens_input + tokens_output) AS tokens,
    CAST(sum(CAST(cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd
  FROM agent_totals
  WHERE cut IN ('day agent', 'agent')
  GROUP BY 1
) AS usage
LEFT JOIN (
  SELECT coalesce(agent, 'unnamed') AS agent, text_set_count(text_set_merge(people)) AS users
  FROM agent_people
  GROUP BY 1
) AS people ON people.agent = usage.agent
ORDER BY usage.executions DESC, usage.agent

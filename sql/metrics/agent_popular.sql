-- Popular agents
--
-- Agents by the number of people who ran them. Tokens: read and written by the model, cached ones not included.
-- Grain: one row per agent. Units: users, executions, tokens, US dollars, milliseconds; p95 within 1 %.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/agent_people.sql, sql/views/agent_totals.sql.
SELECT
  row_number() OVER (ORDER BY coalesce(users, 0) DESC, executions DESC, usage.agent) AS rank,
  usage.agent,
  coalesce(users, 0) AS users,
  executions,
  success_rate,
  tokens,
  cost_usd,
  duration_p95_ms
FROM (
  SELECT
    coalesce(agent, 'unnamed') AS agent,
    sum(executions) AS executions,
    CAST(sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END) AS DOUBLE)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_rate,
    sum(tokens_input + tokens_output) AS tokens,
    CAST(sum(CAST(cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd,
    sketch_percentile(sketch_merge(duration_sketch), 0.95) AS duration_p95_ms
  FROM agent_totals
  WHERE cut IN ('day agent', 'agent')
  GROUP BY 1
) AS usage
LEFT JOIN (
  SELECT coalesce(agent, 'unnamed') AS agent, text_set_count(text_set_merge(people)) AS users
  FROM agent_people
  GROUP BY 1
) AS people ON people.agent = usage.agent
WHERE executions > 0
ORDER BY rank

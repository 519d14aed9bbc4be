-- What each agent that ran in [$from, $to) did, and for how many people.
--
-- Grain: one row per agent. successes ended `ok`; decided are those that ended `ok`, `error` or `timeout`. Tokens: read and written by the
-- model, cached ones not included. Units: users, executions, tokens, US dollars, milliseconds; p95 within 1 %.
-- Source: sql/views/agent_totals.sql, sql/views/agent_people.sql.
SELECT
  usage.agent, executions, successes, decided, coalesce(people.users, 0) AS users, tokens, cost_usd, duration_p95_ms
FROM (
  SELECT
    coalesce(agent, 'unnamed') AS agent,
    sum(executions) AS executions,
    sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END) AS successes,
    sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END) AS decided,
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

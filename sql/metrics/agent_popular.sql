-- Popular agents
--
-- Agents by the number of people who ran them. Tokens: read and written by the model, cached ones not included.
-- Grain: one row per agent. Units: users, executions, tokens, US dollars, milliseconds; p95 within 1 %.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/agent_people.sql, sql/views/agent_totals.sql.
SELECT
  row_number() OVER (ORDER BY users DESC, executions DESC, agent) AS rank,
  agent,
  users,
  executions,
  CAST(successes AS DOUBLE) / nullif(decided, 0) AS success_rate,
  tokens,
  cost_usd,
  duration_p95_ms
FROM agent_figures
WHERE executions > 0
ORDER BY rank

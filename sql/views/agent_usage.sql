-- Executions of AI agents, as coarse as what is asked for allows.
--
-- Grain: 15 minutes (`at`, their start, UTC), and the whole days of the time asked about where it is one period ($interval is all),
-- with those of agent, model and tier that $breakdown, $agent and $model need; the others are NULL. Sums and merged sketches over
-- [$from, $to) are the same at every grain. Source: sql/rollups/agent_usage_cube.sql, sql/rollups/agent_usage_15m.sql.
SELECT
  at, agent, model, tier, status, error_class, executions, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write,
  cost_usd, cost_list_usd, timed, duration_ms, duration_sketch, day
FROM agent_usage_cube
WHERE cut = CASE
    WHEN $agent IS NULL AND $model IS NULL AND $breakdown IN ('', 'status') THEN 'all'
    WHEN $model IS NULL AND ($breakdown = 'agent' OR $agent IS NOT NULL AND $breakdown IN ('', 'status')) THEN 'agent'
    WHEN $agent IS NULL AND ($breakdown = 'model' OR $model IS NOT NULL AND $breakdown IN ('', 'status')) THEN 'model'
    WHEN $agent IS NULL AND $model IS NULL AND $breakdown = 'tier' THEN 'tier'
  END
  AND at >= $from
  AND at < $to
  AND ($interval <> 'all' OR day < CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE) OR day >= CAST($to AS DATE))
UNION ALL
SELECT
  at, agent, model, tier, status, error_class, executions, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write,
  cost_usd, cost_list_usd, timed, duration_ms, duration_sketch, day
FROM agent_usage_cube
WHERE cut = 'day ' || CASE
    WHEN $agent IS NULL AND $model IS NULL AND $breakdown IN ('', 'status') THEN 'all'
    WHEN $model IS NULL AND ($breakdown = 'agent' OR $agent IS NOT NULL AND $breakdown IN ('', 'status')) THEN 'agent'
    WHEN $agent IS NULL AND ($breakdown = 'model' OR $model IS NOT NULL AND $breakdown IN ('', 'status')) THEN 'model'
    WHEN $agent IS NULL AND $model IS NULL AND $breakdown = 'tier' THEN 'tier'
  END
  AND $interval = 'all'
  AND day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND day < CAST($to AS DATE)
UNION ALL
SELECT
  at, agent, model, tier, status, error_class, executions, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write,
  cost_usd, cost_list_usd, timed, duration_ms, duration_sketch, day
FROM agent_usage_15m
WHERE ($agent IS NOT NULL AND $breakdown NOT IN ('', 'status', 'agent')
    OR $model IS NOT NULL AND $breakdown NOT IN ('', 'status', 'model')
    OR $agent IS NOT NULL AND $model IS NOT NULL)
  AND at >= $from
  AND at < $to

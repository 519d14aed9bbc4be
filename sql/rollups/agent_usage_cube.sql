-- Executions of AI agents by one dimension at a time, per 15 minutes and per day.
--
-- Grain: one row per cut and what it is by. `cut` names it: `all`, `agent`, `model` and `tier` are per 15 minutes (`at`, their
-- start, UTC), `day all`, `day agent`, `day model` and `day tier` per UTC day (`at`, its start). Each has status and error class.
-- The dimensions that a cut has not are NULL. It holds nothing that sql/rollups/agent_usage_15m.sql does not hold, but a quarter's
-- charts read thousands of its rows where they would read millions there; sql/views/agent_usage.sql takes the smallest cut.
-- Units: tokens, US dollars, milliseconds. Lateness: as agent_usage_15m.
SELECT
  CASE grouping(at) WHEN 1 THEN 'day ' ELSE '' END
    || CASE WHEN grouping(agent) = 0 THEN 'agent' WHEN grouping(model) = 0 THEN 'model' WHEN grouping(tier) = 0 THEN 'tier' ELSE 'all' END
    AS cut,
  coalesce(at, CAST($day AS TIMESTAMP)) AS at,
  agent,
  model,
  tier,
  status,
  error_class,
  sum(executions) AS executions,
  sum(tokens_input) AS tokens_input,
  sum(tokens_output) AS tokens_output,
  sum(tokens_cache_read) AS tokens_cache_read,
  sum(tokens_cache_write) AS tokens_cache_write,
  CAST(sum(CAST(cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd,
  CAST(sum(CAST(cost_list_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_list_usd,
  sum(timed) AS timed,
  CAST(sum(CAST(duration_ms AS DECIMAL(24, 6))) AS DOUBLE) AS duration_ms,
  sketch_merge(duration_sketch) AS duration_sketch
FROM agent_usage_15m
WHERE day = $day
GROUP BY GROUPING SETS (
  (at, status, error_class),
  (at, agent, status, error_class),
  (at, model, status, error_class),
  (at, tier, status, error_class),
  (status, error_class),
  (agent, status, error_class),
  (model, status, error_class),
  (tier, status, error_class)
)

-- Executions of AI agents over [$from, $to), by one dimension at a time, in as few rows as there are.
--
-- Grain: whole UTC days, and quarter hours of the days that the ends cut through. A query takes one dimension by its two cuts, such as
-- cut IN ('day agent', 'agent'). Sums and merged sketches are those of sql/rollups/agent_usage_15m.sql.
-- Source: sql/rollups/agent_usage_cube.sql.
SELECT
  cut, at, agent, model, tier, status, error_class, executions, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write,
  cost_usd, cost_list_usd, timed, duration_ms, duration_sketch
FROM agent_usage_cube
WHERE cut LIKE 'day %'
  AND day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND day < CAST($to AS DATE)
UNION ALL
SELECT
  cut, at, agent, model, tier, status, error_class, executions, tokens_input, tokens_output, tokens_cache_read, tokens_cache_write,
  cost_usd, cost_list_usd, timed, duration_ms, duration_sketch
FROM agent_usage_cube
WHERE cut NOT LIKE 'day %'
  AND day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND (day < CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE) OR day >= CAST($to AS DATE))
  AND at >= $from
  AND at < $to

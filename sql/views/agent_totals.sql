-- Executions of AI agents over [$from, $to), by one dimension at a time, in as few rows as there are.
--
-- Grain: whole UTC days, and quarter hours of the days that the ends cut through. `cut` says what the rows are by: `all`, `agent`,
-- `model` or `tier`; a query takes one of them. Sums and merged sketches are those of sql/rollups/agent_usage_15m.sql.
-- Source: sql/rollups/agent_usage_cube.sql.
SELECT
  replace(cut, 'day ', '') AS cut, at, agent, model, tier, status, error_class, executions, tokens_input, tokens_output,
  tokens_cache_read, tokens_cache_write, cost_usd, cost_list_usd, timed, duration_ms, duration_sketch
FROM agent_usage_cube
WHERE day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND at >= $from
  AND at < $to
  AND (cut LIKE 'day %') = (CAST(day AS TIMESTAMP) >= $from AND CAST(day AS TIMESTAMP) + INTERVAL '1 day' <= $to)

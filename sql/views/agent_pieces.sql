-- Executions of AI agents in each piece of [$from, $to), $step long.
--
-- Grain: whole UTC days, and quarter hours of the days that a piece's end cuts through, by status. `piece` is the start of the piece,
-- UTC. Sums are those of sql/rollups/agent_usage_15m.sql. Source: sql/rollups/agent_usage_cube.sql.
SELECT
  date_bin($step, CAST(at AS TIMESTAMP), $from) AS piece,
  status, executions, tokens_input, tokens_output, cost_usd
FROM agent_usage_cube
WHERE cut IN ('day all', 'all')
  AND cut = CASE
    WHEN date_bin($step, CAST(day AS TIMESTAMP), $from)
      = date_bin($step, CAST(day AS TIMESTAMP) + INTERVAL '1 day' - INTERVAL '1 nanosecond', $from)
    THEN 'day all' ELSE 'all' END
  AND day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND at >= $from
  AND at < $to

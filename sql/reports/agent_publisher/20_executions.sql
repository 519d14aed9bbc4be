-- Executions per day
--
-- Runs of agents that ended; failures ended 'error' or 'timeout'.
SELECT
  local_day(at, $tz) AS day,
  sum(executions) AS executions,
  sum(CASE WHEN status IN ('error', 'timeout') THEN executions ELSE 0 END) AS failures,
  CAST(sum(CAST(cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd
FROM agent_usage_cube
WHERE cut = 'all' AND day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to
GROUP BY 1
ORDER BY 1

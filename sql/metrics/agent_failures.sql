-- Agent failures by class
--
-- Executions that ended with an error or took too long, by the class of the error; `timeout` where a timeout has none.
-- Grain: one row per class, most failures first. Units: executions, agents; share of all failures.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/agent_totals.sql; of one model, sql/rollups/agent_usage_15m.sql. Exact in time zones whose offset is a whole
-- number of quarter hours: all of today's.
SELECT
  error_class,
  failures,
  CAST(failures AS DOUBLE) / sum(failures) OVER () AS share,
  agents
FROM (
  SELECT
    coalesce(error_class, CASE status WHEN 'timeout' THEN 'timeout' ELSE 'unknown' END) AS error_class,
    sum(executions) AS failures,
    count(DISTINCT agent) AS agents
  FROM (
    SELECT agent, status, error_class, executions
    FROM agent_totals
    WHERE $model IS NULL AND cut IN ('day agent', 'agent')
    UNION ALL
    SELECT agent, status, error_class, executions
    FROM agent_usage_15m
    WHERE $model IS NOT NULL
      AND model = $model
      AND day >= CAST($from AS DATE)
      AND day <= CAST($to AS DATE)
      AND at >= $from
      AND at < $to
  ) AS usage
  WHERE ($agent IS NULL OR agent = $agent)
    AND status IN ('error', 'timeout')
  GROUP BY 1
) AS classes
ORDER BY failures DESC, error_class

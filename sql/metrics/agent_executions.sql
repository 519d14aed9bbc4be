-- Agent executions
--
-- Executions that ended. Successes ended `ok`, failures `error` or `timeout`; what a user cancelled is neither.
-- Rates are of successes and failures together. Broken down by status a rate is 0 or 1 and says nothing.
-- Grain: one row per period and breakdown. Units: executions; rates are fractions.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/agent_usage.sql. Exact in time zones whose offset is a whole number of quarter hours: all of today's.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  executions,
  successes,
  failures,
  cancelled,
  CAST(successes AS DOUBLE) / nullif(successes + failures, 0) AS success_rate,
  CAST(failures AS DOUBLE) / nullif(successes + failures, 0) AS failure_rate,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(at, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'agent' THEN coalesce(agent, 'unnamed')
      WHEN 'model' THEN coalesce(model, 'unknown')
      WHEN 'tier' THEN coalesce(tier, 'unknown')
      WHEN 'status' THEN coalesce(status, 'unknown')
      ELSE 'all'
    END AS breakdown,
    sum(executions) AS executions,
    sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END) AS successes,
    sum(CASE WHEN status IN ('error', 'timeout') THEN executions ELSE 0 END) AS failures,
    sum(CASE WHEN status = 'cancelled' THEN executions ELSE 0 END) AS cancelled
  FROM agent_usage
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($agent IS NULL OR agent = $agent)
    AND ($model IS NULL OR model = $model)
  GROUP BY 1, 2
) AS periods
WHERE executions > 0
ORDER BY period_start, breakdown
